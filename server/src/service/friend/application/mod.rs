//! Friend applications: their jobs and their rows.

mod jobs;
mod store;

pub(super) use self::jobs::{accept, reject, send};
pub(crate) use self::store::APPLICATION;
pub(super) use self::store::{entries, find, page, save};
