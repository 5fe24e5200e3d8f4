//! Work that is done later: tasks at a time, and what leaves the deployment.
//!
//! A task takes effect exactly once. It is a row that a job writes together with whatever makes the task necessary. When it is
//! due, the worker submits a job under the task's scope. The job deletes the row and does the work in one transaction: either
//! both happen or neither, whatever is killed meanwhile. Whoever cancels or replaces a task holds the same locks, so the job
//! sees the row as it is now, and does nothing if it is no longer due.
//!
//! An entry of the outbox is delivered at least once, because its receivers are outside of the transaction.
//!
//! What fails is tried again, later each time. After the last attempt it is dead: it stays for the operator.

mod lane;
mod outbox;
mod rows;
mod schedule;
#[cfg(test)]
mod tests;
mod timer;
mod worker;

use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use tokio_util::sync::CancellationToken;
use zim_protocol::clock::Clock;

use self::lane::Share;
pub use self::lane::lane;
pub use self::outbox::{Delivering, Delivery, Next, OutboxKind, enqueue};
pub use self::rows::{Entry, MAX_ATTEMPTS, list, remove, retry};
pub use self::schedule::{Numbered, cancel, schedule, schedule_by, schedule_missing, schedule_only};
pub use self::timer::Timers;
use self::worker::{Source, Worker};
use crate::db::{Db, Scope, Tx};
use crate::effect::Queue;
use crate::error::Error;
use crate::journal::{LogWriter, NewMessage};

/// A kind of task. Each noun defines its own, and `service/mod.rs` lists all of them. `C` is what its handler needs besides
/// the transaction.
#[derive(Debug)]
pub struct TaskKind<C: 'static> {
    /// The number in the store. It never changes.
    pub number: i64,
    /// The name that the operator sees.
    pub name: &'static str,
    /// Returns what the handler may change, by the subject.
    pub scope: fn(i64) -> Scope,
    /// Does the work of a task, in the transaction that deletes the task.
    pub run: for<'a> fn(&'a C, &'a mut Tx<'_>, &'a mut LogWriter, Due) -> Running<'a>,
}

/// The work of a task.
pub type Running<'a> = LocalBoxFuture<'a, Result<(), Error>>;

/// A task that is due.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// The task's subject.
    pub subject: i64,
    /// The present time, Unix milliseconds: not before the time for which the task was scheduled.
    pub now: i64,
}

/// The kinds of tasks and of entries of the outbox that a server knows.
#[derive(Debug)]
pub struct Kinds<C: 'static> {
    /// The kinds of tasks.
    pub tasks: Vec<&'static TaskKind<C>>,
    /// The kinds of entries of the outbox.
    pub outbox: Vec<&'static OutboxKind<C>>,
}

impl<C> Kinds<C> {
    /// Returns the numbers and the names of the kinds in a table.
    pub fn names(&self, queue: Queue) -> Vec<(i64, &'static str)> {
        match queue {
            Queue::Tasks => self.tasks.iter().map(|kind| (kind.number, kind.name)).collect(),
            Queue::Outbox => self.outbox.iter().map(|kind| (kind.number, kind.name)).collect(),
        }
    }

    /// Returns the numbers and the names of the kinds that one worker runs.
    fn names_of(&self, share: Share) -> Vec<(i64, &'static str)> {
        let has_lanes = |number: i64| self.outbox.iter().any(|kind| kind.number == number && kind.has_lanes);
        let mut names = self.names(share.queue());
        names.retain(|(number, _)| share == Share::Tasks || has_lanes(*number) == (share == Share::Lanes));
        names
    }

    /// Returns what an entry may change.
    pub fn scope(&self, queue: Queue, kind: i64, key: i64) -> Scope {
        let task = self.tasks.iter().find(|task| queue == Queue::Tasks && task.number == kind);
        task.map_or_else(Scope::none, |task| (task.scope)(key))
    }
}

/// Runs what is due, until the server stops.
pub async fn run<C: Send + Sync + 'static>(
    context: Arc<C>,
    kinds: Arc<Kinds<C>>,
    (db, clock): (Db<NewMessage>, Clock),
    timers: Arc<Timers>,
    stopped: CancellationToken,
) {
    let tasks = schedule::Tasks { context: Arc::clone(&context), kinds: Arc::clone(&kinds) };
    let outbox = |share| outbox::Outbox { context: Arc::clone(&context), kinds: Arc::clone(&kinds), share };
    let of_server = || (Arc::clone(&kinds), db.clone(), clock.clone());
    let tasks = Worker::new(tasks, of_server(), Arc::clone(&timers));
    let [outbox, lanes] =
        [Share::Outbox, Share::Lanes].map(|share| Worker::new(outbox(share), of_server(), Arc::clone(&timers)));
    tokio::select! {
        () = stopped.cancelled() => {}
        () = async { tokio::join!(tasks.work(), outbox.work(), lanes.work()); } => {}
    }
}
