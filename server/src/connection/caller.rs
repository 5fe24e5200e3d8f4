//! The caller of one request, and the one way in which a request writes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use zim_protocol::{ConversationRef, Push};

use super::{Audit, ConnectionState, Identity, PushTarget};
use crate::db::{Bulk, Db, Scope, Submitted, Tx};
use crate::error::Error;
use crate::journal::{Cause, LogWriter};

/// Where a request comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A client's connection.
    Connection(Arc<ConnectionState>),
    /// The server itself: its operator, with the trail of the call, or something that it does by itself.
    Server(Audit),
}

/// What a write changes: what it locks, and a log. A [`Scope`] alone stands for a write to the feed of the caller.
#[derive(Debug)]
pub struct WriteTo {
    scope: Scope,
    log: PushTarget,
    is_held: bool,
}

impl From<Scope> for WriteTo {
    fn from(scope: Scope) -> Self {
        Self { scope, log: PushTarget::Feed, is_held: false }
    }
}

impl WriteTo {
    /// The logs of a conversation, which the caller calls `name`.
    pub fn conversation(scope: Scope, name: ConversationRef) -> Self {
        Self { log: PushTarget::Conversation(name), ..scope.into() }
    }

    /// The caller's next write waits for the answer: for a job that may have to start over.
    pub fn held(scope: Scope) -> Self {
        Self { is_held: true, ..scope.into() }
    }
}

/// The caller of one request.
#[derive(Debug)]
pub struct Caller {
    identity: Option<Arc<Identity>>,
    origin: Origin,
    /// The bytes of the request, which a write holds while it waits.
    request_bytes: usize,
    submitted: AtomicBool,
    pushes: Mutex<Vec<Push>>,
}

impl Caller {
    /// The caller of a request on `connection`.
    pub fn connected(connection: Arc<ConnectionState>) -> Self {
        Self::new(connection.identity().cloned(), Origin::Connection(connection))
    }

    /// The server as the caller. It is no user.
    pub fn server() -> Self {
        Self::operator(Audit::none())
    }

    /// The operator as the caller. Methods add to `audit` what they do.
    pub fn operator(audit: Audit) -> Self {
        Self::new(None, Origin::Server(audit))
    }

    /// A user as the caller, for whom the operator acts: without a device, and with the trail of the operator's call.
    pub fn acting(identity: Identity, audit: Audit) -> Self {
        Self::new(Some(Arc::new(identity)), Origin::Server(audit))
    }

    /// Tells the size of the request.
    #[must_use]
    pub fn with_request_bytes(self, request_bytes: usize) -> Self {
        Self { request_bytes, ..self }
    }

    fn new(identity: Option<Arc<Identity>>, origin: Origin) -> Self {
        Self { identity, origin, request_bytes: 0, submitted: AtomicBool::new(false), pushes: Mutex::default() }
    }

    /// Returns who calls. The checks before the handlers have made sure that the caller of a user's method is logged in.
    ///
    /// # Errors
    /// The caller is not logged in.
    pub fn identity(&self) -> Result<&Identity, Error> {
        self.identity.as_deref().ok_or_else(Error::not_logged_in)
    }

    /// Returns the connection that the request came on.
    ///
    /// # Errors
    /// The server itself calls.
    pub fn connection(&self) -> Result<&Arc<ConnectionState>, Error> {
        match &self.origin {
            Origin::Connection(connection) => Ok(connection),
            Origin::Server(_) => Err(Error::needs_connection()),
        }
    }

    /// Whether the caller is a user who is logged in. A login that has ended may do nothing more, even before its client
    /// reads of the end.
    pub fn is_active(&self) -> bool {
        self.identity.is_some()
            && match &self.origin {
                Origin::Connection(connection) => !connection.is_logged_out() && !connection.queue.is_ended(),
                Origin::Server(_) => true,
            }
    }

    /// Whether the server itself calls, or the operator for a user. They may do what no user may.
    pub fn is_server(&self) -> bool {
        matches!(self.origin, Origin::Server(_))
    }

    /// Returns the trail of an operator's call, to record its fields `app`, `user` and `detail`; for any other caller one
    /// that goes nowhere. Keys, tokens and secrets are never recorded.
    pub fn audit(&self) -> Audit {
        match &self.origin {
            Origin::Connection(_) => Audit::none(),
            Origin::Server(audit) => audit.clone(),
        }
    }

    /// Writes: runs `job` in a transaction and returns its answer after the commit. This is the one way in which a method
    /// changes what is stored. The job gets its place in the queue when this is called, and the caller's next write may
    /// start. What the job appends to logs is pushed to all devices; the caller's own gets it with the response.
    ///
    /// If the caller does not wait for the answer, the job runs nevertheless, and the caller's device is told to look.
    pub fn write<B, T, F, W>(
        &self,
        db: &Db<B>,
        target: W,
        job: F,
    ) -> impl Future<Output = Result<T, Error>> + use<'_, B, T, F, W>
    where
        B: Bulk,
        T: Send + 'static,
        W: Into<WriteTo>,
        F: AsyncFnOnce(&mut Tx<'_>, &mut LogWriter) -> Result<T, Error> + Send + 'static,
    {
        let WriteTo { scope, log, is_held } = target.into();
        let cause = self.identity.as_ref().map(|identity| Cause { user: identity.user, login: identity.login });
        let scope = match &self.identity {
            Some(identity) => scope.for_app(identity.app, self.request_bytes),
            None => scope,
        };
        let done = db.submit(scope, async move |tx| {
            let mut log = LogWriter::new(cause);
            let answer = job(tx, &mut log).await?;
            Ok((answer, log.finish(tx).await?))
        });
        let done = self.answered(done, log);
        if !is_held {
            self.set_submitted();
        }
        async move {
            let (answer, pushes) = done.await?;
            self.pushes.lock().extend(pushes);
            Ok(answer)
        }
    }

    /// Waits for a job. If the answer does not reach the caller, the caller's device is told that `log` changed.
    pub fn answered<T: Send + 'static>(&self, done: Submitted<T>, log: PushTarget) -> Answered<T> {
        let connection = match &self.origin {
            Origin::Connection(connection) => Some(Arc::clone(connection)),
            Origin::Server(_) => None,
        };
        let unsettled = connection.as_ref().map(Unsettled::new);
        Answered { done: Some(done), device: connection.map(|connection| (connection, log)), unsettled }
    }

    /// Notes that the request has its place in the write queue: the next write of its connection may start.
    pub fn set_submitted(&self) {
        self.submitted.store(true, Ordering::Release);
    }

    /// Whether the request has its place in the write queue.
    pub fn is_submitted(&self) -> bool {
        self.submitted.load(Ordering::Acquire)
    }

    /// Adds log entries that the request caused to its response.
    pub fn add_push(&self, push: Push) {
        self.pushes.lock().push(push);
    }

    /// Takes the log entries for the response.
    pub fn take_pushes(&self) -> Vec<Push> {
        std::mem::take(&mut *self.pushes.lock())
    }
}

/// The answer to a write. The pushes of a write leave out the device that asked for it, because the response carries the
/// entries. If the response does not (the deadline passed, the commit has an unknown outcome), the device would learn of the
/// change last: so it is told that the log changed, once the write is done.
#[derive(Debug)]
#[must_use = "the answer tells whether the write was done"]
pub struct Answered<T: Send + 'static> {
    done: Option<Submitted<T>>,
    device: Option<(Arc<ConnectionState>, PushTarget)>,
    unsettled: Option<Unsettled>,
}

/// A write whose job has not ended, counted in [`ConnectionState::has_unsettled_writes`].
#[derive(Debug)]
struct Unsettled(Arc<ConnectionState>);

impl Unsettled {
    fn new(connection: &Arc<ConnectionState>) -> Self {
        connection.unsettled.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connection))
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.0.unsettled.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: Send + 'static> Future for Answered<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(done) = &mut self.done else { return Poll::Pending };
        let Poll::Ready(answer) = Pin::new(done).poll(context) else { return Poll::Pending };
        self.done = None;
        self.unsettled = None;
        if answer.as_ref().is_err_and(Error::may_have_effect) {
            tell(self.device.take());
        }
        Poll::Ready(answer)
    }
}

impl<T: Send + 'static> Drop for Answered<T> {
    fn drop(&mut self) {
        let (Some(done), Some(device)) = (self.done.take(), self.device.take()) else { return };
        if device.0.queue.is_ended() {
            return;
        }
        let unsettled = self.unsettled.take();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(async move {
                // Whether the write succeeded is not known before; if it did not, the device looks in vain.
                drop(done.await);
                drop(unsettled);
                tell(Some(device));
            }));
        }
    }
}

fn tell(device: Option<(Arc<ConnectionState>, PushTarget)>) {
    if let Some((connection, log)) = device {
        connection.queue.mark_dirty(&log);
    }
}
