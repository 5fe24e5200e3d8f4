//! The load of a benchmark: pairs of bare clients, a sender and a receiver.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use zim_protocol::event_frame::Frame;
use zim_protocol::{ConversationType, EventFrame, Message, SendMessageRequest};

use super::histogram::Histogram;
use super::meter::{Meter, SharedMeter, is_final, text};
use super::raw::{Events, Raw, SharedDialer, outcome, queue};
use super::spread::Recipients;
use super::target::Target;
use crate::exit::Failure;

/// The time limit after the end for messages in flight.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);
/// The number of concurrent logins.
pub(crate) const LOGINS_AT_ONCE: usize = 16;

/// The settings of a load.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) role: &'static str,
    pub(crate) pairs: usize,
    pub(crate) window: usize,
    pub(crate) size: usize,
    /// The pause before each message.
    pub(crate) pause: Option<Duration>,
    /// The users to whom each sender writes in turn; `None` is the receiver of the pair.
    pub(crate) recipients: Option<Arc<[String]>>,
    /// The limit of messages of a sender.
    pub(crate) max_messages: u64,
}

impl Load {
    /// One message at a time from each sender, with a pause.
    pub(crate) fn calm(role: &'static str, pairs: usize, pause: Duration) -> Self {
        Self { window: 1, pause: Some(pause), ..Self::full(role, pairs) }
    }

    /// As many messages of 200 bytes as the server accepts.
    pub(crate) fn full(role: &'static str, pairs: usize) -> Self {
        Self { role, pairs, window: 8, size: 200, pause: None, recipients: None, max_messages: u64::MAX }
    }
}

/// Running senders and receivers.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) senders: JoinSet<()>,
    pub(crate) receivers: JoinSet<()>,
}

impl Running {
    /// Waits for messages in flight, then ends the load.
    pub(crate) async fn end(mut self, meter: &Meter) {
        meter.stop();
        drop(timeout(DRAIN, async { while self.senders.join_next().await.is_some() {} }).await);
        self.senders.shutdown().await;
        let arrived = async {
            while meter.missing() > 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        drop(timeout(DRAIN, arrived).await);
        // Receivers add their measurements when they are asked to finish, not when they are aborted.
        meter.finish();
        drop(timeout(DRAIN, async { while self.receivers.join_next().await.is_some() {} }).await);
        self.receivers.shutdown().await;
    }
}

/// Logs in the pairs and starts the load.
pub(crate) async fn raw_load(
    load: &Load,
    target: &Target,
    dialer: &SharedDialer,
    meter: &SharedMeter,
) -> Result<Running, Failure> {
    nodes_load(load, target, std::slice::from_ref(dialer), meter).await
}

/// The same with several nodes: those of a pair are on different ones, and each node has as many senders as the others.
pub(crate) async fn nodes_load(
    load: &Load,
    target: &Target,
    nodes: &[SharedDialer],
    meter: &SharedMeter,
) -> Result<Running, Failure> {
    use futures_util::stream::{self, StreamExt, TryStreamExt};
    let pairs: Vec<(Raw, Raw)> = stream::iter(0..load.pairs)
        .map(|pair| async move {
            // A sender to many recipients receives its own messages on a second device.
            let other = if load.recipients.is_some() { 2 * pair } else { 2 * pair + 1 };
            let node = |number: usize| &nodes[number % nodes.len()];
            let receiver = node(pair + 1).log_in_with_retries(&target.user(load.role, other)).await?;
            let sender = node(pair).log_in_with_retries(&target.user(load.role, 2 * pair)).await?;
            Ok::<_, Failure>((sender, receiver))
        })
        .buffered(LOGINS_AT_ONCE)
        .try_collect()
        .await?;
    let mut running = Running { senders: JoinSet::new(), receivers: JoinSet::new() };
    for (pair, (sender, receiver)) in pairs.into_iter().enumerate() {
        let to = match &load.recipients {
            Some(names) => Recipients::many(names, pair),
            None => Recipients::one(target.user(load.role, 2 * pair + 1)),
        };
        let load = load.clone();
        running.receivers.spawn(receive(receiver, Arc::clone(meter)));
        let meter = Arc::clone(meter);
        running.senders.spawn(async move {
            let mut mine = Histogram::default();
            if let Some(pause) = load.pause {
                // Senders start at different times, so that they do not send in step.
                sleep(pause.mul_f64(pair as f64 / load.pairs as f64)).await;
            }
            if let Err(failure) = send(sender, to, &load, &meter, &mut mine).await {
                meter.fail(&failure);
            }
            meter.add(&mine, &Histogram::default());
        });
    }
    Ok(running)
}

/// Generates unique client keys: a random prefix and a counter.
#[derive(Debug)]
pub(crate) struct Keys {
    random: [u8; 8],
    count: AtomicU64,
}

impl Keys {
    pub(crate) fn new() -> Result<Self, Failure> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| Failure::other(error.to_string()))?;
        Ok(Self { random, count: AtomicU64::new(0) })
    }

    pub(crate) fn next(&self) -> Bytes {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        Bytes::from([self.random, count.to_be_bytes()].concat())
    }
}

/// Keeps `window` messages in flight. After each read, the messages that replace the acknowledged ones are written together.
async fn send(
    mut raw: Raw,
    mut to: Recipients,
    load: &Load,
    meter: &Meter,
    mine: &mut Histogram,
) -> Result<(), Failure> {
    let keys = Keys::new()?;
    let window = u64::try_from(load.window).unwrap_or(1);
    let mut message = |since| SendMessageRequest {
        message: Some(Message::text(text(since, load.size))),
        to_conversation_id: to.next(),
        conversation_type: ConversationType::Peer as i32,
        config: None,
        client_key: keys.next(),
        omit_content: true,
    };
    let mut began = vec![Instant::now(); load.window];
    let mut out = BytesMut::new();
    let mut left = load.max_messages;
    let mut in_flight = 0;
    for id in 0..window.min(left) {
        queue(id, &message(meter.since), &mut out);
        (in_flight, left) = (in_flight + 1, left - 1);
    }
    raw.write(out).await?;
    while in_flight > 0 {
        let mut next = Some(raw.response().await?);
        let mut out = BytesMut::new();
        while let Some(response) = next {
            let id = response.id;
            let slot = usize::try_from(id % window).unwrap_or(0);
            match outcome(response) {
                Ok(_) => meter.acknowledge(began[slot].elapsed(), mine),
                Err(failure) if is_final(&failure) => return Err(failure),
                Err(failure) => meter.fail(&failure),
            }
            in_flight -= 1;
            if left > 0 && !meter.is_stopping() {
                left -= 1;
                if let Some(pause) = load.pause {
                    sleep(pause).await;
                }
                began[slot] = Instant::now();
                queue(id + window, &message(meter.since), &mut out);
                in_flight += 1;
            }
            next = raw.ready()?;
        }
        if !out.is_empty() {
            raw.write(out).await?;
        }
    }
    raw.close();
    Ok(())
}

async fn receive(raw: Raw, meter: SharedMeter) {
    let mut mine = Histogram::default();
    let mut events = Events::of(&raw);
    loop {
        let frame = tokio::select! {
            frame = events.next() => frame,
            () = meter.finished() => break,
        };
        let frame = match frame {
            Ok(frame) => EventFrame::decode(frame),
            Err(failure) => {
                meter.fail(&failure);
                break;
            }
        };
        if let Ok(EventFrame { frame: Some(Frame::Push(push)) }) = frame {
            for entry in push.messages {
                let message = Message::decode(entry.content).unwrap_or_default();
                meter.deliver(message.as_text().unwrap_or(""), &mut mine);
            }
        }
    }
    meter.add(&Histogram::default(), &mine);
    raw.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_never_repeat() {
        let keys = Keys::new().unwrap();
        let (one, two) = (keys.next(), keys.next());
        assert_eq!(one.len(), 16);
        assert_ne!(one, two);
    }
}
