//! The outbox: what leaves the deployment. An entry is stored in the transaction that causes it, and delivered outside of any.
//! A server that is killed during a delivery repeats it, so receivers are told its id.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout;
use zim_protocol::clock::Clock;

use super::lane::Share;
use super::rows::{self, Entry};
use super::{Kinds, Queue, Source};
use crate::db::{Db, Scope, Tx, params};
use crate::effect::Effect;
use crate::error::Error;
use crate::journal::NewMessage;

/// The time limit for one page of recipients.
const PAGE_LIMIT: Duration = Duration::from_secs(60);

/// A kind of entry of the outbox.
#[derive(Debug)]
pub struct OutboxKind<C: 'static> {
    /// The number in the store. It never changes.
    pub number: i64,
    /// The name that the operator sees.
    pub name: &'static str,
    /// Its entries are delivered to others, who may be slow: each has a lane, and all of them have places of their own.
    pub has_lanes: bool,
    /// Delivers to a page of recipients. Returns what follows.
    pub deliver: fn(Arc<C>, Delivery) -> Delivering,
}

/// A delivery to a page of recipients.
pub type Delivering = BoxFuture<'static, Result<Next, Error>>;

/// What follows a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: everybody has got it.
    Nothing,
    /// The page that begins after this recipient.
    After(i64),
    /// The same page again, at this time, Unix milliseconds. Other than a failure, it is not counted.
    At(i64),
}

/// A page of an entry of the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Identifies the entry: a receiver that has seen it drops it.
    pub id: i64,
    /// What the entry is about, as its kind says.
    pub cause: i64,
    /// The page begins after this recipient; 0 for the first page.
    pub cursor: i64,
}

/// Adds an entry with this new id to the outbox. It is delivered after the commit.
///
/// # Errors
/// The store fails.
pub async fn enqueue<C>(tx: &mut Tx<'_>, kind: &OutboxKind<C>, (id, cause): (i64, i64), now: i64) -> Result<(), Error> {
    let sql =
        "INSERT INTO outbox (id, kind, cause, cursor, next_at, attempts, last_error) VALUES ($1, $2, $3, 0, $4, 0, '')";
    tx.execute(sql, &params![id, kind.number, cause, now]).await?;
    tx.emit(Effect::Due { queue: Queue::Outbox, at: now });
    Ok(())
}

/// The outbox, for a worker.
#[derive(Debug)]
pub(super) struct Outbox<C: 'static> {
    pub(super) context: Arc<C>,
    pub(super) kinds: Arc<Kinds<C>>,
    pub(super) share: Share,
}

impl<C: Send + Sync> Source<C> for Outbox<C> {
    fn share(&self) -> Share {
        self.share
    }

    fn start(&self, db: &Db<NewMessage>, clock: &Clock, entry: &Entry) -> BoxFuture<'static, Result<bool, Error>> {
        let Some(kind) = self.kinds.outbox.iter().find(|kind| kind.number == entry.kind).copied() else {
            return async { Ok(true) }.boxed();
        };
        let (context, db, clock, entry) = (Arc::clone(&self.context), db.clone(), clock.clone(), entry.clone());
        let deliver = async move {
            let (mut delivery, kind_number) = (entry.delivery(), entry.kind);
            loop {
                let page = timeout(PAGE_LIMIT, (kind.deliver)(Arc::clone(&context), delivery)).await;
                let next = page.map_err(|_| Error::internal_text("a delivery took too long"))??;
                let id = delivery.id;
                let cursor = match next {
                    Next::Nothing => {
                        let done = async move |tx: &mut Tx<'_>| rows::remove(tx, Queue::Outbox, kind_number, id).await;
                        return db.submit(Scope::none(), done).await;
                    }
                    Next::At(at) => {
                        let now = clock.now_ms();
                        let later = async move |tx: &mut Tx<'_>| rows::put_off(tx, id, at, now).await;
                        return db.submit(Scope::none(), later).await.map(|()| true);
                    }
                    Next::After(cursor) => cursor,
                };
                // A page that was delivered is not repeated because a later one fails.
                let moved = db.submit(Scope::none(), async move |tx| {
                    let sql = "UPDATE outbox SET cursor = $2, attempts = 0, last_error = '' WHERE id = $1";
                    Ok(tx.execute(sql, &params![id, cursor]).await?)
                });
                // The operator may have dropped the entry.
                if moved.await? == 0 {
                    return Ok(true);
                }
                delivery.cursor = cursor;
            }
        };
        let caught = AssertUnwindSafe(deliver).catch_unwind();
        caught.map(|done| done.unwrap_or_else(|_| Err(Error::internal_text("a delivery panicked")))).boxed()
    }
}
