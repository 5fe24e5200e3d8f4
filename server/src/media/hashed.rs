//! The hash of a file that is uploaded, computed while its bytes are written: nobody reads them again when the last one has arrived.
//!
//! It goes on when an upload does, also over another connection. It is kept in memory alone. Whatever is not known of it is computed
//! from the file in the end: after a restart, after another node has written, or if it was forgotten.
//!
//! With it goes how much of the file is on the disk: after the disk has failed to take something, nobody can tell which of the bytes that
//! it had not confirmed are there. The system forgets them, and says of the next ones that they are.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::SystemTime;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use zim_protocol::media::HEAD_BYTES;

/// The most uploads that nobody writes to now and whose hash is known. Each takes some 200 bytes.
const KEPT: usize = 1_024;
/// The bytes that are read at once.
const READ_AT_ONCE: usize = 256 << 10;

/// The hash of the first bytes of a file.
#[derive(Clone, Debug, Default)]
struct Prefix {
    hash: Sha256,
    bytes: u64,
}

/// How a file was when its hash was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: SystemTime,
}

impl Stamp {
    /// `None`: the file system does not say enough to recognise a change.
    fn of(file: &File) -> Option<Self> {
        let found = file.metadata().ok()?;
        Some(Self { bytes: found.len(), modified: found.modified().ok()? })
    }
}

/// What is known of the hash of a file, to whoever may write to it.
#[derive(Debug, Default)]
pub(super) struct Hashed {
    known: Prefix,
    /// What was known when the request began.
    before: Prefix,
    /// How the file was left; `None` if it was written to since, or nothing is known.
    left: Option<Stamp>,
    /// The first bytes of the file that are known to be on the disk.
    synced: u64,
    /// Whether there may be more in the file than the disk has taken, because it could not be removed.
    is_uncut: bool,
    /// After how many waits for the disk one fails.
    #[cfg(test)]
    pub(super) fails_after: Option<usize>,
    /// Whether nothing can be removed from the file.
    #[cfg(test)]
    pub(super) keeps_all: bool,
}

impl Hashed {
    /// What was kept, if the file is as it was left: another node may have written to it.
    pub(super) fn resumed(kept: Option<Kept>, file: &File) -> Self {
        let kept = kept.filter(|kept| Stamp::of(file) == Some(kept.left));
        let left = kept.as_ref().map(|kept| kept.left);
        let synced = kept.as_ref().map_or(0, |kept| kept.synced);
        let known = kept.map(|kept| kept.known).unwrap_or_default();
        Self {
            before: known.clone(),
            known,
            left,
            synced,
            is_uncut: false,
            #[cfg(test)]
            fails_after: None,
            #[cfg(test)]
            keeps_all: false,
        }
    }

    /// Notes that the file is about to change.
    pub(super) fn touch(&mut self) {
        self.left = None;
    }

    /// Adds bytes that were written to a place in the file. If those before them are not known, nor are these.
    pub(super) fn add(&mut self, at: u64, bytes: &[u8]) {
        self.cut(at);
        if self.known.bytes == at {
            self.known.hash.update(bytes);
            self.known.bytes += bytes.len() as u64;
        }
    }

    /// Notes that what came after the first `bytes` of the file is gone.
    pub(super) fn cut(&mut self, bytes: u64) {
        if self.known.bytes > bytes {
            let is_left = self.before.bytes <= bytes;
            self.known = if is_left { self.before.clone() } else { Prefix::default() };
        }
        if self.before.bytes > bytes {
            self.before = Prefix::default();
        }
        if bytes <= self.synced {
            self.synced = bytes;
            self.is_uncut = false;
        }
    }

    /// Waits until the disk has what was written to a file. Others may write to it meanwhile.
    #[cfg_attr(not(test), expect(unused_variables, reason = "only a test breaks it"))]
    pub(super) fn sync(hashed: &Mutex<Self>, file: &File) -> io::Result<()> {
        #[cfg(test)]
        hashed.lock().fail()?;
        file.sync_data()
    }

    #[cfg(test)]
    fn fail(&mut self) -> io::Result<()> {
        self.fails_after = match self.fails_after {
            Some(0) => {
                self.fails_after = None;
                return Err(io::Error::other("a test breaks it"));
            }
            after => after.map(|after| after - 1),
        };
        Ok(())
    }

    /// Notes that the first `bytes` of the file are on the disk.
    pub(super) fn synced(&mut self, bytes: u64) {
        self.synced = self.synced.max(bytes);
    }

    /// Removes what may not be on the disk, which has failed to take something. If that fails, see [`Hashed::cut_again`].
    pub(super) fn cut_unsynced(&mut self, file: &File) -> io::Result<()> {
        self.touch();
        self.is_uncut = true;
        #[cfg(test)]
        if self.keeps_all {
            return Err(io::Error::other("a test keeps it"));
        }
        if file.metadata()?.len() > self.synced {
            file.set_len(self.synced)?;
        }
        self.cut(self.synced);
        self.leave(file);
        Ok(())
    }

    /// Removes what could not be removed before. Until that succeeds, nothing may be added to the file.
    pub(super) fn cut_again(&mut self, file: &File) -> io::Result<()> {
        if !self.is_uncut {
            return Ok(());
        }
        self.cut_unsynced(file).map_err(|error| {
            let text = format!("the end of an upload may not be on the disk, and cannot be removed: {error}");
            io::Error::new(io::ErrorKind::StorageFull, text)
        })
    }

    /// Returns how much of the file the disk has, if there may be more in it that could not be removed.
    pub(super) fn uncut_after(&self) -> Option<u64> {
        self.is_uncut.then_some(self.synced)
    }

    /// Notes that the disk has the first `synced` bytes of the file, and that what comes after them could not be removed; unless there are
    /// fewer now. Then another node has begun anew, and of what it has written nothing is known.
    pub(super) fn resume_uncut(&mut self, file: &File, synced: u64) -> io::Result<()> {
        if file.metadata()?.len() >= synced {
            (self.synced, self.is_uncut) = (synced, true);
        }
        Ok(())
    }

    /// Notes how the file is left.
    pub(super) fn leave(&mut self, file: &File) {
        self.left = Stamp::of(file);
    }

    /// Computes the next `part` bytes from a file of this size of which more is not known. Returns whether no more than that was left,
    /// which [`Hashed::finish`] computes.
    pub(super) fn read_part(&mut self, file: &File, size: u64, part: u64) -> io::Result<bool> {
        if size.saturating_sub(self.known.bytes) <= part || file.metadata()?.len() != size {
            return Ok(true);
        }
        self.read(file, part)?;
        Ok(false)
    }

    /// Returns the bytes that a file of this size begins with, if it has this hash. Then nobody writes to it any more, so nothing is kept.
    pub(super) fn finish(&mut self, mut file: &File, size: u64, wanted: &[u8]) -> io::Result<Option<Vec<u8>>> {
        if file.metadata()?.len() != size {
            return Ok(None);
        }
        if self.known.bytes > size {
            self.known = Prefix::default();
        }
        if self.known.bytes < size {
            self.read(file, u64::MAX)?;
            // A server that was killed has not waited for the disk.
            let synced = file.sync_data();
            #[cfg(test)]
            let synced = synced.and_then(|()| self.fail());
            if let Err(error) = synced {
                self.cut_unsynced(file)?;
                return Err(error);
            }
            self.synced(size);
        }
        let found = self.known.hash.clone().finalize();
        if self.known.bytes != size || found[..] != *wanted {
            return Ok(None);
        }
        let mut head = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        self.left = None;
        Ok(Some(head))
    }

    /// Computes what is not known from the file, up to `most` bytes.
    fn read(&mut self, mut file: &File, most: u64) -> io::Result<()> {
        file.seek(SeekFrom::Start(self.known.bytes))?;
        let (mut part, mut buffer) = (file.take(most), vec![0; READ_AT_ONCE]);
        loop {
            let read = part.read(&mut buffer)?;
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
            self.known.hash.update(bytes);
            self.known.bytes += bytes.len() as u64;
        }
    }

    /// Returns what is kept until the upload goes on, if it can be used then.
    pub(super) fn kept(&self) -> Option<Kept> {
        let left = self.left.filter(|_| self.known.bytes > 0)?;
        Some(Kept { known: self.known.clone(), left, synced: self.synced })
    }
}

/// What is known of the hash of a file that nobody writes to.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    known: Prefix,
    left: Stamp,
    synced: u64,
}

/// What is known of the hashes of uploads, by the ID of the file. The oldest are forgotten.
#[derive(Debug, Default)]
pub(super) struct Hashes(Mutex<VecDeque<(i64, Kept)>>);

impl Hashes {
    pub(super) fn keep(&self, id: i64, kept: Kept) {
        let mut all = self.0.lock();
        all.retain(|(known, _)| *known != id);
        if all.len() >= KEPT {
            all.pop_front();
        }
        all.push_back((id, kept));
    }

    pub(super) fn take(&self, id: i64) -> Option<Kept> {
        let mut all = self.0.lock();
        let at = all.iter().position(|(known, _)| *known == id)?;
        all.remove(at).map(|(_, kept)| kept)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn of(text: &str) -> Vec<u8> {
        Sha256::digest(text).to_vec()
    }

    #[test]
    fn what_could_not_be_removed_is_gone_when_another_node_has_begun_anew() {
        let file = file(b"12345");
        let mut hashed = Hashed::default();
        for (synced, uncut) in [(6, None), (5, Some(5)), (3, Some(3))] {
            hashed.resume_uncut(&file, synced).unwrap();
            assert_eq!(hashed.uncut_after(), uncut);
        }
        hashed.cut_again(&file).unwrap();
        assert_eq!((file.metadata().unwrap().len(), hashed.uncut_after()), (3, None));
    }

    /// What was added decides: the bytes in the file are others, so that it shows who reads them.
    #[test]
    fn bytes_that_are_known_are_not_read_again() {
        let other = file(b"OTHER 12345");
        let mut hashed = Hashed::default();
        hashed.add(0, b"one ");
        hashed.add(4, b"two three");
        assert_eq!(hashed.finish(&other, 13, &of("one two three")).unwrap(), None, "the file is shorter");
        let mut hashed = Hashed::default();
        hashed.add(0, b"one ");
        hashed.add(4, b"two");
        // The last four bytes were written by somebody else.
        assert_eq!(hashed.finish(&other, 11, &of("one two2345")).unwrap(), Some(b"OTHER 12345".to_vec()));
        assert_eq!(hashed.finish(&other, 11, &of("OTHER 12345")).unwrap(), None);
        // Bytes behind a gap do not count.
        let mut hashed = Hashed::default();
        hashed.add(5, b" three");
        assert_eq!(hashed.finish(&other, 11, &of("OTHER 12345")).unwrap(), Some(b"OTHER 12345".to_vec()));
    }

    #[test]
    fn what_is_cut_off_is_not_known() {
        let seven = file(b"ABCDEFG");
        let finish = |hashed: &mut Hashed, text: &str| hashed.finish(&seven, 7, &of(text)).unwrap().is_some();
        let begun = || {
            let mut hashed = Hashed::default();
            hashed.add(0, b"abc");
            hashed.left = Stamp::of(&seven);
            // A request that begins later knows what the one before has added.
            let mut hashed = Hashed::resumed(hashed.kept(), &seven);
            hashed.add(3, b"defg");
            hashed
        };
        assert!(finish(&mut begun(), "abcdefg"));
        // To where the request began, as if it had not been there.
        let mut hashed = begun();
        hashed.cut(3);
        hashed.add(3, b"wxyz");
        assert!(finish(&mut hashed, "abcwxyz"));
        // Into what was there before: the file is read.
        let mut hashed = begun();
        hashed.cut(2);
        assert!(finish(&mut hashed, "ABCDEFG"));
        // To its start: it begins anew.
        let mut hashed = begun();
        hashed.cut(0);
        hashed.add(0, b"1234567");
        assert!(finish(&mut hashed, "1234567"));
        // What is written over is gone as well.
        let mut hashed = begun();
        hashed.add(0, b"12");
        assert!(finish(&mut hashed, "12CDEFG"));
    }

    #[test]
    fn a_file_that_has_changed_is_read() {
        let mut seven = file(b"ABCDEFG");
        let mut hashed = Hashed::default();
        hashed.add(0, b"abcdefg");
        assert!(hashed.kept().is_none(), "it is being written to");
        hashed.leave(&seven);
        let kept = hashed.kept().unwrap();
        let resumed = Hashed::resumed(Some(kept.clone()), &seven);
        assert_eq!(resumed.known.bytes, 7);
        assert!(resumed.kept().is_some(), "a request that is refused writes nothing");
        hashed.touch();
        assert!(hashed.kept().is_none());
        seven.write_all(b"H").unwrap();
        assert_eq!(Hashed::resumed(Some(kept.clone()), &seven).known.bytes, 0, "it is longer");
        seven.set_len(7).unwrap();
        seven.set_modified(kept.left.modified + std::time::Duration::from_secs(1)).unwrap();
        assert_eq!(Hashed::resumed(Some(kept), &seven).known.bytes, 0, "somebody has written to it");
        assert_eq!(Hashed::resumed(None, &seven).known.bytes, 0);
    }

    #[test]
    fn a_large_file_is_read_in_parts() {
        let eleven = file(b"OTHER THREE");
        let mut hashed = Hashed::default();
        hashed.add(0, b"one");
        assert!(!hashed.read_part(&eleven, 11, 4).unwrap());
        assert_eq!(hashed.known.bytes, 7);
        // The rest is no more than a part.
        assert!(hashed.read_part(&eleven, 11, 4).unwrap());
        assert_eq!(hashed.known.bytes, 7);
        assert_eq!(hashed.finish(&eleven, 11, &of("oneER THREE")).unwrap(), Some(b"OTHER THREE".to_vec()));
        assert!(hashed.read_part(&eleven, 11, 4).unwrap());
        // Whoever waits until little is left does not wait for ever for what is not there.
        assert!(Hashed::default().read_part(&eleven, 12, 4).unwrap());
    }

    #[test]
    fn the_hash_of_a_complete_file_is_not_kept() {
        let seven = file(b"ABCDEFG");
        let mut hashed = Hashed::default();
        hashed.add(0, b"abcdefg");
        hashed.leave(&seven);
        assert!(hashed.finish(&seven, 7, &of("other")).unwrap().is_none() && hashed.kept().is_some());
        assert!(hashed.finish(&seven, 7, &of("abcdefg")).unwrap().is_some() && hashed.kept().is_none());
    }

    #[test]
    fn few_hashes_are_kept() {
        let (hashes, seven) = (Hashes::default(), file(b"ABCDEFG"));
        let mut hashed = Hashed::default();
        hashed.add(0, b"abc");
        hashed.leave(&seven);
        let kept = hashed.kept().unwrap();
        let last = i64::try_from(KEPT).unwrap();
        (0..=last).for_each(|id| hashes.keep(id, kept.clone()));
        hashes.keep(last, kept.clone());
        assert_eq!(hashes.0.lock().len(), KEPT);
        assert!(hashes.take(0).is_none(), "the oldest is forgotten");
        assert!(hashes.take(last).is_some());
        assert!(hashes.take(last).is_none(), "it is in use");
    }
}
