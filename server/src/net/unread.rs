//! What all sessions together make the server hold of answers that nobody has read yet, and of pages that are being read for
//! them. Each session alone is bounded, but their number would multiply it: a client that asks for pages and reads none of them
//! makes the server hold megabytes, and it may have many sessions.
//!
//! So there is one budget, and each user has a share of it, across all of the user's sessions. A read starts only when there is
//! room for a long answer in both, and waits for it in the order of arrival. When its answer is there, the answer's own
//! bytes are what is held, until the client has acknowledged them. Answers to writes are counted as well, but no write waits: sending goes on
//! while readers wait. What they take beyond the budget is a debt that is paid before the next read starts.
//!
//! When a read has waited for a while, sessions that hold answers and take next to nothing of them are closed ([`Claim::wanted`]):
//! a crowd of stalled clients keeps nobody from reading for as long as a client may otherwise be slow.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use metrics::{Gauge, gauge};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::key::UserKey;
use crate::service::sync::PAGE_BYTES;

pub(super) const GAUGE: &str = "zim_unread_bytes";

/// What a read reserves until its answer is there: a page, and an entry that is longer than the rest of one. A list of a hundred
/// friends or ten of the longest messages are no longer. A sync alone may be, as it holds up to three pages: what it takes
/// beyond this is counted when it is there.
const READ_BYTES: usize = PAGE_BYTES + (128 << 10);
/// The same for a semaphore.
const READ_PERMITS: u32 = 384 << 10;
const _: () = assert!(READ_PERMITS as usize == READ_BYTES);
/// A user's share is this part of the budget, and one read at least.
const SHARES: usize = 32;
/// So little is not counted: it is within what a connection costs anyway, the answers of most clients are never more, and the
/// counters are not touched for them.
pub(super) const UNCOUNTED_BYTES: usize = 4 << 10;

/// Room for so many bytes.
#[derive(Debug)]
struct Pool {
    room: Arc<Semaphore>,
    /// What was taken beyond the room.
    debt: AtomicUsize,
    /// Reads that have waited for room for so long that somebody should make some.
    wanting: AtomicUsize,
    wanted: Notify,
}

impl Pool {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            room: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            debt: AtomicUsize::new(0),
            wanting: AtomicUsize::new(0),
            wanted: Notify::new(),
        })
    }

    /// Takes so many bytes, whether there is room for them or not.
    fn take(&self, bytes: usize) {
        let taken = self.room.forget_permits(bytes);
        if taken < bytes {
            self.debt.fetch_add(bytes - taken, Ordering::Relaxed);
        }
    }

    fn give_back(&self, bytes: usize) {
        let pay = |debt: usize| Some(debt.saturating_sub(bytes));
        let debt = match self.debt.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.debt.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).unwrap_or_default(),
        };
        if bytes > debt {
            self.room.add_permits(bytes - debt);
        }
    }

    /// Room for a read, when all who came before have theirs. One that waits longer than `patience` says so.
    async fn room(self: Arc<Self>, patience: Duration) -> OwnedSemaphorePermit {
        let mut room = Box::pin(Arc::clone(&self.room).acquire_many_owned(READ_PERMITS));
        let room = match timeout(patience, &mut room).await {
            Ok(room) => room,
            Err(_) => {
                let _wanting = Wanting::new(&self);
                room.await
            }
        };
        match room {
            Ok(room) => room,
            // It is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    async fn wanted(&self) {
        loop {
            let mut wanted = std::pin::pin!(self.wanted.notified());
            // Before the look, or else a read that begins to want between the two would not be heard.
            wanted.as_mut().enable();
            if self.wanting.load(Ordering::SeqCst) > 0 {
                return;
            }
            wanted.await;
        }
    }
}

/// A read that wants room.
struct Wanting<'a>(&'a Pool);

impl<'a> Wanting<'a> {
    fn new(pool: &'a Pool) -> Self {
        pool.wanting.fetch_add(1, Ordering::SeqCst);
        pool.wanted.notify_waiters();
        Self(pool)
    }
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        self.0.wanting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The budget.
#[derive(Debug)]
pub(super) struct Unread {
    all: Arc<Pool>,
    most_of_user: usize,
    /// The shares of those who are logged in, with their number of sessions.
    users: Mutex<HashMap<UserKey, (Arc<Pool>, usize)>>,
    /// How long a read waits before somebody has to make room for it.
    patience: Duration,
    bytes: AtomicUsize,
    gauge: Gauge,
}

impl Unread {
    /// `most` bytes for all.
    pub(super) fn new(most: usize, patience: Duration) -> Self {
        Self {
            all: Pool::new(most),
            most_of_user: (most / SHARES).max(READ_BYTES),
            users: Mutex::default(),
            patience,
            bytes: AtomicUsize::new(0),
            gauge: gauge!(GAUGE),
        }
    }

    /// What a session of `user` holds: nothing yet.
    pub(super) fn share(&self, user: UserKey) -> Share<'_> {
        let mut users = self.users.lock();
        let (of_user, sessions) = users.entry(user).or_insert_with(|| (Pool::new(self.most_of_user), 0));
        *sessions += 1;
        let claim = Claim { user: Arc::clone(of_user), all: Arc::clone(&self.all) };
        Share { unread: self, user, claim, held: 0, waiting: None }
    }

    /// What all sessions hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Where what a session holds is counted.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    user: Arc<Pool>,
    all: Arc<Pool>,
}

impl Claim {
    fn try_room(&self) -> bool {
        let Ok(of_user) = self.user.room.try_acquire_many(READ_PERMITS) else { return false };
        let Ok(of_all) = self.all.room.try_acquire_many(READ_PERMITS) else { return false };
        of_user.forget();
        of_all.forget();
        true
    }

    /// Room in the user's share first: whoever waits for that is in nobody else's way.
    async fn room(self, patience: Duration) {
        let of_user = self.user.room(patience).await;
        let of_all = self.all.room(patience).await;
        of_user.forget();
        of_all.forget();
    }

    /// Returns when a read has waited for a while for the room that this session takes.
    pub(super) async fn wanted(&self) {
        tokio::select! {
            () = self.user.wanted() => {}
            () = self.all.wanted() => {}
        }
    }
}

/// What one session holds; given back whatever becomes of it.
pub(super) struct Share<'a> {
    unread: &'a Unread,
    user: UserKey,
    claim: Claim,
    held: usize,
    /// Of the next read, if there is no room for it.
    waiting: Option<BoxFuture<'static, ()>>,
}

impl Share<'_> {
    /// Room for another read. Whoever begins to wait goes on until there is room, or calls [`Share::stop_waiting`].
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.is_none() && self.claim.try_room() {
            self.count(READ_BYTES);
            return Poll::Ready(());
        }
        let waiting = self.waiting.get_or_insert_with(|| self.claim.clone().room(self.unread.patience).boxed());
        if waiting.poll_unpin(cx).is_pending() {
            return Poll::Pending;
        }
        self.waiting = None;
        self.count(READ_BYTES);
        Poll::Ready(())
    }

    /// There is no read that could start: what was put aside for it is for others.
    pub(super) fn stop_waiting(&mut self) {
        self.waiting = None;
    }

    /// So many reads are in progress, and so many bytes of answers wait.
    pub(super) fn set(&mut self, reads: usize, answers: usize) {
        let answers = if answers > UNCOUNTED_BYTES { answers } else { 0 };
        let held = reads * READ_BYTES + answers;
        if held > self.held {
            let more = held - self.held;
            self.claim.user.take(more);
            self.claim.all.take(more);
            self.count(more);
        } else {
            self.give_back(self.held - held);
        }
    }

    /// More is held than there is room for, of this user or of all.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.claim.user.debt.load(Ordering::Relaxed) > 0 || self.claim.all.debt.load(Ordering::Relaxed) > 0
    }

    /// Where it is counted.
    pub(super) fn claim(&self) -> Claim {
        self.claim.clone()
    }

    /// What was taken.
    fn count(&mut self, bytes: usize) {
        self.held += bytes;
        self.unread.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.unread.gauge.increment(as_f64(bytes));
    }

    fn give_back(&mut self, bytes: usize) {
        if bytes > 0 {
            self.held -= bytes;
            self.unread.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.unread.gauge.decrement(as_f64(bytes));
            self.claim.user.give_back(bytes);
            self.claim.all.give_back(bytes);
        }
    }
}

impl std::fmt::Debug for Share<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Share").field("user", &self.user).field("held", &self.held).finish_non_exhaustive()
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.stop_waiting();
        self.give_back(self.held);
        let mut users = self.unread.users.lock();
        if let Some((_, sessions)) = users.get_mut(&self.user) {
            *sessions -= 1;
            if *sessions == 0 {
                users.remove(&self.user);
            }
        }
    }
}

/// A session holds no more than some frames.
fn as_f64(bytes: usize) -> f64 {
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// What makes a user's share one read.
    const ONE_READ: usize = SHARES * READ_BYTES;
    const PATIENCE: Duration = Duration::from_secs(1);

    fn user(number: i64) -> UserKey {
        UserKey(number)
    }

    fn has_room(share: &mut Share<'_>) -> bool {
        poll_fn(|cx| share.poll_room(cx)).now_or_never().is_some()
    }

    /// Reads of `share` that can start.
    fn reads(share: &mut Share<'_>) -> usize {
        let reads = (0..100).take_while(|_| has_room(share)).count();
        share.stop_waiting();
        reads
    }

    fn debts(share: &Share<'_>) -> (usize, usize) {
        let debt = |pool: &Pool| pool.debt.load(Ordering::Relaxed);
        (debt(&share.claim.user), debt(&share.claim.all))
    }

    fn room(unread: &Unread) -> usize {
        unread.all.room.available_permits()
    }

    #[tokio::test]
    async fn a_user_has_a_share_across_sessions_and_all_have_the_whole() {
        let unread = Unread::new(2 * ONE_READ, PATIENCE);
        let (mut one, mut two) = (unread.share(user(1)), unread.share(user(1)));
        assert_eq!((reads(&mut one), reads(&mut two)), (2, 0));
        let mut others: Vec<_> = (2..=32).map(|number| unread.share(user(number))).collect();
        assert!(others.iter_mut().all(|other| reads(other) == 2));
        assert_eq!((unread.bytes(), room(&unread)), (2 * ONE_READ, 0));
        assert_eq!(reads(&mut unread.share(user(33))), 0);
        // A byte less is not enough.
        let unread = Unread::new(2 * ONE_READ - SHARES, PATIENCE);
        assert_eq!(reads(&mut unread.share(user(1))), 1);
        // One read always has room, or a user could never read.
        let unread = Unread::new(ONE_READ / 2, PATIENCE);
        assert_eq!(reads(&mut unread.share(user(1))), 1);
    }

    #[tokio::test]
    async fn an_answer_takes_its_own_bytes_and_then_none() {
        let unread = Unread::new(ONE_READ, PATIENCE);
        let (mut one, mut two) = (unread.share(user(1)), unread.share(user(2)));
        assert!(has_room(&mut one) && has_room(&mut two));
        one.set(0, 200_000);
        assert_eq!(unread.bytes(), READ_BYTES + 200_000);
        assert!(!has_room(&mut one), "what is left of the share is less than a read");
        one.set(0, UNCOUNTED_BYTES + 1);
        assert_eq!(unread.bytes(), READ_BYTES + UNCOUNTED_BYTES + 1);
        one.set(0, UNCOUNTED_BYTES);
        assert_eq!(unread.bytes(), READ_BYTES);
        assert!(has_room(&mut one));
        one.set(1, 0);
        two.set(0, 0);
        assert_eq!(unread.bytes(), READ_BYTES);
        // A long sync.
        one.set(0, 900_000);
        assert_eq!((unread.bytes(), debts(&one)), (900_000, (900_000 - READ_BYTES, 0)));
    }

    #[tokio::test]
    async fn a_session_gives_everything_back_at_its_end() {
        let unread = Unread::new(ONE_READ, PATIENCE);
        let (mut one, mut two) = (unread.share(user(1)), unread.share(user(1)));
        assert!(has_room(&mut one) && !has_room(&mut two));
        one.set(1, 300_000);
        assert_eq!(debts(&one), (300_000, 0));
        drop(one);
        // The one that waits has it now, though it has not looked yet: it gives that back, too.
        assert_eq!((unread.bytes(), unread.users.lock().len()), (0, 1));
        drop(two);
        assert_eq!((unread.bytes(), room(&unread), unread.users.lock().len()), (0, ONE_READ, 0));
    }

    #[tokio::test]
    async fn those_who_wait_have_their_turn_in_order_and_nobody_overtakes() {
        let unread = Unread::new(ONE_READ, PATIENCE);
        let [mut holder, mut first, mut second] = [1, 1, 1].map(|number| unread.share(user(number)));
        assert!(has_room(&mut holder) && !has_room(&mut first) && !has_room(&mut second));
        holder.set(0, 0);
        assert!(!has_room(&mut holder) && !has_room(&mut second));
        assert!(has_room(&mut first));
        // One that waits no longer is in nobody's way.
        second.stop_waiting();
        first.set(0, 0);
        assert!(has_room(&mut holder));
        assert!(!has_room(&mut second) && !has_room(&mut first));
        drop(second);
        holder.set(0, 0);
        assert!(has_room(&mut first));
    }

    #[tokio::test]
    async fn users_have_their_turn_in_order_too() {
        let unread = Unread::new(2 * ONE_READ, PATIENCE);
        let mut holders: Vec<_> = (1..=32).map(|number| unread.share(user(number))).collect();
        assert!(holders.iter_mut().all(|holder| reads(holder) == 2));
        let (mut first, mut second) = (unread.share(user(33)), unread.share(user(34)));
        assert!(!has_room(&mut first) && !has_room(&mut second));
        // It has room in its own share then, and comes behind them.
        holders[0].set(1, 0);
        assert!(!has_room(&mut holders[0]) && !has_room(&mut second));
        assert!(has_room(&mut first));
        holders[1].set(1, 0);
        assert!(!has_room(&mut holders[0]));
        assert!(has_room(&mut second));
        holders[2].set(1, 0);
        assert!(has_room(&mut holders[0]));
    }

    #[tokio::test]
    async fn who_waits_for_room_is_woken() {
        let unread = Unread::new(ONE_READ, PATIENCE);
        let (mut holder, mut waits) = (unread.share(user(1)), unread.share(user(1)));
        assert!(has_room(&mut holder));
        let (woken, waker) = counting_waker();
        let mut cx = Context::from_waker(&waker);
        assert!(waits.poll_room(&mut cx).is_pending());
        holder.set(0, 100_000);
        assert_eq!(woken.load(Ordering::SeqCst), 0);
        holder.set(0, 0);
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        assert!(waits.poll_room(&mut cx).is_ready());
    }

    /// A waker that counts.
    fn counting_waker() -> (Arc<AtomicUsize>, std::task::Waker) {
        struct Count(Arc<AtomicUsize>);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let woken = Arc::new(AtomicUsize::new(0));
        (Arc::clone(&woken), std::task::Waker::from(Arc::new(Count(woken))))
    }

    #[tokio::test]
    async fn answers_to_writes_wait_for_no_room_but_are_paid_before_the_next_read() {
        let unread = Unread::new(ONE_READ, PATIENCE);
        let (mut one, mut two) = (unread.share(user(1)), unread.share(user(1)));
        one.set(0, READ_BYTES);
        assert!(!one.is_overdrawn());
        two.set(0, 50_000);
        assert!(one.is_overdrawn() && two.is_overdrawn());
        assert_eq!(debts(&one), (50_000, 0));
        assert!(!unread.share(user(2)).is_overdrawn());
        two.set(0, 0);
        assert!(!one.is_overdrawn() && !has_room(&mut one));
        one.set(0, 0);
        assert!(has_room(&mut one));
        assert_eq!((unread.bytes(), room(&unread)), (READ_BYTES, ONE_READ - READ_BYTES));
        // Beyond the whole.
        let mut many: Vec<_> = (10..50).map(|number| unread.share(user(number))).collect();
        many.iter_mut().for_each(|share| share.set(0, READ_BYTES));
        assert!(one.is_overdrawn() && !has_room(&mut two));
        drop(many);
        assert!(!one.is_overdrawn());
        drop((one, two));
        assert_eq!((unread.bytes(), room(&unread)), (0, ONE_READ));
    }

    /// Drives a read that waits until its room is wanted.
    async fn until_wanted(claim: &Claim, waits: &mut Share<'_>) {
        let wanted = async {
            tokio::select! {
                () = claim.wanted() => {}
                () = poll_fn(|cx| waits.poll_room(cx)) => panic!("there is no room"),
            }
        };
        timeout(Duration::from_secs(20), wanted).await.expect("nobody wants room");
    }

    #[tokio::test]
    async fn those_who_hold_room_are_asked_for_it_when_a_read_has_waited() {
        let unread = Unread::new(2 * ONE_READ, Duration::from_millis(1));
        let [mut holder, mut waits, mut other] = [1, 1, 2].map(|number| unread.share(user(number)));
        let (claim, of_other) = (holder.claim(), other.claim());
        assert_eq!(reads(&mut holder), 2);
        assert!(claim.wanted().now_or_never().is_none());
        until_wanted(&claim, &mut waits).await;
        assert!(of_other.wanted().now_or_never().is_none(), "nobody waits for what another user takes");
        holder.set(1, 0);
        assert!(has_room(&mut waits));
        assert!(claim.wanted().now_or_never().is_none());
        // When the whole is short, all are asked.
        let mut others: Vec<_> = (3..=33).map(|number| unread.share(user(number))).collect();
        assert!(others.iter_mut().all(|share| reads(share) == 2));
        until_wanted(&claim, &mut other).await;
        assert!(of_other.wanted().now_or_never().is_some());
        other.stop_waiting();
        assert!(claim.wanted().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_read_that_has_not_waited_for_long_asks_nobody() {
        let unread = Unread::new(ONE_READ, Duration::from_secs(3_600));
        let (mut holder, mut waits) = (unread.share(user(1)), unread.share(user(1)));
        assert!(has_room(&mut holder));
        assert!(!has_room(&mut waits));
        assert!(holder.claim().wanted().now_or_never().is_none());
    }
}
