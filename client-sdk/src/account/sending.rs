//! Sending messages: a message is stored, shown, sent, and settled.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use tokio::sync::oneshot;
use zim_protocol::{
    ConversationType, ErrorCode, Message, MessageEntry, MessageSendConfig, MessageSentResult, MessageSentStatus,
    MessageType, Push, SendMessageRequest,
};

use super::remote::Remote;
use super::task::AccountTask;
use super::uploading::ToUpload;
use crate::apply::{Attach, Attached, Next, Settle};
use crate::engine::State;
use crate::error::Error;
use crate::media::content;
use crate::outbox::{OnAttached, OnProgress, Outgoing, Reply, Submission, SubmissionKind, is_network};
use crate::store::outgoing::Unsent;
use crate::types::{Key, Name};

/// The number of the field `message` of `SendMessageRequest`.
const MESSAGE: u32 = 1;

impl<L: Remote> AccountTask<L> {
    pub(super) fn submit(&mut self, submission: Box<Submission>) {
        let attach = match &submission.kind {
            SubmissionKind::Stored { pending, earlier, is_first_only, .. } => {
                self.engine.open(&submission.name);
                match *earlier {
                    _ if *is_first_only => Attach::First(pending.clone()),
                    Some(key) => Attach::Retry { key, ts: pending.ts, otherwise: Some(pending.clone()) },
                    None => Attach::New(pending.clone()),
                }
            }
            SubmissionKind::Retry { ts } => Attach::Retry { key: submission.key, ts: *ts, otherwise: None },
            SubmissionKind::Transient { message } => Attach::Transient(message.clone()),
        };
        self.job.attach.push((submission.name.clone(), attach));
        self.after.attached.push(*submission);
    }

    /// Goes on with messages of an earlier login. The time that they may wait for a connection began with their calls, or when
    /// their files were uploaded.
    pub(super) fn resume(&mut self, unsent: Vec<Unsent>) {
        let (now_ms, steady_ms) = (self.clock.now_ms(), self.clock.steady_ms());
        for Unsent { name, row, config, since_ms } in unsent {
            let key: Key = row.client_key[..].try_into().unwrap_or_default();
            let (content, ts) = (row.content.clone(), row.ts);
            let message = row.into_message(&self.viewer.user_id, &name.to_ref());
            let config = MessageSendConfig::decode(config).unwrap_or_default();
            // The clock of this device may have been wrong.
            let age_ms = now_ms.saturating_sub(ts).max(0);
            let waited_ms = now_ms.saturating_sub(since_ms).max(0);
            // Its caller is gone; events tell how it ends.
            let reply = Reply::new(oneshot::channel().0);
            let progress = OnProgress::default();
            let message = ToUpload {
                key,
                name,
                content,
                config,
                message,
                reply,
                place: None,
                is_stored: true,
                is_again: false,
                may_be_stored: true,
                progress,
            };
            let Some(message) = self.resume_upload(message, age_ms) else { continue };
            let ToUpload { key, name, content, config, message, reply, .. } = message;
            self.sends.push(Outgoing {
                key,
                request: request(&name, key, &content, config),
                name,
                content,
                message,
                is_stored: true,
                is_again: false,
                unless_stored: None,
                is_barrage: false,
                deadline_ms: steady_ms.saturating_add(self.resend_window_ms.saturating_sub(waited_ms)),
                reply,
                place: None,
            });
        }
    }

    pub(super) fn attached(&mut self, mut submission: Submission, attached: Option<Attached>) {
        let Some(Attached { message, next }) = attached else {
            let error = Error::new(
                ErrorCode::CommonModuleParamsInvalid,
                "isRetrySend takes a message of this conversation whose sending failed; this message is not one, or it is being sent again",
            );
            let _ = submission.reply.send(Err(error));
            return;
        };
        notify(submission.on_attached.take(), &message);
        let is_stored = !matches!(submission.kind, SubmissionKind::Transient { .. });
        let key = zim_protocol::id::from_hex(&message.local_message_id).unwrap_or(submission.key);
        let is_again = matches!(next, Next::SendAgain { .. });
        let (content, config) = match (next, submission.kind) {
            // The same content and config as before: the server stores only one message per key.
            (Next::SendAgain { config, content, is_sending }, _) => {
                if is_sending {
                    let joined = self.join_upload(&key, submission.reply);
                    match joined.or_else(|reply| self.sends.join(&key, reply)) {
                        Ok(()) => return,
                        // It was answered in this turn. The server answers again.
                        Err(reply) => submission.reply = reply,
                    }
                }
                (content, MessageSendConfig::decode(config).unwrap_or(submission.config))
            }
            (Next::Send, SubmissionKind::Transient { message }) => (message.encode_to_vec().into(), submission.config),
            (Next::Send, SubmissionKind::Stored { pending, .. }) => (pending.content, submission.config),
            (Next::Nothing, _) | (Next::Send, SubmissionKind::Retry { .. }) => {
                // The app may have stopped waiting.
                let _ = submission.reply.send(Ok(MessageSentResult { message: Some(message) }));
                return;
            }
        };
        let may_be_stored = is_stored && (is_again || !config.idempotency_key.is_empty());
        let is_barrage = message.r#type() == MessageType::Barrage;
        let message = ToUpload {
            key,
            name: submission.name,
            content,
            config,
            message,
            reply: Reply::new(submission.reply),
            place: Some(submission.place),
            is_stored,
            is_again: false,
            may_be_stored,
            progress: submission.progress,
        };
        let Some(message) = self.upload(message) else { return };
        let ToUpload { key, name, content, config, message, reply, place, .. } = message;
        self.sends.push(Outgoing {
            key,
            is_barrage,
            request: request(&name, key, &content, config),
            name,
            content,
            message,
            is_stored,
            is_again: false,
            unless_stored: None,
            deadline_ms: submission.deadline_ms,
            reply,
            place,
        });
    }

    pub(super) fn sent(&mut self, number: u64, connection: u64, result: Result<(MessageSentResult, Vec<Push>), Error>) {
        match result {
            Ok((result, pushes)) => {
                self.pushes(pushes);
                let Some(mut outgoing) = self.sends.sent(number) else { return };
                let answer = result.message.unwrap_or_default();
                if let Some(seq) = u64::try_from(answer.message_seq).ok().filter(|seq| *seq > 0) {
                    let lacks = |state: &State| state.seq < seq && !state.held.contains(seq);
                    if self.engine.state(&outgoing.name).is_some_and(lacks) {
                        // A push that closes the gap before it may have it without content.
                        self.sends.keep(outgoing.key, outgoing.content.clone());
                    }
                    self.engine.answered(&outgoing.name, seq);
                    if outgoing.name.kind == ConversationType::Peer as i32 {
                        self.shared.told.forget(&outgoing.name.id);
                    }
                    let name = outgoing.name.clone();
                    self.job.settle.push(Settle::Sent(name, stored_entry(&answer, outgoing.key)));
                }
                accept(&mut outgoing.message, &answer);
                self.after.sent.push((outgoing.reply, Ok(MessageSentResult { message: Some(outgoing.message) })));
            }
            Err(error) => {
                if connection == self.connection && error.code() == ErrorCode::NetworkModuleNetworkError {
                    // The other messages wait for the next connection, so that none overtakes this one.
                    self.lost_connection();
                }
                let Some((outgoing, error)) = self.sends.failed(number, error, self.clock.steady_ms()) else { return };
                let is_lost = error.code() == ErrorCode::MessageModuleFileNotExist;
                let (outgoing, error) = explained(outgoing, error);
                let failed = if is_lost { self.upload_again(outgoing) } else { Some(outgoing) };
                if let Some(outgoing) = failed {
                    self.fail(outgoing, error);
                }
            }
        }
    }

    /// The server had stored a message, and an epoch has begun since: the position in the answer means nothing any more. The message is
    /// sent again, under the same key. A server that was restored from before it stores it once more.
    pub(super) fn sent_before_a_restore(&mut self, number: u64) {
        let error = Error::new(ErrorCode::NetworkModuleNetworkError, "the server was restored after it had answered");
        if let Some((outgoing, error)) = self.sends.failed(number, error, self.clock.steady_ms()) {
            self.fail(outgoing, error);
        }
    }

    pub(super) fn fail(&mut self, mut outgoing: Outgoing, error: Error) {
        outgoing.message.sent_status = MessageSentStatus::Failed as i32;
        if outgoing.is_stored {
            self.job.settle.push(Settle::Failed {
                name: outgoing.name,
                key: outgoing.key,
                reason: error.to_string(),
                is_disabled: matches!(
                    error.code(),
                    ErrorCode::MessageModuleTargetDoesNotExist
                        | ErrorCode::GroupModuleUserIsNotInTheGroup
                        | ErrorCode::GroupModuleGroupDoesNotExist
                ),
            });
        }
        self.after.sent.push((outgoing.reply, Err(error.with_failed_message(outgoing.message))));
    }
}

/// Replaces the refusal of a message without its file, which the server does not have from another attempt, by what is wrong.
fn explained(mut outgoing: Outgoing, error: Error) -> (Outgoing, Error) {
    match outgoing.unless_stored.take() {
        Some(cause) if !is_network(&error) => (outgoing, cause),
        _ => (outgoing, error),
    }
}

/// Calls a callback of the app. A panic in it must not end the account.
fn notify(on_attached: Option<OnAttached>, message: &Message) {
    let Some(on_attached) = on_attached else { return };
    if catch_unwind(AssertUnwindSafe(|| on_attached(message))).is_err() {
        tracing::error!("onMessageAttached of the app panicked");
    }
}

/// Encodes the request that sends a message with this encoded content.
pub(super) fn request(name: &Name, key: Key, content: &[u8], config: MessageSendConfig) -> Bytes {
    let request = SendMessageRequest {
        // It follows, because it is encoded already.
        message: None,
        to_conversation_id: name.id.to_string(),
        conversation_type: name.kind,
        // The server needs no flag for a retry: it recognises the key.
        config: Some(MessageSendConfig { is_retry_send: false, ..config }),
        client_key: Bytes::copy_from_slice(&key),
        omit_content: true,
    };
    let mut encoded = request.encode_to_vec();
    encode_key(MESSAGE, WireType::LengthDelimited, &mut encoded);
    encode_varint(content.len() as u64, &mut encoded);
    encoded.extend_from_slice(content);
    encoded.into()
}

/// Fills in the fields that the server set when it stored the message.
fn accept(message: &mut Message, answer: &Message) {
    message.message_id.clone_from(&answer.message_id);
    message.message_seq = answer.message_seq;
    message.timestamp = answer.timestamp;
    message.order_key = answer.order_key;
    message.sent_status = MessageSentStatus::Success as i32;
    if answer.body.is_some() {
        // Another content was stored under this key, or the server knows more of the files.
        message.r#type = answer.r#type;
        let before = std::mem::replace(&mut message.body, answer.body.clone());
        keep_paths(message, before);
        message.extended_data.clone_from(&answer.extended_data);
        message.mentioned_user_ids.clone_from(&answer.mentioned_user_ids);
        message.is_mention_all = answer.is_mention_all;
    }
}

/// Keeps what only this device knows of the files of a message.
fn keep_paths(message: &mut Message, before: Option<zim_protocol::message::Body>) {
    if !content::is_media(message.r#type) {
        return;
    }
    let (old, new) =
        (Message { body: before, ..Message::default() }, Message { body: message.body.take(), ..Message::default() });
    let merged = content::merged(&old.encode_to_vec(), &new.encode_to_vec());
    message.body = merged.and_then(|merged| Message::decode(merged).ok()).map_or(new.body, |merged| merged.body);
}

/// Builds the log entry that settles the row of a message. The answer has a body only if the server has another message under
/// this key.
fn stored_entry(answer: &Message, key: Key) -> MessageEntry {
    let content = answer.body.as_ref().map(|body| Message {
        body: Some(body.clone()),
        extended_data: answer.extended_data.clone(),
        mentioned_user_ids: answer.mentioned_user_ids.clone(),
        is_mention_all: answer.is_mention_all,
        ..Message::default()
    });
    MessageEntry {
        kind: answer.r#type,
        content: content.map(|content| content.encode_to_vec().into()).unwrap_or_default(),
        seq: u64::try_from(answer.message_seq).unwrap_or(0),
        message_id: answer.message_id.parse().unwrap_or(0),
        ts: answer.timestamp,
        client_key: Bytes::copy_from_slice(&key),
        ..MessageEntry::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_message_that_was_stored() {
        let message = Message { extended_data: "x".repeat(300), ..Message::text("hi") };
        let config = MessageSendConfig { has_receipt: true, is_retry_send: true, ..MessageSendConfig::default() };
        let name = Name::new(0, "bob");
        let encoded = request(&name, [7; 16], &message.encode_to_vec(), config.clone());
        let expected = SendMessageRequest {
            message: Some(message),
            to_conversation_id: "bob".into(),
            conversation_type: 0,
            config: Some(MessageSendConfig { is_retry_send: false, ..config }),
            client_key: vec![7; 16].into(),
            omit_content: true,
        };
        assert_eq!(SendMessageRequest::decode(encoded).unwrap(), expected);
    }
}
