//! Applications to join a group, and to bring users into one: their jobs and their rows.

mod jobs;
mod store;

pub(super) use self::jobs::{Ask, ask};
pub(crate) use self::store::GROUP_APPLICATION;
pub(super) use self::store::page;
