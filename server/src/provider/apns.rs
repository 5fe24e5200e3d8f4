//! Apple's push service, over HTTP/2, with a token.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Version};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zim_protocol::PushSource;

use super::http::{self, Reply};
use super::jwt::{Kept, Key};
use super::resources::{Resource, Resources};
use super::{Answer, Device, Meaning, Notification, Rules};

const ENDPOINT: &str = "https://api.push.apple.com";
const SANDBOX: &str = "https://api.sandbox.push.apple.com";
/// How long a token is used, seconds. Apple wants it to be between 20 and 60 minutes old.
const TOKEN_S: i64 = 50 * 60;
/// What Apple takes, bytes.
const MAX_BYTES: usize = 4_096;
/// The same of calls.
const MAX_CALL_BYTES: usize = 5_120;
/// What the topic of calls ends with.
const VOIP: &str = ".voip";

/// The settings.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Settings {
    /// The ID of the key, as Apple's console shows it.
    key_id: String,
    team_id: String,
    /// The contents of the .p8 file.
    private_key: String,
    /// The bundle ID of the app.
    topic: String,
    /// For builds that are under development.
    #[serde(default)]
    sandbox: bool,
    /// What the names that pushes may have stand for.
    #[serde(default)]
    resources: Resources,
    /// Another address than Apple's, such as that of a proxy.
    #[serde(default)]
    endpoint: String,
    /// PEM certificates that are trusted instead of the system's.
    #[serde(default)]
    ca: String,
}

/// An app's access to APNs.
pub(super) struct Apns {
    base: String,
    /// The tokens of which builds the endpoint knows, for the operator.
    environment: &'static str,
    topic: String,
    key_id: String,
    team_id: String,
    key: Key,
    token: Kept,
    resources: Resources,
    client: Client,
}

impl std::fmt::Debug for Apns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Apns").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Apns {
    pub(super) fn new(settings: Settings, rules: Rules) -> Result<Self, String> {
        let Settings { key_id, team_id, private_key, topic, sandbox, resources, endpoint, ca } = settings;
        resources.check()?;
        for (name, value) in [("keyId", &key_id), ("teamId", &team_id), ("topic", &topic)] {
            if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(format!("{name} is missing"));
            }
        }
        let usual = if sandbox { SANDBOX } else { ENDPOINT };
        let base = if endpoint.is_empty() { usual } else { endpoint.trim_end_matches('/') };
        if !base.starts_with("https://") {
            return Err("endpoint must be an https address".to_owned());
        }
        Ok(Self {
            base: base.to_owned(),
            environment: if sandbox { "sandbox" } else { "production" },
            topic,
            key_id,
            team_id,
            key: Key::p256(&private_key).map_err(|problem| format!("privateKey: {problem}"))?,
            token: Kept::default(),
            resources,
            client: http::client(&ca, rules.timeout, false)?,
        })
    }

    pub(super) async fn send(&self, push: &Notification, device: &Device, now_ms: i64) -> Answer {
        let token = match self.token(now_ms / 1_000) {
            Ok(token) => token,
            Err(problem) => return Answer::refused(problem),
        };
        let rings = device.source == PushSource::ApnsVoip;
        let (kind, topic) =
            if rings { ("voip", format!("{}{VOIP}", self.topic)) } else { ("alert", self.topic.clone()) };
        let resource = self.resources.of(&push.config, |sound| Resource { sound, ..Resource::default() });
        let request = self
            .client
            .post(format!("{}/3/device/{}", self.base, device.token))
            .version(Version::HTTP_2)
            .bearer_auth(&token)
            .header(CONTENT_TYPE, "application/json")
            .header("apns-topic", &topic)
            .header("apns-push-type", kind)
            // A call rings at once.
            .header("apns-priority", resource.priority.filter(|_| !rings).unwrap_or(10).to_string())
            .header("apns-expiration", (push.expires_at / 1_000).to_string());
        // A call rings, or it does not: nothing is kept and replaced.
        let request = if rings { request } else { request.header("apns-collapse-id", push.collapse_id()) };
        let most = if rings { MAX_CALL_BYTES } else { MAX_BYTES };
        let body = push.fitted(most, |push| payload(push, &resource, rings).to_string().into_bytes());
        match http::ask(request.body(body)).await {
            Ok(reply) => {
                let answer = answer(&reply, (self.environment, &topic));
                if reply.status.as_u16() == 403 {
                    self.token.clear(&token);
                }
                answer
            }
            Err(answer) => answer,
        }
    }

    fn token(&self, now_s: i64) -> Result<String, String> {
        if let Some(token) = self.token.get(now_s) {
            return Ok(token);
        }
        let token = self.key.sign(Some(&self.key_id), &json!({"iss": self.team_id, "iat": now_s}))?;
        self.token.put(&token, now_s + TOKEN_S);
        Ok(token)
    }
}

/// Returns what an answer means. Apple names the reason in the body.
///
/// A token that is not valid here never becomes so, whatever the cause: a device that is gone, a build of another environment, or
/// settings that are wrong. So its registration is removed, and the app registers again at its next login. The operator reads what
/// the token was tried with.
fn answer(reply: &Reply, (environment, topic): (&str, &str)) -> Answer {
    let answer = reply.answer();
    let body: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let reason = body["reason"].as_str().unwrap_or_default();
    let (meaning, hint) = match (reply.status.as_u16(), reason) {
        (400, "BadDeviceToken") => {
            (Meaning::Gone(None), format!(": not valid, or not of the {environment} environment"))
        }
        (400, "DeviceTokenNotForTopic") => (Meaning::Gone(None), format!(": not of the topic {topic}")),
        (410, _) => (Meaning::Gone(body["timestamp"].as_i64()), String::new()),
        // The next attempt has a new token.
        (403, "ExpiredProviderToken") => (Meaning::Later(None), String::new()),
        (404, _) => (Meaning::Refused, String::new()),
        _ => (answer.meaning, String::new()),
    };
    match reason {
        "" => Answer { meaning, ..answer },
        reason => Answer::new(meaning, format!("{} {reason}{hint}", reply.status.as_u16())),
    }
}

fn payload(push: &Notification, resource: &Resource, rings: bool) -> Value {
    let config = &push.config;
    let mut aps = Map::new();
    if !rings {
        aps.insert("alert".to_owned(), json!({"title": config.title, "body": config.content}));
        let sound = if resource.sound.is_empty() { "default" } else { &resource.sound };
        aps.insert("sound".to_owned(), sound.into());
        aps.insert("thread-id".to_owned(), push.thread_id().into());
        // An extension of the app may change what is shown.
        if resource.mutable_content.unwrap_or(true) {
            aps.insert("mutable-content".to_owned(), 1.into());
        }
        if let Some(badge) = push.badge {
            aps.insert("badge".to_owned(), badge.into());
        }
    }
    let mut payload = json!({"aps": aps, "zim": push.data});
    if let (true, Some(voip)) = (rings, &config.vo_ip_config) {
        payload["call"] = json!({
            "title": config.title,
            "handleType": voip.ios_voip_handle_type,
            "handleValue": voip.ios_voip_handle_value,
            "hasVideo": voip.ios_voip_has_video,
        });
    }
    payload
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;
    use reqwest::header::HeaderMap;
    use zim_protocol::VoIpConfig;

    use super::super::notification::tests::message as sample;
    use super::*;

    /// The environment and the topic.
    const WITH: (&str, &str) = ("sandbox", "org.example.chat");

    #[test]
    fn an_answer_names_its_reason() {
        for (status, reason, meaning) in [
            (200, "", Meaning::Accepted),
            (400, "BadDeviceToken", Meaning::Gone(None)),
            (400, "DeviceTokenNotForTopic", Meaning::Gone(None)),
            (400, "BadTopic", Meaning::Refused),
            (400, "PayloadEmpty", Meaning::Refused),
            (403, "InvalidProviderToken", Meaning::Refused),
            (403, "BadDeviceToken", Meaning::Refused),
            (403, "ExpiredProviderToken", Meaning::Later(None)),
            (404, "BadPath", Meaning::Refused),
            (410, "Unregistered", Meaning::Gone(None)),
            (429, "TooManyRequests", Meaning::Later(None)),
            (500, "InternalServerError", Meaning::Later(None)),
        ] {
            let body = if reason.is_empty() { String::new() } else { json!({"reason": reason}).to_string() };
            let status = StatusCode::from_u16(status).unwrap();
            let found = answer(&Reply { status, headers: HeaderMap::new(), body }, WITH);
            assert_eq!(found.meaning, meaning, "{status} {reason}");
        }
        let body = r#"{"reason": "Unregistered", "timestamp": 1454948015990}"#.to_owned();
        let found = answer(&Reply { status: StatusCode::GONE, headers: HeaderMap::new(), body }, WITH);
        assert_eq!(found.meaning, Meaning::Gone(Some(1_454_948_015_990)));
    }

    #[test]
    fn an_answer_about_a_token_says_what_it_was_tried_with() {
        for (reason, detail) in [
            ("BadDeviceToken", "400 BadDeviceToken: not valid, or not of the sandbox environment"),
            ("DeviceTokenNotForTopic", "400 DeviceTokenNotForTopic: not of the topic org.example.chat"),
            ("PayloadEmpty", "400 PayloadEmpty"),
        ] {
            let body = json!({"reason": reason}).to_string();
            let found = answer(&Reply { status: StatusCode::BAD_REQUEST, headers: HeaderMap::new(), body }, WITH);
            assert_eq!(found.detail, detail);
        }
    }

    #[test]
    fn a_call_rings_without_an_alert() {
        let mut push = sample();
        let shown = payload(&push, &Resource::default(), false);
        assert_eq!((&shown["aps"]["sound"], &shown["aps"]["mutable-content"]), (&json!("default"), &json!(1)));
        let quiet = Resource { sound: "bell.wav".to_owned(), mutable_content: Some(false), ..Resource::default() };
        let quiet = payload(&push, &quiet, false);
        assert_eq!((&quiet["aps"]["sound"], &quiet["aps"]["mutable-content"]), (&json!("bell.wav"), &Value::Null));
        assert_eq!((&shown["aps"]["alert"]["title"], &shown["aps"]["badge"]), (&json!("Ann"), &json!(4)));
        assert_eq!(shown["zim"]["conversationID"], json!("ann"));
        push.config.vo_ip_config =
            Some(VoIpConfig { ios_voip_handle_value: "ann".to_owned(), ..VoIpConfig::default() });
        let rings = payload(&push, &Resource::default(), true);
        assert_eq!((&rings["aps"], &rings["call"]["handleValue"]), (&json!({}), &json!("ann")));
    }
}
