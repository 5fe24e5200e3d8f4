//! An account: everything that one login owns. It is the handle to the local database and to the task that keeps the
//! database in step with the server.

/// The server and the app, as the account sees them.
mod remote;
/// Limits on requests that the SDK keeps itself.
mod limits;
/// Those who observe the local database.
mod watchers;
/// The task that runs the sync engine.
mod task;
/// Commands that wait for the messages before them.
mod transients;
/// The rooms that this device is in.
mod rooms;
/// Who is writing.
mod typing;
/// When messages are indexed for search.
mod indexing;
/// The inputs of the task.
mod input;
/// Commits, and what follows them.
mod commit;
/// Sending messages.
mod sending;
/// Uploading the files of messages.
mod uploading;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use zim_protocol::{
    ConversationRef, ConversationType, Dirty, ErrorCode, ErrorEvent, Event, EventFrame, FillRequest, GroupMemberInfo,
    LogKind, LoginResult, Push, Rpc, UserFullInfo, UserStatus, Welcome, clock::Clock,
};

use self::input::{Done, Input};
use self::limits::Limiter;
pub(crate) use self::remote::Remote;
use self::rooms::Rooms;
pub(crate) use self::rooms::{Entering, Start, is_out_of_room};
use self::task::{AccountTask, Parts, Shared, Stored, UNKNOWN};
use self::typing::Told;
pub(crate) use self::watchers::Wake;
use self::watchers::Watchers;
use crate::apply::{Awaited, Deleted, Deleting, Edit, Local, OwnDeletion, Rosters, Viewer};
use crate::config::Config;
use crate::engine::{Position, State, SyncEngine};
use crate::error::Error;
use crate::events::Heard;
use crate::media::Http;
use crate::outbox::{Place, Submission};
use crate::search_pages::SearchPages;
use crate::store::member_list::MemberPage;
use crate::store::{self, Store};
use crate::types::{Key, Name};

/// Event frames that wait for the task. Flow control holds back the rest.
const FRAMES: usize = 1_024;
/// The most messages that wait to be sent.
pub(crate) const QUEUED: usize = 10_000;
/// A custom status can be changed once per this many milliseconds.
const CUSTOM_STATUS_MS: i64 = 1_000;

/// Everything that one login owns. See the module.
#[derive(Debug)]
pub(crate) struct Account<L: Remote> {
    user_id: Arc<str>,
    remote: L,
    clock: Clock,
    store: Arc<Store>,
    inbox: mpsc::UnboundedSender<Input>,
    frames: Arc<Semaphore>,
    /// The places in the queue of messages.
    places: Arc<Semaphore>,
    shared: Arc<Shared>,
    queried_users: Mutex<Limiter>,
    custom_statuses: Mutex<Limiter>,
    resend_window_ms: i64,
    media: Arc<Http>,
    searches: SearchPages,
    /// Held by an export or an import of messages.
    transfer: tokio::sync::Mutex<()>,
    deleting: Arc<Deleting>,
    rosters: Arc<Rosters>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// The settings of an account.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) file: Option<PathBuf>,
    /// The ID of this installation.
    pub(crate) device: Bytes,
    pub(crate) is_one_shot: bool,
    pub(crate) resend_window_ms: i64,
    pub(crate) media: Arc<Http>,
}

/// Deletes the local database of a deleted account. It must be closed.
pub(crate) fn erase(config: &Config, app_id: u32, user_id: &str) -> std::io::Result<()> {
    let Some(folder) = config.folder() else { return Ok(()) };
    let file = database_file(folder.to_owned(), app_id, user_id);
    for kind in std::iter::once("db").chain(store::BESIDE) {
        match std::fs::remove_file(file.with_extension(kind)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What an account needs to know from its store.
struct Loaded {
    position: Position,
    states: Vec<(Name, State)>,
    total: i64,
    again: Vec<(i64, Event)>,
    last_event: i64,
    unsent: Vec<store::outgoing::Unsent>,
    unindexed: usize,
}

/// Opens and loads the store. A damaged one is set aside, and the server fills a new one; `raise` gets an event about it.
fn load(file: Option<&Path>, user_id: &str, raise: impl Fn(Event)) -> Result<(Arc<Store>, Loaded), Error> {
    let error = match try_load(file, user_id) {
        Ok(loaded) => return Ok(loaded),
        Err(error) => error,
    };
    let Some(path) = file.filter(|_| store::is_damaged(&error)) else { return Err(error) };
    let aside = store::set_aside(path).map_err(|failed| error.with_source(failed))?;
    let message = format!(
        "the local database was damaged; it is now {}, and a new one is filled from the server. Messages that were not \
         sent, and data that only this device had, are lost",
        aside.display()
    );
    tracing::error!("{message}");
    raise(Event::Error(ErrorEvent { code: ErrorCode::DatabaseModuleOpenDatabaseError as i32, message }));
    try_load(file, user_id)
}

fn try_load(file: Option<&Path>, user_id: &str) -> Result<(Arc<Store>, Loaded), Error> {
    let (store, viewer) = (Store::open(file)?, user_id.to_owned());
    let loaded = store.write_now(move |db| {
        let (position, states) = store::conversation::load(db)?;
        Ok(Loaded {
            position,
            states,
            total: store::conversation::total_unread(db, &zim_protocol::ConversationFilterOption::default())?,
            again: store::pending::all(db, &viewer)?,
            last_event: store::pending::last(db)?,
            unsent: store::outgoing::unsent(db)?,
            unindexed: store::message_search::waiting(db)?,
        })
    });
    match loaded {
        Ok(loaded) => Ok((Arc::new(store), loaded)),
        Err(error) => {
            store.close_now();
            Err(error)
        }
    }
}

impl<L: Remote> Account<L> {
    /// Opens the local database of `user_id`. This needs no network, so that an offline login works.
    pub(crate) fn open(
        config: &Config,
        device: Bytes,
        user_id: &str,
        remote: L,
        media: Arc<Http>,
    ) -> Result<Arc<Self>, Error> {
        let file = config.folder().map(|folder| database_file(folder.to_owned(), config.app_id, user_id));
        let (is_one_shot, resend_window_ms) = (config.one_shot, config.resend_window_ms);
        let settings = Settings { file, device, is_one_shot, resend_window_ms, media };
        Self::start(settings, user_id, remote, config.clock.clone())
    }

    pub(crate) fn start(settings: Settings, user_id: &str, remote: L, clock: Clock) -> Result<Arc<Self>, Error> {
        let (store, Loaded { position, states, total, again, last_event, mut unsent, unindexed }) =
            load(settings.file.as_deref(), user_id, |event| remote.raise(event, None))?;
        let is_listed = watch::Sender::new(position.is_settled);
        let mut engine = SyncEngine::new(user_id, position, states);
        if settings.is_one_shot {
            // A short-lived session does not go on with the messages of another one: they have waited too long.
            unsent.iter_mut().for_each(|unsent| (unsent.row.ts, unsent.since_ms) = (i64::MIN, i64::MIN));
            engine = engine.without_pulls();
        }
        let user_id: Arc<str> = Arc::from(user_id);
        let shared = Arc::new(Shared {
            generation: AtomicU64::new(engine.generation()),
            is_listed,
            catch_up: watch::Sender::new(None),
            ahead_ms: AtomicI64::new(UNKNOWN),
            has_panicked: watch::Sender::new(false),
            watchers: Watchers::default(),
            rooms: Rooms::new(settings.is_one_shot),
            told: Told::default(),
        });
        let (deleting, rosters) = (Arc::new(Deleting::default()), Arc::new(Rosters::default()));
        let viewer = Viewer {
            user_id: Arc::clone(&user_id),
            device: settings.device,
            login_ms: clock.now_ms(),
            horizon_ms: 0,
            now_ms: 0,
            delivered: None,
            last_event,
            is_caught_up: false,
            heard: Heard::default(),
            deleting: Arc::clone(&deleting),
            rosters: Arc::clone(&rosters),
        };
        let (inbox, inputs) = mpsc::unbounded_channel();
        let parts = Parts {
            remote: remote.clone(),
            clock: clock.clone(),
            store: Arc::clone(&store),
            engine,
            viewer,
            shared: Arc::clone(&shared),
            total,
            inbox: inputs,
            resend_window_ms: settings.resend_window_ms,
            indexes: !settings.is_one_shot,
            unindexed,
            media: Arc::clone(&settings.media),
        };
        let task = tokio::spawn(AccountTask::new(parts).run_guarded(again, unsent));
        Ok(Arc::new(Self {
            user_id,
            remote,
            clock,
            store,
            inbox,
            frames: Arc::new(Semaphore::new(FRAMES)),
            places: Arc::new(Semaphore::new(QUEUED)),
            shared,
            queried_users: Mutex::new(Limiter::queried_users()),
            custom_statuses: Mutex::new(Limiter::new(1, CUSTOM_STATUS_MS)),
            resend_window_ms: settings.resend_window_ms,
            media: settings.media,
            searches: SearchPages::default(),
            transfer: tokio::sync::Mutex::default(),
            deleting,
            rosters,
            task: Mutex::new(Some(task)),
        }))
    }

    /// Starts to catch up after a login over a new connection, and sends the messages that wait. Returns at once;
    /// events report the rest. `is_named`: the login itself set the user's name.
    pub(crate) fn connected(&self, connection: u64, login: &LoginResult, is_named: bool, welcome: &Arc<Welcome>) {
        self.send(Input::Connected { connection, user: login.user.clone(), is_named, welcome: Arc::clone(welcome) });
    }

    /// Reports that the connection is lost.
    pub(crate) fn disconnected(&self) {
        self.send(Input::Disconnected);
    }

    /// Passes on a frame of the event stream; frames must arrive in order. Waits while the queue is full.
    pub(crate) async fn event_frame(&self, frame: EventFrame) {
        // Never fails: the semaphore is never closed.
        if let Ok(permit) = Arc::clone(&self.frames).acquire_owned().await {
            self.send(Input::Frame(frame, permit));
        }
    }

    /// Ends the task and closes the database. Messages that are being sent fail, unless `keeps_unsent`: the next login
    /// then goes on with them.
    pub(crate) async fn close(&self, keeps_unsent: bool) {
        let (done, closed) = oneshot::channel();
        self.send(Input::Close { done, keeps_unsent });
        // Fails when the task has ended already.
        let _ = closed.await;
        let task = self.task.lock().take();
        if let Some(task) = task {
            // It catches its panics.
            let _ = task.await;
        }
        // The task closes the database, unless it panicked.
        self.store.close().await;
    }

    /// Waits until a panic makes the account useless; returns the error for the app. Never returns if there is none.
    pub(crate) async fn panicked(&self) -> Error {
        let mut has_panicked = self.shared.has_panicked.subscribe();
        tokio::select! {
            error = self.store.panicked() => error,
            // Never fails: `self` holds the sender.
            _ = has_panicked.wait_for(|has_panicked| *has_panicked) => Error::new(
                ErrorCode::Failed,
                "the login has ended because the SDK panicked, which is a bug of the SDK; log in again",
            ),
        }
    }

    /// Returns the logged-in user.
    pub(crate) fn user_id(&self) -> &Arc<str> {
        &self.user_id
    }

    /// Returns whether requests can reach the server.
    pub(crate) fn is_online(&self) -> bool {
        self.remote.is_online()
    }

    pub(crate) fn remote(&self) -> &L {
        &self.remote
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns the server's time, as far as this device knows it.
    pub(crate) fn server_now_ms(&self) -> i64 {
        self.shared.server_now_ms(&self.clock)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn media(&self) -> &Http {
        &self.media
    }

    pub(crate) fn searches(&self) -> &SearchPages {
        &self.searches
    }

    pub(crate) fn transfer(&self) -> &tokio::sync::Mutex<()> {
        &self.transfer
    }

    /// Notes what this device asks the server to delete, until the answer is stored.
    pub(crate) fn deletes(&self, deleted: Deleted) -> OwnDeletion {
        let inbox = self.inbox.clone();
        self.deleting.begin(deleted, move |gone| {
            // Fails when the login has ended: no event is raised any more.
            let _ = inbox.send(Input::Local(Box::new(Local::Gone(gone)), Some(Vec::new()), Box::new(|_| ())));
        })
    }

    /// Ends the upload of a message. Returns false if nothing of it is being uploaded.
    pub(crate) async fn cancel(&self, key: Key) -> Result<bool, Error> {
        let (done, is_cancelled) = oneshot::channel();
        self.send(Input::Cancel(key, done));
        is_cancelled.await.map_err(|_| logged_out())
    }

    pub(crate) fn queried_users(&self) -> &Mutex<Limiter> {
        &self.queried_users
    }

    /// Notes that another user is about to be told that this one is writing. Returns false if they have just been told.
    pub(crate) fn tells_typing(&self, user_id: &str) -> bool {
        self.shared.told.tells(user_id, self.clock.steady_ms())
    }

    pub(crate) fn custom_statuses(&self) -> &Mutex<Limiter> {
        &self.custom_statuses
    }

    pub(crate) fn resend_window_ms(&self) -> i64 {
        self.resend_window_ms
    }

    /// Queues a message to be sent. Its place in the queue is taken at the call.
    pub(crate) fn submit(&self, submission: Submission) {
        self.send(Input::Send(Box::new(submission)));
    }

    /// The app can use the account from now on: handlers get the events that an earlier login did not deliver.
    pub(crate) fn accepted(&self) {
        self.send(Input::Accepted);
    }

    /// Reports that there was no place for a message with a key of the app, which may be the answer to an event.
    pub(crate) fn lost_message(&self) {
        self.send(Input::LostMessage);
    }

    /// Returns a place in the queue of messages.
    pub(crate) fn place(&self) -> Result<Place, Error> {
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let message = format!("{QUEUED} messages wait to be sent; wait until some of them are");
            Error::new(ErrorCode::CommonModuleTriggerSdkFrequencyLimit, message)
        })?;
        Ok(Place::new(permit, self.media.first.pass()))
    }

    /// Asks for the entries that `pushes` announce. Pushes in a response carry the user's own messages without content,
    /// because the task that sent a message has it; for a request that the task does not own, it has not.
    pub(crate) fn pull(&self, pushes: Vec<Push>) {
        let mut dirty = Dirty::default();
        for push in pushes {
            match push.log() {
                LogKind::Feed => dirty.feed = true,
                _ => dirty.conversations.extend(push.conversation),
            }
        }
        self.send(Input::Dirty(dirty));
    }

    /// Asks the server whether the device is still in a room, and what the room is.
    pub(crate) fn resume_room(&self, room_id: &str) {
        let name = ConversationRef { id: room_id.to_owned(), r#type: ConversationType::Room as i32 };
        self.send(Input::Dirty(Dirty { conversations: vec![name], ..Dirty::default() }));
    }

    /// Asks the server to let the device out of a room in which it may be, although the app is not; then, whether it is still in the
    /// room that it would have `left` for that one.
    pub(crate) fn leave_stray(&self, room_id: &str, left: Option<&str>) {
        self.send(Input::Stray { room_id: room_id.to_owned(), left: left.map(str::to_owned) });
    }

    /// Sends a request at the call. The task owns it: dropping the future drops only the answer. The future resolves when
    /// the log entries that the request caused are in the local database.
    pub(crate) fn request<R: Rpc + Send + Sync>(
        &self,
        request: R,
    ) -> impl Future<Output = Result<R::Response, Error>> + Send + 'static + use<L, R>
    where
        R::Response: Send,
    {
        let response = self.remote.request(None, request);
        let (reply, answer) = oneshot::channel();
        // The app may have stopped waiting, so sending a reply may fail.
        let request = async move {
            match response.await {
                Ok((response, pushes)) => {
                    let stored = move |stored: Result<(), Error>| drop(reply.send(stored.map(|()| response)));
                    Done::Answered { pushes, stored: Box::new(stored) }
                }
                Err(error) => {
                    drop(reply.send(Err(error)));
                    Done::Nothing
                }
            }
        };
        self.send(Input::Request(Box::pin(request)));
        async move { answer.await.map_err(|_| logged_out())? }
    }

    /// Runs `work` in the task: dropping the future drops only the answer.
    pub(crate) fn own<T, W>(&self, work: W) -> impl Future<Output = Result<T, Error>> + Send + 'static + use<L, T, W>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work = async move {
            // The app may have stopped waiting.
            drop(reply.send(work.await));
            Done::Nothing
        };
        self.send(Input::Request(Box::pin(work)));
        async move { answer.await.map_err(|_| logged_out())? }
    }

    /// Stores members of a group that the server sent.
    pub(crate) async fn store_members(&self, group_id: String, members: Vec<GroupMemberInfo>) -> Result<(), Error> {
        self.ask(|done| Input::Members(group_id, members, done)).await
    }

    /// Notes that a page of the members of a group is about to be requested.
    pub(crate) fn await_members(&self, group_id: &str) -> Arc<Awaited> {
        self.rosters.begin(group_id)
    }

    /// Stores a page of the members of a group.
    pub(crate) async fn store_member_page(
        &self,
        group_id: String,
        page: MemberPage,
        awaited: Arc<Awaited>,
    ) -> Result<(), Error> {
        self.ask(|done| Input::MemberPage(group_id, Box::new((page, awaited)), done)).await
    }

    /// Stores profiles that the server sent.
    pub(crate) async fn store_users(&self, users: Vec<UserFullInfo>) -> Result<(), Error> {
        self.ask(|done| Input::Users(users, done)).await
    }

    /// Stores the user's own status, as a request of this device changed it.
    pub(crate) async fn store_own_status(&self, status: UserStatus) -> Result<(), Error> {
        self.ask(|done| Input::OwnStatus(status, done)).await
    }

    /// Changes what this device has. `uncounted` are the positions that no longer count as unread; `None`: all.
    pub(crate) async fn change_here(&self, local: Local, uncounted: Option<Vec<u64>>) -> Result<(), Error> {
        self.ask(|done| Input::Local(Box::new(local), uncounted, done)).await
    }

    /// Changes what only this device has in its list of conversations.
    pub(crate) async fn edit(&self, edit: Edit) -> Result<(), Error> {
        self.ask(|done| Input::Edit(edit, done)).await
    }

    /// Fetches a page of history of a conversation that is in the store. Returns whether the page covers any position.
    pub(crate) async fn fill(&self, name: &Name, is_older: bool, anchor: u64, count: usize) -> Result<bool, Error> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        let (fill, _) = self.remote.request(None, fill_request(name.to_ref(), is_older, anchor, count)).await?;
        let covers_any = fill.from <= fill.to && fill.to > 0;
        self.ask(|done| Input::Filled { name: name.clone(), generation, fill, done }).await?;
        Ok(covers_any)
    }

    /// Adds an observer of the messages of a conversation, or of the list of conversations.
    pub(crate) fn watch(&self, of: Option<Name>) -> Wake {
        self.shared.watchers.watch(of)
    }

    /// Waits until the list of conversations has been complete once, or cannot be completed for now. A fresh device has
    /// an empty store before that.
    pub(crate) async fn listed(&self) {
        if self.remote.is_online() {
            // Fails when the task has ended; then nothing more arrives.
            let _ = self.shared.is_listed.subscribe().wait_for(|is_listed| *is_listed).await;
        }
    }

    /// Waits until this login has caught up once. Fails if that failed; a lost connection is waited for.
    pub(crate) async fn caught_up(&self) -> Result<(), Error> {
        let mut catch_up = self.shared.catch_up.subscribe();
        let ended = catch_up.wait_for(Option::is_some).await;
        // Never `None`, and never fails: `self` holds the sender.
        ended.ok().and_then(|ended| ended.clone()).unwrap_or_else(|| Err(logged_out()))
    }

    fn send(&self, input: Input) {
        // Fails when the login has ended. A caller that waits for an answer notices the dropped sender.
        let _ = self.inbox.send(input);
    }

    async fn ask(&self, input: impl FnOnce(Stored) -> Input) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        // The app may have stopped waiting.
        self.send(input(Box::new(move |stored| drop(done.send(stored)))));
        answer.await.map_err(|_| logged_out())?
    }
}

/// Builds the request for a page of history.
pub(crate) fn fill_request(conversation: ConversationRef, is_older: bool, anchor: u64, count: usize) -> FillRequest {
    let count = u32::try_from(count.clamp(1, 100)).unwrap_or(100);
    FillRequest { conversation: Some(conversation), reverse: is_older, anchor, count }
}

/// The error of a request whose login has ended.
pub(crate) fn logged_out() -> Error {
    Error::new(ErrorCode::NetworkModuleUserIsNotLogged, "no user is logged in; log in first")
}

/// One file per app and user. User ids may contain characters that a file system refuses or treats as equal, so the
/// name is in hex.
fn database_file(folder: PathBuf, app_id: u32, user_id: &str) -> PathBuf {
    folder.join(format!("{app_id}-{}.db", zim_protocol::id::hex(user_id.as_bytes())))
}

#[cfg(test)]
mod tests;
