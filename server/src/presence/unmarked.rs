//! Marks logins as disconnected that the full write queue refused.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::app::App;

/// The wait before a login that the full queue refused is marked again.
const REFUSED_MS: i64 = 1_000;
/// Jobs that are submitted together.
const MAX_JOBS: usize = 256;

/// Marks logins that the full queue refused, until it takes them. Ends with the server.
pub(crate) async fn mark_unmarked_logins(app: Arc<App>, stopped: CancellationToken) {
    let mark = async {
        loop {
            app.unmarked_logins.added().await;
            app.clock.sleep(REFUSED_MS).await;
            mark(&app).await;
        }
    };
    tokio::select! {
        () = stopped.cancelled() => {}
        () = mark => {}
    }
}

async fn mark(app: &App) {
    let logins = app.unmarked_logins.take();
    for logins in logins.chunks(MAX_JOBS) {
        let mut jobs = Vec::with_capacity(logins.len());
        for (user, login) in logins {
            let job = app.mark_disconnected(*user, *login);
            if job.is_refused() {
                app.unmarked_logins.add(*user, *login);
            }
            jobs.push(job);
        }
        for job in jobs {
            // After any other failure the next look for lost logins finds the login.
            drop(job.await);
        }
    }
}
