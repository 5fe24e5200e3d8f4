//! What the app changes on this device only.

use prost::Message as _;
use zim_protocol::Message;

use super::message_change::deleted;
use super::{Gone, Transaction};
use crate::store::message_transfer::{self, Exported};
use crate::store::outgoing::Pending;
use crate::store::{conversation, conversation_setting, message, message_change as rows};
use crate::types::Name;

/// A change of what this device has.
#[derive(Clone, Debug)]
pub(crate) enum Local {
    /// Deletes messages.
    Delete { name: Name, messages: Vec<Message> },
    /// Deletes all messages of a conversation.
    Clear(Name),
    /// Deletes the messages of a conversation that only this device has, up to a row.
    ClearUnsent(Name, i64),
    /// Adds a message.
    Insert { name: Name, sender: String, pending: Pending },
    /// Sets the data of a message that only this device has.
    Data { name: Name, message: Box<Message>, data: String },
    /// A file of a message is on this device.
    File { name: Name, message: Box<Message>, index: usize, url: String, path: String },
    /// Adds messages of a file that this device does not have.
    Import(Vec<Exported>),
    /// Files are no longer on this device.
    NoFiles(Vec<String>),
    /// The app hears of what is gone already.
    Gone(Vec<Gone>),
}

impl Transaction<'_> {
    pub(super) fn local(&mut self, local: Local) -> rusqlite::Result<()> {
        match local {
            Local::Delete { name, messages } => {
                let id = self.touch(&name)?;
                let to = name.to_ref();
                for message in messages {
                    let Some((row, found)) = rows::find(self.db, id, &message)? else { continue };
                    rows::delete_here(self.db, row, &found)?;
                    self.recent.take_sending(&found.client_key);
                    if found.seq > 0 {
                        self.replies_changed(id, &to, found.seq, deleted)?;
                    }
                }
                self.recent.forget_deleted();
            }
            Local::Clear(name) => {
                let id = self.touch(&name)?;
                rows::clear_here(self.db, id)?;
                self.recent.forget_deleted();
            }
            Local::ClearUnsent(name, last_row) => {
                if conversation::id(self.db, &name)?.is_some() {
                    let id = self.touch(&name)?;
                    rows::clear_unsent(self.db, id, last_row)?;
                    self.recent.forget_deleted();
                }
            }
            Local::Insert { name, sender, pending } => {
                let id = self.touch(&name)?;
                self.last_place = None;
                conversation_setting::show(self.db, id)?;
                rows::insert(self.db, id, &sender, &pending)?;
            }
            Local::Data { name, message, data } => {
                let found = match conversation::id(self.db, &name)? {
                    Some(id) => rows::find(self.db, id, &message)?,
                    None => None,
                };
                if let Some((row, found)) = found {
                    self.touch(&name)?;
                    rows::set_local_data(self.db, row, &data)?;
                    // What is remembered of it has other data.
                    self.recent.take_sending(&found.client_key);
                } else if let Ok(message_id @ 1..) = message.message_id.parse() {
                    // Its row was dropped since the app asked.
                    message::keep_data(self.db, message_id, &data)?;
                }
            }
            Local::File { name, message, index, url, path } => {
                if let Some(id) = conversation::id(self.db, &name)?
                    && let Some((row, found)) = rows::find(self.db, id, &message)?
                    && let Ok(mut content) = Message::decode(found.content.clone())
                    && let Some(part) = content.media_part(index)
                    && *part.download_url == url
                {
                    *part.local_path = path;
                    self.touch(&name)?;
                    message::set_content_of(self.db, row, &content.encode_to_vec())?;
                    self.recent.take_sending(&found.client_key);
                }
            }
            Local::Import(messages) => {
                self.last_place = None;
                for message in messages {
                    let name = Name::new(message.conversation.r#type, message.conversation.id.clone());
                    // Before it changes, as the app sees it.
                    if conversation::id(self.db, &name)?.is_some() {
                        self.touch(&name)?;
                        message_transfer::import(self.db, &self.viewer.user_id, message)?;
                    }
                }
            }
            Local::NoFiles(paths) => {
                for path in paths {
                    for (row, conversation, content) in message::with_content(self.db, &path)? {
                        let Ok(mut content) = Message::decode(&content[..]) else { continue };
                        let parts = content.media_parts();
                        parts
                            .into_iter()
                            .filter(|part| *part.local_path == path)
                            .for_each(|part| part.local_path.clear());
                        self.touch(&conversation::name(self.db, conversation)?)?;
                        message::set_content_of(self.db, row, &content.encode_to_vec())?;
                        self.recent.forget_sending();
                    }
                }
            }
            Local::Gone(gone) => gone.into_iter().for_each(|gone| self.gone(gone)),
        }
        Ok(())
    }
}
