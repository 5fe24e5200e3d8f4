//! The rules of push IDs and of who gets a push, without a store.

use std::net::IpAddr;

use reqwest::Url;
use zim_protocol::{ConversationNotificationStatus, PlatformType, PushSource, RegisterRequest, UserOfflinePushRule};

use crate::error::Error;
use crate::provider::is_public;
use crate::push::PushKind;

/// The longest address of a browser's push service.
const MAX_URL_BYTES: usize = 2_048;
/// The hexadecimal digits of a token of APNs: 64 today, and Apple wants no fixed length assumed.
const APNS_DIGITS: std::ops::RangeInclusive<usize> = 64..=200;
/// The first byte of an uncompressed point on the curve.
const UNCOMPRESSED: u8 = 4;

/// Checks what a device registers.
///
/// # Errors
/// The token cannot be one of this push service.
pub(super) fn check(request: &RegisterRequest, allows_private: bool) -> Result<(), Error> {
    let RegisterRequest { token, p256dh, auth, .. } = request;
    match request.source() {
        PushSource::Apns | PushSource::ApnsVoip => {
            if !APNS_DIGITS.contains(&token.len()) || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(Error::push_id_invalid("a token of APNs has 64 or more hexadecimal digits"));
            }
        }
        PushSource::WebPush => {
            check_url(token, allows_private)?;
            if p256dh.first() != Some(&UNCOMPRESSED) || auth.is_empty() {
                return Err(Error::push_id_invalid("p256dh and auth must be the keys of the browser's subscription"));
            }
        }
        _ => {
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(Error::push_id_invalid("a token consists of visible ASCII characters"));
            }
        }
    }
    let has_keys = !p256dh.is_empty() || !auth.is_empty();
    if has_keys && request.source() != PushSource::WebPush {
        return Err(Error::push_id_invalid("only Web Push has p256dh and auth"));
    }
    Ok(())
}

fn check_url(token: &str, allows_private: bool) -> Result<(), Error> {
    let refused = || Error::push_id_invalid("the endpoint of Web Push must be a public https address");
    let url = Url::parse(token).ok().filter(|url| url.scheme() == "https" && token.len() <= MAX_URL_BYTES);
    let url = url.filter(|url| url.username().is_empty() && url.password().is_none()).ok_or_else(refused)?;
    let host = url.host_str().ok_or_else(refused)?;
    // Names are checked when they are resolved.
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    if address.is_some_and(|address| !allows_private && !is_public(address)) {
        return Err(refused());
    }
    Ok(())
}

/// How a receiver stands to what is pushed.
#[derive(Clone, Debug, Default)]
pub(super) struct Receiver {
    pub(super) has_read: bool,
    /// They do not want messages of the sender.
    pub(super) blocks: bool,
    /// `ConversationNotificationStatus`
    pub(super) notification: i32,
    /// The message names them, and its sender wants them to be told in any case.
    pub(super) is_mentioned: bool,
    /// The message was revoked, or the call or the application no longer waits for them.
    pub(super) is_over: bool,
    /// A later message of the conversation is pushed in the same interval, and may take the place of this one.
    pub(super) is_followed: bool,
    pub(super) rule: UserOfflinePushRule,
    /// The platforms on which they are online.
    pub(super) online: Vec<i32>,
}

impl Receiver {
    fn wants_none(&self) -> bool {
        self.notification == ConversationNotificationStatus::DoNotDisturb as i32
    }
}

/// How a device stands to what is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) platform: PlatformType,
    /// Somebody is logged in on it.
    pub(super) is_logged_in: bool,
    /// Its connection has said that it has stored the message, or handled the events with what else is pushed.
    pub(super) has_it: bool,
    /// The app has credentials for its push service.
    pub(super) has_provider: bool,
}

/// Why a push of an application is not sent that waits for no answer, or not for that of the receiver.
pub(super) const OVER: &str = "the application does not wait any more";

/// Why a push is not sent to a device that says that it has stored the message.
pub(super) const HAS_IT: &str = "the device has it";

/// Why a push is not sent to a device; `None`: it is.
pub(super) fn reason(kind: PushKind, receiver: &Receiver, device: Standing) -> Option<&'static str> {
    let wants_none = receiver.wants_none();
    let is_online = |platform: &i32| receiver.online.contains(platform);
    let is_ruled_out = receiver.rule.online_platforms.iter().any(is_online)
        && receiver.rule.not_to_receive_offline_push_platforms.contains(&(device.platform as i32));
    let over = match kind {
        kind if kind.is_of_message() => "revoked",
        kind if kind.is_of_call() => "the call does not wait any more",
        _ => OVER,
    };
    let reasons = [
        (receiver.is_over, over),
        (receiver.blocks, "the receiver blocks the sender"),
        (receiver.has_read, "read"),
        (wants_none && !receiver.is_mentioned, "do not disturb"),
        (!device.is_logged_in, "logged out"),
        (is_ruled_out, "the receiver's rule: online on another platform"),
        (device.has_it, HAS_IT),
        (!device.has_provider, "the app has no credentials for this push service"),
    ];
    reasons.into_iter().find(|(is_so, _)| *is_so).map(|(_, reason)| reason)
}

/// Whether a push waits for what becomes of the later one of its interval. Where only mentions pass, the later one may be none.
pub(super) fn is_held(receiver: &Receiver) -> bool {
    receiver.is_followed && !(receiver.wants_none() && receiver.is_mentioned)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn request(source: PushSource, token: &str) -> RegisterRequest {
        let is_web = source == PushSource::WebPush;
        let (p256dh, auth) = if is_web { (vec![4; 65], vec![1; 16]) } else { (Vec::new(), Vec::new()) };
        RegisterRequest {
            source: source as i32,
            token: token.to_owned(),
            p256dh: Bytes::from(p256dh),
            auth: Bytes::from(auth),
            app_type: 0,
        }
    }

    #[test]
    fn tokens_have_the_form_of_their_service() {
        let hex = "0aF9".repeat(16);
        for (source, token) in [
            (PushSource::Apns, hex.as_str()),
            (PushSource::ApnsVoip, hex.as_str()),
            (PushSource::Fcm, "dQw4:APA91b-x_Y"),
            (PushSource::Huawei, "IQAAAA~x"),
            (PushSource::Webhook, "anything/at#all"),
            (PushSource::WebPush, "https://push.example/send/abc"),
            (PushSource::WebPush, "https://1.1.1.1/send"),
        ] {
            assert!(check(&request(source, token), false).is_ok(), "{source:?} {token}");
        }
        for (source, token) in [
            (PushSource::Apns, &hex[1..]),
            (PushSource::Apns, &"g".repeat(64)),
            (PushSource::Fcm, "with space"),
            (PushSource::Webhook, "é"),
            (PushSource::WebPush, "http://push.example/send"),
            (PushSource::WebPush, "https://user@push.example/send"),
            (PushSource::WebPush, "https://127.0.0.1/send"),
            (PushSource::WebPush, "https://[::1]/send"),
            (PushSource::WebPush, "https://[::ffff:10.0.0.1]/send"),
            (PushSource::WebPush, "https://0x7f.1/send"),
            (PushSource::WebPush, "no address"),
        ] {
            assert!(check(&request(source, token), false).is_err(), "{source:?} {token}");
        }
        assert!(check(&request(PushSource::WebPush, "https://127.0.0.1/send"), true).is_ok());
        let keyless = RegisterRequest { auth: Bytes::new(), ..request(PushSource::WebPush, "https://a.example/") };
        assert!(check(&keyless, false).is_err());
        let keys = RegisterRequest { auth: Bytes::from_static(&[1; 16]), ..request(PushSource::Fcm, "token") };
        assert!(check(&keys, false).is_err());
    }

    const AWAY: Standing =
        Standing { platform: PlatformType::Android, is_logged_in: true, has_it: false, has_provider: true };

    #[test]
    fn a_device_that_is_away_gets_a_push_unless_something_speaks_against_it() {
        let is_sent = |receiver: Receiver, device| reason(PushKind::Message, &receiver, device).is_none();
        assert!(is_sent(Receiver::default(), AWAY));
        for device in [
            Standing { has_it: true, ..AWAY },
            Standing { is_logged_in: false, ..AWAY },
            Standing { has_provider: false, ..AWAY },
        ] {
            assert!(!is_sent(Receiver::default(), device), "{device:?}");
        }
        for receiver in [
            Receiver { has_read: true, ..Receiver::default() },
            Receiver { blocks: true, ..Receiver::default() },
            Receiver { is_over: true, ..Receiver::default() },
        ] {
            assert!(!is_sent(receiver.clone(), AWAY), "{receiver:?}");
        }
    }

    #[test]
    fn a_mention_passes_do_not_disturb_and_waits_for_no_later_one_then() {
        let quiet = Receiver {
            notification: ConversationNotificationStatus::DoNotDisturb as i32,
            is_followed: true,
            ..Receiver::default()
        };
        assert_eq!(reason(PushKind::Message, &quiet, AWAY), Some("do not disturb"));
        let mentioned = Receiver { is_mentioned: true, ..quiet };
        assert_eq!((reason(PushKind::Message, &mentioned, AWAY), is_held(&mentioned)), (None, false));
        assert!(is_held(&Receiver { is_followed: true, ..Receiver::default() }));
    }

    #[test]
    fn the_rule_of_the_user_names_both_sides() {
        let (android, win) = (PlatformType::Android as i32, PlatformType::Win as i32);
        let rule =
            UserOfflinePushRule { online_platforms: vec![win], not_to_receive_offline_push_platforms: vec![android] };
        let receiver = |online: &[i32]| Receiver { rule: rule.clone(), online: online.to_vec(), ..Receiver::default() };
        let is_sent = |online: &[i32], device| reason(PushKind::Message, &receiver(online), device).is_none();
        assert!(is_sent(&[], AWAY) && is_sent(&[android], AWAY) && !is_sent(&[win], AWAY));
        assert!(is_sent(&[win], Standing { platform: PlatformType::IPhoneOs, ..AWAY }));
    }
}
