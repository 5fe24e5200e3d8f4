//! Who is told of what happens to a message: a table of every act, with what each device hears of it, and nothing else. One device of
//! each user acts or watches, one watches, and one is away meanwhile and comes back afterwards.

use std::collections::HashMap;

use zim_client_sdk::{Error, MessageSendNotification};
use zim_integration_tests::{Chat, DataDir, Device, World, eventually, group, soon};
use zim_protocol::message_lite_info::Body as Lite;
use zim_protocol::{
    ConversationType, Event, Message, MessageDeleteConfig, MessageEditConfig, MessagePinConfig,
    MessageReactionAddConfig, MessageReactionChangeInfo, MessageReceiptInfo, MessageRevokeConfig, MessageSendConfig,
    MessageSentStatusChangeInfo,
};

use super::group::create;

type User = &'static str;

/// Eve is in no conversation of the tables. Dan enters the group between the message and the first reply to it.
const PEOPLE: [User; 5] = ["ann", "bob", "cai", "dan", "eve"];
/// Who has a device that is away.
const AWAY: [User; 3] = ["ann", "bob", "cai"];
const EVERYWHERE: MessageDeleteConfig = MessageDeleteConfig { is_also_delete_server_message: Some(true) };

/// Something that a user does on their first device to a message: to `m`, which Ann sent, or to `r`, Bob's reply to it.
#[derive(Clone, Copy, Debug)]
enum Act {
    Edit,
    React,
    TakeBack,
    Pin(bool),
    Reply,
    Receipt,
    ReceiptForAll,
    Delete(&'static str),
    Revoke,
    DeleteAll,
}

/// A row of a table: who does what, what the device that does it is told, and what the other devices of the users are told. A user
/// without a cell is told nothing.
struct Row {
    by: User,
    act: Act,
    own: &'static [&'static str],
    told: &'static [(User, &'static [&'static str])],
}

const fn row(
    by: User,
    act: Act,
    own: &'static [&'static str],
    told: &'static [(User, &'static [&'static str])],
) -> Row {
    Row { by, act, own, told }
}

const OF_TWO: &[Row] = &[
    row("ann", Act::Edit, &["r shows m2"], &[("ann", &["m is m2", "r shows m2"]), ("bob", &["m is m2", "r shows m2"])]),
    row(
        "bob",
        Act::React,
        &["bob +1 Added 1 to m"],
        &[("ann", &["bob +1 Added 1 to m"]), ("bob", &["bob +1 Added 1 to m"])],
    ),
    row(
        "bob",
        Act::TakeBack,
        &["bob +1 Deleted 0 to m"],
        &[("ann", &["bob +1 Deleted 0 to m"]), ("bob", &["bob +1 Deleted 0 to m"])],
    ),
    row("bob", Act::Pin(true), &["m Pinned"], &[("ann", &["m Pinned"]), ("bob", &["m Pinned"])]),
    row("ann", Act::Pin(false), &["m NotPinned"], &[("ann", &["m NotPinned"]), ("bob", &["m NotPinned"])]),
    row(
        "bob",
        Act::Reply,
        &["s is Sending", "s is Success", "m has 2 replies"],
        &[("ann", &["received s", "m has 2 replies"]), ("bob", &["received s", "m has 2 replies"])],
    ),
    row("bob", Act::Receipt, &[], &[("ann", &["m read by 1, not by 0"]), ("bob", &["m read here"])]),
    row("bob", Act::ReceiptForAll, &[], &[("ann", &["all read by bob"]), ("bob", &["all of ann read here"])]),
    row("bob", Act::Delete("r"), &[], &[("bob", &["deleted r"])]),
    row(
        "ann",
        Act::Revoke,
        &["r shows Deleted", "s shows Deleted"],
        &[("ann", &["m revoked", "r shows Deleted", "s shows Deleted"]), ("bob", &["m revoked", "s shows Deleted"])],
    ),
    row("bob", Act::DeleteAll, &[], &[("bob", &["deleted all"])]),
];

const OF_A_GROUP: &[Row] = &[
    row(
        "ann",
        Act::Edit,
        &["r shows m2"],
        &[
            ("ann", &["m is m2", "r shows m2"]),
            ("bob", &["m is m2", "r shows m2"]),
            ("cai", &["m is m2", "r shows m2"]),
        ],
    ),
    row(
        "bob",
        Act::React,
        &["bob +1 Added 1 to m"],
        &[("ann", &["bob +1 Added 1 to m"]), ("bob", &["bob +1 Added 1 to m"]), ("cai", &["bob +1 Added 1 to m"])],
    ),
    row(
        "bob",
        Act::TakeBack,
        &["bob +1 Deleted 0 to m"],
        &[
            ("ann", &["bob +1 Deleted 0 to m"]),
            ("bob", &["bob +1 Deleted 0 to m"]),
            ("cai", &["bob +1 Deleted 0 to m"]),
        ],
    ),
    row(
        "cai",
        Act::Pin(true),
        &["m Pinned"],
        &[("ann", &["m Pinned"]), ("bob", &["m Pinned"]), ("cai", &["m Pinned"])],
    ),
    row(
        "ann",
        Act::Pin(false),
        &["m NotPinned"],
        &[("ann", &["m NotPinned"]), ("bob", &["m NotPinned"]), ("cai", &["m NotPinned"])],
    ),
    row(
        "cai",
        Act::Reply,
        &["s is Sending", "s is Success", "m has 2 replies"],
        &[
            ("ann", &["received s", "m has 2 replies"]),
            ("bob", &["received s", "m has 2 replies"]),
            ("cai", &["received s", "m has 2 replies"]),
            ("dan", &["received s"]),
        ],
    ),
    row("bob", Act::Receipt, &[], &[("ann", &["m read by 1, not by 1"]), ("bob", &["m read here"])]),
    row("bob", Act::Delete("r"), &[], &[("bob", &["deleted r"])]),
    row(
        "cai",
        Act::Delete("m"),
        &["r shows Deleted", "s shows Deleted"],
        &[("cai", &["deleted m", "r shows Deleted", "s shows Deleted"])],
    ),
    row(
        "ann",
        Act::Revoke,
        &["r shows Deleted", "s shows Deleted"],
        &[("ann", &["m revoked", "r shows Deleted", "s shows Deleted"]), ("bob", &["m revoked", "s shows Deleted"])],
    ),
    row("bob", Act::DeleteAll, &[], &[("bob", &["deleted all"])]),
];

/// What all say to see that everything before it has come.
const BARRIER: &str = "barrier";

/// The people, their devices, a conversation, and a group of all of them, in which Eve speaks.
struct Stage {
    world: World,
    devices: Vec<(User, [Device; 2])>,
    away: Vec<(User, DataDir)>,
    kind: ConversationType,
    /// The messages by their names.
    ids: HashMap<&'static str, String>,
}

impl Stage {
    /// Ann says `m` and Bob replies with `r`; then one device of some leaves.
    async fn new(kind: ConversationType) -> Self {
        // The clock stands still while devices come back.
        let world = World::with(|config| config.limits.handshakes_per_second_per_address = 1_000_000).await;
        let (mut devices, mut leaving) = (Vec::new(), Vec::new());
        for user in PEOPLE {
            devices.push((user, [world.user(user).await, world.device(user).await]));
        }
        for user in AWAY {
            leaving.push((user, world.device(user).await));
        }
        let mut stage = Self { world, devices, away: Vec::new(), kind, ids: HashMap::new() };
        create(stage.first("eve"), "all", &["ann", "bob", "cai", "dan"]).await;
        create(stage.first("ann"), "crew", &["bob", "cai"]).await;
        let chat = stage.chat("ann");
        let config = MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() };
        let (text, notification) = (Message::text("m"), MessageSendNotification::default());
        let sent = stage.first("ann").send_message(text, chat.id, chat.kind, config, notification);
        let id = soon(sent).await.unwrap().message.unwrap().message_id;
        stage.ids.insert("m", id);
        if kind == ConversationType::Group {
            for user in ["bob", "cai"] {
                stage.held(user, "m").await;
            }
            soon(stage.first("dan").join_group("crew")).await.unwrap();
        }
        let id = stage.reply("bob", "r").await.unwrap();
        stage.ids.insert("r", id);
        stage.barrier("before", &leaving).await;
        for (user, device) in leaving {
            let dir = device.dir();
            device.quit().await;
            stage.away.push((user, dir));
        }
        stage
    }

    fn first(&self, user: User) -> &Device {
        &self.devices.iter().find(|devices| devices.0 == user).unwrap().1[0]
    }

    /// The conversation as a user names it.
    fn chat(&self, user: User) -> Chat<'static> {
        match (self.kind, user) {
            (ConversationType::Group, _) => group("crew"),
            (_, "ann") => Chat::from("bob"),
            _ => Chat::from("ann"),
        }
    }

    fn inside(&self) -> &'static [User] {
        if self.kind == ConversationType::Group { &["ann", "bob", "cai", "dan"] } else { &["ann", "bob"] }
    }

    /// Waits until the first device of a user has a message; returns it.
    async fn held(&self, user: User, name: &str) -> Message {
        let id = &self.ids[name];
        eventually(name, async || {
            self.first(user).history(self.chat(user)).await.into_iter().find(|one| one.message_id == *id)
        })
        .await
    }

    /// Replies to `m`; returns the ID of the reply.
    async fn reply(&self, by: User, text: &str) -> Result<String, Error> {
        let to = self.held(by, "m").await;
        let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
        let sent = soon(self.first(by).reply_message(Message::text(text), &to, config, notification)).await?;
        Ok(sent.message.unwrap().message_id)
    }

    async fn run(&mut self, by: User, act: Act) -> Result<(), Error> {
        let chat = self.chat(by);
        let device = self.first(by);
        match act {
            Act::Edit => {
                let edited = Message { body: Message::text("m2").body, ..self.held(by, "m").await };
                soon(device.edit_message(&edited, MessageEditConfig {})).await.map(drop)
            }
            Act::React => {
                let config = MessageReactionAddConfig::default();
                soon(device.add_message_reaction("+1", &self.held(by, "m").await, config)).await.map(drop)
            }
            Act::TakeBack => soon(device.delete_message_reaction("+1", &self.held(by, "m").await)).await.map(drop),
            Act::Pin(is_pinned) => {
                soon(device.pin_message(&self.held(by, "m").await, is_pinned, MessagePinConfig::default())).await
            }
            Act::Receipt => {
                let list = [self.held(by, "m").await];
                soon(device.send_message_receipts_read(&list, chat.id, chat.kind)).await.map(drop)
            }
            Act::ReceiptForAll => {
                soon(device.send_conversation_message_receipt_read(chat.id, chat.kind)).await.map(drop)
            }
            Act::Delete(name) => {
                let list = [self.held(by, name).await];
                soon(device.delete_messages(&list, chat.id, chat.kind, EVERYWHERE)).await.map(drop)
            }
            Act::Revoke => {
                soon(device.revoke_message(&self.held(by, "m").await, MessageRevokeConfig::default())).await.map(drop)
            }
            Act::DeleteAll => soon(device.delete_all_message(chat.id, chat.kind, EVERYWHERE)).await.map(drop),
            Act::Reply => {
                let id = self.reply(by, "s").await?;
                self.ids.insert("s", id);
                Ok(())
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = (User, &Device)> {
        self.devices.iter().flat_map(|(user, devices)| devices.iter().map(move |device| (*user, device)))
    }

    /// What was to come has come: a later message in the conversation to those who are in it, a later message in the group of all,
    /// and a later entry of each user's own feed. `more` are devices beside those of the stage.
    async fn barrier(&self, what: &str, more: &[(User, Device)]) {
        let (here, everywhere) = (format!("{BARRIER} here {what}"), format!("{BARRIER} for all {what}"));
        self.first("ann").say(self.chat("ann"), &here).await;
        for user in PEOPLE {
            soon(self.first(user).update_group_alias(what, "all")).await.unwrap();
        }
        self.first("eve").say(group("all"), &everywhere).await;
        for (user, device) in self.all().chain(more.iter().map(|(user, device)| (*user, device))) {
            if self.inside().contains(&user) && !std::ptr::eq(device, self.first("ann")) {
                device.receives(&here).await;
            }
            if !std::ptr::eq(device, self.first("eve")) {
                device.receives(&everywhere).await;
            }
            let is_last = |event: &Event| matches!(event, Event::GroupAliasUpdated(event) if event.group_alias == what);
            device.until("a later entry of the feed", |seen| seen.iter().any(is_last).then_some(())).await;
        }
    }

    fn name(&self, message_id: &str) -> &'static str {
        self.ids.iter().find(|(_, id)| *id == message_id).map_or("?", |(name, _)| *name)
    }

    /// What events say of messages after the first ones, sorted.
    fn told(&self, seen: &[Event], first: usize) -> Vec<String> {
        let mut told: Vec<String> = seen.iter().skip(first).flat_map(|event| self.said(event)).collect();
        told.sort();
        told
    }

    fn said(&self, event: &Event) -> Vec<String> {
        let name = |message: &Message| self.name(&message.message_id);
        match event {
            Event::PeerMessageReceived(event) => received(&event.message_list),
            Event::GroupMessageReceived(event) => received(&event.message_list),
            Event::MessageEdited(event) => {
                let of = |one: &Message| format!("{} is {}", name(one), one.as_text().unwrap());
                event.message_list.iter().map(of).collect()
            }
            Event::MessageRevokeReceived(event) => {
                event.message_list.iter().map(|one| format!("{} revoked", name(one))).collect()
            }
            Event::MessageReactionsChanged(event) => {
                event.change_info_list.iter().map(|info| format!("{} to {}", reaction(info), name(of(info)))).collect()
            }
            Event::MessagePinStatusChanged(event) => {
                let of = |message: Option<&Message>| name(message.unwrap());
                event.infos.iter().map(|one| format!("{} {:?}", of(one.message.as_ref()), one.pin_status())).collect()
            }
            Event::MessageRepliedCountChanged(event) => {
                let of = |id: &str, count: i64| format!("{} has {count} replies", self.name(id));
                event.infos.iter().map(|info| of(&info.message_id, info.count)).collect()
            }
            Event::MessageRepliedInfoChanged(event) => {
                event.message_list.iter().map(|one| format!("{} shows {}", name(one), source(one))).collect()
            }
            Event::MessageReceiptChanged(event) => {
                let of = |info: &MessageReceiptInfo| match info.is_self_operated {
                    true => "here".to_owned(),
                    false => format!("by {}, not by {}", info.read_member_count, info.unread_member_count),
                };
                event.infos.iter().map(|info| format!("{} read {}", self.name(&info.message_id), of(info))).collect()
            }
            Event::ConversationMessageReceiptChanged(event) => {
                let of = |info: &MessageReceiptInfo| match info.is_self_operated {
                    true => format!("all of {} read here", info.conversation_id),
                    false => format!("all read by {}", info.conversation_id),
                };
                event.infos.iter().map(of).collect()
            }
            Event::MessageDeleted(event) if event.message_list.is_empty() => vec!["deleted all".to_owned()],
            Event::MessageDeleted(event) => {
                event.message_list.iter().map(|one| format!("deleted {}", name(one))).collect()
            }
            Event::MessageSentStatusChanged(event) => {
                let of = |one: &MessageSentStatusChangeInfo| {
                    let text = one.message.as_ref()?.as_text()?;
                    (!text.starts_with(BARRIER)).then(|| format!("{text} is {:?}", one.status()))
                };
                event.infos.iter().filter_map(of).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Lets a user act, and compares what all devices are told with the row.
    async fn play(&mut self, row: &Row) {
        let what = format!("{} does {:?}", row.by, row.act);
        let first: Vec<usize> = self.all().map(|(_, device)| device.seen().len()).collect();
        self.run(row.by, row.act).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let expected = |user: User| {
            let cells = row.told.iter().filter(|cell| cell.0 == user);
            let mut told: Vec<String> = cells.flat_map(|cell| cell.1.iter().map(|one| (*one).to_owned())).collect();
            told.sort();
            told
        };
        let mut own: Vec<String> = row.own.iter().map(|one| (*one).to_owned()).collect();
        own.sort();
        let all: Vec<_> = self
            .all()
            .zip(&first)
            .map(|((user, device), first)| {
                let acts = std::ptr::eq(device, self.first(row.by));
                (user, device, *first, if acts { own.clone() } else { expected(user) })
            })
            .collect();
        for (user, device, first, expected) in &all {
            let has_all = |seen: &[Event]| (self.told(seen, *first).len() >= expected.len()).then_some(());
            device.until(&format!("{what}, which tells {user} {expected:?}"), has_all).await;
        }
        self.barrier(&what, &[]).await;
        for (user, device, first, expected) in &all {
            assert_eq!(self.told(&device.seen(), *first), *expected, "{what}, which tells {user}");
        }
        // The same comes to devices that were away, and nothing else.
        for (user, dir) in &self.away {
            let device = self.world.user_at(dir.clone(), user).await;
            let expected = expected(*user);
            let has_all = |seen: &[Event]| (self.told(seen, 0).len() >= expected.len()).then_some(());
            device.until(&format!("{what}, which tells {user} {expected:?} later"), has_all).await;
            device.receives(&format!("{BARRIER} for all {what}")).await;
            device.quit().await;
            assert_eq!(self.told(&device.seen(), 0), expected, "{what}, which tells {user} later");
        }
    }
}

/// The texts of messages that are not barriers.
fn received(list: &[Message]) -> Vec<String> {
    let texts = list.iter().filter_map(Message::as_text);
    texts.filter(|text| !text.starts_with(BARRIER)).map(|text| format!("received {text}")).collect()
}

fn of(info: &MessageReactionChangeInfo) -> &Message {
    info.message.as_ref().unwrap()
}

/// What a user did with a reaction.
fn reaction(info: &MessageReactionChangeInfo) -> String {
    let [user] = &info.user_change_info_list[..] else { panic!("{info:?}") };
    format!("{} {} {:?} {}", user.user_id, user.reaction_type, user.action(), user.sum_count)
}

/// What a reply shows of its source: the text, or that it is not there.
fn source(reply: &Message) -> String {
    let info = reply.replied_info.as_ref().unwrap();
    match info.message_info.as_ref().and_then(|info| info.body.as_ref()) {
        Some(Lite::Text(text)) => text.message.clone(),
        _ => format!("{:?}", info.state()),
    }
}

#[tokio::test]
async fn what_happens_to_a_message_between_two_users_is_told_to_them_and_to_nobody_else() {
    let mut stage = Stage::new(ConversationType::Peer).await;
    for row in OF_TWO {
        stage.play(row).await;
    }
    stage.world.end().await;
}

#[tokio::test]
async fn what_happens_to_a_message_of_a_group_is_told_to_those_who_see_it_and_to_nobody_else() {
    let mut stage = Stage::new(ConversationType::Group).await;
    for row in OF_A_GROUP {
        stage.play(row).await;
    }
    stage.world.end().await;
}
