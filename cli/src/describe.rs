//! Messages and events as text.

pub(crate) mod call;
pub(crate) mod group;
pub(crate) mod message;
pub(crate) mod room;

use zim_protocol::message::Body;
use zim_protocol::{
    ConnectionEvent, ConnectionState, ConnectionStateChangedEvent, Conversation, ConversationEvent,
    ConversationSyncState, ConversationType, Event, FriendApplicationInfo, FriendApplicationType,
    FriendListChangeAction, Message, MessageDirection, MessageSentStatus, MessageType, TipsMessage,
    TipsMessageChangeInfoType as TipsChange, TipsMessageEvent, UserInfo, UserOnlineStatus, UserStatus,
    tips_message_change_info::Body as Changed,
};

use crate::output::{Ink, Output, clock_time};
use crate::text::{lines, preview};

/// The columns of a message in a list or a sentence.
const PREVIEW: usize = 60;

/// Returns the content of a message as text.
pub(crate) fn content(message: &Message) -> String {
    match &message.body {
        Some(Body::Text(text)) => text.message.clone(),
        Some(Body::Barrage(barrage)) => format!("[barrage] {}", barrage.message),
        Some(Body::Custom(custom)) => format!("[custom {}] {}", custom.sub_type, custom.message),
        Some(Body::Revoke(_)) => "[revoked]".to_owned(),
        Some(Body::Combine(combine)) => format!("[combined] {}: {}", combine.title, combine.summary),
        Some(Body::Image(image)) => file("image", &image.file_name, image.file_size),
        Some(Body::File(of)) => file("file", &of.file_name, of.file_size),
        Some(Body::Audio(audio)) => file("audio", &audio.file_name, audio.file_size),
        Some(Body::Video(video)) => file("video", &video.file_name, video.file_size),
        Some(Body::Tips(tips)) => tip(tips),
        Some(Body::Multiple(multiple)) => format!("[{} parts]", multiple.message_info_list.len()),
        Some(Body::Command(command)) => match std::str::from_utf8(&command.message) {
            Ok(text) => format!("[command] {text}"),
            Err(_) => format!("[command, {} bytes]", command.message.len()),
        },
        _ => match MessageType::try_from(message.r#type) {
            Ok(kind) => format!("[{kind:?}]"),
            Err(_) => format!("[message of type {}, unknown to this version]", message.r#type),
        },
    }
}

/// Says what happened to a group.
fn tip(tip: &TipsMessage) -> String {
    let name = |user: &UserInfo| if user.user_name.is_empty() { user.user_id.clone() } else { user.user_name.clone() };
    let who = tip.operated_user.as_ref().map(name).filter(|name| !name.is_empty());
    let who = who.unwrap_or_else(|| "the operator".to_owned());
    let whom = tip.target_user_list.iter().map(name).collect::<Vec<_>>().join(", ");
    let changed = tip.change_info.as_ref().map(|info| (info.r#type(), info.body.as_ref()));
    let what = match (tip.event(), changed) {
        (TipsMessageEvent::GroupCreated, _) if whom.is_empty() => "created the group".to_owned(),
        (TipsMessageEvent::GroupCreated, _) => format!("created the group with {whom}"),
        (TipsMessageEvent::GroupDismissed, _) => "dismissed the group".to_owned(),
        (TipsMessageEvent::GroupJoined, _) => "joined".to_owned(),
        (TipsMessageEvent::GroupInvited, _) => format!("brought in {whom}"),
        (TipsMessageEvent::GroupLeft, _) => "left".to_owned(),
        (TipsMessageEvent::GroupKickedOut, _) => format!("removed {whom}"),
        (TipsMessageEvent::GroupMessagePinned, Some((_, Some(Changed::PinStatus(pin))))) if !pin.is_pinned => {
            "unpinned a message".to_owned()
        }
        (TipsMessageEvent::GroupMessagePinned, _) => "pinned a message".to_owned(),
        (_, Some((TipsChange::GroupNameChanged, Some(Changed::Group(group))))) => {
            format!("named the group {:?}", group.group_name)
        }
        (_, Some((TipsChange::GroupNoticeChanged, _))) => "changed the notice".to_owned(),
        (_, Some((TipsChange::GroupAvatarUrlChanged, _))) => "changed the picture of the group".to_owned(),
        (_, Some((TipsChange::GroupMuteChanged, _))) => "changed who may write".to_owned(),
        (_, Some((TipsChange::GroupOwnerTransferred, _))) => format!("made {whom} the owner"),
        (_, Some((TipsChange::GroupMemberRoleChanged, Some(Changed::GroupMember(member))))) => {
            format!("gave {whom} the role {}", member.member_role)
        }
        (_, Some((TipsChange::GroupMemberMuteChanged, Some(Changed::GroupMember(member)))))
            if member.mute_expired_time == 0 =>
        {
            format!("lets {whom} write again")
        }
        (_, Some((TipsChange::GroupMemberMuteChanged, _))) => format!("muted {whom}"),
        _ => "changed the group".to_owned(),
    };
    format!("[{who} {what}]")
}

/// Describes a file of a message.
fn file(kind: &str, name: &str, size: i64) -> String {
    let name = if name.is_empty() { String::new() } else { format!(" {name}") };
    let size = if size > 0 { format!(", {size} bytes") } else { String::new() };
    format!("[{kind}]{name}{size}")
}

/// Returns any text in one line.
pub(crate) fn line(text: &str) -> String {
    preview(text, 200)
}

/// Returns a message in one line, for a list.
pub(crate) fn short(message: &Message) -> String {
    preview(&content(message), PREVIEW)
}

/// Formats a message as `15:04:05  ann  hi`, with its further lines aligned below the first.
pub(crate) fn message(output: Output, message: &Message, sender_columns: usize) -> Vec<String> {
    message_of(output, message, &sender(message), sender_columns)
}

/// Formats a message of somebody.
fn message_of(output: Output, message: &Message, sender: &str, sender_columns: usize) -> Vec<String> {
    let time = clock_time(message.timestamp);
    let ink = if message.direction() == MessageDirection::Send { Ink::Dim } else { Ink::Name };
    let indent = " ".repeat(time.len() + 2 + sender_columns + 2);
    let space = " ".repeat(sender_columns.saturating_sub(sender.chars().count()));
    let head = format!("{}  {}{space}  ", output.paint(Ink::Dim, &time), output.paint(ink, sender));
    let failed = match message.sent_status() {
        MessageSentStatus::Failed => output.paint(Ink::Bad, "  not sent"),
        _ => String::new(),
    };
    let mut all: Vec<String> = lines(&content(message))
        .into_iter()
        .enumerate()
        .map(|(index, line)| format!("{}{line}", if index == 0 { &head } else { &indent }))
        .collect();
    if let Some(last) = all.last_mut() {
        last.push_str(&failed);
    }
    all
}

/// Returns the sender of a message.
pub(crate) fn sender(message: &Message) -> String {
    preview(&message.sender_user_id, 32)
}

/// Returns the width of the column of senders.
pub(crate) fn sender_columns<'a>(messages: impl IntoIterator<Item = &'a Message>) -> usize {
    messages.into_iter().map(|message| sender(message).chars().count()).max().unwrap_or(0)
}

/// Returns the ID of a conversation with its alias or name; that of a group says so.
pub(crate) fn name(conversation: &Conversation) -> String {
    let named = [&conversation.conversation_alias, &conversation.conversation_name];
    let id = &conversation.conversation_id;
    let named = named.into_iter().find(|name| !name.is_empty() && *name != id);
    let name = named.map_or_else(|| id.clone(), |name| format!("{id} ({name})"));
    let is_group = conversation.r#type() == ConversationType::Group;
    preview(&if is_group { format!("group {name}") } else { name }, 46)
}

/// Returns true if the server's operator ended the session. The reference's events do not tell that from another login.
fn is_ended_by_operator(change: &ConnectionStateChangedEvent) -> bool {
    let extended = serde_json::from_str::<serde_json::Value>(&change.extended_data);
    extended.is_ok_and(|extended| extended["reason"] == "endedByOperator")
}

/// Describes a change of the connection.
pub(crate) fn connection(change: &ConnectionStateChangedEvent) -> &'static str {
    match (change.state(), change.event()) {
        (_, ConnectionEvent::KickedOut) if is_ended_by_operator(change) => "the server's operator ended this login",
        (_, ConnectionEvent::KickedOut) => "the same user logged in elsewhere and replaced this login",
        (_, ConnectionEvent::TokenExpired) => "the token has expired",
        (_, ConnectionEvent::Unregistered) => "the user no longer exists",
        (ConnectionState::Connected, _) => "connected",
        (ConnectionState::Connecting, _) => "connecting",
        (ConnectionState::Reconnecting, _) => "connection lost, reconnecting",
        (ConnectionState::Disconnected, ConnectionEvent::Success) => "logged out",
        (ConnectionState::Disconnected, _) => "the login failed",
    }
}

/// Describes an event in one or more lines. Events without a description here are shown as JSON.
pub(crate) fn event(output: Output, event: &Event, now_ms: i64) -> Vec<String> {
    let at = |what: String| vec![format!("{}  {what}", output.paint(Ink::Dim, &clock_time(now_ms)))];
    match event {
        Event::PeerMessageReceived(received) => received
            .message_list
            .iter()
            .flat_map(|received| message(output, received, sender_columns([received])))
            .collect(),
        Event::GroupMessageReceived(received) => {
            let messages = received.message_list.iter();
            messages.flat_map(|message| message_of(output, message, &group::sender(message), 0)).collect()
        }
        Event::RoomMessageReceived(received) => {
            let messages = received.message_list.iter();
            messages.flat_map(|received| message(output, received, sender_columns([received]))).collect()
        }
        Event::RoomStateChanged(change) => at(room::state_changed(change)),
        Event::RoomMemberJoined(change) => at(room::members(&change.room_id, &change.member_list, "entered")),
        Event::RoomMemberLeft(change) => at(room::members(&change.room_id, &change.member_list, "left")),
        Event::RoomAttributesUpdated(change) => {
            room::attributes(&change.room_id, &change.infos).into_iter().flat_map(at).collect()
        }
        Event::RoomAttributesBatchUpdated(change) => {
            room::attributes(&change.room_id, &change.infos).into_iter().flat_map(at).collect()
        }
        Event::RoomMemberAttributesUpdated(change) => {
            room::member_attributes(change).into_iter().flat_map(at).collect()
        }
        Event::ConnectionStateChanged(change) => at(connection(change).to_owned()),
        Event::ConversationChanged(change) => {
            let infos = change.info_list.iter().filter_map(|info| Some((info.event(), info.conversation.as_ref()?)));
            infos.flat_map(|(event, conversation)| at(conversation_changed(event, conversation))).collect()
        }
        Event::ConversationSyncStateChanged(change) => match change.state() {
            ConversationSyncState::Started => Vec::new(),
            ConversationSyncState::Finished => at("up to date".to_owned()),
            ConversationSyncState::Failed => at("synchronization failed; retrying".to_owned()),
        },
        Event::ConversationTotalUnreadMessageCountUpdated(total) => {
            at(format!("{} unread in total", total.total_unread_message_count))
        }
        Event::MessageSentStatusChanged(change) => {
            let infos = change.infos.iter().filter_map(|info| Some((info.status(), info.message.as_ref()?)));
            infos.flat_map(|(status, message)| at(format!("{}: {}", sent_status(status), short(message)))).collect()
        }
        Event::UserInfoUpdated(update) => {
            let user = update.info.as_ref().and_then(|info| info.base_info.as_ref());
            at(format!(
                "your profile changed: you are {}",
                user.map_or_else(String::new, |user| preview(&user.user_name, 40))
            ))
        }
        Event::UserStatusUpdated(update) => {
            update.user_status_list.iter().flat_map(|status| at(user_status(status))).collect()
        }
        Event::PeerTypingChanged(change) => {
            let what = if change.is_typing { "is writing …" } else { "is no longer writing" };
            at(format!("{} {what}", preview(&change.user_id, 32)))
        }
        Event::EpochChanged(_) => at("the server's backup was restored; what it lacks is gone".to_owned()),
        Event::FriendListChanged(change) => {
            let now = match change.action() {
                FriendListChangeAction::Added => "is now your friend",
                FriendListChangeAction::Deleted => "is no longer your friend",
            };
            change.friend_list.iter().flat_map(|friend| at(format!("{} {now}", preview(&friend.user_id, 32)))).collect()
        }
        Event::FriendApplicationListChanged(change) => applications(&change.application_list).flat_map(at).collect(),
        Event::FriendApplicationUpdated(change) => applications(&change.application_list).flat_map(at).collect(),
        Event::TokenWillExpire(warning) => {
            at(format!("the token expires in {} s: zim login USER --token-file FILE", warning.second))
        }
        Event::GroupStateChanged(change) => at(group::state_changed(change)),
        Event::GroupMemberStateChanged(change) => at(group::members_changed(change)),
        Event::GroupMemberInfoUpdated(change) => group::members_updated(change).into_iter().flat_map(at).collect(),
        Event::GroupAttributesUpdated(change) => group::attributes_updated(change).into_iter().flat_map(at).collect(),
        Event::GroupNameUpdated(change) => at(group::name_updated(change)),
        Event::GroupAvatarUrlUpdated(change) => at(group::avatar_updated(change)),
        Event::GroupNoticeUpdated(change) => at(group::notice_updated(change)),
        Event::GroupAliasUpdated(change) => at(group::alias_updated(change)),
        Event::GroupVerifyInfoUpdated(change) => at(group::verify_updated(change)),
        Event::GroupMutedInfoUpdated(change) => at(group::muted_updated(change)),
        Event::GroupApplicationListChanged(change) => {
            change.application_list.iter().map(group::application).flat_map(at).collect()
        }
        Event::GroupApplicationUpdated(change) => {
            change.application_list.iter().map(group::application).flat_map(at).collect()
        }
        other if let Some(changed) = call::changed(other) => at(changed),
        other if let Some(changed) = message::changed(other) => changed.into_iter().flat_map(at).collect(),
        other => {
            let json = other.to_json().map_or_else(|error| error.to_string(), |json| json.to_string());
            at(format!("{} {}", other.kind().name(), preview(&json, 200)))
        }
    }
}

/// Describes whether a user is online, and on which platforms.
pub(crate) fn online(status: &UserStatus) -> String {
    let platforms: Vec<String> =
        status.online_platforms().map(|platform| format!("{platform:?}").to_lowercase()).collect();
    match status.online_status() {
        UserOnlineStatus::Online | UserOnlineStatus::Unknown if !platforms.is_empty() => {
            format!("online ({})", platforms.join(", "))
        }
        UserOnlineStatus::Online => "online".to_owned(),
        UserOnlineStatus::Offline => "offline".to_owned(),
        UserOnlineStatus::Logout => "logged out".to_owned(),
        UserOnlineStatus::Unknown => "unknown".to_owned(),
    }
}

fn user_status(status: &UserStatus) -> String {
    let user = preview(&status.user_id, 32);
    let custom = match preview(&status.custom_status, 64) {
        text if text.is_empty() => text,
        text => format!(", with the status {text:?}"),
    };
    format!("{user} is {}{custom}", online(status))
}

fn applications(list: &[FriendApplicationInfo]) -> impl Iterator<Item = String> {
    list.iter().map(|info| {
        let user = info.apply_user.as_ref().map_or_else(String::new, |user| preview(&user.user_id, 32));
        let state = format!("{:?}", info.state()).to_lowercase();
        let wording =
            if info.wording.is_empty() { String::new() } else { format!(": {}", preview(&info.wording, PREVIEW)) };
        match info.r#type() {
            FriendApplicationType::Sent => format!("your application to {user} is {state}{wording}"),
            FriendApplicationType::Both => format!("you and {user} applied to each other: {state}{wording}"),
            _ => format!("the application of {user} is {state}{wording}"),
        }
    })
}

fn conversation_changed(event: ConversationEvent, conversation: &Conversation) -> String {
    let what = match event {
        ConversationEvent::Added => "new",
        ConversationEvent::Updated => "changed",
        ConversationEvent::Disabled => "disabled",
        ConversationEvent::Deleted => "deleted",
    };
    format!("conversation {} {what}, {} unread", name(conversation), conversation.unread_message_count)
}

fn sent_status(status: MessageSentStatus) -> &'static str {
    match status {
        MessageSentStatus::Sending => "sending",
        MessageSentStatus::Success => "sent",
        MessageSentStatus::Failed => "not sent",
    }
}

#[cfg(test)]
mod tests {
    use zim_protocol::{
        PeerMessageReceivedEvent, TipsMessageChangeInfo, TipsMessageGroupChangeInfo, TipsMessagePinStatusChangeInfo,
    };

    use super::*;
    use crate::output::Format;

    fn plain() -> Output {
        Output::from_env(Some(Format::Plain))
    }

    fn from(sender: &str, message: Message) -> Message {
        Message { sender_user_id: sender.into(), direction: MessageDirection::Receive as i32, ..message }
    }

    #[test]
    fn a_tip_says_who_did_what() {
        let user = |user_id: &str, user_name: &str| UserInfo {
            user_id: user_id.into(),
            user_name: user_name.into(),
            ..UserInfo::default()
        };
        let shown_by = |who: UserInfo, event: TipsMessageEvent, change: Option<(TipsChange, Changed)>| {
            let tip = TipsMessage {
                event: event as i32,
                operated_user: Some(who),
                target_user_list: vec![user("bob", ""), user("cai", "Cai")],
                change_info: change.map(|(kind, body)| TipsMessageChangeInfo { r#type: kind as i32, body: Some(body) }),
            };
            content(&Message { body: Some(Body::Tips(Box::new(tip))), ..Message::default() })
        };
        let shown = |event, change| shown_by(user("ann", "Ann"), event, change);
        assert_eq!(shown(TipsMessageEvent::GroupInvited, None), "[Ann brought in bob, Cai]");
        let by_operator = shown_by(UserInfo::default(), TipsMessageEvent::GroupKickedOut, None);
        assert_eq!(by_operator, "[the operator removed bob, Cai]");
        assert_eq!(shown(TipsMessageEvent::GroupDismissed, None), "[Ann dismissed the group]");
        let named = TipsMessageGroupChangeInfo { group_name: "Crew".into(), ..TipsMessageGroupChangeInfo::default() };
        let change = Some((TipsChange::GroupNameChanged, Changed::Group(named)));
        assert_eq!(shown(TipsMessageEvent::GroupInfoChanged, change), "[Ann named the group \"Crew\"]");
        let unpinned = Changed::PinStatus(TipsMessagePinStatusChangeInfo { is_pinned: false });
        let change = Some((TipsChange::GroupMessagePinInfoChanged, unpinned));
        assert_eq!(shown(TipsMessageEvent::GroupMessagePinned, change), "[Ann unpinned a message]");
    }

    #[test]
    fn every_kind_of_message_can_be_shown() {
        assert_eq!(content(&Message::text("hi")), "hi");
        assert_eq!(content(&Message::custom("{}", 7)), "[custom 7] {}");
        assert_eq!(content(&Message::command("ring")), "[command] ring");
        assert_eq!(content(&Message::command(vec![0xff, 0xfe])), "[command, 2 bytes]");
        assert_eq!(content(&Message { r#type: MessageType::Image as i32, ..Message::default() }), "[Image]");
        let unknown = content(&Message { r#type: 999, ..Message::default() });
        assert!(unknown.contains("999"), "{unknown}");
    }

    #[test]
    fn further_lines_are_aligned_below_the_first() {
        let shown = message(plain(), &from("ann", Message::text("one\ntwo")), 5);
        assert_eq!(shown.len(), 2);
        assert!(shown[0].ends_with("  ann    one"), "{shown:?}");
        assert_eq!(shown[1].find("two"), shown[0].find("one"));
    }

    #[test]
    fn an_unsent_message_is_marked() {
        let failed = Message { sent_status: MessageSentStatus::Failed as i32, ..Message::text("hi") };
        assert!(message(plain(), &failed, 3)[0].ends_with("hi  not sent"));
    }

    #[test]
    fn events_are_described() {
        let text = |described: Event| event(plain(), &described, 0).join("|");
        let message_list = vec![from("ann", Message::text("hi \x1b[2J"))];
        let received = PeerMessageReceivedEvent { message_list, ..PeerMessageReceivedEvent::default() };
        assert!(text(Event::PeerMessageReceived(received)).ends_with("ann  hi \\u{1b}[2J"));
        let kicked = ConnectionStateChangedEvent {
            state: ConnectionState::Disconnected as i32,
            event: ConnectionEvent::KickedOut as i32,
            ..ConnectionStateChangedEvent::default()
        };
        assert!(text(Event::ConnectionStateChanged(kicked.clone())).contains("replaced this login"));
        let ended = ConnectionStateChangedEvent { extended_data: r#"{"reason":"endedByOperator"}"#.into(), ..kicked };
        assert!(text(Event::ConnectionStateChanged(ended)).contains("operator ended this login"));
        let busy = UserStatus {
            user_id: "bob".into(),
            online_platforms: vec![5, 6],
            custom_status: "busy".into(),
            ..UserStatus::default()
        };
        let logged_out =
            UserStatus { online_status: 2, online_platforms: vec![], custom_status: String::new(), ..busy.clone() };
        let updated = zim_protocol::UserStatusUpdatedEvent { user_status_list: vec![busy, logged_out] };
        assert!(
            text(Event::UserStatusUpdated(updated)).contains("bob is online (linux, web), with the status \"busy\"")
        );
        assert!(text(Event::BlacklistChanged(Default::default())).contains("blacklistChanged {"));
    }

    #[test]
    fn a_conversation_is_shown_with_its_name() {
        let bob = |name: &str| Conversation {
            conversation_id: "bob".into(),
            conversation_name: name.into(),
            ..Conversation::default()
        };
        assert_eq!(name(&bob("")), "bob");
        assert_eq!(name(&bob("bob")), "bob");
        assert_eq!(name(&bob("Robert")), "bob (Robert)");
    }
}
