//! Applications to join groups, and to bring users into groups.

use zim_protocol::{
    AcceptGroupInviteApplicationRequest, AcceptGroupJoinApplicationRequest, GroupApplicationListQueriedResult,
    GroupApplicationListQueryConfig, GroupInviteApplicationAcceptConfig, GroupInviteApplicationAcceptedResult,
    GroupInviteApplicationRejectConfig, GroupInviteApplicationRejectedResult, GroupInviteApplicationSendConfig,
    GroupInviteApplicationsSentResult, GroupJoinApplicationAcceptConfig, GroupJoinApplicationAcceptedResult,
    GroupJoinApplicationRejectConfig, GroupJoinApplicationRejectedResult, GroupJoinApplicationSendConfig,
    GroupJoinApplicationSentResult, QueryGroupApplicationListRequest, RejectGroupInviteApplicationRequest,
    RejectGroupJoinApplicationRequest, SendGroupInviteApplicationsRequest, SendGroupJoinApplicationRequest, Validate,
};

use crate::error::Error;
use crate::store::group_application;
use crate::types::strings;
use crate::zim::Zim;

impl Zim {
    /// Applies to join a group whose join mode asks for it (reference: `sendGroupJoinApplication`); a group that is open to everybody is
    /// joined at once. The owner and administrators get `groupApplicationListChanged`. Whoever applies again replaces their
    /// application. It expires after 7 days unless the server says otherwise.
    ///
    /// # Errors
    /// - 6000523: there is no such group. 6000542: nobody joins it by themselves. 6000522: the user is a member.
    /// - 6000505: the user is in as many groups as a user may be. 6000001: the wording has more than 1,024 characters.
    pub fn send_group_join_application(
        &self,
        group_id: &str,
        config: GroupJoinApplicationSendConfig,
    ) -> impl Future<Output = Result<GroupJoinApplicationSentResult, Error>> + Send + 'static + use<> {
        self.call(SendGroupJoinApplicationRequest { group_id: group_id.to_owned(), config: Some(config) })
    }

    /// Lets an applicant into a group, for the owner and administrators (reference: `acceptGroupJoinApplication`). The applicant, the owner and
    /// administrators get `groupApplicationUpdated`.
    ///
    /// # Errors
    /// - 6000523: there is no such group. 6000521: the user is not a member. 6000541: the user is neither owner nor administrator.
    /// - 6000505: no application waits, or the applicant is in as many groups as a user may be.
    /// - 6000525: the group is full.
    pub fn accept_group_join_application(
        &self,
        user_id: &str,
        group_id: &str,
        config: GroupJoinApplicationAcceptConfig,
    ) -> impl Future<Output = Result<GroupJoinApplicationAcceptedResult, Error>> + Send + 'static + use<> {
        self.call(AcceptGroupJoinApplicationRequest {
            user_id: user_id.to_owned(),
            group_id: group_id.to_owned(),
            config: Some(config),
        })
    }

    /// Rejects an applicant, for the owner and administrators (reference: `rejectGroupJoinApplication`). The applicant, the owner and
    /// administrators get `groupApplicationUpdated`.
    ///
    /// # Errors
    /// - 6000523: there is no such group. 6000521: the user is not a member. 6000541: the user is neither owner nor administrator.
    /// - 6000505: no application waits.
    pub fn reject_group_join_application(
        &self,
        user_id: &str,
        group_id: &str,
        config: GroupJoinApplicationRejectConfig,
    ) -> impl Future<Output = Result<GroupJoinApplicationRejectedResult, Error>> + Send + 'static + use<> {
        self.call(RejectGroupJoinApplicationRequest {
            user_id: user_id.to_owned(),
            group_id: group_id.to_owned(),
            config: Some(config),
        })
    }

    /// Asks up to 20 users to enter a group (reference: `sendGroupInviteApplications`). Each gets `groupApplicationListChanged`; users who
    /// need not agree enter at once. The result lists the users who could not be asked; if that is all of them, the call fails.
    ///
    /// # Errors
    /// As [`Zim::invite_users_into_group`].
    pub fn send_group_invite_applications<I>(
        &self,
        user_ids: I,
        group_id: &str,
        config: GroupInviteApplicationSendConfig,
    ) -> impl Future<Output = Result<GroupInviteApplicationsSentResult, Error>> + Send + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let user_ids = strings(user_ids);
        self.call(SendGroupInviteApplicationsRequest { user_ids, group_id: group_id.to_owned(), config: Some(config) })
    }

    /// Enters a group that a member has asked the user to enter (reference: `acceptGroupInviteApplication`). The user's devices get
    /// `groupApplicationUpdated`, and those of the member, if they are the owner or an administrator. Whoever enters a group, in
    /// whatever way, waits for nothing there: their application and all other invitations become `Disabled`, with the same event.
    ///
    /// # Errors
    /// - 6000523: there is no such group. 6000508: no invitation of this member waits for an answer.
    /// - 6000525: the group is full. 6000505: the user is in as many groups as a user may be.
    pub fn accept_group_invite_application(
        &self,
        inviter_user_id: &str,
        group_id: &str,
        config: GroupInviteApplicationAcceptConfig,
    ) -> impl Future<Output = Result<GroupInviteApplicationAcceptedResult, Error>> + Send + 'static + use<> {
        self.call(AcceptGroupInviteApplicationRequest {
            inviter_user_id: inviter_user_id.to_owned(),
            group_id: group_id.to_owned(),
            config: Some(config),
        })
    }

    /// Tells a member that the user does not want to enter a group (reference: `rejectGroupInviteApplication`). The user's devices get
    /// `groupApplicationUpdated`, and those of the member, if they are the owner or an administrator.
    ///
    /// # Errors
    /// - 6000523: there is no such group. 6000508: no invitation of this member waits for an answer.
    pub fn reject_group_invite_application(
        &self,
        inviter_user_id: &str,
        group_id: &str,
        config: GroupInviteApplicationRejectConfig,
    ) -> impl Future<Output = Result<GroupInviteApplicationRejectedResult, Error>> + Send + 'static + use<> {
        self.call(RejectGroupInviteApplicationRequest {
            inviter_user_id: inviter_user_id.to_owned(),
            group_id: group_id.to_owned(),
            config: Some(config),
        })
    }

    /// Returns a page of 1 to 100 applications, the last changed first (reference: `queryGroupApplicationList`): those that the user
    /// sent to join a group, those of members who ask the user to enter one, and in groups where the user is the owner or an
    /// administrator, those of others to join and those of the user to bring others in. `nextFlag` of the result is the cursor of the
    /// next page; 0 is the end. Without a connection the result is what this device was told: applications of others of which it has
    /// heard, also in groups where the user does not decide any more.
    ///
    /// # Errors
    /// 6000001: `count` is not between 1 and 100.
    pub async fn query_group_application_list(
        &self,
        config: GroupApplicationListQueryConfig,
    ) -> Result<GroupApplicationListQueriedResult, Error> {
        let request = QueryGroupApplicationListRequest { config: Some(config) };
        request.validate()?;
        let account = self.account()?;
        if account.is_online() {
            return account.request(request).await;
        }
        let (page, now_ms) = ((config.next_flag, config.count), account.server_now_ms());
        let found = account.store().read(move |db| group_application::page(db, page.0, page.1, now_ms));
        let (application_list, next_flag) = found.await?;
        Ok(GroupApplicationListQueriedResult { application_list, next_flag })
    }
}
