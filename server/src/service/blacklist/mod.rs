//! The blacklist: the users whose messages a user does not want. Only the user's own devices learn of it.
//!
//! After `addUsersToBlacklist` is answered, nothing that the blocked user sends is stored or delivered:
//! - A message is numbered under the lock of its conversation and reads `blocks` there. The job that blocks sets
//!   `blocks` under the same lock. So the message is either before the block or refused.
//! - A new conversation reads the table of blocks under the locks of its two users. The job that blocks holds one of
//!   them. So either the conversation finds the block, or the job finds the conversation and starts over with its lock.
//! - A command has no log and no lock. The [`BlockFence`](crate::block_fence::BlockFence) lets it pass only if no block
//!   was made since it read the blacklist.

mod rules;
mod store;

use std::collections::HashMap;

use zim_protocol::{
    AddUsersToBlacklistRequest, BlacklistCheckedResult, BlacklistQueriedResult, BlacklistUsersAddedResult,
    BlacklistUsersRemovedResult, CheckUserIsInBlacklistRequest, ErrorCode, ErrorUserInfo, QueryBlacklistRequest,
    RemoveUsersFromBlacklistRequest, server::BlacklistService,
};

use self::rules::Edit;
pub(crate) use self::store::{feed_entries, is_blocked};
use crate::app::App;
use crate::connection::Caller;
use crate::db::Locks;
use crate::error::Error;
use crate::fanout::feed_push;
use crate::key::UserKey;
use crate::service::conversation::peer_conversations;

impl BlacklistService for App {
    async fn add_users_to_blacklist(
        &self,
        caller: &Caller,
        request: AddUsersToBlacklistRequest,
    ) -> Result<BlacklistUsersAddedResult, Error> {
        let edit = Edit::Add { limit: i64::from(self.config.limits.max_blocked_users) };
        let error_user_list = self.edit_blacklist(caller, request.user_ids, edit).await?;
        // Commands that read the blacklist before the commit and are not delivered yet read it again.
        self.block_fence.advance();
        Ok(BlacklistUsersAddedResult { error_user_list })
    }

    async fn remove_users_from_blacklist(
        &self,
        caller: &Caller,
        request: RemoveUsersFromBlacklistRequest,
    ) -> Result<BlacklistUsersRemovedResult, Error> {
        let error_user_list = self.edit_blacklist(caller, request.user_ids, Edit::Remove).await?;
        Ok(BlacklistUsersRemovedResult { error_user_list })
    }

    async fn query_blacklist(
        &self,
        caller: &Caller,
        request: QueryBlacklistRequest,
    ) -> Result<BlacklistQueriedResult, Error> {
        let (user, config) = (caller.identity()?.user, request.config.unwrap_or_default());
        let (blacklist, next_flag) =
            self.db.read(async move |tx| store::page(tx, user, config.next_flag, config.count).await).await?;
        Ok(BlacklistQueriedResult { blacklist, next_flag })
    }

    async fn check_user_is_in_blacklist(
        &self,
        caller: &Caller,
        request: CheckUserIsInBlacklistRequest,
    ) -> Result<BlacklistCheckedResult, Error> {
        let identity = caller.identity()?;
        let user = identity.user;
        let other = self
            .user_key(identity.app, &request.user_id)
            .await?
            .ok_or_else(|| Error::user_not_found(&request.user_id))?;
        let is_user_in_blacklist = self.db.read(async move |tx| is_blocked(tx, user, other).await).await?;
        Ok(BlacklistCheckedResult { is_user_in_blacklist })
    }
}

impl App {
    /// Puts users on the caller's blacklist or removes them. Returns those for whom this failed, if it succeeded for
    /// others.
    async fn edit_blacklist(
        &self,
        caller: &Caller,
        user_ids: Vec<String>,
        edit: Edit,
    ) -> Result<Vec<ErrorUserInfo>, Error> {
        let identity = caller.identity()?;
        let (app, user, login) = (identity.app, identity.user, identity.login);
        let mut errors = Vec::new();
        let mut names: HashMap<UserKey, String> = HashMap::with_capacity(user_ids.len());
        let mut users = Vec::with_capacity(user_ids.len());
        for user_id in user_ids {
            match self.user_key(app, &user_id).await? {
                Some(key) if names.contains_key(&key) => {}
                Some(key) => {
                    names.insert(key, user_id);
                    users.push(key);
                }
                None => errors.push(refused(user_id, ErrorCode::CommonModuleUserIsNotExist)),
            }
        }
        let edited = loop {
            let peers = users.clone();
            let locked = self.db.read(async move |tx| peer_conversations(tx, app, user, &peers).await).await?;
            let locks = Locks {
                conversations: locked.iter().map(|(conversation, _)| conversation.0).collect(),
                users: vec![user.0],
            };
            let peers = users.clone();
            let done = self.db.submit(user.0.unsigned_abs(), locks, async move |tx| {
                let conversations = peer_conversations(tx, app, user, &peers).await?;
                if conversations.iter().any(|conversation| !locked.contains(conversation)) {
                    // A conversation was made after the read, so it is not locked.
                    return Ok(None);
                }
                store::edit(tx, user, &peers, edit, &conversations, login).await.map(Some)
            });
            if let Some(edited) = done.await? {
                break edited;
            }
        };
        errors.extend(edited.refused.into_iter().filter_map(|(user, code)| Some(refused(names.remove(&user)?, code))));
        if edited.entries.is_empty() {
            return Err(Error::all_refused(&errors, edit.all_refused()));
        }
        for (pos, entry) in edited.entries {
            caller.add_push(feed_push(pos, entry));
        }
        Ok(errors)
    }
}

fn refused(user_id: String, code: ErrorCode) -> ErrorUserInfo {
    ErrorUserInfo { user_id, reason: i64::from(code as i32) }
}
