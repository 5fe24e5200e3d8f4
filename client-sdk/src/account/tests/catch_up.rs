//! What other devices and users did.

use std::path::Path;

use futures_util::FutureExt;
use zim_protocol::{
    ClearConversationUnreadMessageCountRequest, ConversationSyncState, ErrorCode, ErrorEvent, Event, EventFrame,
    LogKind, Message, MessageQueryConfig, MessageQueryMode, MessageSentStatus, Push, Snapshot, UserFullInfo, UserInfo,
    UserStatus, event_frame::Frame,
};

use super::fake::{Fake, ME};
use super::{Login, numbered, text};
use crate::message::history;
use crate::store::{Length, friend};
use crate::types::Name;

#[tokio::test]
async fn a_login_catches_up_and_reports_its_progress() {
    let login = Login::new();
    login.fake.0.lock().write("bob", "bob", "hi");
    login.connect().await;
    login.until(|login| !login.received().is_empty()).await;
    assert_eq!(login.states(), [ConversationSyncState::Started as i32, ConversationSyncState::Finished as i32]);
    assert_eq!(login.received(), [("hi".to_owned(), false)]);
    let list = login.list().await;
    assert_eq!(list[0].conversation_name, "BOB");
    assert_eq!(list[0].unread_message_count, 1);
    assert_eq!(login.totals(), [1]);
    assert_eq!(text(list[0].last_message.as_ref().unwrap()), "hi");
}

#[tokio::test]
async fn a_fresh_device_raises_its_total_even_if_it_is_0() {
    let login = Login::online().await;
    assert_eq!(login.totals(), [0]);
    assert!(login.list().await.is_empty());
}

#[tokio::test]
async fn pushes_are_raised_once_and_in_order_despite_losses() {
    let login = Login::online().await;
    let pushes: Vec<Push> =
        (1..=6).map(|number| login.fake.0.lock().write("bob", "bob", &number.to_string())).collect();
    // 1, then 3 without 2, then 3 again; 4 to 6 are pulled with 2 and 3, and arrive late.
    for index in [0, 2, 2, 3, 1, 5, 4] {
        login.frame(pushes[index].clone()).await;
    }
    login.until(|login| login.received().len() >= 6).await;
    let texts: Vec<String> = login.received().into_iter().map(|(text, _)| text).collect();
    assert_eq!(texts, numbered(1..=6));
    login.until(|login| login.totals().last() == Some(&6)).await;
}

#[tokio::test]
async fn a_message_from_another_own_device_is_received_as_sent() {
    let login = Login::online().await;
    let push = login.fake.0.lock().write("bob", ME, "from the other device");
    login.frame(push).await;
    login.until(|login| !login.received().is_empty()).await;
    let directions = login.events(|event| match event {
        Event::PeerMessageReceived(event) => Some(event.message_list[0].direction),
        _ => None,
    });
    assert_eq!(directions, [0]);
    assert_eq!(login.list().await[0].unread_message_count, 0);
}

#[tokio::test]
async fn history_pages_in_both_directions_across_gaps() {
    let login = Login::new();
    for number in 1..=2_500 {
        login.fake.0.lock().write("bob", "bob", &number.to_string());
    }
    login.connect().await;
    // The last 1,000 of 2,500 messages are caught up with.
    login.until(|login| login.received().len() == 1_000).await;
    assert_eq!(login.received()[0].0, "1501");
    assert_eq!(login.list().await[0].unread_message_count, 2_500);
    assert_eq!(login.history(30, true, None).await, numbered(2_471..=2_500));
    assert_eq!(login.history(30, false, None).await, numbered(1..=30));
    let anchor = login.page(1, false, Some(Message { order_key: 150_900, ..Message::default() })).await.remove(0);
    assert_eq!(text(&anchor), "1510");
    assert_eq!(login.history(30, true, Some(anchor.clone())).await, numbered(1_480..=1_509));
    let oldest = login.page(30, false, None).await.remove(29);
    assert_eq!(login.history(5, false, Some(oldest)).await, numbered(31..=35));
    // Without a connection a page ends at the first gap.
    login.disconnect();
    assert_eq!(login.history(100, true, Some(anchor)).await, numbered(1_480..=1_509));
    assert_eq!(login.history(100, false, None).await, numbered(1..=35));
}

/// The pages are equal in all modes, so what the server was asked for counts.
#[tokio::test]
async fn the_server_is_asked_for_history_that_is_held_only_if_the_app_prefers_it() {
    use MessageQueryMode::{General, OnlyLocal, PreferServer};
    let login = Login::online().await;
    for number in 1..=3 {
        let push = login.fake.0.lock().write("bob", "bob", &number.to_string());
        login.frame(push).await;
    }
    login.until(|login| login.received().len() == 3).await;
    // From now on all of it is held.
    assert_eq!(login.history(9, true, None).await, numbered(1..=3));
    for (mode, fills) in [(General, 0), (OnlyLocal, 0), (PreferServer, 1)] {
        login.fake.0.lock().requests.clear();
        let config = MessageQueryConfig { mode: mode as i32, reverse: true, count: 9, ..MessageQueryConfig::default() };
        let page = history(&login.account, &Name::new(0, "bob"), &config, 9).await.unwrap();
        assert_eq!(page.iter().map(text).collect::<Vec<_>>(), numbered(1..=3), "{mode:?}");
        assert_eq!(login.fake.0.lock().requests, vec!["Sync/Fill"; fills], "{mode:?}");
    }
}

#[tokio::test]
async fn reading_clears_the_unread_count_up_to_the_position() {
    let login = Login::online().await;
    for number in 1..=3 {
        let push = login.fake.0.lock().write("bob", "bob", &number.to_string());
        login.frame(push).await;
    }
    login.until(|login| login.totals().last() == Some(&3)).await;
    let request = ClearConversationUnreadMessageCountRequest {
        conversation_id: "bob".into(),
        conversation_type: 0,
        through_seq: 2,
    };
    login.account.request(request).await.unwrap();
    login.until(|login| login.totals().last() == Some(&1)).await;
    let list = login.list().await;
    assert_eq!((list[0].unread_message_count, list[0].read_message_seq), (1, 2));
}

#[tokio::test]
async fn a_write_whose_future_is_dropped_still_takes_effect() {
    let login = Login::online().await;
    let push = login.fake.0.lock().write("bob", "bob", "hi");
    login.frame(push).await;
    login.until(|login| login.totals().last() == Some(&1)).await;
    let request = ClearConversationUnreadMessageCountRequest {
        conversation_id: "bob".into(),
        conversation_type: 0,
        through_seq: 1,
    };
    // It was never polled.
    drop(login.account.request(request));
    login.until(|login| login.totals().last() == Some(&0)).await;
    assert_eq!(login.list().await[0].unread_message_count, 0);
}

/// Writes a message from another user that is read, an own one, and two of others that are unread.
fn write_history(login: &Login) {
    let mut world = login.fake.0.lock();
    world.write("bob", "bob", "read");
    world.read("bob", 1);
    world.write("bob", "bob", "unread 1");
    world.write("bob", ME, "own");
    world.write("bob", "bob", "unread 2");
    world.elapsed_ms += 10_000;
}

#[tokio::test]
async fn a_fresh_device_raises_only_unread_messages_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.db");
    let login = Login::with(Fake::default(), Some(&file));
    write_history(&login);
    // The process ends before the messages arrive; the next one is on a fresh device still.
    login.fake.0.lock().limit_pulls = 1;
    login.connect().await;
    login.until(|login| login.fake.0.lock().limit_pulls == 0).await;
    login.account.close(false).await;
    assert_eq!(login.received(), []);
    let login = Login::with(login.fake.clone(), Some(&file));
    login.connect().await;
    login.until(|login| !login.received().is_empty()).await;
    let expected = [("unread 1".to_owned(), true), ("unread 2".to_owned(), true)];
    assert_eq!(login.received(), expected);
    assert_eq!(login.history(10, true, None).await, ["read", "unread 1", "own", "unread 2"]);
    assert_eq!(login.totals().last(), Some(&2));
    // What happens from now on is news, also from another device of the user.
    let pushes = {
        let mut world = login.fake.0.lock();
        [world.write("bob", ME, "own"), world.write("bob", "bob", "read at once"), world.read("bob", 6)]
    };
    for push in pushes {
        login.frame(push).await;
    }
    login.until(|login| login.received().len() == 4).await;
    assert_eq!(login.received()[2..], [("own".to_owned(), false), ("read at once".to_owned(), false)]);
    login.account.close(false).await;
}

#[tokio::test]
async fn an_existing_device_raises_what_it_missed_in_seven_days_read_or_not() {
    const WEEK_MS: i64 = 7 * 86_400_000;
    let login = Login::online().await;
    login.disconnect();
    // Each message is a millisecond older than the next.
    write_history(&login);
    login.fake.0.lock().elapsed_ms = WEEK_MS + 2;
    login.connect().await;
    login.until(|login| !login.received().is_empty()).await;
    // The first is too old by a millisecond.
    let missed: Vec<_> = ["unread 1", "own", "unread 2"].map(|text| (text.to_owned(), true)).into();
    assert_eq!(login.received(), missed);
    assert_eq!(login.history(10, true, None).await.len(), 4);
    login.disconnect();
    {
        let mut world = login.fake.0.lock();
        world.write("bob", "bob", "read elsewhere");
        world.read("bob", 5);
        world.elapsed_ms += 1_000;
    }
    login.connect().await;
    login.until(|login| login.received().len() > 3).await;
    assert_eq!(login.received()[3..], [("read elsewhere".to_owned(), true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_set_aside_and_filled_again() {
    // Not a database at all, and one with a damaged table, beside one that was set aside earlier.
    for (is_garbage, aside) in [(true, "damaged"), (false, "damaged-2")] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ann.db");
        if !is_garbage {
            std::fs::write(file.with_extension("damaged"), "earlier").unwrap();
        }
        let login = Login::with(Fake::default(), Some(&file));
        login.fake.0.lock().write("bob", "bob", "hi");
        login.connect().await;
        login.until(|login| login.received().len() == 1).await;
        login.account.close(false).await;
        let bytes = if is_garbage { vec![7; 100_000] } else { damaged(&file, "conversation") };
        std::fs::write(&file, &bytes).unwrap();

        let login = reopened(&login, &file).await;
        let errors = errors(&login);
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].code, ErrorCode::DatabaseModuleOpenDatabaseError as i32);
        assert!(errors[0].message.contains("are lost"), "{errors:?}");
        assert!(errors[0].message.contains(&format!("ann.{aside}, ")), "{errors:?}");
        assert_eq!(std::fs::read(file.with_extension(aside)).unwrap(), bytes);
        login.connect().await;
        assert_eq!(login.history(10, true, None).await, ["hi"]);
        login.account.close(false).await;
    }
}

/// A login reads a small part of the database when it opens it.
#[tokio::test(flavor = "multi_thread")]
async fn damage_that_a_query_finds_is_repaired_by_the_next_login() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.db");
    let login = Login::with(Fake::default(), Some(&file));
    login.fake.0.lock().write("bob", "bob", "hi");
    login.connect().await;
    login.until(|login| login.received().len() == 1).await;
    login.account.close(false).await;
    std::fs::write(&file, damaged(&file, "friend")).unwrap();

    let login = reopened(&login, &file).await;
    assert!(errors(&login).is_empty(), "opening does not read the friends");
    let sql = "SELECT COUNT(*) FROM friend NOT INDEXED";
    let friends = login.account.store().read(move |db| db.query_row(sql, [], |row| row.get::<_, i64>(0)));
    let refused = friends.await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::DatabaseModuleSeleteDatabaseError);
    assert!(refused.message().contains("it is damaged; the next login replaces it"), "{refused}");
    login.account.close(false).await;

    let login = reopened(&login, &file).await;
    let told = errors(&login);
    assert_eq!(told.len(), 1);
    assert!(told[0].message.contains("ann.damaged, ") && told[0].message.contains("are lost"), "{told:?}");
    assert!(file.with_extension("damaged").exists());
    login.connect().await;
    assert_eq!(login.history(10, true, None).await, ["hi"]);
    login.account.close(false).await;
    // The new one is sound.
    let login = reopened(&login, &file).await;
    assert!(errors(&login).is_empty());
    assert_eq!(login.history(10, true, None).await, ["hi"]);
    login.account.close(false).await;
}

/// The next login of the same user, with the same server and file.
async fn reopened(login: &Login, file: &Path) -> Login {
    let (fake, file) = (login.fake.clone(), file.to_owned());
    fake.0.lock().events.clear();
    fake.0.lock().is_online = false;
    // Opening blocks its thread.
    tokio::task::spawn_blocking(move || Login::with(fake, Some(&file))).await.unwrap()
}

fn errors(login: &Login) -> Vec<ErrorEvent> {
    login.events(|event| match event {
        Event::Error(error) => Some(error.clone()),
        _ => None,
    })
}

/// The bytes of a database of which one table is damaged.
#[expect(clippy::disallowed_methods, reason = "the database is damaged from outside")]
fn damaged(file: &Path, table: &str) -> Vec<u8> {
    let db = rusqlite::Connection::open(file).unwrap();
    let root: u32 =
        db.query_row("SELECT rootpage FROM sqlite_schema WHERE name = ?1", [table], |row| row.get(0)).unwrap();
    let size: u32 = db.pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
    db.pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap();
    drop(db);
    let mut bytes = std::fs::read(file).unwrap();
    bytes[((root - 1) * size) as usize..(root * size) as usize].fill(0xff);
    bytes
}

#[tokio::test]
async fn a_new_process_continues_where_the_old_one_ended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.db");
    let fake = Fake::default();
    fake.0.lock().write("bob", "bob", "1");
    let login = Login::with(fake.clone(), Some(&file));
    login.connect().await;
    login.until(|login| login.received().len() == 1).await;
    login.disconnect();
    let unsent = login.send("bob", "unsent");
    login
        .until(|login| login.events(|event| matches!(event, Event::ConversationChanged(_)).then_some(())).len() >= 2)
        .await;
    login.account.close(false).await;
    assert_eq!(unsent.await.unwrap().unwrap_err().code(), ErrorCode::NetworkModuleUserIsNotLogged);

    fake.0.lock().events.clear();
    fake.0.lock().write("bob", "bob", "2");
    let login = Login::with(fake, Some(&file));
    assert_eq!(login.history(10, true, None).await, ["1", "unsent"]);
    login.connect().await;
    login.until(|login| !login.received().is_empty()).await;
    assert_eq!(login.received(), [("2".to_owned(), false)]);
    let page = login.page(10, true, None).await;
    assert_eq!(page.iter().map(text).collect::<Vec<_>>(), ["1", "unsent", "2"]);
    assert_eq!(page[1].sent_status, MessageSentStatus::Failed as i32);
    login.account.close(false).await;
}

#[tokio::test]
async fn a_lost_hint_is_found_by_the_audit() {
    let login = Login::online().await;
    login.fake.0.lock().write("bob", "bob", "no push");
    // The time of day does not matter.
    login.clock.jump(-7_200_000);
    login.clock.advance(600_000);
    login.until(|login| login.received().len() == 1).await;
    assert_eq!(login.states().len(), 2, "an audit is not a login");
}

#[tokio::test]
async fn an_outdated_profile_in_another_entry_is_corrected() {
    let login = Login::online().await;
    let base_info = UserInfo { user_id: "bob".into(), user_name: "Bob".into(), ..UserInfo::default() };
    let profiles = vec![UserFullInfo { base_info: Some(base_info), ..UserFullInfo::default() }];
    login.fake.0.lock().profiles.clone_from(&profiles);
    let snapshot = Snapshot { profiles, ..Snapshot::default() };
    login.account.event_frame(EventFrame { frame: Some(Frame::Snapshot(snapshot)) }).await;
    // An old entry without the name, delayed on the way.
    let push = {
        let mut world = login.fake.0.lock();
        world.befriend("bob", "", false);
        let (pos, feed) = (world.pos, vec![world.feed[0].clone()]);
        Push { log: LogKind::Feed as i32, from: pos, to: pos, feed, ..Push::default() }
    };
    login.frame(push).await;
    let names = |login: &Login| {
        login.events(|event| match event {
            Event::FriendListChanged(event) => Some(event.friend_list[0].user_name.clone()),
            Event::FriendInfoUpdated(event) => Some(event.friend_list[0].user_name.clone()),
            _ => None,
        })
    };
    login.until(|login| names(login) == ["", "Bob"]).await;
}

#[tokio::test]
async fn a_device_with_a_wrong_clock_receives_messages() {
    for days in [-8, 8] {
        let login = Login::new();
        login.clock.jump(days * 86_400_000);
        login.connect().await;
        let push = login.fake.0.lock().write("bob", "bob", "hi");
        login.frame(push).await;
        login.until(|login| login.received() == [("hi".to_owned(), false)]).await;
        // Correcting the clock does not matter either.
        login.clock.jump(-2 * days * 86_400_000);
        let push = login.fake.0.lock().write("bob", "bob", "still there?");
        login.frame(push).await;
        login.until(|login| login.received().len() == 2).await;
    }
}

#[tokio::test]
async fn a_request_ends_when_its_entry_and_those_before_it_are_stored() {
    let login = Login::online().await;
    let push = login.fake.0.lock().write("bob", "bob", "hi");
    login.frame(push).await;
    login.until(|login| login.received().len() == 1).await;
    // The entry of another device is still on its way when the answer arrives.
    login.fake.0.lock().befriend("carl", "", false);
    let request = ClearConversationUnreadMessageCountRequest {
        conversation_id: "bob".into(),
        through_seq: 1,
        ..ClearConversationUnreadMessageCountRequest::default()
    };
    login.account.request(request).await.unwrap();
    let carl = login.account.store().read(|db| friend::read(db, "carl")).await.unwrap();
    assert!(carl.is_some());
}

#[tokio::test]
async fn a_status_without_a_subscription_does_not_cause_repeated_syncs() {
    let login = Login::online().await;
    login.fake.0.lock().statuses = vec![UserStatus { user_id: "carl".into(), ..UserStatus::default() }];
    let syncs = |login: &Login| login.fake.0.lock().requests.iter().filter(|path| **path == "Sync/Sync").count();
    let before = syncs(&login);
    login.clock.advance(600_000);
    login.until(|login| syncs(login) > before).await;
    // Each send is a round trip, long enough for a sync that causes another one.
    for number in 1..=5 {
        login.send("bob", &number.to_string()).await.unwrap().unwrap();
    }
    login.until(|login| login.statuses().len() == 10).await;
    assert!(syncs(&login) <= before + 2, "{:?}", login.fake.0.lock().requests);
}

#[tokio::test]
async fn a_list_that_was_never_complete_is_not_listed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.db");
    let login = Login::with(Fake::default(), Some(&file));
    login.fake.0.lock().refuse_syncs = 1;
    login.connect().await;
    login.account.close(false).await;
    let login = Login::with(Fake::default(), Some(&file));
    assert!(!*login.account.shared.is_listed.borrow());
    login.connect().await;
    login.account.close(false).await;
    let login = Login::with(Fake::default(), Some(&file));
    assert!(*login.account.shared.is_listed.borrow());
    login.account.close(false).await;
}

#[tokio::test]
async fn a_login_whose_list_cannot_be_stored_reports_a_failure() {
    let login = Login::new();
    login.fake.0.lock().write("bob", "bob", "hi");
    let full = "CREATE TEMP TRIGGER full BEFORE UPDATE OF is_settled ON device WHEN new.is_settled = 1 \
                BEGIN SELECT RAISE(FAIL, 'no room'); END";
    login.account.store().write(Length::Short, |db| db.execute_batch(full)).await.unwrap();
    login.connect().await;
    assert_eq!(login.states(), [ConversationSyncState::Started as i32, ConversationSyncState::Failed as i32]);
    assert!(*login.account.shared.is_listed.borrow());
    // With free space again everything continues.
    login.account.store().write(Length::Short, |db| db.execute_batch("DROP TRIGGER full")).await.unwrap();
    login.clock.advance(10_000);
    login.until(|login| login.received().len() == 1).await;
}

#[tokio::test]
async fn a_sync_that_the_server_database_refused_is_retried_soon() {
    let login = Login::new();
    login.fake.0.lock().write("bob", "bob", "hi");
    login.fake.0.lock().refuse_syncs = 1;
    login.connect().await;
    login.clock.jump(-7_200_000);
    login.clock.advance(10_000);
    login.until(|login| login.received().len() == 1).await;
}

#[tokio::test]
async fn a_conversation_that_is_busy_from_its_first_message_is_received_in_full() {
    let login = Login::online().await;
    // The head that describes it is ahead of the pushes, by more than a login would catch up with.
    let pushes: Vec<Push> =
        (1..=1_500).map(|number| login.fake.0.lock().write("bob", "bob", &number.to_string())).collect();
    for push in pushes {
        login.frame(push).await;
    }
    login.until(|login| login.received().len() == 1_500).await;
    let texts: Vec<String> = login.received().into_iter().map(|(text, _)| text).collect();
    assert_eq!(texts, numbered(1..=1_500));
}

#[tokio::test]
async fn a_login_that_pulls_too_fast_pauses_and_continues() {
    let login = Login::new();
    for number in 0..50 {
        login.fake.0.lock().write(&format!("user{number}"), "x", "hi");
    }
    login.fake.0.lock().limit_pulls = 4;
    login.connect().await;
    let pulls = |login: &Login| login.fake.0.lock().requests.iter().filter(|path| **path == "Sync/Pull").count();
    login.until(|login| login.fake.0.lock().limit_pulls == 0).await;
    let is_all_here = |login: &Login| {
        // Only the device knows when it has handled the refusals.
        login.clock.advance(1_000);
        login.received().len() == 50
    };
    login.until(is_all_here).await;
    assert_eq!(pulls(&login), 54);
}

/// What a caller that waits for the first catch-up gets, if it gets anything yet.
fn caught_up(login: &Login) -> Option<Result<(), ErrorCode>> {
    login.account.caught_up().now_or_never().map(|ended| ended.map_err(|error| error.code()))
}

#[tokio::test]
async fn the_first_catch_up_is_waited_for_across_a_lost_connection() {
    let login = Login::new();
    assert_eq!(caught_up(&login), None);
    login.fake.0.lock().swallows_syncs = true;
    login.begin_to_connect();
    login.until(|login| login.states() == [ConversationSyncState::Started as i32]).await;
    login.disconnect();
    login.until(|login| login.states().last() == Some(&(ConversationSyncState::Failed as i32))).await;
    assert_eq!(caught_up(&login), None);
    login.fake.0.lock().swallows_syncs = false;
    login.connect().await;
    assert_eq!(caught_up(&login), Some(Ok(())));
    // It stays true.
    login.disconnect();
    login.fake.0.lock().refuse_syncs = 1;
    login.connect().await;
    assert_eq!(login.states().last(), Some(&(ConversationSyncState::Failed as i32)));
    assert_eq!(caught_up(&login), Some(Ok(())));
}

#[tokio::test]
async fn a_first_catch_up_that_the_server_refuses_fails_with_its_error() {
    let login = Login::new();
    login.fake.0.lock().refuse_syncs = 1;
    login.connect().await;
    assert_eq!(caught_up(&login), Some(Err(ErrorCode::CommonModuleImDatabaseError)));
    login.disconnect();
    login.connect().await;
    assert_eq!(caught_up(&login), Some(Ok(())));
}
