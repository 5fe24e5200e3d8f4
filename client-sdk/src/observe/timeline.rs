//! The messages of one conversation, as they change.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{Stream, stream};
use parking_lot::Mutex;
use tokio::sync::Notify;
use zim_protocol::{Message, MessageQueryConfig};

use super::diff::Diff;
use super::observed::Observed;
use super::view::{self, Floor, Missing, View, Wish};
use crate::account::{Account, Remote, Wake};
use crate::error::Error;
use crate::message::history;
use crate::store::conversation;
use crate::types::Name;

/// The newest messages of one conversation, oldest first, and each change of them: new messages, own ones that are being
/// sent and their states, and revoked ones.
///
/// It shows messages without a gap up to the end of the conversation. What is shown stays while messages arrive. After a
/// long absence it may start anew at the newest messages ([`Diff::Reset`]); [`Timeline::load_older`] leads back to those
/// before. Own messages are shown from the moment they are sent, even while those before them are still on their way.
///
/// It is made by [`Zim::observe_timeline`](crate::Zim::observe_timeline). It is also a [`Stream`].
pub struct Timeline {
    observed: Observed<Message>,
    load_older: LoadOlder,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type LoadOlder = Box<dyn Fn(usize) -> BoxFuture<Result<usize, Error>> + Send + Sync>;

impl std::fmt::Debug for Timeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timeline").field("observed", &self.observed).finish_non_exhaustive()
    }
}

/// What the app wants to see.
#[derive(Debug)]
struct Window {
    limit: usize,
    floor: Mutex<Floor>,
    /// The floor was lowered.
    moved: Notify,
}

impl Timeline {
    pub(crate) async fn open<L: Remote>(account: Arc<Account<L>>, name: Name, limit: usize) -> Result<Self, Error> {
        // Before the first read, so that no change is lost between that and the next one.
        let woken = account.watch(Some(name.clone()));
        let window = Arc::new(Window { limit, floor: Mutex::default(), moved: Notify::new() });
        let (owner, of, shared) = (Arc::clone(&account), name.clone(), Arc::clone(&window));
        let load_older = move |count| -> BoxFuture<Result<usize, Error>> {
            let work = load_older(Arc::clone(&owner), of.clone(), Arc::clone(&shared), count);
            Box::pin(owner.own(work))
        };
        let mut reader = Reader { account, name, window, woken, asking: None, asked: None, answered: None };
        let view = reader.read().await?;
        let items = reader.accept(view);
        let fresh = stream::unfold(reader, async |mut reader| reader.next().await.map(|items| (items, reader)));
        Ok(Self { observed: Observed::new(items, fresh), load_older: Box::new(load_older) })
    }

    /// Returns the messages: those at the beginning, with all changes that [`Timeline::next`] has returned.
    pub fn items(&self) -> &[Message] {
        self.observed.items()
    }

    /// Waits for changes of the messages and returns them; apply them in their order ([`Diff::apply`]). Changes since the
    /// last call come together. Returns `None` when the login has ended.
    ///
    /// This method is cancel safe: dropping the future loses no change.
    pub async fn next(&mut self) -> Option<Vec<Diff<Message>>> {
        std::future::poll_fn(|context| self.observed.poll_next(context)).await
    }

    /// Shows `count` older messages; [`Timeline::next`] returns them. Those that this device does not hold come from the
    /// server. Acts at the call: dropping the future drops only the answer, so it may be awaited while another task waits for
    /// changes, or not at all.
    ///
    /// The future resolves with the number of messages that were found. With fewer than `count`, either the beginning of the
    /// conversation is reached, or there is no connection to ask for those before.
    ///
    /// # Errors
    /// The login has ended, or the server refused the request.
    pub fn load_older(&self, count: usize) -> impl Future<Output = Result<usize, Error>> + Send + 'static + use<> {
        (self.load_older)(count)
    }
}

impl Stream for Timeline {
    type Item = Vec<Diff<Message>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.observed.poll_next(context)
    }
}

async fn load_older<L: Remote>(
    account: Arc<Account<L>>,
    name: Name,
    window: Arc<Window>,
    count: usize,
) -> Result<usize, Error> {
    account.listed().await;
    let of = name.clone();
    if account.store().read(move |db| conversation::id(db, &of)).await?.is_none() {
        // The list has no such conversation, so there is nothing to show. A query would return what the server has, without
        // storing it.
        return Ok(0);
    }
    let from = window.floor.lock().clone();
    let oldest = from.order_key.map(|order_key| Message { order_key, ..Message::default() });
    let config = MessageQueryConfig { next_message: oldest, reverse: true, ..MessageQueryConfig::default() };
    let page = history(&account, &name, &config, count).await?;
    if let Some(first) = page.first() {
        // The epoch may have changed since the last read.
        let epoch = account.store().read(conversation::epoch).await?;
        let mut floor = window.floor.lock();
        if floor.epoch != epoch || floor.order_key.is_none_or(|lowest| first.order_key < lowest) {
            *floor = Floor { epoch, order_key: Some(first.order_key) };
        }
        window.moved.notify_one();
    }
    Ok(page.len())
}

/// Reads what the timeline shows, and requests what is missing.
struct Reader<L: Remote> {
    account: Arc<Account<L>>,
    name: Name,
    window: Arc<Window>,
    woken: Wake,
    /// A request for missing messages. Returns whether the server answered.
    asking: Option<BoxFuture<bool>>,
    /// The last such request: its connection and anchor. One that failed is repeated over the next connection.
    asked: Option<(u64, u64)>,
    /// The last one that was answered.
    answered: Option<(u64, u64)>,
}

impl<L: Remote> Reader<L> {
    /// Waits until the messages may have changed, and returns them.
    async fn next(&mut self) -> Option<Vec<Message>> {
        loop {
            let Self { asking, woken, window, .. } = self;
            let answer = async {
                match asking {
                    Some(asking) => asking.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                woken = woken.changed() => woken.ok()?,
                () = window.moved.notified() => {}
                is_answered = answer => {
                    self.asking = None;
                    self.answered = self.asked.filter(|_| is_answered);
                }
            }
            match self.read().await {
                Ok(view) => return Some(self.accept(view)),
                Err(error) => tracing::debug!(%error, "an observed conversation cannot be read"),
            }
        }
    }

    async fn read(&mut self) -> Result<(Floor, View), Error> {
        let connection = *self.woken.borrow();
        let floor = self.window.floor.lock().clone();
        let answered = self.answered.filter(|(of, _)| *of == connection).map(|(_, anchor)| anchor);
        let wish = Wish { floor: floor.clone(), limit: self.window.limit, answered };
        let (viewer, name) = (Arc::clone(self.account.user_id()), self.name.clone());
        let view = self.account.store().read(move |db| view::read(db, &viewer, &name, &wish)).await?;
        Ok((floor, view))
    }

    /// Takes over what was read with this floor.
    fn accept(&mut self, (floor, view): (Floor, View)) -> Vec<Message> {
        {
            let mut current = self.window.floor.lock();
            // Otherwise it was lowered meanwhile, and the next read follows at once.
            if *current == floor {
                *current = view.floor;
            }
        }
        if let Some(missing) = view.missing {
            self.ask(missing);
        }
        view.messages
    }

    fn ask(&mut self, Missing { anchor, count }: Missing) {
        let request = (*self.woken.borrow(), anchor);
        if self.asking.is_some() || self.asked == Some(request) || !self.account.is_online() {
            return;
        }
        self.asked = Some(request);
        let (account, name) = (Arc::clone(&self.account), self.name.clone());
        self.asking = Some(Box::pin(async move {
            let filled = account.fill(&name, true, anchor, count).await;
            if let Err(error) = &filled {
                tracing::debug!(%error, "messages of an observed conversation cannot be loaded");
            }
            filled.is_ok()
        }));
    }
}
