use zim_protocol::{
    GroupChange, GroupEvent, GroupMemberEvent, GroupMemberInfo, GroupMemberState, RosterChange, group_change,
};

use super::*;

/// Pages of changes may be read again.
#[test]
fn what_happened_to_a_group_is_told_once() {
    let crew = Name::new(ConversationType::Group as i32, "crew");
    let joined = RosterChange {
        state: GroupMemberState::Enter as i32,
        member_event: GroupMemberEvent::Joined as i32,
        group_event: GroupEvent::Joined as i32,
        user_list: vec![GroupMemberInfo { user_id: "carl".into(), member_role: 3, ..GroupMemberInfo::default() }],
        ..RosterChange::default()
    };
    let named = GroupChange { detail: Some(group_change::Detail::GroupName("Crew".into())), ..GroupChange::default() };
    let changes = || {
        let details = [Detail::Roster(joined.clone()), Detail::Group(named.clone())];
        let of = |(detail, rev)| ChangeEntry { rev, detail: Some(detail), ..ChangeEntry::default() };
        let entries = details.into_iter().zip(1..).map(of).collect();
        changing(Change::Changes { name: crew.clone(), entries, origin: Origin::Other })
    };
    let told = [EventKind::GroupMemberStateChanged, EventKind::GroupNameUpdated];
    let (db, mut recent) = (memory().unwrap(), Recent::default());
    assert_eq!(all_events(&db, &mut recent, changes(), &told), told);
    assert!(all_events(&db, &mut recent, changes(), &told).is_empty());
}
