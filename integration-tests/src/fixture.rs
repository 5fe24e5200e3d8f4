//! Data that an earlier build wrote, for tests that open it with this build. A fixture is a folder of
//! `integration-tests/fixtures`, named after the commit that wrote it; its README describes the content. A fixture
//! never changes: a test works on a private copy.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};
use zim_protocol::clock::Clock;
use zim_protocol::token::Token;
use zim_protocol::{
    BlacklistQueryConfig, FriendApplicationListQueryConfig, FriendListQueryConfig, LoginConfig,
    SubscribedUserStatusQueryConfig,
};

use crate::database::is_postgres;
use crate::device::{DataDir, Device};
use crate::wait::soon;

/// The validity of tokens, seconds: longer than any test.
const TOKEN_S: i64 = 24 * 3_600;

/// A fixture for the database of this run.
#[derive(Clone, Debug)]
pub struct Fixture {
    folder: PathBuf,
    manifest: Value,
}

/// An app of a fixture.
#[derive(Clone, Debug)]
pub struct App {
    /// The app id.
    pub app_id: u32,
    /// The app sign, the secret of its clients.
    pub app_sign: String,
    /// The server secret, the key of its tokens.
    pub server_secret: String,
}

impl Fixture {
    /// Opens the fixture of a commit.
    pub fn named(name: &str) -> Self {
        let kind = if is_postgres() { "postgres" } else { "sqlite" };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name).join(kind);
        let file = folder.join("manifest.json");
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self { folder, manifest: serde_json::from_str(&text).unwrap() }
    }

    /// Returns the expected content. The README of the fixture describes it.
    pub fn manifest(&self) -> &Value {
        &self.manifest
    }

    /// Returns when it was written, Unix milliseconds. The test's clock starts there.
    pub(crate) fn made_at_ms(&self) -> i64 {
        self.manifest["madeAtMs"].as_i64().expect("madeAtMs")
    }

    /// Returns the server's data folder.
    pub(crate) fn server(&self) -> PathBuf {
        self.folder.join("server")
    }

    /// Returns the dump of the server's PostgreSQL database.
    pub(crate) fn dump(&self) -> PathBuf {
        self.folder.join("dump.sql")
    }

    /// Returns pairs of a device and a user of the first app that has a database on it.
    pub fn devices(&self) -> Vec<(String, String)> {
        let prefix = format!("{}-", self.app("first").app_id);
        let mut devices = Vec::new();
        for (device, databases) in self.manifest["devices"].as_object().expect("devices") {
            for file in databases.as_object().expect("databases").keys() {
                let user = file.strip_prefix(&prefix).and_then(|file| file.strip_suffix(".db"));
                let user =
                    user.map(|hex| self.users("first").keys().find(|id| zim_protocol::id::hex(id.as_bytes()) == hex));
                devices.extend(user.map(|user| (device.clone(), user.expect("a user of the first app").clone())));
            }
        }
        devices
    }

    /// Copies a device's folder.
    pub fn device(&self, name: &str) -> DataDir {
        DataDir::copy_of(&self.folder.join("devices").join(name))
    }

    /// Returns what the database of a user on a device held: `pendingEvents`, `unsent` messages, `localData`, and for
    /// each conversation the position `raisedTo` of the last raised message.
    ///
    /// # Panics
    /// The user of the first app has no database on this device.
    pub fn facts(&self, device: &str, user_id: &str) -> &Value {
        let file = format!("{}-{}.db", self.app("first").app_id, zim_protocol::id::hex(user_id.as_bytes()));
        let facts = &self.manifest["devices"][device][&file];
        assert!(facts.is_object(), "{device} has no {file}");
        facts
    }

    /// Returns an app: `first` or `second`.
    pub fn app(&self, name: &str) -> App {
        let app = &self.manifest["apps"][name];
        let text = |field: &str| app[field].as_str().unwrap_or_else(|| panic!("app {name} has no {field}")).to_owned();
        let app_id = app["appID"].as_u64().and_then(|id| id.try_into().ok()).expect("appID");
        App { app_id, app_sign: text("appSign"), server_secret: text("serverSecret") }
    }

    /// Returns what each user of an app saw, in the form of [`view`].
    pub fn users(&self, app: &str) -> &Map<String, Value> {
        self.manifest["apps"][app]["users"].as_object().expect("users")
    }
}

impl App {
    /// Returns a login with a token.
    pub fn with_token(&self, user_id: &str, clock: &Clock) -> LoginConfig {
        let token = Token::generate(self.app_id, user_id, &self.server_secret, clock.now_s(), TOKEN_S).unwrap();
        LoginConfig { token, ..LoginConfig::default() }
    }
}

/// Queries everything that a user can query through a device, without fields that hold their defaults.
pub async fn view(device: &Device) -> Value {
    let conversations = device.conversations().await;
    let mut histories = Map::new();
    for conversation in &conversations {
        let history = device.history(&conversation.conversation_id).await;
        histories.insert(conversation.conversation_id.clone(), to_json(&history));
    }
    json!({
        "conversations": to_json(&conversations),
        "histories": histories,
        "unread": device.total_unread().await,
        "friends": to_json(&friends(device).await),
        "applications": to_json(&applications(device).await),
        "blacklist": to_json(&blacklist(device).await),
        "subscriptions": to_json(&subscriptions(device).await),
        "self": to_json(&soon(device.query_self_user_info()).await.unwrap().self_user_info),
    })
}

async fn friends(device: &Device) -> Vec<zim_protocol::FriendInfo> {
    let config = FriendListQueryConfig { next_flag: 0, count: 100 };
    soon(device.query_friend_list(config)).await.unwrap().friend_list
}

async fn applications(device: &Device) -> Vec<zim_protocol::FriendApplicationInfo> {
    let config = FriendApplicationListQueryConfig { next_flag: 0, count: 100 };
    soon(device.query_friend_application_list(config)).await.unwrap().application_list
}

async fn blacklist(device: &Device) -> Vec<zim_protocol::UserInfo> {
    let config = BlacklistQueryConfig { next_flag: 0, count: 100 };
    soon(device.query_blacklist(config)).await.unwrap().blacklist
}

async fn subscriptions(device: &Device) -> Vec<zim_protocol::UserStatusSubscription> {
    let config = SubscribedUserStatusQueryConfig { user_ids: Vec::new() };
    soon(device.query_subscribed_user_status_list(config)).await.unwrap().user_status_subscription_list
}

/// Removes from a view what belongs to one device only: local extended data, unsent messages and the user's status.
#[must_use]
pub fn without_device_state(mut view: Value) -> Value {
    let is_stored = |message: &Value| message["messageSeq"].as_i64().is_some_and(|seq| seq > 0);
    let remove_local_data =
        |message: &mut Value| drop(message.as_object_mut().and_then(|m| m.remove("localExtendedData")));
    if let Some(list) = view["conversations"].as_array_mut() {
        list.retain(|conversation| is_stored(&conversation["lastMessage"]));
        list.iter_mut().for_each(|conversation| remove_local_data(&mut conversation["lastMessage"]));
    }
    if let Some(histories) = view["histories"].as_object_mut() {
        for history in histories.values_mut().filter_map(Value::as_array_mut) {
            history.retain(is_stored);
            history.iter_mut().for_each(remove_local_data);
        }
        histories.retain(|_, history| history.as_array().is_some_and(|history| !history.is_empty()));
    }
    if let Some(own) = view["self"].as_object_mut() {
        own.remove("userStatus");
    }
    view
}

/// Asserts that two values are equal; the message shows the first ten differences.
///
/// # Panics
/// They differ.
pub fn assert_same(what: &str, actual: &Value, expected: &Value) {
    let mut found = Vec::new();
    differences(what, actual, expected, &mut found);
    assert!(found.is_empty(), "values differ:\n{}", found[..found.len().min(10)].join("\n"));
}

fn differences(at: &str, actual: &Value, expected: &Value, found: &mut Vec<String>) {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => {
            let names: BTreeSet<&String> = actual.keys().chain(expected.keys()).collect();
            for name in names {
                let value = |fields: &Map<String, Value>| fields.get(name).cloned().unwrap_or_default();
                differences(&format!("{at}.{name}"), &value(actual), &value(expected), found);
            }
        }
        (Value::Array(actual), Value::Array(expected)) if actual.len() == expected.len() => {
            for (number, (actual, expected)) in actual.iter().zip(expected).enumerate() {
                differences(&format!("{at}[{number}]"), actual, expected, found);
            }
        }
        _ if actual == expected => {}
        _ => found.push(format!("{at}: {actual} instead of {expected}")),
    }
}

/// Converts a value to JSON, without fields that hold their defaults.
pub fn to_json(value: &impl Serialize) -> Value {
    without_defaults(serde_json::to_value(value).unwrap())
}

fn without_defaults(value: Value) -> Value {
    match value {
        Value::Array(list) => list.into_iter().map(without_defaults).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, without_defaults(value)));
            Value::Object(fields.filter(|(_, value)| !is_default(value)).collect())
        }
        other => other,
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_i64() == Some(0),
        Value::String(value) => value.is_empty(),
        Value::Array(value) => value.is_empty(),
        Value::Object(value) => value.is_empty(),
    }
}
