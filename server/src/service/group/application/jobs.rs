//! The jobs that send, accept and reject applications. The group, all users whom an application concerns, and those who decide on
//! what waited when the scope was made are in their scope.

use std::collections::BTreeMap;

use zim_protocol::{GroupFullInfo, GroupInviteMode, GroupJoinMode, TipsMessageEvent};

use super::store::{self, Application, GROUP_APPLICATION, NOBODY};
use crate::db::Tx;
use crate::error::Error;
use crate::journal::LogWriter;
use crate::key::{ConversationKey, UserKey};
use crate::service::application::{Life, State, Term};
use crate::service::group::membership::{Entrance, Group};
use crate::service::group::rules::{self, Act, MEMBER};
use crate::service::group::store as groups;
use crate::service::group::tip::Tip;

/// An application that is to be sent.
#[derive(Clone, Debug)]
pub(in crate::service::group) struct Ask {
    pub(in crate::service::group) wording: String,
    pub(in crate::service::group) term: Term,
    /// The IDs for new ones, as many as there are users.
    pub(in crate::service::group) ids: Vec<i64>,
}

/// Returns who hears of what becomes of applications about these users: those who decide, the owner first, and those of them who
/// invited the users. Other inviters see no applications. `applies`: there will be an application to join.
pub(super) async fn told(
    tx: &mut Tx<'_>,
    group: ConversationKey,
    users: &[UserKey],
    (now, applies): (i64, bool),
) -> Result<Vec<UserKey>, Error> {
    let waiting = store::waiting(tx, group, users, now).await?;
    let mut told = match applies || waiting.iter().any(|one| one.inviter == NOBODY) {
        true => groups::deciders(tx, group).await?,
        false => Vec::new(),
    };
    let inviters = waiting.into_iter().map(|one| one.inviter).filter(|inviter| *inviter != NOBODY);
    let others: Vec<UserKey> = inviters.filter(|inviter| !told.contains(inviter)).collect();
    if others.is_empty() {
        return Ok(told);
    }
    let roles = groups::roles(tx, group, others.iter().copied()).await?;
    for inviter in others {
        if roles.get(&inviter).is_some_and(|role| rules::decides(*role)) && !told.contains(&inviter) {
            told.push(inviter);
        }
    }
    Ok(told)
}

/// Asks users to enter the group. The caller sees the applications if they decide in the group.
pub(in crate::service::group) async fn ask(
    group: &Group,
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    users: &[UserKey],
    ask: Ask,
) -> Result<(), Error> {
    let mut asked = Vec::with_capacity(users.len());
    for (user, id) in users.iter().zip(&ask.ids) {
        asked.push(group.save(tx, (*user, group.me), *id, &ask).await?);
    }
    group.tell_applications(tx, log, &asked).await
}

/// Ends what still waits for users who are about to enter. Nothing waits for a member: an invitation that is left would let
/// somebody in again who was removed.
pub(in crate::service::group) async fn settle(
    group: &Group,
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    users: &[UserKey],
) -> Result<(), Error> {
    let waiting = store::waiting(tx, group.conversation.key, users, group.now).await?;
    group.end_applications(tx, log, (waiting, State::Disabled)).await.map(drop)
}

impl Group {
    /// Stores a new application, or makes the one before new.
    async fn save(
        &self,
        tx: &mut Tx<'_>,
        (account, inviter): (UserKey, UserKey),
        id: i64,
        ask: &Ask,
    ) -> Result<Application, Error> {
        let new = Application { account, inviter, life: Life::begin(ask.term), id };
        store::save(tx, self.conversation.key, new, &ask.wording, &self.places).await
    }

    /// The caller applies to join, or joins if nobody has to decide.
    pub(in crate::service::group) async fn apply(
        self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        my_id: String,
        ask: Ask,
    ) -> Result<(), Error> {
        let head = self.head(tx).await?;
        if self.is_member(tx, self.me).await? {
            return Err(Error::already_in_group(&my_id));
        }
        if GroupJoinMode::try_from(head.join_mode) != Ok(GroupJoinMode::Auth) {
            return self.join(tx, log).await.map(drop);
        }
        let id = ask.ids.first().copied().unwrap_or_default();
        let sent = self.save(tx, (self.me, NOBODY), id, &ask).await?;
        self.tell_applications(tx, log, &[sent]).await
    }

    /// Adds applications to the feeds of those who would enter, and of those in the scope who decide on them. Somebody who began to decide
    /// after the scope was made finds them in their list. So do those who decide on an application that came after that and is ended.
    async fn tell_applications(
        &self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        applications: &[Application],
    ) -> Result<(), Error> {
        let in_scope = self.told.iter().copied().chain([self.me]);
        let roles = groups::roles(tx, self.conversation.key, in_scope).await?;
        let deciders: Vec<UserKey> =
            roles.into_iter().filter(|(_, role)| rules::decides(*role)).map(|(user, _)| user).collect();
        let mut news: BTreeMap<UserKey, Vec<i64>> = BTreeMap::new();
        for one in applications {
            let decides = |user: &&UserKey| **user != one.account && (one.inviter == NOBODY || one.inviter == **user);
            for user in deciders.iter().filter(decides).chain([&one.account]) {
                news.entry(*user).or_default().push(one.id);
            }
        }
        for (user, ids) in news {
            log.feed_all(tx, user, &GROUP_APPLICATION, &ids).await?;
        }
        Ok(())
    }

    /// Ends those of these applications that still wait, and tells of it. Returns whether there were any.
    async fn end_applications(
        &self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        (applications, state): (impl IntoIterator<Item = Application>, State),
    ) -> Result<bool, Error> {
        let end = |one: Application| Some(Application { life: one.life.end(state, self.now)?, ..one });
        let ended: Vec<Application> = applications.into_iter().filter_map(end).collect();
        if ended.is_empty() {
            return Ok(false);
        }
        store::end(tx, &ended, self.me, &self.places).await?;
        self.tell_applications(tx, log, &ended).await?;
        Ok(true)
    }

    /// Whether a user is a member. Nothing waits for one, except what had expired by the clock of another node when they entered.
    async fn is_member(&self, tx: &mut Tx<'_>, user: UserKey) -> Result<bool, Error> {
        Ok(groups::role(tx, self.conversation.key, user).await?.is_some())
    }

    /// The caller, who decides, lets an applicant in or rejects them.
    pub(in crate::service::group) async fn answer_applicant(
        self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        (applicant, user_id): (UserKey, String),
        answer: State,
    ) -> Result<(), Error> {
        let head = self.head(tx).await?;
        if !rules::may(Act::Answer, self.my_role(tx).await?, MEMBER, false) {
            return Err(Error::not_allowed_in_group("decide who joins this group"));
        }
        let found = store::find(tx, self.conversation.key, (applicant, NOBODY)).await?;
        if !self.end_applications(tx, log, (found, answer)).await? {
            return Err(Error::no_join_application(&user_id));
        }
        if answer == State::Accepted && !self.is_member(tx, applicant).await? {
            self.check_room(&head)?;
            self.enter(tx, log, Entrance::accepted(self.me), vec![applicant]).await?;
            self.tip(tx, Tip::of(TipsMessageEvent::GroupJoined, applicant, vec![applicant])).await?;
        }
        Ok(())
    }

    /// The caller, who was invited, enters the group or does not.
    pub(in crate::service::group) async fn answer_invitation(
        self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        (inviter, inviter_id): (UserKey, String),
        answer: State,
    ) -> Result<GroupFullInfo, Error> {
        let head = self.head(tx).await?;
        let found = store::find(tx, self.conversation.key, (self.me, inviter)).await?;
        let role = groups::role(tx, self.conversation.key, inviter).await?;
        // An invitation is worth what its inviter may do now.
        let may_invite = |role| head.invite_mode == GroupInviteMode::Any as i32 || rules::decides(role);
        if answer == State::Accepted && !role.is_some_and(may_invite) {
            return Err(Error::no_invite_application(&inviter_id));
        }
        if !self.end_applications(tx, log, (found, answer)).await? {
            return Err(Error::no_invite_application(&inviter_id));
        }
        if answer == State::Accepted && !self.is_member(tx, self.me).await? {
            self.check_room(&head)?;
            self.enter(tx, log, Entrance::agreed(inviter), vec![self.me]).await?;
            self.tip(tx, Tip::of(TipsMessageEvent::GroupInvited, inviter, vec![self.me])).await?;
        }
        self.info(tx).await
    }
}
