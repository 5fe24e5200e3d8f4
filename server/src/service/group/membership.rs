//! The jobs that let users into a group and out of it. The group is in their scope, and so is each user who enters: their feed
//! tells their devices of the group.

use std::sync::Arc;

use zim_protocol::{GroupBeInviteMode, GroupEnterType, GroupFullInfo, GroupInviteMode, TipsMessageEvent};

use super::application::{self, Ask};
use super::rules::{self, Act, MEMBER, OWNER, Settings};
use super::store::{self, Head, Place};
use super::tip::{Change, Tip, Tips};
use crate::db::Tx;
use crate::effect::{Audience, Effect, GroupStay, StayEnd};
use crate::error::Error;
use crate::journal::{ChangedConversation, LogWriter, RosterEvent, enter_type};
use crate::key::{AppKey, Places, UserKey};
use crate::service::conversation::{CONVERSATION, find_group, undelete};

/// A request about a group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) conversation: ChangedConversation,
    pub(super) group_id: String,
    /// Who asks.
    pub(super) me: UserKey,
    pub(super) now: i64,
    /// The server's limit of members.
    pub(super) max_members: i64,
    /// Whoever enters sees the messages from before.
    pub(super) shows_history: bool,
    pub(super) tips: Tips,
    pub(super) places: Arc<Places>,
    /// Those in the scope of the job who hear of applications that they decide on. The caller does as well.
    pub(super) told: Vec<UserKey>,
}

/// How users enter a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entrance {
    event: RosterEvent,
    enter_type: GroupEnterType,
    /// Who brings them in; 0: they come by themselves.
    operator: UserKey,
}

impl Entrance {
    /// Users come by themselves.
    fn of(event: RosterEvent) -> Self {
        Self::by(event, UserKey(0))
    }

    /// Somebody brings users in.
    fn by(event: RosterEvent, operator: UserKey) -> Self {
        Self { event, enter_type: enter_type(event), operator }
    }

    /// Somebody accepts a user who applied.
    pub(super) fn accepted(operator: UserKey) -> Self {
        Self { enter_type: GroupEnterType::JoinApply, ..Self::by(RosterEvent::Joined, operator) }
    }

    /// A user accepts the invitation of a member.
    pub(super) fn agreed(inviter: UserKey) -> Self {
        Self { enter_type: GroupEnterType::InviteApply, ..Self::by(RosterEvent::Invited, inviter) }
    }
}

/// What became of users who were invited.
#[derive(Debug, Default)]
pub(super) struct Invited {
    /// Those who are members now.
    pub(super) entered: Vec<UserKey>,
    /// Those who must agree.
    pub(super) asked: Vec<UserKey>,
    /// The others, with the reason.
    pub(super) refused: Vec<(UserKey, Error)>,
}

impl Group {
    /// Reads the head of the group, whose row the job holds.
    pub(super) async fn head(&self, tx: &mut Tx<'_>) -> Result<Head, Error> {
        let head = store::head(tx, self.conversation.key).await?;
        head.filter(|head| !head.is_dismissed).ok_or_else(|| Error::group_not_found(&self.group_id))
    }

    /// Returns the role of the caller.
    pub(super) async fn my_role(&self, tx: &mut Tx<'_>) -> Result<i64, Error> {
        let role = store::role(tx, self.conversation.key, self.me).await?;
        role.ok_or_else(|| Error::not_in_group(&self.group_id))
    }

    /// Returns what the group is.
    pub(super) async fn info(&self, tx: &mut Tx<'_>) -> Result<GroupFullInfo, Error> {
        let info = store::info(tx, (self.conversation.key, &self.group_id), (self.me, self.now)).await?;
        info.ok_or_else(|| Error::internal_text("a group without a row"))
    }

    /// Returns what the group is, as far as the caller may know it: the attributes are for its members.
    pub(super) async fn info_to_show(&self, tx: &mut Tx<'_>) -> Result<GroupFullInfo, Error> {
        let mut info = self.info(tx).await?;
        if store::role(tx, self.conversation.key, self.me).await?.is_none() {
            info.group_attributes.clear();
        }
        Ok(info)
    }

    /// Creates the group, with the caller as its owner and `others` as members.
    pub(super) async fn create(
        self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        app: AppKey,
        (name, avatar_url, settings): (String, String, Settings),
        others: Vec<UserKey>,
    ) -> Result<GroupFullInfo, Error> {
        match find_group(tx, app, &self.group_id).await? {
            Some((_, true)) => return Err(Error::group_dismissed(&self.group_id)),
            Some((_, false)) => return Err(Error::group_exists(&self.group_id)),
            None => {}
        }
        let most = rules::limit(settings.max_members, self.max_members);
        if others.len() >= usize::try_from(most).unwrap_or(0) {
            return Err(Error::group_full(most));
        }
        let key = self.conversation.key;
        store::insert(tx, (app, key), (&self.group_id, name, avatar_url), settings, self.now).await?;
        self.enter(tx, log, Entrance::of(RosterEvent::Created), vec![self.me]).await?;
        if !others.is_empty() {
            self.enter(tx, log, Entrance::by(RosterEvent::Invited, self.me), others.clone()).await?;
        }
        self.tip(tx, Tip::of(TipsMessageEvent::GroupCreated, self.me, others)).await?;
        self.info(tx).await
    }

    /// The caller joins. For a member this changes nothing.
    pub(super) async fn join(self, tx: &mut Tx<'_>, log: &mut LogWriter) -> Result<GroupFullInfo, Error> {
        let head = self.head(tx).await?;
        if store::role(tx, self.conversation.key, self.me).await?.is_none() {
            rules::check_join_mode(head.join_mode)?;
            self.check_room(&head)?;
            self.enter(tx, log, Entrance::of(RosterEvent::Joined), vec![self.me]).await?;
            self.tip(tx, Tip::of(TipsMessageEvent::GroupJoined, self.me, vec![self.me])).await?;
        }
        self.info(tx).await
    }

    /// Checks that the group has room for one more member.
    pub(super) fn check_room(&self, head: &Head) -> Result<(), Error> {
        let most = rules::limit(head.max_members, self.max_members);
        if head.members < most { Ok(()) } else { Err(Error::group_full(most)) }
    }

    /// Brings users in, or asks them if they must agree.
    pub(super) async fn invite(
        self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        users: Vec<(UserKey, String)>,
        ask: Ask,
    ) -> Result<Invited, Error> {
        let head = self.head(tx).await?;
        let role = self.my_role(tx).await?;
        if head.invite_mode != GroupInviteMode::Any as i32 && !rules::decides(role) {
            return Err(Error::not_allowed_in_group("invite users to this group"));
        }
        let members = store::roles(tx, self.conversation.key, users.iter().map(|(user, _)| *user)).await?;
        let most = rules::limit(head.max_members, self.max_members);
        let must_agree = head.be_invite_mode != GroupBeInviteMode::None as i32;
        let mut room = usize::try_from(most - head.members).unwrap_or(0);
        let mut invited = Invited::default();
        for (user, user_id) in users {
            if members.contains_key(&user) {
                invited.refused.push((user, Error::already_in_group(&user_id)));
            } else if must_agree {
                invited.asked.push(user);
            } else if room == 0 {
                invited.refused.push((user, Error::group_full(most)));
            } else {
                room -= 1;
                invited.entered.push(user);
            }
        }
        if !invited.asked.is_empty() {
            application::ask(&self, tx, log, &invited.asked, ask).await?;
        }
        if !invited.entered.is_empty() {
            let entrance = Entrance::by(RosterEvent::Invited, self.me);
            self.enter(tx, log, entrance, invited.entered.clone()).await?;
            self.tip(tx, Tip::of(TipsMessageEvent::GroupInvited, self.me, invited.entered.clone())).await?;
        }
        Ok(invited)
    }

    /// The caller leaves. The earliest member becomes the owner if they were; nobody is left in a group that ends.
    pub(super) async fn leave(self, tx: &mut Tx<'_>, log: &mut LogWriter) -> Result<(), Error> {
        let head = self.head(tx).await?;
        let role = self.my_role(tx).await?;
        self.exit(tx, log, (RosterEvent::Left, head.ended_rev), &[self.me]).await?;
        if head.members == 1 {
            return store::dismiss(tx, self.conversation.key).await;
        }
        self.tip(tx, Tip::of(TipsMessageEvent::GroupLeft, self.me, vec![self.me])).await?;
        if role == OWNER { self.pass_on(tx, log).await } else { Ok(()) }
    }

    /// Makes the earliest member the owner, after the owner has gone.
    async fn pass_on(&self, tx: &mut Tx<'_>, log: &mut LogWriter) -> Result<(), Error> {
        let Some(heir) = store::earliest(tx, self.conversation.key).await? else { return Ok(()) };
        store::set_role(tx, self.conversation.key, heir, OWNER).await?;
        let at = (self.me, self.now);
        log.change_roster(tx, &self.conversation, RosterEvent::Updated, [heir], at).await?;
        let tip = Tip::members(self.me, vec![heir], Change::Owner(heir));
        self.tips.add_second(tx, &self.conversation, tip).await
    }

    /// The owner dismisses the group.
    pub(super) async fn dismiss(self, tx: &mut Tx<'_>, log: &mut LogWriter) -> Result<(), Error> {
        self.head(tx).await?;
        if !rules::may(Act::Own, self.my_role(tx).await?, MEMBER, false) {
            return Err(Error::not_allowed_in_group("dismiss this group: you are not its owner"));
        }
        self.end(tx, log).await
    }

    /// Dismisses the group, whoever wants it.
    pub(super) async fn end(self, tx: &mut Tx<'_>, log: &mut LogWriter) -> Result<(), Error> {
        let at = (self.me, self.now);
        // The last message of the group.
        self.tip(tx, Tip::of(TipsMessageEvent::GroupDismissed, self.me, Vec::new())).await?;
        log.change_roster(tx, &self.conversation, RosterEvent::Dismissed, [], at).await?;
        store::dismiss(tx, self.conversation.key).await
    }

    /// Removes members. Returns those who could not be removed, with the reason.
    pub(super) async fn kick(
        self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        users: Vec<(UserKey, String)>,
    ) -> Result<Vec<(UserKey, Error)>, Error> {
        let head = self.head(tx).await?;
        let role = self.my_role(tx).await?;
        if !rules::decides(role) {
            return Err(Error::not_allowed_in_group("remove members of this group"));
        }
        let roles = store::roles(tx, self.conversation.key, users.iter().map(|(user, _)| *user)).await?;
        let (mut removed, mut refused) = (Vec::new(), Vec::new());
        for (user, user_id) in users {
            match roles.get(&user) {
                _ if user == self.me => {
                    refused.push((user, Error::params_invalid("you cannot remove yourself; leave the group instead")));
                }
                None => refused.push((user, Error::not_a_member(&user_id))),
                Some(other) if rules::may(Act::Kick, role, *other, false) => removed.push(user),
                Some(_) => refused.push((user, Error::not_allowed_in_group(&format!("remove {user_id}")))),
            }
        }
        if !removed.is_empty() {
            self.exit(tx, log, (RosterEvent::KickedOut, head.ended_rev), &removed).await?;
            self.tip(tx, Tip::of(TipsMessageEvent::GroupKickedOut, self.me, removed)).await?;
        }
        Ok(refused)
    }

    /// The operator removes members, whatever their role. Nobody is left in a group that ends. Returns those who are no members, with
    /// the reason.
    pub(super) async fn expel(
        self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        users: Vec<(UserKey, String)>,
    ) -> Result<Vec<(UserKey, Error)>, Error> {
        let head = self.head(tx).await?;
        let roles = store::roles(tx, self.conversation.key, users.iter().map(|(user, _)| *user)).await?;
        let (members, others): (Vec<_>, Vec<_>) = users.into_iter().partition(|(user, _)| roles.contains_key(user));
        let refused = others.into_iter().map(|(user, user_id)| (user, Error::not_a_member(&user_id))).collect();
        let removed: Vec<UserKey> = members.into_iter().map(|(user, _)| user).collect();
        if removed.is_empty() {
            return Ok(refused);
        }
        self.exit(tx, log, (RosterEvent::KickedOut, head.ended_rev), &removed).await?;
        if i64::try_from(removed.len()).is_ok_and(|count| count >= head.members) {
            store::dismiss(tx, self.conversation.key).await?;
            return Ok(refused);
        }
        self.tip(tx, Tip::of(TipsMessageEvent::GroupKickedOut, self.me, removed)).await?;
        if roles.values().any(|role| *role == OWNER) {
            self.pass_on(tx, log).await?;
        }
        Ok(refused)
    }

    /// Lets users in, who are no members.
    pub(super) async fn enter(
        &self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        entrance: Entrance,
        users: Vec<UserKey>,
    ) -> Result<(), Error> {
        let key = self.conversation.key;
        application::settle(self, tx, log, &users).await?;
        let actor =
            if entrance.operator.0 == 0 { users.first().copied().unwrap_or(self.me) } else { entrance.operator };
        let event = entrance.event;
        let rev = log.change_roster(tx, &self.conversation, event, users.iter().copied(), (actor, self.now)).await?;
        undelete(tx, log, key, users.iter().copied()).await?;
        let mut told = Vec::with_capacity(users.len());
        for user in users {
            told.push((user, log.feed(tx, user, &CONVERSATION, key).await?));
        }
        let role = if event == RosterEvent::Created { OWNER } else { MEMBER };
        let (enter_type, operator) = (entrance.enter_type as i32, entrance.operator);
        let place = Place { role, enter_type, at: self.now, operator, rev };
        for (user, stay) in store::enter(tx, key, &told, (place, self.shows_history)).await? {
            self.tell(tx, user, stay, None);
        }
        Ok(())
    }

    /// Adds a tip, if the server does.
    pub(super) async fn tip(&self, tx: &mut Tx<'_>, tip: Tip) -> Result<(), Error> {
        self.tips.add(tx, &self.conversation, tip).await
    }

    /// Lets members out. `ended_rev` is the last change before it that did so.
    async fn exit(
        &self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        (event, ended_rev): (RosterEvent, i64),
        users: &[UserKey],
    ) -> Result<(), Error> {
        let at = (self.me, self.now);
        let rev = log.change_roster(tx, &self.conversation, event, users.iter().copied(), at).await?;
        let stays = store::exit(tx, self.conversation.key, users, rev).await?;
        let end = StayEnd { before: ended_rev, of: u32::try_from(stays.len()).map_err(Error::internal)? };
        for (user, stay) in stays {
            self.tell(tx, user, stay, Some(end));
        }
        Ok(())
    }

    /// Tells the fan-out of a stay.
    fn tell(&self, tx: &mut Tx<'_>, user: UserKey, stay: GroupStay, end: Option<StayEnd>) {
        if let Audience::Group { conversation, name } = self.conversation.audience.clone() {
            tx.emit(Effect::Stay { user, conversation, name, stay, end });
        }
    }
}
