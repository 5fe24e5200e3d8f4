//! The load of `zim bench group` and `zim bench room`: members who send, and all who receive.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Interval, interval_at, sleep, timeout};
use zim_protocol::{ConversationType, Message, MessageSendConfig, Response, SendMessageRequest};

use super::arrivals::Arrivals;
use super::histogram::Histogram;
use super::load::{DRAIN, Keys};
use super::meter::{Meter, SharedMeter, is_final, text};
use super::raw::{Events, Raw, outcome, queue};
use crate::exit::Failure;

/// Receivers share histograms, because a histogram for each of thousands would take the processor's cache.
const SHARES: usize = 16;
/// How often a sender that waits looks whether the load ends.
const STEP: Duration = Duration::from_millis(50);
/// A sender that has waited for longer goes on, although its messages are not with all.
const STALLED: Duration = Duration::from_secs(2);
/// The digits of the number of a message to a room, which follow the time.
const NUMBER: std::ops::Range<usize> = 16..32;

/// The settings of a load.
#[derive(Clone, Debug)]
pub(crate) struct GroupLoad {
    /// The group or the room.
    pub(crate) to: String,
    pub(crate) kind: ConversationType,
    /// The sessions of this process that get each message.
    pub(crate) receivers: usize,
    pub(crate) senders: usize,
    /// Messages a second of all senders; `None` is as many as the windows allow.
    pub(crate) rate: Option<u32>,
    /// Messages of each sender that are not delivered to all.
    pub(crate) window: usize,
    pub(crate) size: usize,
    /// The messages ask for receipts.
    pub(crate) has_receipt: bool,
}

/// The last delivery of a message in this process.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Last {
    /// Which message it is.
    place: u64,
    latency: Duration,
    /// It was in the measurement.
    is_measured: bool,
}

/// Returns the latencies of the last deliveries: of each message here, or of the later one here and in the crowd. The crowd has most
/// of the members, so its messages count.
pub(crate) fn last_deliveries(here: &[Last], crowd: Option<&[Last]>) -> Histogram {
    let own: HashMap<u64, Duration> = match crowd {
        Some(_) => here.iter().map(|last| (last.place, last.latency)).collect(),
        None => HashMap::new(),
    };
    let mut all = Histogram::default();
    for last in crowd.unwrap_or(here).iter().filter(|last| last.is_measured) {
        all.record(own.get(&last.place).map_or(last.latency, |own| last.latency.max(*own)));
    }
    all
}

/// The latencies that some receivers measured.
#[derive(Debug, Default)]
struct Share {
    delivery: Histogram,
    lasts: Vec<Last>,
}

/// What all receivers share.
#[derive(Debug)]
struct Receipts {
    meter: SharedMeter,
    arrivals: Arrivals,
    shares: [Mutex<Share>; SHARES],
    /// The messages that may be sent now, without a rate.
    room: Semaphore,
    told_to_pull: AtomicU64,
    dropped: AtomicU64,
    /// The number of the last message to a room. A group has positions instead.
    numbered: Option<AtomicU64>,
}

/// What has become of a load.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The last deliveries in this process.
    pub(crate) lasts: Vec<Last>,
    /// How often a session was told to pull.
    pub(crate) told_to_pull: u64,
    /// Deliveries that the server dropped.
    pub(crate) dropped: u64,
}

/// Running senders and receivers.
#[derive(Debug)]
pub(crate) struct GroupRunning {
    receipts: Arc<Receipts>,
    senders: JoinSet<Raw>,
    /// The sessions of senders that have ended. They still receive.
    sessions: Vec<Raw>,
    receivers: JoinSet<()>,
}

/// When a sender may send.
#[derive(Debug)]
enum Pace {
    Rate(Interval),
    /// At most this many at once.
    Room(Arc<Receipts>, usize),
}

impl Pace {
    /// Waits until something may be sent, and returns how many messages.
    async fn next(&mut self) -> usize {
        match self {
            // Late ticks follow at once, so that a delay of the server does not lower the rate.
            Self::Rate(interval) => {
                interval.tick().await;
                1
            }
            Self::Room(receipts, most) => {
                match timeout(STALLED, receipts.room.acquire()).await {
                    Ok(Ok(first)) => first.forget(),
                    // The semaphore is never closed.
                    Ok(Err(_)) => return pending().await,
                    // What was dropped for somebody never is with all.
                    Err(_) => receipts.room.add_permits(*most - 1),
                }
                let mut count = 1;
                while count < *most
                    && let Ok(more) = receipts.room.try_acquire()
                {
                    more.forget();
                    count += 1;
                }
                count
            }
        }
    }
}

/// Starts the load on sessions of members; the first ones send. Those who only receive do it in a runtime of their own.
pub(crate) fn start(
    load: &GroupLoad,
    sessions: Vec<Raw>,
    meter: &SharedMeter,
    receiving: &Handle,
) -> Result<GroupRunning, Failure> {
    let receipts = Arc::new(Receipts {
        meter: Arc::clone(meter),
        arrivals: Arrivals::new(load.receivers),
        shares: Default::default(),
        room: Semaphore::new(load.senders * load.window),
        told_to_pull: AtomicU64::new(0),
        dropped: AtomicU64::new(0),
        numbered: (load.kind == ConversationType::Room).then(AtomicU64::default),
    });
    let (mut senders, mut receivers) = (JoinSet::new(), JoinSet::new());
    for (index, session) in sessions.into_iter().enumerate() {
        let events = Events::of(&session);
        let is_sender = index < load.senders;
        let own = if is_sender {
            let pace = match load.rate {
                Some(rate) => {
                    let between = Duration::from_secs(1) / rate;
                    // Senders take turns.
                    let first = tokio::time::Instant::now() + between * u32::try_from(index).unwrap_or(0);
                    Pace::Rate(interval_at(first, between * u32::try_from(load.senders).unwrap_or(1)))
                }
                None => Pace::Room(Arc::clone(&receipts), load.window),
            };
            let (load, receipts) = (load.clone(), Arc::clone(&receipts));
            let sender = Sender { raw: session, pace, load, receipts, keys: Keys::new()?, began: HashMap::new() };
            senders.spawn(sender.run(Arc::clone(meter)));
            None
        } else {
            Some(session)
        };
        let receives = receive(events, own, Arc::clone(&receipts), index % SHARES);
        if is_sender {
            receivers.spawn(receives);
        } else {
            receivers.spawn_on(receives, receiving);
        }
    }
    Ok(GroupRunning { receipts, senders, sessions: Vec::new(), receivers })
}

impl GroupRunning {
    /// Returns the latencies of the deliveries until now.
    pub(crate) fn delivery(&self) -> Histogram {
        let mut all = Histogram::default();
        for share in &self.receipts.shares {
            all.merge(&share.lock().delivery);
        }
        all
    }

    /// Returns how often a session was told to pull until now.
    pub(crate) fn told_to_pull(&self) -> u64 {
        self.receipts.told_to_pull.load(Ordering::Relaxed)
    }

    /// Returns how many deliveries the server dropped until now.
    pub(crate) fn dropped(&self) -> u64 {
        self.receipts.dropped.load(Ordering::Relaxed)
    }

    /// Stops the senders, when they have their answers.
    pub(crate) async fn stop(&mut self, meter: &Meter) {
        meter.stop();
        let senders = async {
            while let Some(done) = self.senders.join_next().await {
                self.sessions.extend(done);
            }
        };
        drop(timeout(DRAIN, senders).await);
    }

    /// Waits for messages in flight, then ends the load.
    pub(crate) async fn end(mut self, meter: &Meter) -> Ended {
        self.stop(meter).await;
        let arrived = async {
            while meter.missing() > 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        drop(timeout(DRAIN, arrived).await);
        meter.finish();
        drop(timeout(DRAIN, async { while self.receivers.join_next().await.is_some() {} }).await);
        self.senders.shutdown().await;
        self.receivers.shutdown().await;
        self.sessions.drain(..).for_each(Raw::close);
        let mut lasts = Vec::new();
        for share in &self.receipts.shares {
            let share = share.lock();
            meter.add(&Histogram::default(), &share.delivery);
            lasts.extend(&share.lasts);
        }
        Ended { lasts, told_to_pull: self.told_to_pull(), dropped: self.dropped() }
    }
}

/// A member who sends.
#[derive(Debug)]
struct Sender {
    raw: Raw,
    pace: Pace,
    load: GroupLoad,
    receipts: Arc<Receipts>,
    keys: Keys,
    /// When the requests in flight were made.
    began: HashMap<u64, Instant>,
}

impl Sender {
    /// Sends until the load ends. Returns the session, which still receives.
    async fn run(mut self, meter: SharedMeter) -> Raw {
        let mut mine = Histogram::default();
        if let Err(failure) = self.send(&meter, &mut mine).await {
            meter.fail(&failure);
        }
        meter.add(&mine, &Histogram::default());
        self.raw
    }

    async fn send(&mut self, meter: &Meter, mine: &mut Histogram) -> Result<(), Failure> {
        let mut id = 0;
        while !meter.is_stopping() || !self.began.is_empty() {
            tokio::select! {
                response = self.raw.response() => {
                    let mut next = Some(response?);
                    while let Some(response) = next {
                        self.answered(response, meter, mine)?;
                        next = self.raw.ready()?;
                    }
                }
                count = self.pace.next(), if !meter.is_stopping() => {
                    let mut out = BytesMut::new();
                    for _ in 0..count {
                        id += 1;
                        self.began.insert(id, Instant::now());
                        queue(id, &self.message(meter), &mut out);
                    }
                    self.raw.write(out).await?;
                }
                () = sleep(STEP) => {}
            }
        }
        Ok(())
    }

    fn message(&self, meter: &Meter) -> SendMessageRequest {
        let mut text = text(meter.since, self.load.size);
        if let Some(last) = &self.receipts.numbered {
            let rest = text.split_off(NUMBER.start);
            let rest = rest.get(NUMBER.len()..).unwrap_or_default();
            text = format!("{text}{:016x}{rest}", last.fetch_add(1, Ordering::Relaxed) + 1);
        }
        SendMessageRequest {
            message: Some(Message::text(text)),
            to_conversation_id: self.load.to.clone(),
            conversation_type: self.load.kind as i32,
            config: self.load.has_receipt.then(asks_for_receipt),
            client_key: self.keys.next(),
            omit_content: true,
        }
    }

    fn answered(&mut self, response: Response, meter: &Meter, mine: &mut Histogram) -> Result<(), Failure> {
        let began = self.began.remove(&response.id);
        match outcome(response) {
            Ok(_) => meter.acknowledge(began.map(|began| began.elapsed()).unwrap_or_default(), mine),
            Err(failure) if is_final(&failure) => return Err(failure),
            Err(failure) => {
                meter.fail(&failure);
                // Nobody will receive this message.
                if let Pace::Room(receipts, _) = &self.pace {
                    receipts.room.add_permits(1);
                }
            }
        }
        Ok(())
    }
}

fn asks_for_receipt() -> MessageSendConfig {
    MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() }
}

/// What is measured of an event frame. The rest is skipped: clients and server share the machine.
#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(message, optional, tag = "1")]
    push: Option<Push>,
    #[prost(message, optional, tag = "2")]
    dirty: Option<Told>,
    #[prost(message, optional, tag = "3")]
    transient: Option<Said>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Told {
    #[prost(uint64, tag = "4")]
    transients_dropped: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Said {
    #[prost(message, optional, tag = "2")]
    message: Option<Entry>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Push {
    #[prost(message, repeated, tag = "5")]
    messages: Vec<Entry>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(uint64, tag = "1")]
    seq: u64,
    #[prost(bytes = "bytes", tag = "9")]
    content: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Content {
    #[prost(message, optional, tag = "40")]
    text: Option<Text>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(bytes = "bytes", tag = "1")]
    message: Bytes,
}

impl Entry {
    /// Returns the text of the message; empty for a message of this session, which comes without its content.
    fn text(self) -> Bytes {
        Content::decode(self.content).ok().and_then(|content| content.text).unwrap_or_default().message
    }
}

/// Receives until the load ends. Keeps the session of a member who does not send.
async fn receive(mut events: Events, session: Option<Raw>, receipts: Arc<Receipts>, share: usize) {
    let meter = Arc::clone(&receipts.meter);
    let finished = meter.finished();
    tokio::pin!(finished);
    loop {
        let frame = tokio::select! {
            frame = events.next() => frame,
            () = &mut finished => break,
        };
        match frame {
            Ok(frame) => receipts.take(frame, share),
            Err(failure) => {
                meter.fail(&failure);
                break;
            }
        }
    }
    if let Some(session) = session {
        session.close();
    }
}

impl Receipts {
    fn take(&self, frame: Bytes, share: usize) {
        let event = Event::decode(frame).unwrap_or_default();
        match event.dirty {
            Some(Told { transients_dropped: 0 }) => drop(self.told_to_pull.fetch_add(1, Ordering::Relaxed)),
            Some(Told { transients_dropped }) => drop(self.dropped.fetch_add(transients_dropped, Ordering::Relaxed)),
            None => {}
        }
        let mut share = self.shares[share].lock();
        let mut complete = 0;
        let said = event.transient.and_then(|said| said.message);
        for entry in event.push.unwrap_or_default().messages.into_iter().chain(said) {
            let seq = entry.seq;
            let text = entry.text();
            let text = std::str::from_utf8(&text).unwrap_or("");
            let Some(latency) = self.meter.deliver(text, &mut share.delivery) else { continue };
            let number = || u64::from_str_radix(text.get(NUMBER)?, 16).ok();
            let place = if self.numbered.is_some() { number().unwrap_or(0) } else { seq };
            if self.arrivals.arrive(place) {
                complete += 1;
                share.lasts.push(Last { place, latency, is_measured: self.meter.is_measuring() });
            }
        }
        self.room.add_permits(complete);
    }
}

#[cfg(test)]
mod tests {
    use zim_protocol::{Dirty, EventFrame, MessageEntry, event_frame::Frame};

    use super::*;

    fn receipts(receivers: usize, numbered: Option<AtomicU64>) -> Receipts {
        Receipts {
            dropped: AtomicU64::new(0),
            numbered,
            meter: Meter::with_copies(receivers),
            arrivals: Arrivals::new(receivers),
            shares: Default::default(),
            room: Semaphore::new(0),
            told_to_pull: AtomicU64::new(0),
        }
    }

    fn frame(frame: Frame) -> Bytes {
        EventFrame { frame: Some(frame) }.encode_to_vec().into()
    }

    #[test]
    fn the_last_delivery_is_the_later_one_of_two_processes() {
        let last = |place, ms, is_measured| Last { place, latency: Duration::from_millis(ms), is_measured };
        let here = [last(1, 5, true), last(2, 50, false), last(3, 1, true), last(9, 90, true)];
        let alone = last_deliveries(&here, None);
        assert_eq!((alone.count(), alone.summary().max), (3, Duration::from_millis(90)));
        // The second one was measured there, and the last one is not with all of the crowd.
        let crowd = [last(1, 20, true), last(2, 30, true), last(3, 80, false), last(4, 40, true)];
        let both = last_deliveries(&here, Some(&crowd));
        assert_eq!((both.count(), both.summary().max), (3, Duration::from_millis(50)));
        assert_eq!(last_deliveries(&[], Some(&crowd)).summary().max, Duration::from_millis(40));
    }

    #[test]
    fn pushes_are_counted_until_all_receivers_have_a_message() {
        let receipts = receipts(2, None);
        receipts.meter.measure(true);
        let content = Message::text(text(receipts.meter.since, 100)).encode_to_vec();
        let entry = |seq, content: &[u8]| MessageEntry {
            seq,
            sender: "ann".to_owned(),
            content: content.to_vec().into(),
            ..MessageEntry::default()
        };
        // The second message is one of the receiver's own.
        let messages = vec![entry(1, &content), entry(2, b""), entry(3, &content)];
        let push = frame(Frame::Push(zim_protocol::Push { messages, ..zim_protocol::Push::default() }));
        receipts.take(push.clone(), 0);
        assert_eq!((receipts.meter.counts().1, receipts.room.available_permits()), (2, 0));
        receipts.take(push, 1);
        assert_eq!((receipts.meter.counts().1, receipts.room.available_permits()), (4, 2));
        assert_eq!(receipts.told_to_pull.load(Ordering::Relaxed), 0);
        receipts.take(frame(Frame::Dirty(Dirty::default())), 0);
        assert_eq!(receipts.told_to_pull.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn messages_to_a_room_are_told_apart_by_their_numbers() {
        let receipts = receipts(2, Some(AtomicU64::new(0)));
        let said = |number: u64| {
            let text = format!("{}{number:016x}...", text(receipts.meter.since, 16));
            let content = Message::text(text).encode_to_vec().into();
            let message = Some(MessageEntry { sender: "ann".to_owned(), content, ..MessageEntry::default() });
            frame(Frame::Transient(zim_protocol::Transient { message, ..zim_protocol::Transient::default() }))
        };
        receipts.take(said(1), 0);
        receipts.take(said(2), 1);
        assert_eq!(receipts.room.available_permits(), 0);
        receipts.take(said(2), 0);
        receipts.take(said(1), 1);
        assert_eq!(receipts.room.available_permits(), 2);
        receipts.take(frame(Frame::Dirty(Dirty { transients_dropped: 3, ..Dirty::default() })), 0);
        assert_eq!((receipts.dropped.load(Ordering::Relaxed), receipts.told_to_pull.load(Ordering::Relaxed)), (3, 0));
    }
}
