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

use zim_protocol::{
    AddUsersToBlacklistRequest, BlacklistCheckedResult, BlacklistQueriedResult, BlacklistUsersAddedResult,
    BlacklistUsersRemovedResult, CheckUserIsInBlacklistRequest, ErrorUserInfo, QueryBlacklistRequest,
    RemoveUsersFromBlacklistRequest, server::BlacklistService,
};

use self::rules::Edit;
pub(crate) use self::store::{BLOCK, is_blocked};
use crate::app::App;
use crate::connection::{Caller, WriteTo};
use crate::db::Scope;
use crate::error::Error;
use crate::service::conversation::peer_conversations;
use crate::service::rows::Page;

impl BlacklistService for App {
    async fn add_users_to_blacklist(
        &self,
        caller: &Caller,
        request: AddUsersToBlacklistRequest,
    ) -> Result<BlacklistUsersAddedResult, Error> {
        let edit = Edit::Add { limit: i64::from(self.config.limits.max_blocked_users) };
        let error_user_list = self.edit_blacklist(caller, request.user_ids, edit).await?;
        // Commands that read the blacklist before the commit and are not delivered yet read it again.
        self.block_fence.advance(caller.identity()?.user);
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
        let page = Page::new(config.next_flag, config.count);
        let (blacklist, next_flag) = self.db.read(async move |tx| store::page(tx, user, page).await).await?;
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
        let (app, user) = (identity.app, identity.user);
        let named = self.resolve_users(caller, user_ids, Error::user_not_found).await?;
        let peers = named.keys();
        let refused = loop {
            let locked = self.db.read({
                let peers = peers.clone();
                async move |tx| peer_conversations(tx, app, user, &peers).await
            });
            let locked = locked.await?;
            let scope = Scope::user(user).and_conversations(locked.iter().map(|(conversation, _)| *conversation));
            let peers = peers.clone();
            let job = caller.write(&self.db, WriteTo::held(scope), async move |tx, log| {
                let conversations = peer_conversations(tx, app, user, &peers).await?;
                if conversations.iter().any(|conversation| !locked.contains(conversation)) {
                    // A conversation was made after the read, so it is not locked.
                    return Ok(None);
                }
                store::edit(tx, log, user, &peers, edit, &conversations).await.map(Some)
            });
            if let Some(refused) = job.await? {
                break refused;
            }
        };
        named.finish_without(refused, edit.all_refused())
    }
}
