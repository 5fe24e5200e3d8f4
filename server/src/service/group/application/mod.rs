//! Applications to join a group, and to bring users into one: their methods, their jobs and their rows.

mod jobs;
mod methods;
mod store;

pub(super) use self::jobs::{Ask, ask, settle};
pub(crate) use self::store::GROUP_APPLICATION;
