//! Every call, answer, event and fault of a run, in the order in which the harness saw them.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use super::action::{Action, CallVerb};
use super::plan::Fault;

/// A position in the order of the record.
pub(super) type Moment = u64;
/// The first number of the harness's own queries.
const QUERIES: u64 = 1 << 32;

/// How many calls a device chooses from.
const CALLS: usize = 3;

/// An action that a device was told to execute.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// The device.
    pub(super) device: usize,
    /// The incarnation of the device: each opening starts a new one.
    pub(super) incarnation: u32,
    /// The action.
    pub(super) action: Action,
    /// The text or name that the action sets, unique to the call.
    pub(super) text: String,
    /// The call that it concerns; empty: none, or a new one.
    pub(super) call_id: String,
    /// When it was called.
    pub(super) called: Moment,
    /// When it was answered, and the result; `None` without an answer.
    pub(super) answer: Option<(Moment, Result<Value, Failure>)>,
}

impl Call {
    /// Returns when it succeeded, and the result.
    pub(super) fn acknowledged(&self) -> Option<(Moment, &Value)> {
        self.answer.as_ref().and_then(|(at, result)| result.as_ref().ok().map(|ok| (*at, ok)))
    }
}

/// Why a call failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The reference's code; 0 if the device's process has ended.
    pub(super) code: i64,
    /// The message.
    pub(super) message: String,
}

/// An event that a device raised.
#[derive(Clone, Debug)]
pub(super) struct RaisedEvent {
    /// The device.
    pub(super) device: usize,
    /// The incarnation of the device.
    pub(super) incarnation: u32,
    /// When it arrived.
    pub(super) at: Moment,
    /// The event as JSON.
    pub(super) event: Value,
}

/// The recorded events of a run.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// All calls, in order.
    pub(super) calls: Vec<Call>,
    /// All events of devices, in the order of arrival.
    pub(super) raised: Vec<RaisedEvent>,
    /// All faults.
    pub(super) faults: Vec<(Moment, Fault)>,
    /// Other notes, for the text of the record.
    pub(super) notes: Vec<(Moment, String)>,
    unanswered: usize,
    now: Moment,
    logged_in: HashMap<usize, u32>,
    queries: HashMap<u64, (usize, oneshot::Sender<Value>)>,
    next_query: u64,
}

impl Events {
    /// Returns how many calls have no answer. A long run asks for it after every event.
    pub(super) fn unanswered(&self) -> usize {
        self.unanswered
    }

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
    /// Reads what was recorded so far.
    pub(super) fn read<T>(&self, observe: impl FnOnce(&Events) -> T) -> T {
        observe(&self.events.lock())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Events) -> T) -> T {
        let changed = change(&mut self.events.lock());
        self.changed.send_replace(());
        changed
    }

    /// Returns a receiver that is notified of every record.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Records a call; returns its number and its unique text.
    pub(super) fn call(&self, device: usize, incarnation: u32, action: Action, call_id: &str) -> (u64, String) {
        self.change(|events| {
            let number = events.calls.len();
            let poison = matches!(action, Action::Send { is_poison: true, .. });
            let end = if poison { format!(" {}", super::plan::POISON) } else { String::new() };
            let text = format!("{device}/{incarnation}/{number}{end}");
            let called = events.tick();
            events.unanswered += 1;
            let (call_text, call_id) = (text.clone(), call_id.to_owned());
            events.calls.push(Call { device, incarnation, action, text: call_text, call_id, called, answer: None });
            (number as u64, text)
        })
    }

    /// Chooses the call that an action of a device concerns, among the last ones that it may have heard of; `None` if there are none.
    /// Returns an empty string if the action needs none.
    pub(super) fn call_for(&self, device: usize, action: &Action) -> Option<String> {
        let Action::Call { verb, pick, .. } = action else { return Some(String::new()) };
        let name = match verb {
            CallVerb::Invite { .. } => return Some(String::new()),
            CallVerb::Accept | CallVerb::Reject => "callInvitationReceived",
            CallVerb::Cancel | CallVerb::TakeBack | CallVerb::Join => "callInvitationCreated",
            CallVerb::Add | CallVerb::Quit | CallVerb::End => "callUserStateChanged",
        };
        // Whoever knows the ID may join.
        let is_of_anybody = *verb == CallVerb::Join;
        self.read(|events| {
            let mut found: Vec<&str> = Vec::new();
            let heard = events.raised.iter().rev().filter(|one| is_of_anybody || one.device == device);
            for call_id in heard.filter(|one| one.event["name"] == name).filter_map(|one| one.event["callID"].as_str())
            {
                if !found.contains(&call_id) {
                    found.push(call_id);
                }
                if found.len() == CALLS {
                    break;
                }
            }
            let at = usize::try_from(*pick).unwrap_or(0).checked_rem(found.len())?;
            Some(found[at].to_owned())
        })
    }

    /// Records a query of the harness to a device; returns its number and the receiver of the answer.
    pub(super) fn query(&self, device: usize) -> (u64, oneshot::Receiver<Value>) {
        self.change(|events| {
            events.next_query += 1;
            let id = QUERIES + events.next_query;
            let (sender, receiver) = oneshot::channel();
            events.queries.insert(id, (device, sender));
            (id, receiver)
        })
    }

    /// Records a fault.
    pub(super) fn fault(&self, fault: &Fault) -> Moment {
        self.change(|events| {
            let now = events.tick();
            events.faults.push((now, fault.clone()));
            now
        })
    }

    /// Records a note.
    pub(super) fn note(&self, what: impl Into<String>) -> Moment {
        self.change(|events| {
            let now = events.tick();
            events.notes.push((now, what.into()));
            now
        })
    }

    /// Records a line that a device printed.
    pub(super) fn line(&self, device: usize, incarnation: u32, line: &str) {
        // The last line of a killed process may be incomplete.
        let Ok(mut line) = serde_json::from_str::<Value>(line) else { return };
        self.change(|events| {
            let at = events.tick();
            if line["event"].is_object() {
                events.raised.push(RaisedEvent { device, incarnation, at, event: line["event"].take() });
            } else if line["logged_in"].is_boolean() {
                events.logged_in.insert(device, incarnation);
            } else if let Some(id) = line["id"].as_u64() {
                let result = match line["error"].take() {
                    Value::Null => Ok(line["ok"].take()),
                    error => Err(Failure {
                        code: error["code"].as_i64().unwrap_or(0),
                        message: error["message"].as_str().unwrap_or_default().to_owned(),
                    }),
                };
                if let Some((_, sender)) = events.queries.remove(&id) {
                    let answer = result.unwrap_or_else(|failure| json!({"error": failure.message}));
                    // Fails when the query timed out.
                    let _ = sender.send(answer);
                } else if let Some(call) = usize::try_from(id).ok().and_then(|id| events.calls.get_mut(id)) {
                    events.unanswered -= usize::from(call.answer.is_none());
                    call.answer = Some((at, result));
                }
            } else {
                events.notes.push((at, format!("device {device}: {line}")));
            }
        });
    }

    /// Records the end of a device's process: what was not answered fails.
    pub(super) fn process_ended(&self, device: usize) {
        self.change(|events| {
            let at = events.tick();
            let unanswered = events.calls.iter_mut().filter(|call| call.device == device && call.answer.is_none());
            for call in unanswered {
                events.unanswered -= 1;
                call.answer = Some((at, Err(Failure { code: 0, message: "its process has ended".to_owned() })));
            }
            events.queries.retain(|_, (of, _)| *of != device);
        });
    }

    /// Whether this incarnation of a device has logged in.
    pub(super) fn is_logged_in(&self, device: usize, incarnation: u32) -> bool {
        self.read(|events| events.logged_in.get(&device).is_some_and(|newest| *newest >= incarnation))
    }

    /// Returns the record as text, a line for each entry.
    pub fn text(&self) -> String {
        self.read(|events| {
            let mut lines: Vec<(Moment, String)> = Vec::new();
            for (number, call) in events.calls.iter().enumerate() {
                let who = format!("device {} incarnation {}", call.device, call.incarnation);
                lines.push((
                    call.called,
                    format!("{who} call {number}: {:?} {} {}", call.action, call.text, call.call_id),
                ));
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
