//! Groups.

use std::collections::HashMap;
use std::ops::Deref;
use std::time::Duration;

use zim_protocol::{
    GroupBeInviteMode, GroupFullInfo, GroupInviteApplicationAcceptConfig, GroupInviteApplicationRejectConfig,
    GroupInviteMode, GroupJoinApplicationAcceptConfig, GroupJoinApplicationRejectConfig,
    GroupJoinApplicationSendConfig, GroupJoinMode, GroupMemberInfo, GroupMemberKickedResult, GroupMemberMuteConfig,
    GroupMemberQueryConfig, GroupMembersMutedResult, GroupMuteConfig, GroupMuteInfo, GroupUsersInvitedResult,
};

use super::{Chat, Items, present};
use crate::error::Error;
use crate::observe::MemberList;

/// The size of the pages of members.
const PAGE: i64 = 100;

/// A group: a [`Chat`], whose methods it has too, with members.
///
/// ```no_run
/// # async fn example(zim: &zim_client_sdk::Zim) -> Result<(), zim_client_sdk::Error> {
/// let crew = zim.group("crew");
/// crew.join().await?;
/// crew.send("hi all").await?;
/// let mut members = crew.members();
/// while let Some(member) = members.next().await {
///     println!("{}", member?.user_id);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Group(Chat);

impl Deref for Group {
    type Target = Chat;

    fn deref(&self) -> &Chat {
        &self.0
    }
}

impl Group {
    pub(super) fn new(chat: Chat) -> Self {
        Self(chat)
    }

    /// Joins the group and returns what it is. For a member this changes nothing.
    ///
    /// # Errors
    /// See [`Zim::join_group`](crate::Zim::join_group).
    pub async fn join(&self) -> Result<GroupFullInfo, Error> {
        present(self.zim().join_group(self.id()).await?.group_info, "group")
    }

    /// Leaves the group. Its messages stay readable.
    ///
    /// # Errors
    /// See [`Zim::leave_group`](crate::Zim::leave_group).
    pub async fn leave(&self) -> Result<(), Error> {
        self.zim().leave_group(self.id()).await.map(drop)
    }

    /// Dismisses the group, for its owner. Its messages stay readable.
    ///
    /// # Errors
    /// See [`Zim::dismiss_group`](crate::Zim::dismiss_group).
    pub async fn dismiss(&self) -> Result<(), Error> {
        self.zim().dismiss_group(self.id()).await.map(drop)
    }

    /// Removes up to 100 members. The result lists those who were removed, and those who could not be.
    ///
    /// # Errors
    /// See [`Zim::kick_group_members`](crate::Zim::kick_group_members).
    pub async fn kick<I>(&self, user_ids: I) -> Result<GroupMemberKickedResult, Error>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.zim().kick_group_members(user_ids, self.id()).await
    }

    /// Brings up to 100 users in. The result lists those who are members now, and the others, with 6000544 for those who were asked.
    ///
    /// # Errors
    /// See [`Zim::invite_users_into_group`](crate::Zim::invite_users_into_group).
    pub async fn invite<I>(&self, user_ids: I) -> Result<GroupUsersInvitedResult, Error>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.zim().invite_users_into_group(user_ids, self.id()).await
    }

    /// Returns the first `limit` members, and each change of them from now on. A limit of 0 is one of 100.
    ///
    /// ```no_run
    /// # async fn example(zim: &zim_client_sdk::Zim) -> Result<(), zim_client_sdk::Error> {
    /// let mut members = zim.group("crew").observe_members(50).await?;
    /// while members.next().await.is_some() {
    ///     let names: Vec<&str> = members.items().iter().map(|member| member.user_id.as_str()).collect();
    ///     println!("{}", names.join(", "));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Zim::observe_group_members`](crate::Zim::observe_group_members).
    pub async fn observe_members(&self, limit: usize) -> Result<MemberList, Error> {
        self.zim().observe_group_members(self.id(), limit).await
    }

    /// Changes the name.
    ///
    /// # Errors
    /// See [`Zim::update_group_name`](crate::Zim::update_group_name).
    pub async fn set_name(&self, name: &str) -> Result<(), Error> {
        self.zim().update_group_name(name, self.id()).await.map(drop)
    }

    /// Changes the address of the avatar.
    ///
    /// # Errors
    /// See [`Zim::update_group_avatar_url`](crate::Zim::update_group_avatar_url).
    pub async fn set_avatar_url(&self, url: &str) -> Result<(), Error> {
        self.zim().update_group_avatar_url(url, self.id()).await.map(drop)
    }

    /// Changes the notice.
    ///
    /// # Errors
    /// See [`Zim::update_group_notice`](crate::Zim::update_group_notice).
    pub async fn set_notice(&self, notice: &str) -> Result<(), Error> {
        self.zim().update_group_notice(notice, self.id()).await.map(drop)
    }

    /// Changes the name that this user alone sees.
    ///
    /// # Errors
    /// See [`Zim::update_group_alias`](crate::Zim::update_group_alias).
    pub async fn set_alias(&self, alias: &str) -> Result<(), Error> {
        self.zim().update_group_alias(alias, self.id()).await.map(drop)
    }

    /// Changes who joins.
    ///
    /// # Errors
    /// See [`Zim::update_group_join_mode`](crate::Zim::update_group_join_mode).
    pub async fn set_join_mode(&self, mode: GroupJoinMode) -> Result<(), Error> {
        self.zim().update_group_join_mode(mode, self.id()).await.map(drop)
    }

    /// Changes who invites.
    ///
    /// # Errors
    /// See [`Zim::update_group_invite_mode`](crate::Zim::update_group_invite_mode).
    pub async fn set_invite_mode(&self, mode: GroupInviteMode) -> Result<(), Error> {
        self.zim().update_group_invite_mode(mode, self.id()).await.map(drop)
    }

    /// Changes whether users who are invited must agree.
    ///
    /// # Errors
    /// See [`Zim::update_group_be_invite_mode`](crate::Zim::update_group_be_invite_mode).
    pub async fn set_be_invite_mode(&self, mode: GroupBeInviteMode) -> Result<(), Error> {
        self.zim().update_group_be_invite_mode(mode, self.id()).await.map(drop)
    }

    /// Sets attributes; the others stay.
    ///
    /// # Errors
    /// See [`Zim::set_group_attributes`](crate::Zim::set_group_attributes).
    pub async fn set_attributes(&self, attributes: HashMap<String, String>) -> Result<(), Error> {
        self.zim().set_group_attributes(attributes, self.id()).await.map(drop)
    }

    /// Removes attributes. Returns the keys that the group does not have.
    ///
    /// # Errors
    /// See [`Zim::delete_group_attributes`](crate::Zim::delete_group_attributes).
    pub async fn delete_attributes<I>(&self, keys: I) -> Result<Vec<String>, Error>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Ok(self.zim().delete_group_attributes(keys, self.id()).await?.error_keys)
    }

    /// Returns all attributes.
    ///
    /// # Errors
    /// See [`Zim::query_group_all_attributes`](crate::Zim::query_group_all_attributes).
    pub async fn attributes(&self) -> Result<HashMap<String, String>, Error> {
        Ok(self.zim().query_group_all_attributes(self.id()).await?.group_attributes)
    }

    /// Makes another member the owner.
    ///
    /// # Errors
    /// See [`Zim::transfer_group_owner`](crate::Zim::transfer_group_owner).
    pub async fn transfer(&self, user_id: &str) -> Result<(), Error> {
        self.zim().transfer_group_owner(user_id, self.id()).await.map(drop)
    }

    /// Gives a member a role.
    ///
    /// # Errors
    /// See [`Zim::set_group_member_role`](crate::Zim::set_group_member_role).
    pub async fn set_role(&self, user_id: &str, role: i64) -> Result<(), Error> {
        self.zim().set_group_member_role(role, user_id, self.id()).await.map(drop)
    }

    /// Gives a member a nickname.
    ///
    /// # Errors
    /// See [`Zim::set_group_member_nickname`](crate::Zim::set_group_member_nickname).
    pub async fn set_nickname(&self, user_id: &str, nickname: &str) -> Result<(), Error> {
        self.zim().set_group_member_nickname(nickname, user_id, self.id()).await.map(drop)
    }

    /// Mutes everybody or some roles, as the config says.
    ///
    /// # Errors
    /// See [`Zim::mute_group`](crate::Zim::mute_group).
    pub async fn mute(&self, config: GroupMuteConfig) -> Result<GroupMuteInfo, Error> {
        present(self.zim().mute_group(true, self.id(), config).await?.muted_info, "mute")
    }

    /// Ends the mute of the group.
    ///
    /// # Errors
    /// See [`Zim::mute_group`](crate::Zim::mute_group).
    pub async fn unmute(&self) -> Result<(), Error> {
        self.zim().mute_group(false, self.id(), GroupMuteConfig::default()).await.map(drop)
    }

    /// Mutes up to 100 members for some seconds, or for good.
    ///
    /// # Errors
    /// See [`Zim::mute_group_members`](crate::Zim::mute_group_members).
    pub async fn mute_members<I>(
        &self,
        user_ids: I,
        duration: Option<Duration>,
    ) -> Result<GroupMembersMutedResult, Error>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let duration = duration.map_or(-1, |duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX));
        let config = GroupMemberMuteConfig { duration };
        self.zim().mute_group_members(true, user_ids, self.id(), config).await
    }

    /// Lets up to 100 members write again.
    ///
    /// # Errors
    /// See [`Zim::mute_group_members`](crate::Zim::mute_group_members).
    pub async fn unmute_members<I>(&self, user_ids: I) -> Result<GroupMembersMutedResult, Error>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.zim().mute_group_members(false, user_ids, self.id(), GroupMemberMuteConfig::default()).await
    }

    /// Applies to join. A group that is open to everybody is joined at once.
    ///
    /// # Errors
    /// See [`Zim::send_group_join_application`](crate::Zim::send_group_join_application).
    pub async fn apply(&self, wording: &str) -> Result<(), Error> {
        let config = GroupJoinApplicationSendConfig { wording: wording.to_owned(), ..Default::default() };
        self.zim().send_group_join_application(self.id(), config).await.map(drop)
    }

    /// Lets an applicant in.
    ///
    /// # Errors
    /// See [`Zim::accept_group_join_application`](crate::Zim::accept_group_join_application).
    pub async fn accept_applicant(&self, user_id: &str) -> Result<(), Error> {
        let config = GroupJoinApplicationAcceptConfig::default();
        self.zim().accept_group_join_application(user_id, self.id(), config).await.map(drop)
    }

    /// Rejects an applicant.
    ///
    /// # Errors
    /// See [`Zim::reject_group_join_application`](crate::Zim::reject_group_join_application).
    pub async fn reject_applicant(&self, user_id: &str) -> Result<(), Error> {
        let config = GroupJoinApplicationRejectConfig::default();
        self.zim().reject_group_join_application(user_id, self.id(), config).await.map(drop)
    }

    /// Enters the group that a member has asked this user to enter, and returns what it is.
    ///
    /// # Errors
    /// See [`Zim::accept_group_invite_application`](crate::Zim::accept_group_invite_application).
    pub async fn accept_invitation(&self, inviter_id: &str) -> Result<GroupFullInfo, Error> {
        let config = GroupInviteApplicationAcceptConfig::default();
        let accepted = self.zim().accept_group_invite_application(inviter_id, self.id(), config).await?;
        present(accepted.group_info, "group")
    }

    /// Tells a member that this user does not want to enter.
    ///
    /// # Errors
    /// See [`Zim::reject_group_invite_application`](crate::Zim::reject_group_invite_application).
    pub async fn reject_invitation(&self, inviter_id: &str) -> Result<(), Error> {
        let config = GroupInviteApplicationRejectConfig::default();
        self.zim().reject_group_invite_application(inviter_id, self.id(), config).await.map(drop)
    }

    /// Returns a member.
    ///
    /// # Errors
    /// See [`Zim::query_group_member_info`](crate::Zim::query_group_member_info).
    pub async fn member(&self, user_id: &str) -> Result<GroupMemberInfo, Error> {
        present(self.zim().query_group_member_info(user_id, self.id()).await?.user_info, "member")
    }

    /// Returns the number of members.
    ///
    /// # Errors
    /// See [`Zim::query_group_member_count`](crate::Zim::query_group_member_count).
    pub async fn member_count(&self) -> Result<i64, Error> {
        Ok(self.zim().query_group_member_count(self.id()).await?.count)
    }

    /// Returns what the group is. Who is no member may ask, too.
    ///
    /// # Errors
    /// See [`Zim::query_group_info`](crate::Zim::query_group_info).
    pub async fn info(&self) -> Result<GroupFullInfo, Error> {
        present(self.zim().query_group_info(self.id()).await?.group_info, "group")
    }

    /// Returns a stream of the members, in the order in which they entered.
    ///
    /// # Errors
    /// Its items fail as [`Zim::query_group_member_list`](crate::Zim::query_group_member_list) does.
    pub fn members(&self) -> Items<GroupMemberInfo> {
        let group = self.clone();
        Items::of_pages(0, move |next_flag| {
            let config = GroupMemberQueryConfig { next_flag, count: PAGE };
            let group = group.clone();
            async move {
                let page = group.zim().query_group_member_list(group.id(), config).await?;
                Ok((page.user_list, Some(page.next_flag).filter(|next| *next != 0)))
            }
        })
    }

    /// Returns a stream of the members who are muted themselves, in the order in which they entered.
    ///
    /// # Errors
    /// Its items fail as [`Zim::query_group_member_muted_list`](crate::Zim::query_group_member_muted_list) does.
    pub fn muted_members(&self) -> Items<GroupMemberInfo> {
        let group = self.clone();
        Items::of_pages(0, move |next_flag| {
            let config = GroupMemberQueryConfig { next_flag, count: PAGE };
            let page = group.zim().query_group_member_muted_list(group.id(), config);
            async move {
                let page = page.await?;
                Ok((page.user_list, Some(page.next_flag).filter(|next| *next != 0)))
            }
        })
    }
}
