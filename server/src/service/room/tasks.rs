//! What happens to rooms as time passes: rooms without members end, and members whose connection stays away leave.

use super::{history, store};
use crate::app::App;
use crate::db::{Scope, Tx};
use crate::error::Error;
use crate::key::{ConversationKey, UserKey};
use crate::task::{self, Due, TaskKind};

/// A room without members ends; the subject is the room.
pub(crate) static ROOM_END: TaskKind<App> =
    TaskKind { number: 20, name: "room-end", scope: of_room, run: |_, tx, _, due| Box::pin(end(tx, due)) };

/// The members of a room leave whose connection has been away for too long; the subject is the room.
pub(crate) static ROOM_MEMBERS_LEAVE: TaskKind<App> = TaskKind {
    number: 21,
    name: "room-members-leave",
    scope: of_room,
    run: |app, tx, _, due| Box::pin(leave(app, tx, due)),
};

/// Marks the members of a room whose connection was lost unnoticed, as with the node that had it; the subject is the room.
pub(crate) static ROOM_MEMBERS_LOST: TaskKind<App> = TaskKind {
    number: 22,
    name: "room-members-lost",
    scope: of_room,
    run: |app, tx, _, due| Box::pin(mark_lost(app, tx, due)),
};

/// Looks for such members. The subject is the user that the page begins after. Each page schedules the next one, and the last page
/// the next look: there is always one task of this kind.
pub(crate) static LOST_ROOM_MEMBERS: TaskKind<App> = TaskKind {
    number: 23,
    name: "lost-room-members",
    scope: |_| Scope::none(),
    run: |app, tx, _, due| Box::pin(look_for_lost_members(app, tx, due)),
};

/// Members on a page.
const PAGE: i64 = 1_000;
/// Members who leave in one transaction. Their profiles are in one push, which must not get too long for its clients.
const LEAVES: i64 = 20;
/// How long after the start of the server the first look is: the logins that were lost with it are found first.
const FIRST_LOOK_MS: i64 = 2_000;

fn of_room(subject: i64) -> Scope {
    Scope::conversation(ConversationKey(subject))
}

impl App {
    /// Begins to look for members of rooms who lost their connection unnoticed.
    pub(crate) async fn begin_to_look_for_lost_room_members(&self) -> Result<(), Error> {
        let (at, is_node) = (self.clock.now_ms() + FIRST_LOOK_MS, self.db.lease().is_some());
        let begun = self.db.submit(Scope::none(), async move |tx| match is_node {
            // Another node may be in the middle of a look.
            true => task::schedule_by(tx, &LOST_ROOM_MEMBERS, 0, at).await,
            false => task::schedule_only(tx, &LOST_ROOM_MEMBERS, 0, at).await,
        });
        begun.await
    }
}

async fn end(tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    let room = ConversationKey(due.subject);
    match store::head(tx, room).await? {
        Some(head) if head.members == 0 => history::end(tx, room, due.now).await,
        _ => Ok(()),
    }
}

async fn leave(app: &App, tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    let key = ConversationKey(due.subject);
    let Some(room) = app.own_room(tx, key).await? else { return Ok(()) };
    let leaving = store::leaving(tx, key, due.now, LEAVES).await?;
    if !leaving.is_empty() {
        room.exit(tx, &leaving, zim_protocol::RoomEvent::ConnectTimeout).await?;
    }
    match store::next_leave(tx, key).await? {
        Some(at) => task::schedule(tx, &ROOM_MEMBERS_LEAVE, key, at).await,
        None => Ok(()),
    }
}

async fn mark_lost(app: &App, tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    let (key, at) = (ConversationKey(due.subject), due.now + i64::from(app.config.limits.room_grace_ms));
    if store::mark_lost(tx, key, at).await? > 0 {
        task::schedule_by(tx, &ROOM_MEMBERS_LEAVE, key, at).await?;
    }
    Ok(())
}

async fn look_for_lost_members(app: &App, tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    let page = store::lost(tx, UserKey(due.subject), PAGE).await?;
    let mut rooms: Vec<i64> = page.iter().filter(|(.., is_lost)| *is_lost).map(|(room, ..)| room.0).collect();
    rooms.sort_unstable();
    rooms.dedup();
    task::schedule_missing(tx, &ROOM_MEMBERS_LOST, &rooms, due.now).await?;
    // The last user of a full page may have more rooms: the next page begins with them. Nobody is in so many.
    let last = page.last().map(|(_, user, _)| user.0).filter(|_| i64::try_from(page.len()).is_ok_and(|it| it == PAGE));
    match last {
        Some(last) => task::schedule(tx, &LOST_ROOM_MEMBERS, (last - 1).max(due.subject + 1), due.now).await,
        None => {
            let at = due.now + i64::from(app.config.limits.offline_after_ms);
            task::schedule(tx, &LOST_ROOM_MEMBERS, 0, at).await
        }
    }
}
