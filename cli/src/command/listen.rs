//! `zim listen`: shows events as they arrive.

use clap::Args;
use tokio::time::{Instant, sleep_until};
use zim_protocol::{
    ConnectionState, Event, EventKind, FriendApplicationListChangedEvent, FriendApplicationUpdatedEvent,
    GroupAttributesUpdatedEvent, GroupMemberInfoUpdatedEvent, GroupMemberStateChangedEvent, GroupMessageReceivedEvent,
    GroupStateChangedEvent, MessageRevokeReceivedEvent, PeerMessageReceivedEvent, RoomMessageReceivedEvent,
};

use crate::context::{Context, Session, now_ms};
use crate::describe;
use crate::exit::{Exit, Failure};
use crate::signal::Signals;

/// `zim listen`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zim listen
  zim listen --event peerMessageReceived | jq -r '.messageList[].message'
  zim listen --event groupMessageReceived --event groupMemberStateChanged
  zim listen --event peerMessageReceived --from bob --count 1 --timeout 60s

The command is a device of its own: messages sent while it does not run are delivered when it starts, marked \
isOfflineMessage.")]
pub(crate) struct ListenArgs {
    /// Show only this event; may be repeated
    #[arg(long = "event", value_name = "NAME", value_parser = event_kind)]
    events: Vec<EventKind>,
    /// Show only what this user sent or did; may be repeated
    #[arg(long = "from", value_name = "USER")]
    from: Vec<String>,
    /// End after this number of events; if --timeout comes first, this is an error
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

fn event_kind(name: &str) -> Result<EventKind, String> {
    if let Ok(kind) = name.parse() {
        return match newer(kind) {
            Some(newer) => Err(format!("{name} is the deprecated form of {newer}; use that")),
            None => Ok(kind),
        };
    }
    name.parse().map_err(|_| {
        let lower = name.to_lowercase();
        let similar = EventKind::ALL.iter().filter(|kind| kind.name().to_lowercase().contains(&lower));
        let similar: Vec<_> = similar.map(|kind| kind.name()).take(4).collect();
        match similar.as_slice() {
            [] => format!("there is no event {name:?}; for example: peerMessageReceived, conversationChanged"),
            similar => format!("there is no event {name:?}; did you mean {}?", similar.join(", ")),
        }
    })
}

impl ListenArgs {
    fn wants(&self, kind: EventKind) -> bool {
        self.events.is_empty() || self.events.contains(&kind)
    }

    /// Returns the part of an event that is to be shown.
    fn chosen(&self, event: &Event) -> Option<Event> {
        if !self.wants(event.kind()) {
            return None;
        }
        if self.from.is_empty() { Some(event.clone()) } else { of_users(event, &self.from) }
    }
}

/// Returns the part of an event that is about what these users sent or did.
fn of_users(event: &Event, users: &[String]) -> Option<Event> {
    let mut event = event.clone();
    let is_of = |user: &str| users.iter().any(|one| one == user);
    let is_left = match &mut event {
        Event::PeerMessageReceived(PeerMessageReceivedEvent { message_list, .. })
        | Event::GroupMessageReceived(GroupMessageReceivedEvent { message_list, .. })
        | Event::RoomMessageReceived(RoomMessageReceivedEvent { message_list, .. })
        | Event::MessageRevokeReceived(MessageRevokeReceivedEvent { message_list }) => {
            message_list.retain(|message| is_of(&message.sender_user_id));
            !message_list.is_empty()
        }
        Event::UserStatusUpdated(update) => {
            update.user_status_list.retain(|status| is_of(&status.user_id));
            !update.user_status_list.is_empty()
        }
        Event::FriendListChanged(change) => {
            change.friend_list.retain(|friend| is_of(&friend.user_id));
            !change.friend_list.is_empty()
        }
        Event::FriendApplicationListChanged(FriendApplicationListChangedEvent { application_list, .. })
        | Event::FriendApplicationUpdated(FriendApplicationUpdatedEvent { application_list }) => {
            application_list.retain(|one| one.apply_user.as_ref().is_some_and(|user| is_of(&user.user_id)));
            !application_list.is_empty()
        }
        Event::GroupStateChanged(GroupStateChangedEvent { operated_info, .. })
        | Event::GroupMemberStateChanged(GroupMemberStateChangedEvent { operated_info, .. })
        | Event::GroupMemberInfoUpdated(GroupMemberInfoUpdatedEvent { operated_info, .. })
        | Event::GroupAttributesUpdated(GroupAttributesUpdatedEvent { operated_info, .. }) => {
            operated_info.as_ref().is_some_and(|info| is_of(&info.user_id))
        }
        _ => false,
    };
    is_left.then_some(event)
}

/// Returns the event that a deprecated event repeats with less information.
fn newer(kind: EventKind) -> Option<EventKind> {
    match kind {
        EventKind::ReceivePeerMessage => Some(EventKind::PeerMessageReceived),
        EventKind::ReceiveRoomMessage => Some(EventKind::RoomMessageReceived),
        EventKind::ReceiveGroupMessage => Some(EventKind::GroupMessageReceived),
        _ => None,
    }
}

pub(crate) async fn run(args: ListenArgs, context: &Context) -> Result<(), Failure> {
    let (mut session, signals) = context.device().await?;
    context.output.note(format!("listening as {}; press Ctrl-C to end", session.user_id));
    let outcome = listen(&args, context, &mut session, signals).await;
    session.end().await;
    outcome
}

async fn listen(
    args: &ListenArgs,
    context: &Context,
    session: &mut Session,
    mut signals: Signals,
) -> Result<(), Failure> {
    let end = context.limit.map(|limit| Instant::now() + limit);
    let timed_out = async {
        match end {
            Some(end) => sleep_until(end).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(timed_out);
    let mut seen = 0;
    while args.count.is_none_or(|count| seen < count) {
        let event = tokio::select! {
            biased;
            event = session.events.next() => event,
            () = &mut timed_out => match args.count {
                Some(count) => return Err(Failure::other(format!("timed out after {seen} of {count} events"))),
                None => return Ok(()),
            },
            _ = signals.next() => return Ok(()),
        };
        match event {
            None => return Ok(()),
            Some(Err(lagged)) => context.output.warn(lagged.to_string()),
            Some(Ok(event)) => {
                if let Some(chosen) = args.chosen(&event) {
                    seen += 1;
                    show(context, &chosen)?;
                }
                ended(&event)?;
            }
        }
    }
    Ok(())
}

fn show(context: &Context, event: &Event) -> Result<(), Failure> {
    if context.output.is_json() {
        return context.output.json(&event.to_json()?);
    }
    describe::event(context.output, event, now_ms()).into_iter().try_for_each(|line| context.output.line(line))
}

/// Fails if the event ends the login: the SDK does not reconnect after that.
pub(crate) fn ended(event: &Event) -> Result<(), Failure> {
    match event {
        Event::ConnectionStateChanged(change) if change.state() == ConnectionState::Disconnected => {
            let why = describe::connection(change);
            Err(Failure::new(Exit::Auth, format!("the session has ended: {why}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use zim_protocol::{ConnectionEvent, ConnectionStateChangedEvent, Message};

    use super::*;

    fn args(events: &[EventKind]) -> ListenArgs {
        ListenArgs { events: events.to_vec(), from: Vec::new(), count: None }
    }

    #[test]
    fn a_deprecated_event_is_refused_with_the_name_of_the_newer_one() {
        assert_eq!(event_kind("peerMessageReceived"), Ok(EventKind::PeerMessageReceived));
        let refused = event_kind("receivePeerMessage").unwrap_err();
        assert_eq!(refused, "receivePeerMessage is the deprecated form of peerMessageReceived; use that");
        assert!(args(&[]).wants(EventKind::PeerMessageReceived));
        assert!(!args(&[EventKind::FriendListChanged]).wants(EventKind::PeerMessageReceived));
    }

    #[test]
    fn events_are_reduced_to_the_chosen_users() {
        let message = |sender: &str| Message { sender_user_id: sender.to_owned(), ..Message::text("hi") };
        let event = |senders: &[&str]| {
            let message_list = senders.iter().map(|sender| message(sender)).collect();
            Event::PeerMessageReceived(PeerMessageReceivedEvent { message_list, ..Default::default() })
        };
        let from =
            |users: &[&str]| ListenArgs { from: users.iter().map(|user| (*user).to_owned()).collect(), ..args(&[]) };
        let mixed = event(&["ann", "bob", "bob", "cem"]);
        assert_eq!(from(&["bob"]).chosen(&mixed), Some(event(&["bob", "bob"])));
        assert_eq!(from(&["ann", "cem"]).chosen(&mixed), Some(event(&["ann", "cem"])));
        assert_eq!(from(&["dan"]).chosen(&mixed), None);
        assert_eq!(from(&[]).chosen(&mixed), Some(mixed.clone()));
        // An event that is not of a user.
        let state = Event::ConnectionStateChanged(ConnectionStateChangedEvent::default());
        assert_eq!(from(&["bob"]).chosen(&state), None);
    }

    #[test]
    fn a_misspelt_event_has_a_hint() {
        assert_eq!(event_kind("conversationChanged"), Ok(EventKind::ConversationChanged));
        assert!(event_kind("peermessage").unwrap_err().contains("did you mean"));
        assert!(event_kind("xyz").unwrap_err().contains("for example"));
    }

    #[test]
    fn only_the_end_of_the_session_ends_the_command() {
        let change = |state: ConnectionState, event: ConnectionEvent| {
            Event::ConnectionStateChanged(ConnectionStateChangedEvent {
                state: state as i32,
                event: event as i32,
                extended_data: String::new(),
            })
        };
        assert!(ended(&change(ConnectionState::Reconnecting, ConnectionEvent::LoginInterrupted)).is_ok());
        let kicked = ended(&change(ConnectionState::Disconnected, ConnectionEvent::KickedOut)).unwrap_err();
        assert_eq!(kicked.exit, Exit::Auth);
    }
}
