//! Those who observe the local database. Each is woken after a commit that may concern them, and reads again. Any number
//! of commits before that count as one, so a slow observer costs nothing and misses nothing.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::types::Name;

/// The observers of one login.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    watchers: Vec<Watcher>,
    /// The number of the last connection.
    connection: u64,
    has_ended: bool,
}

#[derive(Debug)]
struct Watcher {
    /// The conversation whose messages it shows; `None`: it shows the list of conversations.
    of: Option<Name>,
    /// Has the number of the last connection.
    wake: watch::Sender<u64>,
}

/// Wakes one observer. The value is the number of the last connection; the end of the login closes it.
pub(crate) type Wake = watch::Receiver<u64>;

impl Watchers {
    /// Adds an observer of the messages of a conversation, or of the list of conversations. What is committed from now on
    /// wakes it, so it reads for the first time after this call.
    pub(crate) fn watch(&self, of: Option<Name>) -> Wake {
        let mut inner = self.0.lock();
        let (wake, woken) = watch::channel(inner.connection);
        if !inner.has_ended {
            inner.watchers.push(Watcher { of, wake });
        }
        woken
    }

    /// Wakes the observers of conversations that a commit changed, and those of the list.
    ///
    /// The lock is what orders a commit and an observer that is being added: either it is woken, or its first read comes
    /// after the commit.
    pub(crate) fn changed(&self, touched: &HashMap<Name, i64>) {
        let mut inner = self.0.lock();
        if inner.watchers.is_empty() {
            return;
        }
        inner.watchers.retain(|watcher| watcher.wake.receiver_count() > 0);
        let concerned = inner.watchers.iter().filter(|watcher| match &watcher.of {
            Some(name) => touched.contains_key(name),
            None => true,
        });
        concerned.for_each(|watcher| watcher.wake.send_modify(|_| {}));
    }

    /// Wakes all observers, because messages that this device does not hold can be requested now.
    pub(crate) fn connected(&self, connection: u64) {
        let mut inner = self.0.lock();
        inner.connection = connection;
        for watcher in &inner.watchers {
            watcher.wake.send_replace(connection);
        }
    }

    /// Ends all observers, and those that are added later.
    pub(crate) fn end(&self) {
        let mut inner = self.0.lock();
        inner.has_ended = true;
        inner.watchers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touched(id: &str) -> HashMap<Name, i64> {
        HashMap::from([(Name::new(0, id), 1)])
    }

    #[test]
    fn an_observer_is_woken_by_what_concerns_it() {
        let watchers = Watchers::default();
        let (mut bob, mut list) = (watchers.watch(Some(Name::new(0, "bob"))), watchers.watch(None));
        let mut woken = || {
            let woken = [&bob, &list].map(|wake| wake.has_changed().unwrap());
            bob.borrow_and_update();
            list.borrow_and_update();
            woken
        };
        assert_eq!(woken(), [false, false]);
        watchers.changed(&touched("cem"));
        assert_eq!(woken(), [false, true]);
        watchers.changed(&touched("bob"));
        assert_eq!(woken(), [true, true]);
        watchers.changed(&HashMap::new());
        assert_eq!(woken(), [false, true]);
        watchers.connected(7);
        assert_eq!(woken(), [true, true]);
        assert_eq!(*bob.borrow(), 7);
    }

    #[test]
    fn an_observer_that_is_gone_is_forgotten() {
        let watchers = Watchers::default();
        drop(watchers.watch(None));
        let _list = watchers.watch(None);
        watchers.changed(&HashMap::new());
        assert_eq!(watchers.0.lock().watchers.len(), 1);
    }

    #[tokio::test]
    async fn the_end_closes_earlier_and_later_observers_after_the_last_change() {
        let watchers = Watchers::default();
        let mut early = watchers.watch(None);
        watchers.changed(&HashMap::new());
        watchers.end();
        early.changed().await.unwrap();
        assert!(early.changed().await.is_err());
        assert!(watchers.watch(None).changed().await.is_err());
    }
}
