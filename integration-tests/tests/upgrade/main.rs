//! This build opens, reads and synchronizes data that earlier builds wrote. The fixtures are in
//! `integration-tests/fixtures`; [`World::of_fixture`](zim_integration_tests::World::of_fixture) starts a server on a
//! copy of one, at the time when it was written.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod devices;
mod files;
mod server;

/// The commit whose build wrote the fixture.
const FIXTURE: &str = "101c45e";
