//! The jobs that send, accept and reject applications. The group, all users whom an application concerns, and those who decide on
//! it are in their scope.

use zim_protocol::{GroupApplicationState as State, GroupFullInfo, GroupInviteMode, GroupJoinMode, TipsMessageEvent};

use super::store::{self, Application, GROUP_APPLICATION};
use crate::db::Tx;
use crate::error::Error;
use crate::journal::LogWriter;
use crate::key::UserKey;
use crate::service::application::answerable;
use crate::service::group::membership::{Entrance, Group};
use crate::service::group::rules::{self, Act, MEMBER};
use crate::service::group::store as groups;
use crate::service::group::tip::Tip;

/// An application that is to be sent.
#[derive(Clone, Debug, Default)]
pub(in crate::service::group) struct Ask {
    pub(in crate::service::group) wording: String,
    pub(in crate::service::group) expires_at: i64,
    /// The IDs for new ones, as many as there are users.
    pub(in crate::service::group) ids: Vec<i64>,
    /// Those who decide and are in the scope of the job.
    pub(in crate::service::group) deciders: Vec<UserKey>,
}

/// Asks users to enter the group. `role` is that of the caller, who sees the applications if they decide in the group.
pub(in crate::service::group) async fn ask(
    group: &Group,
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    (role, users): (i64, &[UserKey]),
    ask: Ask,
) -> Result<(), Error> {
    for (user, id) in users.iter().zip(&ask.ids) {
        let id = save(group, tx, (*user, group.me), *id, &ask).await?;
        log.feed(tx, *user, &GROUP_APPLICATION, id).await?;
        if rules::decides(role) {
            log.feed(tx, group.me, &GROUP_APPLICATION, id).await?;
        }
    }
    Ok(())
}

/// Stores a new application, or makes the one before new. Returns its ID.
async fn save(
    group: &Group,
    tx: &mut Tx<'_>,
    (account, inviter): (UserKey, UserKey),
    id: i64,
    ask: &Ask,
) -> Result<i64, Error> {
    let application = Application { account, inviter, state: State::Waiting as i32, expires_at: ask.expires_at, id };
    store::save(tx, group.conversation.key, application, &ask.wording, group.now).await
}

impl Group {
    /// The caller applies to join, or joins if nobody has to decide.
    pub(in crate::service::group) async fn apply(
        self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        my_id: String,
        ask: Ask,
    ) -> Result<(), Error> {
        let head = self.head(tx).await?;
        if groups::role(tx, self.conversation.key, self.me).await?.is_some() {
            return Err(Error::already_in_group(&my_id));
        }
        if GroupJoinMode::try_from(head.join_mode) != Ok(GroupJoinMode::Auth) {
            return self.join(tx, log).await.map(drop);
        }
        let id = save(&self, tx, (self.me, UserKey(0)), ask.ids.first().copied().unwrap_or_default(), &ask).await?;
        self.tell_application(tx, log, (id, self.me), &ask.deciders).await
    }

    /// Adds an application to the feeds of a user and of those who decide.
    async fn tell_application(
        &self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        (id, user): (i64, UserKey),
        deciders: &[UserKey],
    ) -> Result<(), Error> {
        log.feed(tx, user, &GROUP_APPLICATION, id).await?;
        // Somebody who began to decide after the scope was made finds it in their list.
        let present = groups::deciders(tx, self.conversation.key).await?;
        for decider in deciders.iter().filter(|decider| **decider != user && present.contains(decider)) {
            log.feed(tx, *decider, &GROUP_APPLICATION, id).await?;
        }
        Ok(())
    }

    /// The caller, who decides, lets an applicant in or rejects them.
    pub(in crate::service::group) async fn answer_applicant(
        self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        (applicant, user_id): (UserKey, String),
        answer: State,
        deciders: Vec<UserKey>,
    ) -> Result<(), Error> {
        let head = self.head(tx).await?;
        if !rules::may(Act::Answer, self.my_role(tx).await?, MEMBER, false) {
            return Err(Error::not_allowed_in_group("decide who joins this group"));
        }
        let found = store::find(tx, self.conversation.key, (applicant, UserKey(0))).await?;
        let waiting = found.filter(|found| answerable(found.state, found.expires_at, self.now));
        let waiting = waiting.ok_or_else(|| Error::no_join_application(&user_id))?;
        self.answer(tx, waiting.id, answer).await?;
        self.tell_application(tx, log, (waiting.id, applicant), &deciders).await?;
        let is_member = groups::role(tx, self.conversation.key, applicant).await?.is_some();
        if answer == State::Accepted && !is_member {
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
        let waiting = found.filter(|found| answerable(found.state, found.expires_at, self.now));
        let waiting = waiting.ok_or_else(|| Error::no_invite_application(&inviter_id))?;
        let role = groups::role(tx, self.conversation.key, inviter).await?;
        // An invitation is worth what its inviter may do now.
        let may_invite = |role| head.invite_mode == GroupInviteMode::Any as i32 || rules::decides(role);
        if answer == State::Accepted && !role.is_some_and(may_invite) {
            return Err(Error::no_invite_application(&inviter_id));
        }
        self.answer(tx, waiting.id, answer).await?;
        log.feed(tx, self.me, &GROUP_APPLICATION, waiting.id).await?;
        if role.is_some_and(rules::decides) {
            log.feed(tx, inviter, &GROUP_APPLICATION, waiting.id).await?;
        }
        let is_member = groups::role(tx, self.conversation.key, self.me).await?.is_some();
        if answer == State::Accepted && !is_member {
            self.check_room(&head)?;
            self.enter(tx, log, Entrance::agreed(inviter), vec![self.me]).await?;
            self.tip(tx, Tip::of(TipsMessageEvent::GroupInvited, inviter, vec![self.me])).await?;
        }
        self.info(tx).await
    }

    async fn answer(&self, tx: &mut Tx<'_>, id: i64, state: State) -> Result<(), Error> {
        store::answer(tx, id, state, (self.me, self.now)).await
    }
}
