//! The frames that wait for one connection's event stream, bounded in bytes.

use std::collections::{HashSet, VecDeque};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;
use zim_protocol::{
    ConversationRef, ConversationType, Dirty, EventFrame, MessagePriority, SessionEnd, SessionEndReason,
    event_frame::Frame, frame::encode_frame,
};

use super::transients::Transients;

/// Beyond this many dirty conversations, they are no longer named: the client syncs instead.
const MAX_DIRTY: usize = 1_000;

/// The log that a frame extends, under the viewer's name of it. If the body of a push is dropped, this is what remains
/// of it.
#[derive(Clone, Debug)]
pub enum PushTarget {
    /// The viewer's feed.
    Feed,
    /// A conversation: messages and changes are pulled together.
    Conversation(ConversationRef),
    /// No log: the present state of other users.
    Snapshot,
}

/// A bounded queue of encoded event frames. A client that reads too slowly loses bodies, never positions: the queue
/// marks their logs as dirty, and the client pulls them. Transients have room of their own, so neither takes that of the
/// other; all frames leave in the order of their arrival.
#[derive(Debug)]
pub struct PushQueue {
    inner: Mutex<Inner>,
    ready: Notify,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Inner {
    /// The frames with their numbers of arrival.
    frames: VecDeque<(u64, Bytes)>,
    bytes: usize,
    transients: Transients,
    /// The number of frames that have arrived.
    arrived: u64,
    dirty_feed: bool,
    dirty_snapshots: bool,
    dirty: HashSet<(i32, String)>,
    dirty_all: bool,
    end: Option<SessionEnd>,
    ended: bool,
    /// The login has ended with the connection.
    is_final: bool,
}

impl Inner {
    fn fits(&self, frame: &Bytes, max: usize) -> bool {
        // One frame always fits into an empty queue.
        self.frames.is_empty() || self.bytes + frame.len() <= max
    }

    fn add(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.arrived += 1;
        self.frames.push_back((self.arrived, frame));
    }

    /// Returns the length of the frame that arrived first, and whether it is a transient.
    fn first(&self) -> Option<(usize, bool)> {
        match (self.frames.front(), self.transients.first()) {
            (Some((at, frame)), Some((other, _))) if *at < other => Some((frame.len(), false)),
            (_, Some((_, transient))) => Some((transient.len(), true)),
            (frame, None) => frame.map(|(_, frame)| (frame.len(), false)),
        }
    }

    fn pop(&mut self, is_transient: bool) -> Option<Bytes> {
        if is_transient {
            return self.transients.pop_first();
        }
        let (_, frame) = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }

    fn is_dirty(&self, target: &PushTarget) -> bool {
        match target {
            PushTarget::Feed => self.dirty_all || self.dirty_feed,
            PushTarget::Snapshot => self.dirty_snapshots,
            PushTarget::Conversation(name) => self.is_conversation_dirty(name),
        }
    }

    fn is_conversation_dirty(&self, name: &ConversationRef) -> bool {
        self.dirty_all || (!self.dirty.is_empty() && self.dirty.contains(&(name.r#type, name.id.clone())))
    }

    fn mark_dirty(&mut self, target: &PushTarget) {
        match target {
            PushTarget::Feed => self.dirty_feed = true,
            PushTarget::Snapshot => self.dirty_snapshots = true,
            PushTarget::Conversation(_) if self.dirty.len() >= MAX_DIRTY => {
                self.dirty.clear();
                self.dirty_all = true;
            }
            PushTarget::Conversation(name) => {
                self.dirty.insert((name.r#type, name.id.clone()));
            }
        }
    }

    fn take_dirty(&mut self) -> Option<Dirty> {
        let is_clean = !self.dirty_feed && !self.dirty_snapshots && self.dirty.is_empty() && !self.dirty_all;
        if is_clean && self.transients.dropped == 0 {
            return None;
        }
        metrics::counter!("zim_transients_dropped_total").increment(self.transients.dropped);
        Some(Dirty {
            feed: std::mem::take(&mut self.dirty_feed),
            conversations: self.dirty.drain().map(|(r#type, id)| ConversationRef { r#type, id }).collect(),
            all: std::mem::take(&mut self.dirty_all),
            transients_dropped: std::mem::take(&mut self.transients.dropped),
            snapshots: std::mem::take(&mut self.dirty_snapshots),
        })
    }
}

impl PushQueue {
    /// Creates a queue that holds at most about `max_bytes` of frames, and a quarter of that of transients.
    pub fn new(max_bytes: usize) -> Self {
        Self { inner: Mutex::default(), ready: Notify::new(), max_bytes }
    }

    /// Queues a frame that extends `target`. A dirty log stays dirty: the client pulls it anyway.
    pub fn push(&self, frame: Bytes, target: &PushTarget) {
        self.push_all([frame], target);
    }

    /// Queues frames that extend `target`, in order.
    pub fn push_all(&self, frames: impl IntoIterator<Item = Bytes>, target: &PushTarget) {
        let mut frames = frames.into_iter().peekable();
        if frames.peek().is_none() {
            return;
        }
        let mut inner = self.inner.lock();
        if inner.ended {
            return;
        }
        for frame in frames {
            if inner.is_dirty(target) || !inner.fits(&frame, self.max_bytes) {
                inner.mark_dirty(target);
            } else {
                inner.add(frame);
            }
        }
        drop(inner);
        self.ready.notify_one();
    }

    /// Marks a log as dirty: the client pulls it.
    pub fn mark_dirty(&self, target: &PushTarget) {
        let mut inner = self.inner.lock();
        if inner.ended {
            return;
        }
        inner.mark_dirty(target);
        drop(inner);
        self.ready.notify_one();
    }

    /// Marks all logs and the state of other users as dirty: the client syncs.
    pub fn mark_all_dirty(&self) {
        let mut inner = self.inner.lock();
        if inner.ended {
            return;
        }
        inner.dirty.clear();
        (inner.dirty_all, inner.dirty_snapshots) = (true, true);
        drop(inner);
        self.ready.notify_one();
    }

    /// Queues a frame that is delivered at most once. If there is no room, frames of a lower priority are dropped, or this
    /// one; the client gets the number of dropped frames that it misses. It is also dropped if the client must pull what was sent
    /// before it in the conversation: it would overtake that. In a room there is nothing to pull.
    pub fn push_transient(
        &self,
        frame: Bytes,
        (priority, is_missed): (MessagePriority, bool),
        conversation: &ConversationRef,
    ) {
        let mut inner = self.inner.lock();
        if inner.ended {
            return;
        }
        let is_of_room = conversation.r#type == ConversationType::Room as i32;
        if !is_of_room && inner.is_conversation_dirty(conversation) {
            inner.transients.dropped += u64::from(is_missed);
        } else {
            inner.arrived += 1;
            let at = inner.arrived;
            inner.transients.push(at, frame, (priority, is_missed), self.max_bytes / 4);
        }
        drop(inner);
        self.ready.notify_one();
    }

    /// Notes transients that were dropped before they reached the queue.
    pub(crate) fn report_lost(&self, count: u64) {
        let mut inner = self.inner.lock();
        if inner.ended {
            return;
        }
        inner.transients.dropped += count;
        drop(inner);
        self.ready.notify_one();
    }

    /// Queues the last frame of the connection; nothing is queued after it. Only the first call has an effect.
    pub fn end(&self, reason: SessionEndReason, message: &str) {
        let mut inner = self.inner.lock();
        if !inner.ended {
            inner.ended = true;
            inner.is_final = matches!(
                reason,
                SessionEndReason::KickedOut
                    | SessionEndReason::Unregistered
                    | SessionEndReason::LoggedOut
                    | SessionEndReason::EndedByOperator
            );
            inner.end = Some(SessionEnd { reason: reason as i32, message: message.to_owned() });
        }
        drop(inner);
        self.ready.notify_one();
    }

    /// Like [`PushQueue::end`], for a connection whose client may connect again: requests that arrive before the client
    /// reads the frame are still served, so that it loses nothing. A later `end` takes precedence.
    pub fn retire(&self, message: &str) {
        let mut inner = self.inner.lock();
        if !inner.ended {
            inner.end = Some(SessionEnd { reason: SessionEndReason::Unspecified as i32, message: message.to_owned() });
        }
        drop(inner);
        self.ready.notify_one();
    }

    /// The number of frames that wait.
    pub fn len(&self) -> u64 {
        let inner = self.inner.lock();
        u64::try_from(inner.frames.len() + inner.transients.len()).unwrap_or(u64::MAX)
    }

    /// Whether no frame waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The frames that wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> Vec<Bytes> {
        self.inner.lock().frames.iter().map(|(_, frame)| frame.clone()).collect()
    }

    /// Whether [`PushQueue::end`] was called.
    pub fn is_ended(&self) -> bool {
        self.inner.lock().ended
    }

    /// Whether the login has ended with the connection: its client does not return.
    pub(crate) fn is_final(&self) -> bool {
        self.inner.lock().is_final
    }

    /// Waits for frames and moves at most about `max_bytes` of them into `out`. Returns how many, and the reason if the
    /// last one ends the connection.
    pub async fn next_batch(&self, out: &mut BytesMut, max_bytes: usize) -> (u64, Option<SessionEndReason>) {
        loop {
            let ready = self.ready.notified();
            let taken = self.take(out, max_bytes);
            if taken.0 > 0 {
                return taken;
            }
            ready.await;
        }
    }

    fn take(&self, out: &mut BytesMut, max_bytes: usize) -> (u64, Option<SessionEndReason>) {
        let mut count = 0;
        let (dirty, end) = {
            let mut inner = self.inner.lock();
            while let Some((length, is_transient)) = inner.first() {
                if count > 0 && out.len() + length > max_bytes {
                    break;
                }
                let Some(frame) = inner.pop(is_transient) else { break };
                out.extend_from_slice(&frame);
                count += 1;
            }
            if inner.first().is_none() {
                // An idle connection keeps no buffer.
                if inner.frames.capacity() > 64 {
                    inner.frames = VecDeque::new();
                }
                (inner.take_dirty(), inner.end.take())
            } else {
                (None, None)
            }
        };
        if let Some(dirty) = dirty {
            encode_frame(&EventFrame { frame: Some(Frame::Dirty(dirty)) }, out);
            count += 1;
        }
        let reason = end.as_ref().map(SessionEnd::reason);
        if let Some(end) = end {
            encode_frame(&EventFrame { frame: Some(Frame::End(end)) }, out);
            count += 1;
        }
        (count, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(id: &str) -> ConversationRef {
        ConversationRef { r#type: 0, id: id.to_owned() }
    }

    fn target(id: &str) -> PushTarget {
        PushTarget::Conversation(name(id))
    }

    fn frames(queue: &PushQueue) -> Vec<Frame> {
        let mut out = BytesMut::new();
        let mut decoder = zim_protocol::frame::FrameDecoder::new(1 << 20);
        queue.take(&mut out, usize::MAX);
        decoder.push(&out);
        let mut frames = Vec::new();
        while let Some(bytes) = decoder.next().unwrap() {
            let frame: EventFrame = prost::Message::decode(bytes).unwrap();
            frames.extend(frame.frame);
        }
        frames
    }

    fn push_frame(bytes: usize) -> Bytes {
        let mut out = BytesMut::new();
        let text = "x".repeat(bytes);
        encode_frame(&EventFrame { frame: Some(Frame::End(SessionEnd { reason: 0, message: text })) }, &mut out);
        out.freeze()
    }

    #[test]
    fn a_slow_reader_loses_bodies_but_no_position() {
        let queue = PushQueue::new(1_000);
        queue.push(push_frame(900), &target("ann"));
        queue.push(push_frame(900), &target("bob"));
        queue.push(push_frame(10), &target("bob"));
        queue.push(push_frame(10), &PushTarget::Feed);
        let got = frames(&queue);
        assert_eq!(got.len(), 3);
        let Frame::Dirty(dirty) = &got[2] else { panic!("{got:?}") };
        assert!(!dirty.feed);
        assert_eq!(dirty.conversations.len(), 1);
        assert_eq!(dirty.conversations[0].id, "bob");
        assert!(frames(&queue).is_empty());
    }

    #[test]
    fn dropped_transients_are_counted_and_reported() {
        let queue = PushQueue::new(1_000);
        for _ in 0..5 {
            queue.push_transient(push_frame(300), (MessagePriority::Low, true), &name("ann"));
        }
        queue.push_transient(push_frame(200), (MessagePriority::High, true), &name("ann"));
        let got = frames(&queue);
        assert_eq!(got.len(), 2, "{got:?}");
        let Some(Frame::Dirty(dirty)) = got.last() else { panic!("{got:?}") };
        assert_eq!(dirty.transients_dropped, 5);
    }

    /// A log's frames do not take the room of transients, and the other way round.
    #[test]
    fn transients_have_room_of_their_own_and_keep_their_place() {
        let queue = PushQueue::new(1_000);
        let text = |frame: &Frame| if let Frame::End(end) = frame { end.message.len() } else { 0 };
        queue.push(push_frame(400), &target("ann"));
        queue.push_transient(push_frame(100), (MessagePriority::High, true), &name("ann"));
        queue.push(push_frame(500), &target("ann"));
        queue.push_transient(push_frame(101), (MessagePriority::Low, true), &name("ann"));
        let got = frames(&queue);
        assert_eq!(got.iter().map(text).collect::<Vec<_>>(), [400, 100, 500, 101]);
    }

    /// The client pulls the message, and would get it after the transient.
    #[test]
    fn a_transient_does_not_overtake_a_message_that_was_dropped() {
        let queue = PushQueue::new(1_000);
        queue.push(push_frame(900), &target("ann"));
        queue.push(push_frame(900), &target("ann"));
        queue.push_transient(push_frame(10), (MessagePriority::High, true), &name("ann"));
        queue.push_transient(push_frame(10), (MessagePriority::High, false), &name("ann"));
        queue.push_transient(push_frame(11), (MessagePriority::Low, true), &name("bob"));
        let got = frames(&queue);
        let [Frame::End(first), Frame::End(other), Frame::Dirty(dirty)] = &got[..] else { panic!("{got:?}") };
        assert_eq!((first.message.len(), other.message.len()), (900, 11));
        assert_eq!((dirty.conversations[0].id.as_str(), dirty.transients_dropped), ("ann", 1));
        queue.push_transient(push_frame(10), (MessagePriority::Low, true), &name("ann"));
        assert_eq!(frames(&queue).len(), 1);
    }

    /// What a client misses of a room is in no log that it pulls.
    #[test]
    fn a_message_to_a_room_does_not_wait_for_what_was_dropped() {
        let queue = PushQueue::new(1_000);
        let room = ConversationRef { r#type: ConversationType::Room as i32, id: "stage".to_owned() };
        queue.mark_dirty(&PushTarget::Conversation(room.clone()));
        for priority in [MessagePriority::Low, MessagePriority::High, MessagePriority::Low] {
            queue.push_transient(push_frame(150), (priority, true), &room);
        }
        let got = frames(&queue);
        let [Frame::End(_), Frame::Dirty(dirty)] = &got[..] else { panic!("{got:?}") };
        assert_eq!((dirty.conversations.len(), dirty.transients_dropped), (1, 2), "those of low priority");
    }

    #[test]
    fn all_is_marked_at_once() {
        let queue = PushQueue::new(1_000);
        queue.mark_dirty(&target("ann"));
        queue.mark_all_dirty();
        queue.push(push_frame(10), &PushTarget::Snapshot);
        let got = frames(&queue);
        let [Frame::Dirty(dirty)] = &got[..] else { panic!("{got:?}") };
        assert!(dirty.all && dirty.snapshots && dirty.conversations.is_empty());
    }

    #[test]
    fn nothing_is_queued_after_the_end() {
        let queue = PushQueue::new(1_000);
        queue.push(push_frame(10), &target("ann"));
        queue.end(SessionEndReason::KickedOut, "a newer login");
        queue.push(push_frame(10), &target("ann"));
        queue.end(SessionEndReason::GoingAway, "");
        let got = frames(&queue);
        assert_eq!(got.len(), 2);
        let Frame::End(end) = &got[1] else { panic!("{got:?}") };
        assert_eq!(end.reason(), SessionEndReason::KickedOut);
    }

    #[test]
    fn too_many_dirty_conversations_become_one_mark_for_all() {
        let queue = PushQueue::new(1);
        queue.push(push_frame(10), &target("first"));
        for index in 0..=MAX_DIRTY {
            queue.push(push_frame(10), &target(&index.to_string()));
        }
        let got = frames(&queue);
        let Some(Frame::Dirty(dirty)) = got.last() else { panic!("{got:?}") };
        assert!(dirty.all && dirty.conversations.is_empty());
    }
}
