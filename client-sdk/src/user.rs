//! People: their names and what belongs to their profile.

use std::collections::VecDeque;

use zim_protocol::{
    ErrorCode, ErrorUserInfo, QueryUsersInfoRequest, UpdateUserNameRequest, UserFullInfo, UserNameUpdatedResult,
    UsersInfoQueriedResult, UsersInfoQueryConfig, Validate,
};

use crate::error::Error;
use crate::store::user;
use crate::zim::Zim;

/// Users that the server is asked for in [`WINDOW_MS`] at most.
const MAX_QUERIED: usize = 10;
const WINDOW_MS: i64 = 10_000;

/// How many users the server was asked for lately. Pure: no clock.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    asked: VecDeque<(i64, usize)>,
}

impl Limiter {
    /// Counts `count` more users, if they are allowed.
    pub(crate) fn take(&mut self, count: usize, now_ms: i64) -> bool {
        while self.asked.front().is_some_and(|(at, _)| now_ms - at >= WINDOW_MS) {
            self.asked.pop_front();
        }
        let asked: usize = self.asked.iter().map(|(_, count)| count).sum();
        if asked + count > MAX_QUERIED {
            return false;
        }
        self.asked.push_back((now_ms, count));
        true
    }
}

impl Zim {
    /// Profiles of up to 10 users: what this device knows, and from the server those that it does not know, or all with
    /// `isQueryFromServer`. The server is asked for at most 10 users in 10 seconds.
    pub async fn query_users_info<I>(
        &self,
        user_ids: I,
        config: UsersInfoQueryConfig,
    ) -> Result<UsersInfoQueriedResult, Error>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let data = self.data()?;
        let mut request =
            QueryUsersInfoRequest { user_ids: user_ids.into_iter().map(Into::into).collect(), config: Some(config) };
        request.validate().map_err(|violation| Error::from(*violation))?;
        let ids = request.user_ids.clone();
        let mut found: Vec<UserFullInfo> = Vec::new();
        if !config.is_query_from_server {
            let wanted = ids.clone();
            let known = data.store().read(move |db| {
                wanted.iter().filter_map(|id| user::read(db, id).transpose()).collect::<rusqlite::Result<Vec<_>>>()
            });
            found = known.await?;
            request.user_ids.retain(|id| !found.iter().any(|info| id_of(info) == id));
        }
        let mut error_user_list: Vec<ErrorUserInfo> = Vec::new();
        if !request.user_ids.is_empty() {
            if !data.queried_users().lock().take(request.user_ids.len(), data.clock().now_ms()) {
                return Err(Error::new(
                    ErrorCode::CommonModuleUserInfoQueriedLimit,
                    "the server is asked for at most 10 users in 10 seconds; what this device knows may be asked for at any time",
                ));
            }
            let result = data.call(request).await?;
            error_user_list = result.error_user_list;
            data.learn_users(result.user_list.clone()).await?;
            found.extend(result.user_list);
        }
        let place = |info: &UserFullInfo| ids.iter().position(|id| id == id_of(info));
        found.sort_by_key(place);
        Ok(UsersInfoQueriedResult { user_list: found, error_user_list })
    }

    /// Changes one's own name; the other devices hear of it by `userInfoUpdated`.
    pub async fn update_user_name(&self, user_name: &str) -> Result<UserNameUpdatedResult, Error> {
        let request = UpdateUserNameRequest { user_name: user_name.to_owned() };
        request.validate().map_err(|violation| Error::from(*violation))?;
        self.data()?.call(request).await
    }
}

fn id_of(info: &UserFullInfo) -> &str {
    info.base_info.as_ref().map_or("", |base| base.user_id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_users_in_ten_seconds() {
        let mut limiter = Limiter::default();
        assert!(limiter.take(6, 0));
        assert!(limiter.take(4, 1_000));
        assert!(!limiter.take(1, 9_999));
        assert!(limiter.take(6, 10_000));
        assert!(!limiter.take(1, 10_000));
        assert!(limiter.take(4, 11_000));
        assert!(!Limiter::default().take(11, 0));
    }
}
