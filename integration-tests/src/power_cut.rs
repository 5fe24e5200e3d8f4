//! What a server's data is after a power cut: rebuilt from a trace of what the server wrote, for every moment that matters.
//!
//! The power is cut around each sync, and whenever an answer has reached a client. The test tells the server's process how many
//! messages were acknowledged (`mark`), and what the process prints about it is in the trace, at its place.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, ensure};
use prost::Message as _;
use rusqlite::{Connection, OpenFlags};
use zim_protocol::Message;

use crate::disk::{Disk, Files};
use crate::random::Random;
use crate::trace::{self, Operation};

/// The server's database in its data folder.
const DATABASE: &str = "zim.db";

/// A message whose sender has the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The text, which no other message has.
    pub text: String,
    /// The position.
    pub seq: i64,
}

/// Something that is wrong after a power cut.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The name of the check.
    pub name: &'static str,
    /// The number of the operation before or after which the power is cut.
    pub at: usize,
    /// What is wrong.
    pub text: String,
}

/// The power cuts that a server could have had.
#[derive(Debug)]
pub struct PowerCuts {
    operations: Vec<Operation>,
}

/// What is in a database after a power cut.
enum Found {
    /// Why it cannot be read.
    Damaged(String),
    /// It can.
    Readable(Stored),
}

#[derive(Default)]
struct Stored {
    /// The positions of each text.
    texts: BTreeMap<String, Vec<i64>>,
    /// The conversations whose positions are not dense.
    gaps: Vec<String>,
}

impl PowerCuts {
    /// Reads the trace of a server that is ending or has ended (see `ServerInstallation::trace`).
    ///
    /// # Errors
    /// The trace has something that is not understood.
    pub async fn of(trace: &Path, folder: &Path) -> anyhow::Result<Self> {
        Ok(Self { operations: trace::operations(trace, folder).await? })
    }

    /// Returns the numbers of the syncs.
    pub fn syncs(&self) -> Vec<usize> {
        let all = self.operations.iter().enumerate();
        all.filter(|(_, operation)| matches!(operation, Operation::Sync { .. })).map(|(at, _)| at).collect()
    }

    /// Whether the server has emptied a file.
    pub fn has_emptied(&self, file: &str) -> bool {
        let emptied = Operation::Resize { file: file.into(), size: 0 };
        self.operations.contains(&emptied)
    }

    /// Cuts the power around each sync and after each mark, and returns what is wrong then, and how often a database was read.
    ///
    /// # Errors
    /// The trace does not fit together, or this test cannot write.
    pub fn losses(&self, acknowledged: &[Acknowledged], seed: u64) -> anyhow::Result<(Vec<Loss>, usize)> {
        let (mut disk, mut marked, mut losses, mut reads) = (Disk::default(), 0, Vec::new(), 0);
        // What is certainly on the disk, with the number of syncs since when it is.
        let mut certain: Option<(usize, Found)> = None;
        for (at, operation) in self.operations.iter().enumerate() {
            let before = acknowledged.get(..marked).context("a mark is too high")?;
            let is_sync = matches!(operation, Operation::Sync { .. });
            if is_sync {
                let luck = &mut luck(seed, at);
                losses.extend(Found::read(&disk.after_a_cut(Some(luck)))?.losses(at, before));
                reads += 1;
            }
            disk.apply(operation)?;
            let mark = mark(operation);
            marked = mark.unwrap_or(marked);
            if !is_sync && mark.is_none() {
                continue;
            }
            let found = match certain.take() {
                Some((syncs, found)) if syncs == disk.syncs() => found,
                _ => {
                    reads += 1;
                    Found::read(&disk.after_a_cut(None))?
                }
            };
            let now = acknowledged.get(..marked).context("a mark is too high")?;
            losses.extend(found.losses(at, now));
            certain = Some((disk.syncs(), found));
        }
        ensure!(marked == acknowledged.len(), "the trace has marks only up to {marked}");
        Ok((losses, reads))
    }

    /// Cuts the power before an operation and writes what is on the disk then to a new folder. Returns how many messages were
    /// acknowledged.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn rebuild(&self, at: usize, seed: u64, to: &Path) -> anyhow::Result<usize> {
        let (mut disk, mut marked) = (Disk::default(), 0);
        for operation in &self.operations[..at] {
            disk.apply(operation)?;
            marked = mark(operation).unwrap_or(marked);
        }
        write(&disk.after_a_cut(Some(&mut luck(seed, at))), to)?;
        Ok(marked)
    }
}

/// Each moment has luck of its own, always the same.
fn luck(seed: u64, at: usize) -> Random {
    Random::new(seed.wrapping_mul(1_000_003) ^ at as u64)
}

/// Returns how many messages are acknowledged, if the process has printed it.
fn mark(operation: &Operation) -> Option<usize> {
    let Operation::Print(text) = operation else { return None };
    text.trim_end().strip_prefix("done mark ")?.parse().ok()
}

/// Writes files to a folder that only its owner can read.
fn write(files: &Files, folder: &Path) -> anyhow::Result<()> {
    zim_files::create_folder(folder)?;
    for (name, bytes) in files {
        let path = folder.join(name);
        zim_files::create_folder(path.parent().unwrap_or(folder))?;
        zim_files::open(&path, OpenOptions::new().write(true).create_new(true))?.write_all(bytes)?;
    }
    Ok(())
}

impl Found {
    fn read(files: &Files) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        write(files, dir.path())?;
        Ok(match Stored::read(&dir.path().join(DATABASE)) {
            Ok(stored) => Self::Readable(stored),
            Err(error) => Self::Damaged(format!("{error:#}")),
        })
    }

    fn losses(&self, at: usize, acknowledged: &[Acknowledged]) -> Vec<Loss> {
        let loss = |name, text| Loss { name, at, text };
        let stored = match self {
            Self::Damaged(why) => return vec![loss("database_damaged", why.clone())],
            Self::Readable(stored) => stored,
        };
        let mut losses: Vec<Loss> = stored.gaps.iter().map(|gap| loss("positions_dense", gap.clone())).collect();
        for Acknowledged { text, seq } in acknowledged {
            let found = stored.texts.get(text).map(Vec::as_slice).unwrap_or_default();
            if found != [*seq] {
                let name = if found.len() > 1 { "stored_twice" } else { "acknowledged_lost" };
                let text: String = text.chars().take(20).collect();
                losses.push(loss(name, format!("{text:?} was acknowledged at {seq}; it is at {found:?}")));
            }
        }
        losses
    }
}

impl Stored {
    fn read(file: &Path) -> anyhow::Result<Self> {
        let mut stored = Self::default();
        if !file.exists() {
            return Ok(stored);
        }
        let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // This copy is thrown away.
        db.execute_batch("PRAGMA synchronous = OFF")?;
        let health: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        ensure!(health == "ok", "{health}");
        let find = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'message')";
        let has_messages: bool = db.query_row(find, [], |row| row.get(0))?;
        if !has_messages {
            return Ok(stored);
        }
        let mut conversations = db.prepare("SELECT id, floor_seq, seq FROM conversation ORDER BY id")?;
        let conversations = conversations.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let conversations: Vec<(i64, i64, i64)> = conversations.collect::<Result<_, _>>()?;
        let mut messages = db.prepare("SELECT seq, body FROM message WHERE conversation = ?1 ORDER BY seq")?;
        for (id, floor, head) in conversations {
            let rows = messages.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let rows: Vec<(i64, Vec<u8>)> = rows.collect::<Result<_, _>>()?;
            let seqs: Vec<i64> = rows.iter().map(|(seq, _)| *seq).collect();
            if seqs != (floor + 1..=head).collect::<Vec<_>>() {
                stored.gaps.push(format!("conversation {id}: {}..={head} holds {seqs:?}", floor + 1));
            }
            for (seq, body) in rows {
                let message = Message::decode(&*body)?;
                let text = message.as_text().unwrap_or_default().to_owned();
                stored.texts.entry(text).or_default().push(seq);
            }
        }
        Ok(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged(text: &str, seq: i64) -> Acknowledged {
        Acknowledged { text: text.to_owned(), seq }
    }

    #[test]
    fn what_is_lost_is_named() {
        let mut stored = Stored::default();
        stored.texts.insert("a".to_owned(), vec![1]);
        stored.texts.insert("b".to_owned(), vec![2, 3]);
        let all = [("a", 1), ("a", 2), ("b", 2), ("c", 4)].map(|(text, seq)| acknowledged(text, seq));
        let names = |found: &Found| found.losses(7, &all).iter().map(|loss| loss.name).collect::<Vec<_>>();
        let lost = "acknowledged_lost";
        assert_eq!(names(&Found::Readable(stored)), [lost, "stored_twice", lost]);
        let gaps = Stored { gaps: vec!["gap".to_owned()], ..Stored::default() };
        assert_eq!(names(&Found::Readable(gaps)), ["positions_dense", lost, lost, lost, lost]);
        assert_eq!(names(&Found::Damaged("why".to_owned())), ["database_damaged"]);
    }

    #[test]
    fn a_damaged_database_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("whole.db");
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let db = Connection::open_with_flags(&file, flags).unwrap();
        let schema = "CREATE TABLE conversation (id INTEGER PRIMARY KEY, floor_seq INTEGER, seq INTEGER); \
            CREATE TABLE message (conversation INTEGER, seq INTEGER, body BLOB); \
            INSERT INTO conversation VALUES (1, 2, 5);";
        db.execute_batch(schema).unwrap();
        for seq in [3, 5] {
            let body = Message::text(format!("text {seq}")).encode_to_vec();
            db.execute("INSERT INTO message VALUES (1, ?1, ?2)", (seq, body)).unwrap();
        }
        drop(db);
        let mut bytes = std::fs::read(&file).unwrap();
        let read = |bytes: &[u8]| Found::read(&Files::from([(DATABASE.into(), bytes.to_vec())])).unwrap();
        let Found::Readable(stored) = read(&bytes) else { panic!("it is not damaged") };
        assert_eq!(
            stored.texts.into_iter().collect::<Vec<_>>(),
            [("text 3".to_owned(), vec![3]), ("text 5".to_owned(), vec![5])]
        );
        assert_eq!(stored.gaps, ["conversation 1: 3..=5 holds [3, 5]"]);
        // The last page is that of the messages.
        let end = bytes.len();
        bytes[end - 4_096..].fill(0xff);
        assert!(matches!(read(&bytes), Found::Damaged(_)));
        assert!(matches!(Found::read(&Files::new()).unwrap(), Found::Readable(stored) if stored.texts.is_empty()));
    }

    #[test]
    fn marks_and_syncs_are_found() {
        let print = |text: &str| Operation::Print(text.to_owned());
        assert_eq!(mark(&print("done mark 17\n")), Some(17));
        assert_eq!(mark(&print("done 17\n")), None);
        let sync = Operation::Sync { path: "zim.db".into(), begun: 1 };
        let cuts = PowerCuts { operations: vec![print("done mark 1\n"), sync.clone(), print("done\n"), sync] };
        assert_eq!(cuts.syncs(), [1, 3]);
        let error = cuts.losses(&[], 1).unwrap_err();
        assert!(error.to_string().contains("a mark is too high"), "{error}");
        // Nothing is on the disk.
        let (losses, reads) = cuts.losses(&[acknowledged("a", 1)], 1).unwrap();
        assert_eq!(losses.iter().map(|loss| loss.at).collect::<Vec<_>>(), [0, 1, 1, 3, 3]);
        assert_eq!(reads, 5);
        let error = cuts.losses(&[acknowledged("a", 1), acknowledged("b", 2)], 1).unwrap_err();
        assert!(error.to_string().contains("only up to 1"), "{error}");
    }
}
