//! A disk that may lose what was not synced when the power is cut.
//!
//! Until a file is synced, the disk has none, some or all of what was written to it, in any order, and of a write any of its
//! sectors. Names are kept by folder: until the folder is synced, the disk has the first of the changes, as a journal of a file
//! system has. That a file is synced does not keep its name. Folders themselves are taken as there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::random::Random;
use crate::trace::Operation;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// The files of a disk, by their names.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    files: Vec<Content>,
    /// The names as processes see them.
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    /// What was done to names since their folder was synced, with the numbers of the operations.
    unsynced_names: Vec<(usize, Naming)>,
    operations: usize,
    syncs: usize,
}

#[derive(Debug, Default)]
struct Content {
    synced: Vec<u8>,
    /// With the numbers of the operations.
    unsynced: Vec<(usize, Change)>,
}

#[derive(Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

#[derive(Debug)]
enum Naming {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

impl Disk {
    /// Does the next operation.
    pub(crate) fn apply(&mut self, operation: &Operation) -> anyhow::Result<()> {
        let number = self.operations;
        self.operations += 1;
        match operation {
            Operation::Open { file, is_emptied } => match self.names.get(file) {
                Some(&known) if *is_emptied => self.files[known].unsynced.push((number, Change::Resize(0))),
                Some(_) => {}
                None => {
                    let new = self.files.len();
                    self.files.push(Content::default());
                    self.names.insert(file.clone(), new);
                    self.unsynced_names.push((number, Naming::Create(file.clone(), new)));
                }
            },
            Operation::Write { file, at, bytes } => {
                let change = Change::Write { at: *at, bytes: bytes.clone() };
                self.file(file)?.unsynced.push((number, change));
            }
            Operation::Resize { file, size } => self.file(file)?.unsynced.push((number, Change::Resize(*size))),
            Operation::Rename { from, to } => {
                let file = self.names.remove(from).with_context(|| unknown(from))?;
                self.names.insert(to.clone(), file);
                self.unsynced_names.push((number, Naming::Rename(from.clone(), to.clone(), file)));
            }
            Operation::Remove { file } => {
                // Sockets have names, too.
                if self.names.remove(file).is_some() {
                    self.unsynced_names.push((number, Naming::Remove(file.clone())));
                }
            }
            Operation::Sync { path, begun } => {
                self.syncs += 1;
                match self.names.get(path) {
                    Some(&file) => self.files[file].sync(*begun),
                    None => self.sync_folder(path, *begun),
                }
            }
            Operation::Print(_) => {}
        }
        Ok(())
    }

    /// Returns how often something was synced. Until the next time, what is certainly on the disk stays the same.
    pub(crate) fn syncs(&self) -> usize {
        self.syncs
    }

    /// Returns what is on the disk if the power is cut now: what is certainly there, or, with `luck`, also some of the rest.
    pub(crate) fn after_a_cut(&self, mut luck: Option<&mut Random>) -> Files {
        let mut names = self.synced_names.clone();
        if let Some(random) = luck.as_deref_mut() {
            let kept = pick(random, self.unsynced_names.len() + 1);
            self.unsynced_names[..kept].iter().for_each(|(_, naming)| naming.apply(&mut names));
        }
        let mut files = Files::new();
        for (name, file) in names {
            let Content { synced, unsynced } = &self.files[file];
            let mut bytes = synced.clone();
            if let Some(random) = luck.as_deref_mut() {
                unsynced.iter().for_each(|(_, change)| change.survive(random, &mut bytes));
            }
            files.insert(name, bytes);
        }
        files
    }

    fn file(&mut self, name: &Path) -> anyhow::Result<&mut Content> {
        let file = *self.names.get(name).with_context(|| unknown(name))?;
        Ok(&mut self.files[file])
    }

    fn sync_folder(&mut self, folder: &Path, begun: usize) {
        let (synced, names) = (&mut self.synced_names, &mut self.unsynced_names);
        names.retain(|(number, naming)| {
            let is_synced = *number < begun && naming.folder() == Some(folder);
            if is_synced {
                naming.apply(synced);
            }
            !is_synced
        });
    }
}

fn unknown(file: &Path) -> String {
    format!("{} was never opened", file.display())
}

fn pick(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).unwrap_or(0)
}

impl Content {
    fn sync(&mut self, begun: usize) {
        let end = self.unsynced.partition_point(|(number, _)| *number < begun);
        for (_, change) in self.unsynced.drain(..end) {
            change.apply(&mut self.synced);
        }
    }
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => put(file, *at, bytes),
            Self::Resize(size) => file.resize(*size, 0),
        }
    }

    /// Does none of it, all of it, or some of its sectors.
    fn survive(&self, random: &mut Random, file: &mut Vec<u8>) {
        match (random.below(3), self) {
            (0, _) => {}
            (1, Self::Write { at, bytes }) => {
                let mut from = 0;
                while from < bytes.len() {
                    let to = (from + SECTOR - (at + from) % SECTOR).min(bytes.len());
                    if random.chance(500) {
                        put(file, at + from, &bytes[from..to]);
                    }
                    from = to;
                }
            }
            _ => self.apply(file),
        }
    }
}

/// Writes to a file. Before what is beyond its end there are zeros.
fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[at..end].copy_from_slice(bytes);
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Create(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }

    fn folder(&self) -> Option<&Path> {
        let (Self::Create(name, _) | Self::Rename(_, name, _) | Self::Remove(name)) = self;
        name.parent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(file: &str) -> Operation {
        Operation::Open { file: file.into(), is_emptied: false }
    }

    fn write(file: &str, at: usize, bytes: &[u8]) -> Operation {
        Operation::Write { file: file.into(), at, bytes: bytes.to_vec() }
    }

    /// Everything that was done before is synced.
    fn sync(path: &str) -> Operation {
        Operation::Sync { path: path.into(), begun: usize::MAX }
    }

    fn disk(operations: &[Operation]) -> Disk {
        let mut disk = Disk::default();
        operations.iter().for_each(|operation| disk.apply(operation).unwrap());
        disk
    }

    fn files(expected: &[(&str, &[u8])]) -> Files {
        expected.iter().map(|(name, bytes)| (name.into(), bytes.to_vec())).collect()
    }

    /// What may be on the disk after a cut, each time with other luck.
    fn possible(disk: &Disk) -> Vec<Files> {
        (0..2_000).map(|seed| disk.after_a_cut(Some(&mut Random::new(seed)))).collect()
    }

    #[test]
    fn only_what_is_synced_is_certain() {
        let mut done = vec![open("a"), write("a", 0, b"old"), sync("a")];
        assert_eq!(disk(&done).after_a_cut(None), files(&[]), "its folder is not synced");
        done.extend([sync(""), write("a", 1, b"ewer")]);
        let unsynced = disk(&done);
        assert_eq!(unsynced.after_a_cut(None), files(&[("a", b"old")]));
        let (old, new) = (files(&[("a", b"old")]), files(&[("a", b"oewer")]));
        let possible = possible(&unsynced);
        assert!(possible.contains(&old) && possible.contains(&new));
        assert!(possible.iter().all(|found| *found == old || *found == new), "less than a sector is never torn");
        done.push(sync("a"));
        assert_eq!(disk(&done).after_a_cut(None), new);
    }

    #[test]
    fn a_sync_keeps_only_what_was_done_before_it_began() {
        let done = [open("a"), sync(""), write("a", 0, b"a"), write("a", 1, b"b")];
        let mut disk = disk(&done);
        disk.apply(&Operation::Sync { path: "a".into(), begun: 3 }).unwrap();
        assert_eq!(disk.after_a_cut(None), files(&[("a", b"a")]));
    }

    #[test]
    fn writes_are_torn_at_sectors_and_may_come_in_another_order() {
        let done = [open("a"), sync(""), write("a", 500, &[1; 600]), write("a", 0, &[2])];
        let mut seen = Vec::new();
        for found in possible(&disk(&done)) {
            let bytes = &found[Path::new("a")];
            // The parts of the first write, and whether the second one is there.
            let parts = [500, 512, 1_024].map(|at| bytes.get(at) == Some(&1));
            for (part, range) in parts.iter().zip([500..512, 512..1_024, 1_024..1_100]) {
                let is_whole = bytes.get(range).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 1));
                assert_eq!(*part, is_whole);
            }
            seen.push((parts, bytes.first() == Some(&2)));
        }
        for expected in [
            ([false; 3], true),
            ([true; 3], false),
            ([true, false, true], true),
            ([false, true, false], false),
            ([true; 3], true),
        ] {
            assert!(seen.contains(&expected), "{expected:?}: {seen:?}");
        }
    }

    #[test]
    fn names_change_in_their_order() {
        let rename = Operation::Rename { from: "a.new".into(), to: "a".into() };
        let mut done = vec![open("a"), write("a", 0, b"1"), sync("a"), sync("")];
        done.extend([open("a.new"), write("a.new", 0, b"2"), sync("a.new"), rename]);
        done.push(Operation::Remove { file: "socket".into() });
        let before = files(&[("a", b"1")]);
        let renamed = disk(&done);
        assert_eq!(renamed.after_a_cut(None), before);
        let all = [before, files(&[("a", b"1"), ("a.new", b"2")]), files(&[("a", b"2")])];
        let possible = possible(&renamed);
        assert!(all.iter().all(|one| possible.contains(one)) && possible.iter().all(|one| all.contains(one)));
        // Another folder changes nothing here.
        done.push(sync("media"));
        assert_eq!(disk(&done).after_a_cut(None), all[0]);
        done.push(sync(""));
        assert_eq!(disk(&done).after_a_cut(None), all[2]);
        done.extend([Operation::Remove { file: "a".into() }, sync("")]);
        assert_eq!(disk(&done).after_a_cut(None), files(&[]));
    }

    #[test]
    fn a_file_that_is_emptied_is_so_when_it_is_synced() {
        let mut done = vec![open("a"), write("a", 0, b"123"), sync("a"), sync("")];
        done.push(Operation::Open { file: "a".into(), is_emptied: true });
        done.push(Operation::Resize { file: "a".into(), size: 2 });
        assert_eq!(disk(&done).after_a_cut(None), files(&[("a", b"123")]));
        done.push(sync("a"));
        assert_eq!(disk(&done).after_a_cut(None), files(&[("a", &[0, 0])]));
        let error = Disk::default().apply(&write("b", 0, b"x")).unwrap_err();
        assert!(error.to_string().contains("never opened"), "{error}");
    }
}
