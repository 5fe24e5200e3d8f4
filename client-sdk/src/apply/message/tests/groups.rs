use zim_protocol::{
    GroupChange, GroupEvent, GroupMemberEvent, GroupMemberInfo, GroupMemberState, RosterChange, UserFullInfo, UserInfo,
    group_change,
};

use super::*;
use crate::store::user::{self, Gap};

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

/// The head of a group whose stay begins with a change.
fn head_of(crew: &Name, from_rev: u64, name: &str) -> Change {
    let base_info = Some(GroupInfo { group_id: "crew".into(), group_name: name.into(), ..GroupInfo::default() });
    let group = Some(GroupFullInfo { base_info, ..GroupFullInfo::default() });
    let conversation = Some(crew.to_ref());
    Change::Head(Box::new(ConversationHead { conversation, group, from_rev, ..ConversationHead::default() }))
}

fn renamed(crew: &Name, rev: u64, name: &str) -> Change {
    let detail = Some(group_change::Detail::GroupName(name.into()));
    let detail = Some(Detail::Group(GroupChange { detail, ..GroupChange::default() }));
    let entries = vec![ChangeEntry { rev, detail, ..ChangeEntry::default() }];
    Change::Changes { name: crew.clone(), entries, origin: Origin::Other }
}

fn known_name(db: &Connection) -> String {
    group::read(db, "crew").unwrap().unwrap().base_info.unwrap().group_name
}

/// A device catches up with two stays. The group was renamed between them, which no change tells.
#[test]
fn a_change_of_an_earlier_stay_tells_and_leaves_what_the_group_is() {
    let crew = Name::new(ConversationType::Group as i32, "crew");
    let (db, mut recent) = (memory().unwrap(), Recent::default());
    // In one batch, as a sync and a page that come together.
    let changes = vec![head_of(&crew, 7, "between"), renamed(&crew, 6, "before")];
    let batch = Batch { changes, ..Batch::default() };
    let told = [EventKind::GroupNameUpdated];
    assert_eq!(all_events(&db, &mut recent, Job { batch, ..Job::default() }, &told), told);
    assert_eq!(known_name(&db), "between");
    assert_eq!(all_events(&db, &mut recent, changing(renamed(&crew, 7, "now")), &told), told);
    assert_eq!(known_name(&db), "now");
}

/// The answer that begins an epoch and a push come together, so that no state of the engine is stored between them.
#[test]
fn a_stay_of_an_ended_epoch_is_not_compared_with_changes_of_the_next() {
    let crew = Name::new(ConversationType::Group as i32, "crew");
    let (db, mut recent) = (memory().unwrap(), Recent::default());
    all_events(&db, &mut recent, changing(head_of(&crew, 7, "ended")), &[]);
    let begins = Change::DropAll { epoch: Bytes::new() };
    let changes = vec![begins, head_of(&crew, 3, "restored"), renamed(&crew, 4, "now")];
    let batch = Batch { changes, ..Batch::default() };
    let told = [EventKind::GroupNameUpdated];
    assert_eq!(all_events(&db, &mut recent, Job { batch, ..Job::default() }, &told), told);
    assert_eq!(known_name(&db), "now");
}

/// What had no room in a change is not empty.
#[test]
fn a_change_without_extended_data_leaves_what_is_known_of_it() {
    let (db, mut recent) = (memory().unwrap(), Recent::default());
    let base = UserInfo { user_id: "bob".into(), user_extended_data: "chess".into(), ..UserInfo::default() };
    let bob = UserFullInfo { base_info: Some(base), extended_data: "chess".into(), ..UserFullInfo::default() };
    all_events(&db, &mut recent, settling(Settle::Users(vec![bob])), &[]);
    let member = |user_id: &str| GroupMemberInfo { user_id: user_id.into(), member_role: 3, ..Default::default() };
    let invited = RosterChange {
        state: GroupMemberState::Enter as i32,
        member_event: GroupMemberEvent::Invited as i32,
        group_event: GroupEvent::Invited as i32,
        user_list: vec![member("bob"), member("carl")],
        without_extended_data: true,
        ..RosterChange::default()
    };
    let entry = ChangeEntry { rev: 1, detail: Some(Detail::Roster(invited)), ..ChangeEntry::default() };
    let crew = Name::new(ConversationType::Group as i32, "crew");
    let change = Change::Changes { name: crew, entries: vec![entry], origin: Origin::Other };
    let applied = apply(&db, &Viewer::in_test("ann", 10), &mut recent, changing(change)).unwrap();
    let told = applied.events.iter().find_map(|(_, event)| match event {
        Event::GroupMemberStateChanged(event) => Some(&event.user_list),
        _ => None,
    });
    let told: Vec<(&str, &str)> =
        told.unwrap().iter().map(|member| (&*member.user_id, &*member.user_extended_data)).collect();
    assert_eq!(told, [("bob", "chess"), ("carl", "")]);
    let is_found =
        |user_id| [Gap::Nothing, Gap::Older, Gap::All].map(|most| user::read_within(&db, user_id, most).unwrap());
    let chess = Some("chess".to_owned());
    assert_eq!(is_found("bob").map(|found| found.map(|bob| bob.extended_data)), [None, chess.clone(), chess]);
    assert_eq!(is_found("carl").map(|found| found.is_some()), [false, false, true]);
}

/// The head alone tells a device that was away that its user is out.
#[test]
fn a_head_forgets_the_members_of_a_group_that_the_user_is_not_in() {
    let crew = Name::new(ConversationType::Group as i32, "crew");
    let (db, mut recent) = (memory().unwrap(), Recent::default());
    let mut members_after = |role| {
        let Change::Head(head) = head_of(&crew, 7, "Crew") else { panic!("a head") };
        let head = Change::Head(Box::new(ConversationHead { role, ..*head }));
        all_events(&db, &mut recent, changing(head), &[]);
        db.query_row("SELECT COUNT(*) FROM group_member", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(members_after(3), 0);
    group::write_member(&db, "crew", &GroupMemberInfo { user_id: "bob".into(), ..GroupMemberInfo::default() }).unwrap();
    assert_eq!([3, 0].map(members_after), [1, 0]);
}
