//! The rooms that this device is in. They are in memory only: the server knows them as long as the connection lasts, and for a
//! moment longer, so that a device that returns in time is still in them.
//!
//! A request to enter has a number. The entrance that the server pushes has it again: what is pushed of a room before that
//! belongs to an earlier stay, or to another room that had the ID.

mod attributes;
mod pushed;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use zim_protocol::{
    ErrorCode, Event, LostRoom, ResumeRoomsRequest, RoomAllLeftResult, RoomEvent, RoomFullInfo, RoomInfo, RoomRef,
    RoomState, RoomStateChangedEvent, Rpc,
};

use self::attributes::Batch;
use super::Account;
use super::remote::Remote;
use crate::error::Error;
use crate::outbox::is_network;

/// How the device enters a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entering {
    Create,
    /// Join, or enter.
    Enter,
    Switch,
}

impl Entering {
    fn begins(self) -> RoomEvent {
        match self {
            Self::Create => RoomEvent::ActiveCreate,
            Self::Enter => RoomEvent::ActiveEnter,
            Self::Switch => RoomEvent::ActiveSwitch,
        }
    }

    fn fails(self, error: &Error) -> RoomEvent {
        match self {
            _ if is_network(error) => RoomEvent::NetworkDisconnected,
            _ if error.code() == ErrorCode::RoomModuleTheRoomDoesNotExist => RoomEvent::RoomNotExist,
            Self::Create => RoomEvent::CreateFailed,
            Self::Enter => RoomEvent::EnterFailed,
            Self::Switch => RoomEvent::SwitchFailed,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A request to enter is under way.
    Entering(Entering),
    Connected,
    /// The connection is lost, or the server has not said yet whether the device is still in the room.
    Interrupted,
    /// A request to leave is under way.
    Leaving,
}

#[derive(Debug)]
struct Room {
    phase: Phase,
    /// The number of the request to enter: answers to earlier requests do not concern this stay.
    stay: u64,
    /// The number of the request to enter, or of the last one to resume, whose entrance counts.
    asked: u64,
    /// Pushes of the room may have been dropped before the answer to the request to enter came.
    has_missed: bool,
    /// A request to leave all rooms may have ended this stay.
    may_be_left: bool,
    info: RoomFullInfo,
    /// What the server calls this room; 0: its entrance has not come yet.
    number: i64,
    /// The change with which this stay began, and the last one that is known.
    from_rev: u64,
    rev: u64,
    attributes: HashMap<String, String>,
    /// The change after which the attributes are these.
    attributes_rev: u64,
    /// The last message that was heard, of those that are kept.
    heard: u64,
    batch: Option<Batch>,
}

impl Room {
    fn takes(&self, number: i64) -> bool {
        self.number != 0 && self.number == number
    }
}

/// The most stays that have ended whose late entrances are recognised.
const ENDED: usize = 64;
/// The most rooms of a request to resume.
const RESUMED: usize = 100;

/// What a push of a room asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// What the room is now.
    Resume(String),
    /// The server let the device in too late: it is to let the device out again.
    Leave(String),
}

/// What follows the answer to a request to enter.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answered {
    /// The room, if the device is in it although the answer failed.
    pub(crate) inside: Option<RoomFullInfo>,
    /// The room has to be resumed.
    pub(crate) resumes: bool,
    /// The server may have let the device in, and nobody tells it: it is to let the device out again.
    pub(crate) leaves: bool,
}

/// A request to leave all rooms.
#[derive(Debug)]
pub(crate) struct LeavingAll {
    /// The stays in the rooms that the device was in.
    stays: BTreeMap<String, u64>,
    /// The last request to enter or to resume a room before it. Stays with higher numbers began later.
    last_entry: u64,
}

/// The start of a request to enter.
#[derive(Debug)]
pub(crate) enum Start {
    /// The request has this number. With it, the number of the stay that it ends.
    Request(u64, Option<u64>),
    /// The device is in the room already.
    Inside(RoomFullInfo),
}

#[derive(Debug, Default)]
struct Inner {
    rooms: HashMap<String, Room>,
    last_entry: u64,
    /// The stays that ended last, with the last entrance that was asked for.
    ended: VecDeque<(String, u64)>,
    /// The rooms that the app left without a connection. A login that was under way may have named them.
    left_offline: HashSet<String>,
    /// The rooms that the device leaves because the server let it in too late.
    strays: HashSet<String>,
    /// A one-shot login is no device. It acts for its user, wherever they are in the room.
    is_one_shot: bool,
}

impl Inner {
    /// Ends a stay of which the server knows, if it is this one. Returns whether it was.
    fn end(&mut self, room_id: &str, stay: u64) -> bool {
        let Some(room) = self.rooms.get(room_id).filter(|room| room.stay == stay) else { return false };
        let asked = room.asked;
        self.rooms.remove(room_id);
        if self.ended.len() == ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back((room_id.to_owned(), asked));
        true
    }

    /// Whether a stay that the device has had is over, as far as it knows.
    fn is_over(&self, room_id: &str, stay: u64) -> bool {
        self.has_ended(room_id, stay) || self.rooms.get(room_id).is_some_and(|room| room.stay > stay)
    }

    /// Whether an entrance is of a stay that the device has ended since.
    fn has_ended(&self, room_id: &str, entry_number: u64) -> bool {
        self.ended.iter().any(|(ended, asked)| ended == room_id && entry_number <= *asked)
    }
}

/// The rooms of a login. Events are raised under the lock, so that their order is that of what happened.
#[derive(Debug, Default)]
pub(crate) struct Rooms(Mutex<Inner>);

fn state(room_id: &str, state: RoomState, event: RoomEvent) -> Event {
    Event::RoomStateChanged(RoomStateChangedEvent {
        room_id: room_id.to_owned(),
        state: state as i32,
        event: event as i32,
        extended_data: String::new(),
    })
}

/// The errors that this device itself returns.
fn not_in_room(room_id: &str) -> Error {
    let message = format!("this device is not in the room {room_id}");
    Error::new(ErrorCode::RoomModuleUserIsNotInTheRoom, message)
}

/// Whether the server says that the device is not in the room.
pub(crate) fn is_out_of_room(error: &Error) -> bool {
    matches!(error.code(), ErrorCode::RoomModuleTheRoomDoesNotExist | ErrorCode::RoomModuleUserIsNotInTheRoom)
}

/// Whether the server does not know itself if it has done what it was asked for.
fn is_in_doubt(error: &Error) -> bool {
    matches!(error.code(), ErrorCode::CommonModuleImDatabaseError | ErrorCode::CommonModuleImServerError)
}

/// Whether a request may have been carried out that has failed.
fn says_nothing(error: &Error) -> bool {
    is_network(error) || is_in_doubt(error)
}

/// Whether the device is to leave a room that it could not enter: the server may let it in, and no push says all that it has to know. After
/// a request to switch, the entrance says that the device is in, but nothing except the answer says that it is out of the other room.
fn may_still_enter(entering: Entering, error: &Error) -> bool {
    is_in_doubt(error) || (entering == Entering::Switch && error.code() == ErrorCode::NetworkModuleRequestTimeout)
}

fn is_connecting(room_id: &str) -> Error {
    let message = format!("the device is about to enter the room {room_id}, or to leave it; wait until that is done");
    Error::new(ErrorCode::RoomModuleTheRoomIsConnecting, message)
}

impl Rooms {
    pub(super) fn new(is_one_shot: bool) -> Self {
        Self(Mutex::new(Inner { is_one_shot, ..Inner::default() }))
    }

    /// Returns the rooms that the device is in, or was before the connection was lost. It may still be in one that it is leaving.
    pub(crate) fn inside(&self) -> Vec<String> {
        let inner = self.0.lock();
        let known = inner.rooms.iter().filter(|(_, room)| !matches!(room.phase, Phase::Entering(_)));
        known.map(|(room_id, _)| room_id.clone()).collect()
    }

    /// Begins to enter a room, and to leave another one afterwards if there is one to leave.
    pub(crate) fn begin(
        &self,
        (info, leaving): (RoomInfo, Option<&str>),
        entering: Entering,
        raise: impl Fn(Event),
    ) -> Result<Start, Error> {
        let inner = &mut *self.0.lock();
        let mut left = None;
        if let Some(leaving) = leaving {
            match inner.rooms.get(leaving).map(|room| (room.phase, room.stay)) {
                Some((Phase::Connected, stay)) => left = Some(stay),
                Some(_) => return Err(is_connecting(leaving)),
                None => return Err(not_in_room(leaving)),
            }
        }
        match inner.rooms.get(&info.room_id) {
            None if inner.strays.contains(&info.room_id) => return Err(is_connecting(&info.room_id)),
            None => {}
            Some(room) if room.phase != Phase::Connected => return Err(is_connecting(&info.room_id)),
            Some(_) if entering == Entering::Create => {
                let message = format!("the room {} exists already, and this device is in it", info.room_id);
                return Err(Error::new(ErrorCode::RoomModuleTheRoomAlreadyExists, message));
            }
            Some(room) => return Ok(Start::Inside(room.info.clone())),
        }
        inner.last_entry += 1;
        let entry = inner.last_entry;
        raise(state(&info.room_id, RoomState::Connecting, entering.begins()));
        let room = Room {
            phase: Phase::Entering(entering),
            stay: entry,
            asked: entry,
            has_missed: false,
            may_be_left: false,
            number: 0,
            from_rev: 0,
            rev: 0,
            attributes: HashMap::new(),
            attributes_rev: 0,
            heard: 0,
            batch: None,
            info: RoomFullInfo { base_info: Some(info.clone()) },
        };
        inner.rooms.insert(info.room_id, room);
        Ok(Start::Request(entry, left))
    }

    /// Handles the answer to a request to enter.
    pub(crate) fn answered(
        &self,
        (room_id, stay): (&str, u64),
        answer: Result<&RoomFullInfo, &Error>,
        raise: impl Fn(Event),
    ) -> Answered {
        let inner = &mut *self.0.lock();
        let Some(room) = inner.rooms.get_mut(room_id).filter(|room| room.stay == stay) else {
            return Answered::default();
        };
        match (room.phase, answer) {
            (Phase::Entering(_), Ok(info)) => {
                room.phase = Phase::Connected;
                room.info = info.clone();
                raise(state(room_id, RoomState::Connected, RoomEvent::Success));
                Answered { resumes: room.has_missed, ..Answered::default() }
            }
            (Phase::Entering(entering), Err(error)) => {
                inner.rooms.remove(room_id);
                raise(state(room_id, RoomState::Disconnected, entering.fails(error)));
                let leaves = may_still_enter(entering, error) && inner.strays.insert(room_id.to_owned());
                Answered { leaves, ..Answered::default() }
            }
            // The entrance came before. What was dropped may be later than it.
            (_, Ok(_)) => Answered { resumes: room.has_missed, ..Answered::default() },
            (_, Err(_)) => Answered { inside: Some(room.info.clone()), ..Answered::default() },
        }
    }

    /// Begins to leave a room, or `only` one stay in it. Returns the number of the stay if the server is to be asked: it need not be
    /// without a connection, nor if that stay is over.
    pub(crate) fn begin_leaving(
        &self,
        (room_id, only): (&str, Option<u64>),
        is_online: bool,
        raise: impl Fn(Event),
    ) -> Result<Option<u64>, Error> {
        let inner = &mut *self.0.lock();
        if inner.is_one_shot {
            // It has no stays.
            return Ok(Some(0));
        }
        if only.is_some() && inner.rooms.get(room_id).map(|room| room.stay) != only {
            return Ok(None);
        }
        let room = inner.rooms.get_mut(room_id).ok_or_else(|| not_in_room(room_id))?;
        match room.phase {
            Phase::Connected => {
                room.phase = Phase::Leaving;
                Ok(Some(room.stay))
            }
            // The next login does not name it, so the server lets the device out.
            Phase::Interrupted if !is_online => {
                inner.rooms.remove(room_id);
                inner.left_offline.insert(room_id.to_owned());
                raise(state(room_id, RoomState::Disconnected, RoomEvent::Success));
                Ok(None)
            }
            _ => Err(is_connecting(room_id)),
        }
    }

    /// Handles the answer to a request to leave. Returns whether the room has to be resumed: nobody knows whether the device is
    /// still in it.
    pub(crate) fn has_left(&self, (room_id, stay): (&str, u64), error: Option<&Error>, raise: impl Fn(Event)) -> bool {
        let inner = &mut *self.0.lock();
        if error.is_none_or(is_out_of_room) {
            if inner.end(room_id, stay) {
                raise(state(room_id, RoomState::Disconnected, RoomEvent::Success));
            }
            return false;
        }
        let room = inner.rooms.get_mut(room_id).filter(|room| room.stay == stay);
        room.is_some_and(|room| stays(room_id, room, error.is_some_and(is_network), raise))
    }

    /// Whether a stay is over that a request was to end, although the answer does not say what has become of the request.
    pub(crate) fn is_over(&self, (room_id, stay): (&str, u64), error: &Error) -> bool {
        says_nothing(error) && self.0.lock().is_over(room_id, stay)
    }

    /// Begins to leave all rooms: those that the device is in take no other request until that is done.
    pub(crate) fn begin_leaving_all(&self) -> LeavingAll {
        let Inner { rooms, last_entry, .. } = &mut *self.0.lock();
        let known = rooms.iter_mut().filter(|(_, room)| !matches!(room.phase, Phase::Entering(_)));
        let stays = known.map(|(room_id, room)| {
            if room.phase == Phase::Connected {
                room.phase = Phase::Leaving;
            }
            (room_id.clone(), room.stay)
        });
        LeavingAll { stays: stays.collect(), last_entry: *last_entry }
    }

    /// Handles the answer to the request to leave all rooms, which has those that the server let the device out of. Returns what the
    /// app gets, and the rooms that have to be resumed.
    pub(crate) fn have_left_all(
        &self,
        leaving: &LeavingAll,
        answer: Result<RoomAllLeftResult, Error>,
        raise: impl Fn(Event),
    ) -> (Result<RoomAllLeftResult, Error>, Vec<String>) {
        let inner = &mut *self.0.lock();
        let mut unclear = Vec::new();
        for (room_id, stay) in &leaving.stays {
            match &answer {
                // The device was in no other room, as far as the server knows.
                Ok(_) => {
                    if inner.end(room_id, *stay) {
                        raise(state(room_id, RoomState::Disconnected, RoomEvent::Success));
                    }
                }
                // The server lets the device out of one room after the other: it may have left some of them.
                Err(_) => {
                    let Some(room) = inner.rooms.get_mut(room_id).filter(|room| room.stay == *stay) else { continue };
                    room.may_be_left = true;
                    if stays(room_id, room, true, &raise) {
                        unclear.push(room_id.clone());
                    }
                }
            }
        }
        let may_be_left = |room_id: &String| match &answer {
            Ok(left) => left.room_ids.contains(room_id),
            Err(_) => true,
        };
        for (room_id, room) in inner.rooms.iter_mut().filter(|(room_id, _)| may_be_left(room_id)) {
            if leaving.stays.get(room_id) != Some(&room.stay) {
                // The device was about to enter the room: the server may have let it in before, and then out. The request is not
                // known to have ended a stay that began after it: the server says whether the stay has ended, and why.
                room.may_be_left |= room.stay <= leaving.last_entry;
                unclear.push(room_id.clone());
            }
        }
        // A login that knows of no stay cannot know whether there was one.
        let is_over = |(room_id, stay): (&String, &u64)| inner.is_over(room_id, *stay);
        let is_done = !leaving.stays.is_empty() && leaving.stays.iter().all(is_over);
        let answer = answer.or_else(|error| {
            let room_ids = leaving.stays.keys().cloned().collect();
            if is_done && says_nothing(&error) { Ok(RoomAllLeftResult { room_ids }) } else { Err(error) }
        });
        (answer, unclear)
    }

    /// Checks that messages can be sent to a room.
    pub(crate) fn check_sending(&self, room_id: &str) -> Result<(), Error> {
        let inner = self.0.lock();
        let is_in = inner.rooms.get(room_id).is_some_and(|room| room.phase == Phase::Connected);
        if is_in || inner.is_one_shot {
            return Ok(());
        }
        let message = format!("this device is not in the room {room_id}, or has no connection to it now");
        Err(Error::new(ErrorCode::MessageModuleSendMessageFailed, message))
    }

    /// The connection is lost.
    pub(super) fn disconnected(&self, raise: impl Fn(Event)) {
        let inner = &mut *self.0.lock();
        for (room_id, room) in &mut inner.rooms {
            match room.phase {
                Phase::Connected | Phase::Leaving => interrupted(room_id, room, &raise),
                // Its answer may have come already.
                Phase::Entering(_) => room.has_missed = true,
                Phase::Interrupted => {}
            }
        }
    }

    /// The login ends.
    pub(crate) fn end(&self, event: RoomEvent, raise: impl Fn(Event)) {
        let inner = &mut *self.0.lock();
        for (room_id, _) in inner.rooms.drain() {
            raise(state(&room_id, RoomState::Disconnected, event));
        }
    }

    /// Returns the requests that let the pushes of rooms reach this device again: of all, over a new connection, or of one.
    pub(super) fn resume(&self, only: Option<&str>) -> Vec<ResumeRoomsRequest> {
        let Inner { rooms, last_entry, .. } = &mut *self.0.lock();
        let mut refs = Vec::new();
        for (room_id, room) in rooms.iter_mut().filter(|(room_id, _)| only.is_none_or(|only| *room_id == only)) {
            if matches!(room.phase, Phase::Entering(_)) {
                // The server may not have let the device in yet.
                room.has_missed = true;
                continue;
            }
            *last_entry += 1;
            room.asked = *last_entry;
            refs.push(RoomRef { room_id: room_id.clone(), number: room.number, entry_number: room.asked });
        }
        refs.chunks(RESUMED).map(|rooms| ResumeRoomsRequest { rooms: rooms.to_vec() }).collect()
    }

    /// A backup was restored: changes and messages count from an earlier number again. What was said before comes over no new
    /// connection.
    pub(super) fn count_anew(&self) {
        for room in self.0.lock().rooms.values_mut() {
            (room.from_rev, room.heard) = (0, 0);
        }
    }

    /// Returns the stays in these rooms.
    pub(super) fn stays(&self, rooms: &[RoomRef]) -> BTreeMap<String, u64> {
        let inner = self.0.lock();
        let stay = |of: &RoomRef| inner.rooms.get(&of.room_id).map(|room| (of.room_id.clone(), room.stay));
        rooms.iter().filter_map(stay).collect()
    }

    /// Returns the IDs of the rooms that this device is in.
    pub(super) fn ids(&self) -> Vec<String> {
        self.0.lock().rooms.keys().cloned().collect()
    }

    /// The device is no longer in these rooms, in which it had these stays.
    pub(super) fn lost(&self, stays: &BTreeMap<String, u64>, lost: Vec<LostRoom>, raise: impl Fn(Event)) {
        let inner = &mut *self.0.lock();
        for LostRoom { room_id, event } in lost {
            let may_be_left = inner.rooms.get(&room_id).is_some_and(|room| room.may_be_left);
            let event = if may_be_left { RoomEvent::Success as i32 } else { event };
            if stays.get(&room_id).is_some_and(|stay| inner.end(&room_id, *stay)) {
                let event = RoomEvent::try_from(event).unwrap_or(RoomEvent::NetworkDisconnected);
                raise(state(&room_id, RoomState::Disconnected, event));
            }
        }
    }

    /// Returns the rooms that the app left without a connection, for a new connection: the device leaves them now.
    pub(super) fn left_offline(&self) -> Vec<String> {
        let Inner { rooms, left_offline, strays, .. } = &mut *self.0.lock();
        left_offline.drain().filter(|room_id| !rooms.contains_key(room_id) && strays.insert(room_id.clone())).collect()
    }

    /// The device has left a room into which the server let it too late, or cannot.
    pub(super) fn stray_left(&self, room_id: &str) {
        self.0.lock().strays.remove(room_id);
    }
}

/// The connection to a room is lost, or nobody knows whether the device is still in it.
fn interrupted(room_id: &str, room: &mut Room, raise: impl Fn(Event)) {
    room.phase = Phase::Interrupted;
    raise(state(room_id, RoomState::Connecting, RoomEvent::NetworkInterrupted));
}

/// Handles the failure of a request to leave. Returns whether the room has to be resumed.
fn stays(room_id: &str, room: &mut Room, is_unclear: bool, raise: impl Fn(Event)) -> bool {
    match room.phase {
        // The server may still carry it out.
        Phase::Leaving if is_unclear => interrupted(room_id, room, raise),
        Phase::Leaving => room.phase = Phase::Connected,
        _ => return false,
    }
    is_unclear
}

impl<L: Remote> Account<L> {
    /// Returns the rooms that this device is in.
    pub(crate) fn rooms(&self) -> &Rooms {
        &self.shared.rooms
    }

    /// Raises an event.
    pub(crate) fn raise(&self, event: Event) {
        self.remote.raise(event, None);
    }

    /// Sends a request that causes no log entries, at the call.
    pub(crate) fn send_request<R: Rpc + Send + Sync>(
        &self,
        request: R,
    ) -> impl Future<Output = Result<R::Response, Error>> + Send + 'static + use<L, R>
    where
        R::Response: Send,
    {
        // Boxed: its type would borrow the account.
        let response: BoxFuture<'static, _> = Box::pin(self.remote.request(None, request));
        async move { response.await.map(|(response, _)| response) }
    }
}
