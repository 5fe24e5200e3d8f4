//! The members of the groups and rooms of a benchmark: they become users, join, and log in for the measurement.

use std::ops::Range;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use zim_protocol::{CreateGroupRequest, EnterRoomRequest, GroupInfo, JoinGroupRequest, RoomInfo};

use super::raw::{Dialer, Raw};
use super::show::thousands;
use super::target::Target;
use crate::exit::Failure;
use crate::output::Output;
use crate::progress;

/// The role of the members in the names of users.
pub(super) const ROLE: &str = "g";
/// The number of concurrent logins.
pub(super) const LOGINS_AT_ONCE: usize = 32;
/// The members of a group that is created at once: the owner, and users whom the request names.
pub(crate) const BLOCK: usize = 100;

/// Returns the ID of the group with this number of members.
pub(crate) fn group_id(target: &Target, members: usize) -> String {
    target.user("size", members)
}

/// Returns the ID of the room with this number of members.
pub(crate) fn room_id(target: &Target, members: usize) -> String {
    target.user("room", members)
}

/// Enters a room.
pub(super) async fn enter(member: &mut Raw, room_id: &str) -> Result<(), Failure> {
    let room_info = Some(RoomInfo { room_id: room_id.to_owned(), room_name: String::new() });
    member.request(&EnterRoomRequest { room_info, config: None, entry_number: 1 }).await.map(drop)
}

/// Creates a group.
pub(super) async fn create(owner: &mut Raw, group_id: String, user_ids: Vec<String>) -> Result<(), Failure> {
    let group_info = Some(GroupInfo { group_name: group_id.clone(), group_id, ..GroupInfo::default() });
    let created = owner.request(&CreateGroupRequest { group_info, user_ids, config: None }).await?;
    match created.error_user_list.first() {
        Some(user) => Err(Failure::other(format!("{} cannot be a member: {}", user.user_id, user.reason))),
        None => Ok(()),
    }
}

/// Creates a group of each size. The groups share their members: a user is in all groups that are large enough. Nobody is
/// online in the meantime, because each join is pushed to all members who are.
pub(crate) async fn join_all(sizes: &[usize], target: &Target, dialer: &Dialer, output: Output) -> Result<(), Failure> {
    let most = sizes.iter().copied().max().unwrap_or(0);
    let count = thousands(u64::try_from(most).unwrap_or(u64::MAX));
    output.note(format!("{count} users log in, join their groups and log off"));
    // The first login registers the user.
    let mut owner = dialer.log_in_with_retries(&target.user(ROLE, 0)).await?;
    let mut created: Vec<usize> = Vec::new();
    for size in sizes {
        if !created.contains(size) {
            create(&mut owner, group_id(target, *size), Vec::new()).await?;
            created.push(*size);
        }
    }
    owner.close();
    let bar = &progress::counting(u64::try_from(most).unwrap_or(u64::MAX), "members");
    let created = &created;
    stream::iter(1..most)
        .map(|number| async move {
            let mut member = dialer.log_in_with_retries(&target.user(ROLE, number)).await?;
            for size in created.iter().filter(|size| number < **size) {
                member.request(&JoinGroupRequest { group_id: group_id(target, *size) }).await?;
            }
            member.close();
            bar.inc(1);
            Ok::<_, Failure>(())
        })
        .buffer_unordered(LOGINS_AT_ONCE)
        .try_collect::<()>()
        .await?;
    bar.finish_and_clear();
    Ok(())
}

/// Logs in members by their numbers, who enter the room if there is one.
pub(crate) async fn log_in(online: Range<usize>, dialer: &Dialer, room_id: Option<&str>) -> Result<Vec<Raw>, Failure> {
    let bar = &progress::counting(u64::try_from(online.len()).unwrap_or(u64::MAX), "sessions");
    let sessions = stream::iter(online)
        .map(|number| async move {
            let mut session = dialer.log_in_with_retries(&dialer.user(ROLE, number)).await?;
            if let Some(room_id) = room_id {
                enter(&mut session, room_id).await?;
            }
            bar.inc(1);
            Ok::<_, Failure>(session)
        })
        .buffer_unordered(LOGINS_AT_ONCE)
        .try_collect()
        .await;
    bar.finish_and_clear();
    sessions
}

/// Registers users, and makes each of them a member of `groups` groups of up to [`BLOCK`] users.
pub(crate) async fn make_members(
    users: &[String],
    groups: u32,
    target: &Target,
    dialer: &Dialer,
    output: Output,
) -> Result<(), Failure> {
    let memberships = u64::try_from(users.len()).unwrap_or(u64::MAX).saturating_mul(groups.into());
    output.note(format!("{} users get {} memberships", thousands(users.len() as u64), thousands(memberships)));
    let bar = &progress::counting(memberships, "memberships");
    stream::iter(users.iter())
        .map(|user| async move {
            dialer.log_in_with_retries(user).await?.close();
            Ok::<_, Failure>(())
        })
        .buffer_unordered(LOGINS_AT_ONCE)
        .try_collect::<()>()
        .await?;
    stream::iter(users.chunks(BLOCK).enumerate())
        .map(|(block, users)| async move {
            let [owner_id, others @ ..] = users else { return Ok(()) };
            let mut owner = dialer.log_in_with_retries(owner_id).await?;
            for group in 0..groups {
                let number = block * usize::try_from(groups).unwrap_or(0) + usize::try_from(group).unwrap_or(0);
                create(&mut owner, target.user("group", number), others.to_vec()).await?;
                bar.inc(u64::try_from(users.len()).unwrap_or(0));
            }
            owner.close();
            Ok::<_, Failure>(())
        })
        .buffer_unordered(LOGINS_AT_ONCE)
        .try_collect::<()>()
        .await?;
    bar.finish_and_clear();
    Ok(())
}
