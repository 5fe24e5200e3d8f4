//! The list of conversations, as it changes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::{Stream, stream};
use tokio::sync::Notify;
use zim_protocol::{Conversation, ConversationFilterOption};

use super::diff::Diff;
use super::observed::Observed;
use crate::account::{Account, Remote};
use crate::error::Error;
use crate::store::conversation;
use crate::store::group::mute_at;

/// The first conversations of the list, pinned ones first, then newest first, as
/// [`Zim::query_conversation_list`](crate::Zim::query_conversation_list) returns them, and each change of them.
///
/// It is made by [`Zim::observe_conversations`](crate::Zim::observe_conversations). It is also a [`Stream`].
#[derive(Debug)]
pub struct ConversationList {
    observed: Observed<Conversation>,
    window: Arc<Window>,
}

/// What the app wants to see.
#[derive(Debug)]
struct Window {
    limit: AtomicUsize,
    /// The app wants to see more.
    moved: Notify,
}

impl ConversationList {
    pub(crate) async fn open<L: Remote>(account: Arc<Account<L>>, limit: usize) -> Result<Self, Error> {
        // Before the first read, so that no change is lost between that and the next one.
        let woken = account.watch(None);
        let window = Arc::new(Window { limit: AtomicUsize::new(limit), moved: Notify::new() });
        let items = read(&account, &window).await?;
        let state = (account, Arc::clone(&window), woken);
        let fresh = stream::unfold(state, async |(account, window, mut woken)| {
            loop {
                tokio::select! {
                    woken = woken.changed() => woken.ok()?,
                    () = window.moved.notified() => {}
                }
                match read(&account, &window).await {
                    Ok(items) => return Some((items, (account, window, woken))),
                    Err(error) => tracing::debug!(%error, "an observed list cannot be read"),
                }
            }
        });
        Ok(Self { observed: Observed::new(items, fresh), window })
    }

    /// Returns the conversations: those at the beginning, with all changes that [`ConversationList::next`] has returned.
    pub fn items(&self) -> &[Conversation] {
        self.observed.items()
    }

    /// Waits for changes of the list and returns them; apply them in their order ([`Diff::apply`]). Changes since the last
    /// call come together. Returns `None` when the login has ended.
    ///
    /// This method is cancel safe: dropping the future loses no change.
    pub async fn next(&mut self) -> Option<Vec<Diff<Conversation>>> {
        std::future::poll_fn(|context| self.observed.poll_next(context)).await
    }

    /// Shows `count` more conversations, if there are that many; [`ConversationList::next`] returns them.
    pub fn load_more(&self, count: usize) {
        let more = |limit: usize| Some(limit.saturating_add(count));
        // Never fails: there is always a new limit.
        let _ = self.window.limit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        self.window.moved.notify_one();
    }
}

impl Stream for ConversationList {
    type Item = Vec<Diff<Conversation>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.observed.poll_next(context)
    }
}

async fn read<L: Remote>(account: &Account<L>, window: &Window) -> Result<Vec<Conversation>, Error> {
    let (viewer, limit) = (Arc::clone(account.user_id()), window.limit.load(Ordering::Relaxed));
    let filter = ConversationFilterOption::default();
    let list = account.store().read(move |db| conversation::list(db, &viewer, None, limit, &filter)).await?;
    // There is no anchor that could be missing.
    let mut list = list.unwrap_or_default();
    let now_ms = account.server_now_ms();
    list.iter_mut().for_each(|one| one.muted_expired_time = mute_at(one.muted_expired_time, now_ms));
    Ok(list)
}
