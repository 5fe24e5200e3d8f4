//! The calls of one session that are in work: which may start, which are done.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::handler::Call;
use super::order::Order;
use crate::error::Error;
use crate::session::Caller;

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

/// The calls of one session. They run within the session's own task.
pub(crate) struct Calls<S> {
    start: S,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    order: Order<Call>,
    holders: Vec<Holder>,
}

impl<S: Fn(Call) -> BoxFuture<'static, Done>> Calls<S> {
    /// `start` makes a call run.
    pub(crate) fn new(start: S) -> Self {
        Self { start, running: FuturesUnordered::new(), order: Order::default(), holders: Vec::new() }
    }

    /// How many are in work or wait for their turn.
    pub(crate) fn len(&self) -> usize {
        self.running.len() + self.order.waiting()
    }

    /// A call arrives. It starts with the next [`Calls::next`], or when those before it to the same target have let it pass.
    pub(crate) fn arrive(&mut self, call: Call) {
        match call.request.order() {
            None => self.running.push((self.start)(call)),
            Some(target) => {
                if let Some(call) = self.order.arrive(target, call) {
                    self.start_holder(target, call);
                }
            }
        }
    }

    fn start_holder(&mut self, target: u64, call: Call) {
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

    /// Runs the calls; returns when some are over, and gives all that are to `done`. Waits for ever when there are none.
    pub(crate) async fn next(&mut self, mut done: impl FnMut(Done)) {
        poll_fn(|cx| self.poll(cx, &mut done)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>, done: &mut impl FnMut(Done)) -> Poll<()> {
        let mut progress = false;
        loop {
            match self.running.poll_next_unpin(cx) {
                Poll::Ready(Some(over)) => {
                    // A call that is over holds nobody back, whether or not it came to the write queue.
                    over.caller.set_submitted();
                    done(over);
                    progress = true;
                }
                Poll::Ready(None) | Poll::Pending => {
                    if !self.pass() {
                        break;
                    }
                }
            }
        }
        if progress { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Forgets the calls that have not started.
    pub(crate) fn forget_waiting(&mut self) {
        self.order.clear();
    }
}

impl<S> std::fmt::Debug for Calls<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").field("running", &self.running.len()).field("order", &self.order).finish_non_exhaustive()
    }
}
