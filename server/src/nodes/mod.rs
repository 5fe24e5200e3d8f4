//! This server as one of several that share a database: it tells the others what it commits, and pushes what they tell.

mod audit;
mod ends;

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use zim_protocol::ConversationRef;

use crate::app::App;
use crate::bus::{self, Bus, BusError, BusState, Connected, Heard, Nats};
use crate::connection::Happened;
use crate::effect::Effect;
use crate::key::UserKey;

/// How often a node without a bus compares with the database. This is machine time, as the beats of the bus are.
const AUDIT: Duration = Duration::from_secs(3);
/// Gaps that follow a gap within this time are mended together.
const PAUSE: Duration = Duration::from_millis(200);
/// Of so many comparisons without a bus, one is of profiles and statuses as well.
const WITH_SNAPSHOTS: u32 = 10;

/// A server that has joined the other nodes. When it is dropped, its tasks end.
#[derive(Debug)]
pub(crate) struct Joined {
    bus: Arc<Nats>,
    tasks: TaskTracker,
    end: CancellationToken,
    _on_drop: DropGuard,
}

impl Joined {
    /// Tells the others what they have not been told yet, and leaves. The database is closed: nothing more is committed.
    pub(crate) async fn leave(self) {
        self.bus.leave().await;
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Joins the other nodes of the deployment, if the server shares its database.
///
/// # Errors
/// The bus cannot be used.
pub(crate) async fn join(app: &Arc<App>) -> Result<Option<Joined>, BusError> {
    let Some(lease) = app.db.lease() else { return Ok(None) };
    let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
    let connected = bus::connect(&app.config.bus, &deployment(app), lease, (&tasks, &end)).await;
    let Connected { bus, heard } = connected.inspect_err(|_| end.cancel())?;
    app.fanout.share();
    metrics::gauge!("zim_node_number").set(f64::from(lease.number()));
    let gaps = Arc::new(Notify::new());
    tasks.spawn(end.clone().run_until_cancelled_owned(hear(
        Arc::clone(app),
        (Arc::clone(&bus), heard),
        Arc::clone(&gaps),
    )));
    tasks.spawn(end.clone().run_until_cancelled_owned(mend(Arc::clone(app), Arc::clone(&gaps))));
    tasks.spawn(end.clone().run_until_cancelled_owned(mend_after_deaths(lease.deaths(), gaps)));
    tasks.spawn(end.clone().run_until_cancelled_owned(ends::read_unheard(Arc::clone(app))));
    let shared: Arc<dyn Bus> = Arc::clone(&bus) as _;
    // A server joins once.
    let _ = app.bus.set(shared);
    Ok(Some(Joined { bus, tasks, _on_drop: end.clone().drop_guard(), end }))
}

/// The last hints of a node that died may be lost, and no beat follows that shows it.
async fn mend_after_deaths(mut deaths: watch::Receiver<u64>, gaps: Arc<Notify>) {
    while deaths.changed().await.is_ok() {
        gaps.notify_one();
    }
}

/// Names the deployment: those of two databases do not hear each other, and neither does a copy of a database that has been given
/// an epoch of its own.
fn deployment(app: &App) -> String {
    let digest = Sha256::new().chain_update(b"bus").chain_update(app.secret).chain_update(app.epoch).finalize();
    zim_protocol::id::hex(&digest[..8])
}

/// Takes over what other nodes have committed.
async fn hear(app: Arc<App>, (bus, mut heard): (Arc<Nats>, UnboundedReceiver<Heard>), gaps: Arc<Notify>) {
    while let Some(heard) = heard.recv().await {
        let effects = match heard {
            Heard::Gap => {
                gaps.notify_one();
                continue;
            }
            Heard::Question(question) if question.stored.is_some() => {
                let logins = question.stored.as_ref().map(|stored| {
                    let conversation = ConversationRef { r#type: stored.kind, id: stored.conversation_id.clone() };
                    let users = stored.users.iter().copied().map(UserKey);
                    match stored.handled_at {
                        0 => app.fanout.stored_by(&conversation, stored.seq, users),
                        handled_at => {
                            // A node of an earlier version does not say when it happened.
                            let at = if stored.happened_at == 0 { handled_at } else { stored.happened_at };
                            app.fanout.handled_by(Happened { at, handled_at, is_in_feed: stored.is_in_feed }, users)
                        }
                    }
                });
                bus.answer_stored(&question, logins.unwrap_or_default()).await;
                continue;
            }
            Heard::Question(question) => {
                let sessions = app.tenants.of(question.app).map(|tenant| app.sessions_here(&tenant, &question.user_id));
                bus.answer(&question, sessions.unwrap_or_default()).await;
                continue;
            }
            Heard::Effects(effects) => effects,
        };
        for effect in &effects {
            if let Effect::AppChanged { app: changed } = effect
                && let Err(error) = app.refresh_app(*changed).await
            {
                tracing::warn!(%error, cause = ?error.cause(), "a change of an app was not read; retrying");
                gaps.notify_one();
            }
        }
        app.timers.note_of_others(&effects);
        let effects = effects.into_iter().filter_map(|effect| match effect {
            Effect::RoomMessage { home, transient } => {
                app.place_room_message(home, *transient);
                None
            }
            other => Some(other),
        });
        app.fanout.hear(effects.collect());
    }
}

/// Compares with the database after each gap, and while there is no bus.
async fn mend(app: Arc<App>, gaps: Arc<Notify>) {
    // Up to this time nothing is missing.
    let (mut complete_until, mut rounds) = (app.clock.now_ms(), 0_u32);
    let mut has_gap = false;
    loop {
        has_gap |= timeout(AUDIT, gaps.notified()).await.is_ok();
        let is_up = app.bus().state() == BusState::Up;
        if is_up && !has_gap {
            complete_until = app.clock.now_ms();
            continue;
        }
        if has_gap {
            sleep(PAUSE).await;
        }
        rounds = rounds.wrapping_add(1);
        let begun = app.clock.now_ms();
        // A node that has died was silent for as long as its lease.
        let since = complete_until - i64::from(app.config.node_lease_ms);
        match app.audit(since, has_gap || rounds.is_multiple_of(WITH_SNAPSHOTS)).await {
            Ok(()) => {
                (complete_until, has_gap) = (begun, false);
                app.timers.look();
            }
            Err(error) => {
                tracing::warn!(%error, cause = ?error.cause(), "connections were not compared with the database; retrying");
                sleep(AUDIT).await;
            }
        }
    }
}

/// Ends the server's connections when it may no longer use its database.
pub(crate) async fn stop_when_lost(app: Arc<App>, endpoint: quinn::Endpoint, stopped: CancellationToken) {
    if app.db.lease().is_none() {
        return;
    }
    if let Some(reason) = stopped.run_until_cancelled(app.db.lost()).await {
        tracing::error!(reason, "this node serves no longer");
        endpoint.set_server_config(None);
        let code = quinn::VarInt::from_u32(zim_protocol::wire::CloseCode::GoingAway.code());
        endpoint.close(code, b"this server has lost its database");
    }
}
