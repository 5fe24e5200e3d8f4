//! Firebase Cloud Messaging, HTTP v1, with a service account.

use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{self, Reply};
use super::jwt::{Kept, Key};
use super::resources::{Resource, Resources};
use super::{Answer, Device, Meaning, Notification, Rules};

/// Where pushes go.
const ENDPOINT: &str = "https://fcm.googleapis.com";
/// What the token is good for.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// How long a proof of the service account is valid, seconds.
const PROOF_S: i64 = 3_600;
/// The most bytes of a message. Google takes 4,096 of data and text, and counts less than this.
const MAX_BYTES: usize = 4_096;
/// A token is not used for this long before its end, seconds.
const MARGIN_S: i64 = 300;

/// The settings: a service account, as Google's console exports it, among whose fields are others.
#[derive(Deserialize)]
pub(super) struct Settings {
    project_id: String,
    client_email: String,
    #[serde(rename = "privateKey", alias = "private_key")]
    private_key: String,
    #[serde(default = "token_uri")]
    token_uri: String,
    /// What the names that pushes may have stand for.
    #[serde(default)]
    resources: Resources,
    /// Another address than Google's, such as that of a proxy.
    #[serde(default)]
    endpoint: String,
    /// PEM certificates that are trusted instead of the system's.
    #[serde(default)]
    ca: String,
}

fn token_uri() -> String {
    "https://oauth2.googleapis.com/token".to_owned()
}

/// An app's access to FCM.
pub(super) struct Fcm {
    url: String,
    token_uri: String,
    client_email: String,
    key: Key,
    token: Kept,
    resources: Resources,
    client: Client,
}

impl std::fmt::Debug for Fcm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fcm").field("url", &self.url).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    expires_in: i64,
}

impl Fcm {
    pub(super) fn new(settings: Settings, rules: Rules) -> Result<Self, String> {
        let Settings { project_id, client_email, private_key, token_uri, resources, endpoint, ca } = settings;
        resources.check()?;
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || "-:.".contains(letter);
        if project_id.is_empty() || !project_id.chars().all(is_name) {
            return Err("project_id must be the ID of a project".to_owned());
        }
        let base = if endpoint.is_empty() { ENDPOINT } else { endpoint.trim_end_matches('/') };
        for url in [base, &token_uri] {
            if !url.starts_with("https://") {
                return Err(format!("{url} must be an https address"));
            }
        }
        Ok(Self {
            url: format!("{base}/v1/projects/{project_id}/messages:send"),
            token_uri,
            client_email,
            key: Key::rsa(&private_key).map_err(|problem| format!("private_key: {problem}"))?,
            token: Kept::default(),
            resources,
            client: http::client(&ca, rules.timeout, false)?,
        })
    }

    pub(super) async fn send(&self, push: &Notification, device: &Device, now_ms: i64) -> Answer {
        let token = match self.token(now_ms / 1_000).await {
            Ok(token) => token,
            Err(answer) => return answer,
        };
        let resource = self.resources.of(&push.config, |channel| Resource { channel, ..Resource::default() });
        let body = push.fitted(MAX_BYTES, |push| {
            json!({"message": message(push, device, &resource, now_ms)}).to_string().into_bytes()
        });
        let request = self.client.post(&self.url).bearer_auth(&token).header(CONTENT_TYPE, "application/json");
        match http::ask(request.body(body)).await {
            Ok(reply) => {
                if reply.status.as_u16() == 401 {
                    self.token.clear(&token);
                }
                answer(&reply)
            }
            Err(answer) => answer,
        }
    }

    /// Returns the token of the service account, and gets a new one if it has ended.
    async fn token(&self, now_s: i64) -> Result<String, Answer> {
        if let Some(token) = self.token.get(now_s) {
            return Ok(token);
        }
        let claims = json!({
            "iss": self.client_email,
            "scope": SCOPE,
            "aud": self.token_uri,
            "iat": now_s,
            "exp": now_s + PROOF_S,
        });
        let proof = self.key.sign(None, &claims).map_err(Answer::refused)?;
        let form = format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={proof}");
        let request = self.client.post(&self.token_uri).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let reply = http::ask(request.body(form)).await?;
        let answer = reply.answer();
        let of_token = |detail: String| format!("no token for the service account: {detail}");
        if answer.meaning != Meaning::Accepted {
            // The device is not at fault.
            let meaning = if matches!(answer.meaning, Meaning::Gone(_)) { Meaning::Refused } else { answer.meaning };
            return Err(Answer::new(meaning, of_token(answer.detail)));
        }
        // An answer that broke off may come whole the next time.
        let granted: Granted =
            serde_json::from_str(&reply.body).map_err(|error| Answer::later(of_token(error.to_string())))?;
        self.token.put(&granted.access_token, now_s + (granted.expires_in - MARGIN_S).max(0));
        Ok(granted.access_token)
    }
}

/// Returns what an answer means. FCM names the reason in the body.
fn answer(reply: &Reply) -> Answer {
    let answer = reply.answer();
    let body: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let details = body["error"]["details"].as_array().map_or(&[][..], Vec::as_slice);
    let code = details.iter().find_map(|detail| detail["errorCode"].as_str());
    let meaning = match (reply.status.as_u16(), code) {
        (_, Some("UNREGISTERED")) => Meaning::Gone(None),
        // 404 without this code: there is no such project.
        (404 | 410, _) => Meaning::Refused,
        // The next attempt has a new token.
        (401, _) => Meaning::Later(None),
        _ => answer.meaning,
    };
    let detail = match (code, body["error"]["message"].as_str()) {
        (Some(code), Some(message)) => format!("{} {code}: {message}", reply.status.as_u16()),
        (None, Some(message)) => format!("{} {message}", reply.status.as_u16()),
        _ => return Answer { meaning, ..answer },
    };
    Answer::new(meaning, detail)
}

fn message(push: &Notification, device: &Device, resource: &Resource, now_ms: i64) -> Value {
    let mut data = serde_json::to_value(&push.data).unwrap_or_default();
    let (collapse, ttl) = (push.collapse_id(), format!("{}s", push.seconds_left(now_ms)));
    let priority = if resource.priority == Some(5) { "NORMAL" } else { "HIGH" };
    let mut shown = json!({"tag": collapse});
    for (name, value) in [("channel_id", &resource.channel), ("sound", &resource.sound)] {
        if !value.is_empty() {
            shown[name] = value.as_str().into();
        }
    }
    if let Some(badge) = push.badge {
        data["badge"] = badge.to_string().into();
        shown["notification_count"] = badge.into();
    }
    let mut android = json!({"priority": priority, "ttl": ttl, "collapse_key": collapse});
    let (title, content) = (&push.config.title, &push.config.content);
    if resource.data_only {
        // The app shows it.
        (data["title"], data["content"]) = (title.as_str().into(), content.as_str().into());
        return json!({"token": device.token, "data": data, "android": android});
    }
    android["notification"] = shown;
    let notification = json!({"title": title, "body": content});
    json!({"token": device.token, "notification": notification, "data": data, "android": android})
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;
    use reqwest::header::HeaderMap;
    use zim_protocol::{PlatformType, PushSource};

    use super::super::notification::tests::message as sample;
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body: body.to_owned() }
    }

    #[test]
    fn an_answer_names_its_reason() {
        let error = |code: &str| format!(r#"{{"error":{{"message":"m","details":[{{"errorCode":"{code}"}}]}}}}"#);
        for (status, body, meaning) in [
            (200, r#"{"name":"projects/p/messages/1"}"#.to_owned(), Meaning::Accepted),
            (404, error("UNREGISTERED"), Meaning::Gone(None)),
            (404, r#"{"error":{"message":"no project"}}"#.to_owned(), Meaning::Refused),
            (400, error("INVALID_ARGUMENT"), Meaning::Refused),
            (403, error("SENDER_ID_MISMATCH"), Meaning::Refused),
            (401, "{}".to_owned(), Meaning::Later(None)),
            (503, error("UNAVAILABLE"), Meaning::Later(None)),
            (429, "not json".to_owned(), Meaning::Later(None)),
        ] {
            assert_eq!(answer(&reply(status, &body)).meaning, meaning, "{status} {body}");
        }
        assert_eq!(answer(&reply(404, &error("UNREGISTERED"))).detail, "404 UNREGISTERED: m");
    }

    #[test]
    fn a_push_has_what_the_device_needs() {
        let device = Device {
            source: PushSource::Fcm,
            platform: PlatformType::Android,
            app_type: 0,
            token: "t".to_owned(),
            p256dh: Vec::new(),
            auth: Vec::new(),
        };
        let push = sample();
        let usual = Resource { channel: "loud".to_owned(), ..Resource::default() };
        let sent = message(&push, &device, &usual, 1_800_000_000_000);
        assert_eq!(
            (&sent["android"]["priority"], &sent["android"]["notification"]["channel_id"]),
            (&json!("HIGH"), &json!("loud"))
        );
        assert_eq!((&sent["token"], &sent["notification"]["title"]), (&json!("t"), &json!("Ann")));
        assert_eq!(
            (&sent["android"]["ttl"], &sent["android"]["collapse_key"]),
            (&json!("60s"), &json!(push.collapse_id()))
        );
        assert_eq!(sent["android"]["notification"]["notification_count"], json!(4));
        assert!(sent["data"].as_object().unwrap().values().all(Value::is_string), "FCM takes text only");
        let silent = Resource { priority: Some(5), data_only: true, ..Resource::default() };
        let sent = message(&push, &device, &silent, 1_800_000_000_000);
        assert_eq!((&sent["android"]["priority"], &sent["data"]["content"]), (&json!("NORMAL"), &json!("hi")));
        assert!(sent["notification"].is_null() && sent["android"]["notification"].is_null());
    }
}
