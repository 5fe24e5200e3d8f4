//! The rules of groups hold whatever members and others do in which order. Each step is judged by what was stored before it: whether it
//! is allowed, and what there is afterwards. What is allowed comes from the tables of the reference, written down here once more.

use std::collections::BTreeSet;
use std::fmt::Debug;

use futures_util::future::join_all;
use zim_integration_tests::{Device, Random, World, soon};
use zim_protocol::{
    ErrorCode, GroupAdvancedConfig, GroupBeInviteMode, GroupInviteMode, GroupJoinMode, GroupMemberMuteConfig,
    GroupMuteConfig,
};
use zim_server::db::{Tx, params};

use crate::group::info;

const USERS: [&str; 6] = ["ann", "bob", "cai", "dan", "eva", "fay"];
/// The most members of a group.
const CAP: usize = 4;
const WAITING: i64 = 1;

#[derive(Clone, Debug, PartialEq)]
struct Member {
    user: String,
    role: i64,
    nickname: String,
    is_muted: bool,
}

/// Everything that is stored of a group.
#[derive(Clone, Debug, PartialEq)]
struct State {
    is_over: bool,
    name: String,
    /// Who joins, who invites, who must agree.
    modes: [i64; 3],
    mute: (i64, String),
    /// In the order in which they entered.
    members: Vec<Member>,
    /// Those who were muted when they left: they are muted again when they return, whoever brings them in.
    muted_before: BTreeSet<String>,
    /// The number that is stored with the group, and the number of stays that have not ended.
    counts: [i64; 2],
    /// Who would enter, who asked for that, or nobody, and what has become of it.
    applications: Vec<(String, String, i64)>,
}

impl State {
    async fn of(world: &World, group_id: &str) -> Self {
        let (db, group_id) = (&world.server().app().db, group_id.to_owned());
        let read = db.read(async move |tx: &mut Tx<'_>| {
            let sql = "SELECT c.id, c.end_seq, g.group_name, g.join_mode, g.invite_mode, g.be_invite_mode, g.mute_mode, \
                       g.mute_roles, g.members, (SELECT COUNT(*) FROM member m WHERE m.conversation = c.id \
                       AND m.to_seq IS NULL AND m.to_rev IS NULL) FROM conversation c \
                       JOIN chat_group g ON g.conversation = c.id WHERE c.type = 2 AND c.name = $1";
            let row = tx.fetch_one(sql, &params![group_id]).await?.unwrap();
            let id: i64 = row.get(0)?;
            let mut state = Self {
                is_over: row.get::<Option<i64>>(1)?.is_some(),
                name: row.get(2)?,
                modes: [row.get(3)?, row.get(4)?, row.get(5)?],
                mute: (row.get(6)?, row.get(7)?),
                members: Vec::new(),
                muted_before: BTreeSet::new(),
                counts: [row.get(8)?, row.get(9)?],
                applications: Vec::new(),
            };
            let sql = "SELECT a.name, g.role, g.nickname, g.mute_until FROM group_member g \
                       JOIN account a ON a.id = g.account WHERE g.conversation = $1 ORDER BY g.place";
            for row in tx.fetch(sql, &params![id]).await? {
                let is_muted = row.get::<i64>(3)? != 0;
                let (user, role, nickname) = (row.get(0)?, row.get(1)?, row.get(2)?);
                state.members.push(Member { user, role, nickname, is_muted });
            }
            let sql = "SELECT a.name FROM member m JOIN account a ON a.id = m.account \
                       WHERE m.conversation = $1 AND m.to_seq IS NOT NULL AND m.mute_until <> 0";
            for row in tx.fetch(sql, &params![id]).await? {
                state.muted_before.insert(row.get(0)?);
            }
            let sql = "SELECT a.name, COALESCE(i.name, ''), g.state FROM group_application g \
                       JOIN account a ON a.id = g.account LEFT JOIN account i ON i.id = g.inviter \
                       WHERE g.conversation = $1 ORDER BY 1, 2";
            for row in tx.fetch(sql, &params![id]).await? {
                state.applications.push((row.get(0)?, row.get(1)?, row.get(2)?));
            }
            // A group that was dismissed keeps the rows of those who were in it.
            if state.is_over {
                state.members.clear();
                state.muted_before.clear();
                state.counts = [0, 0];
            }
            Ok(state)
        });
        read.await.unwrap()
    }

    fn role(&self, user: &str) -> Option<i64> {
        self.members.iter().find(|member| member.user == user).map(|member| member.role)
    }

    fn member(&mut self, user: &str) -> &mut Member {
        self.members.iter_mut().find(|member| member.user == user).unwrap()
    }

    fn waits(&self, user: &str, inviter: &str) -> bool {
        self.applications.contains(&(user.to_owned(), inviter.to_owned(), WAITING))
    }

    fn is_full(&self) -> bool {
        self.members.len() >= CAP
    }

    /// What holds for every group at any time.
    fn check(&self, place: &str) {
        let owners = self.members.iter().filter(|member| member.role == 1).count();
        assert_eq!(owners, usize::from(!self.is_over), "{place}: {self:#?}");
        let rows = i64::try_from(self.members.len()).unwrap();
        assert_eq!(self.counts, [rows, rows], "{place}: {self:#?}");
        assert_eq!(self.is_over, self.members.is_empty(), "{place}: {self:#?}");
        assert!(self.members.len() <= CAP, "{place}: {self:#?}");
        let mut users: Vec<_> = self.members.iter().map(|member| &member.user).collect();
        users.sort_unstable();
        users.dedup();
        assert_eq!(users.len(), self.members.len(), "{place}: {self:#?}");
        // Nothing waits for a member, so nothing lets them in again after they were removed.
        let left = |(user, _, state): &&(String, String, i64)| *state == WAITING && self.role(user).is_some();
        assert_eq!(self.applications.iter().find(left), None, "{place}: {self:#?}");
    }
}

/// Whether somebody in the first role is above somebody in the second.
fn is_above(role: i64, other: i64) -> bool {
    role == 1 && other != 1 || role == 2 && other > 2
}

/// One of some things.
fn one<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[usize::try_from(random.below(of.len() as u64)).unwrap()]
}

#[derive(Clone, Copy, Debug)]
enum Mute {
    Off,
    All,
    Members,
    Admins,
    Own,
}

impl Mute {
    /// The mode and the roles as they are stored.
    fn stored(self) -> (i64, &'static str) {
        match self {
            Self::Off => (0, "[]"),
            Self::Members => (1, "[]"),
            Self::All => (2, "[]"),
            Self::Admins => (3, "[2]"),
            Self::Own => (3, "[77]"),
        }
    }

    /// Whether somebody in a role may begin and end a mute that is stored like this.
    fn is_for(stored: &(i64, String), role: i64) -> bool {
        let is_owners = stored.0 == 2 || stored.1 == "[2]";
        role == 1 || role == 2 && !is_owners
    }
}

/// What somebody does, to a user if it is about one.
#[derive(Clone, Copy, Debug)]
enum Op {
    Create,
    Join,
    Leave,
    Dismiss,
    Rename,
    Kick(&'static str),
    Invite(&'static str),
    Ask(&'static str),
    Transfer(&'static str),
    SetRole(&'static str, i64),
    Nickname(&'static str),
    MuteMember(&'static str, bool),
    MuteGroup(Mute),
    SetMode(usize, usize),
    Apply,
    Accept(&'static str),
    Reject(&'static str),
    Agree(&'static str),
    Decline(&'static str),
}

impl Op {
    fn random(random: &mut Random) -> Self {
        let whom = one(random, &USERS);
        let is = random.below(2) == 0;
        match random.below(40) {
            0 => Self::Create,
            1..=4 => Self::Join,
            5..=6 => Self::Leave,
            7 => Self::Dismiss,
            8 => Self::Rename,
            9..=10 => Self::Kick(whom),
            11..=13 => Self::Invite(whom),
            14..=16 => Self::Ask(whom),
            17..=18 => Self::Transfer(whom),
            19..=21 => Self::SetRole(whom, one(random, &[1, 2, 3, 77])),
            22 => Self::Nickname(whom),
            23..=24 => Self::MuteMember(whom, is),
            25..=27 => {
                let all = [Mute::Off, Mute::All, Mute::Members, Mute::Admins, Mute::Own];
                Self::MuteGroup(one(random, &all))
            }
            28..=29 => {
                let which = one(random, &[0, 1, 2]);
                Self::SetMode(which, one(random, if which == 0 { &[0, 1, 2] } else { &[0, 1] }))
            }
            30..=31 => Self::Apply,
            32 => Self::Accept(whom),
            33 => Self::Reject(whom),
            34 => Self::Agree(whom),
            35 => Self::Decline(whom),
            // So that some of them leave and return.
            _ => Self::MuteMember(whom, true),
        }
    }

    async fn run(self, device: &Device, group_id: &str) -> Result<(), ErrorCode> {
        fn done<T>(result: Result<T, zim_client_sdk::Error>) -> Result<(), ErrorCode> {
            result.map(drop).map_err(|error| error.code())
        }
        match self {
            Self::Create => {
                done(soon(device.create_group(info(group_id), [""; 0], GroupAdvancedConfig::default())).await)
            }
            Self::Join => done(soon(device.join_group(group_id)).await),
            Self::Leave => done(soon(device.leave_group(group_id)).await),
            Self::Dismiss => done(soon(device.dismiss_group(group_id)).await),
            Self::Rename => done(soon(device.update_group_name("renamed", group_id)).await),
            Self::Kick(whom) => done(soon(device.kick_group_members([whom], group_id)).await),
            Self::Invite(whom) => done(soon(device.invite_users_into_group([whom], group_id)).await),
            Self::Ask(whom) => {
                done(soon(device.send_group_invite_applications([whom], group_id, Default::default())).await)
            }
            Self::Transfer(whom) => done(soon(device.transfer_group_owner(whom, group_id)).await),
            Self::SetRole(whom, role) => done(soon(device.set_group_member_role(role, whom, group_id)).await),
            Self::Nickname(whom) => done(soon(device.set_group_member_nickname("nick", whom, group_id)).await),
            Self::MuteMember(whom, is_mute) => {
                let for_good = GroupMemberMuteConfig { duration: -1 };
                done(soon(device.mute_group_members(is_mute, [whom], group_id, for_good)).await)
            }
            Self::MuteGroup(mute) => {
                let roles = match mute {
                    Mute::Admins => vec![2],
                    Mute::Own => vec![77],
                    _ => Vec::new(),
                };
                let mode = Some(i32::try_from(mute.stored().0).unwrap());
                let config = GroupMuteConfig { mode, duration: Some(-1), roles };
                done(soon(device.mute_group(!matches!(mute, Mute::Off), group_id, config)).await)
            }
            Self::SetMode(0, mode) => {
                let mode = [GroupJoinMode::Any, GroupJoinMode::Auth, GroupJoinMode::Forbid][mode];
                done(soon(device.update_group_join_mode(mode, group_id)).await)
            }
            Self::SetMode(1, mode) => {
                let mode = [GroupInviteMode::Any, GroupInviteMode::Admin][mode];
                done(soon(device.update_group_invite_mode(mode, group_id)).await)
            }
            Self::SetMode(_, mode) => {
                let mode = [GroupBeInviteMode::None, GroupBeInviteMode::Auth][mode];
                done(soon(device.update_group_be_invite_mode(mode, group_id)).await)
            }
            Self::Apply => done(soon(device.send_group_join_application(group_id, Default::default())).await),
            Self::Accept(whom) => {
                done(soon(device.accept_group_join_application(whom, group_id, Default::default())).await)
            }
            Self::Reject(whom) => {
                done(soon(device.reject_group_join_application(whom, group_id, Default::default())).await)
            }
            Self::Agree(whom) => {
                done(soon(device.accept_group_invite_application(whom, group_id, Default::default())).await)
            }
            Self::Decline(whom) => {
                done(soon(device.reject_group_invite_application(whom, group_id, Default::default())).await)
            }
        }
    }

    /// Returns what is stored after this if it is allowed, apart from applications; `None`: it must be refused.
    fn expected(self, before: &State, actor: &str) -> Option<State> {
        let mut after = before.clone();
        let role = before.role(actor);
        // Those who are not in the group only join, apply and answer.
        let mine = role.unwrap_or(0);
        let decides = matches!(role, Some(1 | 2));
        let may_enter = |user: &str| !before.is_over && before.role(user).is_none() && !before.is_full();
        // Roles of others, none of whom is the actor.
        let other = |whom: &str| before.role(whom).filter(|_| whom != actor);
        let done = match self {
            Self::Create => false,
            Self::Join if role.is_some() => true,
            Self::Join => before.modes[0] == 0 && may_enter(actor) && after.enter(actor),
            Self::Leave => role.is_some() && after.leave(actor),
            Self::Dismiss => mine == 1 && after.end(),
            Self::Rename => {
                after.name = "renamed".to_owned();
                role.is_some()
            }
            Self::Kick(whom) => other(whom).is_some_and(|role| is_above(mine, role)) && after.leave(whom),
            Self::Invite(whom) | Self::Ask(whom) => {
                let may_invite = role.is_some() && (before.modes[1] == 0 || decides);
                let must_agree = before.modes[2] == 1;
                // Who must agree is asked, and enters later.
                may_invite && before.role(whom).is_none() && (must_agree || may_enter(whom) && after.enter(whom))
            }
            Self::Transfer(whom) => {
                let may = mine == 1 && other(whom).is_some();
                if may {
                    after.member(actor).role = 3;
                    after.member(whom).role = 1;
                }
                may
            }
            Self::SetRole(whom, new) => {
                let may = mine == 1 && other(whom).is_some() && new != 1;
                if may {
                    after.member(whom).role = new;
                }
                may
            }
            Self::Nickname(whom) => {
                let may = before.role(whom).is_some_and(|role| whom == actor || is_above(mine, role));
                if may {
                    after.member(whom).nickname = "nick".to_owned();
                }
                may
            }
            Self::MuteMember(whom, is_mute) => {
                let may = before.role(whom).is_some_and(|role| is_above(mine, role) || whom == actor && role == 1);
                if may {
                    after.member(whom).is_muted = is_mute;
                }
                may
            }
            Self::MuteGroup(mute) => {
                let (mode, roles) = mute.stored();
                after.mute = (mode, roles.to_owned());
                decides && Mute::is_for(&before.mute, mine) && Mute::is_for(&after.mute, mine)
            }
            Self::SetMode(which, mode) => {
                after.modes[which] = i64::try_from(mode).unwrap();
                decides
            }
            Self::Apply => match before.modes[0] {
                _ if before.is_over || role.is_some() => false,
                0 => may_enter(actor) && after.enter(actor),
                mode => mode == 1,
            },
            Self::Accept(whom) => decides && before.waits(whom, "") && may_enter(whom) && after.enter(whom),
            Self::Reject(whom) => decides && before.waits(whom, ""),
            Self::Agree(whom) => {
                let may_invite = match before.role(whom) {
                    Some(1 | 2) => true,
                    Some(_) => before.modes[1] == 0,
                    None => false,
                };
                may_invite && before.waits(actor, whom) && may_enter(actor) && after.enter(actor)
            }
            Self::Decline(whom) => !before.is_over && before.waits(actor, whom),
        };
        (done && !before.is_over).then_some(after)
    }

    /// Whether the reference does not say what happens: somebody who is a member already is asked, applies or is let in.
    fn is_open(self, before: &State, actor: &str) -> bool {
        match self {
            Self::Apply | Self::Agree(_) => before.role(actor).is_some(),
            Self::Ask(whom) | Self::Accept(whom) => before.role(whom).is_some(),
            _ => false,
        }
    }
}

impl State {
    /// Adds a member. Returns true.
    fn enter(&mut self, user: &str) -> bool {
        let is_muted = self.muted_before.remove(user);
        self.members.push(Member { user: user.to_owned(), role: 3, nickname: String::new(), is_muted });
        true
    }

    /// Removes a member; the earliest one is the next owner. Returns true.
    fn leave(&mut self, user: &str) -> bool {
        let was_owner = self.role(user) == Some(1);
        if self.member(user).is_muted {
            self.muted_before.insert(user.to_owned());
        }
        self.members.retain(|member| member.user != user);
        match self.members.first_mut() {
            Some(heir) if was_owner => heir.role = 1,
            Some(_) => {}
            None => {
                self.end();
            }
        }
        true
    }

    fn end(&mut self) -> bool {
        self.members.clear();
        self.muted_before.clear();
        self.is_over = true;
        true
    }

    /// What is compared: all but the applications and the counts.
    fn compared(&self) -> impl PartialEq + Debug + use<> {
        let members = (self.members.clone(), self.muted_before.clone());
        (self.is_over, self.name.clone(), self.modes, self.mute.clone(), members)
    }
}

/// Lets users act at random in groups of their own, one after the other. Returns how many acts were done and how many refused, how many
/// groups ended, and how often somebody who was muted returned.
async fn act(world: &World, devices: &[Device], seed: u64) -> [usize; 4] {
    let [mut done, mut refused, mut ended, mut returned_muted] = [0; 4];
    let mut random = Random::new(seed);
    let mut group = 0;
    let mut group_id = String::new();
    // What the act before has left. Nobody else changes the group.
    let mut left = None;
    for step in 0..250 {
        if group_id.is_empty() {
            group += 1;
            group_id = format!("g{seed}-{group}");
            let config = GroupAdvancedConfig {
                join_mode: one(&mut random, &[0, 1, 2]),
                invite_mode: one(&mut random, &[0, 1]),
                be_invite_mode: one(&mut random, &[0, 1]),
                max_member_count: i64::try_from(CAP).unwrap(),
                ..GroupAdvancedConfig::default()
            };
            let users = [USERS[1], USERS[2]].into_iter().take(one(&mut random, &[0, 1, 2]));
            soon(devices[0].create_group(info(&group_id), users, config)).await.unwrap();
            let new = State::of(world, &group_id).await;
            new.check("new");
            left = Some(new);
        }
        let before = left.take().unwrap();
        // Half of the time somebody who is in the group.
        let present: Vec<usize> = (0..USERS.len()).filter(|user| before.role(USERS[*user]).is_some()).collect();
        let all = [0, 1, 2, 3, 4, 5];
        let is_in = random.below(2) == 0 && !present.is_empty();
        let who = one(&mut random, if is_in { &present } else { &all });
        let (actor, op) = (USERS[who], Op::random(&mut random));
        let result = op.run(&devices[who], &group_id).await;
        let after = State::of(world, &group_id).await;
        let place = format!("seed {seed}, step {step}: {actor} {op:?}: {result:?}");
        after.check(&place);
        if result.is_err() {
            assert_eq!(before, after, "{place}");
        }
        let expected = op.expected(&before, actor);
        if op.is_open(&before, actor) {
            assert_eq!(before.compared(), after.compared(), "{place}");
        } else {
            assert_eq!(result.is_ok(), expected.is_some(), "{place}: {before:#?}");
        }
        if let Some(expected) = expected.filter(|_| result.is_ok()) {
            let returns_muted = |user: &&&str| before.muted_before.contains(**user) && after.role(user).is_some();
            returned_muted += USERS.iter().filter(returns_muted).count();
            assert_eq!(expected.compared(), after.compared(), "{place}");
        }
        if let (Ok(()), Op::Apply, 1) = (result, op, before.modes[0])
            && before.role(actor).is_none()
        {
            assert!(after.waits(actor, ""), "{place}: {after:#?}");
        }
        if let (Ok(()), Op::Invite(whom) | Op::Ask(whom), 1) = (result, op, before.modes[2])
            && before.role(whom).is_none()
        {
            assert!(after.waits(whom, actor), "{place}: {after:#?}");
        }
        if let (Ok(()), Op::Accept(whom) | Op::Reject(whom)) = (result, op) {
            assert!(!after.waits(whom, ""), "{place}: {after:#?}");
        }
        *if result.is_ok() { &mut done } else { &mut refused } += 1;
        if after.is_over && random.below(3) == 0 {
            ended += 1;
            group_id.clear();
        }
        left = Some(after);
    }
    [done, refused, ended, returned_muted]
}

#[tokio::test]
async fn random_acts_keep_the_rules_of_groups() {
    let world = World::new().await;
    let mut devices = Vec::new();
    for user in USERS {
        devices.push(world.user(user).await);
    }
    // Each seed has groups of its own, in which its acts keep their order: all seeds at once wait less for the database.
    let all = join_all((1..=6).map(|seed| act(&world, &devices, seed))).await;
    let [done, refused, ended, returned_muted] =
        all.into_iter().fold([0_usize; 4], |sums, of_seed| std::array::from_fn(|index| sums[index] + of_seed[index]));
    // The steps are not all of one kind.
    assert!(done > 300 && refused > 300 && ended >= 3, "{done} {refused} {ended}");
    assert!(returned_muted > 0, "somebody who was muted leaves and returns");
    world.end().await;
}
