//! Messages that the operator sends and that their sender does not learn of. For the sender such a message is like one that they have
//! deleted for themselves: its position is blank. The fan-out pushes nothing of it to their devices.

use zim_protocol::ConversationRef;

use crate::app::App;
use crate::connection::{Caller, WriteTo};
use crate::db::{Bulk, Scope};
use crate::error::Error;
use crate::journal::{NewMessage, Sent};
use crate::service::conversation::keep_out_of_list;

impl App {
    /// Stores a message that its sender does not learn of.
    pub(super) async fn send_unaware(
        &self,
        caller: &Caller,
        name: &ConversationRef,
        message: NewMessage,
    ) -> Result<Sent, Error> {
        let target =
            WriteTo::conversation(Scope::conversation(message.conversation).and_user(message.sender), name.clone());
        let sending = caller.write(&self.db, target, async move |tx, log| {
            let sent = NewMessage::run(tx, std::slice::from_ref(&message)).await?.pop();
            let sent = sent.ok_or_else(|| Error::internal_text("a message without a result"))??;
            if sent.is_new {
                keep_out_of_list(tx, log, message.sender, message.conversation, sent.seq).await?;
            }
            Ok(sent)
        });
        sending.await
    }
}
