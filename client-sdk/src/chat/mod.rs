//! Handles of conversations: the API that a Rust developer expects, beside the reference's methods, which it calls.

/// Sending.
mod send;
/// Replying, editing, pinning, reacting, deleting.
mod message;
/// Revoking.
mod revoke;
/// Reading, from new to old.
mod history;
/// The conversation in the list: pin, marks, draft.
mod list;
/// Groups.
mod group;
/// Rooms.
mod room;
/// Streams that fetch page after page.
mod items;
/// Search.
mod search;
/// Calls.
mod call;

use std::sync::Arc;

use zim_protocol::{Conversation, ConversationType, ErrorCode, Message, TellTypingRequest};

pub use self::call::{Call, Ring};
pub use self::group::Group;
pub use self::history::History;
pub use self::items::Items;
pub use self::revoke::Revoke;
pub use self::room::Room;
pub use self::send::SendMessage;
use crate::error::Error;
use crate::zim::Zim;

/// A conversation with another user or a group. It is a cheap handle: a client and an ID. Nothing happens until a method is
/// called, and nobody checks that the other side exists.
///
/// ```no_run
/// # async fn example(zim: &zim_client_sdk::Zim) -> Result<(), zim_client_sdk::Error> {
/// let bob = zim.peer("bob");
/// let sent = bob.send("hi").await?;
/// println!("message {} is stored", sent.message_seq);
/// for message in bob.history().next_page(20).await? {
///     println!("{}: {}", message.sender_user_id, message.as_text().unwrap_or_default());
/// }
/// bob.clear_unread().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Chat {
    zim: Zim,
    id: Arc<str>,
    kind: ConversationType,
}

impl Zim {
    /// Returns the conversation with another user.
    pub fn peer(&self, user_id: impl AsRef<str>) -> Chat {
        self.chat(user_id, ConversationType::Peer)
    }

    /// Returns a group: its conversation and its members. [`Zim::create_group`] creates one.
    pub fn group(&self, group_id: impl AsRef<str>) -> Group {
        Group::new(self.chat(group_id, ConversationType::Group))
    }

    /// Returns a conversation of either type, such as one of the list.
    pub fn chat(&self, conversation_id: impl AsRef<str>, conversation_type: ConversationType) -> Chat {
        Chat { zim: self.clone(), id: Arc::from(conversation_id.as_ref()), kind: conversation_type }
    }
}

impl Chat {
    /// Returns the other user's ID, or the group's.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the type of the conversation.
    pub fn conversation_type(&self) -> ConversationType {
        self.kind
    }

    /// Returns the client.
    pub fn zim(&self) -> &Zim {
        &self.zim
    }

    /// Prepares a message to send; `&str` and `String` are texts. It is sent when the result is awaited:
    /// `chat.send("hi").await?`. See [`SendMessage`] for options.
    pub fn send(&self, message: impl Into<Message>) -> SendMessage {
        SendMessage::new(self.clone(), message.into())
    }

    /// Tells the other user that this one is writing: the devices that are online get `peerTypingChanged`, and again after five seconds or
    /// with the next message. Call it at each key: the other side is told at most every three seconds and after each message, and not at
    /// all without a connection. It is sent at the call; the future only has the answer. The reference has nothing of the kind.
    ///
    /// # Errors
    /// 6000284: the other user has blocked this one. 6000204: there is no such user. 6000001: this is a group, or the user themselves.
    pub fn typing(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let is_peer = self.kind == ConversationType::Peer;
        let tells = self.zim.account();
        let tells = tells.map(|account| is_peer && account.is_online() && account.tells_typing(&self.id));
        let told = match tells {
            Ok(true) => Some(self.zim.call(TellTypingRequest { user_id: self.id.to_string() })),
            _ => None,
        };
        async move {
            tells?;
            if !is_peer {
                return Err(Error::new(
                    ErrorCode::CommonModuleParamsInvalid,
                    "nobody is told who is writing to a group",
                ));
            }
            match told {
                Some(told) => told.await.map(drop),
                None => Ok(()),
            }
        }
    }

    /// Prepares to revoke a message of this conversation. That happens when the result is awaited:
    /// `chat.revoke(&message).await?`. See [`Revoke`] for options.
    pub fn revoke(&self, message: &Message) -> Revoke {
        Revoke::new(self.clone(), message)
    }

    /// Returns a reader of the history, from new to old.
    pub fn history(&self) -> History {
        History::new(self.clone())
    }

    /// Returns messages by their positions, at most 10, in ascending order. Those that do not exist are left out.
    ///
    /// # Errors
    /// See [`Zim::query_messages`].
    pub async fn messages(&self, message_seqs: &[i64]) -> Result<Vec<Message>, Error> {
        Ok(self.zim.query_messages(message_seqs, &self.id, self.kind).await?.message_list)
    }

    /// Returns the conversation as it is in the list: its name, last message, unread count.
    ///
    /// # Errors
    /// 6000603: there is no such conversation. The first message creates it.
    pub async fn conversation(&self) -> Result<Conversation, Error> {
        let found = self.zim.query_conversation(&self.id, self.kind).await?;
        present(found.conversation, "conversation")
    }

    /// Marks the conversation as read, on all devices of this user.
    ///
    /// # Errors
    /// 6000603: there is no such conversation.
    pub async fn clear_unread(&self) -> Result<(), Error> {
        self.zim.clear_conversation_unread_message_count(&self.id, self.kind).await.map(drop)
    }
}

/// Returns what each answer has.
fn present<T>(value: Option<T>, name: &str) -> Result<T, Error> {
    value.ok_or_else(|| {
        Error::new(ErrorCode::NetworkModuleRspProtoParseError, format!("the answer of the server has no {name}"))
    })
}
