//! The handlers of the app: of each kind one of the reference's `on`, and any number of typed ones.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use zim_protocol::{Event, EventKind};

use super::bit;

/// What a handler does with an event of its kind.
pub(crate) type Call = Box<dyn FnMut(&Event) + Send>;

/// The number of the reference's handler, of which each kind has one.
pub(super) const REFERENCE: u64 = 0;

struct Handler {
    number: u64,
    /// Set when it is removed: it may wait behind another one for the event that is being handled.
    is_removed: AtomicBool,
    /// Only the task that handles events locks it.
    call: Mutex<Call>,
}

/// The handlers of a kind, in the order in which they were set. A change replaces the list, so that a handler can change it.
type List = Arc<[Arc<Handler>]>;

#[derive(Default)]
struct Table {
    lists: HashMap<EventKind, List>,
    /// The number of the typed handler that was set last.
    last: u64,
}

impl Table {
    /// Removes the handler with this number and adds another. Returns the earlier list, which the caller drops without a
    /// lock: what a handler owns may call the client when it is dropped.
    fn replace(&mut self, kind: EventKind, number: u64, call: Option<Call>) -> Option<List> {
        let old = self.lists.remove(&kind);
        let (gone, mut list): (Vec<_>, Vec<_>) =
            old.iter().flat_map(|list| list.iter()).cloned().partition(|handler| handler.number == number);
        gone.iter().for_each(|handler| handler.is_removed.store(true, Ordering::Release));
        if let Some(call) = call {
            list.push(Arc::new(Handler { number, is_removed: AtomicBool::new(false), call: Mutex::new(call) }));
        }
        if !list.is_empty() {
            self.lists.insert(kind, list.into());
        }
        old
    }
}

/// The handlers of all kinds. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Handlers(Arc<RwLock<Table>>);

impl Handlers {
    pub(super) fn kinds(&self) -> Vec<EventKind> {
        self.0.read().lists.keys().copied().collect()
    }

    /// Returns a bit for each kind that has a handler.
    pub(super) fn bits(&self) -> u128 {
        self.0.read().lists.keys().fold(0, |all, kind| all | bit(*kind))
    }

    pub(super) fn has(&self, kind: EventKind) -> bool {
        self.0.read().lists.contains_key(&kind)
    }

    /// Replaces the handler with this number.
    pub(super) fn set(&self, kind: EventKind, number: u64, call: Option<Call>) {
        let old = self.0.write().replace(kind, number, call);
        drop(old);
    }

    /// Adds a typed handler.
    pub(super) fn add(&self, kind: EventKind, call: Call) -> HandlerGuard {
        let number = {
            let mut table = self.0.write();
            table.last += 1;
            table.last
        };
        self.set(kind, number, Some(call));
        HandlerGuard { table: Arc::downgrade(&self.0), kind, number }
    }

    /// Calls the handlers of an event, one after the other. A panic in one of them is logged and ends neither the others
    /// nor the task.
    pub(super) fn call(&self, event: &Event) {
        let list = self.0.read().lists.get(&event.kind()).cloned();
        for handler in list.iter().flat_map(|list| list.iter()) {
            if handler.is_removed.load(Ordering::Acquire) {
                continue;
            }
            let call = AssertUnwindSafe(|| (*handler.call.lock())(event));
            if std::panic::catch_unwind(call).is_err() {
                tracing::error!(event = %event.kind(), "a handler of the app panicked");
            }
        }
    }
}

/// Keeps a typed handler of events ([`Zim::on_event`](crate::Zim::on_event)): dropping the guard removes the handler. If
/// the handler has an event at that moment, it finishes it.
#[must_use = "dropping the guard removes the handler; `detach` keeps it"]
pub struct HandlerGuard {
    /// Empty after [`HandlerGuard::detach`].
    table: Weak<RwLock<Table>>,
    kind: EventKind,
    number: u64,
}

impl HandlerGuard {
    /// Keeps the handler until the client ends.
    pub fn detach(mut self) {
        self.table = Weak::new();
    }
}

impl Drop for HandlerGuard {
    fn drop(&mut self) {
        if let Some(table) = self.table.upgrade() {
            Handlers(table).set(self.kind, self.number, None);
        }
    }
}

impl std::fmt::Debug for HandlerGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandlerGuard").field("kind", &self.kind).finish_non_exhaustive()
    }
}
