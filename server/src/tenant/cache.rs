//! A bounded map for values that never change: the keys of names.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::RwLock;

/// A cache of two generations. When the young one is full, it becomes the old one, and the old one is dropped. An entry
/// that is used moves to the young one, so that it stays.
#[derive(Debug)]
pub struct Cache<K, V> {
    generations: RwLock<(HashMap<K, V>, HashMap<K, V>)>,
    capacity: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    /// Creates a cache of at most twice `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self { generations: RwLock::default(), capacity }
    }

    /// Returns the value of `key`, if it is cached.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (key, old) = {
            let generations = self.generations.read();
            if let Some(value) = generations.0.get(key) {
                return Some(value.clone());
            }
            let (key, value) = generations.1.get_key_value(key)?;
            (key.clone(), value.clone())
        };
        self.insert(key, old.clone());
        Some(old)
    }

    /// Adds an entry.
    pub fn insert(&self, key: K, value: V) {
        let mut generations = self.generations.write();
        if generations.0.len() >= self.capacity {
            generations.1 = std::mem::take(&mut generations.0);
        }
        generations.0.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_entries_stay_and_others_are_evicted() {
        let cache = Cache::new(2);
        cache.insert(1, "one");
        for other in 2..50 {
            cache.insert(other, "other");
            assert_eq!(cache.get(&1), Some("one"));
        }
        assert_eq!(cache.get(&2), None);
    }
}
