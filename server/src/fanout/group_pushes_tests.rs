//! Tests of what the sessions of a group get.

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use zim_protocol::event_frame::Frame;
use zim_protocol::{ChangeEntry, LogKind, MessageEntry, MessagePriority, MessageType, RoomEntrance, room_push};

use super::pushes_tests::{dirty, frames, message_to, pushes};
use super::tests::connection_of;
use super::*;
use crate::effect::{Audience, GroupStay, MessageEffect, Receivers, RoomEffect, RoomReceivers, TransientEffect};
use crate::key::ConversationKey;

pub(super) const GROUP: ConversationKey = ConversationKey(7);
const ROOM: ConversationKey = ConversationKey(9);
const MESSAGES: LogKind = LogKind::Messages;
const CHANGES: LogKind = LogKind::Changes;

/// The open stay from the first message on.
pub(super) const STAY: GroupStay = GroupStay { from_seq: 1, entered_seq: 1, from_rev: 1, to: None, is_return: false };

pub(super) struct Group {
    pub(super) fanout: Arc<Fanout>,
    pub(super) publisher: Publisher,
    pub(super) name: Arc<str>,
}

impl Group {
    pub(super) fn new() -> Self {
        let fanout = Arc::new(Fanout::default());
        Self { publisher: Publisher::start(Arc::clone(&fanout)), fanout, name: "group".into() }
    }

    /// Registers a session of a user, as a login does.
    pub(super) fn session(&self, user: i64, login: i64, stay: GroupStay) -> Arc<ConnectionState> {
        let session = connection_of(UserKey(user), login);
        self.fanout.register(UserKey(user), Arc::clone(&session));
        self.fanout.enter_group((GROUP, &self.name), &session, (stay, Knows::Read(0)));
        session
    }

    fn audience(&self) -> Audience {
        Audience::Group { conversation: GROUP, name: Arc::clone(&self.name) }
    }

    pub(super) fn message(&self, seq: i64, cause: i64) -> Effect {
        let message = message_to(self.audience(), seq, 10);
        Effect::Message(Arc::new(MessageEffect { conversation: GROUP, cause: LoginKey(cause), ..message }))
    }

    pub(super) fn change(&self, rev: u64) -> Effect {
        let entry = Box::new(ChangeEntry { rev, ..ChangeEntry::default() });
        Effect::Change { audience: self.audience(), entry, cause: LoginKey(99), ended_rev: 0 }
    }

    /// A command, with a number as its content, that is sent after these positions.
    pub(super) fn command(&self, number: u8, priority: MessagePriority, (after_seq, after_rev): (i64, i64)) -> Effect {
        let message = MessageEntry { content: vec![number].into(), ..MessageEntry::default() };
        let (audience, cause) = (self.audience(), LoginKey(10));
        Effect::Transient(Box::new(TransientEffect {
            audience,
            message,
            after_seq,
            after_rev,
            priority,
            cause,
            room: 0,
            ended_rev: 0,
        }))
    }

    pub(super) fn stay(&self, user: i64, stay: GroupStay) -> Effect {
        Effect::Stay { user: UserKey(user), conversation: GROUP, name: Arc::clone(&self.name), stay, end: None }
    }
}

/// Whether nothing more waits for a session, once another one got all.
fn has_nothing(session: &ConnectionState) -> bool {
    session.queue.next_batch(&mut BytesMut::new(), usize::MAX).now_or_never().is_none()
}

/// Waits until every session has frames, and returns those of each.
async fn waiting(sessions: &[Arc<ConnectionState>]) -> Vec<Vec<Bytes>> {
    let frames = async {
        loop {
            let frames: Vec<_> = sessions.iter().map(|session| session.queue.waiting()).collect();
            if frames.iter().all(|frames| !frames.is_empty()) {
                return frames;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), frames).await.expect("every session has a frame")
}

#[tokio::test]
async fn the_sessions_of_a_group_share_one_frame() {
    let group = Group::new();
    // More than are taken from the index at once.
    let sessions: Vec<_> = (1..=600).map(|user| group.session(user, user, STAY)).collect();
    group.publisher.push(vec![group.message(1, 9_999), group.message(2, 9_999)]);
    // The write thread goes on before a session is served, however many there are.
    assert!(sessions.iter().all(|session| session.queue.is_empty()));
    assert!(group.fanout.lanes.iter().all(|lane| lane.len() <= 1), "a lane gets a push once, not for each session");
    let frames = waiting(&sessions).await;
    let first = frames[0][0].as_ptr();
    assert!(frames.iter().all(|frames| frames.len() == 1 && frames[0].as_ptr() == first));
}

/// The device that sends has the message already; the other devices of its user have not.
#[tokio::test]
async fn the_device_that_sends_gets_no_content_and_the_users_other_devices_do() {
    let group = Group::new();
    let (sender, other, bob) = (group.session(1, 10, STAY), group.session(1, 11, STAY), group.session(2, 20, STAY));
    group.publisher.push(vec![group.message(1, 10), group.message(2, 20)]);
    let contents = async |session: &ConnectionState| match frames(session, 1).await.remove(0) {
        Frame::Push(push) => push.messages.iter().map(|entry| entry.content.len()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(contents(&sender).await, [0, 10]);
    assert_eq!(contents(&other).await, [10, 10]);
    assert_eq!(contents(&bob).await, [10, 0]);
    group.publisher.push(vec![group.message(3, 10)]);
    assert_eq!(pushes(&bob, 1).await, [(MESSAGES, 3, 3)]);
    assert_eq!(pushes(&other, 1).await, [(MESSAGES, 3, 3)]);
    assert!(has_nothing(&sender), "its response carries the entry");
}

/// Its answer has that too, but may come later, or never.
#[tokio::test]
async fn the_device_that_sends_gets_what_the_server_has_made_of_its_message() {
    use MessageType::{Audio, Combine, File, Image, Multiple, Text, Video};
    for kind in [Text, Combine, Image, File, Audio, Video, Multiple] {
        let group = Group::new();
        let sender = group.session(1, 10, STAY);
        let message = message_to(group.audience(), 1, 10);
        let own = MessageEffect { conversation: GROUP, cause: LoginKey(10), kind: kind as i32, ..message };
        group.publisher.push(vec![Effect::Message(Arc::new(own)), group.message(2, 20)]);
        let pushed = frames(&sender, 1).await.remove(0);
        let Frame::Push(push) = pushed else { panic!("{pushed:?}") };
        assert_eq!(push.messages[0].content.is_empty(), kind == Text, "{kind:?}");
    }
}

#[tokio::test]
async fn nothing_outside_the_stay_is_pushed() {
    let group = Group::new();
    let (ann, late) = (
        group.session(1, 10, STAY),
        group.session(2, 20, GroupStay { from_seq: 2, entered_seq: 2, from_rev: 2, to: None, is_return: false }),
    );
    group.publisher.push(vec![group.message(1, 99), group.message(2, 99), group.change(1), group.change(2)]);
    assert_eq!(pushes(&ann, 3).await, [(MESSAGES, 1, 2), (CHANGES, 1, 1), (CHANGES, 2, 2)]);
    assert_eq!(pushes(&late, 2).await, [(MESSAGES, 2, 2), (CHANGES, 2, 2)]);
    // Bob joins and Ann leaves in the same commit as a message.
    let bob = connection_of(UserKey(3), 30);
    group.fanout.register(UserKey(3), Arc::clone(&bob));
    let left = GroupStay { to: Some((3, 3)), ..STAY };
    let joined = GroupStay { from_seq: 4, entered_seq: 4, from_rev: 3, to: None, is_return: false };
    group.publisher.push(vec![
        group.message(3, 99),
        group.stay(1, left),
        group.stay(3, joined),
        group.change(3),
        group.message(4, 99),
        group.change(4),
    ]);
    assert_eq!(pushes(&late, 4).await, [(MESSAGES, 3, 3), (CHANGES, 3, 3), (MESSAGES, 4, 4), (CHANGES, 4, 4)]);
    assert_eq!(pushes(&bob, 3).await, [(CHANGES, 3, 3), (MESSAGES, 4, 4), (CHANGES, 4, 4)]);
    assert_eq!(pushes(&ann, 2).await, [(MESSAGES, 3, 3), (CHANGES, 3, 3)]);
    assert!(has_nothing(&ann));
}

/// What a session is shown: messages and changes by their positions, commands by their numbers.
async fn shown(session: &ConnectionState, count: usize) -> Vec<String> {
    let frames = frames(session, count).await.into_iter();
    frames
        .map(|frame| match frame {
            Frame::Push(push) => format!("{:?} {}-{}", push.log(), push.from, push.to),
            Frame::Transient(transient) => format!("command {}", transient.message.unwrap().content[0]),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test]
async fn a_command_keeps_its_place_and_is_for_those_who_are_members_then() {
    let group = Group::new();
    let (sender, phone, bob) = (group.session(1, 10, STAY), group.session(1, 11, STAY), group.session(2, 20, STAY));
    // Cai enters with change 2 and leaves with change 4.
    let cai = group.session(
        3,
        30,
        GroupStay { from_seq: 2, entered_seq: 2, from_rev: 2, to: Some((3, 4)), is_return: false },
    );
    let low = MessagePriority::Low;
    group.publisher.push(vec![
        group.message(1, 99),
        group.command(1, low, (1, 1)),
        group.command(2, low, (1, 2)),
        group.message(2, 99),
        group.message(3, 99),
        group.command(3, MessagePriority::High, (3, 3)),
        group.command(4, low, (3, 4)),
        group.message(4, 99),
    ]);
    let all = ["Messages 1-1", "command 1", "command 2", "Messages 2-3", "command 3", "command 4", "Messages 4-4"];
    assert_eq!(shown(&bob, 7).await, all);
    assert_eq!(shown(&phone, 7).await, all);
    assert_eq!(shown(&cai, 3).await, ["command 2", "Messages 2-3", "command 3"]);
    assert_eq!(shown(&sender, 3).await, ["Messages 1-1", "Messages 2-3", "Messages 4-4"], "its app has the commands");
    assert!(has_nothing(&cai));
}

/// A walk may be late: the user has returned before a message of the gap is pushed.
#[tokio::test]
async fn what_the_stay_shows_of_before_is_not_pushed() {
    let group = Group::new();
    let ann = group.session(1, 10, GroupStay { entered_seq: 3, from_rev: 2, ..STAY });
    let bob = group.session(2, 20, STAY);
    group.publisher.push(vec![group.message(2, 99), group.message(3, 99), group.change(2)]);
    assert_eq!(pushes(&bob, 2).await, [(MESSAGES, 2, 3), (CHANGES, 2, 2)]);
    assert_eq!(pushes(&ann, 2).await, [(MESSAGES, 3, 3), (CHANGES, 2, 2)]);
    assert!(has_nothing(&ann));
}

/// The read of a login may be older than a change of the membership.
#[tokio::test]
async fn a_session_that_registers_while_its_user_is_removed_gets_nothing_more() {
    let group = Group::new();
    let (ann, bob) = (connection_of(UserKey(1), 10), group.session(2, 20, STAY));
    group.fanout.register(UserKey(1), Arc::clone(&ann));
    group.publisher.push(vec![group.stay(1, GroupStay { to: Some((3, 3)), ..STAY })]);
    group.fanout.enter_group((GROUP, &group.name), &ann, (STAY, Knows::Read(0)));
    group.publisher.push(vec![group.message(3, 99), group.change(3), group.message(4, 99)]);
    assert_eq!(pushes(&bob, 3).await, [(MESSAGES, 3, 3), (CHANGES, 3, 3), (MESSAGES, 4, 4)]);
    assert_eq!(pushes(&ann, 2).await, [(MESSAGES, 3, 3), (CHANGES, 3, 3)]);
    assert!(has_nothing(&ann));
    // The user returns, which ends an earlier stay in the index: the client pulls what may have waited of it.
    group
        .publisher
        .push(vec![group.stay(1, GroupStay { from_seq: 6, entered_seq: 6, from_rev: 6, to: None, is_return: false })]);
    assert_eq!(dirty(&ann).await.conversations[0].id, "group");
}

#[tokio::test]
async fn a_session_that_ended_is_in_no_group() {
    let group = Group::new();
    let (ann, bob) = (group.session(1, 10, STAY), group.session(2, 20, STAY));
    assert!(group.fanout.unregister(UserKey(1), &ann));
    // A login that is still reading its groups.
    group.fanout.enter_group((GROUP, &group.name), &ann, (STAY, Knows::Read(0)));
    group.publisher.push(vec![group.message(1, 99)]);
    assert_eq!(pushes(&bob, 1).await, [(MESSAGES, 1, 1)]);
    assert!(has_nothing(&ann));
    assert_eq!(Arc::strong_count(&ann), 1, "the index holds no connection that has ended");
}

#[tokio::test]
async fn sessions_of_a_group_are_told_to_pull_what_their_lane_had_no_room_for() {
    let group = Group::new();
    let (ann, bob) = (group.session(1, 10, STAY), group.session(2, 20, STAY));
    let large = MessageEffect { conversation: GROUP, ..message_to(group.audience(), 1, 9 << 20) };
    group.publisher.push(vec![Effect::Message(Arc::new(large))]);
    for session in [&ann, &bob] {
        let dirty = dirty(session).await;
        assert_eq!(dirty.conversations.iter().map(|name| (name.r#type, &*name.id)).collect::<Vec<_>>(), [(2, "group")]);
    }
    group.publisher.push(vec![group.message(2, 99)]);
    assert_eq!(pushes(&ann, 1).await, [(MESSAGES, 2, 2)]);
}

/// A push to many sessions waits a moment. It is not lost when the database closes meanwhile.
#[tokio::test]
async fn a_push_that_waits_is_pushed_when_the_lanes_end() {
    let group = Group::new();
    let sessions: Vec<_> = (1..=2_000).map(|user| group.session(user, user, STAY)).collect();
    group.publisher.push(vec![group.message(1, 9_999)]);
    let Group { publisher, fanout, .. } = group;
    drop(publisher);
    let ended = async {
        // Each lane holds the fan-out as long as it runs.
        while Arc::strong_count(&fanout) > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), ended).await.expect("the lanes end");
    assert!(sessions.iter().all(|session| session.queue.len() == 1));
}

/// The beginning of a stay in the room `stage`.
fn room_stay(user: i64) -> Effect {
    Effect::RoomStay { user: UserKey(user), device: [1; 16], conversation: ROOM, name: "stage".into(), stay: STAY }
}

fn targeted(group: &Group, seq: i64, sender: &str, receivers: Receivers) -> Effect {
    let message = message_to(group.audience(), seq, 10);
    let (conversation, cause, flags) = (GROUP, LoginKey(0), receivers.flag());
    Effect::Message(Arc::new(MessageEffect { conversation, cause, sender: sender.into(), flags, receivers, ..message }))
}

/// Who does not see a message gets its position: their client has no gap.
#[tokio::test]
async fn a_message_for_some_is_a_blank_position_for_the_others() {
    let group = Group::new();
    let (bob, cai) = (group.session(2, 20, STAY), group.session(3, 30, STAY));
    let bobs = vec![UserKey(2)];
    group.publisher.push(vec![
        group.message(1, 99),
        targeted(&group, 2, "dan", Receivers::of(bobs.clone(), false)),
        targeted(&group, 3, "dan", Receivers::of(bobs, true)),
        // Here all sessions have the name of the sender, who always sees it.
        targeted(&group, 4, "ann", Receivers::of(vec![UserKey(9)], false)),
        targeted(&group, 5, "dan", Receivers::of(vec![UserKey(9)], false)),
    ]);
    for (session, expected) in [(&bob, &[1_u64, 2, 4][..]), (&cai, &[1, 3, 4])] {
        let Frame::Push(push) = frames(session, 1).await.remove(0) else { panic!("no push") };
        let seqs: Vec<u64> = push.messages.iter().map(|message| message.seq).collect();
        assert_eq!((push.from, push.to, &seqs[..]), (1, 5, expected));
    }
}

/// They have sent one more than they know, so they ask how many. The others get the message.
#[tokio::test]
async fn only_a_sender_who_is_not_to_learn_of_a_message_to_a_group_is_told_to_pull() {
    let group = Group::new();
    let ann = group.session(1, 10, STAY);
    let (counted, unaware) =
        (zim_protocol::MessageFlag::Counted as u32, zim_protocol::MessageFlag::SenderUnaware as u32);
    let sent = |seq, sender: &str, flags| {
        let message = message_to(group.audience(), seq, 10);
        vec![Effect::Message(Arc::new(MessageEffect { conversation: GROUP, sender: sender.into(), flags, ..message }))]
    };
    group.publisher.push(sent(1, "ann", counted));
    assert_eq!(pushes(&ann, 1).await, [(MESSAGES, 1, 1)], "from another device of hers");
    group.publisher.push(sent(2, "bob", unaware));
    assert_eq!(pushes(&ann, 1).await, [(MESSAGES, 2, 2)]);
    group.publisher.push(sent(3, "ann", unaware));
    assert_eq!(dirty(&ann).await.conversations.len(), 1);
}

#[tokio::test]
async fn a_change_of_a_message_for_some_is_pulled() {
    let group = Group::new();
    let (ann, bob) = (group.session(1, 10, STAY), group.session(2, 20, STAY));
    let flags = zim_protocol::MessageFlag::TargetOnly as u32;
    let detail = zim_protocol::change_entry::Detail::Message(MessageEntry { seq: 1, flags, ..MessageEntry::default() });
    let entry = Box::new(ChangeEntry { rev: 1, detail: Some(detail), ..ChangeEntry::default() });
    let (audience, cause) = (group.audience(), LoginKey(20));
    group.publisher.push(vec![Effect::Change { audience, entry, cause, ended_rev: 0 }]);
    assert_eq!(dirty(&ann).await.conversations.len(), 1);
    assert!(has_nothing(&bob), "who caused it gets it with the answer");
}

/// A device is one of a user: others of them, and devices of others that call themselves the same, get nothing.
#[tokio::test]
async fn what_is_for_one_device_in_a_room_reaches_no_other() {
    let group = Group::new();
    let (ann, bob) = (group.session(1, 10, STAY), group.session(2, 20, STAY));
    group.publisher.push(vec![room_stay(1), room_stay(2)]);
    let device = |user, device| RoomReceivers::Device(UserKey(user), [device; 16]);
    let all = RoomReceivers::All(LoginKey(0));
    for (rev, to) in [(2, device(1, 1)), (3, device(1, 2)), (4, device(2, 1)), (5, all)] {
        group.publisher.push(vec![Effect::Room(Arc::new(RoomEffect {
            conversation: ROOM,
            name: "stage".into(),
            number: 12,
            rev,
            to,
            detail: room_push::Detail::Entrance(RoomEntrance::default()),
        }))]);
    }
    for (session, expected) in [(&ann, [2, 5]), (&bob, [4, 5])] {
        let rev = |frame| match frame {
            Frame::Room(push) => push.rev,
            other => panic!("{other:?}"),
        };
        let revs: Vec<u64> = frames(session, 2).await.into_iter().map(rev).collect();
        assert_eq!(revs, expected);
    }
}

/// Nobody could be told what was committed: who is in the room asks what it is now.
#[tokio::test]
async fn the_sessions_of_a_room_are_told_to_look_after_a_commit_in_doubt() {
    let group = Group::new();
    let (ann, bob) = (connection_of(UserKey(1), 10), group.session(2, 20, STAY));
    group.fanout.register(UserKey(1), Arc::clone(&ann));
    group.publisher.push(vec![room_stay(1)]);
    group.publisher.push(Look::instead_of(&[room_stay(2), room_stay(2)]));
    let told = dirty(&ann).await;
    assert_eq!(told.conversations.iter().map(|name| (name.r#type, &*name.id)).collect::<Vec<_>>(), [(1, "stage")]);
    // As far as anybody knows, Bob is not in the room.
    group.publisher.push(vec![group.message(1, 99)]);
    assert_eq!(pushes(&bob, 1).await, [(MESSAGES, 1, 1)]);
}

/// Nobody could be told what was committed: the members look, and it is read again who is one.
#[tokio::test]
async fn the_sessions_of_a_group_are_told_to_look_after_a_commit_in_doubt() {
    let group = Group::new();
    let (ann, bob) = (group.session(1, 10, STAY), connection_of(UserKey(2), 20));
    group.fanout.register(UserKey(2), Arc::clone(&bob));
    let name = |told: zim_protocol::Dirty| told.conversations.into_iter().map(|one| one.id).collect::<Vec<_>>();
    for effect in [group.message(1, 10), group.change(1)] {
        group.publisher.push(Look::instead_of(&[effect]));
        assert_eq!(name(dirty(&ann).await), ["group"]);
    }
    let in_doubt = [group.stay(1, STAY), group.stay(2, STAY), group.stay(3, STAY)];
    group.publisher.push(Look::instead_of(&in_doubt));
    let stays = group.fanout.stays.take().now_or_never().unwrap();
    let mut users: Vec<_> = stays.into_keys().collect();
    users.sort_unstable();
    assert_eq!(users, [(UserKey(1), GROUP), (UserKey(2), GROUP)], "the third user is not online");
    // As far as anybody knows, Bob is not in the group.
    group.publisher.push(vec![group.message(1, 99)]);
    assert_eq!(pushes(&ann, 1).await, [(MESSAGES, 1, 1)]);
    assert!(has_nothing(&bob));
}

#[tokio::test]
async fn a_message_to_a_room_that_is_lost_is_reported_to_those_who_would_have_got_it() {
    let group = Group::new();
    let (ann, bob) = (group.session(1, 10, STAY), group.session(2, 20, STAY));
    group.publisher.push(vec![room_stay(1), room_stay(2)]);
    group.fanout.lose(TransientEffect {
        audience: Audience::Room { conversation: ROOM, name: "stage".into() },
        message: MessageEntry::default(),
        after_seq: 0,
        after_rev: 0,
        priority: MessagePriority::High,
        cause: LoginKey(10),
        room: 12,
        ended_rev: 0,
    });
    assert_eq!(dirty(&bob).await.transients_dropped, 1);
    // Who sent it would not have got it.
    group.publisher.push(vec![group.message(1, 99)]);
    assert_eq!(pushes(&ann, 1).await, [(MESSAGES, 1, 1)]);
}
