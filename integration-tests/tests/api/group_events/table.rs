//! The table: the rows of one group follow each other. A cell has what both devices of a user are told.

use zim_protocol::{ErrorCode, GroupBeInviteMode, GroupInviteMode, GroupJoinMode, GroupMuteMode};

use super::{Act, MUTE_S, Row, User};

const NOT_ALLOWED: ErrorCode = ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority;
const NOT_IN: ErrorCode = ErrorCode::GroupModuleUserIsNotInTheGroup;

const CREW: &[User] = &["ann", "bob", "cai"];
const ALL: &[User] = &["ann", "bob", "cai", "dan"];

/// The same cell for Ann, Bob and Cai.
macro_rules! crew {
    ($($told:expr),+) => {
        &[("ann", &[$($told),+]), ("bob", &[$($told),+]), ("cai", &[$($told),+])]
    };
}

const CREATED: &str = "state Enter Created by ann";
const OWNER: &str = "members Enter Joined ann=1/Created/- by ann";
const INVITED: &str = "state Enter Invited by ann";
const BOTH: &str = "members Enter Invited bob=3/Invited/ann,cai=3/Invited/ann by ann";
const DISABLED: &str = super::DISABLED;

pub(super) const ROWS: &[Row] = &[
    // What a group and its members are.
    Row::new(
        Act::Create("ann", &["bob", "cai"], &[("color", "red")]),
        CREW,
        &[
            ("ann", &[CREATED, "attributes Set color=red by ann(1)", OWNER, BOTH]),
            ("bob", &[INVITED, BOTH]),
            ("cai", &[INVITED, BOTH]),
        ],
    ),
    Row::new(Act::Name("bob", "New"), CREW, crew!["name New by bob(3)", "conversation name New"]),
    // The same again is no change.
    Row::new(Act::Name("ann", "New"), CREW, &[]),
    Row::refused(Act::Name("dan", "Mine"), NOT_IN, CREW),
    Row::new(Act::Avatar("bob", "b.png"), CREW, crew!["avatar b.png by bob(3)", "conversation avatar b.png"]),
    Row::new(Act::Notice("cai", "be kind"), CREW, crew!["notice be kind by cai(3)"]),
    Row::new(Act::SetAttribute("bob", "a", "1"), CREW, crew!["attributes Set a=1 by bob(3)"]),
    Row::new(Act::DeleteAttribute("ann", "a"), CREW, crew!["attributes Delete a=1 by ann(1)"]),
    Row::refused(Act::JoinMode("bob", GroupJoinMode::Auth), NOT_ALLOWED, CREW),
    Row::new(Act::JoinMode("ann", GroupJoinMode::Auth), CREW, crew!["modes 1 0 0 by ann(1)"]),
    Row::new(Act::InviteMode("ann", GroupInviteMode::Admin), CREW, crew!["modes 1 1 0 by ann(1)"]),
    Row::new(Act::BeInviteMode("ann", GroupBeInviteMode::Auth), CREW, crew!["modes 1 1 1 by ann(1)"]),
    Row::new(Act::Alias("bob", "dear"), CREW, &[("bob", &["alias dear by bob", "conversation alias dear"])]),
    Row::refused(Act::Role("bob", "cai", 2), NOT_ALLOWED, CREW),
    Row::new(Act::Role("ann", "bob", 2), CREW, crew!["info bob=2 by ann(1)"]),
    Row::new(Act::Nickname("bob", "cai", "Kay"), CREW, crew!["info cai=3 as Kay by bob(2)"]),
    Row::new(
        Act::MuteMembers("bob", &["cai"], MUTE_S),
        CREW,
        &[
            ("ann", &["info cai=3 as Kay muted +60000 by bob(2)"]),
            ("bob", &["info cai=3 as Kay muted +60000 by bob(2)"]),
            ("cai", &["info cai=3 as Kay muted +60000 by bob(2)", "conversation muted +60000"]),
        ],
    ),
    Row::new(
        Act::MuteMembers("bob", &["cai"], 0),
        CREW,
        &[
            ("ann", &["info cai=3 as Kay by bob(2)"]),
            ("bob", &["info cai=3 as Kay by bob(2)"]),
            ("cai", &["info cai=3 as Kay by bob(2)", "conversation muted 0"]),
        ],
    ),
    Row::refused(Act::MuteGroup("cai", Some(GroupMuteMode::Normal)), NOT_ALLOWED, CREW),
    Row::new(
        Act::MuteGroup("ann", Some(GroupMuteMode::Normal)),
        CREW,
        &[
            ("ann", &["mute Normal +60000 by ann(1)"]),
            ("bob", &["mute Normal +60000 by ann(1)"]),
            ("cai", &["mute Normal +60000 by ann(1)", "conversation muted +60000"]),
        ],
    ),
    Row::new(
        Act::MuteGroup("ann", Some(GroupMuteMode::All)),
        &[],
        &[
            ("ann", &["mute All +60000 by ann(1)", "conversation muted +60000"]),
            ("bob", &["mute All +60000 by ann(1)", "conversation muted +60000"]),
            ("cai", &["mute All +60000 by ann(1)"]),
        ],
    ),
    Row::new(Act::MuteGroup("ann", None), CREW, crew!["mute None 0 by ann(1)", "conversation muted 0"]),
    Row::new(Act::Transfer("ann", "bob"), CREW, crew!["info ann=3,bob=1 by ann(3)"]),
    Row::refused(Act::Dismiss("ann"), NOT_ALLOWED, CREW),
    Row::new(Act::Dismiss("bob"), &[], crew!["state Quit Dismissed by bob", DISABLED]),
    // Who comes and goes.
    Row::new(
        Act::Create("ann", &["bob", "cai"], &[]),
        CREW,
        &[("ann", &[CREATED, OWNER, BOTH]), ("bob", &[INVITED, BOTH]), ("cai", &[INVITED, BOTH])],
    ),
    Row::new(
        Act::Join("dan"),
        ALL,
        &[
            ("ann", &["members Enter Joined dan=3/Joined/- by dan"]),
            ("bob", &["members Enter Joined dan=3/Joined/- by dan"]),
            ("cai", &["members Enter Joined dan=3/Joined/- by dan"]),
            ("dan", &["state Enter Joined by dan", "members Enter Joined dan=3/Joined/- by dan"]),
        ],
    ),
    Row::new(Act::Join("dan"), ALL, &[]),
    Row::new(
        Act::Leave("dan"),
        CREW,
        &[
            ("ann", &["members Quit Left dan by dan"]),
            ("bob", &["members Quit Left dan by dan"]),
            ("cai", &["members Quit Left dan by dan"]),
            ("dan", &["state Quit Left by dan", "members Quit Left dan by dan", DISABLED]),
        ],
    ),
    // Whoever has left is an outsider.
    Row::new(Act::Notice("ann", "later"), CREW, crew!["notice later by ann(1)"]),
    Row::new(
        Act::Invite("bob", &["dan"]),
        ALL,
        &[
            ("ann", &["members Enter Invited dan=3/Invited/bob by bob"]),
            ("bob", &["members Enter Invited dan=3/Invited/bob by bob"]),
            ("cai", &["members Enter Invited dan=3/Invited/bob by bob"]),
            (
                "dan",
                &[
                    "state Enter Invited by bob",
                    "members Enter Invited dan=3/Invited/bob by bob",
                    "conversation enabled",
                ],
            ),
        ],
    ),
    Row::refused(Act::Kick("cai", &["dan"]), NOT_ALLOWED, ALL),
    Row::new(
        Act::Kick("ann", &["bob", "dan"]),
        &["ann", "cai"],
        &[
            ("ann", &["members Quit KickedOut bob,dan by ann"]),
            ("bob", &["state Quit KickedOut by ann", "members Quit KickedOut bob,dan by ann", DISABLED]),
            ("cai", &["members Quit KickedOut bob,dan by ann"]),
            ("dan", &["state Quit KickedOut by ann", "members Quit KickedOut bob,dan by ann", DISABLED]),
        ],
    ),
    // The owner leaves: the earliest member is the owner then.
    Row::new(
        Act::Leave("ann"),
        &["cai"],
        &[
            ("ann", &["state Quit Left by ann", "members Quit Left ann by ann", DISABLED]),
            ("cai", &["members Quit Left ann by ann", "info cai=1 by ann(0)"]),
        ],
    ),
    // The last one leaves, which ends the group.
    Row::new(Act::Leave("cai"), &[], &[("cai", &["state Quit Left by cai", "members Quit Left cai by cai", DISABLED])]),
    // Applications.
    Row::new(
        Act::Create("ann", &["cai"], &[]),
        &["ann", "cai"],
        &[
            ("ann", &[CREATED, OWNER, "members Enter Invited cai=3/Invited/ann by ann"]),
            ("cai", &[INVITED, "members Enter Invited cai=3/Invited/ann by ann"]),
        ],
    ),
    Row::new(
        Act::JoinMode("ann", GroupJoinMode::Auth),
        &["ann", "cai"],
        &[("ann", &["modes 1 0 0 by ann(1)"]), ("cai", &["modes 1 0 0 by ann(1)"])],
    ),
    Row::new(
        Act::BeInviteMode("ann", GroupBeInviteMode::Auth),
        &["ann", "cai"],
        &[("ann", &["modes 1 0 1 by ann(1)"]), ("cai", &["modes 1 0 1 by ann(1)"])],
    ),
    Row::new(Act::Apply("bob"), &["ann", "cai"], &[("ann", &["application added Join Waiting of bob"])]),
    Row::refused(Act::Accept("cai", "bob"), NOT_ALLOWED, &["ann", "cai"]),
    Row::new(
        Act::Reject("ann", "bob"),
        &["ann", "cai"],
        &[
            ("ann", &["application updated Join Rejected of bob by ann"]),
            ("bob", &["application updated Join Rejected of bob by ann"]),
        ],
    ),
    Row::new(Act::Apply("bob"), &["ann", "cai"], &[("ann", &["application added Join Waiting of bob"])]),
    Row::new(
        Act::Accept("ann", "bob"),
        CREW,
        &[
            (
                "ann",
                &["members Enter Joined bob=3/JoinApply/ann by ann", "application updated Join Accepted of bob by ann"],
            ),
            (
                "bob",
                &[
                    "state Enter Joined by ann",
                    "members Enter Joined bob=3/JoinApply/ann by ann",
                    "application updated Join Accepted of bob by ann",
                ],
            ),
            ("cai", &["members Enter Joined bob=3/JoinApply/ann by ann"]),
        ],
    ),
    Row::new(
        Act::Ask("ann", "dan"),
        CREW,
        &[
            ("ann", &["application added Invite Waiting of dan by ann"]),
            ("dan", &["application added BeInvite Waiting of ann by ann"]),
        ],
    ),
    Row::new(
        Act::Decline("dan", "ann"),
        CREW,
        &[
            ("ann", &["application updated Invite Rejected of dan by dan"]),
            ("dan", &["application updated BeInvite Rejected of ann by dan"]),
        ],
    ),
    // A member who does not decide sees nothing of their own invitation.
    Row::new(Act::Ask("cai", "dan"), CREW, &[("dan", &["application added BeInvite Waiting of cai by cai"])]),
    Row::new(
        Act::Agree("dan", "cai"),
        ALL,
        &[
            ("ann", &["members Enter Invited dan=3/InviteApply/cai by cai"]),
            ("bob", &["members Enter Invited dan=3/InviteApply/cai by cai"]),
            ("cai", &["members Enter Invited dan=3/InviteApply/cai by cai"]),
            (
                "dan",
                &[
                    "state Enter Invited by cai",
                    "members Enter Invited dan=3/InviteApply/cai by cai",
                    "application updated BeInvite Accepted of cai by dan",
                ],
            ),
        ],
    ),
    Row::new(
        Act::Dismiss("ann"),
        &[],
        &[
            ("ann", &["state Quit Dismissed by ann", DISABLED]),
            ("bob", &["state Quit Dismissed by ann", DISABLED]),
            ("cai", &["state Quit Dismissed by ann", DISABLED]),
            ("dan", &["state Quit Dismissed by ann", DISABLED]),
        ],
    ),
];
