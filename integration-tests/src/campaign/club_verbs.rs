//! What a client does to the second group when the campaign tells it to.

use serde_json::{Value, json};
use zim_client_sdk::Zim;
use zim_protocol::{
    GroupBeInviteMode, GroupInviteApplicationAcceptConfig, GroupInviteApplicationRejectConfig,
    GroupInviteApplicationSendConfig, GroupInviteMode, GroupJoinApplicationAcceptConfig,
    GroupJoinApplicationRejectConfig, GroupJoinApplicationSendConfig, GroupJoinMode, GroupMemberMuteConfig,
    GroupMuteConfig, GroupMuteMode,
};

use super::action::ClubVerb;
use super::plan::CLUB;

/// The roles of administrators and of members.
const ADMINISTRATOR: i64 = 2;
const MEMBER: i64 = 3;
/// How long a mute lasts that is over within a run, seconds, and that of one that is not.
const SHORT: i64 = 1;
const FOR_GOOD: i64 = -1;

/// Does something to the group. Returns whether it took effect.
///
/// # Errors
/// The call fails.
pub async fn act_in_club(zim: &Zim, user: &str, verb: ClubVerb, text: String) -> anyhow::Result<Value> {
    let is_done = match verb {
        ClubVerb::Join => zim.join_group(CLUB).await.map(|_| true)?,
        ClubVerb::Leave => zim.leave_group(CLUB).await.map(|_| true)?,
        ClubVerb::Kick => zim.kick_group_members([user], CLUB).await?.error_user_list.is_empty(),
        ClubVerb::Promote => zim.set_group_member_role(ADMINISTRATOR, user, CLUB).await.map(|_| true)?,
        ClubVerb::MuteAll { lasts } => mute(zim, GroupMuteMode::All, lasts, &[]).await?,
        ClubVerb::MuteMembers => mute(zim, GroupMuteMode::Normal, false, &[]).await?,
        ClubVerb::MuteRoles => mute(zim, GroupMuteMode::Custom, false, &[ADMINISTRATOR, MEMBER]).await?,
        ClubVerb::Unmute => zim.mute_group(false, CLUB, GroupMuteConfig::default()).await.map(|_| true)?,
        ClubVerb::MuteUser { lasts } => {
            let config = GroupMemberMuteConfig { duration: duration(lasts) };
            zim.mute_group_members(true, [user], CLUB, config).await?.error_user_list.is_empty()
        }
        ClubVerb::UnmuteUser => {
            let config = GroupMemberMuteConfig::default();
            zim.mute_group_members(false, [user], CLUB, config).await?.error_user_list.is_empty()
        }
        ClubVerb::JoinMode(mode) => {
            let mode = GroupJoinMode::try_from(i32::from(mode))?;
            zim.update_group_join_mode(mode, CLUB).await.map(|_| true)?
        }
        ClubVerb::InviteMode { is_restricted } => {
            let mode = if is_restricted { GroupInviteMode::Admin } else { GroupInviteMode::Any };
            zim.update_group_invite_mode(mode, CLUB).await.map(|_| true)?
        }
        ClubVerb::BeInviteMode { is_asked } => {
            let mode = if is_asked { GroupBeInviteMode::Auth } else { GroupBeInviteMode::None };
            zim.update_group_be_invite_mode(mode, CLUB).await.map(|_| true)?
        }
        ClubVerb::Apply => {
            let config = GroupJoinApplicationSendConfig { wording: text, ..GroupJoinApplicationSendConfig::default() };
            zim.send_group_join_application(CLUB, config).await.map(|_| true)?
        }
        ClubVerb::AcceptApplicant => {
            let config = GroupJoinApplicationAcceptConfig::default();
            zim.accept_group_join_application(user, CLUB, config).await.map(|_| true)?
        }
        ClubVerb::RejectApplicant => {
            let config = GroupJoinApplicationRejectConfig::default();
            zim.reject_group_join_application(user, CLUB, config).await.map(|_| true)?
        }
        ClubVerb::Ask => {
            let config =
                GroupInviteApplicationSendConfig { wording: text, ..GroupInviteApplicationSendConfig::default() };
            zim.send_group_invite_applications([user], CLUB, config).await?.error_user_list.is_empty()
        }
        ClubVerb::AcceptInvitation => {
            let config = GroupInviteApplicationAcceptConfig::default();
            zim.accept_group_invite_application(user, CLUB, config).await.map(|_| true)?
        }
        ClubVerb::RejectInvitation => {
            let config = GroupInviteApplicationRejectConfig::default();
            zim.reject_group_invite_application(user, CLUB, config).await.map(|_| true)?
        }
        ClubVerb::Dismiss => zim.dismiss_group(CLUB).await.map(|_| true)?,
    };
    Ok(json!({"isDone": is_done}))
}

const fn duration(lasts: bool) -> i64 {
    if lasts { FOR_GOOD } else { SHORT }
}

async fn mute(zim: &Zim, mode: GroupMuteMode, lasts: bool, roles: &[i64]) -> anyhow::Result<bool> {
    let config = GroupMuteConfig { mode: Some(mode as i32), duration: Some(duration(lasts)), roles: roles.to_vec() };
    Ok(zim.mute_group(true, CLUB, config).await.map(|_| true)?)
}
