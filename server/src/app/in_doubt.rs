//! Apps that a commit has changed of which this node does not know whether it was carried out. They are read again once it is decided: the
//! other nodes learn of a change from this one, and this one from the answer to its commit, which is lost.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{App, RETRY_PAUSE};
use crate::effect::Effect;
use crate::key::AppKey;

/// The apps that are to be read again.
#[derive(Debug, Default)]
pub(super) struct AppsInDoubt {
    apps: Mutex<HashSet<AppKey>>,
    added: Notify,
}

impl AppsInDoubt {
    /// Notes the apps that a commit has changed, if it was carried out.
    pub(super) fn note(&self, effects: &[Effect]) {
        let changed = effects.iter().filter_map(|effect| match effect {
            Effect::AppChanged { app } => Some(*app),
            _ => None,
        });
        self.add(changed);
    }

    fn add(&self, apps: impl IntoIterator<Item = AppKey>) {
        let mut waiting = self.apps.lock();
        waiting.extend(apps);
        if !waiting.is_empty() {
            self.added.notify_one();
        }
    }

    async fn take(&self) -> HashSet<AppKey> {
        self.added.notified().await;
        std::mem::take(&mut *self.apps.lock())
    }
}

/// Reads apps again. Ends with the server.
pub(crate) async fn read_apps_in_doubt(app: Arc<App>, stopped: CancellationToken) {
    loop {
        let in_doubt = tokio::select! {
            () = stopped.cancelled() => return,
            in_doubt = app.in_doubt.take() => in_doubt,
        };
        let mut failed = Vec::new();
        for changed in in_doubt {
            if let Err(error) = app.refresh_app(changed).await {
                tracing::warn!(%error, cause = ?error.cause(), "a change of an app was not read; retrying");
                failed.push(changed);
            }
        }
        if !failed.is_empty() {
            tokio::select! {
                () = stopped.cancelled() => return,
                () = tokio::time::sleep(RETRY_PAUSE) => app.in_doubt.add(failed),
            }
        }
    }
}
