//! The services that deliver pushes to devices, with the credentials of an app. One enum and no trait: they are few, and all of them
//! are one HTTP request, whose answer means one of four things.

mod address;
mod apns;
mod fcm;
mod http;
mod jwt;
mod notification;
mod resources;
mod web_push;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use zim_protocol::PushSource;

pub(crate) use self::address::is_public;
use self::apns::Apns;
use self::fcm::Fcm;
pub(crate) use self::notification::{Data, Device, Notification};
use self::web_push::WebPush;
use self::webhook::Webhook;

/// The most characters of an answer that are kept.
const MAX_DETAIL: usize = 300;

/// What all push services have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// How long an answer may take.
    pub(crate) timeout: Duration,
    /// A browser's push service may be at a private address.
    pub(crate) allows_private: bool,
}

/// What a push service has answered, in a sentence for the operator, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) meaning: Meaning,
    pub(crate) detail: String,
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It delivers the push.
    Accepted,
    /// It does not know the device any more; since this time, Unix milliseconds, if it said so.
    Gone(Option<i64>),
    /// It never accepts this push.
    Refused,
    /// A later attempt may succeed, after so many milliseconds if it said so.
    Later(Option<i64>),
}

impl Answer {
    fn new(meaning: Meaning, detail: impl Into<String>) -> Self {
        // A database takes no NUL, and the log of a terminal no other control character.
        let mut detail = detail.into().replace(char::is_control, " ");
        detail.truncate(detail.floor_char_boundary(MAX_DETAIL));
        Self { meaning, detail }
    }

    /// A later attempt may succeed.
    pub(crate) fn later(detail: impl Into<String>) -> Self {
        Self::new(Meaning::Later(None), detail)
    }

    /// The push is not sent, because something is wrong on this side.
    pub(crate) fn refused(detail: impl Into<String>) -> Self {
        Self::new(Meaning::Refused, detail)
    }
}

/// An app's access to one push service.
#[derive(Debug)]
pub(crate) struct Provider {
    /// Which service: the tokens of the other vendors are the webhook's.
    pub(crate) source: PushSource,
    /// Tells several credentials for one service apart.
    pub(crate) app_type: i64,
    /// When the settings were stored, Unix milliseconds.
    pub(crate) changed_at: i64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Webhook(Webhook),
    Fcm(Box<Fcm>),
    Apns(Box<Apns>),
    WebPush(Box<WebPush>),
    /// The settings are those of a later version, or damaged.
    Broken(String),
}

impl Provider {
    /// Reads settings, as a JSON object.
    ///
    /// # Errors
    /// They are not valid; the text says why.
    pub(crate) fn parse(
        (source, app_type): (PushSource, i64),
        settings: &str,
        changed_at: i64,
        rules: Rules,
    ) -> Result<Self, String> {
        let kind = match source {
            PushSource::Webhook => Kind::Webhook(Webhook::new(read(settings)?, rules)?),
            PushSource::Fcm => Kind::Fcm(Box::new(Fcm::new(read(settings)?, rules)?)),
            PushSource::Apns => Kind::Apns(Box::new(Apns::new(read(settings)?, rules)?)),
            PushSource::WebPush => Kind::WebPush(Box::new(WebPush::new(read(settings)?, rules)?)),
            other => return Err(format!("{} takes no credentials", name(other))),
        };
        Ok(Self { source, app_type, changed_at, kind })
    }

    /// Reads stored settings. Those that are not valid make a provider that sends nothing, and says why.
    pub(crate) fn stored(of: (PushSource, i64), settings: &str, changed_at: i64, rules: Rules) -> Self {
        Self::parse(of, settings, changed_at, rules).unwrap_or_else(|problem| Self {
            source: of.0,
            app_type: of.1,
            changed_at,
            kind: Kind::Broken(problem),
        })
    }

    /// Completes settings that an operator gives by what the server makes itself.
    ///
    /// # Errors
    /// They are no JSON object, or the system provides no random bytes; the text says so.
    pub(crate) fn completed(source: PushSource, settings: &str, before: Option<&str>) -> Result<String, String> {
        let mut fields: serde_json::Map<String, serde_json::Value> = read(settings)?;
        if source == PushSource::WebPush {
            WebPush::complete(&mut fields, before)?;
        }
        Ok(serde_json::Value::Object(fields).to_string())
    }

    /// Returns settings without their secrets, as JSON.
    pub(crate) fn shown(settings: &str) -> String {
        let Ok(serde_json::Value::Object(mut fields)) = serde_json::from_str(settings) else { return String::new() };
        fields.retain(|name, _| !SECRETS.contains(&name.as_str()));
        serde_json::Value::Object(fields).to_string()
    }

    /// Sends a push to a device.
    pub(crate) async fn send(&self, push: &Notification, device: &Device, now_ms: i64) -> Answer {
        match &self.kind {
            Kind::Webhook(webhook) => webhook.send(push, device, now_ms).await,
            Kind::Fcm(fcm) => fcm.send(push, device, now_ms).await,
            Kind::Apns(apns) => apns.send(push, device, now_ms).await,
            Kind::WebPush(web) => web.send(push, device, now_ms).await,
            Kind::Broken(problem) => Answer::refused(format!("the credentials are not valid: {problem}")),
        }
    }
}

/// The fields of settings that are secrets.
const SECRETS: [&str; 3] = ["secret", "privateKey", "private_key"];

fn read<T: DeserializeOwned>(settings: &str) -> Result<T, String> {
    serde_json::from_str(settings).map_err(|error| error.to_string())
}

/// The name of a push service in texts.
pub(crate) fn name(source: PushSource) -> &'static str {
    match source {
        PushSource::Apns | PushSource::ApnsVoip => "apns",
        PushSource::Fcm => "fcm",
        PushSource::WebPush => "web-push",
        PushSource::Webhook => "webhook",
        PushSource::Huawei => "huawei",
        PushSource::Xiaomi => "xiaomi",
        PushSource::Oppo => "oppo",
        PushSource::Vivo => "vivo",
        PushSource::Honor => "honor",
        PushSource::Unspecified => "unspecified",
    }
}

/// Returns the source whose credentials deliver to a device.
pub(crate) fn deliverer(source: PushSource) -> PushSource {
    match source {
        PushSource::ApnsVoip => PushSource::Apns,
        PushSource::Huawei | PushSource::Xiaomi | PushSource::Oppo | PushSource::Vivo | PushSource::Honor => {
            PushSource::Webhook
        }
        other => other,
    }
}

/// Returns a number for whoever delivers to a device: two that differ are no reason to wait for one another. For Web Push it is the host,
/// which the device names.
pub(crate) fn receiver(source: PushSource, app_type: i64, token: &str) -> u64 {
    let by = deliverer(source);
    let url = if by == PushSource::WebPush { reqwest::Url::parse(token).ok() } else { None };
    let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or_default();
    let digest = Sha256::new()
        .chain_update((by as i32).to_be_bytes())
        .chain_update(app_type.to_be_bytes())
        .chain_update(host)
        .finalize();
    digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The push services of an app.
#[derive(Debug, Default)]
pub(crate) struct Providers(Vec<Arc<Provider>>);

impl Providers {
    /// Takes over what is stored. A provider whose settings have not changed stays, with what it has learned.
    pub(crate) fn update(before: &Self, stored: &[StoredProvider], rules: Rules) -> Self {
        let provider = |row: &StoredProvider| {
            let same = before.0.iter().find(|known| {
                (known.source, known.app_type, known.changed_at) == (row.source, row.app_type, row.changed_at)
            });
            same.cloned().unwrap_or_else(|| {
                Arc::new(Provider::stored((row.source, row.app_type), &row.settings, row.changed_at, rules))
            })
        };
        Self(stored.iter().map(provider).collect())
    }

    /// Whether the app has none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what delivers to the devices of a source.
    pub(crate) fn find(&self, source: PushSource, app_type: i64) -> Option<&Arc<Provider>> {
        let by = deliverer(source);
        self.0.iter().find(|provider| (provider.source, provider.app_type) == (by, app_type))
    }
}

/// A row of `push_provider`.
#[derive(Clone)]
pub(crate) struct StoredProvider {
    pub(crate) source: PushSource,
    pub(crate) app_type: i64,
    pub(crate) settings: String,
    pub(crate) changed_at: i64,
}

impl std::fmt::Debug for StoredProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets stay out of logs.
        f.debug_struct("StoredProvider").field("source", &self.source).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { timeout: Duration::from_secs(1), allows_private: false };

    fn row(settings: &str, changed_at: i64) -> StoredProvider {
        StoredProvider { source: PushSource::Webhook, app_type: 0, settings: settings.to_owned(), changed_at }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = Provider::shown(r#"{"url":"https://a.example","secret":"s3","privateKey":"k"}"#);
        assert_eq!(shown, r#"{"url":"https://a.example"}"#);
        assert_eq!(Provider::shown("damaged"), "");
    }

    #[test]
    fn a_provider_that_has_not_changed_stays() {
        let settings = r#"{"url":"http://127.0.0.1:1/","secret":"a secret of some length"}"#;
        let first = Providers::update(&Providers::default(), &[row(settings, 1)], RULES);
        let same = Providers::update(&first, &[row(settings, 1)], RULES);
        assert!(Arc::ptr_eq(&first.0[0], &same.0[0]));
        let changed = Providers::update(&same, &[row(settings, 2)], RULES);
        assert!(!Arc::ptr_eq(&same.0[0], &changed.0[0]));
        assert!(Providers::update(&changed, &[], RULES).is_empty());
    }

    #[test]
    fn devices_that_one_server_delivers_to_have_one_receiver() {
        let of = |source, app_type, token| receiver(source, app_type, token);
        assert_eq!(of(PushSource::Apns, 1, "a"), of(PushSource::ApnsVoip, 1, "b"));
        assert_ne!(of(PushSource::Apns, 1, "a"), of(PushSource::Apns, 2, "a"));
        assert_ne!(of(PushSource::Apns, 1, "a"), of(PushSource::Fcm, 1, "a"));
        let web = |url| of(PushSource::WebPush, 0, url);
        assert_eq!(web("https://one.example/1"), web("https://one.example/2"));
        assert_ne!(web("https://one.example/1"), web("https://two.example/1"));
    }

    #[test]
    fn other_vendors_go_to_the_webhook() {
        let settings = r#"{"url":"http://127.0.0.1:1/","secret":"a secret of some length"}"#;
        let providers = Providers::update(&Providers::default(), &[row(settings, 1)], RULES);
        for source in [PushSource::Huawei, PushSource::Honor, PushSource::Webhook] {
            assert!(providers.find(source, 0).is_some(), "{source:?}");
        }
        assert!(providers.find(PushSource::Fcm, 0).is_none() && providers.find(PushSource::Webhook, 1).is_none());
    }
}
