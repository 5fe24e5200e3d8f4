//! Tips: messages of a group that say what happened to it, for those who read its history. The server adds them if the setting
//! `groups.tips` says so.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message as _;
use zim_protocol::{
    GroupMemberSimpleInfo, GroupMuteInfo, Message, MessageType, TipsMessage, TipsMessageChangeInfo,
    TipsMessageChangeInfoType, TipsMessageEvent, TipsMessageGroupChangeInfo, TipsMessageGroupMemberChangeInfo,
    TipsMessagePinStatusChangeInfo, UserInfo, message::Body, tips_message_change_info::Body as Changed,
};

use super::operator::OPERATOR;
use super::store;
use crate::app::App;
use crate::db::{Bulk, Tx};
use crate::error::Error;
use crate::journal::{ChangedConversation, NewMessage};
use crate::key::{AppKey, LoginKey, UserKey};

/// What changed, for the events that say it.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Name(String),
    AvatarUrl(String),
    Notice(String),
    Mute(GroupMuteInfo),
    Owner(UserKey),
    Role(i64),
    MemberMute(i64),
    Pin(bool),
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) struct Tip {
    pub(crate) event: TipsMessageEvent,
    /// Who did it; 0: the operator.
    pub(crate) actor: UserKey,
    /// To whom it happened.
    pub(crate) targets: Vec<UserKey>,
    pub(crate) change: Option<Change>,
}

impl Tip {
    /// Users come or go.
    pub(super) fn of(event: TipsMessageEvent, actor: UserKey, targets: Vec<UserKey>) -> Self {
        Self { event, actor, targets, change: None }
    }

    /// The group changes.
    pub(super) fn group(actor: UserKey, change: Change) -> Self {
        Self { event: TipsMessageEvent::GroupInfoChanged, actor, targets: Vec::new(), change: Some(change) }
    }

    /// Members change.
    pub(super) fn members(actor: UserKey, targets: Vec<UserKey>, change: Change) -> Self {
        Self { event: TipsMessageEvent::GroupMemberInfoChanged, actor, targets, change: Some(change) }
    }

    /// A message is pinned, or not any more.
    pub(crate) fn pin(actor: UserKey, is_pinned: bool) -> Self {
        let change = Some(Change::Pin(is_pinned));
        Self { event: TipsMessageEvent::GroupMessagePinned, actor, targets: Vec::new(), change }
    }
}

/// Adds tips, if the server does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tips {
    app: AppKey,
    now: i64,
    /// The stored IDs of the messages. One request adds two at most.
    ids: Option<[i64; 2]>,
}

impl App {
    /// Returns what adds tips to groups of an app.
    pub(crate) fn tips(&self, app: AppKey) -> Tips {
        let ids = self.config.groups.tips.then(|| [self.ids.next(), self.ids.next()]);
        Tips { app, now: self.clock.now_ms(), ids }
    }
}

impl Tips {
    /// Adds a tip to a group, which is in the scope of the job.
    pub(crate) async fn add(self, tx: &mut Tx<'_>, group: &ChangedConversation, tip: Tip) -> Result<(), Error> {
        let Some([id, _]) = self.ids else { return Ok(()) };
        self.append(tx, group, tip, id).await
    }

    /// Adds the second tip of a request.
    pub(super) async fn add_second(self, tx: &mut Tx<'_>, group: &ChangedConversation, tip: Tip) -> Result<(), Error> {
        let Some([_, id]) = self.ids else { return Ok(()) };
        self.append(tx, group, tip, id).await
    }

    async fn append(self, tx: &mut Tx<'_>, group: &ChangedConversation, tip: Tip, id: i64) -> Result<(), Error> {
        let owner = match tip.change {
            Some(Change::Owner(user)) => Some(user),
            _ => None,
        };
        let sender = match tip.actor {
            // A message needs a sender: the owner, or one of those who go, if the owner is among them.
            OPERATOR => {
                let owner = store::owner(tx, group.key).await?.map(|(owner, _)| owner);
                owner.or_else(|| tip.targets.first().copied()).unwrap_or(OPERATOR)
            }
            actor => actor,
        };
        let users = users(tx, [sender].into_iter().chain(tip.targets.iter().copied()).chain(owner)).await?;
        let user = |key: UserKey| users.get(&key).cloned().unwrap_or_default();
        // The operator is nobody.
        let operated_user = user(tip.actor);
        let sender_name = Arc::from(user(sender).user_id.as_str());
        let message = TipsMessage {
            event: tip.event as i32,
            operated_user: Some(operated_user),
            target_user_list: tip.targets.iter().map(|target| user(*target)).collect(),
            change_info: tip.change.map(|change| changed(change, user)),
        };
        let body = Message { body: Some(Body::Tips(Box::new(message))), ..Message::default() }.encode_to_vec();
        let mut key = [0; 16];
        key[..8].copy_from_slice(&id.to_be_bytes());
        let message = NewMessage {
            app: self.app,
            scrambler: Arc::clone(&group.scrambler),
            conversation: group.key,
            audience: group.audience.clone(),
            sender,
            sender_name,
            // All devices get it: no answer has it.
            login: LoginKey(0),
            id,
            key,
            hash: 0,
            is_first_only: false,
            now: self.now,
            kind: MessageType::Tips as i32,
            flags: 0,
            body: body.into(),
            extra: None,
        };
        NewMessage::run(tx, &[message]).await?.into_iter().try_for_each(|sent| sent.map(drop))
    }
}

/// Returns what changed, as the message says it.
fn changed(change: Change, user: impl Fn(UserKey) -> UserInfo) -> TipsMessageChangeInfo {
    use TipsMessageChangeInfoType as Type;
    let group = TipsMessageGroupChangeInfo::default;
    let member = TipsMessageGroupMemberChangeInfo::default;
    let (kind, body) = match change {
        Change::Name(group_name) => {
            (Type::GroupNameChanged, Changed::Group(TipsMessageGroupChangeInfo { group_name, ..group() }))
        }
        Change::AvatarUrl(group_avatar_url) => {
            (Type::GroupAvatarUrlChanged, Changed::Group(TipsMessageGroupChangeInfo { group_avatar_url, ..group() }))
        }
        Change::Notice(group_notice) => {
            (Type::GroupNoticeChanged, Changed::Group(TipsMessageGroupChangeInfo { group_notice, ..group() }))
        }
        Change::Mute(info) => {
            let info = TipsMessageGroupChangeInfo { group_muted_info: Some(info), ..group() };
            (Type::GroupMuteChanged, Changed::Group(info))
        }
        Change::Owner(owner) => {
            let UserInfo { user_id, user_name, user_avatar_url, .. } = user(owner);
            let owner =
                GroupMemberSimpleInfo { user_id, user_name, user_avatar_url, ..GroupMemberSimpleInfo::default() };
            let info = TipsMessageGroupMemberChangeInfo { group_new_owner: Some(owner), ..member() };
            (Type::GroupOwnerTransferred, Changed::GroupMember(info))
        }
        Change::Role(member_role) => {
            let info = TipsMessageGroupMemberChangeInfo { member_role, ..member() };
            (Type::GroupMemberRoleChanged, Changed::GroupMember(info))
        }
        Change::MemberMute(mute_expired_time) => {
            let info = TipsMessageGroupMemberChangeInfo { mute_expired_time, ..member() };
            (Type::GroupMemberMuteChanged, Changed::GroupMember(info))
        }
        Change::Pin(is_pinned) => {
            (Type::GroupMessagePinInfoChanged, Changed::PinStatus(TipsMessagePinStatusChangeInfo { is_pinned }))
        }
    };
    TipsMessageChangeInfo { r#type: kind as i32, body: Some(body) }
}

/// Returns the profiles of users as they are now.
async fn users(tx: &mut Tx<'_>, users: impl IntoIterator<Item = UserKey>) -> Result<HashMap<UserKey, UserInfo>, Error> {
    let (list, params) = tx.dialect().in_list(users, 1);
    // Without their extended data: a hundred of them would not fit into a frame, and devices have or ask for profiles.
    let sql = format!("SELECT id, name, user_name, avatar_url FROM account WHERE id IN {list}");
    let rows = tx.fetch(&sql, &params).await?;
    let user = |row: &crate::db::Row| {
        let info = UserInfo {
            user_id: row.get(1)?,
            user_name: row.get(2)?,
            user_avatar_url: row.get(3)?,
            ..UserInfo::default()
        };
        Ok((UserKey(row.get(0)?), info))
    };
    rows.iter().map(user).collect()
}
