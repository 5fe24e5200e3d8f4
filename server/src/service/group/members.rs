//! The jobs that change members: their roles, their nicknames, who of them may write.

use super::membership::Group;
use super::rules::{self, Act, MEMBER, OWNER};
use super::store;
use super::tip::{Change, Tip};
use crate::db::Tx;
use crate::error::Error;
use crate::journal::{LogWriter, RosterEvent};
use crate::key::UserKey;

/// A member whom a request names.
pub(super) type Other = (UserKey, String);

impl Group {
    async fn role_of(&self, tx: &mut Tx<'_>, (user, user_id): &Other) -> Result<i64, Error> {
        store::role(tx, self.conversation.key, *user).await?.ok_or_else(|| Error::not_a_member(user_id))
    }

    async fn tell_update(
        &self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        users: impl IntoIterator<Item = UserKey>,
    ) -> Result<(), Error> {
        log.change_roster(tx, &self.conversation, RosterEvent::Updated, users, (self.me, self.now)).await?;
        Ok(())
    }

    /// Makes another member the owner.
    pub(super) async fn transfer(self, tx: &mut Tx<'_>, log: &mut LogWriter, heir: Other) -> Result<(), Error> {
        self.head(tx).await?;
        if !rules::may(Act::Own, self.my_role(tx).await?, MEMBER, false) {
            return Err(Error::not_allowed_in_group("give this group to somebody: you are not its owner"));
        }
        if heir.0 == self.me {
            return Err(Error::params_invalid("you are the owner of this group already"));
        }
        self.role_of(tx, &heir).await?;
        for (user, role) in [(self.me, MEMBER), (heir.0, OWNER)] {
            store::set_role(tx, self.conversation.key, user, role).await?;
        }
        self.tell_update(tx, log, [self.me, heir.0]).await?;
        self.tip(tx, Tip::members(self.me, vec![heir.0], Change::Owner(heir.0))).await
    }

    /// Gives a member a role. What stays the same is no change.
    pub(super) async fn set_role(
        self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        other: Other,
        role: i64,
    ) -> Result<(), Error> {
        self.head(tx).await?;
        let mine = self.my_role(tx).await?;
        let before = self.role_of(tx, &other).await?;
        if !rules::may(Act::SetRole, mine, before, other.0 == self.me) {
            return Err(Error::not_allowed_in_group("give this member another role"));
        }
        if before == role {
            return Ok(());
        }
        store::set_role(tx, self.conversation.key, other.0, role).await?;
        self.tell_update(tx, log, [other.0]).await?;
        self.tip(tx, Tip::members(self.me, vec![other.0], Change::Role(role))).await
    }

    /// Gives a member a nickname. What stays the same is no change.
    pub(super) async fn set_nickname(
        self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        other: Other,
        nickname: String,
    ) -> Result<(), Error> {
        self.head(tx).await?;
        let mine = self.my_role(tx).await?;
        let theirs = self.role_of(tx, &other).await?;
        if !rules::may(Act::Nickname, mine, theirs, other.0 == self.me) {
            return Err(Error::not_allowed_in_group("give this member a nickname"));
        }
        if store::set_nickname(tx, self.conversation.key, other.0, nickname).await? {
            self.tell_update(tx, log, [other.0]).await?;
        }
        Ok(())
    }

    /// Mutes members until a time; 0 ends that. Returns those who could not be muted, with the reason.
    pub(super) async fn mute_members(
        self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        users: Vec<Other>,
        until: i64,
    ) -> Result<Vec<(UserKey, Error)>, Error> {
        self.head(tx).await?;
        let mine = self.my_role(tx).await?;
        if !rules::decides(mine) {
            return Err(Error::not_allowed_in_group("mute members of this group"));
        }
        let roles = store::roles(tx, self.conversation.key, users.iter().map(|(user, _)| *user)).await?;
        let (mut muted, mut refused) = (Vec::new(), Vec::new());
        for (user, user_id) in users {
            match roles.get(&user) {
                None => refused.push((user, Error::not_a_member(&user_id))),
                Some(role) if rules::may(Act::Mute, mine, *role, user == self.me) => muted.push(user),
                Some(_) => refused.push((user, Error::not_allowed_in_group(&format!("mute {user_id}")))),
            }
        }
        if !muted.is_empty() {
            store::mute_members(tx, self.conversation.key, &muted, until).await?;
            self.tell_update(tx, log, muted.iter().copied()).await?;
            self.tip(tx, Tip::members(self.me, muted, Change::MemberMute(until))).await?;
        }
        Ok(refused)
    }
}
