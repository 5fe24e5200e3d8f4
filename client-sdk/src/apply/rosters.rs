//! Pages of members of groups that are on their way. They and the changes of members arrive independently of each other, so it is noted
//! whom a change concerned since the request.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// The pages that are on their way. What a failed transaction noted does no harm: its changes come again.
#[derive(Debug, Default)]
pub(crate) struct Rosters(Mutex<Vec<Weak<Awaited>>>);

/// A page that is on its way, until this is dropped.
#[derive(Debug)]
pub(crate) struct Awaited {
    group_id: String,
    meanwhile: Mutex<Meanwhile>,
}

#[derive(Debug, Default)]
struct Meanwhile {
    users: HashSet<String>,
    /// Changes were skipped, so the page may be older than what is known.
    is_void: bool,
}

impl Awaited {
    /// Returns whom a change concerned meanwhile; `None`: the page is of no use.
    pub(super) fn meanwhile(&self) -> Option<HashSet<String>> {
        let meanwhile = self.meanwhile.lock();
        (!meanwhile.is_void).then(|| meanwhile.users.clone())
    }
}

impl Rosters {
    /// Notes that a page is about to be requested. What is held is read after this call.
    pub(crate) fn begin(&self, group_id: &str) -> Arc<Awaited> {
        let awaited = Arc::new(Awaited { group_id: group_id.to_owned(), meanwhile: Mutex::default() });
        let mut all = self.0.lock();
        all.retain(|one| one.strong_count() > 0);
        all.push(Arc::downgrade(&awaited));
        awaited
    }

    /// Notes whom a change concerns.
    pub(super) fn changed<'a>(&self, group_id: &str, user_ids: impl Iterator<Item = &'a str> + Clone) {
        self.each(Some(group_id), |meanwhile| meanwhile.users.extend(user_ids.clone().map(str::to_owned)));
    }

    /// Notes that the list of a group, or of all groups, begins anew.
    pub(super) fn void(&self, group_id: Option<&str>) {
        self.each(group_id, |meanwhile| meanwhile.is_void = true);
    }

    fn each(&self, group_id: Option<&str>, note: impl Fn(&mut Meanwhile)) {
        for awaited in self.0.lock().iter().filter_map(Weak::upgrade) {
            if group_id.is_none_or(|group_id| awaited.group_id == group_id) {
                note(&mut awaited.meanwhile.lock());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_knows_what_happened_to_its_group_since_the_request() {
        let rosters = Rosters::default();
        rosters.changed("crew", ["ann"].into_iter());
        let (crew, band) = (rosters.begin("crew"), rosters.begin("band"));
        rosters.changed("crew", ["bob", "cem"].into_iter());
        let later = rosters.begin("crew");
        let users = |awaited: &Awaited| awaited.meanwhile().map(|users| users.len());
        assert_eq!((users(&crew), users(&band), users(&later)), (Some(2), Some(0), Some(0)));
        rosters.void(Some("crew"));
        assert_eq!((users(&crew), users(&band), users(&later)), (None, Some(0), None));
        rosters.void(None);
        assert_eq!(users(&band), None);
    }

    #[test]
    fn a_page_that_is_not_awaited_is_forgotten() {
        let rosters = Rosters::default();
        drop(rosters.begin("crew"));
        let _crew = rosters.begin("crew");
        assert_eq!(rosters.0.lock().len(), 1);
    }
}
