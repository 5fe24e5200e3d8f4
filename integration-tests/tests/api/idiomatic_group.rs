//! What the handle of a group does to the group and its members: `zim.group("crew").set_name("Us")`.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::TryStreamExt;
use zim_integration_tests::{World, reason_of, refusal, soon};
use zim_protocol::{
    ErrorCode, GroupAdvancedConfig, GroupApplicationState as State, GroupApplicationType as Kind, GroupBeInviteMode,
    GroupInfo, GroupInviteMode, GroupJoinMode, GroupMemberInfo, GroupMuteMode, GroupVerifyInfo,
};

use crate::group::{create, info};
use crate::group_application::{NO_INVITE, list, shown};
use crate::group_member::{mute, roles};
use crate::large_group::add_members;

const NOT_ALLOWED: ErrorCode = ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority;
const NOT_IN: ErrorCode = ErrorCode::GroupModuleUserIsNotInTheGroup;

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn ids(members: &[GroupMemberInfo]) -> Vec<&str> {
    members.iter().map(|member| member.user_id.as_str()).collect()
}

#[tokio::test]
async fn group_handle_changes_what_the_group_is() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "crew", &["bob"]).await;
    let (crew, of_bob) = (ann.group("crew"), bob.group("crew"));
    soon(crew.set_name("Us")).await.unwrap();
    soon(of_bob.set_avatar_url("b.png")).await.unwrap();
    soon(of_bob.set_notice("be kind")).await.unwrap();
    soon(of_bob.set_alias("pals")).await.unwrap();
    soon(crew.set_join_mode(GroupJoinMode::Forbid)).await.unwrap();
    soon(crew.set_invite_mode(GroupInviteMode::Admin)).await.unwrap();
    soon(crew.set_be_invite_mode(GroupBeInviteMode::Auth)).await.unwrap();
    soon(crew.set_attributes(pairs([("a", "1"), ("b", "2")]))).await.unwrap();
    assert_eq!(soon(of_bob.delete_attributes(["a", "x"])).await.unwrap(), ["x"]);
    assert_eq!(soon(crew.attributes()).await.unwrap(), pairs([("b", "2")]));

    let is = soon(of_bob.info()).await.unwrap();
    let base = GroupInfo { group_id: "crew".into(), group_name: "Us".into(), group_avatar_url: "b.png".into() };
    assert_eq!(is.base_info, Some(base));
    assert_eq!((is.group_notice.as_str(), is.group_alias.as_str()), ("be kind", "pals"));
    assert_eq!(is.group_attributes, pairs([("b", "2")]));
    let verify = GroupVerifyInfo {
        join_mode: GroupJoinMode::Forbid as i32,
        invite_mode: GroupInviteMode::Admin as i32,
        be_invite_mode: GroupBeInviteMode::Auth as i32,
    };
    assert_eq!(is.verify_info, Some(verify));
    assert_eq!(soon(crew.info()).await.unwrap().group_alias, "", "an alias is its user's own");
    assert_eq!(refusal(soon(of_bob.set_join_mode(GroupJoinMode::Any)).await), NOT_ALLOWED);
    assert_eq!(refusal(soon(of_bob.set_invite_mode(GroupInviteMode::Any)).await), NOT_ALLOWED);
    assert_eq!(refusal(soon(of_bob.set_be_invite_mode(GroupBeInviteMode::None)).await), NOT_ALLOWED);
    world.end().await;
}

#[tokio::test]
async fn group_handle_changes_its_members() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    world.user("dan").await;
    create(&ann, "crew", &["bob"]).await;
    let (crew, of_bob, of_cai) = (ann.group("crew"), bob.group("crew"), cai.group("crew"));
    let invited = soon(of_bob.invite(["cai", "nobody"])).await.unwrap();
    assert_eq!((ids(&invited.user_list), invited.error_user_list.len()), (vec!["cai"], 1));
    assert_eq!(soon(of_cai.member_count()).await.unwrap(), 3);
    soon(crew.set_role("bob", 2)).await.unwrap();
    soon(of_bob.set_nickname("cai", "Kay")).await.unwrap();
    let kay = soon(crew.member("cai")).await.unwrap();
    assert_eq!((kay.user_id.as_str(), kay.member_nickname.as_str(), kay.member_role), ("cai", "Kay", 3));
    assert_eq!(refusal(soon(crew.member("dan")).await), NOT_IN);

    let end = world.clock.now_ms() + 60_000;
    for (duration, seconds, until) in [(Some(Duration::from_secs(60)), 60, end), (None, -1, -1)] {
        let muted = soon(of_bob.mute_members(["cai", "dan"], duration)).await.unwrap();
        assert_eq!((muted.is_mute, muted.duration, muted.error_user_list.len()), (true, seconds, 1));
        assert_eq!(muted.muted_user_ids, ["cai"]);
        let list: Vec<GroupMemberInfo> = soon(crew.muted_members().try_collect()).await.unwrap();
        assert_eq!((ids(&list), list[0].mute_expired_time), (vec!["cai"], until));
        assert_eq!(refusal(soon(of_cai.send("?").into_future()).await), NOT_ALLOWED);
        let ended = soon(of_bob.unmute_members(["cai"])).await.unwrap();
        assert_eq!((ended.is_mute, ended.muted_user_ids), (false, vec!["cai".to_owned()]));
        soon(of_cai.send("!").into_future()).await.unwrap();
    }
    let of_all = soon(crew.mute(mute(GroupMuteMode::Normal, 60, &[]))).await.unwrap();
    assert_eq!((of_all.mode(), of_all.expired_time), (GroupMuteMode::Normal, end));
    assert_eq!(refusal(soon(of_cai.send("?").into_future()).await), NOT_ALLOWED);
    soon(of_bob.send("an administrator may").into_future()).await.unwrap();
    soon(crew.unmute()).await.unwrap();
    soon(of_cai.send("!").into_future()).await.unwrap();

    soon(crew.transfer("bob")).await.unwrap();
    let expected = [("ann", 3), ("bob", 1), ("cai", 3)].map(|(user, role)| (user.to_owned(), role));
    assert_eq!(roles(&cai, "crew").await, expected);
    world.end().await;
}

#[tokio::test]
async fn group_handle_goes_through_all_pages_of_muted_members() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    create(&ann, "crew", &[]).await;
    add_members(&world, 249).await;
    let crew = ann.group("crew");
    let users: Vec<String> = (1..=249).map(|number| format!("user{number}")).collect();
    for some in users.chunks(100) {
        assert_eq!(soon(crew.mute_members(some, None)).await.unwrap().muted_user_ids, some);
    }
    let muted: Vec<GroupMemberInfo> = soon(crew.muted_members().try_collect()).await.unwrap();
    assert_eq!(ids(&muted), users);
    world.end().await;
}

#[tokio::test]
async fn group_handle_sends_applications_and_answers_them() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (cai, dan) = (world.user("cai").await, world.user("dan").await);
    let config = GroupAdvancedConfig {
        join_mode: GroupJoinMode::Auth as i32,
        be_invite_mode: GroupBeInviteMode::Auth as i32,
        ..GroupAdvancedConfig::default()
    };
    soon(ann.create_group(info("crew"), [""; 0], config)).await.unwrap();
    let (crew, of_bob, of_dan) = (ann.group("crew"), bob.group("crew"), dan.group("crew"));
    soon(of_bob.apply("let me in")).await.unwrap();
    soon(crew.reject_applicant("bob")).await.unwrap();
    assert_eq!(list(&bob).await, [shown(Kind::Join, State::Rejected, "bob", "let me in")]);
    soon(of_bob.apply("please")).await.unwrap();
    soon(crew.accept_applicant("bob")).await.unwrap();
    assert_eq!(list(&bob).await, [shown(Kind::Join, State::Accepted, "bob", "please")]);

    let invited = soon(crew.invite(["cai", "dan"])).await.unwrap();
    let mut asked: Vec<_> =
        invited.error_user_list.iter().map(|user| (user.user_id.as_str(), reason_of(user))).collect();
    asked.sort_unstable();
    let need = i64::from(ErrorCode::GroupModuleNeedApplyInviteGroupError as i32);
    assert_eq!((invited.user_list.len(), asked), (0, vec![("cai", need), ("dan", need)]));
    soon(cai.group("crew").reject_invitation("ann")).await.unwrap();
    assert_eq!(list(&cai).await, [shown(Kind::BeInvite, State::Rejected, "ann", "")]);
    assert_eq!(soon(of_dan.accept_invitation("ann")).await.unwrap().base_info, Some(info("crew")));
    assert_eq!(refusal(soon(of_dan.accept_invitation("ann")).await), NO_INVITE);
    let expected = [("ann", 1), ("bob", 3), ("dan", 3)].map(|(user, role)| (user.to_owned(), role));
    assert_eq!(roles(&dan, "crew").await, expected);
    world.end().await;
}
