//! `zim listen`: shows events as they arrive.

use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep_until};
use zim_protocol::{ConnectionState, Event, EventKind};

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
  zim listen --event peerMessageReceived --count 1 --timeout 60

The command is a device of its own: messages sent while it does not run are delivered when it starts, marked \
isOfflineMessage. Deprecated events that repeat others, such as receivePeerMessage, are shown only if named with --event.")]
pub(crate) struct ListenArgs {
    /// Show only this event; may be repeated
    #[arg(long = "event", value_name = "NAME", value_parser = event_kind)]
    events: Vec<EventKind>,
    /// End after this number of events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time; with --count this is an error
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

fn event_kind(name: &str) -> Result<EventKind, String> {
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
        if self.events.is_empty() { !repeats_another(kind) } else { self.events.contains(&kind) }
    }
}

/// Returns true for deprecated events that repeat a newer one with less information.
fn repeats_another(kind: EventKind) -> bool {
    matches!(kind, EventKind::ReceivePeerMessage | EventKind::ReceiveRoomMessage | EventKind::ReceiveGroupMessage)
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
    let end = args.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
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
                if args.wants(event.kind()) {
                    seen += 1;
                    show(context, &event)?;
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
    use zim_protocol::{ConnectionEvent, ConnectionStateChangedEvent};

    use super::*;

    fn args(events: &[EventKind]) -> ListenArgs {
        ListenArgs { events: events.to_vec(), count: None, timeout: None }
    }

    #[test]
    fn deprecated_duplicates_are_shown_only_if_named() {
        assert!(args(&[]).wants(EventKind::PeerMessageReceived));
        assert!(!args(&[]).wants(EventKind::ReceivePeerMessage));
        assert!(args(&[EventKind::ReceivePeerMessage]).wants(EventKind::ReceivePeerMessage));
        assert!(!args(&[EventKind::ReceivePeerMessage]).wants(EventKind::PeerMessageReceived));
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
