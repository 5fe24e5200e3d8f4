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

/// A device catches up with two stays. The group was renamed between them, which no change tells.
#[test]
fn a_change_of_an_earlier_stay_tells_and_leaves_what_the_group_is() {
    let crew = Name::new(ConversationType::Group as i32, "crew");
    let (db, mut recent) = (memory().unwrap(), Recent::default());
    let info = |name: &str| {
        let base_info = Some(GroupInfo { group_id: "crew".into(), group_name: name.into(), ..GroupInfo::default() });
        GroupFullInfo { base_info, ..GroupFullInfo::default() }
    };
    let conversation = Some(crew.to_ref());
    let head = ConversationHead { conversation, group: Some(info("between")), from_rev: 7, ..Default::default() };
    let name = |rev: u64, name: &str| {
        let detail = Some(group_change::Detail::GroupName(name.into()));
        let detail = Some(Detail::Group(GroupChange { detail, ..GroupChange::default() }));
        ChangeEntry { rev, detail, ..ChangeEntry::default() }
    };
    let entries = vec![name(6, "before")];
    let earlier = Change::Changes { name: crew.clone(), entries, origin: Origin::Other };
    // In one batch, as a sync and a page that come together.
    let batch = Batch { changes: vec![Change::Head(Box::new(head)), earlier], ..Batch::default() };
    let told = [EventKind::GroupNameUpdated];
    assert_eq!(all_events(&db, &mut recent, Job { batch, ..Job::default() }, &told), told);
    let known = |db: &Connection| group::read(db, "crew").unwrap().unwrap().base_info.unwrap().group_name;
    assert_eq!(known(&db), "between");
    let entries = vec![name(7, "now")];
    let change = Change::Changes { name: crew, entries, origin: Origin::Other };
    assert_eq!(all_events(&db, &mut recent, changing(change), &told), told);
    assert_eq!(known(&db), "now");
}
