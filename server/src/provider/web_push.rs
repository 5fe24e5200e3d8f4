//! Web Push: RFC 8030 with VAPID (RFC 8292), and payloads that only the browser can read (RFC 8291, RFC 8188).

use std::net::IpAddr;

use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{Client, Url};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::error::Unspecified;
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::http;
use super::jwt::{Key, decode, encode};
use super::{Answer, Device, Notification, Rules, is_public};

/// How long a proof of the server is valid, seconds; at most a day is allowed.
const PROOF_S: i64 = 12 * 3_600;
/// The size of a record, which is larger than any payload: there is one.
const RECORD_BYTES: usize = 4_096;
/// What a record has besides its text: a byte that ends it, and the tag.
const OVERHEAD: usize = 17;
/// The head of a payload: salt, size of a record, length of the key, key.
const HEAD_BYTES: usize = 16 + 4 + 1 + KEY_BYTES;
const KEY_BYTES: usize = 65;
/// The most bytes of a payload: push services take no more than one record of this size.
const MAX_TEXT: usize = RECORD_BYTES - HEAD_BYTES - OVERHEAD;

/// The settings: the server's own key, and whom a push service may write to.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Settings {
    /// 65 bytes in base64, as browsers take it when they subscribe.
    #[serde(default)]
    public_key: String,
    /// 32 bytes in base64, or a whole PKCS #8 structure, which contains the public key.
    private_key: String,
    /// `mailto:` or an https address.
    subject: String,
    /// PEM certificates that are trusted instead of the system's.
    #[serde(default)]
    ca: String,
}

/// An app's access to the push services of browsers.
pub(super) struct WebPush {
    public_key: String,
    subject: String,
    key: Key,
    client: Client,
    allows_private: bool,
}

impl std::fmt::Debug for WebPush {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebPush").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl WebPush {
    pub(super) fn new(settings: Settings, rules: Rules) -> Result<Self, String> {
        let Settings { public_key, private_key, subject, ca } = settings;
        if !subject.starts_with("mailto:") && !subject.starts_with("https://") {
            return Err("subject must be a mailto: or an https address".to_owned());
        }
        let public = decode(&public_key).map_err(|problem| format!("publicKey: {problem}"))?;
        let private = decode(&private_key).map_err(|problem| format!("privateKey: {problem}"))?;
        let key = if private.len() == 32 { Key::p256_of(&private, &public)? } else { Key::p256_der(&private)? };
        // Browsers accept pushes of the key that they subscribed with only.
        let public = match key.public() {
            Some(own) if public.is_empty() || own == public => own.to_vec(),
            _ => return Err("publicKey and privateKey do not belong together".to_owned()),
        };
        Ok(Self {
            key,
            public_key: encode(public),
            subject,
            client: http::client(&ca, rules.timeout, !rules.allows_private)?,
            allows_private: rules.allows_private,
        })
    }

    /// Adds a key to settings without one: that of the settings before, whose browsers know it, or a new one.
    pub(super) fn complete(settings: &mut Map<String, Value>, before: Option<&str>) -> Result<(), String> {
        if settings.contains_key("privateKey") {
            return Ok(());
        }
        let before = before.and_then(|before| serde_json::from_str::<Map<String, Value>>(before).ok());
        let known = before.and_then(|mut before| Some((before.remove("privateKey")?, before.remove("publicKey")?)));
        let (private, public) = match known {
            Some(keys) => keys,
            None => {
                let (private, public) = Key::generate_p256()?;
                (encode(private).into(), encode(public).into())
            }
        };
        settings.insert("privateKey".to_owned(), private);
        settings.insert("publicKey".to_owned(), public);
        Ok(())
    }

    pub(super) async fn send(&self, push: &Notification, device: &Device, now_ms: i64) -> Answer {
        let Ok(url) = Url::parse(&device.token) else { return Answer::refused("the endpoint is no address") };
        // It was checked when it was registered; the setting may have changed.
        let address = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        if url.scheme() != "https" || address.is_some_and(|address| !self.allows_private && !is_public(address)) {
            return Answer::refused("the endpoint is no public https address");
        }
        let body = match encrypt(&text(push), &device.p256dh, &device.auth) {
            Ok(body) => body,
            Err(Unspecified) => return Answer::refused("the keys of the subscription are not valid"),
        };
        let claims = json!({
            "aud": url.origin().ascii_serialization(),
            "exp": now_ms / 1_000 + PROOF_S,
            "sub": self.subject,
        });
        let proof = match self.key.sign(None, &claims) {
            Ok(proof) => proof,
            Err(problem) => return Answer::refused(problem),
        };
        let request = self
            .client
            .post(url)
            .header(AUTHORIZATION, format!("vapid t={proof}, k={}", self.public_key))
            .header(CONTENT_ENCODING, "aes128gcm")
            .header(CONTENT_TYPE, "application/octet-stream")
            .header("ttl", push.seconds_left(now_ms).to_string())
            .header("urgency", "high")
            .header("topic", push.collapse_id());
        match http::ask(request.body(body)).await {
            Ok(reply) => reply.answer(),
            Err(answer) => answer,
        }
    }
}

/// What the service worker of the app gets.
fn text(push: &Notification) -> Vec<u8> {
    push.fitted(MAX_TEXT, |push| {
        json!({
            "title": push.config.title,
            "content": push.config.content,
            "tag": push.collapse_id(),
            "badge": push.badge,
            "data": push.data,
        })
        .to_string()
        .into_bytes()
    })
}

/// The length of a key that is derived.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive<const N: usize>(from: &Prk, info: &[&[u8]]) -> Result<[u8; N], Unspecified> {
    let mut derived = [0; N];
    from.expand(info, Length(N))?.fill(&mut derived)?;
    Ok(derived)
}

/// Encrypts a text for the browser with these keys.
fn encrypt(text: &[u8], p256dh: &[u8], auth: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let random = SystemRandom::new();
    let own = EphemeralPrivateKey::generate(&ECDH_P256, &random)?;
    let public = own.compute_public_key()?;
    let public = public.as_ref();
    let mut salt = [0; 16];
    random.fill(&mut salt)?;
    let peer = UnparsedPublicKey::new(&ECDH_P256, p256dh);
    let secret: [u8; 32] = agree_ephemeral(own, &peer, |shared| {
        let shared = Salt::new(HKDF_SHA256, auth).extract(shared);
        derive(&shared, &[b"WebPush: info\0", p256dh, public])
    })??;
    let from = Salt::new(HKDF_SHA256, &salt).extract(&secret);
    let key: [u8; 16] = derive(&from, &[b"Content-Encoding: aes128gcm\0"])?;
    let nonce: [u8; 12] = derive(&from, &[b"Content-Encoding: nonce\0"])?;
    let mut record = text.to_vec();
    // The last record ends with 2.
    record.push(2);
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key)?);
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut record)?;
    let mut body = Vec::with_capacity(HEAD_BYTES + record.len());
    body.extend_from_slice(&salt);
    body.extend_from_slice(&u32::try_from(RECORD_BYTES).map_err(|_| Unspecified)?.to_be_bytes());
    body.push(u8::try_from(public.len()).map_err(|_| Unspecified)?);
    body.extend_from_slice(public);
    body.extend_from_slice(&record);
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::super::notification::tests::message as sample;
    use super::*;

    #[test]
    fn a_payload_fits_into_one_record() {
        let mut push = sample();
        assert!(text(&push).windows(4).any(|part| part == b"\"hi\""));
        push.data.payload = "p".repeat(2_048);
        push.config.content = "é".repeat(1_024);
        let short = text(&push);
        assert!(short.len() <= MAX_TEXT);
        let shown: serde_json::Value = serde_json::from_slice(&short).unwrap();
        assert!(shown["data"]["payload"].is_null() && shown["content"].as_str().unwrap().len() == 2_048);
        push.config.content = "\u{1}".repeat(2_048);
        assert!(text(&push).len() <= MAX_TEXT, "what is escaped is longer");
    }

    #[test]
    fn a_payload_has_the_key_and_the_salt_in_its_head() {
        let random = SystemRandom::new();
        let browser = EphemeralPrivateKey::generate(&ECDH_P256, &random).unwrap().compute_public_key().unwrap();
        let body = encrypt(b"hi", browser.as_ref(), &[7; 16]).unwrap();
        assert_eq!(body.len(), HEAD_BYTES + 2 + OVERHEAD);
        assert_eq!((&body[16..20], body[20], body[21]), (&[0, 0, 16, 0][..], 65, 4));
        assert!(encrypt(b"hi", &[4; 65], &[7; 16]).is_err(), "a point that is not on the curve");
    }
}
