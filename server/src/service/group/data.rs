//! The jobs that change what a group is: its name, its notice, its modes, its attributes, who may write.

use std::collections::{BTreeMap, HashMap};

use zim_protocol::{
    GroupAliasEntry, GroupAttributesUpdateAction, GroupAttributesUpdateInfo, GroupChange, GroupMuteInfo,
    GroupVerifyInfo, feed_entry, group_change::Detail,
};

use super::membership::Group;
use super::rules::{self, Act, MEMBER};
use super::tip::{Change, Tip};
use crate::db::{Tx, params};
use crate::error::Error;
use crate::journal::{FeedKind, LogWriter, mute};
use crate::key::ConversationKey;

/// A text that every member may change.
#[derive(Clone, Debug)]
pub(super) enum Text {
    Name(String),
    AvatarUrl(String),
    Notice(String),
}

/// A mode that the owner and administrators change.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mode {
    Join(i32),
    Invite(i32),
    BeInvite(i32),
}

impl Group {
    /// Checks that the group exists and that the caller may do something to it.
    async fn check(&self, tx: &mut Tx<'_>, act: Act, what: &str) -> Result<(), Error> {
        self.head(tx).await?;
        let role = self.my_role(tx).await?;
        if rules::may(act, role, MEMBER, false) { Ok(()) } else { Err(Error::not_allowed_in_group(what)) }
    }

    async fn tell_change(&self, tx: &mut Tx<'_>, log: &mut LogWriter, detail: Detail) -> Result<(), Error> {
        let change = GroupChange { detail: Some(detail), operated_info: None };
        log.change_group(tx, &self.conversation, change, (self.me, self.now)).await?;
        Ok(())
    }

    /// Changes a text. What stays the same is no change.
    pub(super) async fn set_text(self, tx: &mut Tx<'_>, log: &mut LogWriter, text: Text) -> Result<(), Error> {
        self.check(tx, Act::Describe, "change this group").await?;
        let (column, value) = match &text {
            Text::Name(name) => ("group_name", name),
            Text::AvatarUrl(url) => ("avatar_url", url),
            Text::Notice(notice) => ("notice", notice),
        };
        let sql = format!("UPDATE chat_group SET {column} = $2 WHERE conversation = $1 AND {column} <> $2");
        if tx.execute(&sql, &params![self.conversation.key, value.as_str()]).await? == 0 {
            return Ok(());
        }
        let (detail, change) = match text {
            Text::Name(name) => (Detail::GroupName(name.clone()), Change::Name(name)),
            Text::AvatarUrl(url) => (Detail::GroupAvatarUrl(url.clone()), Change::AvatarUrl(url)),
            Text::Notice(notice) => (Detail::GroupNotice(notice.clone()), Change::Notice(notice)),
        };
        self.tell_change(tx, log, detail).await?;
        self.tip(tx, Tip::group(self.me, change)).await
    }

    /// Changes a mode. What stays the same is no change.
    pub(super) async fn set_mode(self, tx: &mut Tx<'_>, log: &mut LogWriter, mode: Mode) -> Result<(), Error> {
        self.check(tx, Act::SetModes, "change who enters this group").await?;
        let (column, value) = match mode {
            Mode::Join(mode) => ("join_mode", mode),
            Mode::Invite(mode) => ("invite_mode", mode),
            Mode::BeInvite(mode) => ("be_invite_mode", mode),
        };
        let sql = format!(
            "UPDATE chat_group SET {column} = $2 WHERE conversation = $1 AND {column} <> $2 \
             RETURNING join_mode, invite_mode, be_invite_mode"
        );
        let Some(row) = tx.fetch_one(&sql, &params![self.conversation.key, i64::from(value)]).await? else {
            return Ok(());
        };
        let info = GroupVerifyInfo { join_mode: row.get(0)?, invite_mode: row.get(1)?, be_invite_mode: row.get(2)? };
        self.tell_change(tx, log, Detail::VerifyInfo(info)).await
    }

    /// Sets attributes; the others stay.
    pub(super) async fn set_attributes(
        self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        set: HashMap<String, String>,
    ) -> Result<(), Error> {
        self.check(tx, Act::Describe, "change this group").await?;
        let before = attributes(tx, self.conversation.key).await?;
        let after = rules::with_attributes(before.clone(), &set)?;
        if after == before {
            return Ok(());
        }
        write_attributes(tx, self.conversation.key, &after).await?;
        let action = GroupAttributesUpdateAction::Set as i32;
        self.tell_change(tx, log, Detail::Attributes(GroupAttributesUpdateInfo { action, group_attributes: set })).await
    }

    /// Removes attributes. Returns the keys that the group does not have.
    pub(super) async fn delete_attributes(
        self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        keys: Vec<String>,
    ) -> Result<Vec<String>, Error> {
        self.check(tx, Act::Describe, "change this group").await?;
        let mut left = attributes(tx, self.conversation.key).await?;
        let (mut removed, mut unknown) = (HashMap::new(), Vec::new());
        for key in keys {
            match left.remove(&key) {
                Some(value) => drop(removed.insert(key, value)),
                None if removed.contains_key(&key) => {}
                None => unknown.push(key),
            }
        }
        if removed.is_empty() {
            return Err(Error::no_such_attributes());
        }
        write_attributes(tx, self.conversation.key, &left).await?;
        let action = GroupAttributesUpdateAction::Delete as i32;
        let info = GroupAttributesUpdateInfo { action, group_attributes: removed };
        self.tell_change(tx, log, Detail::Attributes(info)).await?;
        Ok(unknown)
    }

    /// Mutes the group or some of its roles, or ends that. One row, whatever the number of members.
    pub(super) async fn mute(self, tx: &mut Tx<'_>, log: &mut LogWriter, info: GroupMuteInfo) -> Result<(), Error> {
        self.head(tx).await?;
        let role = self.my_role(tx).await?;
        let before = group_mute(tx, self.conversation.key).await?;
        // Who replaces or ends a mute must have been allowed to set it.
        if !(rules::may_mute(role, &info) && rules::may_mute(role, &rules::mute_at(before.clone(), self.now))) {
            return Err(Error::not_allowed_in_group("change who is muted in this group"));
        }
        if info == before {
            return Ok(());
        }
        let roles = serde_json::to_string(&info.roles).map_err(Error::internal)?;
        let sql = "UPDATE chat_group SET mute_mode = $2, mute_until = $3, mute_roles = $4 WHERE conversation = $1";
        tx.execute(sql, &params![self.conversation.key, i64::from(info.mode), info.expired_time, roles]).await?;
        self.tell_change(tx, log, Detail::MutedInfo(info.clone())).await?;
        self.tip(tx, Tip::group(self.me, Change::Mute(info))).await
    }

    /// Changes the name that the caller alone sees.
    pub(super) async fn set_alias(self, tx: &mut Tx<'_>, log: &mut LogWriter, alias: String) -> Result<(), Error> {
        self.head(tx).await?;
        self.my_role(tx).await?;
        let sql = "UPDATE member SET alias = $3 WHERE conversation = $1 AND account = $2 AND alias <> $3";
        if tx.execute(sql, &params![self.conversation.key, self.me, alias]).await? > 0 {
            log.feed(tx, self.me, &ALIAS, self.conversation.key).await?;
        }
        Ok(())
    }
}

/// Returns the attributes of a group.
pub(super) async fn attributes(tx: &mut Tx<'_>, group: ConversationKey) -> Result<BTreeMap<String, String>, Error> {
    let sql = "SELECT attributes FROM chat_group WHERE conversation = $1";
    let row = tx.fetch_one(sql, &params![group]).await?;
    row.map_or(Ok(BTreeMap::new()), |row| serde_json::from_str(&row.get::<String>(0)?).map_err(Error::internal))
}

async fn write_attributes(
    tx: &mut Tx<'_>,
    group: ConversationKey,
    attributes: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let text = serde_json::to_string(attributes).map_err(Error::internal)?;
    tx.execute("UPDATE chat_group SET attributes = $2 WHERE conversation = $1", &params![group, text]).await?;
    Ok(())
}

async fn group_mute(tx: &mut Tx<'_>, group: ConversationKey) -> Result<GroupMuteInfo, Error> {
    let sql = "SELECT mute_mode, mute_until, mute_roles FROM chat_group WHERE conversation = $1";
    let row = tx.fetch_one(sql, &params![group]).await?;
    row.map_or(Ok(GroupMuteInfo::default()), |row| {
        Ok(GroupMuteInfo { mode: row.get(0)?, expired_time: row.get(1)?, roles: mute::roles(&row, 2)? })
    })
}

/// The name that the user alone sees for a group; the key is the conversation.
pub(crate) static ALIAS: FeedKind = FeedKind {
    number: 40,
    resolve: |tx, user, keys| {
        Box::pin(async move {
            let (list, mut params) = tx.dialect().in_list(keys.iter().copied(), 2);
            params.insert(0, user.into());
            let sql = format!(
                "SELECT m.conversation, c.name, m.alias FROM member m JOIN conversation c ON c.id = m.conversation \
                 WHERE m.account = $1 AND m.conversation IN {list}"
            );
            let rows = tx.fetch(&sql, &params).await?;
            let entry = |row: &crate::db::Row| {
                let entry = GroupAliasEntry { group_id: row.get(1)?, alias: row.get(2)? };
                Ok((row.get(0)?, feed_entry::Detail::GroupAlias(entry)))
            };
            rows.iter().map(entry).collect()
        })
    },
};
