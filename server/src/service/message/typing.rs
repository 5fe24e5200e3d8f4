//! That somebody is writing: a transient without content, which takes the way of a command.

use std::sync::Arc;

use bytes::Bytes;
use zim_protocol::{
    MessageFlag, MessagePriority, MessageType, TellTypingRequest, TypingToldResult, server::TypingService,
};

use super::rules::Draft;
use crate::app::App;
use crate::connection::Caller;
use crate::effect::Receivers;
use crate::error::Error;

impl TypingService for App {
    async fn tell_typing(&self, caller: &Caller, request: TellTypingRequest) -> Result<TypingToldResult, Error> {
        let peer = self.resolve_peer(caller.identity()?, &request.user_id).await?;
        let draft = Draft {
            content: Bytes::new(),
            kind: MessageType::Unknown,
            flags: MessageFlag::Typing as u32,
            // Nothing is dropped before it.
            priority: MessagePriority::Low,
            combined: None,
            files: Vec::new(),
            receivers: Receivers::All,
        };
        self.send_peer_command(caller, (peer, Arc::from(request.user_id)), &draft, [0; 16]).await?;
        Ok(TypingToldResult {})
    }
}
