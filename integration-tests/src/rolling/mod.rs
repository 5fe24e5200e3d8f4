//! A rolling upgrade: two nodes of one version are replaced by another version, one after the other, while users with the SDK write to
//! each other, to a group and into a room. In between the versions run side by side. In the end no message that was acknowledged is
//! lost, each device was told of it once, and all devices have the same history.

/// What was sent, and what is wrong with what devices were told and have.
mod ledger;
/// The users, and their devices.
mod people;
/// From two nodes of one version to two of the other.
mod run;

pub use self::run::{Planted, Settings, Upgrade, run};
