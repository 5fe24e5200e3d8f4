//! Friend applications: their jobs and their rows.

pub(super) mod jobs;
mod store;

pub(crate) use self::store::feed_entries;
pub(super) use self::store::{entries, find, page, save};
