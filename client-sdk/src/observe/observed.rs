//! A list that follows the local database. It is read again after changes, and what differs from what was shown is told.
//! So it cannot drift, and any number of changes that the app did not wait for are one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;

use super::diff::{Diff, Item, diff};

/// The list, each time it may have changed, until the login ends.
type Fresh<T> = Pin<Box<dyn Stream<Item = Vec<T>> + Send>>;

pub(super) struct Observed<T> {
    /// What the app was told.
    items: Vec<T>,
    /// The lock makes it `Sync`; it is never taken.
    fresh: Mutex<Fresh<T>>,
}

impl<T: std::fmt::Debug> std::fmt::Debug for Observed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observed").field("items", &self.items).finish_non_exhaustive()
    }
}

impl<T: Item> Observed<T> {
    pub(super) fn new(items: Vec<T>, fresh: impl Stream<Item = Vec<T>> + Send + 'static) -> Self
    where
        T: 'static,
    {
        // `fuse`: the app may poll again after the end.
        Self { items, fresh: Mutex::new(Box::pin(fresh.fuse())) }
    }

    pub(super) fn items(&self) -> &[T] {
        &self.items
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Vec<Diff<T>>>> {
        loop {
            let Some(fresh) = ready!(self.fresh.get_mut().as_mut().poll_next(context)) else {
                return Poll::Ready(None);
            };
            let diffs = diff(&self.items, &fresh);
            if !diffs.is_empty() {
                self.items = fresh;
                return Poll::Ready(Some(diffs));
            }
        }
    }
}
