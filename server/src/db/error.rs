//! Errors of the store, sorted by what a caller can do about them.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::error::Error;

type Source = Arc<dyn StdError + Send + Sync>;

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DbErrorKind {
    /// A row with this key exists already.
    Unique,
    /// Another connection holds a lock.
    Busy,
    /// A conflict with another transaction (a deadlock, a serialization failure), or another job ended the shared transaction.
    Conflict,
    /// The queue is full.
    QueueFull,
    /// The database is closed or closing.
    Closed,
    /// The time limit passed. If a commit failed with it, the changes may be stored.
    Timeout,
    /// The database server is unreachable. If a commit failed with it, the changes may be stored.
    Disconnected,
    /// The disk is full.
    DiskFull,
    /// The database is corrupt.
    Corrupt,
    /// A bug, or an error without a kind of its own.
    Other,
}

/// A failure of the store. Cheap to clone: all jobs that shared a failed commit get the same error.
#[derive(Clone)]
pub struct DbError(Arc<Inner>);

struct Inner {
    kind: DbErrorKind,
    message: Cow<'static, str>,
    source: Option<Source>,
}

impl DbError {
    /// Creates an error of this kind with a message.
    pub fn new(kind: DbErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), source: None }))
    }

    pub(super) fn caused_by(
        kind: DbErrorKind,
        message: impl Into<Cow<'static, str>>,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), source: Some(Arc::new(source)) }))
    }

    pub(super) fn other(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(DbErrorKind::Other, message)
    }

    pub(super) fn closed() -> Self {
        Self::new(DbErrorKind::Closed, "the database is closed")
    }

    /// Returns the kind of the failure.
    pub fn kind(&self) -> DbErrorKind {
        self.0.kind
    }

    /// Returns PostgreSQL's own error, if it caused this one.
    pub(super) fn postgres(&self) -> Option<&sqlx::Error> {
        self.0.source.as_ref()?.downcast_ref()
    }

    /// Whether a row with this key exists already.
    pub fn is_unique_violation(&self) -> bool {
        self.kind() == DbErrorKind::Unique
    }

    /// Whether the disk is full. Reads still work.
    pub fn is_full(&self) -> bool {
        self.kind() == DbErrorKind::DiskFull
    }

    /// Whether the database is closed: the server is stopping.
    pub fn is_closed(&self) -> bool {
        self.kind() == DbErrorKind::Closed
    }

    /// Whether a retry may succeed, on this server or another.
    pub fn is_unavailable(&self) -> bool {
        use DbErrorKind::{Busy, Closed, Conflict, Disconnected, QueueFull, Timeout};
        matches!(self.kind(), Busy | Conflict | QueueFull | Closed | Timeout | Disconnected)
    }

    /// Whether a commit that failed with it may have been carried out.
    pub(super) fn may_be_carried_out(&self) -> bool {
        matches!(self.kind(), DbErrorKind::Timeout | DbErrorKind::Disconnected)
    }

    /// Whether the other jobs of the batch, and each half of a bulk run, would fail in the same way.
    pub(super) fn affects_all_jobs(&self) -> bool {
        use DbErrorKind::{Closed, Corrupt, Disconnected, DiskFull};
        matches!(self.kind(), DiskFull | Corrupt | Disconnected | Closed)
    }
}

/// Returns the beginning of a statement: statements of many rows are long.
pub(super) fn excerpt(sql: &str) -> &str {
    &sql[..sql.floor_char_boundary(160)]
}

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("DbError");
        debug.field("kind", &self.0.kind).field("message", &self.0.message);
        if let Some(source) = &self.0.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl StdError for DbError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Maps the violation of a unique key to an error of the caller.
pub trait OnUnique<T> {
    /// Replaces the failure with `error` if a row with this key exists already; keeps any other failure.
    ///
    /// # Errors
    /// The failure of the statement.
    fn on_unique(self, error: impl FnOnce() -> Error) -> Result<T, Error>;
}

impl<T> OnUnique<T> for Result<T, DbError> {
    fn on_unique(self, error: impl FnOnce() -> Error) -> Result<T, Error> {
        self.map_err(|failure| if failure.is_unique_violation() { error() } else { failure.into() })
    }
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        if error.is_full() {
            Self::storage_full(error)
        } else if error.is_closed() {
            Self::shutting_down()
        } else if error.is_unavailable() {
            Self::storage_unavailable(error)
        } else {
            Self::internal(error)
        }
    }
}
