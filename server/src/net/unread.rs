//! What all sessions together make the server hold of answers that nobody has read yet, and of pages that are being read for
//! them. Each session alone is bounded, but their number would multiply it: a client that asks for pages and reads none of them
//! makes the server hold megabytes, and it may have many sessions.
//!
//! So there is one budget, and each user has a reservation of it, across all of the user's sessions. A read starts only when there is
//! room for a long answer in both, and waits for it in the order of arrival. When its answer is there, the answer's own
//! bytes are what is held, until the client has acknowledged them. Answers to writes are counted as well, but no write waits: sending goes on
//! while readers wait. What they take beyond the budget is a debt that is paid before the next read starts.
//!
//! When a read has waited for a while, sessions that hold answers and take next to nothing of them are closed ([`Pools::wait_for_starved_read`]):
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
/// A user's reservation is this part of the budget, and one read at least.
const USER_SHARES: usize = 32;
/// So little is not counted: it is within what a connection costs anyway, the answers of max clients are never more, and the
/// counters are not touched for them.
pub(super) const UNCOUNTED_BYTES: usize = 4 << 10;

/// Room for so many bytes.
#[derive(Debug)]
struct Pool {
    free: Arc<Semaphore>,
    /// What was taken beyond the room.
    debt: AtomicUsize,
    /// Reads that have waited for room for so long that somebody should make some.
    starved: AtomicUsize,
    starvation: Notify,
}

impl Pool {
    fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))),
            debt: AtomicUsize::new(0),
            starved: AtomicUsize::new(0),
            starvation: Notify::new(),
        })
    }

    /// Takes so many bytes, whether there is room for them or not.
    fn take(&self, bytes: usize) {
        let taken = self.free.forget_permits(bytes);
        if taken < bytes {
            self.debt.fetch_add(bytes - taken, Ordering::Relaxed);
        }
    }

    fn release(&self, bytes: usize) {
        let pay = |debt: usize| Some(debt.saturating_sub(bytes));
        let debt = match self.debt.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.debt.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).unwrap_or_default(),
        };
        if bytes > debt {
            self.free.add_permits(bytes - debt);
        }
    }

    /// Room for a read, when all who came before have theirs. One that waits longer than `starved_after` says so.
    async fn reserve_read(self: Arc<Self>, starved_after: Duration) -> OwnedSemaphorePermit {
        let mut permit = Box::pin(Arc::clone(&self.free).acquire_many_owned(READ_PERMITS));
        let permit = match timeout(starved_after, &mut permit).await {
            Ok(permit) => permit,
            Err(_) => {
                let _starved = StarvedRead::new(&self);
                permit.await
            }
        };
        match permit {
            Ok(permit) => permit,
            // It is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    async fn wait_for_starved_read(&self) {
        loop {
            let mut starvation = std::pin::pin!(self.starvation.notified());
            // Before the look, or else a read that begins to want between the two would not be heard.
            starvation.as_mut().enable();
            if self.starved.load(Ordering::SeqCst) > 0 {
                return;
            }
            starvation.await;
        }
    }
}

/// A read that wants room.
struct StarvedRead<'a>(&'a Pool);

impl<'a> StarvedRead<'a> {
    fn new(pool: &'a Pool) -> Self {
        pool.starved.fetch_add(1, Ordering::SeqCst);
        pool.starvation.notify_waiters();
        Self(pool)
    }
}

impl Drop for StarvedRead<'_> {
    fn drop(&mut self) {
        self.0.starved.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The budget.
#[derive(Debug)]
pub(super) struct UnreadBudget {
    all: Arc<Pool>,
    max_per_user: usize,
    /// The shares of those who are logged in, with their number of sessions.
    users: Mutex<HashMap<UserKey, (Arc<Pool>, usize)>>,
    /// How long a read waits before somebody has to make room for it.
    starved_after: Duration,
    bytes: AtomicUsize,
    gauge: Gauge,
}

impl UnreadBudget {
    /// `max` bytes for all.
    pub(super) fn new(max: usize, starved_after: Duration) -> Self {
        Self {
            all: Pool::new(max),
            max_per_user: (max / USER_SHARES).max(READ_BYTES),
            users: Mutex::default(),
            starved_after,
            bytes: AtomicUsize::new(0),
            gauge: gauge!(GAUGE),
        }
    }

    /// What a session of `user` holds: nothing yet.
    pub(super) fn reservation(&self, user: UserKey) -> Reservation<'_> {
        let mut users = self.users.lock();
        let (of_user, sessions) = users.entry(user).or_insert_with(|| (Pool::new(self.max_per_user), 0));
        *sessions += 1;
        let pools = Pools { user: Arc::clone(of_user), all: Arc::clone(&self.all) };
        Reservation { unread: self, user, pools, held: 0, waiting: None }
    }

    /// What all sessions hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Where what a session holds is counted.
#[derive(Clone, Debug)]
pub(super) struct Pools {
    user: Arc<Pool>,
    all: Arc<Pool>,
}

impl Pools {
    fn try_reserve_read(&self) -> bool {
        let Ok(of_user) = self.user.free.try_acquire_many(READ_PERMITS) else { return false };
        let Ok(of_all) = self.all.free.try_acquire_many(READ_PERMITS) else { return false };
        of_user.forget();
        of_all.forget();
        true
    }

    /// Room in the user's reservation first: whoever waits for that is in nobody else's way.
    async fn reserve_read(self, starved_after: Duration) {
        let of_user = self.user.reserve_read(starved_after).await;
        let of_all = self.all.reserve_read(starved_after).await;
        of_user.forget();
        of_all.forget();
    }

    /// Returns when a read has waited for a while for the room that this session takes.
    pub(super) async fn wait_for_starved_read(&self) {
        tokio::select! {
            () = self.user.wait_for_starved_read() => {}
            () = self.all.wait_for_starved_read() => {}
        }
    }
}

/// What one session holds; given back whatever becomes of it.
pub(super) struct Reservation<'a> {
    unread: &'a UnreadBudget,
    user: UserKey,
    pools: Pools,
    held: usize,
    /// Of the next read, if there is no room for it.
    waiting: Option<BoxFuture<'static, ()>>,
}

impl Reservation<'_> {
    /// Room for another read. Whoever begins to wait goes on until there is room, or calls [`Reservation::stop_waiting`].
    pub(super) fn poll_reserve_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.is_none() && self.pools.try_reserve_read() {
            self.add_held(READ_BYTES);
            return Poll::Ready(());
        }
        let waiting =
            self.waiting.get_or_insert_with(|| self.pools.clone().reserve_read(self.unread.starved_after).boxed());
        if waiting.poll_unpin(cx).is_pending() {
            return Poll::Pending;
        }
        self.waiting = None;
        self.add_held(READ_BYTES);
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
            self.pools.user.take(more);
            self.pools.all.take(more);
            self.add_held(more);
        } else {
            self.release(self.held - held);
        }
    }

    /// More is held than there is room for, of this user or of all.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.pools.user.debt.load(Ordering::Relaxed) > 0 || self.pools.all.debt.load(Ordering::Relaxed) > 0
    }

    /// Where it is counted.
    pub(super) fn pools(&self) -> Pools {
        self.pools.clone()
    }

    /// What was taken.
    fn add_held(&mut self, bytes: usize) {
        self.held += bytes;
        self.unread.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.unread.gauge.increment(as_f64(bytes));
    }

    fn release(&mut self, bytes: usize) {
        if bytes > 0 {
            self.held -= bytes;
            self.unread.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.unread.gauge.decrement(as_f64(bytes));
            self.pools.user.release(bytes);
            self.pools.all.release(bytes);
        }
    }
}

impl std::fmt::Debug for Reservation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation").field("user", &self.user).field("held", &self.held).finish_non_exhaustive()
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.stop_waiting();
        self.release(self.held);
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

    /// What makes a user's reservation one read.
    const ONE_READ: usize = USER_SHARES * READ_BYTES;
    const STARVED_AFTER: Duration = Duration::from_secs(1);

    fn user(number: i64) -> UserKey {
        UserKey(number)
    }

    fn can_read(reservation: &mut Reservation<'_>) -> bool {
        poll_fn(|cx| reservation.poll_reserve_read(cx)).now_or_never().is_some()
    }

    /// Reads of `reservation` that can start.
    fn reads(reservation: &mut Reservation<'_>) -> usize {
        let reads = (0..100).take_while(|_| can_read(reservation)).count();
        reservation.stop_waiting();
        reads
    }

    fn debts(reservation: &Reservation<'_>) -> (usize, usize) {
        let debt = |pool: &Pool| pool.debt.load(Ordering::Relaxed);
        (debt(&reservation.pools.user), debt(&reservation.pools.all))
    }

    fn free(unread: &UnreadBudget) -> usize {
        unread.all.free.available_permits()
    }

    #[tokio::test]
    async fn a_user_has_a_share_across_sessions_and_all_have_the_whole() {
        let unread = UnreadBudget::new(2 * ONE_READ, STARVED_AFTER);
        let (mut one, mut two) = (unread.reservation(user(1)), unread.reservation(user(1)));
        assert_eq!((reads(&mut one), reads(&mut two)), (2, 0));
        let mut others: Vec<_> = (2..=32).map(|number| unread.reservation(user(number))).collect();
        assert!(others.iter_mut().all(|other| reads(other) == 2));
        assert_eq!((unread.bytes(), free(&unread)), (2 * ONE_READ, 0));
        assert_eq!(reads(&mut unread.reservation(user(33))), 0);
        // A byte less is not enough.
        let unread = UnreadBudget::new(2 * ONE_READ - USER_SHARES, STARVED_AFTER);
        assert_eq!(reads(&mut unread.reservation(user(1))), 1);
        // One read always has room, or a user could never read.
        let unread = UnreadBudget::new(ONE_READ / 2, STARVED_AFTER);
        assert_eq!(reads(&mut unread.reservation(user(1))), 1);
    }

    #[tokio::test]
    async fn an_answer_takes_its_own_bytes_and_then_none() {
        let unread = UnreadBudget::new(ONE_READ, STARVED_AFTER);
        let (mut one, mut two) = (unread.reservation(user(1)), unread.reservation(user(2)));
        assert!(can_read(&mut one) && can_read(&mut two));
        one.set(0, 200_000);
        assert_eq!(unread.bytes(), READ_BYTES + 200_000);
        assert!(!can_read(&mut one), "what is left of the reservation is less than a read");
        one.set(0, UNCOUNTED_BYTES + 1);
        assert_eq!(unread.bytes(), READ_BYTES + UNCOUNTED_BYTES + 1);
        one.set(0, UNCOUNTED_BYTES);
        assert_eq!(unread.bytes(), READ_BYTES);
        assert!(can_read(&mut one));
        one.set(1, 0);
        two.set(0, 0);
        assert_eq!(unread.bytes(), READ_BYTES);
        // A long sync.
        one.set(0, 900_000);
        assert_eq!((unread.bytes(), debts(&one)), (900_000, (900_000 - READ_BYTES, 0)));
    }

    #[tokio::test]
    async fn a_session_gives_everything_back_at_its_end() {
        let unread = UnreadBudget::new(ONE_READ, STARVED_AFTER);
        let (mut one, mut two) = (unread.reservation(user(1)), unread.reservation(user(1)));
        assert!(can_read(&mut one) && !can_read(&mut two));
        one.set(1, 300_000);
        assert_eq!(debts(&one), (300_000, 0));
        drop(one);
        // The one that waits has it now, though it has not looked yet: it gives that back, too.
        assert_eq!((unread.bytes(), unread.users.lock().len()), (0, 1));
        drop(two);
        assert_eq!((unread.bytes(), free(&unread), unread.users.lock().len()), (0, ONE_READ, 0));
    }

    #[tokio::test]
    async fn those_who_wait_have_their_turn_in_order_and_nobody_overtakes() {
        let unread = UnreadBudget::new(ONE_READ, STARVED_AFTER);
        let [mut holder, mut first, mut second] = [1, 1, 1].map(|number| unread.reservation(user(number)));
        assert!(can_read(&mut holder) && !can_read(&mut first) && !can_read(&mut second));
        holder.set(0, 0);
        assert!(!can_read(&mut holder) && !can_read(&mut second));
        assert!(can_read(&mut first));
        // One that waits no longer is in nobody's way.
        second.stop_waiting();
        first.set(0, 0);
        assert!(can_read(&mut holder));
        assert!(!can_read(&mut second) && !can_read(&mut first));
        drop(second);
        holder.set(0, 0);
        assert!(can_read(&mut first));
    }

    #[tokio::test]
    async fn users_have_their_turn_in_order_too() {
        let unread = UnreadBudget::new(2 * ONE_READ, STARVED_AFTER);
        let mut holders: Vec<_> = (1..=32).map(|number| unread.reservation(user(number))).collect();
        assert!(holders.iter_mut().all(|holder| reads(holder) == 2));
        let (mut first, mut second) = (unread.reservation(user(33)), unread.reservation(user(34)));
        assert!(!can_read(&mut first) && !can_read(&mut second));
        // It has room in its own reservation then, and comes behind them.
        holders[0].set(1, 0);
        assert!(!can_read(&mut holders[0]) && !can_read(&mut second));
        assert!(can_read(&mut first));
        holders[1].set(1, 0);
        assert!(!can_read(&mut holders[0]));
        assert!(can_read(&mut second));
        holders[2].set(1, 0);
        assert!(can_read(&mut holders[0]));
    }

    #[tokio::test]
    async fn who_waits_for_room_is_woken() {
        let unread = UnreadBudget::new(ONE_READ, STARVED_AFTER);
        let (mut holder, mut waits) = (unread.reservation(user(1)), unread.reservation(user(1)));
        assert!(can_read(&mut holder));
        let (woken, waker) = counting_waker();
        let mut cx = Context::from_waker(&waker);
        assert!(waits.poll_reserve_read(&mut cx).is_pending());
        holder.set(0, 100_000);
        assert_eq!(woken.load(Ordering::SeqCst), 0);
        holder.set(0, 0);
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        assert!(waits.poll_reserve_read(&mut cx).is_ready());
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
        let unread = UnreadBudget::new(ONE_READ, STARVED_AFTER);
        let (mut one, mut two) = (unread.reservation(user(1)), unread.reservation(user(1)));
        one.set(0, READ_BYTES);
        assert!(!one.is_overdrawn());
        two.set(0, 50_000);
        assert!(one.is_overdrawn() && two.is_overdrawn());
        assert_eq!(debts(&one), (50_000, 0));
        assert!(!unread.reservation(user(2)).is_overdrawn());
        two.set(0, 0);
        assert!(!one.is_overdrawn() && !can_read(&mut one));
        one.set(0, 0);
        assert!(can_read(&mut one));
        assert_eq!((unread.bytes(), free(&unread)), (READ_BYTES, ONE_READ - READ_BYTES));
        // Beyond the whole.
        let mut many: Vec<_> = (10..50).map(|number| unread.reservation(user(number))).collect();
        many.iter_mut().for_each(|reservation| reservation.set(0, READ_BYTES));
        assert!(one.is_overdrawn() && !can_read(&mut two));
        drop(many);
        assert!(!one.is_overdrawn());
        drop((one, two));
        assert_eq!((unread.bytes(), free(&unread)), (0, ONE_READ));
    }

    /// Drives a read that waits until its room is wanted.
    async fn until_starved(pools: &Pools, waits: &mut Reservation<'_>) {
        let starved = async {
            tokio::select! {
                () = pools.wait_for_starved_read() => {}
                () = poll_fn(|cx| waits.poll_reserve_read(cx)) => panic!("there is no room"),
            }
        };
        timeout(Duration::from_secs(20), starved).await.expect("nobody wants room");
    }

    #[tokio::test]
    async fn those_who_hold_room_are_asked_for_it_when_a_read_has_waited() {
        let unread = UnreadBudget::new(2 * ONE_READ, Duration::from_millis(1));
        let [mut holder, mut waits, mut other] = [1, 1, 2].map(|number| unread.reservation(user(number)));
        let (pools, of_other) = (holder.pools(), other.pools());
        assert_eq!(reads(&mut holder), 2);
        assert!(pools.wait_for_starved_read().now_or_never().is_none());
        until_starved(&pools, &mut waits).await;
        assert!(of_other.wait_for_starved_read().now_or_never().is_none(), "nobody waits for what another user takes");
        holder.set(1, 0);
        assert!(can_read(&mut waits));
        assert!(pools.wait_for_starved_read().now_or_never().is_none());
        // When the whole is short, all are asked.
        let mut others: Vec<_> = (3..=33).map(|number| unread.reservation(user(number))).collect();
        assert!(others.iter_mut().all(|reservation| reads(reservation) == 2));
        until_starved(&pools, &mut other).await;
        assert!(of_other.wait_for_starved_read().now_or_never().is_some());
        other.stop_waiting();
        assert!(pools.wait_for_starved_read().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_read_that_has_not_waited_for_long_asks_nobody() {
        let unread = UnreadBudget::new(ONE_READ, Duration::from_secs(3_600));
        let (mut holder, mut waits) = (unread.reservation(user(1)), unread.reservation(user(1)));
        assert!(can_read(&mut holder));
        assert!(!can_read(&mut waits));
        assert!(holder.pools().wait_for_starved_read().now_or_never().is_none());
    }
}
