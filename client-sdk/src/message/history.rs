//! Pages of history.

use std::sync::Arc;

use zim_protocol::{
    ConversationRef, Message, MessageQueryConfig, MessageQueryMode, ORDER_KEY_STEP, QueryHistoryMessageRequest,
};

use super::{invalid, is_unknown, messages};
use crate::account::{Account, Remote, fill_request};
use crate::error::Error;
use crate::outbox::is_network;
use crate::store::message::shown;
use crate::store::{conversation, message_change, page};
use crate::types::{Key, Name};

/// The most requests for one page: the server limits its pages in bytes, so a page of large messages takes several.
const MAX_FILLS: usize = 100;

/// Returns a page of history: from the local database where it has the messages, otherwise from the server.
pub(crate) async fn history<L: Remote>(
    account: &Account<L>,
    name: &Name,
    config: &MessageQueryConfig,
    count: usize,
) -> Result<Vec<Message>, Error> {
    let mode = MessageQueryMode::try_from(config.mode).map_err(|_| invalid("config.mode must be 0, 1 or 2"))?;
    let is_older = config.reverse;
    account.listed().await;
    let wanted = name.clone();
    let known = account.store().read(move |db| conversation::id(db, &wanted)).await?;
    let anchor = match &config.next_message {
        None => None,
        Some(next) => match anchor(account, (name, known), next).await? {
            Anchor::Start => None,
            Anchor::Place(order_key, key) => Some((order_key, key)),
            Anchor::Elsewhere => return history_of_server(account, name, config, mode).await,
        },
    };
    let Some(conversation) = known else {
        return unknown_history(account, name, is_older, anchor.map_or(0, |anchor| anchor.0), count, mode).await;
    };
    let is_local_only = mode == MessageQueryMode::OnlyLocal;
    let query = page::Query { conversation, anchor: anchor.clone(), is_older, count, is_local_only };
    let mut fresh = (mode == MessageQueryMode::PreferServer).then(|| first_fill(anchor.as_ref(), is_older));
    for _ in 0..MAX_FILLS {
        let mut piece = None;
        let beyond = match fresh.take() {
            Some(beyond) => beyond,
            None => {
                let query = query.clone();
                let read = account.store().read(move |db| page::read(db, &query)).await?;
                let gap = read.gap;
                let Some(gap) = gap else { return Ok(messages(account, name, read.rows)) };
                piece = Some(read);
                gap
            }
        };
        let missing = count - piece.as_ref().map_or(0, |piece| piece.rows.len());
        match account.fill(name, is_older, beyond, missing).await {
            Ok(true) => {}
            Err(error) if !is_network(&error) && !is_unknown(&error) => return Err(error),
            // The server had nothing new or could not be reached: return the messages before the gap.
            Ok(false) | Err(_) => break,
        }
    }
    let query = query.clone();
    let piece = account.store().read(move |db| page::read(db, &query)).await?;
    Ok(messages(account, name, piece.rows))
}

/// Where a page begins.
enum Anchor {
    /// There is no anchor: the message has nothing that identifies it.
    Start,
    /// The order key of a message, and its key while the server has not stored it.
    Place(i64, Vec<u8>),
    /// This device does not hold the message.
    Elsewhere,
}

/// Returns the place of a message of a conversation. Without an order key or a position, it is looked up by its ID.
async fn anchor<L: Remote>(
    account: &Account<L>,
    (name, conversation): (&Name, Option<i64>),
    message: &Message,
) -> Result<Anchor, Error> {
    // Its place says nothing about another conversation. An app may name a message by its ID alone.
    let is_elsewhere = !message.conversation_id.is_empty()
        && (*message.conversation_id != *name.id || message.conversation_type != name.kind);
    if is_elsewhere {
        return Err(invalid("config.nextMessage is a message of another conversation"));
    }
    let key: Option<Key> = zim_protocol::id::from_hex(&message.local_message_id);
    let key = key.map(Vec::from).unwrap_or_default();
    if message.order_key > 0 {
        return Ok(Anchor::Place(message.order_key, key));
    }
    if message.message_seq > 0 {
        return Ok(Anchor::Place(message.message_seq.saturating_mul(ORDER_KEY_STEP), Vec::new()));
    }
    if message.message_id.is_empty() && message.local_message_id.is_empty() {
        return Ok(Anchor::Start);
    }
    let message_id = message.message_id.parse().unwrap_or(0);
    let Some(conversation) = conversation else { return Ok(Anchor::Elsewhere) };
    let found = account.store().read(move |db| page::place(db, conversation, message_id, &key)).await?;
    Ok(found.map_or(Anchor::Elsewhere, |(order_key, key)| Anchor::Place(order_key, key)))
}

/// Returns a page of history from the server, for an anchor that this device does not hold. It may be shorter than requested, but is
/// empty only at the end.
async fn history_of_server<L: Remote>(
    account: &Account<L>,
    name: &Name,
    config: &MessageQueryConfig,
    mode: MessageQueryMode,
) -> Result<Vec<Message>, Error> {
    let next = config.next_message.as_ref();
    let mut message_id = next.map(|next| next.message_id.clone()).unwrap_or_default();
    if message_id.is_empty() || mode == MessageQueryMode::OnlyLocal {
        return Err(invalid("config.nextMessage is not a message of this conversation that this device holds"));
    }
    for _ in 0..MAX_FILLS {
        let next_message = Some(Message { message_id, ..Message::default() });
        let request = QueryHistoryMessageRequest {
            conversation_id: name.id.to_string(),
            conversation_type: name.kind,
            config: Some(MessageQueryConfig { next_message, ..config.clone() }),
        };
        let page = account.request(request).await?.message_list;
        let last = if config.reverse { page.first() } else { page.last() };
        let Some(last) = last.map(|last| last.message_id.clone()) else { break };
        let left = without_deleted(account, name, page).await?;
        if !left.is_empty() {
            return Ok(left);
        }
        // This device has deleted all of them.
        message_id = last;
    }
    Ok(Vec::new())
}

/// Leaves out of what the server returns what this device alone has deleted, which the server does not know.
pub(super) async fn without_deleted<L: Remote>(
    account: &Account<L>,
    name: &Name,
    found: Vec<Message>,
) -> Result<Vec<Message>, Error> {
    let (wanted, viewer) = (name.clone(), Arc::clone(account.user_id()));
    let read = account.store().read(move |db| {
        let Some(id) = conversation::id(db, &wanted)? else { return Ok(found) };
        let mut left = Vec::with_capacity(found.len());
        for message in found {
            let message_id = message.message_id.parse().unwrap_or(0);
            let seq = u64::try_from(message.message_seq).unwrap_or(0);
            let is_own = *message.sender_user_id == *viewer;
            let key: Option<Key> = zim_protocol::id::from_hex(&message.local_message_id).filter(|_| is_own);
            let is_deleted = message_change::is_deleted(db, id, message_id, (seq, message.timestamp))?
                || key.map_or(Ok(false), |key| message_change::is_key_deleted(db, &key))?;
            if !is_deleted {
                left.push(message);
            }
        }
        Ok(left)
    });
    read.await
}

/// Returns the anchor of a request to the server that ignores what is held.
fn first_fill(anchor: Option<&(i64, Vec<u8>)>, is_older: bool) -> u64 {
    let Some((order_key, _)) = anchor else { return 0 };
    let seq =
        if is_older { (order_key - 1).div_euclid(ORDER_KEY_STEP) + 1 } else { order_key.div_euclid(ORDER_KEY_STEP) };
    u64::try_from(seq).unwrap_or(0)
}

/// Returns history of a conversation that is not in the list. The server may have one; if not, the history is empty.
async fn unknown_history<L: Remote>(
    account: &Account<L>,
    name: &Name,
    is_older: bool,
    order_key: i64,
    count: usize,
    mode: MessageQueryMode,
) -> Result<Vec<Message>, Error> {
    if mode == MessageQueryMode::OnlyLocal {
        return Ok(Vec::new());
    }
    let to: ConversationRef = name.to_ref();
    let anchor = first_fill((order_key > 0).then_some((order_key, Vec::new())).as_ref(), is_older);
    match account.remote().request(None, fill_request(to.clone(), is_older, anchor, count)).await {
        Ok((fill, _)) => Ok(fill.messages.into_iter().map(|entry| shown(entry, account.user_id(), &to)).collect()),
        Err(error) if is_network(&error) || is_unknown(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
