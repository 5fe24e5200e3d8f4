//! Groups in which something came before the end of a stay that precedes it. Mostly that end is under way. If it does not come, the stays
//! of the sessions here are read again; until then, nothing is pushed to the group.

use std::sync::Arc;

use tokio::time::sleep;

use super::{AUDIT, PAUSE};
use crate::app::App;
use crate::bus::BusState;

/// Reads stays again whose end is missing. Ends with the bus.
pub(super) async fn read_unheard(app: Arc<App>) {
    loop {
        let unheard = app.fanout.unheard.take().await;
        // Without a bus they are read as often as everything else: each end in the group would ask for it.
        sleep(if app.bus().state() == BusState::Up { PAUSE } else { AUDIT }).await;
        let mut has_failed = false;
        for (group, (name, rev)) in unheard {
            if app.fanout.knows_ends(group, rev) {
                continue;
            }
            if let Err(error) = app.read_stays((group, &name)).await {
                tracing::warn!(%error, cause = ?error.cause(), "it was not read who is in a group; retrying");
                app.fanout.unheard.add(group, (name, rev), |new, held| new.1 > held.1);
                has_failed = true;
            }
        }
        if has_failed {
            sleep(AUDIT).await;
        }
    }
}
