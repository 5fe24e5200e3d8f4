//! The requests of one session in flight: which may start, and which are done.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::handler::Invocation;
use super::order::Order;
use super::unread::Reservation;
use crate::connection::Caller;
use crate::error::Error;

/// A request that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) id: u64,
    pub(crate) caller: Arc<Caller>,
    pub(crate) result: Result<Bytes, Error>,
}

/// A request that holds back others with the same target.
#[derive(Debug)]
struct Holder {
    target: u64,
    caller: Arc<Caller>,
}

/// Reads of one session that run at once. Each may return a page of a quarter of a megabyte, and the responses wait
/// here for a client that may be slow.
const MAX_READS: usize = 16;

/// The requests of one session. They run within the session's own task.
pub(crate) struct InFlight<S> {
    start: S,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    reads: FuturesUnordered<BoxFuture<'static, Done>>,
    reads_waiting: VecDeque<Invocation>,
    order: Order<Invocation>,
    holders: Vec<Holder>,
    done: Vec<Done>,
}

impl<S: Fn(Invocation) -> BoxFuture<'static, Done>> InFlight<S> {
    /// `start` runs a request.
    pub(crate) fn new(start: S) -> Self {
        Self {
            start,
            running: FuturesUnordered::new(),
            reads: FuturesUnordered::new(),
            reads_waiting: VecDeque::new(),
            order: Order::default(),
            holders: Vec::new(),
            done: Vec::new(),
        }
    }

    /// The number of requests that run or wait.
    pub(crate) fn len(&self) -> usize {
        self.running.len() + self.order.waiting() + self.reads.len() + self.reads_waiting.len()
    }

    /// Adds a request. A write starts with the next [`InFlight::next`], or when the previous ones with the same target
    /// let it pass. A read starts when fewer than [`MAX_READS`] run.
    pub(crate) fn arrive(&mut self, invocation: Invocation) {
        match invocation.request.order() {
            None => self.reads_waiting.push_back(invocation),
            Some(target) => {
                if let Some(invocation) = self.order.arrive(target, invocation) {
                    self.start_holder(target, invocation);
                }
            }
        }
    }

    fn start_holder(&mut self, target: u64, invocation: Invocation) {
        self.holders.push(Holder { target, caller: Arc::clone(&invocation.caller) });
        self.running.push((self.start)(invocation));
    }

    /// Starts writes whose predecessors are in the write queue or have ended. Returns false if there was none.
    fn release_submitted(&mut self) -> bool {
        let mut started = false;
        let mut index = 0;
        while let Some(holder) = self.holders.get(index) {
            if !holder.caller.is_submitted() {
                index += 1;
                continue;
            }
            let Holder { target, .. } = self.holders.swap_remove(index);
            if let Some(invocation) = self.order.release(target) {
                self.start_holder(target, invocation);
                started = true;
            }
        }
        started
    }

    /// Starts waiting reads, up to the maximum and while there is space for their responses.
    fn start_reads(&mut self, cx: &mut Context<'_>, unread: &mut Reservation<'_>) {
        while self.reads.len() < MAX_READS && !self.reads_waiting.is_empty() {
            if unread.poll_reserve_read(cx).is_pending() {
                return;
            }
            if let Some(invocation) = self.reads_waiting.pop_front() {
                self.reads.push((self.start)(invocation));
            }
        }
        unread.stop_waiting();
    }

    /// The number of reads that run. Each has a reservation for its response.
    pub(crate) fn running_reads(&self) -> usize {
        self.reads.len()
    }

    /// Runs the requests. Returns when some have ended, for [`InFlight::take_done`]; waits for ever if there are none.
    /// Reads start with a reservation from `unread`, and do not start without it. Cancel safe.
    pub(super) async fn next(&mut self, mut unread: Option<&mut Reservation<'_>>) {
        poll_fn(|cx| self.poll(cx, unread.as_deref_mut())).await;
    }

    /// Takes the requests that have ended.
    pub(crate) fn take_done(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.done)
    }

    fn poll(&mut self, cx: &mut Context<'_>, unread: Option<&mut Reservation<'_>>) -> Poll<()> {
        loop {
            match self.running.poll_next_unpin(cx) {
                Poll::Ready(Some(finished)) => {
                    // A request that has ended holds nothing back, whether or not it reached the write queue.
                    finished.caller.set_submitted();
                    self.done.push(finished);
                }
                Poll::Ready(None) | Poll::Pending => {
                    if !self.release_submitted() {
                        break;
                    }
                }
            }
        }
        // Once only: reads that replace the ones that end now start after the writer has their responses.
        if let Some(unread) = unread {
            self.start_reads(cx, unread);
        }
        while let Poll::Ready(Some(finished)) = self.reads.poll_next_unpin(cx) {
            self.done.push(finished);
        }
        if self.done.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Drops the requests that have not started.
    pub(crate) fn clear_waiting(&mut self) {
        self.order.clear();
        self.reads_waiting.clear();
    }
}

impl<S> std::fmt::Debug for InFlight<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InFlight")
            .field("running", &self.running.len())
            .field("reads", &self.reads.len())
            .field("reads_waiting", &self.reads_waiting.len())
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use futures_util::FutureExt;
    use parking_lot::Mutex;
    use tokio::sync::Notify;
    use tokio::time::Instant;
    use zim_protocol::{AnyRequest, SendMessageRequest};

    use super::super::unread::UnreadBudget;
    use super::*;
    use crate::connection::ConnectionState;
    use crate::key::UserKey;
    use crate::service::invoke::Checked;

    /// Records which requests started, in order, and lets each go on: first to the write queue, then to its end.
    #[derive(Default)]
    struct Stage {
        started: Mutex<Vec<u64>>,
        submit: [Notify; 8],
        end: [Notify; 8],
    }

    fn in_flight(stage: &Arc<Stage>) -> InFlight<impl Fn(Invocation) -> BoxFuture<'static, Done> + use<>> {
        let stage = Arc::clone(stage);
        InFlight::new(move |invocation: Invocation| {
            let stage = Arc::clone(&stage);
            Box::pin(async move {
                let index = usize::try_from(invocation.id).unwrap();
                stage.started.lock().push(invocation.id);
                tokio::select! {
                    () = stage.submit[index].notified() => invocation.caller.set_submitted(),
                    () = stage.end[index].notified() => stage.end[index].notify_one(),
                }
                stage.end[index].notified().await;
                Done { id: invocation.id, caller: invocation.caller, result: Ok(Bytes::new()) }
            }) as BoxFuture<'static, Done>
        })
    }

    fn invocation(id: u64, request: AnyRequest) -> Invocation {
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let session = Arc::new(ConnectionState::new(address, 0, [0; 16], String::new(), 1_024));
        let caller = Arc::new(Caller::connected(session));
        Invocation { id, request: Checked::unchecked(request), caller, arrived: Instant::now() }
    }

    fn send(id: u64, to: &str) -> Invocation {
        let request = SendMessageRequest { to_conversation_id: to.to_owned(), ..Default::default() };
        invocation(id, AnyRequest::MessageSendMessage(Box::new(request)))
    }

    /// A budget for all reads of one session.
    fn unread() -> UnreadBudget {
        UnreadBudget::new(256 << 20, Duration::from_secs(1))
    }

    /// Runs what can run, and returns the requests that have ended.
    fn step<S: Fn(Invocation) -> BoxFuture<'static, Done>>(requests: &mut InFlight<S>) -> Vec<u64> {
        let unread = unread();
        let mut reservation = unread.reservation(UserKey(1));
        while requests.next(Some(&mut reservation)).now_or_never().is_some() && requests.done.is_empty() {}
        requests.take_done().iter().map(|done| done.id).collect()
    }

    #[test]
    fn sends_to_one_conversation_start_when_the_previous_one_is_queued() {
        let stage = Arc::<Stage>::default();
        let mut requests = in_flight(&stage);
        for id in 0..3 {
            requests.arrive(send(id, "bob"));
        }
        requests.arrive(send(3, "cat"));
        requests.arrive(invocation(4, AnyRequest::UserQueryUsersInfo(Box::default())));
        assert_eq!(requests.len(), 5);
        assert!(step(&mut requests).is_empty());
        assert_eq!(*stage.started.lock(), [0, 3, 4]);
        // Being in the queue is enough: the end is not awaited.
        stage.submit[0].notify_one();
        assert!(step(&mut requests).is_empty());
        assert_eq!(*stage.started.lock(), [0, 3, 4, 1]);
        // A request that fails before it reaches the queue lets the next one pass as well.
        stage.end[1].notify_one();
        assert_eq!(step(&mut requests), [1]);
        assert_eq!(*stage.started.lock(), [0, 3, 4, 1, 2]);
        stage.end[4].notify_one();
        assert_eq!(step(&mut requests), [4]);
        assert_eq!(requests.len(), 3);
    }

    #[test]
    fn writes_that_are_queued_at_once_all_start_in_one_poll() {
        let stage = Arc::<Stage>::default();
        let mut requests = in_flight(&stage);
        for id in 0..8 {
            stage.submit[usize::try_from(id).unwrap()].notify_one();
            requests.arrive(send(id, "bob"));
        }
        assert!(step(&mut requests).is_empty());
        assert_eq!(*stage.started.lock(), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    /// A client that requests a thousand pages and reads none of them.
    #[test]
    fn concurrent_reads_are_limited_and_wait_for_the_writer() {
        let unread = unread();
        let mut reservation = unread.reservation(UserKey(1));
        let stage = Arc::<Stage>::default();
        let mut requests = in_flight(&stage);
        let read = |id| invocation(id, AnyRequest::SyncPull(Box::default()));
        // All of them have the ID 0, so one signal ends any one of them.
        for _ in 0..100 {
            requests.arrive(read(0));
        }
        requests.arrive(send(1, "bob"));
        assert!(requests.next(None).now_or_never().is_none());
        assert_eq!(
            (stage.started.lock().as_slice(), requests.len()),
            ([1].as_slice(), 101),
            "a write does not wait for a read"
        );
        assert!(requests.next(Some(&mut reservation)).now_or_never().is_none());
        assert_eq!(stage.started.lock().len(), 1 + MAX_READS);
        stage.end[0].notify_one();
        while requests.next(None).now_or_never().is_none() {}
        assert_eq!((requests.take_done().len(), stage.started.lock().len()), (1, 1 + MAX_READS));
        reservation.set(requests.running_reads(), 0);
        assert!(requests.next(None).now_or_never().is_none());
        assert_eq!(stage.started.lock().len(), 1 + MAX_READS);
        assert!(requests.next(Some(&mut reservation)).now_or_never().is_none());
        assert_eq!((stage.started.lock().len(), requests.len()), (2 + MAX_READS, 100));
        requests.clear_waiting();
        assert_eq!(requests.len(), MAX_READS + 1);
    }

    /// A read starts with space for its response; no write waits for that, and reads keep their order.
    #[tokio::test]
    async fn reads_wait_for_space_and_writes_do_not() {
        let unread = UnreadBudget::new(24 << 20, Duration::from_secs(1));
        let (mut reservation, mut other) = (unread.reservation(UserKey(1)), unread.reservation(UserKey(1)));
        let stage = Arc::<Stage>::default();
        let mut requests = in_flight(&stage);
        let started = || stage.started.lock().clone();
        for id in 0..4 {
            requests.arrive(invocation(id, AnyRequest::SyncPull(Box::default())));
        }
        requests.arrive(send(4, "bob"));
        assert!(requests.next(Some(&mut reservation)).now_or_never().is_none());
        assert_eq!(started(), [4, 0, 1], "a user's share has space for two");
        requests.arrive(send(5, "cat"));
        assert!(requests.next(Some(&mut reservation)).now_or_never().is_none());
        assert_eq!(started(), [4, 0, 1, 5]);
        // One has ended, but its response is not read.
        stage.end[0].notify_one();
        while requests.next(Some(&mut reservation)).now_or_never().is_none() {}
        requests.take_done();
        reservation.set(requests.running_reads(), 100_000);
        assert!(requests.next(Some(&mut reservation)).now_or_never().is_none());
        assert_eq!(started(), [4, 0, 1, 5]);
        reservation.set(requests.running_reads(), 0);
        assert!(requests.next(Some(&mut reservation)).now_or_never().is_none());
        assert_eq!(started(), [4, 0, 1, 5, 2]);
        // Without a waiting read, no space is reserved.
        requests.clear_waiting();
        assert!(requests.next(Some(&mut reservation)).now_or_never().is_none());
        reservation.set(0, 0);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!((0..2).all(|_| other.poll_reserve_read(&mut cx).is_ready()));
    }

    #[test]
    fn waiting_requests_can_be_dropped() {
        let stage = Arc::<Stage>::default();
        let mut requests = in_flight(&stage);
        requests.arrive(send(0, "bob"));
        requests.arrive(send(1, "bob"));
        requests.clear_waiting();
        assert_eq!(requests.len(), 1);
        stage.end[0].notify_one();
        assert_eq!(step(&mut requests), [0]);
        assert_eq!(requests.len(), 0);
        assert_eq!(*stage.started.lock(), [0]);
    }
}
