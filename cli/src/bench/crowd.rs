//! The members of a group or a room as a process of their own, by default with the lowest priority. Elsewhere their devices are other
//! machines: here they would take the processors from the server and from the users whose latencies are measured. What they measure is
//! told when it is asked for, one line of JSON for each order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use super::apart::Priority;
use super::group_life::{Done, Rates};
use super::group_load::Last;
use super::histogram::Histogram;
use super::load::DRAIN;
use super::meter::Meter;
use super::target::Target;
use crate::exit::Failure;

/// How often the crowd is asked for the messages that are still on their way.
const STEP: Duration = Duration::from_millis(50);
/// How long the process has to end.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

/// What the crowd is asked to do.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Order {
    /// Log in members by their numbers, who enter the room if there is one.
    LogIn { online: Range<usize>, room: Option<String> },
    /// Receive what is sent to a group or a room, and do what happens there beside the messages.
    Receive(Receive),
    /// Begin or end the measurement.
    Measure(bool),
    /// Tell what was measured until now.
    Tell,
    /// End the load, and tell the rest of it.
    End,
    /// Send a message to a group that asks for receipts. All but one of the crowd are its readers.
    SendNews { group_id: String },
    /// Let all readers open the group.
    Open,
}

/// What the members of a group or a room receive.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Receive {
    pub(crate) to: String,
    /// `ConversationType`
    pub(crate) kind: i32,
    pub(crate) members: usize,
    /// Those who are online, with those who send.
    pub(crate) online: usize,
    pub(crate) rates: Rates,
    /// From when on the times of messages count.
    pub(crate) since: Duration,
}

/// What the crowd answers.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Answer {
    Done,
    Told(Box<Told>),
    Opened(Opened),
    Failed(String),
}

/// What the crowd has received and done.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Told {
    /// Deliveries in the measurement, and all.
    pub(crate) delivered: u64,
    pub(crate) all_delivered: u64,
    /// The latencies of those in the measurement.
    pub(crate) delivery: Histogram,
    pub(crate) told_to_pull: u64,
    pub(crate) dropped: u64,
    pub(crate) done: Done,
    pub(crate) errors: BTreeMap<String, u64>,
    /// The last deliveries within the crowd; only at the end.
    pub(crate) lasts: Vec<Last>,
}

/// How long the readers waited for their answers, since all of them began.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Opened {
    pub(crate) answered: Histogram,
    pub(crate) longest: Duration,
}

/// The first line that the crowd prints.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Ready {
    /// Its priority: 0 is normal, and 19 the lowest. Not known on other systems than Unix.
    pub(crate) niceness: Option<i32>,
}

/// The process, as the benchmark sees it. It ends with this.
#[derive(Debug)]
pub(crate) struct Crowd {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    niceness: Option<i32>,
    /// Members are logged in, who receive messages.
    has_members: bool,
    /// The deliveries that the meter knows of: those in the measurement, and all.
    counted: (u64, u64),
}

fn ended(reason: impl std::fmt::Display) -> Failure {
    Failure::other(format!("the process of the members has ended: {reason}"))
}

impl Crowd {
    /// Starts the process.
    pub(crate) async fn start(target: &Target, priority: Priority) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "crowd"]);
        if priority == Priority::Same {
            command.arg("--same-priority");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::other(format!("the process of the members cannot be started: {error}")))?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(ended("it has no pipes"));
        };
        let answers = BufReader::new(answers).lines();
        let mut crowd = Self { child, orders, answers, niceness: None, has_members: false, counted: (0, 0) };
        // Not as an argument: every user of the machine can see those, and this has the app sign.
        crowd.write(&target.reach()).await?;
        crowd.niceness = serde_json::from_str::<Ready>(&crowd.line().await?)?.niceness;
        Ok(crowd)
    }

    /// Its priority, if it is known: 19 is the lowest.
    pub(crate) fn niceness(&self) -> Option<i32> {
        self.niceness
    }

    pub(crate) fn has_members(&self) -> bool {
        self.has_members
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    async fn write(&mut self, what: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_string(what)?;
        line.push('\n');
        self.orders.write_all(line.as_bytes()).await.map_err(ended)?;
        self.orders.flush().await.map_err(ended)
    }

    async fn line(&mut self) -> Result<String, Failure> {
        self.answers.next_line().await.map_err(ended)?.ok_or_else(|| ended("it has closed its output"))
    }

    async fn ask(&mut self, order: &Order) -> Result<Answer, Failure> {
        self.write(order).await?;
        let answer: Answer = serde_json::from_str(&self.line().await?)?;
        match answer {
            Answer::Failed(message) => Err(Failure::other(message)),
            answer => Ok(answer),
        }
    }

    pub(crate) async fn log_in(&mut self, online: Range<usize>, room: Option<&str>) -> Result<(), Failure> {
        self.has_members = !online.is_empty();
        self.ask(&Order::LogIn { online, room: room.map(str::to_owned) }).await.map(drop)
    }

    pub(crate) async fn receive(&mut self, receive: Receive) -> Result<(), Failure> {
        self.ask(&Order::Receive(receive)).await.map(drop)
    }

    /// Begins or ends the measurement.
    pub(crate) async fn measure(&mut self, on: bool) -> Result<(), Failure> {
        self.ask(&Order::Measure(on)).await.map(drop)
    }

    pub(crate) async fn send_news(&mut self, group_id: String) -> Result<(), Failure> {
        self.ask(&Order::SendNews { group_id }).await.map(drop)
    }

    /// Lets all readers open the group. Returns when all of them have their answers.
    pub(crate) async fn open(&mut self) -> Result<Opened, Failure> {
        match self.ask(&Order::Open).await? {
            Answer::Opened(opened) => Ok(opened),
            _ => Err(ended("its answer is to something else")),
        }
    }

    /// Returns what the crowd has received and done until now. The meter counts its deliveries.
    pub(crate) async fn tell(&mut self, meter: &Meter) -> Result<Told, Failure> {
        self.told(&Order::Tell, meter).await
    }

    async fn told(&mut self, order: &Order, meter: &Meter) -> Result<Told, Failure> {
        let Answer::Told(told) = self.ask(order).await? else {
            return Err(ended("its answer is to something else"));
        };
        let (measured, all) = std::mem::replace(&mut self.counted, (told.delivered, told.all_delivered));
        meter.deliver_elsewhere(told.delivered - measured, told.all_delivered - all);
        Ok(*told)
    }

    /// Waits for messages that are on their way, and ends the process. Returns all that it has measured.
    pub(crate) async fn end(mut self, meter: &Meter) -> Result<Told, Failure> {
        let until = Instant::now() + DRAIN;
        loop {
            self.tell(meter).await?;
            if meter.missing() == 0 || Instant::now() >= until {
                break;
            }
            sleep(STEP).await;
        }
        let told = self.told(&Order::End, meter).await?;
        drop(self.orders);
        // Otherwise it is killed.
        drop(timeout(ENDED_WITHIN, self.child.wait()).await);
        Ok(told)
    }
}
