//! What the operator sees and changes of the work that is done later.

use zim_protocol::{ListWorkResult, Work, WorkQueue};

use crate::app::App;
use crate::effect::Queue;
use crate::error::Error;
use crate::task::{self, Entry};

/// The most works on a page.
const PAGE: u32 = 100;

/// Which work is listed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page<'a> {
    /// Also what has not failed.
    pub(super) all: bool,
    /// The end of the previous page.
    pub(super) after: &'a str,
    /// The number of works; 0 for as many as a page holds.
    pub(super) count: u32,
}

/// Returns the queue that a request names.
pub(super) fn queue(queue: WorkQueue) -> Result<Queue, Error> {
    match queue {
        WorkQueue::Tasks => Ok(Queue::Tasks),
        WorkQueue::Outbox => Ok(Queue::Outbox),
        WorkQueue::Unspecified => Err(Error::params_invalid("queue must be the tasks or the outbox")),
    }
}

impl App {
    /// Returns a page of work.
    pub(super) async fn list_work(&self, queue: Queue, page: Page<'_>) -> Result<ListWorkResult, Error> {
        let after = match page.after.split_once('/') {
            Some((kind, id)) => (number(kind)?, number(id)?),
            None => (0, 0),
        };
        let (failed_only, limit) = (!page.all, if page.count == 0 { PAGE } else { page.count });
        let found = self.db.read(async move |tx| task::list(tx, queue, after, failed_only, limit + 1).await).await?;
        let limit = limit as usize;
        let last = found.get(..limit).filter(|_| found.len() > limit).and_then(<[Entry]>::last);
        let next = last.map_or_else(String::new, |last| format!("{}/{}", last.kind, last.key));
        let names = self.kinds.names(queue);
        let work = |entry: &Entry| Work {
            // The kind of a newer server has no name here.
            kind: names
                .iter()
                .find(|(number, _)| *number == entry.kind)
                .map_or_else(|| entry.kind.to_string(), |(_, name)| (*name).to_owned()),
            id: entry.key.to_string(),
            next_at: if entry.is_dead() { 0 } else { entry.next_at },
            attempts: u32::try_from(entry.attempts).unwrap_or(u32::MAX),
            last_error: entry.last_error.clone(),
        };
        Ok(ListWorkResult { works: found.iter().take(limit).map(work).collect(), next })
    }

    /// Tries work that has failed again at once. Returns false if there is none with this ID.
    pub(super) async fn retry_work(&self, queue: Queue, kind: &str, id: &str) -> Result<bool, Error> {
        let (kind, id, now) = (self.kind(queue, kind)?, number(id)?, self.clock.now_ms());
        let scope = self.kinds.scope(queue, kind, id);
        self.db.submit(scope, async move |tx| task::retry(tx, queue, kind, id, now).await).await
    }

    /// Drops work. Returns false if there is none with this ID.
    pub(super) async fn drop_work(&self, queue: Queue, kind: &str, id: &str) -> Result<bool, Error> {
        let (kind, id) = (self.kind(queue, kind)?, number(id)?);
        let scope = self.kinds.scope(queue, kind, id);
        self.db.submit(scope, async move |tx| task::remove(tx, queue, kind, id).await).await
    }

    /// Returns the number of a kind, by its name or by the number itself.
    fn kind(&self, queue: Queue, kind: &str) -> Result<i64, Error> {
        let names = self.kinds.names(queue);
        let known = names.iter().find(|(_, name)| *name == kind).map(|(number, _)| *number);
        known.or_else(|| kind.parse().ok()).ok_or_else(|| {
            let names: Vec<&str> = names.iter().map(|(_, name)| *name).collect();
            Error::params_invalid(format!("there is no work of the kind {kind:?}; the kinds are: {}", names.join(", ")))
        })
    }
}

fn number(text: &str) -> Result<i64, Error> {
    text.parse().map_err(|_| Error::params_invalid(format!("{text:?} is not a number")))
}
