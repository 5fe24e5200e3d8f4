//! The blacklist: users whose messages a user does not want.

use zim_protocol::{
    AddUsersToBlacklistRequest, BlacklistCheckedResult, BlacklistQueriedResult, BlacklistQueryConfig,
    BlacklistUsersAddedResult, BlacklistUsersRemovedResult, CheckUserIsInBlacklistRequest, QueryBlacklistRequest,
    RemoveUsersFromBlacklistRequest, Validate,
};

use crate::error::Error;
use crate::store::block;
use crate::types::strings;
use crate::zim::Zim;

impl Zim {
    /// Blocks up to 20 users. Once this returns, nothing that they send arrives; this user can still write to them.
    /// Blocked users are not notified; all devices of this user get `blacklistChanged`. The result lists the users who
    /// could not be blocked; if that is all of them, the call fails.
    ///
    /// # Errors
    /// - 6000001: not 1 to 20 users.
    /// - If no user was blocked, the reason: 6000011: no such user. 6000804: blocked already. 6000805: the user
    ///   themselves. 6000808: the list is full. 6000815: several reasons.
    pub fn add_users_to_blacklist<I>(
        &self,
        user_ids: I,
    ) -> impl Future<Output = Result<BlacklistUsersAddedResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.call(AddUsersToBlacklistRequest { user_ids: strings(user_ids) })
    }

    /// Unblocks up to 20 users, with immediate effect. The result lists the users who could not be unblocked; if that
    /// is all of them, the call fails.
    ///
    /// # Errors
    /// - 6000001: not 1 to 20 users.
    /// - If no user was unblocked, the reason: 6000011: no such user. 6000807: not blocked. 6000806: unblocked
    ///   already. 6000816: several reasons.
    pub fn remove_users_from_blacklist<I>(
        &self,
        user_ids: I,
    ) -> impl Future<Output = Result<BlacklistUsersRemovedResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.call(RemoveUsersFromBlacklistRequest { user_ids: strings(user_ids) })
    }

    /// Returns a page of 1 to 100 blocked users, last blocked first. `nextFlag` of the result is the cursor of the next
    /// page; 0 asks for the first page and marks the end. Without a connection the result comes from the local copy.
    ///
    /// # Errors
    /// 6000001: `count` is not between 1 and 100.
    pub async fn query_blacklist(&self, config: BlacklistQueryConfig) -> Result<BlacklistQueriedResult, Error> {
        let account = self.account()?;
        let request = QueryBlacklistRequest { config: Some(config) };
        request.validate()?;
        if account.is_online() {
            return account.request(request).await;
        }
        let page = account.store().read(move |db| block::page(db, config.next_flag, config.count));
        let (blacklist, next_flag) = page.await?;
        Ok(BlacklistQueriedResult { blacklist, next_flag })
    }

    /// Returns whether a user is blocked. Without a connection the result comes from the local copy.
    ///
    /// # Errors
    /// 6000011: there is no such user. 6000001: this is no user ID.
    pub async fn check_user_is_in_blacklist(&self, user_id: &str) -> Result<BlacklistCheckedResult, Error> {
        let account = self.account()?;
        let request = CheckUserIsInBlacklistRequest { user_id: user_id.to_owned() };
        request.validate()?;
        if account.is_online() {
            return account.request(request).await;
        }
        let listed = account.store().read(move |db| block::is_listed(db, &request.user_id));
        Ok(BlacklistCheckedResult { is_user_in_blacklist: listed.await? })
    }
}
