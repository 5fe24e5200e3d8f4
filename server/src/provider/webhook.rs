//! The webhook: the app's own back end gets each push as JSON, with a signature, and delivers it in its own way.

use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use ring::hmac;
use serde::{Deserialize, Serialize};
use zim_protocol::{OfflinePushPrivateMessageTemplate, VoIpConfig};

use super::http::{self, Reply};
use super::notification::Data;
use super::{Answer, Device, Meaning, Notification, Rules, name};

/// The header of the signature.
const SIGNATURE: &str = "zim-signature";
/// The fewest bytes of a secret.
const MIN_SECRET: usize = 16;

/// The settings.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Settings {
    url: String,
    /// The key of the signatures.
    secret: String,
    /// PEM certificates that are trusted instead of the system's.
    #[serde(default)]
    ca: String,
}

/// The webhook of an app.
pub(super) struct Webhook {
    url: String,
    key: hmac::Key,
    client: Client,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("url", &self.url).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    /// The same for each attempt to send this push.
    id: &'a str,
    #[serde(rename = "appID")]
    app_id: i64,
    #[serde(rename = "userID")]
    user_id: &'a str,
    #[serde(rename = "pushID")]
    push_id: &'a str,
    source: &'static str,
    platform: i32,
    app_type: i64,
    token: &'a str,
    title: &'a str,
    content: &'a str,
    #[serde(rename = "resourcesID")]
    resources_id: &'a str,
    #[serde(rename = "threadID")]
    thread_id: String,
    #[serde(rename = "collapseID")]
    collapse_id: String,
    badge: Option<i64>,
    expires_at: i64,
    #[serde(rename = "voIPConfig", skip_serializing_if = "Option::is_none")]
    voip: Option<Voip<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_message_template: Option<Template<'a>>,
    data: &'a Data,
}

#[derive(Serialize)]
struct Voip<'a> {
    #[serde(rename = "iOSVoIPHandleType")]
    handle_type: i32,
    #[serde(rename = "iOSVoIPHandleValue")]
    handle_value: &'a str,
    #[serde(rename = "iOSVoIPHasVideo")]
    has_video: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Template<'a> {
    #[serde(rename = "templateID")]
    template_id: &'a str,
    title_parameters: &'a str,
    content_parameters: &'a str,
}

impl Webhook {
    pub(super) fn new(settings: Settings, rules: Rules) -> Result<Self, String> {
        let Settings { url, secret, ca } = settings;
        let is_url = reqwest::Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !is_url {
            return Err("url must be an http or https address".to_owned());
        }
        if secret.len() < MIN_SECRET {
            return Err(format!("secret has {} bytes; at least {MIN_SECRET} are required", secret.len()));
        }
        // The operator chose the address: it may be in the own network.
        let client = http::client(&ca, rules.timeout, false)?;
        Ok(Self { url, key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), client })
    }

    pub(super) async fn send(&self, push: &Notification, device: &Device, now_ms: i64) -> Answer {
        let body = match serde_json::to_vec(&body(push, device)) {
            Ok(body) => body,
            Err(error) => return Answer::refused(error.to_string()),
        };
        let request = self.client.post(&self.url).header(CONTENT_TYPE, "application/json");
        let request = request.header(SIGNATURE, self.signature(now_ms / 1_000, &body)).body(body);
        match http::ask(request).await {
            Ok(reply) => answer(&reply),
            Err(answer) => answer,
        }
    }

    /// Signs a body together with the time, so that a request that was recorded cannot be sent again later.
    fn signature(&self, now_s: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(format!("{now_s}.").as_bytes());
        context.update(body);
        format!("t={now_s},v1={}", zim_protocol::id::hex(context.sign().as_ref()))
    }
}

/// 410 alone removes the device: a back end that is put up wrongly answers 404 to everything.
fn answer(reply: &Reply) -> Answer {
    let answer = reply.answer();
    match reply.status.as_u16() {
        404 => Answer { meaning: Meaning::Refused, ..answer },
        _ => answer,
    }
}

fn body<'a>(push: &'a Notification, device: &'a Device) -> Body<'a> {
    let voip = |voip: &'a VoIpConfig| Voip {
        handle_type: voip.ios_voip_handle_type,
        handle_value: &voip.ios_voip_handle_value,
        has_video: voip.ios_voip_has_video,
    };
    let template = |template: &'a OfflinePushPrivateMessageTemplate| Template {
        template_id: &template.template_id,
        title_parameters: &template.title_parameters,
        content_parameters: &template.content_parameters,
    };
    Body {
        id: &push.data.id,
        app_id: push.app_id,
        user_id: &push.user_id,
        push_id: &push.push_id,
        source: name(device.source),
        platform: device.platform as i32,
        app_type: device.app_type,
        token: &device.token,
        title: &push.config.title,
        content: &push.config.content,
        resources_id: &push.config.resources_id,
        thread_id: push.thread_id(),
        collapse_id: push.collapse_id(),
        badge: push.badge,
        expires_at: push.expires_at,
        voip: push.config.vo_ip_config.as_ref().map(voip),
        private_message_template: push.config.private_message_template.as_ref().map(template),
        data: &push.data,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn webhook(settings: &str) -> Result<Webhook, String> {
        let rules = Rules { timeout: Duration::from_secs(1), allows_private: false };
        Webhook::new(serde_json::from_str(settings).unwrap(), rules)
    }

    #[test]
    fn settings_are_checked() {
        assert!(webhook(r#"{"url":"https://app.example/push","secret":"0123456789abcdef"}"#).is_ok());
        for wrong in [
            r#"{"url":"https://app.example/push","secret":"0123456789abcde"}"#,
            r#"{"url":"ftp://app.example/push","secret":"0123456789abcdef"}"#,
            r#"{"url":"","secret":"0123456789abcdef"}"#,
        ] {
            assert!(webhook(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_signature_is_that_of_the_time_and_the_body() {
        let webhook = webhook(r#"{"url":"http://a.example/","secret":"0123456789abcdef"}"#).unwrap();
        // printf '5.body' | openssl dgst -sha256 -hmac 0123456789abcdef
        let expected = "t=5,v1=47256bda4d632285c471ab5c19c4543be6547fcaba7850cf05ee07cfd1aa604a";
        assert_eq!(webhook.signature(5, b"body"), expected);
        assert_ne!(webhook.signature(6, b"body")[4..], expected[4..]);
    }
}
