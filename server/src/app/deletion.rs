//! Deletes an app.
//!
//! First the app is closed: its secrets are replaced by ones that nobody gets, so all sessions end and nobody can log in.
//! Then its rows are deleted, and at last the app. An operator repeats the call until everything is deleted; so an interrupted
//! deletion is continued, also after a restart, and never undone by half.
//!
//! A request that still runs when the sessions end may write a row of a user who is deleted already. Nobody reads such a row:
//! IDs are not used twice.

use zim_protocol::ErrorCode;

use super::App;
use crate::db::Scope;
use crate::effect::Effect;
use crate::error::Error;
use crate::tenant::{self, Deleted, Tenant};

/// Pages in one call: it takes a second or so.
const PAGES: usize = 20;
/// How often a page is tried again.
const TRIES: usize = 5;

impl App {
    /// Deletes some rows of an app, or the last ones and the app.
    ///
    /// # Errors
    /// The app is the last one, or the store fails.
    pub(crate) async fn delete_app(&self, tenant: &Tenant) -> Result<Deleted, Error> {
        let _turn = self.tenants.deleting.lock().await;
        if self.tenants.list().iter().all(|other| other.key == tenant.key) {
            return Err(Error::params_invalid("this is the last app of the server; create another one first"));
        }
        self.close_app(tenant).await?;
        let (mut deleted, app, now) = (Deleted::default(), tenant.key, self.clock.now_ms());
        let mut tries = 0;
        for _page in 0..PAGES {
            let page = self.db.submit(Scope::none(), async move |tx| {
                let page = tenant::delete_page(tx, app, now).await?;
                if page.is_done {
                    tx.emit(Effect::AppChanged { app });
                }
                Ok(page)
            });
            let page = match page.await {
                // It locks accounts in another order than the sessions that end at the same moment: on PostgreSQL one of two that
                // wait for each other fails, and nothing of it is stored.
                Err(error) if error.code() == ErrorCode::CommonModuleImDatabaseError && tries < TRIES => {
                    tries += 1;
                    continue;
                }
                page => page?,
            };
            deleted = Deleted { rows: deleted.rows + page.rows, is_done: page.is_done };
            if page.is_done {
                self.tenants.remove(app);
                break;
            }
        }
        Ok(deleted)
    }
}
