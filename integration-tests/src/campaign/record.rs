//! Every call, answer, event and fault of a run, in the order in which the harness saw them.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use super::plan::{Action, Fault};

/// A point in the order of everything.
pub type Moment = u64;
/// Questions of the harness's own have numbers from here.
const QUESTIONS: u64 = 1 << 32;

/// Something that a device was asked to do.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which device.
    pub device: usize,
    /// Which of its lives: each opening is a new one.
    pub incarnation: u32,
    /// What.
    pub action: Action,
    /// The text, or the name.
    pub text: String,
    /// When.
    pub called: Moment,
    /// The answer; a failure says why. `None`: there was none.
    pub answer: Option<(Moment, Result<Value, Failure>)>,
}

impl Call {
    /// When it succeeded.
    pub fn acknowledged(&self) -> Option<(Moment, &Value)> {
        self.answer.as_ref().and_then(|(at, result)| result.as_ref().ok().map(|ok| (*at, ok)))
    }
}

/// Why a call failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The reference's code; 0 if the device's process is gone.
    pub code: i64,
    /// The sentence.
    pub message: String,
}

/// An event that a device raised.
#[derive(Clone, Debug)]
pub struct RaisedEvent {
    /// Which device.
    pub device: usize,
    /// Which of its lives.
    pub incarnation: u32,
    /// When.
    pub at: Moment,
    /// What.
    pub event: Value,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Events {
    /// In the order of the calls.
    pub calls: Vec<Call>,
    /// In the order of arrival.
    pub raised: Vec<RaisedEvent>,
    /// What was done to them, and when.
    pub faults: Vec<(Moment, Fault)>,
    /// What is worth knowing besides.
    pub notes: Vec<(Moment, String)>,
    now: Moment,
    logged_in: HashMap<usize, u32>,
    questions: HashMap<u64, (usize, oneshot::Sender<Value>)>,
    next_question: u64,
}

impl Events {
    fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }
}

/// The record of a run. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Record {
    events: Arc<Mutex<Events>>,
    changed: Arc<watch::Sender<()>>,
}

impl Record {
    /// What happened so far.
    pub fn read<T>(&self, observe: impl FnOnce(&Events) -> T) -> T {
        observe(&self.events.lock())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Events) -> T) -> T {
        let changed = change(&mut self.events.lock());
        self.changed.send_replace(());
        changed
    }

    /// Told whenever something was recorded.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Notes a call; returns its number and its words, which nobody else says.
    pub fn call(&self, device: usize, incarnation: u32, action: Action) -> (u64, String) {
        self.change(|events| {
            let number = events.calls.len();
            let poison = matches!(action, Action::Send { is_poison: true, .. });
            let end = if poison { format!(" {}", super::plan::POISON) } else { String::new() };
            let text = format!("{device}/{incarnation}/{number}{end}");
            let called = events.tick();
            events.calls.push(Call { device, incarnation, action, text: text.clone(), called, answer: None });
            (number as u64, text)
        })
    }

    /// A question of the harness's own to a device; returns its number and where the answer comes.
    pub fn question(&self, device: usize) -> (u64, oneshot::Receiver<Value>) {
        self.change(|events| {
            events.next_question += 1;
            let id = QUESTIONS + events.next_question;
            let (tell, told) = oneshot::channel();
            events.questions.insert(id, (device, tell));
            (id, told)
        })
    }

    /// Notes what went wrong.
    pub fn fault(&self, fault: &Fault) -> Moment {
        self.change(|events| {
            let now = events.tick();
            events.faults.push((now, fault.clone()));
            now
        })
    }

    /// Notes something.
    pub fn note(&self, what: impl Into<String>) -> Moment {
        self.change(|events| {
            let now = events.tick();
            events.notes.push((now, what.into()));
            now
        })
    }

    /// A line that a device printed.
    pub fn heard(&self, device: usize, incarnation: u32, line: &str) {
        // The last line of a process that was killed may be half a line.
        let Ok(mut said) = serde_json::from_str::<Value>(line) else { return };
        self.change(|events| {
            let at = events.tick();
            if said["event"].is_object() {
                events.raised.push(RaisedEvent { device, incarnation, at, event: said["event"].take() });
            } else if said["logged_in"].is_boolean() {
                events.logged_in.insert(device, incarnation);
            } else if let Some(id) = said["id"].as_u64() {
                let result = match said["error"].take() {
                    Value::Null => Ok(said["ok"].take()),
                    error => Err(Failure {
                        code: error["code"].as_i64().unwrap_or(0),
                        message: error["message"].as_str().unwrap_or_default().to_owned(),
                    }),
                };
                if let Some((_, tell)) = events.questions.remove(&id) {
                    let answer = result.unwrap_or_else(|failure| json!({"error": failure.message}));
                    // Whoever asked may have given up.
                    let _ = tell.send(answer);
                } else if let Some(call) = usize::try_from(id).ok().and_then(|id| events.calls.get_mut(id)) {
                    call.answer = Some((at, result));
                }
            } else {
                events.notes.push((at, format!("device {device}: {said}")));
            }
        });
    }

    /// A device is no more: what it was asked is not answered.
    pub fn process_ended(&self, device: usize) {
        self.change(|events| {
            let at = events.tick();
            let unanswered = events.calls.iter_mut().filter(|call| call.device == device && call.answer.is_none());
            for call in unanswered {
                call.answer = Some((at, Err(Failure { code: 0, message: "its process has ended".to_owned() })));
            }
            events.questions.retain(|_, (of, _)| *of != device);
        });
    }

    /// Whether this life of a device has logged in.
    pub fn is_logged_in(&self, device: usize, incarnation: u32) -> bool {
        self.read(|events| events.logged_in.get(&device).is_some_and(|newest| *newest >= incarnation))
    }

    /// All of it, a line each, for people.
    pub fn text(&self) -> String {
        self.read(|events| {
            let mut lines: Vec<(Moment, String)> = Vec::new();
            for (number, call) in events.calls.iter().enumerate() {
                let who = format!("device {} incarnation {}", call.device, call.incarnation);
                lines.push((call.called, format!("{who} call {number}: {:?} {}", call.action, call.text)));
                if let Some((at, answer)) = &call.answer {
                    lines.push((*at, format!("{who} answer {number}: {answer:?}")));
                }
            }
            for one in &events.raised {
                lines.push((
                    one.at,
                    format!("device {} incarnation {} event: {}", one.device, one.incarnation, one.event),
                ));
            }
            lines.extend(events.faults.iter().map(|(at, fault)| (*at, format!("fault: {fault:?}"))));
            lines.extend(events.notes.iter().cloned());
            lines.sort_by_key(|(at, _)| *at);
            lines.into_iter().fold(String::new(), |mut text, (at, line)| {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{at:6} {line}");
                text
            })
        })
    }
}
