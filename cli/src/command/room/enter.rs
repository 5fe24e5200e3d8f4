//! `zim room enter`: a device in a room.

use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep_until};
use zim_protocol::{Event, RoomAdvancedConfig, RoomInfo, RoomState};

use super::{name, typed};
use crate::attribute::attribute;
use crate::command::listen::ended;
use crate::context::{Context, Session, now_ms};
use crate::describe;
use crate::duration;
use crate::exit::Failure;
use crate::input::{BadLine, Line, Lines};
use crate::signal::Signals;

/// `zim room enter`
#[derive(Debug, Args)]
pub(crate) struct EnterArgs {
    /// The room; it is created if there is none
    room: String,
    /// Name of a room that is created
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    name: String,
    /// How long a room that is created lasts without members, up to 3h
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    delay: Option<Duration>,
    /// Attribute of a room that is created; may be repeated
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
    /// Do not create the room
    #[arg(long, conflicts_with_all = ["name", "delay", "attributes"])]
    join: bool,
    /// End after this number of events; if --timeout comes first, this is an error
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Take commands from standard input, one a line: /switch ROOM enters another room and leaves this one, /set KEY=VALUE -KEY sets
    /// and deletes attributes as one change, /leave-all leaves the rooms of this device and ends
    #[arg(long)]
    commands: bool,
}

pub(super) async fn run(args: EnterArgs, context: &Context) -> Result<(), Failure> {
    let (mut session, signals) = context.device().await?;
    let outcome = stay(args, context, &mut session, signals).await;
    session.end().await;
    outcome
}

async fn stay(args: EnterArgs, context: &Context, session: &mut Session, mut signals: Signals) -> Result<(), Failure> {
    let mut room = args.room;
    let mut lines = if args.commands { Some(Lines::open(Box::new(|_| Ok(()))).await?) } else { None };
    if args.join {
        session.zim.join_room(&room).await?;
    } else {
        let info = RoomInfo { room_id: room.clone(), room_name: args.name };
        let delay = args.delay.map_or(0, |delay| i64::try_from(delay.as_secs()).unwrap_or(i64::MAX));
        let room_attributes = args.attributes.into_iter().collect();
        let config = RoomAdvancedConfig { room_attributes, room_destroy_delay_time: delay };
        session.zim.enter_room(info, config).await?;
    }
    let output = context.output;
    output.note(format!("{} is in the room {}; press Ctrl-C to leave", session.user_id, name(&room, output)));
    let end = context.limit.map(|limit| Instant::now() + limit);
    let mut seen = 0;
    while args.count.is_none_or(|count| seen < count) {
        let timed_out = async {
            match end {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            biased;
            event = session.events.next() => event,
            () = timed_out => match args.count {
                Some(count) => return Err(Failure::other(format!("timed out after {seen} of {count} events"))),
                None => break,
            },
            line = next(&mut lines) => {
                match line {
                    Ok(Some(line)) => match typed::obey(&line.text, &room, !args.join, &session.zim).await {
                        Ok(Some(now)) => room = now,
                        Ok(None) => return Ok(()),
                        Err(failure) => output.warn(failure.message),
                    },
                    Ok(None) => lines = None,
                    Err(bad) => {
                        output.warn(bad.failure.message);
                        lines = None;
                    }
                }
                continue;
            }
            _ = signals.next() => break,
        };
        match event {
            None => return Ok(()),
            Some(Err(lagged)) => output.warn(lagged.to_string()),
            Some(Ok(event)) => {
                ended(&event)?;
                if !is_of_room(&event) {
                    continue;
                }
                seen += 1;
                if output.is_json() {
                    output.json(&event.to_json()?)?;
                } else {
                    describe::event(output, &event, now_ms()).into_iter().try_for_each(|line| output.line(line))?;
                }
                if let Event::RoomStateChanged(change) = &event
                    && change.state() == RoomState::Disconnected
                    && change.room_id == room
                {
                    return Err(Failure::other(format!("you are no longer in the room: {:?}", change.event())));
                }
            }
        }
    }
    // The room may be gone.
    drop(session.zim.leave_room(&room).await);
    Ok(())
}

/// Returns the next line. Cancel safe.
async fn next(lines: &mut Option<Lines>) -> Result<Option<Line>, BadLine> {
    match lines {
        Some(lines) => lines.next().await,
        None => std::future::pending().await,
    }
}

/// Whether an event is about a room: the device is in no others than this command says.
fn is_of_room(event: &Event) -> bool {
    matches!(
        event,
        Event::RoomMessageReceived(_)
            | Event::RoomStateChanged(_)
            | Event::RoomMemberJoined(_)
            | Event::RoomMemberLeft(_)
            | Event::RoomAttributesUpdated(_)
            | Event::RoomAttributesBatchUpdated(_)
            | Event::RoomMemberAttributesUpdated(_)
    )
}
