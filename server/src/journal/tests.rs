//! The logs on both databases: dense, complete, and shown only to those who may see them.

use std::sync::Arc;

use parking_lot::Mutex;
use zim_protocol::{ErrorCode, GroupChange, Message, MessageChange, MessageFlag, Push, change_entry, group_change};

use super::*;
use crate::db::tests::postgres::Cluster;
use crate::db::{Bulk as _, Database, Db, DbConfig, Dialect, Scope, Tx, Value, params};
use crate::effect::{Audience, Effect};
use crate::error::Error;
use crate::key::{AppKey, ConversationKey, LoginKey, Scrambler, UserKey};

pub(crate) const ANN: UserKey = UserKey(1);
pub(crate) const BOB: UserKey = UserKey(2);
pub(crate) const CHAT: ConversationKey = ConversationKey(64);

/// An app with two users who have a conversation.
pub(crate) struct Fixture {
    pub(crate) db: Db<NewMessage>,
    pub(crate) scrambler: Arc<Scrambler>,
    pub(crate) effects: Arc<Mutex<Vec<Effect>>>,
}

impl Fixture {
    pub(crate) async fn open(database: Database) -> Self {
        let effects = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&effects);
        let db =
            Db::open(DbConfig::new(database), move |committed: Vec<_>| sink.lock().extend(committed)).await.unwrap();
        db.submit(Scope::none(), async |tx: &mut Tx<'_>| {
            tx.execute("INSERT INTO app (id, name, app_sign, server_secret, created_at) VALUES (7, '', '', '', 0)", &[]).await?;
            for (user, name) in [(ANN, "ann"), (BOB, "bob")] {
                tx.execute(
                    "INSERT INTO account (id, app, name, pos, user_name, avatar_url, extended_data, info_at, created_at) \
                     VALUES ($1, 7, $2, 0, '', '', '', 0, 0)",
                    &params![user, name],
                )
                .await?;
            }
            tx.execute(
                "INSERT INTO conversation (id, app, type, name, seq, n, rev, last_ts, touched, floor_seq, floor_n, floor_rev, blocks) \
                 VALUES ($1, 7, 0, '1:2', 0, 0, 0, 0, 0, 0, 0, 0, 0)",
                &params![CHAT],
            )
            .await?;
            for (user, peer) in [(ANN, BOB), (BOB, ANN)] {
                tx.execute(
                    "INSERT INTO member (conversation, account, peer, from_seq, from_rev, cleared_seq, read_seq, base_seq, \
                     base_n, base_sent, sent, deducted) VALUES ($1, $2, $3, 1, 1, 0, 0, 0, 0, 0, 0, 0)",
                    &params![CHAT, user, peer],
                )
                .await?;
            }
            Ok(())
        })
        .await
        .unwrap();
        Self { db, scrambler: Arc::new(Scrambler::new(b"secret", AppKey(7))), effects }
    }

    /// Returns how the database would run a statement.
    pub(crate) async fn plan(&self, sql: impl Into<String>, values: Vec<Value>) -> String {
        let sql = sql.into();
        let plan = self.db.read(async move |tx: &mut Tx<'_>| {
            let (explain, column) = match tx.dialect() {
                Dialect::Sqlite => ("EXPLAIN QUERY PLAN", 3),
                Dialect::Postgres => ("EXPLAIN", 0),
            };
            let rows = tx.fetch(&format!("{explain} {sql}"), &values).await?;
            rows.iter().map(|row| Ok(row.get::<String>(column)?)).collect::<Result<Vec<_>, Error>>()
        });
        plan.await.unwrap().join("; ")
    }

    pub(crate) fn message(&self, id: i64, key: u8, text: &str) -> NewMessage {
        NewMessage {
            app: AppKey(7),
            scrambler: Arc::clone(&self.scrambler),
            conversation: CHAT,
            audience: Audience::Peers([(ANN, "ann".into()), (BOB, "bob".into())]),
            sender: ANN,
            sender_name: "ann".into(),
            login: LoginKey(5),
            id,
            key: [key; 16],
            is_first_only: false,
            hash: text.len().try_into().unwrap(),
            now: 1_000 + id,
            kind: 1,
            flags: MessageFlag::Counted as u32,
            body: prost::Message::encode_to_vec(&Message::text(text)).into(),
            extra: None,
        }
    }

    pub(crate) async fn change(&self, subject: i64) -> i64 {
        self.db
            .submit(Scope::conversation(CHAT), async move |tx: &mut Tx<'_>| {
                let change = MessageChange { kind: 1, ..MessageChange::default() };
                Ok(append_change(tx, CHAT, &Subject::Message(subject, change), BOB, 5_000).await?.0)
            })
            .await
            .unwrap()
    }

    /// Moves Bob's read mark. Returns the new mark, if it moved, and the number of unread messages.
    async fn read(&self, through: i64) -> (Option<u64>, i64) {
        self.db
            .submit(Scope::conversation(CHAT).and_user(BOB), async move |tx: &mut Tx<'_>| {
                let has_moved = move_read_mark(tx, CHAT, BOB, "ann", through).await?;
                let member = Viewer::of(tx, CHAT, BOB).await?.unwrap();
                let mark = has_moved.then(|| member.read_seq.unsigned_abs());
                Ok((mark, rules::unread(member.n, member.base, member.sent, member.deducted)))
            })
            .await
            .unwrap()
    }

    /// Runs a job as a request of `user` on login 9. Returns its answer, and the pushes that the response carries.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        user: UserKey,
        scope: Scope,
        job: impl AsyncFnOnce(&mut Tx<'_>, &mut LogWriter) -> Result<T, Error> + Send + 'static,
    ) -> Result<(T, Vec<Push>), Error> {
        let written = self.db.submit(scope, async move |tx: &mut Tx<'_>| {
            let mut log = LogWriter::new(Some(Cause { user, login: LoginKey(9) }));
            let answer = job(tx, &mut log).await?;
            Ok((answer, log.finish(tx).await?))
        });
        written.await
    }

    /// Runs a statement.
    pub(crate) async fn execute(&self, sql: &'static str) {
        self.db.submit(Scope::none(), async move |tx: &mut Tx<'_>| Ok(tx.execute(sql, &[]).await?)).await.unwrap();
    }

    /// Returns Bob's view.
    pub(crate) async fn viewer(&self) -> Viewer {
        self.db.read(async |tx: &mut Tx<'_>| Ok(Viewer::of(tx, CHAT, BOB).await?.unwrap())).await.unwrap()
    }

    /// Returns changes as Bob sees them.
    async fn changes(&self, span: (i64, i64), bytes: usize) -> Changes {
        let (scrambler, viewer) = (Arc::clone(&self.scrambler), self.viewer().await);
        let read =
            self.db.read(async move |tx: &mut Tx<'_>| changes(tx, CHAT, &scrambler, Some(&viewer), span, bytes).await);
        read.await.unwrap()
    }
}

/// Bob has blocked Ann: Ann's messages are refused, Bob's are not, and the check costs no statement.
async fn block(fixture: &Fixture) {
    let set = async |blocks: i64| {
        let job = async move |tx: &mut Tx<'_>| {
            tx.execute("UPDATE conversation SET blocks = $2 WHERE id = $1", &params![CHAT, blocks]).await?;
            Ok(())
        };
        fixture.db.submit(Scope::conversation(CHAT), job).await.unwrap();
    };
    set(rules::blocks_bit(BOB.0, ANN.0)).await;
    let batch = vec![
        fixture.message(30, 30, "hi"),
        NewMessage { sender: BOB, ..fixture.message(31, 31, "hi") },
        // A message that was stored before is answered as before.
        fixture.message(32, 11, "hi"),
    ];
    let job = async move |tx: &mut Tx<'_>| {
        let sent: Vec<_> =
            NewMessage::run(tx, &batch).await?.into_iter().map(|sent| sent.map(|sent| sent.seq)).collect();
        let (cost, dialect) = (tx.statements(), tx.dialect());
        // An error, so that the job is rolled back.
        Err::<(), _>(Error::internal_text(format!("{sent:?} in {cost} statements on {dialect:?}")))
    };
    let refused = fixture.db.submit(Scope::conversation(CHAT), job).await.unwrap_err();
    let message = refused.cause().unwrap().to_string();
    let code = format!("{:?}", ErrorCode::MessageModuleSenderInBlacklist);
    assert!(message.starts_with("[Err(") && message.contains(&code), "{message}");
    // On PostgreSQL what they read is a round trip, and so is what they write.
    let costs = ["in 5 statements on Sqlite", "in 2 statements on Postgres"];
    assert!(costs.iter().any(|cost| message.ends_with(&format!(", Ok(7), Ok(1)] {cost}"))), "{message}");
    set(rules::blocks_bit(ANN.0, BOB.0)).await;
    let sent = async |message: NewMessage| {
        let job = async move |tx: &mut Tx<'_>| {
            let sent = NewMessage::run(tx, &[message]).await?.remove(0).map(|sent| sent.seq);
            Err::<(), _>(Error::internal_text(format!("{}", sent.is_ok())))
        };
        let refused = fixture.db.submit(Scope::conversation(CHAT), job).await.unwrap_err();
        refused.cause().unwrap().to_string()
    };
    assert_eq!(sent(fixture.message(33, 33, "hi")).await, "true");
    assert_eq!(sent(NewMessage { sender: BOB, ..fixture.message(34, 34, "hi") }).await, "false");
    set(0).await;
}

async fn logs_are_dense_and_complete(database: Database) {
    let fixture = Fixture::open(database).await;
    let sent: Vec<_> = (1_u8..=5).map(|id| fixture.db.submit_bulk(fixture.message(id.into(), 10 + id, "hi"))).collect();
    let mut seqs = Vec::new();
    for sent in sent {
        seqs.push(sent.await.unwrap().seq);
    }
    assert_eq!(seqs, [1, 2, 3, 4, 5]);

    // The same key and body get the first answer. The same key with another body gets an error, and the message next to
    // it is stored.
    let again = fixture.db.submit_bulk(fixture.message(6, 11, "hi"));
    let other = fixture.db.submit_bulk(fixture.message(7, 12, "something else"));
    let new = fixture.db.submit_bulk(fixture.message(8, 20, "hi"));
    assert_eq!(again.await.unwrap().seq, 1);
    assert!(other.await.is_err());
    assert_eq!(new.await.unwrap().seq, 6);
    let seqs: Vec<i64> =
        fixture.effects.lock().iter().map(|effect| if let Effect::Message(it) = effect { it.seq } else { 0 }).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);

    block(&fixture).await;

    // Pages are limited in bytes and carry the position up to which they are complete.
    let (scrambler, viewer) = (Arc::clone(&fixture.scrambler), fixture.viewer().await);
    let read = fixture.db.read(async move |tx: &mut Tx<'_>| messages(tx, CHAT, &scrambler, &viewer, 1, 130).await);
    let (some, through) = read.await.unwrap();
    assert_eq!(through.unsigned_abs(), some.last().unwrap().seq);
    assert!(some.len() < 5 && some[0].seq == 2, "{some:?}");

    // Changes are dense, resolved to the present row, and blank where the member may not see the message.
    assert_eq!((fixture.change(2).await, fixture.change(4).await, fixture.change(99).await), (1, 2, 3));
    let Changes { entries: all, through, .. } = fixture.changes((0, 3), 1 << 20).await;
    assert_eq!((all.len(), through), (3, 3));
    let subjects: Vec<_> = all
        .iter()
        .map(|entry| match &entry.detail {
            Some(change_entry::Detail::Message(message)) => Some(message.seq),
            _ => None,
        })
        .collect();
    assert_eq!(subjects, [Some(2), Some(4), None]);
    assert_eq!((all[0].rev, all[0].actor.as_str(), all[0].at), (1, "bob", 5_000));
    let one = fixture.changes((0, 3), 1).await;
    assert_eq!((one.entries.len(), one.through), (1, 1));

    // Reading moves the mark and the base, only forward.
    assert_eq!(fixture.read(4).await, (Some(4), 2));
    assert_eq!(fixture.read(2).await, (None, 2));
    assert_eq!(fixture.read(0).await, (Some(6), 0));
    fixture.db.close().await;
}

/// A mark moves over any part of the log, in any order and past cleared messages; the unread count stays that of
/// counting by hand.
async fn read_marks_and_unread_counts(database: Database) {
    let fixture = Fixture::open(database).await;
    // By position: 0 from Ann, 1 from Bob, 2 from Bob and not counted.
    let kinds = [0, 0, 1, 0, 2, 1, 0, 0, 1, 0, 1, 0, 0, 2, 0, 1, 1, 0, 0, 1];
    for (id, kind) in (1_u8..).zip(kinds) {
        let sender = if kind == 0 { ANN } else { BOB };
        let flags = if kind == 2 { 0 } else { MessageFlag::Counted as u32 };
        fixture.db.submit_bulk(NewMessage { sender, flags, ..fixture.message(id.into(), id, "hi") }).await.unwrap();
    }
    let mut counted_from = 0;
    // From the base, from the head, not back, and exactly to the head.
    for (cleared, through, read) in [
        (0, 3, Some(3)),
        (0, 2, None),
        (0, 5, Some(5)),
        (9, 7, Some(7)),
        (9, 8, Some(8)),
        (9, 11, Some(11)),
        (0, 18, Some(18)),
        (0, 99, Some(20)),
    ] {
        if cleared > counted_from {
            fixture
                .execute("UPDATE member SET cleared_seq = 9, base_seq = 9, base_n = 8, base_sent = 3 WHERE account = 2")
                .await;
        }
        let (mark, unread) = fixture.read(through).await;
        assert_eq!(mark, read, "{through}");
        counted_from = counted_from.max(cleared).max(mark.map_or(0, |mark| usize::try_from(mark).unwrap()));
        let by_hand = kinds[counted_from..].iter().filter(|kind| **kind == 0).count();
        assert_eq!(unread, i64::try_from(by_hand).unwrap(), "after {through}");
    }
    fixture.db.close().await;
}

/// Messages that retention removed under a mark were counted, once.
async fn a_read_mark_below_the_floor(database: Database) {
    let fixture = Fixture::open(database).await;
    for id in 1..=10 {
        let sender = if id % 2 == 0 { BOB } else { ANN };
        fixture.db.submit_bulk(NewMessage { sender, ..fixture.message(id.into(), id, "hi") }).await.unwrap();
    }
    fixture.execute("DELETE FROM message WHERE seq <= 6").await;
    fixture.execute("UPDATE conversation SET floor_seq = 6, floor_n = 6").await;
    assert_eq!(fixture.read(4).await, (Some(4), 2));
    assert_eq!(fixture.read(7).await, (Some(7), 1));
    fixture.db.close().await;
}

/// A client that missed too many changes of the roster gets none but its user's own.
async fn a_long_roster_is_left_out(database: Database) {
    let fixture = Fixture::open(database).await;
    fixture.db.submit_bulk(fixture.message(1, 1, "hi")).await.unwrap();
    // Bob was in the group from change 3 to 500, and is in it again since 600.
    fixture.execute("UPDATE conversation SET type = 2, rev = 700 WHERE id = 64").await;
    fixture.execute("UPDATE member SET from_rev = 600 WHERE account = 2").await;
    let earlier = "INSERT INTO span (account, conversation, from_seq, from_rev, to_seq, to_rev) \
                   VALUES (2, 64, 1, 3, 1, 500)";
    fixture.execute(earlier).await;
    let add = async |from: i64, through: i64| {
        let record = prost::Message::encode_to_vec(&RosterRecord::new(RosterEvent::Joined, [ANN]));
        let sql = "INSERT INTO change (conversation, rev, kind, actor, at, subject, detail) WITH RECURSIVE n (rev) AS \
                   (SELECT $1 + 0 UNION ALL SELECT rev + 1 FROM n WHERE rev < $2) SELECT 64, rev, 3, 1, 0, 0, $3 FROM n";
        let job = async move |tx: &mut Tx<'_>| {
            tx.execute(sql, &params![from, through, record]).await?;
            Ok(tx.execute("UPDATE conversation SET rev = $1 WHERE id = 64", &params![through]).await?)
        };
        fixture.db.submit(Scope::none(), job).await.unwrap();
    };
    let read = async |after: i64| {
        let page = fixture.changes((after, fixture.viewer().await.change_log.head), usize::MAX).await;
        let all = page.entries.iter().all(|entry| entry.detail.is_some());
        assert!(all && page.through == fixture.viewer().await.change_log.head, "{page:?}");
        let revs: Vec<u64> = page.entries.iter().map(|entry| entry.rev).collect();
        (page.is_without_roster, revs)
    };
    add(1, 699).await;
    assert_eq!(fixture.change(1).await, 700);
    add(701, 1_103).await;
    // What the group is changed with 800. That is never left out.
    let named = GroupChange { detail: Some(group_change::Detail::GroupName("Us".into())), operated_info: None };
    let named = prost::Message::encode_to_vec(&named);
    let job = async move |tx: &mut Tx<'_>| {
        Ok(tx.execute("UPDATE change SET kind = 2, detail = $1 WHERE rev = 800", &params![named]).await?)
    };
    fixture.db.submit(Scope::none(), job).await.unwrap();
    let full: Vec<u64> = (3..=500).chain(600..=1_103).collect();
    assert_eq!(read(0).await, (false, full.clone()), "1,000 changes of the roster that Bob sees");
    add(1_104, 1_104).await;
    assert_eq!(read(0).await, (true, vec![3, 500, 600, 700, 800]), "1,001 changes");
    assert_eq!(read(1).await, (true, vec![3, 500, 600, 700, 800]), "they do not see the second");
    let rest = full.into_iter().skip(1).chain([1_104]).collect();
    assert_eq!(read(3).await, (false, rest), "1,000 changes after the first that they see");
    add(1_105, 3_000).await;
    assert_eq!(read(500).await, (true, vec![600, 700, 800]));
    assert_eq!(read(1_500).await, (true, vec![]));
    fixture.execute("UPDATE conversation SET end_rev = 3000 WHERE id = 64").await;
    assert_eq!(read(1_500).await, (true, vec![3_000]), "the end of the group");
    fixture.db.close().await;
}

/// What a change of members says of them is not in the log.
async fn a_page_of_changes_counts_the_members_that_it_names(database: Database) {
    let fixture = Fixture::open(database).await;
    fixture.execute("UPDATE conversation SET type = 2, rev = 10 WHERE id = 64").await;
    let record = prost::Message::encode_to_vec(&RosterRecord::new(RosterEvent::Joined, [ANN]));
    let job = async move |tx: &mut Tx<'_>| {
        let long = "x".repeat(1_000);
        tx.execute("UPDATE account SET extended_data = $2 WHERE id = $1", &params![ANN, long]).await?;
        let sql = "INSERT INTO change (conversation, rev, kind, actor, at, subject, detail) WITH RECURSIVE n (rev) AS \
                   (SELECT CAST(1 AS BIGINT) UNION ALL SELECT rev + 1 FROM n WHERE rev < 10) \
                   SELECT 64, rev, 3, 1, 0, 0, $1 FROM n";
        Ok(tx.execute(sql, &params![record]).await?)
    };
    assert_eq!(fixture.db.submit(Scope::none(), job).await.unwrap(), 10);
    for (span, bytes, expected) in
        [((0, 10), 3_500, (3, 3)), ((3, 10), 3_500, (3, 6)), ((0, 10), 1, (1, 1)), ((0, 10), 1 << 20, (10, 10))]
    {
        let page = fixture.changes(span, bytes).await;
        assert_eq!((page.entries.len(), page.through), expected, "{span:?} {bytes}");
        assert!(page.entries.iter().all(|entry| entry.detail.is_some()), "{page:?}");
    }
    fixture.db.close().await;
}

/// Each entry tells the last change that had ended a stay when it was stored, itself included.
async fn entries_tell_the_last_end_of_a_stay(database: Database) {
    let fixture = Fixture::open(database).await;
    let audience = Audience::Peers([(ANN, "ann".into()), (BOB, "bob".into())]);
    let chat = ChangedConversation { key: CHAT, audience, scrambler: Arc::clone(&fixture.scrambler) };
    let change = async |event: RosterEvent| {
        let chat = chat.clone();
        let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter| {
            log.change_roster(tx, &chat, event, [BOB], (ANN, 5_000)).await
        };
        fixture.write(ANN, Scope::conversation(CHAT), job).await.unwrap().0
    };
    let say = async |id: u8| fixture.db.submit_bulk(fixture.message(id.into(), id, "hi")).await.unwrap().seq;
    say(1).await;
    let revs = [change(RosterEvent::Updated).await, change(RosterEvent::Left).await];
    say(2).await;
    let more = [change(RosterEvent::KickedOut).await, change(RosterEvent::Invited).await];
    say(3).await;
    assert_eq!((revs, more), ([1, 2], [3, 4]));
    fixture.db.close().await;
    let ended = |effect: &Effect| match effect {
        Effect::Message(message) => Some(message.ended_rev),
        Effect::Change { ended_rev, .. } => Some(*ended_rev),
        _ => None,
    };
    assert_eq!(fixture.effects.lock().iter().filter_map(ended).collect::<Vec<_>>(), [0, 0, 2, 2, 3, 3, 3]);
}

#[tokio::test]
async fn the_logs_are_dense_and_complete_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    logs_are_dense_and_complete(Database::Sqlite(dir.path().join("test.db"))).await;
    read_marks_and_unread_counts(Database::Sqlite(dir.path().join("marks.db"))).await;
    a_read_mark_below_the_floor(Database::Sqlite(dir.path().join("floor.db"))).await;
    a_long_roster_is_left_out(Database::Sqlite(dir.path().join("roster.db"))).await;
    a_page_of_changes_counts_the_members_that_it_names(Database::Sqlite(dir.path().join("members.db"))).await;
    entries_tell_the_last_end_of_a_stay(Database::Sqlite(dir.path().join("ends.db"))).await;
}

#[tokio::test]
async fn the_logs_are_dense_and_complete_on_postgresql() {
    let cluster = Cluster::start().unwrap();
    logs_are_dense_and_complete(Database::Postgres(cluster.create_database("journal").unwrap())).await;
    read_marks_and_unread_counts(Database::Postgres(cluster.create_database("marks").unwrap())).await;
    a_read_mark_below_the_floor(Database::Postgres(cluster.create_database("floor").unwrap())).await;
    a_long_roster_is_left_out(Database::Postgres(cluster.create_database("roster").unwrap())).await;
    let members = Database::Postgres(cluster.create_database("members").unwrap());
    a_page_of_changes_counts_the_members_that_it_names(members).await;
    entries_tell_the_last_end_of_a_stay(Database::Postgres(cluster.create_database("ends").unwrap())).await;
}

/// On SQLite nothing is locked: without the check a scope that misses a head would fail on PostgreSQL only, and rarely.
#[tokio::test]
async fn an_append_outside_the_scope_of_its_job_fails() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(Database::Sqlite(dir.path().join("test.db"))).await;
    let feed = |scope| {
        fixture.write(ANN, scope, async |tx: &mut Tx<'_>, log: &mut LogWriter| log.feed(tx, BOB, &READ, CHAT).await)
    };
    assert!(feed(Scope::user(ANN)).await.unwrap_err().cause().unwrap().to_string().contains("does not cover"));
    assert!(feed(Scope::user(ANN).and_user(BOB)).await.is_ok());
    let change = |scope| {
        fixture.db.submit(scope, async |tx: &mut Tx<'_>| {
            append_change(
                tx,
                CHAT,
                &Subject::Message(1, MessageChange { kind: 1, ..MessageChange::default() }),
                BOB,
                5_000,
            )
            .await
        })
    };
    assert!(change(Scope::user(BOB)).await.unwrap_err().cause().unwrap().to_string().contains("does not cover"));
    assert!(change(Scope::conversation(CHAT)).await.is_ok());
    fixture.db.close().await;
}
