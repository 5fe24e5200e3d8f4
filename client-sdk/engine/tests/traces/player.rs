use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use zim_engine::{Batch, Change, Name, Origin, Output, Position, Ranges, Request, State, SyncEngine};
use zim_protocol::{ConversationHead, Dirty, Page, Snapshot, SyncResult, Welcome};

use super::json;

/// What a client's database holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Store {
    position: Position,
    states: BTreeMap<Name, State>,
}

impl Store {
    /// Commits the output of a step.
    fn commit(&mut self, batch: &Batch) {
        for change in &batch.changes {
            match change {
                Change::Drop(name) => drop(self.states.remove(name)),
                Change::DropAll { .. } => self.states.clear(),
                _ => {}
            }
        }
        for saved in &batch.states {
            let before = self.states.get(&saved.name).map(|state| state.held.iter().collect::<Vec<_>>());
            let held: Ranges = before.unwrap_or_default().into_iter().chain(saved.held.iter().copied()).collect();
            let from = &saved.state;
            // The other fields are not stored.
            let state = State {
                seq: from.seq,
                rev: from.rev,
                history_seq: from.history_seq,
                head_seq: from.head_seq,
                head_rev: from.head_rev,
                tally: from.tally.clone(),
                last_ts: from.last_ts,
                known: from.known,
                from_seq: from.from_seq,
                from_rev: from.from_rev,
                held,
                ..State::default()
            };
            self.states.insert(saved.name.clone(), state);
        }
        if let Some(position) = &batch.position {
            self.position = position.clone();
        }
    }

    fn states(&self) -> Vec<(Name, State)> {
        self.states.iter().map(|(name, state)| (name.clone(), state.clone())).collect()
    }
}

/// An engine and its store. Inputs and outputs are JSON, in the form of the traces.
#[derive(Debug)]
pub(crate) struct Player {
    viewer: String,
    is_one_shot: bool,
    pub(crate) engine: SyncEngine,
    store: Store,
    /// The store before the last step.
    before: Store,
}

impl Player {
    pub(crate) fn new(viewer: &str, is_one_shot: bool) -> Self {
        let engine = start(viewer, is_one_shot, &Store::default());
        let viewer = viewer.to_owned();
        Self { viewer, is_one_shot, engine, store: Store::default(), before: Store::default() }
    }

    /// Feeds the inputs of a trace; says which step has another output.
    pub(crate) fn replay(trace: &Value) -> Result<(), String> {
        let is_one_shot = trace["isOneShot"] == true;
        let mut player = Self::new(trace["viewer"].as_str().unwrap(), is_one_shot);
        for (index, step) in trace["steps"].as_array().unwrap().iter().enumerate() {
            let mut input = step.clone();
            let then = input.as_object_mut().unwrap().remove("then").unwrap_or_else(|| json!({}));
            let (now, _) = player.step(&input);
            if now != then {
                return Err(format!("step {index} {input}\n  the trace: {then}\n  the engine: {now}"));
            }
        }
        Ok(())
    }

    /// Feeds one input. Returns the output, and the requests in it.
    pub(crate) fn step(&mut self, input: &Value) -> (Value, Vec<Request>) {
        let (kind, of) = input.as_object().unwrap().iter().next().unwrap();
        let generation = self.engine.generation();
        let mut then = Map::new();
        if let Some(lacks) = self.feed(kind, of) {
            then.insert("lacks".to_owned(), json!(lacks));
        }
        let output = self.engine.take();
        self.before = self.store.clone();
        self.store.commit(&output.batch);
        for (name, state) in self.engine.states() {
            let stored = self.store.states.get(name).map(|state| state.held.clone()).unwrap_or_default();
            assert_eq!(stored, state.held, "{name:?} after {input}");
        }
        is_from(&output.batch, input);
        let mut heads = heads(input);
        if self.engine.generation() != generation {
            then.insert("generation".to_owned(), json!(self.engine.generation()));
        }
        self.describe(&output, &mut heads, &mut then);
        (json::compact(Value::Object(then)), output.requests)
    }

    /// Calls the engine. Returns the answer to a question.
    fn feed(&mut self, kind: &str, of: &Value) -> Option<bool> {
        let engine = &mut self.engine;
        let ticket = of["ticket"].as_u64().unwrap_or(0);
        match kind {
            "online" => engine.online(&json::read::<Welcome>(of).epoch),
            "offline" => engine.offline(),
            "loggedIn" => engine.logged_in(json::read(&of["info"]), of["isNamed"] == true),
            "push" => engine.push(json::read(of), Origin::Other),
            "ownPush" => engine.push(json::read(of), Origin::Own),
            "dirty" => engine.dirtied(&json::read::<Dirty>(of)),
            "snapshot" => engine.snapshot_pushed(&json::read::<Snapshot>(of)),
            "synced" => engine.synced(ticket, json::read::<SyncResult>(&of["result"])),
            "syncFailed" => engine.sync_failed(ticket),
            "page" => engine.page(ticket, json::read::<Page>(&of["result"])),
            "pullFailed" => engine.pull_failed(ticket),
            "filled" => {
                let generation = of["generation"].as_u64().unwrap_or(0);
                engine.filled(&json::name(&of["conversation"]), generation, json::read(&of["result"]));
            }
            "open" => engine.open(&json::name(of)),
            "answered" => engine.answered(&json::name(&of["conversation"]), of["seq"].as_u64().unwrap_or(0)),
            "audit" => engine.audit(),
            "pausePulls" => engine.pause_pulls(),
            "horizon" => engine.set_horizon(of["ms"].as_i64().unwrap_or(0)),
            "restart" => self.engine = start(&self.viewer, self.is_one_shot, &self.store),
            "restore" => {
                self.store = self.before.clone();
                self.engine.restore(self.store.position.clone(), self.store.states());
            }
            "lacksBefore" => {
                return Some(engine.lacks_before(&json::name(&of["conversation"]), of["seq"].as_u64().unwrap_or(0)));
            }
            _ => panic!("an unknown input: {kind}"),
        }
        None
    }

    fn describe(&self, output: &Output, heads: &mut Vec<ConversationHead>, then: &mut Map<String, Value>) {
        let Output { batch, requests, progress } = output;
        let changes: Vec<Value> =
            batch.changes.iter().map(|change| json::change(change, &self.viewer, heads)).collect();
        // The order of states has no meaning.
        let mut names: Vec<&Name> = batch.states.iter().map(|saved| &saved.name).collect();
        names.sort();
        let states: Vec<Value> = names.iter().map(|name| json::state(name, &self.store.states[*name])).collect();
        then.insert("changes".to_owned(), json!(changes));
        then.insert("states".to_owned(), json!(states));
        then.insert("position".to_owned(), json!(batch.position.as_ref().map(json::position)));
        then.insert("requests".to_owned(), requests.iter().map(json::request).collect());
        then.insert("progress".to_owned(), progress.iter().map(|progress| json::progress(*progress)).collect());
    }
}

fn start(viewer: &str, is_one_shot: bool, store: &Store) -> SyncEngine {
    let engine = SyncEngine::new(viewer, store.position.clone(), store.states());
    if is_one_shot { engine.without_pulls() } else { engine }
}

/// The heads in an input, in the order in which they are applied.
fn heads(input: &Value) -> Vec<ConversationHead> {
    let result = &input["synced"]["result"];
    let feeds = [&input["push"]["feed"], &input["ownPush"]["feed"], &result["feed"]];
    let of_feeds = feeds.into_iter().filter_map(Value::as_array).flatten().map(|entry| &entry["conversation"]);
    let heads = of_feeds.chain(result["heads"].as_array().into_iter().flatten());
    heads.filter(|head| head.is_object()).map(json::read).collect()
}

/// The traces name messages and changes by their positions, because they are those of the input, as they are.
fn is_from(batch: &Batch, input: &Value) {
    let text = input.to_string();
    for change in &batch.changes {
        let entries: Vec<Value> = match change {
            Change::Messages { entries, .. } => entries.iter().map(json::of).collect(),
            Change::Changes { entries, .. } => entries.iter().map(json::of).collect(),
            _ => continue,
        };
        for entry in entries {
            assert!(text.contains(&entry.to_string()), "{entry} is not in {input}");
        }
    }
}
