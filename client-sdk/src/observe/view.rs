//! What a timeline shows: a part of the conversation without a gap that goes up to its end. Own messages of this device
//! are always shown, because their sender has just written them.
//!
//! It begins at a floor, which stays where it is while messages arrive. When messages arrive beyond a gap there are two
//! cases. If the sync engine is about to close a small gap, what is beyond it waits. Otherwise the newest messages are
//! requested, and the view starts anew at them.

use rusqlite::Connection;
use zim_protocol::{Message, ORDER_KEY_STEP};

use crate::store::timeline::{Log, Part};
use crate::store::{conversation, from_sql, timeline};
use crate::types::Name;

/// Where the view begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Floor {
    /// The epoch of the position.
    pub(super) epoch: Vec<u8>,
    /// The order key of the oldest message; `None`: there is none.
    pub(super) order_key: Option<i64>,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) floor: Floor,
    /// The view has at least so many messages, if there are that many.
    pub(super) limit: usize,
    /// The server was asked for messages before this position, and answered.
    pub(super) answered: Option<u64>,
}

/// Messages to request from the server: `count` ones before the position `anchor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) anchor: u64,
    pub(super) count: usize,
}

/// What a timeline shows.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) messages: Vec<Message>,
    pub(super) floor: Floor,
    pub(super) missing: Option<Missing>,
}

/// Reads the view.
pub(super) fn read(db: &Connection, viewer: &str, name: &Name, wish: &Wish) -> rusqlite::Result<View> {
    let epoch = conversation::epoch(db)?;
    let Some(log) = timeline::log(db, name)? else {
        return Ok(View { floor: Floor { epoch, order_key: None }, ..View::default() });
    };
    // Positions of another epoch say nothing.
    let floor = wish.floor.order_key.filter(|_| wish.floor.epoch == epoch);
    let Run { held, floor, missing } = run(db, &log, floor, wish)?;
    let is_end = held.is_some_and(|(_, hi)| hi >= log.end);
    let part = held.map_or_else(Part::local, |held| Part::of(held, is_end));
    let shown = match floor {
        Some(floor) => timeline::count(db, log.conversation, part, floor)?,
        None => 0,
    };
    let rows = timeline::newest(db, log.conversation, part, shown.max(wish.limit))?;
    let order_key = rows.first().map(|row| row.order_key);
    let older = held.filter(|(lo, _)| is_end && *lo > 1 && rows.len() < wish.limit && wish.answered != Some(*lo));
    let older = older.map(|(lo, _)| Missing { anchor: lo, count: wish.limit - rows.len() });
    let to = name.to_ref();
    Ok(View {
        messages: rows.into_iter().map(|row| row.into_message(viewer, &to)).collect(),
        floor: Floor { epoch, order_key },
        missing: missing.or(older),
    })
}

/// The held positions that are shown.
struct Run {
    held: Option<(u64, u64)>,
    /// `None`: the view starts anew.
    floor: Option<i64>,
    missing: Option<Missing>,
}

fn run(db: &Connection, log: &Log, floor: Option<i64>, wish: &Wish) -> rusqlite::Result<Run> {
    let position = |key: i64| from_sql(key.div_euclid(ORDER_KEY_STEP)).max(1);
    let newest = log.around(log.end);
    let end = Missing { anchor: log.end + 1, count: wish.limit };
    // An own message may stand behind positions that are not held.
    let shown = floor.and_then(|floor| log.last_from(position(floor)));
    let Some(shown) = shown else {
        // Without the newest messages, the newest ones that are held.
        let held = newest.or_else(|| log.held.last().copied());
        let missing = (newest.is_none() && log.end > 0).then_some(end);
        // If nothing is held, the view has own messages only.
        return Ok(Run { held, floor: floor.filter(|_| held.is_none()), missing });
    };
    let is_whole = shown.1 >= log.end;
    let is_coming =
        shown.1 >= log.seq && usize::try_from(log.missing_after(shown.1)).is_ok_and(|missing| missing <= wish.limit);
    let stale = |missing| Run { held: Some(shown), floor, missing };
    if is_whole || is_coming {
        return Ok(stale(None));
    }
    let Some(newest) = newest else { return Ok(stale(Some(end))) };
    let count = timeline::count(db, log.conversation, Part::of(newest, true), i64::MIN)?;
    if newest.0 <= 1 || count >= wish.limit || wish.answered == Some(newest.0) {
        return Ok(Run { held: Some(newest), floor: None, missing: None });
    }
    Ok(stale(Some(Missing { anchor: newest.0, count: wish.limit - count })))
}
