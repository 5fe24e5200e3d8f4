//! What a member sees of a conversation stands twice: as SQL for statements about many conversations, and in Rust for reads of
//! one. Both must agree with the plain rule, whatever happened in the conversation.

use std::collections::BTreeMap;

use prost::Message as _;
use zim_protocol::{Message, MessageFlag, feed_entry::Detail};

use super::{heads, setting};
use crate::db::tests::postgres::Cluster;
use crate::db::{Database, Scope, Tx, params};
use crate::journal::tests::{ANN, BOB, Fixture};
use crate::journal::{Direction, LogWriter, Viewer, around, deducted_positions, messages, messages_at};
use crate::key::ConversationKey;

const COUNTED: u32 = MessageFlag::Counted as u32;
const ONLY: u32 = MessageFlag::TargetOnly as u32;
const EXCEPT: u32 = MessageFlag::TargetExcept as u32;
const REVOKED: i64 = 31;

/// A SplitMix64 generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`.
    fn within(&mut self, low: i64, high: i64) -> i64 {
        let span = u64::try_from(high.max(low) - low).unwrap() + 1;
        low + i64::try_from(self.next() % span).unwrap()
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

struct Sent {
    seq: i64,
    by_bob: bool,
    kind: i64,
    flags: u32,
    /// The last change of its content.
    rev: i64,
    names_bob: bool,
    hidden: bool,
}

/// The stored content of the message at a position.
fn body(seq: i64) -> Vec<u8> {
    Message::text(format!("text {seq}")).encode_to_vec()
}

/// A position in each log.
type Place = (i64, i64);

/// A group, as Bob knows it.
struct Case {
    key: ConversationKey,
    head: i64,
    revs: i64,
    floor: i64,
    dismissed: bool,
    cleared: i64,
    base: i64,
    /// The first and the last place of each stay; the last stay may last.
    stays: Vec<(Place, Option<Place>)>,
    /// Which of the stays began with the history: what changed since the stay before is shown.
    with_history: Vec<bool>,
    sent: Vec<Sent>,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let (head, revs) = (random.within(0, 24), random.within(2, 20));
        // Ascending bounds of stays. A stay may be empty in the log of messages, and two may touch.
        let stays = random.within(1, 3);
        let mut bounds: Vec<i64> = (0..2 * stays).map(|_| random.within(0, head)).collect();
        let mut changes: Vec<i64> = (0..2 * stays).map(|_| random.within(0, revs - 1)).collect();
        bounds.sort_unstable();
        changes.sort_unstable();
        // Entering and leaving are changes of their own, so these bounds differ.
        let changes: Vec<i64> = changes.iter().zip(0..).map(|(change, step)| change + 1 + step).collect();
        let revs = changes.last().copied().unwrap_or(0).max(revs) + random.within(0, 3);
        let has_left = random.one_in(2);
        let stays: Vec<_> = bounds
            .chunks(2)
            .zip(changes.chunks(2))
            .enumerate()
            .map(|(index, (seq, rev))| {
                let ends = has_left || index + 1 < usize::try_from(stays).unwrap();
                ((seq[0] + 1, rev[0]), ends.then_some((seq[1], rev[1])))
            })
            .collect();
        let sent = (1..=head)
            .map(|seq| Sent {
                seq,
                by_bob: random.one_in(3),
                kind: if random.one_in(5) { REVOKED } else { 1 },
                flags: [0, COUNTED, COUNTED, COUNTED, ONLY, EXCEPT][usize::try_from(random.within(0, 5)).unwrap()],
                rev: if random.one_in(3) { random.within(1, revs) } else { 0 },
                names_bob: random.one_in(2),
                hidden: random.one_in(6),
            })
            .collect();
        let from = stays.last().map_or(0, |stay| stay.0.0 - 1);
        let with_history = stays.iter().map(|_| random.one_in(4)).collect();
        Self {
            key: ConversationKey(1_000 + i64::try_from(seed).unwrap()),
            head,
            revs,
            floor: if random.one_in(3) { random.within(0, head) } else { 0 },
            dismissed: random.one_in(4),
            cleared: if random.one_in(3) { random.within(0, head) } else { 0 },
            base: random.within(from, head),
            stays,
            with_history,
            sent,
        }
    }

    /// The stay that a message belongs to.
    fn stay(&self, seq: i64) -> Option<Option<Place>> {
        self.stays.iter().find(|(from, to)| seq >= from.0 && to.is_none_or(|to| seq <= to.0)).map(|stay| stay.1)
    }

    /// The first change whose outcome a stay shows.
    fn shown_from(&self, index: usize) -> i64 {
        match index.checked_sub(1) {
            _ if !self.with_history[index] => self.stays[index].0.1,
            Some(before) => self.stays[before].1.unwrap().1 + 1,
            None => 1,
        }
    }

    /// Whether Bob was a member when a change came, or sees its outcome as history.
    fn knows(&self, rev: i64) -> bool {
        let shows = |(index, (_, to)): (usize, &(Place, Option<Place>))| {
            rev >= self.shown_from(index) && to.is_none_or(|(_, to)| rev <= to)
        };
        self.stays.iter().enumerate().any(shows)
    }

    /// The messages that Bob sees, and whether each is served without its content.
    fn seen(&self) -> BTreeMap<i64, bool> {
        self.meant()
            .filter(|sent| sent.seq > self.floor && sent.seq > self.cleared && !sent.hidden)
            .filter_map(|sent| Some((sent.seq, self.changed_after(sent)? && !self.knows(sent.rev))))
            .collect()
    }

    /// Whether a message changed after the stay that it belongs to; `None`: it belongs to none.
    fn changed_after(&self, sent: &Sent) -> Option<bool> {
        Some(self.stay(sent.seq)?.is_some_and(|(_, rev)| sent.rev > rev))
    }

    /// The number of messages that Bob sees with their content because they changed in a later stay.
    fn changed_in_a_later_stay(&self) -> usize {
        let seen = self.seen();
        let has_content = |sent: &&Sent| seen.get(&sent.seq) == Some(&false);
        self.sent.iter().filter(has_content).filter(|sent| self.changed_after(sent) == Some(true)).count()
    }

    /// The messages of Bob's stays that are for them, whether they have deleted them or not, and whether they are kept or not.
    fn meant(&self) -> impl Iterator<Item = &Sent> {
        let is_meant = |sent: &Sent| match sent.flags & (ONLY | EXCEPT) {
            _ if sent.by_bob => true,
            ONLY => sent.names_bob,
            EXCEPT => !sent.names_bob,
            _ => true,
        };
        self.sent.iter().filter(move |sent| is_meant(sent) && self.stay(sent.seq).is_some())
    }

    /// The messages of others that count, were not read when counting began, and are gone.
    fn gone(&self) -> Vec<u64> {
        let last = self.stays.last().and_then(|stay| stay.1).map_or(i64::MAX, |to| to.0);
        let is_gone = |sent: &&Sent| {
            sent.seq > self.base
                && sent.seq <= last
                && !sent.by_bob
                && sent.flags & COUNTED != 0
                && (sent.hidden || sent.kind == REVOKED)
        };
        self.sent.iter().filter(is_gone).map(|sent| sent.seq.unsigned_abs()).collect()
    }

    fn counted(&self, through: i64) -> i64 {
        let counted = self.sent.iter().filter(|sent| sent.seq <= through && sent.flags & COUNTED != 0).count();
        counted.try_into().unwrap()
    }

    async fn store(&self, tx: &mut Tx<'_>) -> Result<(), crate::error::Error> {
        let end = self.dismissed.then_some((self.head, self.revs));
        tx.execute(
            "INSERT INTO conversation (id, app, type, name, seq, n, rev, last_ts, touched, floor_seq, floor_n, floor_rev, \
             end_seq, end_rev, blocks) VALUES ($1, 7, 2, $2, $3, $4, $5, 0, 0, $6, $7, 0, $8, $9, 0)",
            &params![
                self.key,
                format!("g{}", self.key.0),
                self.head,
                self.counted(self.head),
                self.revs,
                self.floor,
                self.counted(self.floor),
                end.map(|end| end.0),
                end.map(|end| end.1)
            ],
        )
        .await?;
        tx.execute(
            "INSERT INTO chat_group (conversation, group_name, avatar_url, notice, attributes, created_at, max_members, \
             join_mode, invite_mode, be_invite_mode, members) VALUES ($1, '', '', '', '{}', 0, 0, 0, 0, 0, 0)",
            &params![self.key],
        )
        .await?;
        for (index, ((from_seq, from_rev), to)) in self.stays.iter().enumerate() {
            let is_last = index + 1 == self.stays.len();
            let shown_rev = match index.checked_sub(1) {
                _ if self.with_history[index] || index % 2 == 0 => self.shown_from(index),
                // A node of an earlier build let Bob in again, and left that of the stay before.
                Some(before) if is_last => self.shown_from(before),
                // Stays of before an upgrade have none.
                _ => 0,
            };
            if !is_last {
                let sql = "INSERT INTO span (account, conversation, from_seq, from_rev, to_seq, to_rev, shown_rev) \
                           VALUES ($1, $2, $3, $4, $5, $6, $7)";
                let to = to.unwrap();
                tx.execute(sql, &params![BOB, self.key, *from_seq, *from_rev, to.0, to.1, shown_rev]).await?;
            } else {
                tx.execute(
                    "INSERT INTO member (conversation, account, peer, from_seq, from_rev, to_seq, to_rev, cleared_seq, \
                     read_seq, base_seq, base_n, base_sent, sent, deducted, shown_rev) \
                     VALUES ($1, $2, 0, $3, $4, $5, $6, $7, 0, $8, $9, 0, 0, 0, $10)",
                    &params![
                        self.key,
                        BOB,
                        *from_seq,
                        *from_rev,
                        to.map(|to| to.0),
                        to.map(|to| to.1),
                        self.cleared,
                        self.base,
                        self.counted(self.base),
                        shown_rev
                    ],
                )
                .await?;
            }
        }
        for sent in &self.sent {
            let sender = if sent.by_bob { BOB } else { ANN };
            tx.execute(
                "INSERT INTO message (id, conversation, seq, n, sender, key_hi, key_lo, hash, ts, kind, flags, body, rev) \
                 VALUES ($1, $2, $3, $4, $5, 0, $3, 0, $3, $6, $7, $8, $9)",
                &params![
                    self.key.0 * 1_000 + sent.seq,
                    self.key,
                    sent.seq,
                    self.counted(sent.seq),
                    sender,
                    sent.kind,
                    i64::from(sent.flags),
                    body(sent.seq),
                    sent.rev
                ],
            )
            .await?;
            if sent.names_bob {
                let sql = "INSERT INTO target (conversation, seq, account) VALUES ($1, $2, $3)";
                tx.execute(sql, &params![self.key, sent.seq, BOB]).await?;
            }
            // Somebody else hid it too, or is named: that must not matter to Bob.
            for (sql, is_so) in [
                ("INSERT INTO hidden (account, conversation, seq) VALUES ($1, $2, $3)", sent.hidden),
                ("INSERT INTO hidden (account, conversation, seq) VALUES ($1 + 1000, $2, $3)", sent.seq % 2 == 0),
                ("INSERT INTO target (account, conversation, seq) VALUES ($1 + 1000, $2, $3)", sent.seq % 3 == 0),
            ] {
                if is_so {
                    tx.execute(sql, &params![BOB, self.key, sent.seq]).await?;
                }
            }
        }
        Ok(())
    }
}

async fn every_read_agrees_with_the_rule(database: Database, seeds: u64) {
    let fixture = Fixture::open(database).await;
    let mut kinds = [0; 5];
    for seed in 0..seeds {
        let case = std::sync::Arc::new(Case::new(seed));
        let stored = std::sync::Arc::clone(&case);
        fixture.db.submit(Scope::none(), async move |tx: &mut Tx<'_>| stored.store(tx).await).await.unwrap();
        let (key, head, scrambler) = (case.key, case.head, std::sync::Arc::clone(&fixture.scrambler));
        let read = fixture.db.read(async move |tx: &mut Tx<'_>| {
            let viewer = Viewer::of(tx, key, BOB).await?.unwrap();
            let pulled = messages(tx, key, &scrambler, &viewer, 0, usize::MAX).await?.0;
            let mut paged = Vec::new();
            loop {
                let anchor = paged.first().map_or(0, |entry: &zim_protocol::MessageEntry| entry.seq.cast_signed());
                let page = (anchor, Direction::Older);
                let mut page = around(tx, key, &scrambler, &viewer, page, 3, usize::MAX).await?;
                if page.is_empty() {
                    break;
                }
                page.append(&mut paged);
                paged = page;
            }
            let all: Vec<i64> = (1..=head).collect();
            let named = messages_at(tx, key, &scrambler, &viewer, &all).await?;
            let page = heads(tx, BOB, &scrambler, (0, key.0 - 1), 1).await?.0;
            Ok((viewer, pulled, paged, named, page, deducted_positions(tx, key, BOB).await?))
        });
        let (viewer, pulled, paged, named, page, gone) = read.await.unwrap();
        let expected: Vec<(i64, bool)> = case.seen().into_iter().collect();
        let seen = |entries: &[zim_protocol::MessageEntry]| {
            let is_blank = |entry: &zim_protocol::MessageEntry| {
                let is_blank = entry.content != body(entry.seq.cast_signed());
                assert_eq!(entry.has(MessageFlag::Withheld), is_blank, "seed {seed}: {entry:?}");
                is_blank
            };
            entries.iter().map(|entry| (entry.seq.cast_signed(), is_blank(entry))).collect::<Vec<_>>()
        };
        assert_eq!(seen(&pulled), expected, "a pull, seed {seed}");
        assert_eq!(seen(&paged), expected, "pages of history, seed {seed}");
        assert_eq!(seen(&named), expected, "messages by their positions, seed {seed}");
        let found = &page[0];
        let last = found.last_message.as_slice();
        assert_eq!(seen(last), expected.last().copied().into_iter().collect::<Vec<_>>(), "a head, seed {seed}");
        // The time of a message is its position.
        let newest = case.meant().map(|sent| sent.seq).max().unwrap_or(0);
        assert_eq!(
            found.last_ts, newest,
            "what Bob has deleted, and what is no longer kept, dates the group too, seed {seed}"
        );
        assert_eq!(gone, case.gone(), "seed {seed}");
        let (to_seq, to_rev) = case.stays.last().unwrap().1.unwrap_or((case.head, case.revs));
        assert_eq!((found.end_seq, found.end_rev), (to_seq.unsigned_abs(), to_rev.unsigned_abs()), "seed {seed}");
        assert_eq!((viewer.end_seq(), viewer.end_rev()), (to_seq, to_rev), "seed {seed}");
        let numbers = (found.deducted, viewer.deducted.unsigned_abs(), found.n);
        let deducted = case.gone().len() as u64;
        assert_eq!(numbers, (deducted, deducted, case.counted(to_seq).unsigned_abs()), "seed {seed}");
        // The cases are worth something only if they reach each side of the rules.
        let blanks = expected.iter().filter(|(_, is_blank)| *is_blank).count();
        let (shown, earlier) = (expected.len() - blanks, case.stays.len() - 1);
        let all = [shown, blanks, gone.len(), earlier, case.changed_in_a_later_stay()];
        for (kind, count) in kinds.iter_mut().zip(all) {
            *kind += usize::from(count > 0);
        }
    }
    assert!(kinds.iter().all(|count| *count >= 5), "{kinds:?}");
    fixture.db.close().await;
}

#[tokio::test]
async fn every_read_agrees_with_the_rule_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    every_read_agrees_with_the_rule(Database::Sqlite(dir.path().join("test.db")), 200).await;
}

#[tokio::test]
async fn every_read_agrees_with_the_rule_on_postgresql() {
    let cluster = Cluster::start().unwrap();
    every_read_agrees_with_the_rule(Database::Postgres(cluster.create_database("viewer").unwrap()), 60).await;
}

/// The server stops between two jobs, and the client asks again: the event counts what both have deleted.
async fn a_deletion_of_all_that_was_interrupted_is_told(database: Database) {
    let fixture = Fixture::open(database).await;
    let stored = fixture.db.submit(Scope::none(), async |tx: &mut Tx<'_>| {
        // The conversation of the fixture is empty, so it is in no list.
        for number in 1..=setting::DELETED_AT_ONCE {
            let key = ConversationKey(1_000 + number);
            tx.execute(
                "INSERT INTO conversation (id, app, type, name, seq, n, rev, last_ts, touched, floor_seq, floor_n, floor_rev, blocks) \
                 VALUES ($1, 7, 2, $2, 1, 1, 0, 0, 0, 0, 0, 0, 0)",
                &params![key, format!("g{number}")],
            )
            .await?;
            tx.execute(
                "INSERT INTO member (conversation, account, peer, from_seq, from_rev, cleared_seq, read_seq, base_seq, \
                 base_n, base_sent, sent, deducted) VALUES ($1, $2, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0)",
                &params![key, BOB],
            )
            .await?;
        }
        Ok(())
    });
    stored.await.unwrap();
    let delete = async |after| {
        let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter| setting::delete_all(tx, log, BOB, after).await;
        let (after, pushes) = fixture.write(BOB, Scope::user(BOB), job).await.unwrap();
        let all: Vec<i64> = pushes
            .iter()
            .flat_map(|push| &push.feed)
            .filter_map(|entry| match &entry.detail {
                Some(Detail::AllDeleted(all)) => Some(all.count),
                _ => None,
            })
            .collect();
        (after, all)
    };
    assert_eq!(delete(None).await, (Some(1_000 + setting::DELETED_AT_ONCE), vec![]));
    assert_eq!(delete(None).await, (None, vec![setting::DELETED_AT_ONCE]));
    assert_eq!(delete(None).await, (None, vec![]), "nothing is left, so nothing is told");
    fixture.db.close().await;
}

#[tokio::test]
async fn a_deletion_of_all_that_was_interrupted_is_told_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    a_deletion_of_all_that_was_interrupted_is_told(Database::Sqlite(dir.path().join("test.db"))).await;
}

#[tokio::test]
async fn a_deletion_of_all_that_was_interrupted_is_told_on_postgresql() {
    let cluster = Cluster::start().unwrap();
    let database = Database::Postgres(cluster.create_database("all_deleted").unwrap());
    a_deletion_of_all_that_was_interrupted_is_told(database).await;
}
