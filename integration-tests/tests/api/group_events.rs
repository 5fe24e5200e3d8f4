//! The events of groups: a table of every act, with who is told of it, what, and in which order.

use std::collections::HashMap;

use zim_client_sdk::Error;
use zim_integration_tests::{Device, World, group, soon};
use zim_protocol::{
    Conversation, ConversationEvent, ConversationType, ErrorCode, Event, GroupAdvancedConfig, GroupApplicationInfo,
    GroupApplicationListChangeAction, GroupBeInviteMode, GroupInviteMode, GroupJoinMode, GroupMemberInfo,
    GroupMemberMuteConfig, GroupMemberState, GroupMuteConfig, GroupMuteMode, GroupOperatedInfo,
};

use crate::group::{create, info};

mod table;

type User = &'static str;

/// Each of them has two devices. Whoever is not in the group of a row is an outsider there.
const PEOPLE: [User; 4] = ["ann", "bob", "cai", "dan"];

/// Something that the first user does, on their first device.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Creates the group of this row and of those after it, with other users and attributes.
    Create(User, &'static [User], &'static [(&'static str, &'static str)]),
    Join(User),
    Leave(User),
    Invite(User, &'static [User]),
    Kick(User, &'static [User]),
    Transfer(User, User),
    Role(User, User, i64),
    Nickname(User, User, &'static str),
    /// For so many seconds; 0: not any more.
    MuteMembers(User, &'static [User], i64),
    MuteGroup(User, Option<GroupMuteMode>),
    Name(User, &'static str),
    Avatar(User, &'static str),
    Notice(User, &'static str),
    SetAttribute(User, &'static str, &'static str),
    DeleteAttribute(User, &'static str),
    JoinMode(User, GroupJoinMode),
    InviteMode(User, GroupInviteMode),
    BeInviteMode(User, GroupBeInviteMode),
    Alias(User, &'static str),
    /// Applies to join.
    Apply(User),
    /// Answers the application of another user.
    Accept(User, User),
    Reject(User, User),
    /// Asks another user to enter.
    Ask(User, User),
    /// Answers the invitation of another user.
    Agree(User, User),
    Decline(User, User),
    Dismiss(User),
}

/// How long mutes last here, seconds.
const MUTE_S: i64 = 60;

fn pairs(list: &[(&str, &str)]) -> HashMap<String, String> {
    list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Act {
    async fn run(self, stage: &Stage, id: &str) -> Result<(), Error> {
        let of = |user| stage.first(user);
        match self {
            Self::Create(by, users, attributes) => {
                let config = GroupAdvancedConfig { group_attributes: pairs(attributes), ..Default::default() };
                soon(of(by).create_group(info(id), users.iter().copied(), config)).await.map(drop)
            }
            Self::Join(by) => soon(of(by).join_group(id)).await.map(drop),
            Self::Leave(by) => soon(of(by).leave_group(id)).await.map(drop),
            Self::Invite(by, users) => soon(of(by).invite_users_into_group(users.iter().copied(), id)).await.map(drop),
            Self::Kick(by, users) => soon(of(by).kick_group_members(users.iter().copied(), id)).await.map(drop),
            Self::Transfer(by, heir) => soon(of(by).transfer_group_owner(heir, id)).await.map(drop),
            Self::Role(by, user, role) => soon(of(by).set_group_member_role(role, user, id)).await.map(drop),
            Self::Nickname(by, user, name) => soon(of(by).set_group_member_nickname(name, user, id)).await.map(drop),
            Self::MuteMembers(by, users, duration) => {
                let config = GroupMemberMuteConfig { duration };
                let muted = of(by).mute_group_members(duration != 0, users.iter().copied(), id, config);
                soon(muted).await.map(drop)
            }
            Self::MuteGroup(by, mode) => {
                let config = mode.map_or_else(GroupMuteConfig::default, |mode| GroupMuteConfig {
                    mode: Some(mode as i32),
                    duration: Some(MUTE_S),
                    roles: Vec::new(),
                });
                soon(of(by).mute_group(mode.is_some(), id, config)).await.map(drop)
            }
            Self::Name(by, name) => soon(of(by).update_group_name(name, id)).await.map(drop),
            Self::Avatar(by, url) => soon(of(by).update_group_avatar_url(url, id)).await.map(drop),
            Self::Notice(by, notice) => soon(of(by).update_group_notice(notice, id)).await.map(drop),
            Self::SetAttribute(by, key, value) => {
                soon(of(by).set_group_attributes(pairs(&[(key, value)]), id)).await.map(drop)
            }
            Self::DeleteAttribute(by, key) => soon(of(by).delete_group_attributes([key], id)).await.map(drop),
            Self::JoinMode(by, mode) => soon(of(by).update_group_join_mode(mode, id)).await.map(drop),
            Self::InviteMode(by, mode) => soon(of(by).update_group_invite_mode(mode, id)).await.map(drop),
            Self::BeInviteMode(by, mode) => soon(of(by).update_group_be_invite_mode(mode, id)).await.map(drop),
            Self::Alias(by, alias) => soon(of(by).update_group_alias(alias, id)).await.map(drop),
            Self::Apply(by) => soon(of(by).send_group_join_application(id, Default::default())).await.map(drop),
            Self::Accept(by, user) => {
                soon(of(by).accept_group_join_application(user, id, Default::default())).await.map(drop)
            }
            Self::Reject(by, user) => {
                soon(of(by).reject_group_join_application(user, id, Default::default())).await.map(drop)
            }
            Self::Ask(by, user) => {
                soon(of(by).send_group_invite_applications([user], id, Default::default())).await.map(drop)
            }
            Self::Agree(by, user) => {
                soon(of(by).accept_group_invite_application(user, id, Default::default())).await.map(drop)
            }
            Self::Decline(by, user) => {
                soon(of(by).reject_group_invite_application(user, id, Default::default())).await.map(drop)
            }
            Self::Dismiss(by) => soon(of(by).dismiss_group(id)).await.map(drop),
        }
    }
}

/// What both devices of a user are told.
type Cell = (User, &'static [&'static str]);

/// A row of the table. A user without a cell is told nothing.
struct Row {
    act: Act,
    refusal: Option<ErrorCode>,
    /// The members afterwards, of whom the first may write; none: nobody may.
    inside: &'static [User],
    cells: &'static [Cell],
}

impl Row {
    const fn new(act: Act, inside: &'static [User], cells: &'static [Cell]) -> Self {
        Self { act, refusal: None, inside, cells }
    }

    /// An act that is refused, of which nobody is told.
    const fn refused(act: Act, code: ErrorCode, inside: &'static [User]) -> Self {
        Self { act, refusal: Some(code), inside, cells: &[] }
    }

    fn cell(&self, user: User) -> Vec<String> {
        let cells = self.cells.iter().filter(|cell| cell.0 == user);
        cells.flat_map(|cell| cell.1.iter().map(|told| (*told).to_owned())).collect()
    }
}

/// The people, their devices, and a group of all of them, in which Zoe speaks.
struct Stage {
    world: World,
    devices: Vec<(User, [Device; 2])>,
    zoe: Device,
}

impl Stage {
    async fn new() -> Self {
        let world = World::new().await;
        let mut devices = Vec::new();
        for user in PEOPLE {
            devices.push((user, [world.user(user).await, world.device(user).await]));
        }
        let zoe = world.user("zoe").await;
        create(&zoe, "all", &PEOPLE).await;
        Self { world, devices, zoe }
    }

    fn first(&self, user: User) -> &Device {
        &self.devices.iter().find(|devices| devices.0 == user).unwrap().1[0]
    }

    fn all(&self) -> impl Iterator<Item = (User, &Device)> {
        self.devices.iter().flat_map(|(user, devices)| devices.iter().map(move |device| (*user, device)))
    }

    /// What was to come has come: a later message in the group to its members, a later message in another group to everybody, and
    /// a later entry of each user's own feed.
    async fn barrier(&self, text: &str, id: &str, inside: &[User]) {
        let in_group = format!("{text} in {id}");
        if let Some(speaker) = inside.first() {
            self.first(speaker).say(group(id), &in_group).await;
        }
        for (user, devices) in &self.devices {
            let is_speaker = inside.first() == Some(user);
            for device in devices.iter().skip(usize::from(is_speaker)).filter(|_| inside.contains(user)) {
                device.receives(&in_group).await;
            }
            soon(devices[0].update_group_alias(text, "all")).await.unwrap();
        }
        self.zoe.say(group("all"), text).await;
        for (_, device) in self.all() {
            device.receives(text).await;
            let is_last = |event: &Event| matches!(event, Event::GroupAliasUpdated(event) if event.group_alias == text);
            device.until("a later entry of the feed", |seen| seen.iter().any(is_last).then_some(())).await;
        }
    }
}

/// How far a time is from now.
fn span(until: i64, now: i64) -> String {
    match until {
        0 | -1 => until.to_string(),
        until => format!("+{}", until - now),
    }
}

fn id_of(operator: Option<&GroupOperatedInfo>) -> String {
    operator.unwrap().user_id.clone()
}

/// Who did it, as what.
fn by(operator: Option<&GroupOperatedInfo>) -> String {
    let operator = operator.unwrap();
    format!("by {}({})", operator.user_id, operator.member_role)
}

/// What an event says about who is in a group.
fn membership(event: &Event, id: &str, now: i64) -> Option<String> {
    match event {
        Event::GroupStateChanged(event) => {
            let base = event.group_info.as_ref().unwrap().base_info.as_ref().unwrap();
            assert!(!base.group_name.is_empty(), "{event:?}");
            let operator = id_of(event.operated_info.as_ref());
            (base.group_id == id).then(|| format!("state {:?} {:?} by {operator}", event.state(), event.event()))
        }
        Event::GroupMemberStateChanged(event) if event.group_id == id => {
            let of = |member: &GroupMemberInfo| {
                if event.state() == GroupMemberState::Quit {
                    return member.user_id.clone();
                }
                let enter = member.group_enter_info.as_ref().unwrap();
                assert_eq!(enter.enter_time, now, "{event:?}");
                let brought = enter.operated_user.as_ref().map_or("-", |user| &*user.user_id);
                format!("{}={}/{:?}/{brought}", member.user_id, member.member_role, enter.enter_type())
            };
            let users: Vec<_> = event.user_list.iter().map(of).collect();
            let operator = id_of(event.operated_info.as_ref());
            let (state, event) = (event.state(), event.event());
            Some(format!("members {state:?} {event:?} {} by {operator}", users.join(",")))
        }
        Event::GroupMemberInfoUpdated(event) if event.group_id == id => {
            let of = |member: &GroupMemberInfo| {
                let mut said = format!("{}={}", member.user_id, member.member_role);
                if !member.member_nickname.is_empty() {
                    said.push_str(&format!(" as {}", member.member_nickname));
                }
                if member.mute_expired_time != 0 {
                    said.push_str(&format!(" muted {}", span(member.mute_expired_time, now)));
                }
                said
            };
            let users: Vec<_> = event.user_list.iter().map(of).collect();
            Some(format!("info {} {}", users.join(","), by(event.operated_info.as_ref())))
        }
        _ => None,
    }
}

/// What an event says about what a group is.
fn data(event: &Event, id: &str, now: i64) -> Option<String> {
    let (group_id, said, operator) = match event {
        Event::GroupNameUpdated(event) => (&event.group_id, format!("name {}", event.group_name), &event.operated_info),
        Event::GroupAvatarUrlUpdated(event) => {
            (&event.group_id, format!("avatar {}", event.group_avatar_url), &event.operated_info)
        }
        Event::GroupNoticeUpdated(event) => {
            (&event.group_id, format!("notice {}", event.group_notice), &event.operated_info)
        }
        Event::GroupVerifyInfoUpdated(event) => {
            let modes = event.verify_info.unwrap();
            let said = format!("modes {} {} {}", modes.join_mode, modes.invite_mode, modes.be_invite_mode);
            (&event.group_id, said, &event.operated_info)
        }
        Event::GroupMutedInfoUpdated(event) => {
            let mute = event.muted_info.clone().unwrap();
            let said = format!("mute {:?} {}", mute.mode(), span(mute.expired_time, now));
            (&event.group_id, said, &event.operated_info)
        }
        Event::GroupAttributesUpdated(event) => {
            let [update] = &event.info_list[..] else { panic!("{event:?}") };
            let mut all: Vec<_> = update.group_attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
            all.sort();
            let said = format!("attributes {:?} {}", update.action(), all.join(","));
            (&event.group_id, said, &event.operated_info)
        }
        Event::GroupAliasUpdated(event) => {
            let said = format!("alias {} by {}", event.group_alias, event.operated_user_id);
            return (event.group_id == id).then_some(said);
        }
        _ => return None,
    };
    (group_id == id).then(|| format!("{said} {}", by(operator.as_ref())))
}

/// What an event says about applications.
fn applications(event: &Event, id: &str) -> Vec<String> {
    let (what, list) = match event {
        Event::GroupApplicationListChanged(event) => {
            assert_eq!(event.action(), GroupApplicationListChangeAction::Added);
            ("added", &event.application_list)
        }
        Event::GroupApplicationUpdated(event) => ("updated", &event.application_list),
        _ => return Vec::new(),
    };
    let is_here = |one: &&GroupApplicationInfo| one.group_info.as_ref().unwrap().group_id == id;
    let say = |one: &GroupApplicationInfo| {
        let operator = one.operated_user.as_ref().map_or_else(String::new, |user| format!(" by {}", user.user_id));
        let user = &one.apply_user.as_ref().unwrap().user_id;
        format!("application {what} {:?} {:?} of {user}{operator}", one.r#type(), one.state())
    };
    list.iter().filter(is_here).map(say).collect()
}

/// What is new in a conversation that was in the list before.
fn changes(event: ConversationEvent, (before, after): (&Conversation, &Conversation), now: i64) -> Vec<String> {
    let mut said = Vec::new();
    // At first a device may not know yet what the group is.
    if !before.conversation_name.is_empty() && before.conversation_name != after.conversation_name {
        said.push(format!("conversation name {}", after.conversation_name));
    }
    if !before.conversation_avatar_url.is_empty() && before.conversation_avatar_url != after.conversation_avatar_url {
        said.push(format!("conversation avatar {}", after.conversation_avatar_url));
    }
    if before.conversation_alias != after.conversation_alias {
        said.push(format!("conversation alias {}", after.conversation_alias));
    }
    if before.muted_expired_time != after.muted_expired_time {
        said.push(format!("conversation muted {}", span(after.muted_expired_time, now)));
    }
    if before.is_disabled && !after.is_disabled {
        said.push("conversation enabled".to_owned());
    }
    if event == ConversationEvent::Disabled {
        said.push(DISABLED.to_owned());
    }
    said
}

const DISABLED: &str = "conversation disabled";

/// What a device was told about a group after its first events.
fn told(seen: &[Event], id: &str, first: usize, now: i64) -> Vec<String> {
    let (mut known, mut told): (Option<Conversation>, Vec<String>) = (None, Vec::new());
    for (index, event) in seen.iter().enumerate() {
        let mut said: Vec<String> = membership(event, id, now).into_iter().chain(data(event, id, now)).collect();
        said.extend(applications(event, id));
        if let Event::ConversationChanged(event) = event {
            for change in &event.info_list {
                let after = change.conversation.clone().unwrap();
                if (after.r#type(), &*after.conversation_id) == (ConversationType::Group, id) {
                    if let Some(before) = &known {
                        said.extend(changes(change.event(), (before, &after), now));
                    }
                    known = Some(after);
                }
            }
        }
        if index >= first {
            told.extend(said);
        }
    }
    told
}

/// Applications come by the user's feed, and what a group is may come before the change that let the user in. All else has one
/// order.
fn in_order(mut told: Vec<String>) -> Vec<String> {
    told.sort_by_key(|one| match one {
        one if one.starts_with("application") => 1,
        one if one.starts_with("conversation") && one != DISABLED => 2,
        _ => 0,
    });
    told
}

#[tokio::test]
async fn create_group_and_every_other_act_tell_those_in_the_table_and_nobody_else() {
    let stage = Stage::new().await;
    let now = stage.world.clock.now_ms();
    let (mut id, mut groups) = (String::new(), 0);
    for (number, row) in table::ROWS.iter().enumerate() {
        if matches!(row.act, Act::Create(..)) {
            groups += 1;
            id = format!("g{groups}");
        }
        let first: Vec<usize> = stage.all().map(|(_, device)| device.seen().len()).collect();
        let done = row.act.run(&stage, &id).await;
        assert_eq!(done.map_err(|error| error.code()).err(), row.refusal, "row {number}, {:?}", row.act);
        for ((user, device), first) in stage.all().zip(&first) {
            let expected = row.cell(user);
            let what = format!("row {number}, {:?} tells {user} {expected:?}", row.act);
            let has_all = |seen: &[Event]| (told(seen, &id, *first, now).len() >= expected.len()).then_some(());
            device.until(&what, has_all).await;
        }
        stage.barrier(&format!("after {number}"), &id, row.inside).await;
        for ((user, device), first) in stage.all().zip(&first) {
            let told = in_order(told(&device.seen(), &id, *first, now));
            assert_eq!(told, in_order(row.cell(user)), "row {number}, {:?} tells {user}", row.act);
        }
    }
    stage.world.end().await;
}
