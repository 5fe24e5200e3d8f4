//! `zim room enter` and `zim room create`: a device in a room.

use std::time::Duration;

use clap::Args;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until, timeout};
use zim_protocol::{Event, RoomAdvancedConfig, RoomEvent, RoomInfo, RoomState};

use super::{name, typed};
use crate::attribute::attribute;
use crate::command::listen::ended;
use crate::context::{Context, Session, now_ms};
use crate::describe;
use crate::duration;
use crate::exit::Failure;
use crate::input::{BadLine, Line, Lines};
use crate::output::Output;
use crate::signal::Signals;

/// The longest wait for the end of a stay: for its event, and for the server when the command ends.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// A command that runs, and the room that the device is in afterwards.
type Obeying = BoxFuture<'static, Result<Option<String>, Failure>>;

/// How the device gets into the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The room is created if there is none.
    Enter,
    /// There is a room.
    Join,
    /// There is none yet.
    Create,
}

/// `zim room enter`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zim room enter stage
  zim room enter stage --join
  printf '/set song=Yesterday\\n/switch hall\\n/leave-all\\n' | zim room enter stage --commands")]
pub(crate) struct EnterArgs {
    #[command(flatten)]
    pub(super) stay: StayArgs,
    /// Do not create the room
    #[arg(long, conflicts_with_all = ["name", "delay", "attributes"])]
    pub(super) join: bool,
}

/// `zim room create`
#[derive(Debug, Args)]
#[command(after_help = "\
If there is such a room, the command fails. `zim room enter` creates one only if there is none.

Examples:
  zim room create hall --name \"The hall\"")]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(super) stay: StayArgs,
}

/// A stay in a room.
#[derive(Debug, Args)]
pub(super) struct StayArgs {
    /// The room
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
    /// End after this number of events; if --timeout comes first, this is an error
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Take commands from standard input, one a line: /switch ROOM enters another room and leaves this one, /set KEY=VALUE -KEY sets
    /// and deletes attributes as one change, /leave-all leaves the rooms of this device and ends
    #[arg(long)]
    commands: bool,
}

pub(super) async fn run(args: StayArgs, entry: Entry, context: &Context) -> Result<(), Failure> {
    let (mut session, signals) = context.device().await?;
    let outcome = stay(args, entry, context, &mut session, signals).await;
    session.end().await;
    outcome
}

async fn stay(
    args: StayArgs,
    entry: Entry,
    context: &Context,
    session: &mut Session,
    mut signals: Signals,
) -> Result<(), Failure> {
    let mut room = args.room;
    let mut lines = if args.commands { Some(Lines::open(Box::new(|_| Ok(()))).await?) } else { None };
    let info = RoomInfo { room_id: room.clone(), room_name: args.name };
    let delay = args.delay.map_or(0, |delay| i64::try_from(delay.as_secs()).unwrap_or(i64::MAX));
    let room_attributes = args.attributes.into_iter().collect();
    let config = RoomAdvancedConfig { room_attributes, room_destroy_delay_time: delay };
    match entry {
        Entry::Join => drop(session.zim.join_room(&room).await?),
        Entry::Enter => drop(session.zim.enter_room(info, config).await?),
        Entry::Create => drop(session.zim.create_room(info, config).await?),
    }
    let output = context.output;
    output.note(format!("{} is in the room {}; press Ctrl-C to leave", session.user_id, name(&room, output)));
    let end = context.limit.map(|limit| Instant::now() + limit);
    let (mut seen, mut obeying) = (0, None::<Obeying>);
    // How the stay in the room has ended while a command runs; and until when that is awaited once the device has left all rooms.
    let (mut out, mut left) = (None::<RoomEvent>, None::<Instant>);
    while args.count.is_none_or(|count| seen < count) {
        let timed_out = async {
            match left.into_iter().chain(end).min() {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            biased;
            event = session.events.next() => event,
            () = timed_out => match args.count {
                _ if left.is_some() => break,
                Some(count) => return Err(Failure::other(format!("timed out after {seen} of {count} events"))),
                None => break,
            },
            obeyed = done(&mut obeying) => {
                obeying = None;
                match obeyed {
                    Ok(Some(now)) if now != room => (room, out) = (now, None),
                    Ok(Some(_)) => {}
                    Ok(None) => left = Some(Instant::now() + LEAVE_WITHIN),
                    Err(failure) => output.warn(failure.message),
                }
                match out {
                    Some(_) if left.is_some() => break,
                    Some(how) => return Err(is_out(how)),
                    None => continue,
                }
            }
            // One after the other.
            line = next(&mut lines), if obeying.is_none() && left.is_none() => {
                match line {
                    Ok(Some(line)) => {
                        let zim = session.zim.clone();
                        obeying = Some(Box::pin(typed::obey(line.text, room.clone(), entry != Entry::Join, zim)));
                    }
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
                show(output, &event)?;
                if let Event::RoomStateChanged(change) = &event
                    && change.state() == RoomState::Disconnected
                    && change.room_id == room
                {
                    if left.is_some() {
                        break;
                    }
                    if obeying.is_none() {
                        return Err(is_out(change.event()));
                    }
                    // The command that runs may do it: its answer comes later.
                    out = Some(change.event());
                }
            }
        }
    }
    match (args.count, left, obeying) {
        (Some(count), Some(_), _) if seen < count => {
            return Err(Failure::other(format!("the device has left all rooms after {seen} of {count} events")));
        }
        (_, Some(_), _) => {}
        // The room may be gone, and so may the server.
        (.., None) => drop(timeout(LEAVE_WITHIN, session.zim.leave_room(&room)).await),
        // The command that runs may have let the device into another room.
        _ => drop(timeout(LEAVE_WITHIN, session.zim.leave_all_room()).await),
    }
    Ok(())
}

fn show(output: Output, event: &Event) -> Result<(), Failure> {
    if output.is_json() {
        output.json(&event.to_json()?)?;
    } else {
        describe::event(output, event, now_ms()).into_iter().try_for_each(|line| output.line(line))?;
    }
    Ok(())
}

fn is_out(how: RoomEvent) -> Failure {
    Failure::other(format!("you are no longer in the room: {how:?}"))
}

/// Waits for the end of a command. Cancel safe.
async fn done(obeying: &mut Option<Obeying>) -> Result<Option<String>, Failure> {
    match obeying {
        Some(obeying) => obeying.await,
        None => std::future::pending().await,
    }
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
