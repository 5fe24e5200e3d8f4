//! Runs the examples of the guide: each of them is a test of the documentation.

use zim_client_sdk::{Error, Zim};

use crate::wait::soon;
use crate::world::World;

/// Runs an example with two users, ann and bob, who are logged in to a server of their own.
///
/// # Panics
/// The example fails, or does not end in time.
pub fn example(run: impl AsyncFnOnce(Zim, Zim) -> Result<(), Error>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::new().await;
        let (ann, bob) = (world.user("ann").await, world.user("bob").await);
        soon(run(Zim::clone(&ann), Zim::clone(&bob))).await.expect("the example works");
        world.end().await;
    });
}
