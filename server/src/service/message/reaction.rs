//! Reactions to messages.

use std::sync::Arc;

use zim_protocol::{
    AddMessageReactionRequest, DeleteMessageAllReactionsRequest, DeleteMessageReactionRequest,
    MessageAllReactionsDeletedResult, MessageChange, MessageChangeKind, MessageEntry, MessageReaction,
    MessageReactionAddedResult, MessageReactionDeletedResult, MessageReactionSimpleInfo, MessageReactionUserFullInfo,
    MessageReactionUserInfo, MessageReactionUserListQueriedResult, MessageType, QueryMessageReactionUserListRequest,
    server::MessageReactionService,
};

use super::MAX_PAGE;
use super::target::{Reference, Target};
use crate::app::App;
use crate::connection::{Caller, WriteTo};
use crate::db::{Scope, Tx, params};
use crate::error::Error;
use crate::journal::{LogWriter, state};

impl MessageReactionService for App {
    async fn add_message_reaction(
        &self,
        caller: &Caller,
        request: AddMessageReactionRequest,
    ) -> Result<MessageReactionAddedResult, Error> {
        let reference = self.reference(caller, &request.message.unwrap_or_default()).await?;
        let limits = &self.config.limits;
        let limits = (i64::from(limits.reaction_window_s) * 1_000, limits.max_reaction_types);
        let (kind, more) = (request.reaction_type, request.config.unwrap_or_default().increase_count);
        let target = WriteTo::conversation(Scope::conversation(reference.conversation.key), reference.name.clone());
        let reaction = caller.write(&self.db, target, async move |tx, log| {
            let target = find(tx, &reference, limits.0).await?;
            add(tx, log, &reference, &target, (&kind, more), limits.1).await?;
            shown(tx, &reference, &target, &kind).await
        });
        Ok(MessageReactionAddedResult { reaction: Some(reaction.await?) })
    }

    async fn delete_message_reaction(
        &self,
        caller: &Caller,
        request: DeleteMessageReactionRequest,
    ) -> Result<MessageReactionDeletedResult, Error> {
        let reference = self.reference(caller, &request.message.unwrap_or_default()).await?;
        let kind = request.reaction_type;
        let target = WriteTo::conversation(Scope::conversation(reference.conversation.key), reference.name.clone());
        let reaction = caller.write(&self.db, target, async move |tx, log| {
            let target = find_to_take_back(tx, &reference).await?;
            remove(tx, log, &reference, &target, &kind).await?;
            shown(tx, &reference, &target, &kind).await
        });
        Ok(MessageReactionDeletedResult { reaction: Some(reaction.await?) })
    }

    async fn delete_message_all_reactions(
        &self,
        caller: &Caller,
        request: DeleteMessageAllReactionsRequest,
    ) -> Result<MessageAllReactionsDeletedResult, Error> {
        let reference = self.reference(caller, &request.message.unwrap_or_default()).await?;
        let target = WriteTo::conversation(Scope::conversation(reference.conversation.key), reference.name.clone());
        let removed = caller.write(&self.db, target, async move |tx, log| {
            let target = find_to_take_back(tx, &reference).await?;
            let sql = "SELECT type FROM reaction WHERE conversation = $1 AND seq = $2 AND account = $3 ORDER BY place";
            let own = tx.fetch(sql, &params![reference.conversation.key, target.seq, reference.user]).await?;
            for row in &own {
                remove(tx, log, &reference, &target, &row.get::<String>(0)?).await?;
            }
            Ok(())
        });
        removed.await?;
        Ok(MessageAllReactionsDeletedResult {})
    }

    async fn query_message_reaction_user_list(
        &self,
        caller: &Caller,
        request: QueryMessageReactionUserListRequest,
    ) -> Result<MessageReactionUserListQueriedResult, Error> {
        let reference = self.reference(caller, &request.message.unwrap_or_default()).await?;
        let config = request.config.unwrap_or_default();
        let count = i64::try_from(MAX_PAGE).unwrap_or(i64::MAX);
        let count = if config.count > 0 { config.count.min(count) } else { count };
        let kind: Arc<str> = config.reaction_type.into();
        let wanted = (reference.clone(), Arc::clone(&kind));
        let (entry, users, next_flag) = self
            .db
            .read(async move |tx| {
                let (reference, kind) = wanted;
                let target = reference.find(tx).await?;
                let entry = reference.entry(tx, &target).await?;
                let sql = "SELECT r.place, a.name, r.count FROM reaction r JOIN account a ON a.id = r.account \
                           WHERE r.conversation = $1 AND r.seq = $2 AND r.type = $3 AND r.place > $4 ORDER BY r.place LIMIT $5";
                // What happened after the caller had left is not for them.
                let shown = entry.state.as_ref().map_or(&[][..], |state| &state.reactions);
                let rows = match shown.iter().any(|reaction| *reaction.reaction_type == *kind) {
                    true => {
                        let conversation = reference.conversation.key;
                        tx.fetch(sql, &params![conversation, target.seq, &*kind, config.next_flag, count + 1]).await?
                    }
                    false => Vec::new(),
                };
                let mut users = Vec::with_capacity(rows.len());
                let (mut last, most) = (0, usize::try_from(count).unwrap_or(MAX_PAGE));
                for row in rows.iter().take(most) {
                    last = row.get(0)?;
                    users.push((row.get::<String>(1)?, row.get::<i64>(2)?));
                }
                Ok((entry, users, if rows.len() > most { last } else { 0 }))
            })
            .await?;
        let total = entry.state.as_ref().and_then(|state| {
            state.reactions.iter().find(|reaction| *reaction.reaction_type == *kind).map(|reaction| reaction.user_count)
        });
        Ok(MessageReactionUserListQueriedResult {
            message: Some(reference.message(entry)?),
            reaction_type: kind.to_string(),
            next_flag,
            total_count: total.unwrap_or(0),
            user_list: users.iter().map(|(user_id, _)| MessageReactionUserInfo { user_id: user_id.clone() }).collect(),
            user_info_list: users
                .into_iter()
                .map(|(user_id, sum_count)| MessageReactionUserFullInfo {
                    user_id,
                    reactions: vec![MessageReactionSimpleInfo { reaction_type: kind.to_string(), sum_count }],
                })
                .collect(),
        })
    }
}

/// Finds a message that can be reacted to.
async fn find(tx: &mut Tx<'_>, reference: &Reference, window_ms: i64) -> Result<Target, Error> {
    let target = reference.find_to_show(tx).await?;
    if target.kind == MessageType::Tips as i32 {
        return Err(Error::message_type_unsupported("reacted to"));
    }
    if reference.now - target.ts > window_ms {
        return Err(Error::message_too_old(window_ms));
    }
    Ok(target)
}

/// Finds a message from which the caller takes a reaction back. Of a revoked message there is none left.
async fn find_to_take_back(tx: &mut Tx<'_>, reference: &Reference) -> Result<Target, Error> {
    let (target, _) = reference.find_to_change(tx).await?;
    if target.kind == MessageType::Revoke as i32 {
        return Err(Error::already_revoked());
    }
    Ok(target)
}

/// Adds to the caller's reaction of one type.
async fn add(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    reference: &Reference,
    target: &Target,
    (kind, more): (&str, i64),
    most_types: u32,
) -> Result<(), Error> {
    let (conversation, seq, user) = (reference.conversation.key, target.seq, reference.user);
    let sql = "SELECT count FROM reaction WHERE conversation = $1 AND seq = $2 AND account = $3 AND type = $4";
    let row = tx.fetch_one(sql, &params![conversation, seq, user, kind]).await?;
    let before: i64 = row.map_or(Ok(0), |row| row.get(0))?;
    if before > 0 && more == 0 {
        return Err(Error::reaction_exists(kind));
    }
    let sql = "SELECT users, total, first_users FROM reaction_total WHERE conversation = $1 AND seq = $2 AND type = $3";
    let total = tx.fetch_one(sql, &params![conversation, seq, kind]).await?;
    state::open(tx, conversation, seq).await?;
    if total.is_none() {
        let sql = "SELECT reactions FROM message_state WHERE conversation = $1 AND seq = $2";
        let row = tx.fetch_one(sql, &params![conversation, seq]).await?;
        if row.map_or(Ok(0), |row| row.get::<i64>(0))? >= i64::from(most_types) {
            return Err(Error::too_many_reactions(most_types));
        }
        let sql = "UPDATE message_state SET reactions = reactions + 1 WHERE conversation = $1 AND seq = $2";
        tx.execute(sql, &params![conversation, seq]).await?;
    }
    let more = more.max(1);
    let sum_count = before.saturating_add(more);
    let place = changed(tx, log, reference, seq, (kind, sum_count)).await?;
    let (users, sum, mut first) = match &total {
        Some(row) => (row.get::<i64>(0)?, row.get::<i64>(1)?, row.get::<Vec<u8>>(2)?),
        None => (0, 0, Vec::new()),
    };
    if before > 0 {
        let sql = "UPDATE reaction SET count = $5 WHERE conversation = $1 AND seq = $2 AND account = $3 AND type = $4";
        tx.execute(sql, &params![conversation, seq, user, kind, sum_count]).await?;
    } else {
        if first.len() < state::FIRST_USERS * 8 {
            first.extend(user.0.to_be_bytes());
        }
        let sql =
            "INSERT INTO reaction (conversation, seq, account, type, count, place) VALUES ($1, $2, $3, $4, $5, $6)";
        tx.execute(sql, &params![conversation, seq, user, kind, sum_count, place]).await?;
    }
    let users = users + i64::from(before == 0);
    let sum = sum.saturating_add(more);
    let sql = "INSERT INTO reaction_total (conversation, seq, type, users, total, place, first_users) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (conversation, seq, type) \
               DO UPDATE SET users = excluded.users, total = excluded.total, first_users = excluded.first_users";
    tx.execute(sql, &params![conversation, seq, kind, users, sum, place, first]).await?;
    Ok(())
}

/// Removes the caller's reaction of one type.
async fn remove(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    reference: &Reference,
    target: &Target,
    kind: &str,
) -> Result<(), Error> {
    let (conversation, seq, user) = (reference.conversation.key, target.seq, reference.user);
    let sql =
        "DELETE FROM reaction WHERE conversation = $1 AND seq = $2 AND account = $3 AND type = $4 RETURNING count";
    let row = tx.fetch_one(sql, &params![conversation, seq, user, kind]).await?;
    let count: i64 = row.ok_or_else(|| Error::no_reaction(kind))?.get(0)?;
    let sql = "SELECT account FROM reaction WHERE conversation = $1 AND seq = $2 AND type = $3 ORDER BY place LIMIT 5";
    let rows = tx.fetch(sql, &params![conversation, seq, kind]).await?;
    let mut first = Vec::with_capacity(rows.len() * 8);
    for row in &rows {
        first.extend(row.get::<i64>(0)?.to_be_bytes());
    }
    if first.is_empty() {
        let sql = "DELETE FROM reaction_total WHERE conversation = $1 AND seq = $2 AND type = $3";
        tx.execute(sql, &params![conversation, seq, kind]).await?;
        let sql = "UPDATE message_state SET reactions = reactions - 1 WHERE conversation = $1 AND seq = $2";
        tx.execute(sql, &params![conversation, seq]).await?;
    } else {
        let sql = "UPDATE reaction_total SET users = users - 1, total = total - $4, first_users = $5 \
                   WHERE conversation = $1 AND seq = $2 AND type = $3";
        tx.execute(sql, &params![conversation, seq, kind, count, first]).await?;
    }
    changed(tx, log, reference, seq, (kind, 0)).await?;
    Ok(())
}

/// Appends the change; returns its position.
async fn changed(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    reference: &Reference,
    seq: i64,
    (kind, sum_count): (&str, i64),
) -> Result<i64, Error> {
    let change = MessageChange {
        kind: MessageChangeKind::Reacted as i32,
        reaction_type: kind.to_owned(),
        is_added: sum_count > 0,
        sum_count,
    };
    log.change_message(tx, &reference.conversation, seq, change, (reference.user, reference.now)).await
}

/// Returns the reactions of one type as the caller sees them now.
async fn shown(tx: &mut Tx<'_>, reference: &Reference, target: &Target, kind: &str) -> Result<MessageReaction, Error> {
    let mut entry: MessageEntry = reference.entry(tx, target).await?;
    let found = entry
        .state
        .take()
        .and_then(|state| state.reactions.into_iter().find(|reaction| reaction.reaction_type == kind));
    let message = reference.message(entry)?;
    Ok(match found {
        Some(reaction) => reaction.into_reaction(&message),
        None => MessageReaction {
            reaction_type: kind.to_owned(),
            conversation_id: message.conversation_id,
            conversation_type: message.conversation_type,
            message_id: message.message_id,
            ..MessageReaction::default()
        },
    })
}
