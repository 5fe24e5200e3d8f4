//! People: their names and what belongs to their profile.

mod store;

use zim_protocol::{
    ErrorCode, ErrorUserInfo, QueryUsersInfoRequest, UpdateUserNameRequest, UserNameUpdatedResult,
    UsersInfoQueriedResult, feed_entry::Detail, server::UserService,
};

use crate::app::App;
use crate::db::Locks;
use crate::error::Error;
use crate::fanout::feed_push;
use crate::session::Caller;

impl UserService for App {
    async fn query_users_info(
        &self,
        caller: &Caller,
        request: QueryUsersInfoRequest,
    ) -> Result<UsersInfoQueriedResult, Error> {
        let identity = caller.identity()?;
        if !caller.session.count_queried_users(request.user_ids.len(), self.clock.now_ms()) {
            return Err(Error::users_queried_too_often());
        }
        let (app, ids) = (identity.app, request.user_ids);
        let (user_list, missing) = self.db.read(async move |tx| store::users(tx, app, ids).await).await?;
        let error_user_list = missing
            .into_iter()
            .map(|user_id| ErrorUserInfo { user_id, reason: i64::from(ErrorCode::CommonModuleUserIsNotExist as i32) })
            .collect();
        Ok(UsersInfoQueriedResult { user_list, error_user_list })
    }

    async fn update_user_name(
        &self,
        caller: &Caller,
        request: UpdateUserNameRequest,
    ) -> Result<UserNameUpdatedResult, Error> {
        let identity = caller.identity()?;
        let (user, session, name) = (identity.user, identity.session, request.user_name);
        let done = self.db.submit(user.0.unsigned_abs(), Locks::user(user.0), {
            let name = name.clone();
            async move |tx| store::rename(tx, user, name, session).await
        });
        caller.set_submitted();
        let (pos, info) = done.await?;
        caller.add_push(feed_push(pos, Detail::Profile(info)));
        Ok(UserNameUpdatedResult { user_name: name })
    }
}
