//! What waits to be sent. It is bounded: what does not fit is dropped, and its number shows the other nodes that it is missing.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::Notify;

use super::hint::{Beat, Hint, Packet};
use super::numbers::{NodeId, SUBJECTS};

/// The bytes that may wait.
const MAX_BYTES: usize = 32 << 20;
/// The hints of one packet take at most this, unless one takes more: NATS takes 1 MB by default.
const PACKET_BYTES: usize = 256 << 10;

/// A packet, or a beat.
#[derive(Debug, PartialEq)]
pub(super) enum Outgoing {
    Packet { subject: usize, payload: Bytes, hints: usize },
    Beat(Bytes),
}

#[derive(Debug)]
pub(super) struct Queue {
    node: NodeId,
    waiting: Mutex<Waiting>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    packets: VecDeque<Outgoing>,
    bytes: usize,
    numbers: [u64; SUBJECTS],
    /// The numbers in the last beat.
    told: [u64; SUBJECTS],
    beat: u64,
}

impl Queue {
    pub(super) fn new(node: NodeId) -> Self {
        Self { node, waiting: Mutex::default(), added: Notify::new() }
    }

    /// Adds hints, each with its subject.
    pub(super) fn add(&self, hints: Vec<(usize, Hint)>) {
        let mut subjects: [(Vec<Hint>, usize); SUBJECTS] = Default::default();
        for (subject, hint) in hints {
            let Some((waiting, bytes)) = subjects.get_mut(subject) else { continue };
            let more = hint.encoded_len();
            if !waiting.is_empty() && *bytes + more > PACKET_BYTES {
                self.add_packet(subject, std::mem::take(waiting));
                *bytes = 0;
            }
            *bytes += more;
            waiting.push(hint);
        }
        for (subject, (hints, _)) in subjects.into_iter().enumerate() {
            if !hints.is_empty() {
                self.add_packet(subject, hints);
            }
        }
        self.added.notify_one();
    }

    fn add_packet(&self, subject: usize, hints: Vec<Hint>) {
        let mut waiting = self.waiting.lock();
        waiting.numbers[subject] += 1;
        let number = waiting.numbers[subject];
        let count = hints.len();
        let packet = Packet { node: u32::from(self.node.0), generation: self.node.1, number, hints }.encode_to_vec();
        if waiting.bytes + packet.len() > MAX_BYTES {
            metrics::counter!("zim_bus_dropped_total").increment(1);
            return;
        }
        waiting.bytes += packet.len();
        waiting.packets.push_back(Outgoing::Packet { subject, payload: packet.into(), hints: count });
    }

    /// Adds a beat.
    pub(super) fn add_beat(&self) {
        let mut waiting = self.waiting.lock();
        waiting.beat += 1;
        let mut beat =
            Beat { node: u32::from(self.node.0), generation: self.node.1, number: waiting.beat, ..Beat::default() };
        for subject in 0..SUBJECTS {
            if waiting.numbers[subject] != waiting.told[subject] {
                beat.subjects.push(u32::try_from(subject).unwrap_or_default());
                beat.numbers.push(waiting.numbers[subject]);
            }
        }
        waiting.told = waiting.numbers;
        waiting.packets.push_back(Outgoing::Beat(beat.encode_to_vec().into()));
        drop(waiting);
        self.added.notify_one();
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.lock().packets.is_empty()
    }

    /// Waits until there is something to send, and takes all of it.
    pub(super) async fn take(&self) -> VecDeque<Outgoing> {
        loop {
            let packets = {
                let mut waiting = self.waiting.lock();
                waiting.bytes = 0;
                std::mem::take(&mut waiting.packets)
            };
            if !packets.is_empty() {
                return packets;
            }
            self.added.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hint;
    use super::*;
    use crate::effect::{Effect, Queue as TaskQueue};
    use crate::key::{LoginKey, UserKey};

    fn numbers(taken: VecDeque<Outgoing>) -> Vec<(usize, u64)> {
        let number = |outgoing| match outgoing {
            Outgoing::Packet { subject, payload, hints } => {
                let packet = Packet::decode(payload).unwrap();
                assert_eq!(packet.hints.len(), hints);
                (subject, packet.number)
            }
            Outgoing::Beat(beat) => (SUBJECTS, Beat::decode(beat).unwrap().number),
        };
        taken.into_iter().map(number).collect()
    }

    fn feed(user: i64, bytes: usize) -> Vec<(usize, Hint)> {
        let info = zim_protocol::UserFullInfo { extended_data: "x".repeat(bytes), ..Default::default() };
        let entry = Box::new(zim_protocol::feed_entry::Detail::Profile(info));
        hint::encode(&[Effect::Feed { user: UserKey(user), pos: 1, entry, cause: LoginKey(0) }])
    }

    #[tokio::test]
    async fn packets_of_a_subject_are_numbered_and_a_beat_names_what_changed() {
        let queue = Queue::new((3, 7));
        let due = || hint::encode(&[Effect::Due { queue: TaskQueue::Tasks, at: 5 }]);
        queue.add(due());
        queue.add([due(), due()].concat());
        assert_eq!(numbers(queue.take().await), [(0, 1), (0, 2)], "one packet for what comes together");
        queue.add_beat();
        queue.add_beat();
        let beats: Vec<Beat> = queue
            .take()
            .await
            .into_iter()
            .map(|beat| match beat {
                Outgoing::Beat(beat) => Beat::decode(beat).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((beats[0].node, beats[0].generation, beats[0].number), (3, 7, 1));
        assert_eq!((&beats[0].subjects[..], &beats[0].numbers[..]), (&[0][..], &[2][..]));
        assert_eq!((beats[1].number, beats[1].subjects.len()), (2, 0));
    }

    #[tokio::test]
    async fn long_packets_are_split_and_what_has_no_room_leaves_a_hole() {
        let queue = Queue::new((3, 7));
        queue.add([feed(1, PACKET_BYTES / 2), feed(1, PACKET_BYTES / 2), feed(1, 10)].concat());
        let taken = numbers(queue.take().await);
        let subject = taken[0].0;
        assert_eq!(taken, [(subject, 1), (subject, 2)]);
        (0..1 + MAX_BYTES / PACKET_BYTES).for_each(|_| queue.add(feed(1, PACKET_BYTES)));
        let full = numbers(queue.take().await).len() as u64;
        queue.add(feed(1, 10));
        let next = numbers(queue.take().await);
        assert!(next[0].1 > 2 + full + 1, "{next:?} after {full}");
    }
}
