//! Sends a message, and waits when the server limits the rate.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;
use zim_client_sdk::{Error, MessageSendNotification, Zim};
use zim_protocol::message::Body;
use zim_protocol::{ErrorCode, Message, MessageSendConfig, MessageSentResult};

use crate::target::Target;

/// Sends a message. While the server limits the rate, waits as long as it says and sends the same message again.
pub(crate) async fn deliver(
    zim: Zim,
    message: Message,
    to: Target,
    config: MessageSendConfig,
) -> Result<MessageSentResult, Error> {
    let attached = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&attached);
    let notification =
        MessageSendNotification::default().on_message_attached(move |message| *keep.lock() = Some(message.clone()));
    let mut outcome = zim.send_message(message.clone(), &to.id, to.kind(), config.clone(), notification).await;
    let attached = attached.lock().take();
    while let Some(time) = outcome.as_ref().err().and_then(retry_after) {
        sleep(time).await;
        // The stored message itself, so that the history does not show a failed one beside it. A command is not stored.
        let (message, is_retry_send) = match &attached {
            Some(attached) if !matches!(attached.body, Some(Body::Command(_))) => (attached, true),
            _ => (&message, false),
        };
        let config = MessageSendConfig { is_retry_send, ..config.clone() };
        let notification = MessageSendNotification::default();
        outcome = zim.send_message(message.clone(), &to.id, to.kind(), config, notification).await;
    }
    outcome
}

/// Returns how long the server asks to wait, if it refused the message only because of the rate.
fn retry_after(error: &Error) -> Option<Duration> {
    if error.code() != ErrorCode::CommonModuleTriggerServerFrequencyLimit {
        return None;
    }
    let ms: u64 = error.detail("retry_after_ms")?.parse().ok()?;
    Some(Duration::from_millis(ms.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rate_of_the_server_is_worth_a_wait() {
        let error = |code, ms: Option<&str>| {
            let mut wire = zim_protocol::Error::new(code, "x");
            wire.details.extend(ms.map(|ms| ("retry_after_ms".to_owned(), ms.to_owned())));
            Error::from(wire)
        };
        let limit = ErrorCode::CommonModuleTriggerServerFrequencyLimit;
        assert_eq!(retry_after(&error(limit, Some("250"))), Some(Duration::from_millis(250)));
        assert_eq!(retry_after(&error(limit, Some("0"))), Some(Duration::from_millis(1)));
        assert_eq!(retry_after(&error(limit, None)), None);
        assert_eq!(retry_after(&error(ErrorCode::MessageModuleTargetDoesNotExist, Some("250"))), None);
    }
}
