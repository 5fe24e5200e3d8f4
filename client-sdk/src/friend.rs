//! Friends and friend applications. With a connection the server answers queries; without one the local copy does.

use std::collections::{HashMap, HashSet};

use zim_protocol::{
    AcceptFriendApplicationRequest, AddFriendRequest, CheckFriendsRelationRequest, DeleteFriendsRequest, ErrorCode,
    ErrorUserInfo, FriendAddConfig, FriendAddedResult, FriendAliasUpdatedResult, FriendApplicationAcceptConfig,
    FriendApplicationAcceptedResult, FriendApplicationListQueriedResult, FriendApplicationListQueryConfig,
    FriendApplicationRejectConfig, FriendApplicationRejectedResult, FriendApplicationSendConfig,
    FriendApplicationSentResult, FriendAttributesUpdatedResult, FriendDeleteConfig, FriendListQueriedResult,
    FriendListQueryConfig, FriendRelationCheckConfig, FriendSearchConfig, FriendsDeletedResult,
    FriendsInfoQueriedResult, FriendsRelationCheckedResult, FriendsSearchedResult, QueryFriendApplicationListRequest,
    QueryFriendListRequest, QueryFriendsInfoRequest, RejectFriendApplicationRequest, SendFriendApplicationRequest,
    UpdateFriendAliasRequest, UpdateFriendAttributesRequest, Validate,
};

use crate::error::Error;
use crate::store::{friend, friend_application};
use crate::types::strings;
use crate::zim::Zim;

fn valid<R: Validate>(request: R) -> Result<R, Error> {
    request.validate()?;
    Ok(request)
}

impl Zim {
    /// Adds a user as a friend, and this user as theirs, at once and without their consent. Alias and attributes are
    /// visible to this user only.
    ///
    /// # Errors
    /// - 6000811: there is no such user. 6000810: it is the user themselves. 6000803: they are friends already.
    /// - 6000801: one of the two lists is full. 6000021: the other one has blocked the user.
    /// - 6000001: the alias or the attributes are too long.
    pub fn add_friend(
        &self,
        user_id: &str,
        config: FriendAddConfig,
    ) -> impl Future<Output = Result<FriendAddedResult, Error>> + Send + 'static + use<> {
        self.call(AddFriendRequest { user_id: user_id.to_owned(), config: Some(config) })
    }

    /// Sends a friend application. If this user is on the other's list already, both are friends at once, and the
    /// result says that the application is accepted.
    ///
    /// # Errors
    /// - 6000811: there is no such user. 6000810: it is the user themselves. 6000803: they are friends already.
    /// - 6000801: one of the two lists is full. 6000021: the other one has blocked the user.
    /// - 6000001: the wording, the alias or the attributes are too long.
    pub fn send_friend_application(
        &self,
        user_id: &str,
        config: FriendApplicationSendConfig,
    ) -> impl Future<Output = Result<FriendApplicationSentResult, Error>> + Send + 'static + use<> {
        self.call(SendFriendApplicationRequest { user_id: user_id.to_owned(), config: Some(config) })
    }

    /// Deletes up to 20 users from the list of friends; with type `Both`, the default, this user is deleted from their
    /// lists as well. The result lists the users who could not be deleted, with the reason; if that is all of them, the
    /// call fails.
    ///
    /// # Errors
    /// - 6000809: more than 20 users. 6000001: none, or an ID that is none.
    /// - If no user was deleted, the reason: 6000812: not a friend. 6000811: no such user. 6000813: the user
    ///   themselves.
    pub fn delete_friends<I>(
        &self,
        user_ids: I,
        config: FriendDeleteConfig,
    ) -> impl Future<Output = Result<FriendsDeletedResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.call(DeleteFriendsRequest { user_ids: strings(user_ids), config: Some(config) })
    }

    /// Checks whether up to 20 users are on the list of friends; with type `Both`, the default, also whether this user
    /// is on theirs.
    ///
    /// # Errors
    /// 6000809: more than 20 users. 6000811: none of them is registered.
    pub fn check_friends_relation<I>(
        &self,
        user_ids: I,
        config: FriendRelationCheckConfig,
    ) -> impl Future<Output = Result<FriendsRelationCheckedResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.call(CheckFriendsRelationRequest { user_ids: strings(user_ids), config: Some(config) })
    }

    /// Changes the alias of a friend, which is also the alias of the conversation with them. Only the devices of this
    /// user see it. An empty alias removes it.
    ///
    /// # Errors
    /// 6000812: the other one is not a friend. 6000811: there is no such user. 6000001: the alias is longer than 256
    /// characters.
    pub fn update_friend_alias(
        &self,
        friend_alias: &str,
        user_id: &str,
    ) -> impl Future<Output = Result<FriendAliasUpdatedResult, Error>> + Send + 'static + use<> {
        let (friend_alias, user_id) = (friend_alias.to_owned(), user_id.to_owned());
        self.call(UpdateFriendAliasRequest { friend_alias, user_id })
    }

    /// Sets attributes `k0` to `k4` of a friend. Attributes that are not given stay, and an empty value removes one.
    ///
    /// # Errors
    /// 6000812: the other one is not a friend. 6000001: no attribute, another one than `k0` to `k4`, or all together
    /// are longer than 1,024 bytes.
    pub fn update_friend_attributes(
        &self,
        friend_attributes: HashMap<String, String>,
        user_id: &str,
    ) -> impl Future<Output = Result<FriendAttributesUpdatedResult, Error>> + Send + 'static + use<> {
        self.call(UpdateFriendAttributesRequest { friend_attributes, user_id: user_id.to_owned() })
    }

    /// Accepts a friend application: both users become friends.
    ///
    /// # Errors
    /// - 6000802: no application of this user waits. 6000814: it has expired.
    /// - 6000801: one of the two lists is full. 6000811: there is no such user. 6000810: it is the user themselves.
    pub fn accept_friend_application(
        &self,
        user_id: &str,
        config: FriendApplicationAcceptConfig,
    ) -> impl Future<Output = Result<FriendApplicationAcceptedResult, Error>> + Send + 'static + use<> {
        self.call(AcceptFriendApplicationRequest { user_id: user_id.to_owned(), config: Some(config) })
    }

    /// Rejects a friend application.
    ///
    /// # Errors
    /// 6000802: no application of this user waits. 6000814: it has expired. 6000811: there is no such user.
    pub fn reject_friend_application(
        &self,
        user_id: &str,
        config: FriendApplicationRejectConfig,
    ) -> impl Future<Output = Result<FriendApplicationRejectedResult, Error>> + Send + 'static + use<> {
        self.call(RejectFriendApplicationRequest { user_id: user_id.to_owned(), config: Some(config) })
    }

    /// Returns up to 20 friends with alias and attributes.
    ///
    /// # Errors
    /// 6000809: more than 20 users. 6000812: none of them is a friend.
    pub async fn query_friends_info<I>(&self, user_ids: I) -> Result<FriendsInfoQueriedResult, Error>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let request = valid(QueryFriendsInfoRequest { user_ids: strings(user_ids) })?;
        let account = self.account()?;
        if account.is_online() {
            return account.request(request).await;
        }
        let mut seen = HashSet::new();
        let asked: Vec<String> = request.user_ids.into_iter().filter(|id| seen.insert(id.clone())).collect();
        let found = account.store().read(move |db| {
            asked.into_iter().map(|id| Ok((friend::read(db, &id)?, id))).collect::<rusqlite::Result<Vec<_>>>()
        });
        let mut result = FriendsInfoQueriedResult::default();
        let reason = i64::from(ErrorCode::FriendModuleNotYourFriend as i32);
        for (info, user_id) in found.await? {
            match info {
                Some(info) => result.friend_infos.push(info),
                None => result.error_user_list.push(ErrorUserInfo { user_id, reason }),
            }
        }
        if result.friend_infos.is_empty() {
            return Err(Error::new(ErrorCode::FriendModuleNotYourFriend, "none of these users is your friend"));
        }
        Ok(result)
    }

    /// Returns a page of the list of friends, newest friendship first. `nextFlag` of the result is the cursor of the
    /// next page; 0 is the end.
    ///
    /// # Errors
    /// 6000001: `count` is not between 1 and 100.
    pub async fn query_friend_list(&self, config: FriendListQueryConfig) -> Result<FriendListQueriedResult, Error> {
        let request = valid(QueryFriendListRequest { config: Some(config) })?;
        let account = self.account()?;
        if account.is_online() {
            return account.request(request).await;
        }
        let (friend_list, next_flag) =
            account.store().read(move |db| friend::page(db, config.next_flag, config.count)).await?;
        Ok(FriendListQueriedResult { friend_list, next_flag })
    }

    /// Returns a page of friend applications, sent and received, most recently changed first. `nextFlag` of the result
    /// is the cursor of the next page; 0 is the end.
    ///
    /// # Errors
    /// 6000001: `count` is not between 1 and 100.
    pub async fn query_friend_application_list(
        &self,
        config: FriendApplicationListQueryConfig,
    ) -> Result<FriendApplicationListQueriedResult, Error> {
        let request = valid(QueryFriendApplicationListRequest { config: Some(config) })?;
        let account = self.account()?;
        if account.is_online() {
            return account.request(request).await;
        }
        let now_ms = account.server_now_ms();
        let page = account.store().read(move |db| friend_application::page(db, config.next_flag, config.count, now_ms));
        let (application_list, next_flag) = page.await?;
        Ok(FriendApplicationListQueriedResult { application_list, next_flag })
    }

    /// Searches the local list of friends, newest friendship first, for names that contain all of 1 to 5 keywords; with
    /// `isAlsoMatchFriendAlias` a keyword may also be in the alias. The search works in any script, and ignores case and whether letters are composed. A
    /// page has 1 to 30 friends; `nextFlag` of the result is the cursor of the next page; 0 is the end. The server is
    /// not asked.
    ///
    /// # Errors
    /// 6000001: `count` or the keywords are out of bounds.
    pub async fn search_local_friends(&self, config: FriendSearchConfig) -> Result<FriendsSearchedResult, Error> {
        let config = valid(config)?;
        let account = self.account()?;
        account.listed().await;
        let (page, with_alias) = ((config.next_flag, config.count), config.is_also_match_friend_alias);
        let found = account.store().read(move |db| friend::search(db, &config.keywords, with_alias, page));
        let (friend_info_list, next_flag) = found.await?;
        Ok(FriendsSearchedResult { friend_info_list, next_flag })
    }
}
