//! What each role of a group may do to each.

use zim_client_sdk::{Error, Zim};
use zim_integration_tests::{Device, World, group, refusal, soon};
use zim_protocol::message::Body;
use zim_protocol::{
    ErrorCode, Event, EventKind, GroupBeInviteMode, GroupInviteMode, GroupJoinApplicationSendConfig, GroupJoinMode,
    GroupMuteConfig, GroupMuteMode,
};

use crate::group::create;
use crate::group_member::{mute, roles, seconds};

const NOT_ALLOWED: ErrorCode = ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority;
const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;

/// A group with every role, most of them twice, so that each acts on each.
struct Court {
    world: World,
    devices: Vec<(&'static str, i64, Device)>,
}

const COURT: [(&str, i64); 7] =
    [("ann", 1), ("adam", 2), ("abel", 2), ("mia", 3), ("max", 3), ("kim", 77), ("kay", 77)];

impl Court {
    async fn new() -> Self {
        let world = World::new().await;
        let mut devices = Vec::new();
        for (user, role) in COURT {
            devices.push((user, role, world.user(user).await));
        }
        create(&devices[0].2, "crew", &[]).await;
        let court = Self { world, devices };
        court.restore().await;
        court
    }

    fn device(&self, user: &str) -> &Device {
        &self.devices.iter().find(|device| device.0 == user).unwrap().2
    }

    /// Gives everybody their place and their role again. Ann is the owner.
    async fn restore(&self) {
        let ann = self.device("ann");
        let present = roles(ann, "crew").await;
        for (user, role) in COURT.into_iter().skip(1) {
            let has = present.iter().find(|member| member.0 == user).map(|member| member.1);
            if has.is_none() {
                soon(ann.invite_users_into_group([user], "crew")).await.unwrap();
            }
            if has != Some(role) {
                soon(ann.set_group_member_role(role, user, "crew")).await.unwrap();
            }
        }
    }

    /// Checks who of one of each role may do something to each member. `allowed`: the roles that the owner, an administrator, a
    /// member and somebody in a role of the app's own may do it to, and 0 if they may do it to themselves.
    async fn check<F>(&self, what: &str, allowed: [&[i64]; 4], act: impl Fn(String, Zim) -> F)
    where
        F: Future<Output = Result<(), Error>>,
    {
        for ((user, role), allowed) in [("ann", 1), ("adam", 2), ("mia", 3), ("kim", 77)].into_iter().zip(allowed) {
            for (other, other_role) in COURT {
                let is_self = user == other;
                let is_allowed = allowed.contains(&if is_self { 0 } else { other_role });
                let result = soon(act(other.to_owned(), Zim::clone(self.device(user)))).await;
                let code = result.as_ref().map_err(Error::code).err();
                let place = format!("{what}: {user} ({role}) to {other} ({other_role}): {code:?}");
                if is_self && code == Some(INVALID) {
                    assert!(!is_allowed, "{place}");
                    continue;
                }
                assert_eq!(code, (!is_allowed).then_some(NOT_ALLOWED), "{place}");
                if what == "transfer" && is_allowed {
                    soon(self.device(other).transfer_group_owner("ann", "crew")).await.unwrap();
                }
                if matches!(what, "kick" | "transfer" | "role") && is_allowed {
                    self.restore().await;
                }
            }
        }
    }
}

/// The table of the reference: every role tries every act on every role.
#[tokio::test]
async fn set_group_member_role_and_all_others_follow_the_table_of_permissions() {
    let court = Court::new().await;
    const ALL: &[i64] = &[0, 1, 2, 3, 77];
    const BELOW_OWNER: &[i64] = &[2, 3, 77];
    const MEMBERS: &[i64] = &[3, 77];
    let everybody = [ALL; 4];
    court
        .check("name", everybody, |other, zim| async move { zim.update_group_name(&other, "crew").await.map(drop) })
        .await;
    court
        .check(
            "avatar",
            everybody,
            |other, zim| async move { zim.update_group_avatar_url(&other, "crew").await.map(drop) },
        )
        .await;
    court
        .check("notice", everybody, |other, zim| async move { zim.update_group_notice(&other, "crew").await.map(drop) })
        .await;
    court
        .check("attributes", everybody, |other, zim| async move {
            zim.set_group_attributes([("k".to_owned(), other)].into(), "crew").await?;
            zim.delete_group_attributes(["k"], "crew").await.map(drop)
        })
        .await;
    let nickname: [&[i64]; 4] = [&[0, 2, 3, 77], &[0, 3, 77], &[0], &[0]];
    court
        .check("nickname", nickname, |other, zim| async move {
            zim.set_group_member_nickname("x", &other, "crew").await.map(drop)
        })
        .await;
    court
        .check("kick", [BELOW_OWNER, MEMBERS, &[], &[]], |other, zim| async move {
            zim.kick_group_members([other], "crew").await.map(drop)
        })
        .await;
    court
        .check("mute", [&[0, 2, 3, 77], MEMBERS, &[], &[]], |other, zim| async move {
            zim.mute_group_members(true, [other.clone()], "crew", seconds(60)).await?;
            zim.mute_group_members(false, [other], "crew", seconds(0)).await.map(drop)
        })
        .await;
    court
        .check("end a mute", [&[0, 2, 3, 77], MEMBERS, &[], &[]], |other, zim| async move {
            zim.mute_group_members(false, [other], "crew", seconds(0)).await.map(drop)
        })
        .await;
    court
        .check("role", [BELOW_OWNER, &[], &[], &[]], |other, zim| async move {
            zim.set_group_member_role(99, &other, "crew").await.map(drop)
        })
        .await;
    court
        .check("transfer", [BELOW_OWNER, &[], &[], &[]], |other, zim| async move {
            zim.transfer_group_owner(&other, "crew").await.map(drop)
        })
        .await;
    let deciders = [ALL, ALL, &[], &[]];
    court
        .check("join mode", deciders, |_, zim| async move {
            zim.update_group_join_mode(GroupJoinMode::Auth, "crew").await.map(drop)
        })
        .await;
    court
        .check("invite mode", deciders, |_, zim| async move {
            zim.update_group_invite_mode(GroupInviteMode::Admin, "crew").await.map(drop)
        })
        .await;
    court
        .check("be-invite mode", deciders, |_, zim| async move {
            zim.update_group_be_invite_mode(GroupBeInviteMode::None, "crew").await.map(drop)
        })
        .await;
    court
        .check("mute all", [ALL, &[], &[], &[]], |_, zim| async move {
            zim.mute_group(true, "crew", mute(GroupMuteMode::All, 60, &[])).await?;
            zim.mute_group(false, "crew", GroupMuteConfig::default()).await.map(drop)
        })
        .await;
    for role in [1, 2, 3, 77] {
        let allowed = if role <= 2 { [ALL, &[], &[], &[]] } else { deciders };
        let config = match role {
            3 => mute(GroupMuteMode::Normal, 60, &[]),
            role => mute(GroupMuteMode::Custom, 60, &[role]),
        };
        court
            .check(&format!("mute role {role}"), allowed, |_, zim| {
                let config = config.clone();
                async move {
                    zim.mute_group(true, "crew", config).await?;
                    zim.mute_group(false, "crew", GroupMuteConfig::default()).await.map(drop)
                }
            })
            .await;
    }
    // An administrator neither ends nor replaces what only the owner may begin, until it is over.
    let (ann, adam) = (court.device("ann"), court.device("adam"));
    let members = mute(GroupMuteMode::Normal, 60, &[]);
    soon(ann.mute_group(true, "crew", mute(GroupMuteMode::All, 60, &[]))).await.unwrap();
    court.world.clock.advance(59_999);
    assert_eq!(refusal(soon(adam.mute_group(false, "crew", GroupMuteConfig::default())).await), NOT_ALLOWED);
    assert_eq!(refusal(soon(adam.mute_group(true, "crew", members.clone())).await), NOT_ALLOWED);
    court.world.clock.advance(1);
    soon(adam.mute_group(true, "crew", members)).await.unwrap();
    soon(adam.mute_group(false, "crew", GroupMuteConfig::default())).await.unwrap();
    // A list of roles needs the right to each of them.
    for (roles, is_allowed) in [(&[3, 77][..], true), (&[2, 77], false), (&[1, 77], false)] {
        let muted = soon(adam.mute_group(true, "crew", mute(GroupMuteMode::Custom, 60, roles))).await;
        let code = muted.map_err(|error| error.code()).err();
        assert_eq!(code, (!is_allowed).then_some(NOT_ALLOWED), "{roles:?}");
        soon(ann.mute_group(false, "crew", GroupMuteConfig::default())).await.unwrap();
    }

    court.world.end().await;
}

#[tokio::test]
async fn accept_group_join_application_revoke_message_and_dismiss_group_follow_the_table_of_permissions() {
    let court = Court::new().await;
    let ann = court.device("ann");
    soon(ann.update_group_join_mode(GroupJoinMode::Auth, "crew")).await.unwrap();
    let applicant = court.world.user("eve").await;
    for (user, is_allowed) in [("ann", true), ("adam", true), ("mia", false), ("kim", false)] {
        soon(applicant.send_group_join_application("crew", GroupJoinApplicationSendConfig::default())).await.unwrap();
        let rejected = court.device(user).reject_group_join_application("eve", "crew", Default::default());
        let code = soon(rejected).await.map_err(|error| error.code()).err();
        assert_eq!(code, (!is_allowed).then_some(NOT_ALLOWED), "{user} rejects");
        soon(applicant.send_group_join_application("crew", GroupJoinApplicationSendConfig::default())).await.unwrap();
        let accepted = court.device(user).accept_group_join_application("eve", "crew", Default::default());
        let code = soon(accepted).await.map_err(|error| error.code()).err();
        assert_eq!(code, (!is_allowed).then_some(NOT_ALLOWED), "{user} accepts");
        if is_allowed {
            soon(applicant.leave_group("crew")).await.unwrap();
        }
    }

    // Recall.
    let recalls: [(&str, &[i64]); 4] = [("ann", &[2, 3, 77]), ("adam", &[3, 77]), ("mia", &[]), ("kim", &[])];
    for (user, below) in recalls {
        for (other, role) in COURT {
            let message = court.device(other).say(group("crew"), "?").await;
            let seen = court.device(user);
            seen.until("the message", |events| {
                let mut lists = events.iter().filter_map(|event| match event {
                    Event::GroupMessageReceived(event) => Some(&event.message_list),
                    _ => None,
                });
                (user == other || lists.any(|list| list.iter().any(|one| one.message_id == message.message_id)))
                    .then_some(())
            })
            .await;
            let code =
                soon(seen.revoke_message(&message, Default::default())).await.map_err(|error| error.code()).err();
            let is_allowed = user == other || below.contains(&role);
            assert_eq!(code, (!is_allowed).then_some(NOT_ALLOWED), "{user} recalls a message of {other}");
        }
    }
    for (user, is_allowed) in [("kim", false), ("mia", false), ("adam", false), ("ann", true)] {
        let code = soon(court.device(user).dismiss_group("crew")).await.map_err(|error| error.code()).err();
        assert_eq!(code, (!is_allowed).then_some(NOT_ALLOWED), "{user} dismisses");
    }
    court.world.end().await;
}

#[tokio::test]
async fn revoke_message_by_an_administrator_says_so() {
    let court = Court::new().await;
    let message = court.device("mia").say(group("crew"), "rude").await;
    court.device("adam").receives("rude").await;
    soon(court.device("adam").revoke_message(&message, Default::default())).await.unwrap();
    match court.device("max").next(EventKind::MessageRevokeReceived).await {
        Event::MessageRevokeReceived(event) => match &event.message_list[0].body {
            Some(Body::Revoke(revoke)) => {
                assert_eq!(revoke.revoke_status(), zim_protocol::MessageRevokeStatus::GroupAdminRevoke);
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    court.world.end().await;
}
