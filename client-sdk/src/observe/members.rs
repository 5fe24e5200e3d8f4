//! The members of a group, as they change.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::{Stream, stream};
use tokio::sync::Notify;
use zim_protocol::{GroupMemberInfo, GroupMemberQueryConfig, QueryGroupMemberListRequest};

use super::diff::Diff;
use super::observed::Observed;
use crate::account::{Account, Remote, Wake};
use crate::error::Error;
use crate::store::member_list::{self, Listed, MemberPage};
use crate::types::Name;

/// The members of a page, at most.
const PAGE: usize = 100;
/// How long a request waits that follows a failed one.
const PAUSE_MS: i64 = 1_000;

/// The first members of a group, in the order in which they entered, as
/// [`Zim::query_group_member_list`](crate::Zim::query_group_member_list) returns them, and each change of them.
///
/// What is shown stays while the list is loaded anew, which happens after a long absence. When the user leaves or is removed, or the
/// group is dismissed, all members are gone; the list is filled again if the user returns.
///
/// It is made by [`Zim::observe_group_members`](crate::Zim::observe_group_members). It is also a [`Stream`].
#[derive(Debug)]
pub struct MemberList {
    observed: Observed<GroupMemberInfo>,
    window: Arc<Window>,
}

/// What the app wants to see.
#[derive(Debug)]
struct Window {
    limit: AtomicUsize,
    /// The app wants to see more.
    moved: Notify,
}

impl MemberList {
    pub(crate) async fn open<L: Remote>(account: Arc<Account<L>>, name: Name, limit: usize) -> Result<Self, Error> {
        // Before the first read, so that no change is lost between that and the next one.
        let woken = account.watch(Some(name.clone()));
        let window = Arc::new(Window { limit: AtomicUsize::new(limit), moved: Notify::new() });
        let mut reader =
            Reader { account, name, window: Arc::clone(&window), woken, asking: None, shown: 0, is_anew: false };
        let listed = reader.read().await?;
        let items = reader.accept(listed).unwrap_or_default();
        let fresh = stream::unfold(reader, async |mut reader| reader.next().await.map(|items| (items, reader)));
        Ok(Self { observed: Observed::new(items, fresh), window })
    }

    /// Returns the members: those at the beginning, with all changes that [`MemberList::next`] has returned.
    pub fn items(&self) -> &[GroupMemberInfo] {
        self.observed.items()
    }

    /// Waits for changes of the list and returns them; apply them in their order ([`Diff::apply`]). Changes since the last
    /// call come together. Returns `None` when the login has ended.
    ///
    /// This method is cancel safe: dropping the future loses no change.
    pub async fn next(&mut self) -> Option<Vec<Diff<GroupMemberInfo>>> {
        std::future::poll_fn(|context| self.observed.poll_next(context)).await
    }

    /// Shows `count` more members, if there are that many; [`MemberList::next`] returns them.
    pub fn load_more(&self, count: usize) {
        let more = |limit: usize| Some(limit.saturating_add(count));
        // Never fails: there is always a new limit.
        let _ = self.window.limit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        self.window.moved.notify_one();
    }
}

impl Stream for MemberList {
    type Item = Vec<Diff<GroupMemberInfo>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.observed.poll_next(context)
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Reads the members, and requests those that are missing.
struct Reader<L: Remote> {
    account: Arc<Account<L>>,
    name: Name,
    window: Arc<Window>,
    woken: Wake,
    /// A request for a page, and the number of its connection.
    asking: Option<(u64, BoxFuture<()>)>,
    /// The number of members that are shown.
    shown: usize,
    /// The list is loaded anew. Until it is, what is shown stays.
    is_anew: bool,
}

impl<L: Remote> Reader<L> {
    /// Waits until the members may have changed, and returns them.
    async fn next(&mut self) -> Option<Vec<GroupMemberInfo>> {
        loop {
            let Self { asking, woken, window, .. } = self;
            let answer = async {
                match asking {
                    Some((_, asking)) => asking.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                woken = woken.changed() => woken.ok()?,
                () = window.moved.notified() => {}
                () = answer => self.asking = None,
            }
            match self.read().await {
                Ok(listed) => {
                    if let Some(members) = self.accept(listed) {
                        return Some(members);
                    }
                }
                Err(error) => tracing::debug!(%error, "observed members cannot be read"),
            }
        }
    }

    fn limit(&self) -> usize {
        self.window.limit.load(Ordering::Relaxed)
    }

    async fn read(&mut self) -> Result<Option<Listed>, Error> {
        let (id, limit, now_ms) = (Arc::clone(&self.name.id), self.limit(), self.account.server_now_ms());
        self.account.store().read(move |db| member_list::read(db, &id, limit, now_ms)).await
    }

    /// Returns what is to be shown; `None`: what is shown stays until more is loaded.
    fn accept(&mut self, listed: Option<Listed>) -> Option<Vec<GroupMemberInfo>> {
        let Listed { members, next } = listed.unwrap_or_default();
        let missing = next.filter(|_| members.len() < self.limit());
        match missing {
            // From the beginning.
            Some(0) => self.is_anew = true,
            Some(_) => {}
            None => self.is_anew = false,
        }
        if let Some(after) = missing {
            self.ask(after);
            if self.is_anew && members.len() < self.shown {
                return None;
            }
        }
        self.shown = members.len();
        Some(members)
    }

    fn ask(&mut self, after: i64) {
        let connection = *self.woken.borrow();
        // One that failed waits, but not beyond the next connection.
        let is_asking = self.asking.as_ref().is_some_and(|(of, _)| *of == connection);
        if is_asking || !self.account.is_online() {
            return;
        }
        let wanted = self.limit().min(PAGE);
        let (account, group_id) = (Arc::clone(&self.account), self.name.id.to_string());
        let asking = async move {
            if let Err(error) = load(&account, group_id, after, wanted).await {
                tracing::debug!(%error, "members of an observed group cannot be loaded");
                let clock = account.clock();
                clock.sleep_until_steady(clock.steady_ms().saturating_add(PAUSE_MS)).await;
            }
        };
        self.asking = Some((connection, Box::pin(asking)));
    }
}

/// Loads the page after a cursor.
async fn load<L: Remote>(account: &Account<L>, group_id: String, after: i64, count: usize) -> Result<(), Error> {
    let awaited = account.await_members(&group_id);
    let config = GroupMemberQueryConfig { next_flag: after, count: i64::try_from(count).unwrap_or(i64::MAX) };
    let request = QueryGroupMemberListRequest { group_id: group_id.clone(), config: Some(config) };
    let found = account.request(request).await?;
    let page = MemberPage { after, members: found.user_list, next: found.next_flag };
    account.store_member_page(group_id, page, awaited).await
}
