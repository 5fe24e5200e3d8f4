//! Messages that are sent again, because their answers were lost, after something that they consist of is gone: a file, or a message
//! that they combine. What is stored counts.

use std::sync::Arc;

use bytes::Bytes;
use zim_protocol::{ConversationRef, MessageEntry, MessageSentResult};

use crate::app::App;
use crate::connection::Caller;
use crate::db::params;
use crate::error::Error;
use crate::journal::{self, message_push};

impl App {
    /// Returns the message that the caller has sent under a key, as they see it now; `None`: there is none.
    pub(super) async fn sent_before(
        &self,
        caller: &Caller,
        name: &ConversationRef,
        key: [u8; 16],
    ) -> Result<Option<MessageSentResult>, Error> {
        let identity = caller.identity()?;
        let found = self.conversation_key(identity.app, identity.user, name.r#type, &name.id).await?;
        let Some(conversation) = found else { return Ok(None) };
        let ((high, low), sender) = (journal::halves(key), identity.user);
        let scrambler = Arc::clone(&self.tenants.of(identity.app)?.scrambler);
        let user_id = identity.user_id.to_string();
        let stored = self.db.read(async move |tx| {
            let sql = "SELECT seq, n, id, ts, kind, flags FROM message \
                       WHERE conversation = $1 AND key_hi = $2 AND key_lo = $3 AND sender = $4";
            let Some(row) = tx.fetch_one(sql, &params![conversation, high, low, sender]).await? else {
                return Ok(None);
            };
            Ok::<_, Error>(Some(MessageEntry {
                seq: row.get::<i64>(0)?.unsigned_abs(),
                n: row.get::<i64>(1)?.unsigned_abs(),
                message_id: scrambler.public(row.get(2)?),
                sender: user_id,
                ts: row.get(3)?,
                kind: row.get(4)?,
                flags: row.get(5)?,
                client_key: Bytes::copy_from_slice(&key),
                ..MessageEntry::default()
            }))
        });
        let Some(stored) = stored.await? else { return Ok(None) };
        let seq = stored.seq.cast_signed();
        let entry = match self.stored_entry(identity, conversation, seq).await? {
            Some(entry) => {
                caller.add_push(message_push(vec![entry.clone()], name.clone()));
                entry
            }
            // They have deleted it for themselves.
            None if self.has_deleted(identity.user, conversation, seq).await? => stored,
            // They have left the group.
            None => return Ok(None),
        };
        let message = entry.into_message(&identity.user_id, name).map_err(Error::internal)?;
        Ok(Some(MessageSentResult { message: Some(message) }))
    }
}
