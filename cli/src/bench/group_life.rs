//! What happens in a group or a room beside the messages that are measured: users come and go, members react to messages and send
//! receipts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};
use zim_protocol::event_frame::Frame;
use zim_protocol::{
    AddMessageReactionRequest, ConversationType, EventFrame, JoinGroupRequest, LeaveGroupRequest, LeaveRoomRequest,
    Message, Rpc, SendMessageReceiptsReadRequest,
};

use super::members;
use super::meter::{SharedMeter, is_final};
use super::raw::{Events, Raw};
use crate::exit::Failure;

/// How long those stay who come and go, and how long they are away.
const STAY: Duration = Duration::from_secs(1);
const STAY_IN_GROUP: Duration = Duration::from_secs(5);
/// What one member does in a second, at most: nobody reacts and reads as fast as the server answers.
const OF_ONE_MEMBER: u32 = 10;
/// The most messages that a member looks back.
const NEWEST: usize = 64;

/// How much happens each second.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Rates {
    /// Users who come, and as many who go.
    pub(crate) churn: u32,
    pub(crate) reactions: u32,
    pub(crate) receipts: u32,
}

impl Rates {
    /// How long those stay who come and go.
    fn stay(kind: ConversationType) -> Duration {
        if kind == ConversationType::Room { STAY } else { STAY_IN_GROUP }
    }

    /// The number of users who come and go: half of them are there.
    pub(crate) fn movers(self, kind: ConversationType) -> usize {
        let seconds = u32::try_from(Self::stay(kind).as_secs()).unwrap_or(1);
        usize::try_from(self.churn.saturating_mul(2 * seconds)).unwrap_or(usize::MAX)
    }

    /// The numbers of members who react, and who send receipts.
    fn actors(self) -> [usize; 2] {
        [self.reactions, self.receipts].map(|rate| usize::try_from(rate.div_ceil(OF_ONE_MEMBER)).unwrap_or(usize::MAX))
    }

    /// The number of members who do something. They are online, beside those whose deliveries are measured.
    pub(crate) fn members(self) -> usize {
        self.actors().iter().sum()
    }
}

/// How often something was done.
#[derive(Debug, Default)]
struct Counts {
    moves: AtomicU64,
    reactions: AtomicU64,
    receipts: AtomicU64,
}

/// What was done until a moment.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Done {
    pub(crate) moves: u64,
    pub(crate) reactions: u64,
    pub(crate) receipts: u64,
}

impl Done {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            moves: self.moves - before.moves,
            reactions: self.reactions - before.reactions,
            receipts: self.receipts - before.receipts,
        }
    }
}

/// The life of a group or a room, until this is dropped.
#[derive(Debug)]
pub(crate) struct Life {
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

/// The group or the room.
#[derive(Clone, Debug)]
struct Place {
    id: String,
    kind: ConversationType,
    meter: SharedMeter,
}

impl Life {
    /// Starts it on sessions: `movers` come and go, `members` are in the group.
    pub(crate) fn start(
        (id, kind): (&str, ConversationType),
        rates: Rates,
        (movers, members): (Vec<Raw>, Vec<Raw>),
        meter: &SharedMeter,
        handle: &Handle,
    ) -> Self {
        let (counts, mut tasks) = (Arc::<Counts>::default(), JoinSet::new());
        let place = Place { id: id.to_owned(), kind, meter: Arc::clone(meter) };
        let of = movers.len();
        for (index, session) in movers.into_iter().enumerate() {
            tasks.spawn_on(come_and_go(session, place.clone(), (index, of), Arc::clone(&counts)), handle);
        }
        let [reacting, reading] = rates.actors();
        for (index, session) in members.into_iter().enumerate() {
            let (does, of, rate) = match index.checked_sub(reacting) {
                None => (Does::React, (index, reacting), rates.reactions),
                Some(index) => (Does::Read, (index, reading), rates.receipts),
            };
            let actor = Actor { does, place: place.clone(), counts: Arc::clone(&counts) };
            tasks.spawn_on(actor.run(session, of, rate), handle);
        }
        Self { counts, _tasks: tasks }
    }

    pub(crate) fn done(&self) -> Done {
        let Counts { moves, reactions, receipts } = &*self.counts;
        let [moves, reactions, receipts] = [moves, reactions, receipts].map(|count| count.load(Ordering::Relaxed));
        Done { moves, reactions, receipts }
    }
}

/// Returns when a task does something for the first time, and then how often, so that all tasks together keep the rate and take turns.
fn turns((index, of): (usize, usize), every: Duration) -> tokio::time::Interval {
    let part = u32::try_from(index).unwrap_or(0);
    let first = every * part / u32::try_from(of).unwrap_or(1).max(1);
    // Late ticks follow at once, so that a delay of the server does not lower the rate.
    interval_at(Instant::now() + first, every)
}

/// Counts what was done, or the error. Returns false if nothing more can be done.
fn settle<T>(done: Result<T, Failure>, count: &AtomicU64, meter: &SharedMeter) -> bool {
    match done {
        Ok(_) => {
            count.fetch_add(1, Ordering::Relaxed);
            true
        }
        Err(failure) => {
            meter.fail(&failure);
            !is_final(&failure)
        }
    }
}

/// Comes, goes after a while, and so on. Ends with the session.
async fn come_and_go(mut session: Raw, place: Place, turn: (usize, usize), counts: Arc<Counts>) {
    let mut events = Events::of(&session);
    // What happens in the meantime arrives, and nobody looks at it.
    let reading = async move { while events.next().await.is_ok() {} };
    let moving = async move {
        let stay = Rates::stay(place.kind);
        let mut ticks = turns((turn.0, turn.1.div_ceil(2)), stay);
        for is_in in [false, true].into_iter().cycle() {
            ticks.tick().await;
            let done = move_once(&mut session, &place, is_in).await;
            if !settle(done, &counts.moves, &place.meter) {
                return;
            }
        }
    };
    tokio::join!(reading, moving);
}

async fn move_once(session: &mut Raw, place: &Place, is_in: bool) -> Result<(), Failure> {
    let id = place.id.clone();
    match (place.kind, is_in) {
        (ConversationType::Room, false) => members::enter(session, &id).await,
        (ConversationType::Room, true) => asked(session, LeaveRoomRequest { room_id: id }).await,
        (_, false) => asked(session, JoinGroupRequest { group_id: id }).await,
        (_, true) => asked(session, LeaveGroupRequest { group_id: id }).await,
    }
}

async fn asked<R: Rpc>(session: &mut Raw, request: R) -> Result<(), Failure> {
    session.request(&request).await.map(drop)
}

#[derive(Clone, Copy, Debug)]
enum Does {
    React,
    Read,
}

/// A member who reacts to messages or sends receipts.
#[derive(Debug)]
struct Actor {
    does: Does,
    place: Place,
    counts: Arc<Counts>,
}

impl Actor {
    async fn run(self, mut session: Raw, (index, of): (usize, usize), rate: u32) {
        let mut events = Events::of(&session);
        // The newest messages that this member has done nothing with: several come at once.
        let newest = Mutex::new(VecDeque::new());
        let reading = async {
            while let Ok(frame) = events.next().await {
                let mut newest = newest.lock();
                newest.extend(messages(&EventFrame::decode(frame).unwrap_or_default()));
                let old = newest.len().saturating_sub(NEWEST);
                newest.drain(..old);
            }
        };
        let acting = async {
            let every = Duration::from_secs(1) * u32::try_from(of).unwrap_or(1) / rate.max(1);
            let mut ticks = turns((index, of), every);
            loop {
                ticks.tick().await;
                let named = newest.lock().pop_front();
                let Some(named) = named else { continue };
                let (done, count) = match self.does {
                    Does::React => (asked(&mut session, self.reaction(named)).await, &self.counts.reactions),
                    Does::Read => (asked(&mut session, self.receipt(named)).await, &self.counts.receipts),
                };
                if !settle(done, count, &self.place.meter) {
                    return;
                }
            }
        };
        tokio::join!(reading, acting);
    }

    fn message(&self, (id, seq): Named) -> Message {
        Message {
            message_id: id.to_string(),
            message_seq: i64::try_from(seq).unwrap_or(i64::MAX),
            conversation_id: self.place.id.clone(),
            conversation_type: self.place.kind as i32,
            ..Message::default()
        }
    }

    fn reaction(&self, named: Named) -> AddMessageReactionRequest {
        AddMessageReactionRequest {
            reaction_type: "+1".to_owned(),
            message: Some(self.message(named)),
            ..AddMessageReactionRequest::default()
        }
    }

    fn receipt(&self, named: Named) -> SendMessageReceiptsReadRequest {
        SendMessageReceiptsReadRequest {
            message_list: vec![self.message(named)],
            conversation_id: self.place.id.clone(),
            conversation_type: self.place.kind as i32,
        }
    }
}

/// The ID of a message, and its position.
type Named = (i64, u64);

/// Returns the messages that a frame has.
fn messages(event: &EventFrame) -> Vec<Named> {
    match &event.frame {
        Some(Frame::Push(push)) => push.messages.iter().map(|entry| (entry.message_id, entry.seq)).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use zim_protocol::{MessageEntry, Push};

    use super::*;

    #[test]
    fn there_are_as_many_users_as_the_rates_need() {
        let rates = Rates { churn: 20, reactions: 50, receipts: 201 };
        assert_eq!((rates.movers(ConversationType::Room), rates.movers(ConversationType::Group)), (40, 200));
        assert_eq!((rates.actors(), rates.members()), ([5, 21], 26));
        assert_eq!((Rates::default().movers(ConversationType::Group), Rates::default().members()), (0, 0));
    }

    #[test]
    fn a_push_has_its_messages_in_order() {
        let entries = [3, 4].map(|seq| MessageEntry { seq, message_id: 70, ..MessageEntry::default() }).to_vec();
        let push = Push { messages: entries, ..Push::default() };
        assert_eq!(messages(&EventFrame { frame: Some(Frame::Push(push)) }), [(70, 3), (70, 4)]);
        assert_eq!(messages(&EventFrame { frame: Some(Frame::Push(Push::default())) }), []);
        assert_eq!(messages(&EventFrame::default()), []);
    }
}
