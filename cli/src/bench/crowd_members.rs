//! The process of the crowd: it carries out the orders of a benchmark until the benchmark closes its input.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use zim_protocol::{
    ClearConversationUnreadMessageCountRequest, ConversationType, Message, MessageSendConfig,
    SendMessageReceiptsReadRequest, SendMessageRequest,
};

use super::apart::{Apart, Priority};
use super::crowd::{Answer, Opened, Order, Ready, Receive, Told};
use super::group::{Place, RECEIVERS, life_of};
use super::group_life::{Done, Life};
use super::group_load::{self, Ended, GroupLoad, GroupRunning};
use super::histogram::Histogram;
use super::load::Keys;
use super::meter::{Meter, SharedMeter};
use super::raw::{Events, Raw, SharedDialer, outcome, queue};
use super::target::{Reach, Target};
use super::{members, moment, process};
use crate::exit::Failure;

/// Serves the benchmark that has started this process.
pub(crate) async fn serve(priority: Priority) -> Result<(), Failure> {
    let mut first = String::new();
    let mut input = BufReader::new(tokio::io::stdin());
    input.read_line(&mut first).await?;
    let reach: Reach =
        serde_json::from_str(&first).map_err(|_| Failure::usage("other benchmarks start this one themselves"))?;
    let target = Target::reached(reach)?;
    let receivers = Apart::new(&target, RECEIVERS, priority)?;
    let members = Members::new(Arc::clone(receivers.dialer()))?;
    tokio::task::block_in_place(|| {
        if priority == Priority::Lowest {
            // This thread as well: nothing of the crowd has a normal priority.
            process::lower_priority();
        }
        receivers.handle().block_on(Box::pin(members.serve(input)))
    })
}

/// The members of the crowd.
#[derive(Debug)]
struct Members {
    dialer: SharedDialer,
    /// Those who are logged in, until they receive.
    sessions: Vec<Raw>,
    receiving: Option<Receiving>,
    /// What their events are read by while they only wait for answers.
    reading: JoinSet<()>,
    keys: Keys,
    /// What each reader writes when it opens the group.
    frames: BytesMut,
}

/// What the members do in a group or a room.
#[derive(Debug)]
struct Receiving {
    meter: SharedMeter,
    running: GroupRunning,
    life: Option<Life>,
    /// What was done in it, once it is over.
    done: Done,
}

impl Receiving {
    fn done(&self) -> Done {
        self.life.as_ref().map_or(self.done, Life::done)
    }

    fn tell(&self) -> Told {
        let (delivered, all_delivered) = self.meter.delivered_here();
        let running = &self.running;
        Told {
            delivered,
            all_delivered,
            delivery: running.delivery(),
            told_to_pull: running.told_to_pull(),
            dropped: running.dropped(),
            done: self.done(),
            errors: self.meter.errors(),
            lasts: Vec::new(),
        }
    }
}

fn nothing_runs() -> Failure {
    Failure::other("the members receive nothing yet")
}

impl Members {
    fn new(dialer: SharedDialer) -> Result<Self, Failure> {
        let keys = Keys::new()?;
        let (sessions, reading, frames) = (Vec::new(), JoinSet::new(), BytesMut::new());
        Ok(Self { dialer, sessions, receiving: None, reading, keys, frames })
    }

    async fn serve(mut self, input: BufReader<tokio::io::Stdin>) -> Result<(), Failure> {
        let mut output = tokio::io::stdout();
        let mut answer = serde_json::to_string(&Ready { niceness: process::niceness() })?;
        let mut orders = input.lines();
        loop {
            answer.push('\n');
            output.write_all(answer.as_bytes()).await?;
            output.flush().await?;
            let Some(order) = orders.next_line().await? else { return Ok(()) };
            let done = Box::pin(self.carry_out(serde_json::from_str(&order)?)).await;
            answer = serde_json::to_string(&done.unwrap_or_else(|failure| Answer::Failed(failure.message)))?;
        }
    }

    async fn carry_out(&mut self, order: Order) -> Result<Answer, Failure> {
        match order {
            Order::LogIn { online, room } => {
                self.sessions = members::log_in(online, &self.dialer, room.as_deref()).await?;
                Ok(Answer::Done)
            }
            Order::Receive(receive) => {
                self.receiving = Some(self.receive(receive).await?);
                Ok(Answer::Done)
            }
            Order::Measure(on) => {
                let receiving = self.receiving.as_mut().ok_or_else(nothing_runs)?;
                receiving.meter.measure(on);
                if !on {
                    // Only the messages count from now on.
                    receiving.done = receiving.done();
                    receiving.life = None;
                }
                Ok(Answer::Done)
            }
            Order::Tell => Ok(Answer::Told(Box::new(self.receiving.as_ref().ok_or_else(nothing_runs)?.tell()))),
            Order::End => {
                let Receiving { meter, running, life, done } = self.receiving.take().ok_or_else(nothing_runs)?;
                drop(life);
                let delivery = running.delivery();
                let Ended { lasts, told_to_pull, dropped } = running.end(&meter).await;
                let (delivered, all_delivered) = meter.delivered_here();
                let errors = meter.errors();
                let told = Told { delivered, all_delivered, delivery, told_to_pull, dropped, done, errors, lasts };
                Ok(Answer::Told(Box::new(told)))
            }
            Order::SendNews { group_id } => {
                if self.reading.is_empty() {
                    for session in &self.sessions {
                        let mut events = Events::of(session);
                        self.reading.spawn(async move { while events.next().await.is_ok() {} });
                    }
                }
                let sender = self.sessions.first_mut().ok_or_else(nothing_runs)?;
                self.frames = opening(sender, &group_id, &self.keys).await?;
                Ok(Answer::Done)
            }
            Order::Open => Ok(Answer::Opened(self.open().await?)),
        }
    }

    async fn receive(&mut self, receive: Receive) -> Result<Receiving, Failure> {
        let Receive { to, kind, members, online, rates, since } = receive;
        let kind = ConversationType::try_from(kind).map_err(|error| Failure::other(error.to_string()))?;
        let place = Place { kind, members, online, rates };
        let sessions = std::mem::take(&mut self.sessions);
        let load = GroupLoad {
            to: to.clone(),
            kind,
            receivers: sessions.len(),
            senders: 0,
            rate: None,
            window: 1,
            size: 0,
            has_receipt: false,
        };
        let meter = Meter::since(moment::from_time(since));
        let [movers, actors] = life_of(place);
        let movers = members::log_in(movers, &self.dialer, None).await?;
        let actors = members::log_in(actors, &self.dialer, None).await?;
        let life = Life::start((&to, kind), rates, (movers, actors), &meter, &Handle::current());
        let running = group_load::start(&load, sessions, &meter, &Handle::current())?;
        let done = life.done();
        Ok(Receiving { meter, running, life: Some(life), done })
    }

    /// Lets all readers open the group at once: all sessions but the first, which has sent the message.
    async fn open(&mut self) -> Result<Opened, Failure> {
        let (began, mut opening) = (Instant::now(), JoinSet::new());
        for reader in self.sessions.drain(1.min(self.sessions.len())..) {
            opening.spawn(open(reader, self.frames.clone(), began));
        }
        let (mut answered, mut longest) = (Histogram::default(), Duration::ZERO);
        while let Some(opened) = opening.join_next().await {
            let (reader, took) = opened.map_err(|error| Failure::other(error.to_string()))??;
            answered.record(took);
            longest = longest.max(took);
            self.sessions.push(reader);
        }
        Ok(Opened { answered, longest })
    }
}

/// Sends a message, and returns what each reader writes when it opens the group.
async fn opening(sender: &mut Raw, group_id: &str, keys: &Keys) -> Result<BytesMut, Failure> {
    let (conversation_id, conversation_type) = (group_id.to_owned(), ConversationType::Group as i32);
    let send = SendMessageRequest {
        message: Some(Message::text("news")),
        to_conversation_id: conversation_id.clone(),
        conversation_type,
        config: Some(MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() }),
        client_key: keys.next(),
        omit_content: false,
    };
    let sent = sender.request(&send).await?;
    let mut frames = BytesMut::new();
    let clear = ClearConversationUnreadMessageCountRequest {
        conversation_id: conversation_id.clone(),
        conversation_type,
        through_seq: 0,
    };
    queue(CLEAR, &clear, &mut frames);
    let message_list = sent.message.into_iter().collect();
    queue(RECEIPT, &SendMessageReceiptsReadRequest { message_list, conversation_id, conversation_type }, &mut frames);
    Ok(frames)
}

/// The numbers of the requests of a reader: higher than those of its login.
const CLEAR: u64 = 1 << 32;
const RECEIPT: u64 = CLEAR + 1;

/// Opens the group. Returns when both answers are there.
async fn open(mut reader: Raw, frames: BytesMut, began: Instant) -> Result<(Raw, Duration), Failure> {
    reader.write(frames).await?;
    for _ in [CLEAR, RECEIPT] {
        outcome(reader.response().await?)?;
    }
    Ok((reader, began.elapsed()))
}
