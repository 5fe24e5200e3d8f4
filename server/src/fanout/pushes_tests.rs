//! Tests of what reaches the queues of connections, and in which order.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use prost::Message as _;
use zim_protocol::event_frame::Frame;
use zim_protocol::feed_entry::Detail;
use zim_protocol::frame::FrameDecoder;
use zim_protocol::{
    ChangeEntry, ConversationType, Dirty, EventFrame, LogKind, MessageEntry, MessageFlag, MessagePriority, ReadMark,
    ReceiptEntry,
};

use super::lane::Marks;
use super::tests::connection;
use super::*;
use crate::effect::{Audience, MessageEffect, Receivers};
use crate::key::{AppKey, ConversationKey};

const ANN: UserKey = UserKey(1);

struct Fixture {
    fanout: Arc<Fanout>,
    publisher: Publisher,
    ann: Arc<ConnectionState>,
}

impl Fixture {
    fn new() -> Self {
        let fanout = Arc::new(Fanout::default());
        let ann = connection(10);
        fanout.register(ANN, Arc::clone(&ann));
        Self { publisher: Publisher::start(Arc::clone(&fanout)), fanout, ann }
    }

    async fn pushes(&self, count: usize) -> Vec<(LogKind, u64, u64)> {
        pushes(&self.ann, count).await
    }

    async fn dirty(&self) -> Dirty {
        dirty(&self.ann).await
    }
}

/// Waits for `count` frames.
pub(super) async fn frames(connection: &ConnectionState, count: usize) -> Vec<Frame> {
    let (mut decoder, mut frames) = (FrameDecoder::new(1 << 20), Vec::new());
    while frames.len() < count {
        let mut out = BytesMut::new();
        let batch = connection.queue.next_batch(&mut out, usize::MAX);
        tokio::time::timeout(Duration::from_secs(60), batch).await.expect("a frame");
        decoder.push(&out);
        while let Some(frame) = decoder.next().unwrap() {
            frames.extend(EventFrame::decode(frame).unwrap().frame);
        }
    }
    frames
}

/// Waits for `count` pushes. Returns their logs and positions.
pub(super) async fn pushes(connection: &ConnectionState, count: usize) -> Vec<(LogKind, u64, u64)> {
    let push = |frame| match frame {
        Frame::Push(push) => (push.log(), push.from, push.to),
        other => panic!("{other:?}"),
    };
    frames(connection, count).await.into_iter().map(push).collect()
}

pub(super) async fn dirty(connection: &ConnectionState) -> Dirty {
    match frames(connection, 1).await.remove(0) {
        Frame::Dirty(dirty) => dirty,
        other => panic!("{other:?}"),
    }
}

fn audience() -> Audience {
    Audience::Peers([(ANN, "ann".into()), (UserKey(2), "bob".into())])
}

fn message(seq: i64, bytes: usize) -> Effect {
    Effect::Message(Arc::new(message_to(audience(), seq, bytes)))
}

pub(super) fn message_to(audience: Audience, seq: i64, bytes: usize) -> MessageEffect {
    MessageEffect {
        app: AppKey(1),
        conversation: ConversationKey(3),
        audience,
        seq,
        n: seq,
        message_id: seq,
        sender: "bob".into(),
        cause: LoginKey(99),
        ts: 0,
        kind: 1,
        flags: 1,
        client_key: [0; 16],
        content: Bytes::from(vec![0; bytes]),
        state: None,
        receivers: Receivers::All,
        ended_rev: 0,
    }
}

fn change(rev: u64) -> Effect {
    let entry = Box::new(ChangeEntry { rev, ..ChangeEntry::default() });
    Effect::Change { audience: audience(), entry, cause: LoginKey(99), ended_rev: 0 }
}

fn feed(pos: i64) -> Effect {
    Effect::Feed { user: ANN, pos, entry: Box::new(Detail::Read(ReadMark::default())), cause: LoginKey(99) }
}

/// The write thread goes on before anything is pushed. What a ban or a kick promises is in force when it goes on.
#[tokio::test]
async fn a_commit_does_not_wait_for_pushes_and_an_ended_login_does_not_wait_for_them_either() {
    let fixture = Fixture::new();
    fixture.publisher.push(vec![message(1, 10)]);
    assert!(fixture.ann.queue.next_batch(&mut BytesMut::new(), usize::MAX).now_or_never().is_none());
    assert_eq!(fixture.pushes(1).await, [(LogKind::Messages, 1, 1)]);
    let reason = SessionEndReason::EndedByOperator;
    fixture.publisher.push(vec![message(2, 10), Effect::LoginEnded { user: ANN, login: LoginKey(10), reason }]);
    assert!(fixture.ann.queue.is_ended() && fixture.fanout.is_empty());
}

/// A change is about a message that its client has: it comes after it, in one commit and in several.
#[tokio::test]
async fn a_change_does_not_overtake_the_message_that_it_is_about() {
    let fixture = Fixture::new();
    fixture.publisher.push(vec![message(1, 10), message(2, 10), change(1), message(3, 10)]);
    fixture.publisher.push(vec![message(4, 10)]);
    fixture.publisher.push(vec![change(2)]);
    let (messages, changes) = (LogKind::Messages, LogKind::Changes);
    assert_eq!(fixture.pushes(4).await, [(messages, 1, 2), (changes, 1, 1), (messages, 3, 4), (changes, 2, 2)]);
}

/// Nobody could be told what was committed.
#[tokio::test]
async fn the_sessions_of_a_user_are_told_to_look_after_a_commit_in_doubt() {
    let fixture = Fixture::new();
    for effect in [message(1, 10), change(1)] {
        fixture.publisher.push(Look::instead_of(&[effect]));
        let told = fixture.dirty().await;
        assert_eq!((told.feed, told.conversations.len()), (false, 1));
    }
    fixture.publisher.push(Look::instead_of(&[feed(1)]));
    let told = fixture.dirty().await;
    assert_eq!((told.feed, told.conversations.len()), (true, 0));
}

/// Nobody could be told whether a login has ended: its client asks when it connects again.
#[tokio::test]
async fn a_login_connects_again_if_a_commit_in_doubt_may_have_ended_it() {
    let fixture = Fixture::new();
    let other = connection(11);
    fixture.fanout.register(ANN, Arc::clone(&other));
    let ended = Effect::LoginEnded { user: ANN, login: LoginKey(10), reason: SessionEndReason::KickedOut };
    fixture.publisher.push(Look::instead_of(&[ended]));
    match frames(&fixture.ann, 1).await.remove(0) {
        Frame::End(end) => assert_eq!(end.reason(), SessionEndReason::Unspecified),
        told => panic!("{told:?}"),
    }
    // Whoever registers this login is not refused: it may go on.
    assert!(fixture.fanout.is_online(ANN, LoginKey(10)) && !fixture.ann.queue.is_final());
    fixture.publisher.push(vec![feed(1)]);
    assert_eq!(pushes(&other, 1).await, [(LogKind::Feed, 1, 1)]);
}

/// A command, with a number as its content.
fn send_command(fanout: &Fanout, number: u8, priority: MessagePriority, cause: i64) {
    let entry = MessageEntry { content: vec![number].into(), ..MessageEntry::default() };
    let name = (ConversationType::Peer, &Arc::from("bob"));
    fanout.send_transient(ANN, name, (entry, 0), priority, LoginKey(cause));
}

#[tokio::test]
async fn a_transient_keeps_its_place_among_messages() {
    let fixture = Fixture::new();
    for round in 0..3 {
        fixture.publisher.push(vec![message(round * 2 + 1, 10)]);
        send_command(&fixture.fanout, 1, MessagePriority::Low, 99);
        send_command(&fixture.fanout, 2, MessagePriority::High, 99);
        // Its own client has it.
        send_command(&fixture.fanout, 3, MessagePriority::High, 10);
        fixture.publisher.push(vec![message(round * 2 + 2, 10)]);
    }
    // The last message of a round and the first of the next share a frame.
    let shown = frames(&fixture.ann, 10).await.into_iter().flat_map(|frame| match frame {
        Frame::Push(push) => (push.from..=push.to).map(|seq| format!("message {seq}")).collect(),
        Frame::Transient(transient) => vec![format!("command {}", transient.message.unwrap().content[0])],
        other => panic!("{other:?}"),
    });
    let shown: Vec<_> = shown.collect();
    let expected = (0..3).flat_map(|round| {
        let message = |seq: i64| format!("message {seq}");
        [message(round * 2 + 1), "command 1".to_owned(), "command 2".to_owned(), message(round * 2 + 2)]
    });
    assert_eq!(shown, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn transients_that_a_lane_drops_are_reported() {
    let fixture = Fixture::new();
    let sender = connection(99);
    fixture.fanout.register(ANN, Arc::clone(&sender));
    fixture.publisher.push(vec![message(1, 9 << 20)]);
    send_command(&fixture.fanout, 1, MessagePriority::High, 99);
    send_command(&fixture.fanout, 2, MessagePriority::High, 99);
    let dirty = fixture.dirty().await;
    assert_eq!((dirty.conversations.len(), dirty.transients_dropped), (1, 2));
    // Whoever sent them lost nothing.
    let dirty = self::dirty(&sender).await;
    assert_eq!((dirty.conversations.len(), dirty.transients_dropped), (1, 0));
    send_command(&fixture.fanout, 3, MessagePriority::Low, 99);
    assert!(matches!(frames(&fixture.ann, 1).await[..], [Frame::Transient(_)]));
}

/// They have sent one more than they know, so they ask how many.
#[tokio::test]
async fn a_sender_who_is_not_to_learn_of_a_message_is_told_to_pull() {
    let fixture = Fixture::new();
    let flags = MessageFlag::SenderUnaware as u32;
    let own = MessageEffect { sender: "ann".into(), flags, ..message_to(audience(), 1, 10) };
    fixture.publisher.push(vec![Effect::Message(Arc::new(own))]);
    assert_eq!(fixture.dirty().await.conversations.iter().map(|name| &*name.id).collect::<Vec<_>>(), ["bob"]);
    let of_bob = MessageEffect { flags, ..message_to(audience(), 2, 10) };
    fixture.publisher.push(vec![Effect::Message(Arc::new(of_bob))]);
    assert_eq!(fixture.pushes(1).await, [(LogKind::Messages, 2, 2)]);
}

/// The body is encoded once for all devices that see the same.
#[tokio::test]
async fn the_devices_of_a_user_share_one_frame() {
    let fixture = Fixture::new();
    let other = connection(11);
    fixture.fanout.register(ANN, Arc::clone(&other));
    for effect in [message(1, 10), change(1), feed(1)] {
        fixture.publisher.push(vec![effect]);
    }
    let all = async {
        while fixture.ann.queue.len() < 3 || other.queue.len() < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("three frames each");
    let addresses = |connection: &ConnectionState| {
        connection.queue.waiting().iter().map(|frame| frame.as_ptr()).collect::<Vec<_>>()
    };
    assert_eq!(addresses(&fixture.ann), addresses(&other));
}

#[tokio::test]
async fn a_push_has_no_gap_and_is_not_too_long() {
    let fixture = Fixture::new();
    fixture.publisher.push(vec![message(1, 10), message(2, 10), message(4, 40_000), message(5, 40_000)]);
    let messages = LogKind::Messages;
    assert_eq!(fixture.pushes(3).await, [(messages, 1, 2), (messages, 4, 4), (messages, 5, 5)]);
}

#[tokio::test]
async fn entries_of_a_feed_that_are_published_out_of_order_arrive_in_order() {
    let fixture = Fixture::new();
    for pos in [1, 4, 3, 2] {
        fixture.publisher.push(vec![feed(pos)]);
    }
    assert_eq!(fixture.pushes(4).await, [1, 2, 3, 4].map(|pos| (LogKind::Feed, pos, pos)));
    // The one before does not come: what waits for it does not wait for ever.
    fixture.publisher.push(vec![feed(6)]);
    assert!(fixture.dirty().await.feed);
    fixture.publisher.push(vec![feed(7)]);
    assert_eq!(fixture.pushes(1).await, [(LogKind::Feed, 7, 7)]);
}

/// Three members read a message at once. A device that caused one of the entries has it with its answer.
#[tokio::test]
async fn receipts_that_follow_each_other_are_one_push() {
    let fixture = Fixture::new();
    let other = connection(11);
    fixture.fanout.register(ANN, Arc::clone(&other));
    let read = |pos, cause| {
        let receipt = ReceiptEntry { seq: 7, read_member_count: pos, ..ReceiptEntry::default() };
        Effect::Feed { user: ANN, pos, entry: Box::new(Detail::Receipt(receipt)), cause: LoginKey(cause) }
    };
    fixture.publisher.push(vec![read(1, 99), read(2, 11), read(3, 99), feed(4)]);
    let pushed = fixture.pushes(2).await;
    assert_eq!(pushed, [(LogKind::Feed, 1, 3), (LogKind::Feed, 4, 4)]);
    assert_eq!(pushes(&other, 3).await, [1, 3, 4].map(|pos| (LogKind::Feed, pos, pos)));
    // The next one follows them.
    fixture.publisher.push(vec![read(5, 99)]);
    assert_eq!(fixture.pushes(1).await, [(LogKind::Feed, 5, 5)]);
}

#[tokio::test]
async fn what_a_lane_had_no_room_for_is_marked() {
    let fixture = Fixture::new();
    fixture.publisher.push(vec![message(1, 9 << 20)]);
    let dirty = fixture.dirty().await;
    assert_eq!(dirty.conversations.iter().map(|name| &*name.id).collect::<Vec<_>>(), ["bob"]);
    fixture.publisher.push(vec![message(2, 10)]);
    assert_eq!(fixture.pushes(1).await, [(LogKind::Messages, 2, 2)]);
    for lane in 0..fixture.fanout.lanes.len() {
        fixture.fanout.mark(lane, &Marks::All);
    }
    assert!(fixture.dirty().await.all);
}

/// What was committed before the database closed is still pushed.
#[tokio::test]
async fn the_lanes_push_what_they_have_and_end() {
    let Fixture { publisher, fanout, ann } = Fixture::new();
    publisher.push(vec![message(1, 10)]);
    drop(publisher);
    let ended = async {
        // Each lane holds the fan-out as long as it runs.
        while Arc::strong_count(&fanout) > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the lanes end");
    assert_eq!(ann.queue.next_batch(&mut BytesMut::new(), usize::MAX).now_or_never(), Some((1, None)));
}
