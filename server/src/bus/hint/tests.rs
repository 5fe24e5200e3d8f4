use zim_protocol::{ReadMark, RoomExit, change_entry, feed_entry, room_push};

use super::*;
use crate::effect::{GroupStay, StayEnd};

fn peers() -> Audience {
    Audience::Peers([(UserKey(5), "ann".into()), (UserKey(9), "bob".into())])
}

/// A message to a room, which its home gives its place, or has given it.
fn to_room(after_rev: i64, priority: MessagePriority) -> Box<TransientEffect> {
    Box::new(TransientEffect {
        audience: Audience::Room { conversation: ConversationKey(4), name: "stage".into() },
        message: MessageEntry::default(),
        after_seq: 0,
        after_rev,
        priority,
        cause: LoginKey(99),
        room: 12,
        ended_rev: 0,
    })
}

fn all() -> Vec<Effect> {
    let group = Audience::Group { conversation: ConversationKey(3), name: "crew".into() };
    let entry = MessageEntry { seq: 4, content: vec![1, 2].into(), ..MessageEntry::default() };
    let flagged = |audience, receivers: Receivers, flags: u32| {
        Effect::Message(Arc::new(MessageEffect {
            flags: 2 | flags | receivers.flag(),
            receivers,
            app: AppKey(1),
            conversation: ConversationKey(3),
            audience,
            seq: 4,
            n: 3,
            message_id: 77,
            sender: "ann".into(),
            cause: LoginKey(99),
            ts: 1_000,
            kind: 1,
            client_key: [7; 16],
            content: vec![0; 300].into(),
            state: None,
            ended_rev: 5,
        }))
    };
    let message_for = |audience, receivers| flagged(audience, receivers, 0);
    let message = |audience| message_for(audience, Receivers::All);
    let listed = || vec![UserKey(5), UserKey(6)];
    let stay = |to| GroupStay { from_seq: 1, entered_seq: 4, from_rev: 2, to, is_return: true };
    let enters = |to, end| Effect::Stay {
        user: UserKey(5),
        conversation: ConversationKey(3),
        name: "crew".into(),
        stay: stay(to),
        end,
    };
    let targeted = [
        message_for(group.clone(), Receivers::of(listed(), false)),
        message_for(group.clone(), Receivers::of(listed(), true)),
    ];
    let broadcast = Effect::Broadcast {
        app: AppKey(1),
        users: listed(),
        message: Box::new(entry.clone()),
        priority: MessagePriority::Medium,
    };
    let change =
        ChangeEntry { rev: 6, detail: Some(change_entry::Detail::Message(entry.clone())), ..Default::default() };
    let reason = SessionEndReason::KickedOut;
    let room = |to| {
        Effect::Room(Arc::new(RoomEffect {
            conversation: ConversationKey(4),
            name: "stage".into(),
            number: 12,
            rev: 2,
            to,
            detail: room_push::Detail::Exit(RoomExit::default()),
        }))
    };
    let [targeted, excepting] = targeted;
    let unaware_of_some = flagged(group.clone(), Receivers::of(listed(), true), MessageFlag::SenderUnaware as u32);
    let unaware = flagged(peers(), Receivers::All, MessageFlag::SenderUnaware as u32);
    vec![
        message(peers()),
        message(group.clone()),
        Effect::Feed {
            user: UserKey(5),
            pos: 8,
            entry: Box::new(feed_entry::Detail::Read(ReadMark::default())),
            cause: LoginKey(99),
        },
        Effect::Change { audience: peers(), entry: Box::new(change), cause: LoginKey(99), ended_rev: 6 },
        Effect::Transient(Box::new(TransientEffect {
            audience: group,
            message: entry,
            after_seq: 1,
            after_rev: 2,
            priority: MessagePriority::High,
            cause: LoginKey(99),
            room: 0,
            ended_rev: 7,
        })),
        enters(None, None),
        enters(Some((0, 9)), Some(StayEnd { before: 0, of: 1 })),
        enters(Some((0, 9)), Some(StayEnd { before: 8, of: 100 })),
        Effect::Profile { user: UserKey(5), info: Box::default() },
        Effect::Status { user: UserKey(5), status: Box::default(), cause: LoginKey(99) },
        Effect::LoginEnded { user: UserKey(5), login: LoginKey(8), reason },
        Effect::OneShotsEnded { user: UserKey(5), reason },
        Effect::Due { queue: Queue::Tasks, at: 5 },
        Effect::Due { queue: Queue::Outbox, at: -5 },
        Effect::AppChanged { app: AppKey(7) },
        Effect::Transient(to_room(2, MessagePriority::Low)),
        Effect::RoomStay {
            user: UserKey(5),
            device: [3; 16],
            conversation: ConversationKey(4),
            name: "stage".into(),
            stay: stay(Some((0, 9))),
        },
        room(RoomReceivers::All(LoginKey(0))),
        room(RoomReceivers::All(LoginKey(99))),
        room(RoomReceivers::Users(vec![UserKey(5), UserKey(6)])),
        room(RoomReceivers::Users(vec![UserKey(5)])),
        room(RoomReceivers::Device(UserKey(5), [3; 16])),
        Effect::RoomMessage { home: 63, transient: to_room(0, MessagePriority::High) },
        Effect::Look(Look::Conversation(peers())),
        Effect::Look(Look::Conversation(Audience::Room { conversation: ConversationKey(4), name: "stage".into() })),
        Effect::Look(Look::Feed(UserKey(5))),
        Effect::Look(Look::Login { user: UserKey(5), login: LoginKey(8) }),
        Effect::Look(Look::Stay { user: UserKey(5), conversation: ConversationKey(3), name: "crew".into() }),
        targeted,
        excepting,
        broadcast,
        unaware,
        unaware_of_some,
    ]
}

#[test]
fn effects_survive_the_bus() {
    let sent = all();
    let hints: Vec<Hint> = encode(&sent).into_iter().map(|(_, hint)| hint).collect();
    let packet = Packet { node: 1, generation: 2, number: 3, hints }.encode_to_vec();
    let received = effects(Packet::decode(&packet[..]).unwrap().hints);
    assert!(received.is_complete);
    assert_eq!(format!("{:?}", received.effects), format!("{sent:?}"));
}

#[test]
fn both_logs_of_a_conversation_share_a_subject() {
    let sent = all();
    let subject_of = |index: usize| subject(&sent[index]);
    assert_eq!(subject_of(0), subject_of(3), "a message and a change between two users");
    let Audience::Peers([one, two]) = peers() else { panic!() };
    assert_eq!(of_audience(&Audience::Peers([two, one])), of_audience(&peers()));
    assert_eq!((subject_of(1), subject_of(4)), (subject_of(5), subject_of(5)), "a group, its commands and its stays");
    let used: std::collections::HashSet<_> = (0..1_000).map(|key| of_key(key << 6)).collect();
    assert_eq!(used.len(), SUBJECTS, "keys of one node use all subjects");
}

#[test]
fn a_hint_of_a_later_version_counts_as_missed() {
    let later = Hint { kind: None };
    let known = encode(&all()[..1]).remove(0).1;
    let read = effects(vec![later, known]);
    assert_eq!((read.effects.len(), read.is_complete), (1, false));
}

/// What a node of the version before sent of a stay and of a message.
#[test]
fn a_hint_of_an_earlier_version_knows_of_no_end() {
    #[derive(Clone, PartialEq, Message)]
    struct EarlierStay {
        #[prost(int64, tag = "1")]
        user: i64,
        #[prost(int64, tag = "2")]
        conversation: i64,
        #[prost(string, tag = "3")]
        name: String,
        #[prost(int64, optional, tag = "6")]
        to_seq: Option<i64>,
        #[prost(int64, optional, tag = "7")]
        to_rev: Option<i64>,
    }
    let earlier = EarlierStay { user: 5, conversation: 3, name: "crew".into(), to_seq: Some(8), to_rev: Some(9) };
    let stay = StayHint::decode(&earlier.encode_to_vec()[..]).unwrap();
    let ended = GroupStay { from_seq: 0, entered_seq: 0, from_rev: 0, to: Some((8, 9)), is_return: false };
    match effect(Kind::Stay(stay)) {
        Some(Effect::Stay { stay, end: None, .. }) => assert_eq!(stay, ended),
        other => panic!("{other:?}"),
    }
    let Kind::Message(hint) = kind(&all()[1]) else { panic!() };
    assert_eq!(hint.ended_rev, 5);
    let earlier = MessageHint { ended_rev: 0, ..hint };
    let Some(Effect::Message(message)) = effect(Kind::Message(earlier)) else { panic!() };
    assert_eq!(message.ended_rev, 0, "it is pushed, as that version did");
}
