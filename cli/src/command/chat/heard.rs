//! What a chat shows of the events.

use zim_protocol::{
    ConnectionState, ConversationType, Event, GroupEvent, Message, MessageDirection, MessageReceiptInfo,
    MessageReceiptStatus, RoomState,
};

use super::screen::Screen;
use crate::describe;
use crate::exit::Failure;
use crate::target::Target;

/// Shows an event that concerns the chat; returns the received messages that have been read with that.
pub(super) fn show(event: &Event, screen: &mut Screen) -> Result<Vec<Message>, Failure> {
    match event {
        Event::PeerMessageReceived(received) => {
            return messages(&received.from_conversation_id, ConversationType::Peer, &received.message_list, screen);
        }
        Event::GroupMessageReceived(received) => {
            return messages(&received.from_conversation_id, ConversationType::Group, &received.message_list, screen);
        }
        Event::RoomMessageReceived(received) => {
            return messages(&received.from_conversation_id, ConversationType::Room, &received.message_list, screen);
        }
        Event::PeerTypingChanged(change) if screen.is_of(&change.user_id, ConversationType::Peer) => {
            screen.writing(change.is_typing)?;
        }
        Event::MessageReceiptChanged(changed) => receipts(&changed.infos, screen)?,
        Event::ConversationMessageReceiptChanged(changed) => {
            let mut infos = changed.infos.iter().filter(|info| !info.is_self_operated);
            if infos.any(|info| screen.is_of(&info.conversation_id, ConversationType::Peer)) {
                screen.receipt(&format!("{} has read everything", screen.name()))?;
            }
        }
        Event::GroupMemberStateChanged(change) if screen.is_of(&change.group_id, ConversationType::Group) => {
            screen.aside(&describe::group::members_changed(change))?;
        }
        Event::GroupMemberInfoUpdated(change) if screen.is_of(&change.group_id, ConversationType::Group) => {
            describe::group::members_updated(change).iter().try_for_each(|line| screen.aside(line))?;
        }
        Event::GroupStateChanged(change) if change.event() == GroupEvent::Dismissed => {
            let group = change.group_info.as_ref().and_then(|info| info.base_info.as_ref());
            if group.is_some_and(|group| screen.is_of(&group.group_id, ConversationType::Group)) {
                screen.aside(&describe::group::state_changed(change))?;
            }
        }
        Event::RoomMemberJoined(change) if screen.is_of(&change.room_id, ConversationType::Room) => {
            screen.aside(&describe::room::members(&change.room_id, &change.member_list, "entered"))?;
        }
        Event::RoomMemberLeft(change) if screen.is_of(&change.room_id, ConversationType::Room) => {
            screen.aside(&describe::room::members(&change.room_id, &change.member_list, "left"))?;
        }
        Event::RoomStateChanged(change) if screen.is_of(&change.room_id, ConversationType::Room) => {
            let text = describe::room::state_changed(change);
            if change.state() == RoomState::Disconnected {
                return Err(Failure::other(text));
            }
            screen.aside(&text)?;
        }
        Event::ConnectionStateChanged(change) => match change.state() {
            ConnectionState::Reconnecting => {
                screen.aside("connection lost; what you type is sent after the reconnect")?;
            }
            ConnectionState::Connected => screen.aside("connected")?,
            _ => {}
        },
        event => {
            let lines = of_chat(event, screen).and_then(|event| describe::message::changed(&event));
            lines.unwrap_or_default().iter().try_for_each(|line| screen.aside(line))?;
        }
    }
    Ok(Vec::new())
}

/// Shows messages of this chat, or that there are some of another; returns those that have been read.
fn messages(id: &str, kind: ConversationType, list: &[Message], screen: &mut Screen) -> Result<Vec<Message>, Failure> {
    if screen.is_of(id, kind) {
        screen.messages(list)?;
        let received = list.iter().filter(|message| message.direction() == MessageDirection::Receive);
        return Ok(received.cloned().collect());
    }
    let target = Target::of(id, kind);
    let (place, argument) = (target.place("from"), target.argument());
    screen.aside(&format!("{} new {place}: zim chat {argument}", list.len()))?;
    Ok(Vec::new())
}

/// Shows who has read messages that were sent from this chat.
fn receipts(infos: &[MessageReceiptInfo], screen: &mut Screen) -> Result<(), Failure> {
    for info in infos.iter().filter(|info| !info.is_self_operated) {
        if !screen.is_of(&info.conversation_id, info.conversation_type()) {
            continue;
        }
        let what =
            screen.number_of(&info.message_id).map_or_else(|| "a message".to_owned(), |seq| format!("message {seq}"));
        let (count, all) = (info.read_member_count, info.read_member_count.saturating_add(info.unread_member_count));
        screen.receipt(&match (info.conversation_type(), info.status()) {
            (ConversationType::Peer, _) => format!("{} has read {what}", screen.name()),
            (_, MessageReceiptStatus::Done) => format!("all {count} have read {what}"),
            _ => format!("{count} of {all} have read {what}"),
        })?;
    }
    Ok(())
}

/// Returns the part of an event about messages that is about this chat.
fn of_chat(event: &Event, screen: &Screen) -> Option<Event> {
    let is_here = |message: &Message| screen.is_of(&message.conversation_id, message.conversation_type());
    let is_one_here = |message: &Option<Message>| message.as_ref().is_some_and(is_here);
    let mut event = event.clone();
    match &mut event {
        Event::MessageEdited(change) => change.message_list.retain(is_here),
        Event::MessageRevokeReceived(change) => change.message_list.retain(is_here),
        Event::MessageReactionsChanged(change) => change.change_info_list.retain(|info| is_one_here(&info.message)),
        Event::MessagePinStatusChanged(change) => change.infos.retain(|info| is_one_here(&info.message)),
        _ => return None,
    }
    Some(event)
}
