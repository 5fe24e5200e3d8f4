use super::*;

/// A message behind a gap is stored before it is raised. If the positions start anew meanwhile, it is raised then.
#[test]
fn what_was_stored_and_not_raised_is_raised_after_the_positions_start_anew() {
    for (seq, is_raised_at_once, expected) in [(0, false, 1), (1, false, 0), (0, true, 0)] {
        let (db, mut recent) = (memory().unwrap(), Recent::default());
        let raise_after = if is_raised_at_once { 0 } else { u64::MAX };
        let arrives = |raise_after| Change::Messages {
            name: bob(),
            entries: vec![entry(MessageType::Text, "hi", 0)],
            raise_after,
            own_after: u64::MAX,
        };
        let drop_all = || Change::DropAll { epoch: Bytes::new() };
        if is_raised_at_once {
            let batch = Batch { changes: vec![arrives(raise_after), drop_all()], ..Batch::default() };
            all_events(&db, &mut recent, Job { batch, ..Job::default() }, &[]);
        } else {
            all_events(&db, &mut recent, changing(arrives(raise_after)), &[]);
            db.execute("UPDATE conversation SET seq = ?1", [seq]).unwrap();
            all_events(&db, &mut recent, changing(drop_all()), &[]);
        }
        let told = all_events(&db, &mut recent, changing(arrives(0)), &[EventKind::PeerMessageReceived]);
        assert_eq!(told.len(), expected, "raised up to {seq}, at once: {is_raised_at_once}");
    }
}
