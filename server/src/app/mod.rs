//! The application: everything that a service needs. It is passed to services and never global.

mod deletion;
mod in_doubt;
mod names;
mod push_providers;
mod tenant;
mod unmarked_logins;
mod watchers;

use std::sync::{Arc, OnceLock};

use zim_protocol::clock::Clock;

use crate::block_fence::BlockFence;
use crate::bus::{Bus, NoBus};
use crate::config::Config;
use crate::connection::{Allowances, Caller, LoginAllowances};
use crate::db::{DbConfig, Scope, Sink};
use crate::effect::{Effect, Look};
use crate::error::Error;
use crate::fanout::{Fanout, Publisher};
use crate::journal::NewMessage;
use crate::key::{ConversationKey, IdGenerator, Places, UserKey};
use crate::media::Files;
use crate::meter::Meter;
use crate::room_rates::RoomRates;
use crate::room_sends::RoomSends;
use crate::task::{Kinds, Timers};
use crate::tenant::{Cache, Tenants, app_rows, open_deployment};
use crate::turns::Turns;

use self::in_doubt::AppsInDoubt;
pub(crate) use self::in_doubt::read_apps_in_doubt;
pub(crate) use self::names::Named;
pub(crate) use self::tenant::{OLD_SECRETS_END, Rotated};
pub(crate) use self::unmarked_logins::UnmarkedLogins;
pub(crate) use self::watchers::{NOTIFY_PAUSE, RETRY_PAUSE, Watchers};

/// The database, with sending messages as its bulk job.
pub type Db = crate::db::Db<NewMessage>;

/// Pairs of users in one generation of the cache of conversations.
const CACHED_CONVERSATIONS: usize = 200_000;

/// Messages that ask for receipts in one generation of their cache: a megabyte.
const CACHED_ASKING: usize = 10_000;

/// One server's state.
#[derive(Debug)]
pub struct App {
    /// The database.
    pub db: Db,
    /// The connections of this node.
    pub fanout: Arc<Fanout>,
    /// Where the other nodes are told what is committed, once the server has joined them.
    pub(crate) bus: Arc<OnceLock<Arc<dyn Bus>>>,
    /// The timers of what is due later.
    pub(crate) timers: Arc<Timers>,
    /// The kinds of what is done later.
    pub(crate) kinds: Arc<Kinds<Self>>,
    /// The clock.
    pub clock: Clock,
    /// When this server started, Unix milliseconds.
    pub started_at: i64,
    /// The settings.
    pub config: Arc<Config>,
    /// Makes new IDs.
    pub ids: IdGenerator,
    /// Gives changes of group applications their places.
    pub(crate) places: Arc<Places>,
    /// The apps.
    pub tenants: Tenants,
    /// Changes when a backup is restored or a replica promoted.
    pub epoch: [u8; 16],
    /// The files of messages.
    pub(crate) files: Arc<Files>,
    pub(crate) meter: Meter,
    pub(crate) secret: [u8; 32],
    pub(crate) logins: LoginAllowances,
    pub(crate) allowances: Allowances,
    pub(crate) block_fence: BlockFence,
    pub(crate) room_rates: Arc<RoomRates>,
    pub(crate) room_sends: RoomSends,
    /// The turns of read marks and receipts.
    pub(crate) readers: Turns,
    /// The senders of messages that ask for receipts, for which somebody has sent one. Neither ever changes.
    pub(crate) asking: Cache<(ConversationKey, i64), UserKey>,
    pub(crate) unmarked_logins: UnmarkedLogins,
    pub(crate) conversations: Cache<(UserKey, UserKey), ConversationKey>,
    /// Apps whose change may have been stored, and is not in force here.
    in_doubt: Arc<AppsInDoubt>,
}

/// Where the effects of commits go.
struct Effects {
    timers: Arc<Timers>,
    bus: Arc<OnceLock<Arc<dyn Bus>>>,
    publisher: Publisher,
    in_doubt: Arc<AppsInDoubt>,
}

impl Sink for Effects {
    fn take(&self, effects: Vec<Effect>) {
        self.timers.note(&effects);
        if let Some(bus) = self.bus.get() {
            bus.publish(&effects);
        }
        self.publisher.publish(effects);
    }

    fn answered(&self) {
        self.publisher.wake();
    }

    fn doubt(&self, effects: &[Effect]) {
        // First: it is not lost if the rest panics.
        self.in_doubt.note(effects);
        self.take(Look::instead_of(effects));
        self.answered();
    }
}

impl App {
    /// Opens the database and reads what is kept in memory. `kinds` are those of what is done later.
    ///
    /// # Errors
    /// The database cannot be opened.
    pub(crate) async fn open(
        config: Arc<Config>,
        clock: Clock,
        database: DbConfig,
        files: Arc<Files>,
        kinds: Kinds<Self>,
    ) -> Result<Arc<Self>, Error> {
        let fanout = Arc::new(Fanout::default());
        let timers = Arc::new(Timers::default());
        let bus = Arc::new(OnceLock::new());
        let in_doubt = Arc::new(AppsInDoubt::default());
        let sink = Effects {
            timers: Arc::clone(&timers),
            bus: Arc::clone(&bus),
            publisher: Publisher::start(Arc::clone(&fanout)),
            in_doubt: Arc::clone(&in_doubt),
        };
        let db = Db::open(database, sink).await?;
        let mut fresh = ([0; 16], [0; 32]);
        getrandom::fill(&mut fresh.0).map_err(Error::internal)?;
        getrandom::fill(&mut fresh.1).map_err(Error::internal)?;
        let most = i64::from(config.limits.max_group_members);
        let (epoch, secret, newest) =
            db.submit(Scope::none(), async move |tx| open_deployment(tx, fresh, most).await).await?;
        let tenants = Tenants::empty()?;
        for app in db.read(async move |tx| app_rows(tx).await).await? {
            tenants.add(app.into_tenant(&secret));
        }
        let node = db.lease().map_or(0, |lease| lease.number());
        let app = Arc::new(Self {
            ids: IdGenerator::new(clock.clone(), node, newest),
            places: Arc::new(Places::new(node)),
            db,
            fanout,
            bus,
            timers,
            kinds: Arc::new(kinds),
            started_at: clock.now_ms(),
            clock,
            logins: LoginAllowances::new(&config.limits),
            allowances: Allowances::default(),
            files,
            config,
            tenants,
            meter: Meter::new(),
            epoch,
            secret,
            block_fence: BlockFence::default(),
            room_rates: Arc::default(),
            room_sends: RoomSends::default(),
            readers: Turns::default(),
            asking: Cache::new(CACHED_ASKING),
            unmarked_logins: UnmarkedLogins::default(),
            conversations: Cache::new(CACHED_CONVERSATIONS),
            in_doubt,
        });
        for tenant in app.tenants.list() {
            app.read_push_providers(&tenant).await?;
        }
        Ok(app)
    }

    /// Returns the bus between the nodes of the deployment.
    pub fn bus(&self) -> &dyn Bus {
        self.bus.get().map_or(&NoBus, |bus| &**bus)
    }
}

impl zim_protocol::server::Backend for App {
    type Caller = Caller;
    type Error = Error;
}
