//! The calls of one session that are in work: which may start, which are done.

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
use super::unread::Share;
use crate::connection::Caller;
use crate::error::Error;

/// A call that is over.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) id: u64,
    pub(crate) caller: Arc<Caller>,
    pub(crate) result: Result<Bytes, Error>,
}

/// A call that holds back those to the same target.
#[derive(Debug)]
struct Holder {
    target: u64,
    caller: Arc<Caller>,
}

/// Reads of one session that run at once: each may come to a page of a quarter of a megabyte, and what has come waits here
/// for a client that may be slow.
const READS: usize = 16;

/// The calls of one session. They run within the session's own task.
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
    /// `start` makes a call run.
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

    /// How many are in work or wait for their turn.
    pub(crate) fn len(&self) -> usize {
        self.running.len() + self.order.waiting() + self.reads.len() + self.reads_waiting.len()
    }

    /// A call arrives. It starts with the next [`InFlight::next`], or when those before it to the same target have let it pass; a
    /// read, when there is a place.
    pub(crate) fn arrive(&mut self, call: Invocation) {
        match call.request.order() {
            None => self.reads_waiting.push_back(call),
            Some(target) => {
                if let Some(call) = self.order.arrive(target, call) {
                    self.start_holder(target, call);
                }
            }
        }
    }

    fn start_holder(&mut self, target: u64, call: Invocation) {
        self.holders.push(Holder { target, caller: Arc::clone(&call.caller) });
        self.running.push((self.start)(call));
    }

    /// Lets calls pass whose predecessors have their place in the write queue, or are over. False if there was none.
    fn pass(&mut self) -> bool {
        let mut started = false;
        let mut index = 0;
        while let Some(holder) = self.holders.get(index) {
            if !holder.caller.is_submitted() {
                index += 1;
                continue;
            }
            let Holder { target, .. } = self.holders.swap_remove(index);
            if let Some(call) = self.order.release(target) {
                self.start_holder(target, call);
                started = true;
            }
        }
        started
    }

    /// Starts reads that wait, as far as there is a place, and room for their answers.
    fn read(&mut self, cx: &mut Context<'_>, unread: &mut Share<'_>) {
        while self.reads.len() < READS && !self.reads_waiting.is_empty() {
            if unread.poll_room(cx).is_pending() {
                return;
            }
            if let Some(call) = self.reads_waiting.pop_front() {
                self.reads.push((self.start)(call));
            }
        }
        unread.stop_waiting();
    }

    /// Reads that have started. Each has its room in what the session holds of unread answers.
    pub(crate) fn reading(&self) -> usize {
        self.reads.len()
    }

    /// Runs the calls; returns when some are over, which [`InFlight::take_done`] then gives. Waits for ever when there are none.
    /// Reads start with room in `unread`, and not at all without it. May be cancelled at any time without loss.
    pub(super) async fn next(&mut self, mut unread: Option<&mut Share<'_>>) {
        poll_fn(|cx| self.poll(cx, unread.as_deref_mut())).await;
    }

    /// Those that are over.
    pub(crate) fn take_done(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.done)
    }

    fn poll(&mut self, cx: &mut Context<'_>, unread: Option<&mut Share<'_>>) -> Poll<()> {
        loop {
            match self.running.poll_next_unpin(cx) {
                Poll::Ready(Some(over)) => {
                    // A call that is over holds nobody back, whether or not it came to the write queue.
                    over.caller.set_submitted();
                    self.done.push(over);
                }
                Poll::Ready(None) | Poll::Pending => {
                    if !self.pass() {
                        break;
                    }
                }
            }
        }
        // One round: those that take the places of what is over now have their turn when its answers are in the writer's hands.
        if let Some(unread) = unread {
            self.read(cx, unread);
        }
        while let Poll::Ready(Some(over)) = self.reads.poll_next_unpin(cx) {
            self.done.push(over);
        }
        if self.done.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Forgets the calls that have not started.
    pub(crate) fn forget_waiting(&mut self) {
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

    use super::super::unread::Unread;
    use super::*;
    use crate::connection::ConnectionState;
    use crate::key::UserKey;

    /// What was started, in order, and what lets each call go on: first to the write queue, then to its end.
    #[derive(Default)]
    struct Stage {
        started: Mutex<Vec<u64>>,
        submit: [Notify; 8],
        end: [Notify; 8],
    }

    fn calls(stage: &Arc<Stage>) -> InFlight<impl Fn(Invocation) -> BoxFuture<'static, Done> + use<>> {
        let stage = Arc::clone(stage);
        InFlight::new(move |call: Invocation| {
            let stage = Arc::clone(&stage);
            Box::pin(async move {
                let index = usize::try_from(call.id).unwrap();
                stage.started.lock().push(call.id);
                tokio::select! {
                    () = stage.submit[index].notified() => call.caller.set_submitted(),
                    () = stage.end[index].notified() => stage.end[index].notify_one(),
                }
                stage.end[index].notified().await;
                Done { id: call.id, caller: call.caller, result: Ok(Bytes::new()) }
            }) as BoxFuture<'static, Done>
        })
    }

    fn call(id: u64, request: AnyRequest) -> Invocation {
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let session = Arc::new(ConnectionState::new(address, 0, [0; 16], String::new(), 1_024));
        Invocation { id, request, caller: Arc::new(Caller::new(session)), arrived: Instant::now() }
    }

    fn send(id: u64, to: &str) -> Invocation {
        let request = SendMessageRequest { to_conversation_id: to.to_owned(), ..Default::default() };
        call(id, AnyRequest::MessageSendMessage(Box::new(request)))
    }

    /// Room for all reads of one session.
    fn unread() -> Unread {
        Unread::new(256 << 20, Duration::from_secs(1))
    }

    /// Runs what can run; gives what is over.
    fn step<S: Fn(Invocation) -> BoxFuture<'static, Done>>(calls: &mut InFlight<S>) -> Vec<u64> {
        let unread = unread();
        let mut share = unread.share(UserKey(1));
        while calls.next(Some(&mut share)).now_or_never().is_some() && calls.done.is_empty() {}
        calls.take_done().iter().map(|done| done.id).collect()
    }

    #[test]
    fn sends_to_one_conversation_start_when_the_one_before_is_in_the_queue() {
        let stage = Arc::<Stage>::default();
        let mut calls = calls(&stage);
        for id in 0..3 {
            calls.arrive(send(id, "bob"));
        }
        calls.arrive(send(3, "cat"));
        calls.arrive(call(4, AnyRequest::UserQueryUsersInfo(Box::default())));
        assert_eq!(calls.len(), 5);
        assert!(step(&mut calls).is_empty());
        assert_eq!(*stage.started.lock(), [0, 3, 4]);
        // In the queue is enough: its end is not waited for.
        stage.submit[0].notify_one();
        assert!(step(&mut calls).is_empty());
        assert_eq!(*stage.started.lock(), [0, 3, 4, 1]);
        // One that fails before it comes to the queue lets the next one pass as well.
        stage.end[1].notify_one();
        assert_eq!(step(&mut calls), [1]);
        assert_eq!(*stage.started.lock(), [0, 3, 4, 1, 2]);
        stage.end[4].notify_one();
        assert_eq!(step(&mut calls), [4]);
        assert_eq!(calls.len(), 3);
    }

    #[test]
    fn those_that_are_in_the_queue_at_once_start_in_one_go() {
        let stage = Arc::<Stage>::default();
        let mut calls = calls(&stage);
        for id in 0..8 {
            stage.submit[usize::try_from(id).unwrap()].notify_one();
            calls.arrive(send(id, "bob"));
        }
        assert!(step(&mut calls).is_empty());
        assert_eq!(*stage.started.lock(), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    /// A client that asks for a thousand pages and reads none of them.
    #[test]
    fn reads_are_few_at_once_and_wait_for_the_writer() {
        let unread = unread();
        let mut share = unread.share(UserKey(1));
        let stage = Arc::<Stage>::default();
        let mut calls = calls(&stage);
        let read = |id| call(id, AnyRequest::SyncPull(Box::default()));
        // Their ends are not told apart: all of them have those of the stage's first.
        for _ in 0..100 {
            calls.arrive(read(0));
        }
        calls.arrive(send(1, "bob"));
        assert!(calls.next(None).now_or_never().is_none());
        assert_eq!(
            (stage.started.lock().as_slice(), calls.len()),
            ([1].as_slice(), 101),
            "a write waits for no reader"
        );
        assert!(calls.next(Some(&mut share)).now_or_never().is_none());
        assert_eq!(stage.started.lock().len(), 1 + READS);
        stage.end[0].notify_one();
        while calls.next(None).now_or_never().is_none() {}
        assert_eq!((calls.take_done().len(), stage.started.lock().len()), (1, 1 + READS));
        share.set(calls.reading(), 0);
        assert!(calls.next(None).now_or_never().is_none());
        assert_eq!(stage.started.lock().len(), 1 + READS);
        assert!(calls.next(Some(&mut share)).now_or_never().is_none());
        assert_eq!((stage.started.lock().len(), calls.len()), (2 + READS, 100));
        calls.forget_waiting();
        assert_eq!(calls.len(), READS + 1);
    }

    /// A read starts with room for its answer; no write waits for that, and the reads keep their order.
    #[tokio::test]
    async fn reads_wait_for_room_and_writes_do_not() {
        let unread = Unread::new(24 << 20, Duration::from_secs(1));
        let (mut share, mut other) = (unread.share(UserKey(1)), unread.share(UserKey(1)));
        let stage = Arc::<Stage>::default();
        let mut calls = calls(&stage);
        let started = || stage.started.lock().clone();
        for id in 0..4 {
            calls.arrive(call(id, AnyRequest::SyncPull(Box::default())));
        }
        calls.arrive(send(4, "bob"));
        assert!(calls.next(Some(&mut share)).now_or_never().is_none());
        assert_eq!(started(), [4, 0, 1], "a share of it is room for two");
        calls.arrive(send(5, "cat"));
        assert!(calls.next(Some(&mut share)).now_or_never().is_none());
        assert_eq!(started(), [4, 0, 1, 5]);
        // One is over, but its answer is not read.
        stage.end[0].notify_one();
        while calls.next(Some(&mut share)).now_or_never().is_none() {}
        calls.take_done();
        share.set(calls.reading(), 100_000);
        assert!(calls.next(Some(&mut share)).now_or_never().is_none());
        assert_eq!(started(), [4, 0, 1, 5]);
        share.set(calls.reading(), 0);
        assert!(calls.next(Some(&mut share)).now_or_never().is_none());
        assert_eq!(started(), [4, 0, 1, 5, 2]);
        // Without a read that waits, nothing is put aside.
        calls.forget_waiting();
        assert!(calls.next(Some(&mut share)).now_or_never().is_none());
        share.set(0, 0);
        let mut room = std::task::Context::from_waker(std::task::Waker::noop());
        assert!((0..2).all(|_| other.poll_room(&mut room).is_ready()));
    }

    #[test]
    fn what_waits_at_the_end_is_forgotten() {
        let stage = Arc::<Stage>::default();
        let mut calls = calls(&stage);
        calls.arrive(send(0, "bob"));
        calls.arrive(send(1, "bob"));
        calls.forget_waiting();
        assert_eq!(calls.len(), 1);
        stage.end[0].notify_one();
        assert_eq!(step(&mut calls), [0]);
        assert_eq!(calls.len(), 0);
        assert_eq!(*stage.started.lock(), [0]);
    }
}
