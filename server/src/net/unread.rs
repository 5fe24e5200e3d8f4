//! The budget for unread responses and for pages that are being read. Each session is bounded, but a large number of
//! sessions needs a common limit: a client that requests pages and reads none of them makes the server hold megabytes,
//! and it may have many sessions.
//!
//! There is one budget, and each user has a share of it across all of the user's sessions. A read starts only when both
//! have space for a long response; reads wait for it in the order of arrival. When the response is there, its own bytes
//! are counted instead, until the client has acknowledged them. Responses to writes are counted too, but no write
//! waits: sending goes on while reads wait. Bytes beyond the budget are a debt, which must be paid back before the next
//! read starts.
//!
//! When a read has waited for a while (it is starved), sessions that hold responses and read next to nothing of them
//! are closed ([`Pools::wait_for_starved_read`]). Otherwise a group of stalled clients could block all reads for the
//! whole write timeout.

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
use crate::meter::UNREAD_BYTES;
use crate::service::rows::PAGE_BYTES;

/// What a read reserves until its response is there: a page, and an entry that exceeds the rest of one. A list of a
/// hundred friends or of the ten longest messages is no longer than that. Only a sync may be longer, because it holds
/// up to three pages; the excess is counted when the response is there.
const READ_BYTES: usize = PAGE_BYTES + (128 << 10);
/// The same as semaphore permits.
const READ_PERMITS: u32 = 384 << 10;
const _: () = assert!(READ_PERMITS as usize == READ_BYTES);
/// A user's share is the budget divided by this, but at least one read.
const USER_SHARES: usize = 32;
/// Fewer bytes than this are not counted: they are within what a connection costs anyway. The responses of most clients
/// are never longer, and the counters are not touched for them.
pub(super) const UNCOUNTED_BYTES: usize = 4 << 10;

/// A number of bytes that can be reserved.
#[derive(Debug)]
struct Pool {
    free: Arc<Semaphore>,
    /// Bytes taken beyond the free ones.
    debt: AtomicUsize,
    /// Reads that have waited for so long that sessions are to be closed for them.
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

    /// Takes bytes, even if too few are free.
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

    /// Reserves space for a read, in the order of arrival. A read that waits longer than `starved_after` counts as
    /// starved.
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
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    async fn wait_for_starved_read(&self) {
        loop {
            let mut starvation = std::pin::pin!(self.starvation.notified());
            // Before the check: otherwise a read that becomes starved between the two would be missed.
            starvation.as_mut().enable();
            if self.starved.load(Ordering::SeqCst) > 0 {
                return;
            }
            starvation.await;
        }
    }
}

/// A read that counts as starved until this is dropped.
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

/// The budget of all sessions.
#[derive(Debug)]
pub(super) struct UnreadBudget {
    all: Arc<Pool>,
    max_per_user: usize,
    /// The shares of logged-in users, with the number of their sessions.
    users: Mutex<HashMap<UserKey, (Arc<Pool>, usize)>>,
    /// How long a read waits until it is starved.
    starved_after: Duration,
    bytes: AtomicUsize,
    gauge: Gauge,
}

impl UnreadBudget {
    /// Creates a budget of `max` bytes.
    pub(super) fn new(max: usize, starved_after: Duration) -> Self {
        Self {
            all: Pool::new(max),
            max_per_user: (max / USER_SHARES).max(READ_BYTES),
            users: Mutex::default(),
            starved_after,
            bytes: AtomicUsize::new(0),
            gauge: gauge!(UNREAD_BYTES),
        }
    }

    /// Creates the reservation of a session of `user`, with no bytes in it.
    pub(super) fn reservation(&self, user: UserKey) -> Reservation<'_> {
        let mut users = self.users.lock();
        let (of_user, sessions) = users.entry(user).or_insert_with(|| (Pool::new(self.max_per_user), 0));
        *sessions += 1;
        let pools = Pools { user: Arc::clone(of_user), all: Arc::clone(&self.all) };
        Reservation { unread: self, user, pools, held: 0, waiting: None }
    }

    /// The bytes that all sessions hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The pools that a session's bytes are counted in.
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

    /// Reserves from the user's share first: a read that waits for that blocks no other user.
    async fn reserve_read(self, starved_after: Duration) {
        let of_user = self.user.reserve_read(starved_after).await;
        let of_all = self.all.reserve_read(starved_after).await;
        of_user.forget();
        of_all.forget();
    }

    /// Resolves when there is a starved read that waits for bytes of this session's pools.
    pub(super) async fn wait_for_starved_read(&self) {
        tokio::select! {
            () = self.user.wait_for_starved_read() => {}
            () = self.all.wait_for_starved_read() => {}
        }
    }
}

/// The bytes that one session holds. Dropping it returns them.
pub(super) struct Reservation<'a> {
    unread: &'a UnreadBudget,
    user: UserKey,
    pools: Pools,
    held: usize,
    /// The next read's reservation, while it waits for space.
    waiting: Option<BoxFuture<'static, ()>>,
}

impl Reservation<'_> {
    /// Reserves space for another read. When it is pending, call it until it is ready, or call
    /// [`Reservation::stop_waiting`].
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

    /// Gives up a pending reservation, because no read can start: others may have the space.
    pub(super) fn stop_waiting(&mut self) {
        self.waiting = None;
    }

    /// Sets the number of reads in progress and the bytes of unread responses.
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

    /// Returns whether the user, or all sessions together, hold more than their limit.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.pools.user.debt.load(Ordering::Relaxed) > 0 || self.pools.all.debt.load(Ordering::Relaxed) > 0
    }

    /// The pools that this session's bytes are counted in.
    pub(super) fn pools(&self) -> Pools {
        self.pools.clone()
    }

    /// Records bytes that were taken from the pools.
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

/// A session holds at most a few frames, which fit.
fn as_f64(bytes: usize) -> f64 {
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// With this budget a user's share is one read.
    const ONE_READ: usize = USER_SHARES * READ_BYTES;
    const STARVED_AFTER: Duration = Duration::from_secs(1);

    fn user(number: i64) -> UserKey {
        UserKey(number)
    }

    fn can_read(reservation: &mut Reservation<'_>) -> bool {
        poll_fn(|cx| reservation.poll_reserve_read(cx)).now_or_never().is_some()
    }

    /// The number of reads that can start.
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
    async fn sessions_of_a_user_have_one_share_and_all_users_the_whole_budget() {
        let unread = UnreadBudget::new(2 * ONE_READ, STARVED_AFTER);
        let (mut one, mut two) = (unread.reservation(user(1)), unread.reservation(user(1)));
        assert_eq!((reads(&mut one), reads(&mut two)), (2, 0));
        let mut others: Vec<_> = (2..=32).map(|number| unread.reservation(user(number))).collect();
        assert!(others.iter_mut().all(|other| reads(other) == 2));
        assert_eq!((unread.bytes(), free(&unread)), (2 * ONE_READ, 0));
        assert_eq!(reads(&mut unread.reservation(user(33))), 0);
        // One byte less per user is not enough.
        let unread = UnreadBudget::new(2 * ONE_READ - USER_SHARES, STARVED_AFTER);
        assert_eq!(reads(&mut unread.reservation(user(1))), 1);
        // A share is always at least one read, or a user could never read.
        let unread = UnreadBudget::new(ONE_READ / 2, STARVED_AFTER);
        assert_eq!(reads(&mut unread.reservation(user(1))), 1);
    }

    #[tokio::test]
    async fn a_response_holds_its_own_bytes_until_it_is_read() {
        let unread = UnreadBudget::new(ONE_READ, STARVED_AFTER);
        let (mut one, mut two) = (unread.reservation(user(1)), unread.reservation(user(2)));
        assert!(can_read(&mut one) && can_read(&mut two));
        one.set(0, 200_000);
        assert_eq!(unread.bytes(), READ_BYTES + 200_000);
        assert!(!can_read(&mut one), "less than a read is left of the share");
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
    async fn a_session_returns_everything_at_its_end() {
        let unread = UnreadBudget::new(ONE_READ, STARVED_AFTER);
        let (mut one, mut two) = (unread.reservation(user(1)), unread.reservation(user(1)));
        assert!(can_read(&mut one) && !can_read(&mut two));
        one.set(1, 300_000);
        assert_eq!(debts(&one), (300_000, 0));
        drop(one);
        // The waiting read has the space now, though it was not polled yet; dropping it returns that as well.
        assert_eq!((unread.bytes(), unread.users.lock().len()), (0, 1));
        drop(two);
        assert_eq!((unread.bytes(), free(&unread), unread.users.lock().len()), (0, ONE_READ, 0));
    }

    #[tokio::test]
    async fn reads_of_a_user_start_in_the_order_of_arrival() {
        let unread = UnreadBudget::new(ONE_READ, STARVED_AFTER);
        let [mut holder, mut first, mut second] = [1, 1, 1].map(|number| unread.reservation(user(number)));
        assert!(can_read(&mut holder) && !can_read(&mut first) && !can_read(&mut second));
        holder.set(0, 0);
        assert!(!can_read(&mut holder) && !can_read(&mut second));
        assert!(can_read(&mut first));
        // A read that stops waiting blocks no other.
        second.stop_waiting();
        first.set(0, 0);
        assert!(can_read(&mut holder));
        assert!(!can_read(&mut second) && !can_read(&mut first));
        drop(second);
        holder.set(0, 0);
        assert!(can_read(&mut first));
    }

    #[tokio::test]
    async fn reads_of_different_users_start_in_the_order_of_arrival() {
        let unread = UnreadBudget::new(2 * ONE_READ, STARVED_AFTER);
        let mut holders: Vec<_> = (1..=32).map(|number| unread.reservation(user(number))).collect();
        assert!(holders.iter_mut().all(|holder| reads(holder) == 2));
        let (mut first, mut second) = (unread.reservation(user(33)), unread.reservation(user(34)));
        assert!(!can_read(&mut first) && !can_read(&mut second));
        // It has space in its user's share now, but waits behind them for the budget.
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
    async fn a_waiting_read_is_woken_when_there_is_space() {
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

    /// A waker that counts its wake-ups.
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
    async fn responses_to_writes_do_not_wait_but_their_debt_is_paid_before_the_next_read() {
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
        // Beyond the whole budget.
        let mut many: Vec<_> = (10..50).map(|number| unread.reservation(user(number))).collect();
        many.iter_mut().for_each(|reservation| reservation.set(0, READ_BYTES));
        assert!(one.is_overdrawn() && !can_read(&mut two));
        drop(many);
        assert!(!one.is_overdrawn());
        drop((one, two));
        assert_eq!((unread.bytes(), free(&unread)), (0, ONE_READ));
    }

    /// Polls a waiting read until it is starved.
    async fn until_starved(pools: &Pools, waits: &mut Reservation<'_>) {
        let starved = async {
            tokio::select! {
                () = pools.wait_for_starved_read() => {}
                () = poll_fn(|cx| waits.poll_reserve_read(cx)) => panic!("there is no space for it"),
            }
        };
        timeout(Duration::from_secs(20), starved).await.expect("the read is not starved");
    }

    #[tokio::test]
    async fn sessions_that_hold_bytes_are_notified_of_a_starved_read() {
        let unread = UnreadBudget::new(2 * ONE_READ, Duration::from_millis(1));
        let [mut holder, mut waits, mut other] = [1, 1, 2].map(|number| unread.reservation(user(number)));
        let (pools, of_other) = (holder.pools(), other.pools());
        assert_eq!(reads(&mut holder), 2);
        assert!(pools.wait_for_starved_read().now_or_never().is_none());
        until_starved(&pools, &mut waits).await;
        assert!(of_other.wait_for_starved_read().now_or_never().is_none(), "no read waits for the other user's share");
        holder.set(1, 0);
        assert!(can_read(&mut waits));
        assert!(pools.wait_for_starved_read().now_or_never().is_none());
        // When the whole budget is used up, all sessions are affected.
        let mut others: Vec<_> = (3..=33).map(|number| unread.reservation(user(number))).collect();
        assert!(others.iter_mut().all(|reservation| reads(reservation) == 2));
        until_starved(&pools, &mut other).await;
        assert!(of_other.wait_for_starved_read().now_or_never().is_some());
        other.stop_waiting();
        assert!(pools.wait_for_starved_read().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_read_that_has_not_waited_for_long_is_not_starved() {
        let unread = UnreadBudget::new(ONE_READ, Duration::from_secs(3_600));
        let (mut holder, mut waits) = (unread.reservation(user(1)), unread.reservation(user(1)));
        assert!(can_read(&mut holder));
        assert!(!can_read(&mut waits));
        assert!(holder.pools().wait_for_starved_read().now_or_never().is_none());
    }
}
