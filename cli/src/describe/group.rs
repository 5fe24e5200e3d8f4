//! Groups and their events as text.

use zim_protocol::{
    GroupAliasUpdatedEvent, GroupApplicationInfo, GroupApplicationType, GroupAttributesUpdateAction,
    GroupAttributesUpdatedEvent, GroupAvatarUrlUpdatedEvent, GroupEvent, GroupInfo, GroupMemberEvent, GroupMemberInfo,
    GroupMemberInfoUpdatedEvent, GroupMemberStateChangedEvent, GroupMuteMode, GroupMutedInfoUpdatedEvent,
    GroupNameUpdatedEvent, GroupNoticeUpdatedEvent, GroupOperatedInfo, GroupStateChangedEvent,
    GroupVerifyInfoUpdatedEvent, Message,
};

use crate::attribute::attributes_text;
use crate::text::preview;

/// The most users that an event names.
const MAX_NAMED: usize = 5;

/// Returns the ID of a group with its name.
pub(crate) fn name(group: &GroupInfo) -> String {
    let id = &group.group_id;
    match &group.group_name {
        name if name.is_empty() || name == id => preview(id, 40),
        name => preview(&format!("{id} ({name})"), 40),
    }
}

/// Returns the role of a member.
pub(crate) fn role(role: i64) -> String {
    match role {
        1 => "owner".to_owned(),
        2 => "administrator".to_owned(),
        3 => "member".to_owned(),
        other => format!("role {other}"),
    }
}

/// Returns the sender of a message in a group, and the group.
pub(super) fn sender(message: &Message) -> String {
    format!("{} in {}", super::sender(message), preview(&message.conversation_id, 32))
}

/// Describes a change of the user's own membership.
pub(crate) fn state_changed(change: &GroupStateChangedEvent) -> String {
    let group = change.group_info.as_ref().and_then(|info| info.base_info.as_ref());
    let group = group.map_or_else(|| "?".to_owned(), name);
    let by = operator(change.operated_info.as_ref());
    match change.event() {
        GroupEvent::Created => format!("you created the group {group}"),
        GroupEvent::Joined => format!("you joined the group {group}"),
        GroupEvent::Invited => format!("{by} invited you to the group {group}"),
        GroupEvent::Left => format!("you left the group {group}"),
        GroupEvent::KickedOut => format!("{by} removed you from the group {group}"),
        GroupEvent::Dismissed => format!("{by} dismissed the group {group}"),
        GroupEvent::Unspecified | GroupEvent::Unknown => format!("your place in the group {group} changed"),
    }
}

/// Describes who came and went.
pub(crate) fn members_changed(change: &GroupMemberStateChangedEvent) -> String {
    let (users, by) = (users(&change.user_list), operator(change.operated_info.as_ref()));
    let group = preview(&change.group_id, 32);
    match change.event() {
        GroupMemberEvent::Joined => format!("{users} joined the group {group}"),
        GroupMemberEvent::Invited => format!("{by} invited {users} to the group {group}"),
        GroupMemberEvent::Left => format!("{users} left the group {group}"),
        GroupMemberEvent::KickedOut => format!("{by} removed {users} from the group {group}"),
        GroupMemberEvent::Unspecified | GroupMemberEvent::Unknown => {
            format!("the place of {users} in the group {group} changed")
        }
    }
}

/// Describes what members are now.
pub(crate) fn members_updated(change: &GroupMemberInfoUpdatedEvent) -> Vec<String> {
    let group = preview(&change.group_id, 32);
    let of = |member: &GroupMemberInfo| {
        let called = match preview(&member.member_nickname, 40) {
            nickname if nickname.is_empty() => nickname,
            nickname => format!(", called {nickname}"),
        };
        format!("{} is now {} of the group {group}{called}", preview(&member.user_id, 32), role(member.member_role))
    };
    change.user_list.iter().map(of).collect()
}

/// Describes the changes of a group's attributes.
pub(super) fn attributes_updated(change: &GroupAttributesUpdatedEvent) -> Vec<String> {
    let group = preview(&change.group_id, 32);
    let lines = change.info_list.iter().map(|info| match info.action() {
        GroupAttributesUpdateAction::Set => {
            format!("the group {group} has the attributes {}", attributes_text(&info.group_attributes))
        }
        GroupAttributesUpdateAction::Delete => {
            let mut keys: Vec<String> = info.group_attributes.keys().map(|key| preview(key, 32)).collect();
            keys.sort_unstable();
            format!("the group {group} no longer has the attributes {}", keys.join(" "))
        }
    });
    lines.collect()
}

/// Describes a new name.
pub(crate) fn name_updated(change: &GroupNameUpdatedEvent) -> String {
    let by = operator(change.operated_info.as_ref());
    format!("{by} named the group {} {:?}", preview(&change.group_id, 32), preview(&change.group_name, 100))
}

/// Describes a new avatar.
pub(crate) fn avatar_updated(change: &GroupAvatarUrlUpdatedEvent) -> String {
    format!(
        "{} changed the avatar of the group {}",
        operator(change.operated_info.as_ref()),
        preview(&change.group_id, 32)
    )
}

/// Describes a new notice.
pub(crate) fn notice_updated(change: &GroupNoticeUpdatedEvent) -> String {
    let (by, group) = (operator(change.operated_info.as_ref()), preview(&change.group_id, 32));
    format!("{by} changed the notice of the group {group}: {}", preview(&change.group_notice, 200))
}

/// Describes the name that the user gave a group.
pub(crate) fn alias_updated(change: &GroupAliasUpdatedEvent) -> String {
    format!("you call the group {} {:?}", preview(&change.group_id, 32), preview(&change.group_alias, 100))
}

/// Describes who enters a group from now on.
pub(crate) fn verify_updated(change: &GroupVerifyInfoUpdatedEvent) -> String {
    let (by, group) = (operator(change.operated_info.as_ref()), preview(&change.group_id, 32));
    let modes = change.verify_info.unwrap_or_default();
    let (join, invite, be_invite) = (modes.join_mode(), modes.invite_mode(), modes.be_invite_mode());
    let text = format!("joining {join:?}, inviting {invite:?}, agreement {be_invite:?}").to_lowercase();
    format!("{by} changed who enters the group {group}: {text}")
}

/// Describes who may not write from now on.
pub(crate) fn muted_updated(change: &GroupMutedInfoUpdatedEvent) -> String {
    let (by, group) = (operator(change.operated_info.as_ref()), preview(&change.group_id, 32));
    let mute = change.muted_info.clone().unwrap_or_default();
    match mute.mode() {
        GroupMuteMode::None => format!("{by} ended the mute of the group {group}"),
        GroupMuteMode::All => format!("{by} muted the group {group}"),
        GroupMuteMode::Normal => format!("{by} muted the members of the group {group}"),
        GroupMuteMode::Custom => {
            let roles: Vec<String> = mute.roles.iter().map(|one| role(*one)).collect();
            format!("{by} muted in the group {group}: {}", roles.join(", "))
        }
    }
}

/// Describes an application.
pub(crate) fn application(info: &GroupApplicationInfo) -> String {
    let user = info.apply_user.as_ref().map_or_else(String::new, |user| preview(&user.user_id, 32));
    let group = info.group_info.as_ref().map_or_else(|| "?".to_owned(), name);
    let state = format!("{:?}", info.state()).to_lowercase();
    let wording = if info.wording.is_empty() { String::new() } else { format!(": {}", preview(&info.wording, 60)) };
    match info.r#type() {
        GroupApplicationType::Invite => format!("your invitation of {user} to {group} is {state}{wording}"),
        GroupApplicationType::BeInvite => format!("the invitation of {user} to {group} is {state}{wording}"),
        GroupApplicationType::Join | GroupApplicationType::None | GroupApplicationType::Unknown => {
            format!("the application of {user} to {group} is {state}{wording}")
        }
    }
}

/// Returns who did something. The operator of the server is no user.
fn operator(info: Option<&GroupOperatedInfo>) -> String {
    match info.map(|info| preview(&info.user_id, 32)) {
        None => "?".to_owned(),
        Some(user) if user.is_empty() => "the operator".to_owned(),
        Some(user) => user,
    }
}

/// Returns users in a sentence: `bob`, `bob and cai`, `bob, cai and dan`.
pub(crate) fn users(members: &[GroupMemberInfo]) -> String {
    let mut names: Vec<String> = members.iter().take(MAX_NAMED).map(|member| preview(&member.user_id, 32)).collect();
    match members.len().saturating_sub(MAX_NAMED) {
        0 => {}
        more => names.push(format!("{more} more")),
    }
    match names.pop() {
        Some(last) if names.is_empty() => last,
        Some(last) => format!("{} and {last}", names.join(", ")),
        None => "nobody".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use zim_protocol::{GroupAttributesUpdateInfo, GroupFullInfo, GroupMuteInfo, UserInfo};

    use super::*;

    fn members<const N: usize>(users: [&str; N]) -> Vec<GroupMemberInfo> {
        users.map(|user| GroupMemberInfo { user_id: user.into(), ..GroupMemberInfo::default() }).to_vec()
    }

    fn by(user: &str) -> Option<GroupOperatedInfo> {
        Some(GroupOperatedInfo { user_id: user.into(), ..GroupOperatedInfo::default() })
    }

    #[test]
    fn users_are_listed_and_a_crowd_is_counted() {
        assert_eq!(users(&members(["bob"])), "bob");
        assert_eq!(users(&members(["bob", "cai"])), "bob and cai");
        assert_eq!(users(&members(["bob", "cai", "dan"])), "bob, cai and dan");
        assert_eq!(users(&members(["a", "b", "c", "d", "e", "f", "g"])), "a, b, c, d, e and 2 more");
    }

    #[test]
    fn it_is_said_who_did_what_to_whom() {
        let base_info =
            Some(GroupInfo { group_id: "crew".into(), group_name: "The crew".into(), ..GroupInfo::default() });
        let group_info = Some(GroupFullInfo { base_info, ..GroupFullInfo::default() });
        let own_by = |event: GroupEvent, user: &str| {
            let (event, group_info) = (event as i32, group_info.clone());
            state_changed(&GroupStateChangedEvent { event, group_info, operated_info: by(user), ..Default::default() })
        };
        let own = |event| own_by(event, "ann");
        assert_eq!(own(GroupEvent::Invited), "ann invited you to the group crew (The crew)");
        assert_eq!(own(GroupEvent::KickedOut), "ann removed you from the group crew (The crew)");
        assert_eq!(own(GroupEvent::Joined), "you joined the group crew (The crew)");
        assert_eq!(own(GroupEvent::Dismissed), "ann dismissed the group crew (The crew)");
        assert_eq!(own_by(GroupEvent::Dismissed, ""), "the operator dismissed the group crew (The crew)");
        let theirs = |event: GroupMemberEvent| {
            members_changed(&GroupMemberStateChangedEvent {
                group_id: "crew".into(),
                event: event as i32,
                user_list: members(["bob", "cai"]),
                operated_info: by("ann"),
                ..Default::default()
            })
        };
        assert_eq!(theirs(GroupMemberEvent::Invited), "ann invited bob and cai to the group crew");
        assert_eq!(theirs(GroupMemberEvent::KickedOut), "ann removed bob and cai from the group crew");
        assert_eq!(theirs(GroupMemberEvent::Left), "bob and cai left the group crew");
    }

    #[test]
    fn changes_and_applications_are_sentences() {
        let change =
            GroupNameUpdatedEvent { group_id: "crew".into(), group_name: "Us".into(), operated_info: by("ann") };
        assert_eq!(name_updated(&change), "ann named the group crew \"Us\"");
        let muted_info =
            Some(GroupMuteInfo { mode: GroupMuteMode::Custom as i32, expired_time: -1, roles: vec![2, 77] });
        let change = GroupMutedInfoUpdatedEvent { group_id: "crew".into(), muted_info, operated_info: by("ann") };
        assert_eq!(muted_updated(&change), "ann muted in the group crew: administrator, role 77");
        let info = GroupApplicationInfo {
            r#type: GroupApplicationType::BeInvite as i32,
            state: 1,
            group_info: Some(GroupInfo { group_id: "crew".into(), ..GroupInfo::default() }),
            apply_user: Some(UserInfo { user_id: "ann".into(), ..UserInfo::default() }),
            wording: "come".into(),
            ..GroupApplicationInfo::default()
        };
        assert_eq!(application(&info), "the invitation of ann to crew is waiting: come");
    }

    #[test]
    fn a_new_owner_and_new_attributes_are_named() {
        let mut user_list = members(["bob"]);
        user_list[0].member_role = 1;
        let change = GroupMemberInfoUpdatedEvent { group_id: "crew".into(), user_list, ..Default::default() };
        assert_eq!(members_updated(&change), ["bob is now owner of the group crew"]);
        let info = |action: GroupAttributesUpdateAction| GroupAttributesUpdateInfo {
            action: action as i32,
            group_attributes: [("color".to_owned(), "red".to_owned())].into(),
        };
        let info_list = vec![info(GroupAttributesUpdateAction::Set), info(GroupAttributesUpdateAction::Delete)];
        let change = GroupAttributesUpdatedEvent { group_id: "crew".into(), info_list, ..Default::default() };
        let expected =
            ["the group crew has the attributes color=red", "the group crew no longer has the attributes color"];
        assert_eq!(attributes_updated(&change), expected);
    }
}
