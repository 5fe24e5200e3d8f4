//! Applications to join a group, and to bring users into one.

use zim_integration_tests::{Device, World, eventually, reason_of, refusal, soon};
use zim_protocol::{
    ConnectionState, ErrorCode, Event, EventKind, GroupAdvancedConfig, GroupApplicationInfo,
    GroupApplicationListQueryConfig, GroupApplicationState as State, GroupApplicationType as Kind, GroupBeInviteMode,
    GroupEnterType, GroupEvent, GroupInviteApplicationAcceptConfig, GroupInviteApplicationRejectConfig,
    GroupInviteApplicationSendConfig, GroupInviteMode, GroupJoinApplicationAcceptConfig,
    GroupJoinApplicationRejectConfig, GroupJoinApplicationSendConfig, GroupJoinMode, GroupState,
};

use crate::group::{create, info, state};

const NOT_IN: ErrorCode = ErrorCode::GroupModuleUserIsNotInTheGroup;
const NONE: ErrorCode = ErrorCode::GroupModuleGroupDoesNotExist;
const NOT_ALLOWED: ErrorCode = ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority;
const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;
const ALREADY: ErrorCode = ErrorCode::GroupModuleMemberIsAlreadyInTheGroup;
pub(crate) const NO_JOIN: ErrorCode = ErrorCode::GroupModuleJoinGroupError;
pub(crate) const NO_INVITE: ErrorCode = ErrorCode::GroupModuleInviteUserIntoGroupError;
/// How long applications wait in these tests; by default it is 7 days.
const VALID_MS: i64 = 60_000;

/// An application as a test compares it: its type, its state, the other user, the wording.
pub(crate) type Shown = (Kind, State, String, String);

pub(crate) fn show(info: &GroupApplicationInfo) -> Shown {
    let user = info.apply_user.clone().unwrap().user_id;
    (info.r#type(), info.state(), user, info.wording.clone())
}

pub(crate) fn shown(kind: Kind, state: State, user: &str, wording: &str) -> Shown {
    (kind, state, user.to_owned(), wording.to_owned())
}

pub(crate) async fn list(device: &Device) -> Vec<Shown> {
    let config = GroupApplicationListQueryConfig { next_flag: 0, count: 100 };
    let list = soon(device.query_group_application_list(config)).await.unwrap();
    assert_eq!(list.next_flag, 0);
    list.application_list.iter().map(show).collect()
}

/// The next application that a device was told of.
pub(crate) async fn added(device: &Device) -> Shown {
    match device.next(EventKind::GroupApplicationListChanged).await {
        Event::GroupApplicationListChanged(event) => {
            assert_eq!((event.action, event.application_list.len()), (0, 1));
            let one = &event.application_list[0];
            assert_eq!(one.group_info, Some(info("crew")));
            show(one)
        }
        other => panic!("{other:?}"),
    }
}

/// The applications that an event says are new.
fn all_added(event: &Event) -> Vec<Shown> {
    match event {
        Event::GroupApplicationListChanged(event) => event.application_list.iter().map(show).collect(),
        _ => Vec::new(),
    }
}

/// The next application that was answered, and by whom.
async fn answered(device: &Device) -> (Shown, String) {
    match device.next(EventKind::GroupApplicationUpdated).await {
        Event::GroupApplicationUpdated(event) => {
            let [one] = &event.application_list[..] else { panic!("{event:?}") };
            (show(one), one.operated_user.clone().unwrap().user_id)
        }
        other => panic!("{other:?}"),
    }
}

/// The applications that a device has heard the end of, and who ended them, once there are so many.
pub(crate) async fn answers(device: &Device, count: usize) -> Vec<(Shown, String)> {
    let of = |event: &Event| match event {
        Event::GroupApplicationUpdated(event) => event.application_list.clone(),
        _ => Vec::new(),
    };
    let ended = |one: GroupApplicationInfo| (show(&one), one.operated_user.unwrap().user_id);
    device
        .until("the end of applications", |seen| {
            let all: Vec<_> = seen.iter().flat_map(of).map(ended).collect();
            (all.len() >= count).then_some(all)
        })
        .await
}

/// How many events of applications a device has seen.
pub(crate) fn told(device: &Device) -> (usize, usize) {
    let count = |kind| device.seen_of(kind).len();
    (count(EventKind::GroupApplicationListChanged), count(EventKind::GroupApplicationUpdated))
}

/// What was pushed to the devices before this has arrived.
pub(crate) async fn barrier(ann: &Device, devices: &[(&str, &Device)], text: &str) {
    for (user, device) in devices {
        ann.say(*user, text).await;
        device.receives(text).await;
    }
}

pub(crate) async fn apply(device: &Device, wording: &str) -> Result<(), zim_client_sdk::Error> {
    let config = GroupJoinApplicationSendConfig { wording: wording.to_owned(), ..Default::default() };
    soon(device.send_group_join_application("crew", config)).await.map(|sent| assert_eq!(sent.group_id, "crew"))
}

pub(crate) async fn ask(
    device: &Device,
    users: &[&str],
    wording: &str,
) -> Result<Vec<(String, i64)>, zim_client_sdk::Error> {
    let config = GroupInviteApplicationSendConfig { wording: wording.to_owned(), ..Default::default() };
    let sent = soon(device.send_group_invite_applications(users.iter().copied(), "crew", config)).await?;
    assert_eq!(sent.group_id, "crew");
    Ok(sent.error_user_list.into_iter().map(|user| (user.user_id, user.reason)).collect())
}

pub(crate) async fn accept(device: &Device, applicant: &str) -> Result<(), zim_client_sdk::Error> {
    let config = GroupJoinApplicationAcceptConfig::default();
    soon(device.accept_group_join_application(applicant, "crew", config)).await.map(drop)
}

async fn reject(device: &Device, applicant: &str) -> Result<(), zim_client_sdk::Error> {
    let config = GroupJoinApplicationRejectConfig::default();
    soon(device.reject_group_join_application(applicant, "crew", config)).await.map(drop)
}

pub(crate) async fn agree(device: &Device, inviter: &str) -> Result<(), zim_client_sdk::Error> {
    let config = GroupInviteApplicationAcceptConfig::default();
    let agreed = soon(device.accept_group_invite_application(inviter, "crew", config)).await?;
    assert_eq!(agreed.inviter_user_id, inviter);
    assert_eq!(agreed.group_info.unwrap().base_info, Some(info("crew")));
    Ok(())
}

pub(crate) async fn decline(device: &Device, inviter: &str) -> Result<(), zim_client_sdk::Error> {
    let config = GroupInviteApplicationRejectConfig::default();
    soon(device.reject_group_invite_application(inviter, "crew", config)).await.map(drop)
}

pub(crate) async fn is_member(device: &Device) -> bool {
    soon(device.query_group_member_count("crew")).await.is_ok()
}

/// A group of Ann, Adam, who is an administrator, and Mia, with these modes. Dan and Eve are outside.
pub(crate) struct Crew {
    pub(crate) world: World,
    pub(crate) ann: Device,
    pub(crate) adam: Device,
    pub(crate) mia: Device,
    pub(crate) dan: Device,
    pub(crate) eve: Device,
}

impl Crew {
    pub(crate) async fn new(join: GroupJoinMode, invite: GroupInviteMode, be_invite: GroupBeInviteMode) -> Self {
        Self::with(join, invite, be_invite, 0).await
    }

    async fn with(join: GroupJoinMode, invite: GroupInviteMode, be_invite: GroupBeInviteMode, most: i64) -> Self {
        let world = World::with(|config| {
            config.limits.max_groups = 2;
            config.limits.friend_application_valid_s = 60;
        })
        .await;
        let (ann, adam, mia) = (world.user("ann").await, world.user("adam").await, world.user("mia").await);
        let (dan, eve) = (world.user("dan").await, world.user("eve").await);
        let config = GroupAdvancedConfig {
            join_mode: join as i32,
            invite_mode: invite as i32,
            be_invite_mode: be_invite as i32,
            max_member_count: most,
            ..GroupAdvancedConfig::default()
        };
        soon(ann.create_group(info("crew"), ["adam", "mia"], config)).await.unwrap();
        soon(ann.set_group_member_role(2, "adam", "crew")).await.unwrap();
        Self { world, ann, adam, mia, dan, eve }
    }

    pub(crate) async fn asking() -> Self {
        Self::new(GroupJoinMode::Auth, GroupInviteMode::Any, GroupBeInviteMode::Auth).await
    }
}

#[tokio::test]
async fn send_group_join_application_tells_those_who_decide() {
    let crew = Crew::asking().await;
    let tablet = crew.world.device("ann").await;
    apply(&crew.dan, "let me in").await.unwrap();
    let waiting = shown(Kind::Join, State::Waiting, "dan", "let me in");
    for device in [&crew.ann, &tablet, &crew.adam] {
        assert_eq!(added(device).await, waiting);
        assert_eq!(list(device).await, std::slice::from_ref(&waiting));
    }
    assert_eq!(list(&crew.dan).await, std::slice::from_ref(&waiting));
    barrier(&crew.ann, &[("mia", &crew.mia), ("dan", &crew.dan), ("eve", &crew.eve)], "now").await;
    for device in [&crew.mia, &crew.dan, &crew.eve] {
        assert_eq!(told(device), (0, 0));
    }
    for device in [&crew.mia, &crew.eve] {
        assert_eq!(list(device).await, []);
    }
    assert!(!is_member(&crew.dan).await);
    // Who applies again replaces the application.
    crew.world.clock.advance(1_000);
    apply(&crew.dan, "please").await.unwrap();
    let again = shown(Kind::Join, State::Waiting, "dan", "please");
    assert_eq!(added(&crew.adam).await, again);
    assert_eq!(list(&crew.adam).await, [again]);
    assert_eq!(refusal(apply(&crew.mia, "").await), ALREADY);
    let longest = "é".repeat(1_024);
    apply(&crew.eve, &longest).await.unwrap();
    assert_eq!(refusal(apply(&crew.eve, &format!("{longest}x")).await), INVALID);
    let config = GroupJoinApplicationSendConfig::default();
    assert_eq!(refusal(soon(crew.dan.send_group_join_application("none", config)).await), NONE);
    crew.world.end().await;
}

#[tokio::test]
async fn send_group_join_application_depends_on_the_join_mode() {
    for (mode, joined, applied) in [
        (GroupJoinMode::Any, None, None),
        (GroupJoinMode::Auth, Some(ErrorCode::GroupModuleNeedApplyJoinGroupError), None),
        (
            GroupJoinMode::Forbid,
            Some(ErrorCode::GroupModuleForbidJoinGroupError),
            Some(ErrorCode::GroupModuleForbidJoinGroupError),
        ),
    ] {
        let crew = Crew::new(mode, GroupInviteMode::Any, GroupBeInviteMode::None).await;
        assert_eq!(soon(crew.dan.join_group("crew")).await.map_err(|error| error.code()).err(), joined, "{mode:?}");
        assert_eq!(apply(&crew.eve, "").await.map_err(|error| error.code()).err(), applied, "{mode:?}");
        assert_eq!(is_member(&crew.dan).await, joined.is_none(), "{mode:?}");
        assert_eq!(is_member(&crew.eve).await, mode == GroupJoinMode::Any, "{mode:?}");
        assert_eq!(list(&crew.ann).await.len(), usize::from(mode == GroupJoinMode::Auth), "{mode:?}");
        crew.world.end().await;
    }
}

#[tokio::test]
async fn accept_group_join_application_lets_the_applicant_in() {
    let crew = Crew::asking().await;
    let tablet = crew.world.device("dan").await;
    apply(&crew.dan, "hi").await.unwrap();
    assert_eq!(refusal(accept(&crew.mia, "dan").await), NOT_ALLOWED);
    assert_eq!(refusal(accept(&crew.eve, "dan").await), NOT_IN);
    for other in ["eve", "nobody"] {
        assert_eq!(refusal(accept(&crew.adam, other).await), NO_JOIN);
    }
    let config = GroupJoinApplicationAcceptConfig::default();
    assert_eq!(refusal(soon(crew.ann.accept_group_join_application("dan", "none", config)).await), NONE);
    accept(&crew.adam, "dan").await.unwrap();
    for device in [&crew.dan, &tablet] {
        assert_eq!(state(device).await, (GroupState::Enter, GroupEvent::Joined, "adam".into()));
    }
    let accepted = (shown(Kind::Join, State::Accepted, "dan", "hi"), "adam".to_owned());
    for device in [&crew.dan, &tablet, &crew.ann, &crew.adam] {
        assert_eq!(answered(device).await, accepted);
        assert_eq!(list(device).await, std::slice::from_ref(&accepted.0));
    }
    let dan = soon(crew.mia.query_group_member_info("dan", "crew")).await.unwrap().user_info.unwrap();
    let enter = dan.group_enter_info.unwrap();
    assert_eq!(
        (enter.enter_type(), enter.operated_user.unwrap().user_id.as_str()),
        (GroupEnterType::JoinApply, "adam")
    );
    assert_eq!(refusal(accept(&crew.ann, "dan").await), NO_JOIN);
    barrier(&crew.ann, &[("mia", &crew.mia)], "now").await;
    assert_eq!(told(&crew.mia), (0, 0));
    crew.world.end().await;
}

#[tokio::test]
async fn accept_group_join_application_heeds_the_cap_and_the_groups_of_the_applicant() {
    let crew = Crew::with(GroupJoinMode::Auth, GroupInviteMode::Any, GroupBeInviteMode::None, 4).await;
    apply(&crew.dan, "").await.unwrap();
    apply(&crew.eve, "").await.unwrap();
    create(&crew.eve, "one", &[]).await;
    create(&crew.eve, "two", &[]).await;
    assert_eq!(refusal(accept(&crew.ann, "eve").await), ErrorCode::GroupModuleJoinGroupError);
    soon(crew.eve.leave_group("one")).await.unwrap();
    accept(&crew.ann, "dan").await.unwrap();
    assert_eq!(refusal(accept(&crew.ann, "eve").await), ErrorCode::GroupModuleGroupMemberHasReachedLimit);
    // It still waits.
    soon(crew.dan.leave_group("crew")).await.unwrap();
    accept(&crew.ann, "eve").await.unwrap();
    assert!(is_member(&crew.eve).await);
    crew.world.end().await;
}

#[tokio::test]
async fn reject_group_join_application_keeps_the_applicant_out() {
    let crew = Crew::asking().await;
    apply(&crew.dan, "hi").await.unwrap();
    assert_eq!(refusal(reject(&crew.mia, "dan").await), NOT_ALLOWED);
    reject(&crew.adam, "dan").await.unwrap();
    let rejected = (shown(Kind::Join, State::Rejected, "dan", "hi"), "adam".to_owned());
    for device in [&crew.dan, &crew.ann, &crew.adam] {
        assert_eq!(answered(device).await, rejected);
    }
    assert_eq!(refusal(reject(&crew.adam, "dan").await), NO_JOIN);
    assert!(!is_member(&crew.dan).await);
    // A new one may be accepted.
    crew.world.clock.advance(1_000);
    apply(&crew.dan, "again").await.unwrap();
    accept(&crew.ann, "dan").await.unwrap();
    assert!(is_member(&crew.dan).await);
    crew.world.end().await;
}

#[tokio::test]
async fn accept_group_join_application_comes_too_late_once_it_has_expired() {
    let crew = Crew::asking().await;
    apply(&crew.dan, "hi").await.unwrap();
    ask(&crew.ann, &["eve"], "come").await.unwrap();
    crew.world.clock.advance(VALID_MS - 1);
    assert_eq!(list(&crew.dan).await[0].1, State::Waiting);
    crew.world.clock.advance(1);
    for (device, of) in [(&crew.dan, 0), (&crew.eve, 0), (&crew.ann, 0), (&crew.ann, 1)] {
        assert_eq!(list(device).await[of].1, State::Expired);
    }
    assert_eq!(refusal(accept(&crew.ann, "dan").await), NO_JOIN);
    assert_eq!(refusal(reject(&crew.ann, "dan").await), NO_JOIN);
    assert_eq!(refusal(agree(&crew.eve, "ann").await), NO_INVITE);
    assert_eq!(refusal(decline(&crew.eve, "ann").await), NO_INVITE);
    apply(&crew.dan, "again").await.unwrap();
    accept(&crew.ann, "dan").await.unwrap();
    crew.world.end().await;
}

#[tokio::test]
async fn send_group_invite_applications_tells_the_invited() {
    let crew = Crew::asking().await;
    let tablet = crew.world.device("dan").await;
    let failed = ask(&crew.ann, &["dan", "mia", "nobody"], "come").await.unwrap();
    assert_eq!(failed.len(), 2);
    assert_eq!(failed[1], ("mia".to_owned(), i64::from(ALREADY as i32)));
    let theirs = shown(Kind::BeInvite, State::Waiting, "ann", "come");
    for device in [&crew.dan, &tablet] {
        assert_eq!(added(device).await, theirs);
    }
    assert_eq!(list(&crew.dan).await, [theirs]);
    let mine = shown(Kind::Invite, State::Waiting, "dan", "come");
    assert_eq!(added(&crew.ann).await, mine);
    assert_eq!(list(&crew.ann).await, [mine]);
    // A plain member does not see what they sent.
    ask(&crew.mia, &["dan"], "do").await.unwrap();
    assert_eq!(added(&crew.dan).await, shown(Kind::BeInvite, State::Waiting, "mia", "do"));
    assert_eq!((list(&crew.mia).await, list(&crew.dan).await.len()), (vec![], 2));
    barrier(&crew.ann, &[("adam", &crew.adam), ("mia", &crew.mia), ("eve", &crew.eve)], "now").await;
    for device in [&crew.adam, &crew.mia, &crew.eve] {
        assert_eq!(told(device), (0, 0));
    }
    assert_eq!(list(&crew.adam).await, []);
    assert!(!is_member(&crew.dan).await);
    assert_eq!(refusal(ask(&crew.eve, &["dan"], "").await), NOT_IN);
    assert_eq!(refusal(ask(&crew.ann, &["mia"], "").await), ALREADY);
    let config = GroupInviteApplicationSendConfig::default;
    assert_eq!(refusal(soon(crew.ann.send_group_invite_applications(["dan"], "none", config())).await), NONE);
    for count in [0, 21] {
        let users = (0..count).map(|index| format!("u{index}"));
        assert_eq!(refusal(soon(crew.ann.send_group_invite_applications(users, "crew", config())).await), INVALID);
    }
    let long = "é".repeat(1_025);
    assert_eq!(refusal(ask(&crew.ann, &["dan"], &long).await), INVALID);
    ask(&crew.ann, &["dan"], &long[2..]).await.unwrap();
    crew.world.end().await;
}

/// The matrix of the reference: who is invited how, with which result.
#[tokio::test]
async fn send_group_invite_applications_and_invite_users_into_group_follow_the_matrix() {
    for be_invite in [GroupBeInviteMode::None, GroupBeInviteMode::Auth] {
        for invite in [GroupInviteMode::Any, GroupInviteMode::Admin] {
            let crew = Crew::new(GroupJoinMode::Forbid, invite, be_invite).await;
            let all = [("ann", &crew.ann, 1), ("adam", &crew.adam, 2), ("mia", &crew.mia, 3), ("mia", &crew.mia, 77)];
            for (name, inviter, role) in all {
                let cell = format!("{be_invite:?} {invite:?} {name} {role}");
                if role == 77 {
                    soon(crew.ann.set_group_member_role(role, name, "crew")).await.unwrap();
                }
                let is_allowed = invite == GroupInviteMode::Any || name != "mia";
                let need = i64::from(ErrorCode::GroupModuleNeedApplyInviteGroupError as i32);
                let invited = soon(inviter.invite_users_into_group(["dan"], "crew")).await;
                let asked = ask(inviter, &["eve"], "").await;
                if !is_allowed {
                    assert_eq!((refusal(invited), refusal(asked)), (NOT_ALLOWED, NOT_ALLOWED), "{cell}");
                    continue;
                }
                let (invited, asked) = (invited.unwrap(), asked.unwrap());
                assert_eq!(asked, [], "{cell}");
                let failed: Vec<_> =
                    invited.error_user_list.iter().map(|user| (user.user_id.as_str(), reason_of(user))).collect();
                if be_invite == GroupBeInviteMode::None {
                    assert_eq!((invited.user_list.len(), failed), (1, vec![]), "{cell}");
                    for device in [&crew.dan, &crew.eve] {
                        assert_eq!(list(device).await, [], "{cell}");
                        soon(device.leave_group("crew")).await.unwrap();
                    }
                } else {
                    assert_eq!((invited.user_list.len(), failed), (0, vec![("dan", need)]), "{cell}");
                    for device in [&crew.dan, &crew.eve] {
                        let waiting = shown(Kind::BeInvite, State::Waiting, name, "");
                        assert_eq!(added(device).await, waiting, "{cell}");
                        assert_eq!(list(device).await[0], waiting, "{cell}");
                        assert!(!is_member(device).await, "{cell}");
                        agree(device, name).await.unwrap();
                        soon(device.leave_group("crew")).await.unwrap();
                    }
                    let sent = list(inviter).await;
                    assert_eq!(sent.len(), if name == "mia" { 0 } else { 2 }, "{cell}: {sent:?}");
                    if name != "mia" {
                        let told = inviter.until("both invitations", |seen| {
                            let told: Vec<Shown> = seen.iter().flat_map(all_added).collect();
                            (told.len() >= 2).then_some(told)
                        });
                        let invite = |user| shown(Kind::Invite, State::Waiting, user, "");
                        assert_eq!(told.await, [invite("dan"), invite("eve")], "{cell}");
                    }
                }
            }
            crew.world.end().await;
        }
    }
}

/// What somebody may no longer do, their invitation does not do either.
#[tokio::test]
async fn accept_group_invite_application_takes_an_inviter_who_may_still_invite() {
    let crew = Crew::asking().await;
    ask(&crew.mia, &["dan", "eve"], "come").await.unwrap();
    soon(crew.ann.update_group_invite_mode(GroupInviteMode::Admin, "crew")).await.unwrap();
    assert_eq!(refusal(agree(&crew.dan, "mia").await), NO_INVITE);
    soon(crew.ann.update_group_invite_mode(GroupInviteMode::Any, "crew")).await.unwrap();
    agree(&crew.dan, "mia").await.unwrap();
    soon(crew.ann.kick_group_members(["mia"], "crew")).await.unwrap();
    assert_eq!(refusal(agree(&crew.eve, "mia").await), NO_INVITE);
    decline(&crew.eve, "mia").await.unwrap();
    crew.world.end().await;
}

#[tokio::test]
async fn accept_group_invite_application_enters_the_group() {
    let crew = Crew::asking().await;
    let tablet = crew.world.device("dan").await;
    ask(&crew.ann, &["dan"], "come").await.unwrap();
    ask(&crew.mia, &["dan"], "do").await.unwrap();
    for inviter in ["adam", "nobody"] {
        assert_eq!(refusal(agree(&crew.dan, inviter).await), NO_INVITE);
    }
    assert_eq!(refusal(agree(&crew.eve, "ann").await), NO_INVITE);
    let config = GroupInviteApplicationAcceptConfig::default();
    assert_eq!(refusal(soon(crew.dan.accept_group_invite_application("ann", "none", config)).await), NONE);
    agree(&crew.dan, "ann").await.unwrap();
    for device in [&crew.dan, &tablet] {
        assert_eq!(state(device).await, (GroupState::Enter, GroupEvent::Invited, "ann".into()));
        let accepted = (shown(Kind::BeInvite, State::Accepted, "ann", "come"), "dan".to_owned());
        // The other one is over.
        let over = (shown(Kind::BeInvite, State::Disabled, "mia", "do"), "dan".to_owned());
        assert_eq!(answers(device, 2).await, [accepted, over]);
    }
    assert_eq!(answered(&crew.ann).await, (shown(Kind::Invite, State::Accepted, "dan", "come"), "dan".to_owned()));
    let dan = soon(crew.mia.query_group_member_info("dan", "crew")).await.unwrap().user_info.unwrap();
    let enter = dan.group_enter_info.unwrap();
    assert_eq!(
        (enter.enter_type(), enter.operated_user.unwrap().user_id.as_str()),
        (GroupEnterType::InviteApply, "ann")
    );
    assert_eq!(refusal(agree(&crew.dan, "mia").await), NO_INVITE);
    assert_eq!(soon(crew.dan.query_group_member_count("crew")).await.unwrap().count, 4);
    barrier(&crew.ann, &[("adam", &crew.adam), ("mia", &crew.mia)], "now").await;
    for device in [&crew.adam, &crew.mia] {
        assert_eq!(told(device), (0, 0));
    }
    crew.world.end().await;
}

#[tokio::test]
async fn reject_group_invite_application_tells_the_inviter() {
    let crew = Crew::asking().await;
    ask(&crew.adam, &["dan"], "come").await.unwrap();
    decline(&crew.dan, "adam").await.unwrap();
    assert_eq!(answered(&crew.dan).await, (shown(Kind::BeInvite, State::Rejected, "adam", "come"), "dan".to_owned()));
    assert_eq!(answered(&crew.adam).await, (shown(Kind::Invite, State::Rejected, "dan", "come"), "dan".to_owned()));
    assert_eq!(refusal(decline(&crew.dan, "adam").await), NO_INVITE);
    assert_eq!(refusal(agree(&crew.dan, "adam").await), NO_INVITE);
    assert!(!is_member(&crew.dan).await);
    crew.world.end().await;
}

#[tokio::test]
async fn query_group_application_list_is_in_pages_and_follows_the_role() {
    let crew = Crew::asking().await;
    apply(&crew.dan, "1").await.unwrap();
    apply(&crew.eve, "2").await.unwrap();
    // At the same moment, on one page each.
    let page = async |device: &Device, next_flag, count| {
        let config = GroupApplicationListQueryConfig { next_flag, count };
        let page = soon(device.query_group_application_list(config)).await?;
        Ok::<_, zim_client_sdk::Error>((page.application_list.iter().map(show).collect::<Vec<_>>(), page.next_flag))
    };
    let (first, next) = page(&crew.ann, 0, 1).await.unwrap();
    assert_eq!(first, [shown(Kind::Join, State::Waiting, "eve", "2")]);
    assert!(next > 0 && next < 1 << 53, "a number of JSON: {next}");
    assert_eq!(page(&crew.ann, next, 1).await.unwrap(), (vec![shown(Kind::Join, State::Waiting, "dan", "1")], 0));
    for count in [0, 101] {
        assert_eq!(refusal(page(&crew.ann, 0, count).await), INVALID);
    }
    // Somebody who becomes an administrator sees them, and somebody who is none any more does not.
    soon(crew.ann.set_group_member_role(2, "mia", "crew")).await.unwrap();
    soon(crew.ann.set_group_member_role(3, "adam", "crew")).await.unwrap();
    assert_eq!((list(&crew.mia).await.len(), list(&crew.adam).await.len()), (2, 0));
    // Nobody can answer in a group that has ended.
    soon(crew.ann.dismiss_group("crew")).await.unwrap();
    assert_eq!(list(&crew.dan).await, [shown(Kind::Join, State::Disabled, "dan", "1")]);
    assert_eq!(refusal(accept(&crew.ann, "dan").await), NONE);
    crew.world.end().await;
}

#[tokio::test]
async fn query_group_application_list_works_without_a_connection_and_events_wait_for_it() {
    let mut crew = Crew::asking().await;
    let (ann_dir, dan_dir) = (crew.ann.dir(), crew.dan.dir());
    ask(&crew.ann, &["dan"], "come").await.unwrap();
    added(&crew.dan).await;
    crew.ann.quit().await;
    crew.dan.quit().await;
    crew.world.clock.advance(1_000);
    ask(&crew.adam, &["dan"], "do").await.unwrap();
    apply(&crew.eve, "me too").await.unwrap();
    let ann = crew.world.user_at(ann_dir, "ann").await;
    assert_eq!(added(&ann).await, shown(Kind::Join, State::Waiting, "eve", "me too"));
    assert_eq!(told(&ann), (1, 0), "what it knew is no news");
    let dan = crew.world.user_at(dan_dir, "dan").await;
    assert_eq!(added(&dan).await, shown(Kind::BeInvite, State::Waiting, "adam", "do"));
    assert_eq!(told(&dan), (1, 0));
    let fresh = crew.world.device("dan").await;
    let expected =
        [shown(Kind::BeInvite, State::Waiting, "adam", "do"), shown(Kind::BeInvite, State::Waiting, "ann", "come")];
    assert_eq!(list(&fresh).await, expected);
    assert_eq!(told(&fresh), (0, 0));
    crew.world.stop_server().await;
    for device in [&dan, &fresh] {
        eventually("the end of the connection", async || {
            (device.connection_state() != ConnectionState::Connected).then_some(())
        })
        .await;
        assert_eq!(list(device).await, expected);
    }
    // What waits there expires, too.
    crew.world.clock.advance(VALID_MS + 1_000);
    for device in [&dan, &fresh] {
        let states: Vec<State> = list(device).await.into_iter().map(|shown| shown.1).collect();
        assert_eq!(states, [State::Expired; 2]);
    }
    crew.world.end().await;
}

#[tokio::test]
async fn accept_group_invite_application_and_send_group_join_application_heed_the_caps() {
    let crew = Crew::with(GroupJoinMode::Auth, GroupInviteMode::Any, GroupBeInviteMode::Auth, 4).await;
    assert_eq!(ask(&crew.ann, &["dan", "eve"], "").await.unwrap(), []);
    agree(&crew.dan, "ann").await.unwrap();
    assert_eq!(refusal(agree(&crew.eve, "ann").await), ErrorCode::GroupModuleGroupMemberHasReachedLimit);
    soon(crew.dan.leave_group("crew")).await.unwrap();
    create(&crew.dan, "one", &[]).await;
    create(&crew.dan, "two", &[]).await;
    assert_eq!(refusal(apply(&crew.dan, "").await), NO_JOIN);
    // Hers still waits, and now there is a place.
    agree(&crew.eve, "ann").await.unwrap();
    assert!(is_member(&crew.eve).await);
    crew.world.end().await;
}

#[tokio::test]
async fn reject_group_join_application_and_reject_group_invite_application_need_the_group() {
    let crew = Crew::asking().await;
    apply(&crew.dan, "hi").await.unwrap();
    assert_eq!(refusal(reject(&crew.eve, "dan").await), NOT_IN);
    let config = GroupJoinApplicationRejectConfig::default();
    assert_eq!(refusal(soon(crew.ann.reject_group_join_application("dan", "none", config)).await), NONE);
    let config = GroupInviteApplicationRejectConfig::default();
    assert_eq!(refusal(soon(crew.eve.reject_group_invite_application("ann", "none", config)).await), NONE);
    crew.world.end().await;
}
