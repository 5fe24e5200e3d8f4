//! Who writes to a file: one request at a time, on all nodes together.
//!
//! Within a process, requests take turns. A newer one ends one that gets no bytes: its client has connected again. Between
//! nodes that share a folder, the lock of the file decides; the system frees it when a process dies. In a bucket, the pieces of two
//! requests do not hurt each other, so they need no lock: see `bucket/pieces.rs`.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bucket::Bucket;
use super::disk::{Begun, Line};
use super::hashed::Hashed;
use super::{Files, Store, Version};

/// Bytes that are collected before they are written to a file. An upload has three buffers of this size: one is filled, one is written, and
/// one waits, so that the thread that writes has what comes next.
const PIECE: usize = 128 << 10;
/// The least and the most bytes that are collected before they become an object. Each costs a request.
const OBJECTS: [usize; 2] = [256 << 10, 1 << 20];

/// Bytes of a complete file that a thread reads before it writes those of others: after a restart the hashes of all uploads are computed
/// from their files.
const READ_IN_TURN: u64 = 16 << 20;

/// The turns of a process, by the ID of the file.
pub(super) type Turns = Mutex<HashMap<i64, Turn>>;

/// How much of files the disk has taken, if there may be more in them that could not be removed, by their IDs.
pub(super) type Uncut = Mutex<HashMap<i64, u64>>;

/// Whose turn it is to write to a file.
#[derive(Debug)]
pub(super) struct Turn {
    writer: Arc<tokio::sync::Mutex<()>>,
    newest: Mutex<Newest>,
}

/// The newest request that writes or waits.
#[derive(Clone, Debug)]
struct Newest {
    /// Cancelled when a newer request wants to write.
    superseded: CancellationToken,
    /// When it got bytes last.
    moved_at: Arc<Mutex<Instant>>,
}

impl Newest {
    fn new() -> Self {
        Self { superseded: CancellationToken::new(), moved_at: Arc::new(Mutex::new(Instant::now())) }
    }
}

/// The right to write to a file, until it is dropped.
#[derive(Debug)]
pub(crate) struct Writing {
    files: Arc<Files>,
    id: i64,
    newest: Newest,
    guard: Option<OwnedMutexGuard<()>>,
    target: Option<Target>,
    /// What is written to a file in a folder, in its order.
    line: Line,
    /// What is known of the hash of a file in a folder.
    hashed: Arc<Mutex<Hashed>>,
}

/// Where the bytes go.
#[derive(Clone, Debug)]
enum Target {
    /// Locked until nothing uses it, also what nobody waits for.
    File(Arc<File>),
    Bucket(Arc<Bucket>),
}

impl Writing {
    /// Ends when a newer request wants to write.
    pub(crate) async fn superseded(&self) {
        self.newest.superseded.cancelled().await;
    }

    /// Notes that bytes arrived: a request that gets bytes is not ended by a newer one.
    pub(crate) fn moved(&self) {
        *self.newest.moved_at.lock() = Instant::now();
    }

    /// Returns how many bytes are collected before they are written, if `reached` have arrived. The pieces of a large file in a bucket
    /// grow, so that there are few of them, and that little of a small one is lost with a server that is killed.
    pub(super) fn piece(&self, reached: u64) -> usize {
        let [least, most] = OBJECTS;
        match &self.target {
            Some(Target::Bucket(_)) => usize::try_from(reached).unwrap_or(most).clamp(least, most),
            _ => PIECE,
        }
    }

    /// Returns how many bytes of the file have arrived, to a request that begins at `at`. Fails as long as there may be some in the file
    /// that the disk has not taken, and they cannot be removed.
    pub(crate) async fn begin(&self, at: u64) -> io::Result<u64> {
        match self.target()? {
            Target::File(file) => {
                let hashed = Arc::clone(&self.hashed);
                let begun = self.files.disk.run(move || {
                    hashed.lock().cut_again(&file)?;
                    Ok(file.metadata()?.len())
                });
                begun.await
            }
            Target::Bucket(bucket) => bucket.begin(self.id, at).await,
        }
    }

    /// Writes bytes to a place in the file. In a folder this has only begun then, after what was given before, and returns the buffer when
    /// it is done. It fails if what comes before it in the file was not written.
    pub(super) async fn write(&self, at: u64, bytes: Vec<u8>) -> io::Result<Option<Begun<Vec<u8>>>> {
        match self.target()? {
            Target::File(file) => {
                let hashed = Arc::clone(&self.hashed);
                Ok(Some(self.files.disk.begin_in(&self.line, move || {
                    let mut hashed = hashed.lock();
                    // The length of the file says how much has arrived: no gap may count.
                    if file.metadata()?.len() < at {
                        return Err(io::Error::other("the bytes before these were not written"));
                    }
                    hashed.touch();
                    let mut to = &*file;
                    to.seek(SeekFrom::Start(at))?;
                    to.write_all(&bytes)?;
                    hashed.add(at, &bytes);
                    Ok(bytes)
                })))
            }
            Target::Bucket(bucket) => bucket.put_piece(self.id, at, bytes).await.map(|()| None),
        }
    }

    /// Begins to wait until the disk has the first `bytes`, which were written before. `None`: an object that was put is safe. If it fails,
    /// nothing more may be written before [`Writing::cut_unsynced`].
    pub(super) fn begin_sync(&self, bytes: u64) -> io::Result<Option<Begun<()>>> {
        match self.target()? {
            Target::File(file) => {
                let hashed = Arc::clone(&self.hashed);
                Ok(Some(self.files.disk.begin(move || {
                    Hashed::sync(&hashed, &file)?;
                    hashed.lock().synced(bytes);
                    Ok(())
                })))
            }
            Target::Bucket(_) => Ok(None),
        }
    }

    /// Waits until the disk has what was written. Nothing may be written meanwhile. If it fails, see [`Writing::begin_sync`].
    pub(super) async fn sync(&self) -> io::Result<()> {
        let Target::File(file) = self.target()? else { return Ok(()) };
        let hashed = Arc::clone(&self.hashed);
        let synced = self.files.disk.run(move || {
            Hashed::sync(&hashed, &file)?;
            let mut hashed = hashed.lock();
            hashed.synced(file.metadata()?.len());
            hashed.leave(&file);
            Ok(())
        });
        synced.await
    }

    /// Removes what the disk may not have, which has failed to take something. Nothing may be written meanwhile.
    pub(super) async fn cut_unsynced(&self) -> io::Result<()> {
        let Target::File(file) = self.target()? else { return Ok(()) };
        let hashed = Arc::clone(&self.hashed);
        self.files.disk.run(move || hashed.lock().cut_unsynced(&file)).await
    }

    /// Lets the disk fail once, after so many times that it takes what was written.
    #[cfg(test)]
    pub(super) fn fail_sync_after(&self, times: usize) {
        self.hashed.lock().fails_after = Some(times);
    }

    /// Sets whether nothing can be removed from the file.
    #[cfg(test)]
    pub(super) fn keep_all(&self, keeps_all: bool) {
        self.hashed.lock().keeps_all = keeps_all;
    }

    /// Removes what comes after the first `bytes` of the file, where a request began or the file does.
    pub(crate) async fn truncate(&self, bytes: u64) -> io::Result<()> {
        match self.target()? {
            Target::File(file) => {
                let hashed = Arc::clone(&self.hashed);
                let cut = self.files.disk.run(move || {
                    let mut hashed = hashed.lock();
                    hashed.touch();
                    // What the disk has failed to take is gone already.
                    let bytes = bytes.min(file.metadata()?.len());
                    file.set_len(bytes)?;
                    hashed.cut(bytes);
                    hashed.leave(&file);
                    Ok(())
                });
                cut.await
            }
            Target::Bucket(bucket) => bucket.truncate(self.id, bytes).await,
        }
    }

    /// Puts a file whose bytes have all arrived into its place, and returns what it begins with; `None`: it does not have this hash.
    /// The file is not found if it was removed, or if another node has done so.
    pub(crate) async fn finish(&self, size: u64, hash: Bytes) -> io::Result<Option<Vec<u8>>> {
        match (self.target()?, &self.files.store) {
            (Target::File(file), Store::Folder(folder)) => {
                loop {
                    let (file, hashed) = (Arc::clone(&file), Arc::clone(&self.hashed));
                    let read = self.files.disk.run(move || hashed.lock().read_part(&file, size, READ_IN_TURN));
                    if read.await? {
                        break;
                    }
                }
                let (path, hashed) = (folder.path(self.id, Version::Original), Arc::clone(&self.hashed));
                let finished = self.files.disk.run(move || {
                    std::fs::metadata(path)?;
                    hashed.lock().finish(&file, size, &hash)
                });
                finished.await
            }
            (Target::Bucket(bucket), _) => bucket.join(self.id, size, &hash).await,
            (Target::File(_), Store::Bucket(_)) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn target(&self) -> io::Result<Target> {
        self.target.clone().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // Before the next request may write.
        let (kept, uncut) = {
            let hashed = self.hashed.lock();
            (hashed.kept(), hashed.uncut_after())
        };
        if let Some(kept) = kept {
            self.files.hashes.keep(self.id, kept);
        }
        // A request that has not opened the file knows nothing of it.
        if self.target.is_some() {
            let mut all = self.files.uncut.lock();
            match uncut {
                Some(synced) => all.insert(self.id, synced),
                None => all.remove(&self.id),
            };
        }
        // Closing the file frees its lock.
        drop(self.target.take());
        drop(self.guard.take());
        let mut turns = self.files.turns.lock();
        // Whoever waits for the turn holds it as well.
        if turns.get(&self.id).is_some_and(|turn| Arc::strong_count(&turn.writer) == 1) {
            turns.remove(&self.id);
        }
    }
}

impl Files {
    /// Takes the right to write to a file. A request that has got no bytes for `quiet` is told to stop. `None`: another
    /// request writes, here or on another node.
    pub(crate) async fn write(self: &Arc<Self>, id: i64, quiet: Duration) -> io::Result<Option<Writing>> {
        let (mut writing, writer) = {
            let mut turns = self.turns.lock();
            let turn = turns.entry(id).or_insert_with(|| Turn { writer: Arc::default(), newest: Newest::new().into() });
            let mut newest = turn.newest.lock();
            let is_taken = Arc::strong_count(&turn.writer) > 1;
            if is_taken && newest.moved_at.lock().elapsed() < quiet {
                return Ok(None);
            }
            newest.superseded.cancel();
            *newest = Newest::new();
            let writing = Writing {
                files: Arc::clone(self),
                id,
                newest: newest.clone(),
                guard: None,
                target: None,
                line: Line::default(),
                hashed: Arc::default(),
            };
            (writing, Arc::clone(&turn.writer))
        };
        writing.guard = Some(writer.lock_owned().await);
        writing.target = match &self.store {
            Store::Folder(folder) => {
                let (path, kept) = (folder.path(id, Version::Original), self.hashes.take(id));
                let uncut = self.uncut.lock().get(&id).copied();
                let opened = self.disk.run(move || {
                    let Some(file) = open_locked(&path)? else { return Ok(None) };
                    let mut hashed = Hashed::resumed(kept, &file);
                    if let Some(synced) = uncut {
                        hashed.resume_uncut(&file, synced)?;
                    }
                    Ok(Some((file, hashed)))
                });
                opened.await?.map(|(file, hashed)| {
                    *writing.hashed.lock() = hashed;
                    Target::File(Arc::new(file))
                })
            }
            Store::Bucket(bucket) => Some(Target::Bucket(Arc::clone(bucket))),
        };
        Ok(Some(writing).filter(|writing| writing.target.is_some()))
    }
}

/// Opens a file and locks it. `None`: another process has locked it.
fn open_locked(path: &Path) -> io::Result<Option<File>> {
    if let Some(folder) = path.parent() {
        if let Some(root) = folder.parent() {
            zim_files::create_folder(root)?;
        }
        zim_files::create_folder(folder)?;
    }
    let file = zim_files::open(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    async fn write(writing: &Writing, at: u64, bytes: &[u8]) {
        let begun = writing.write(at, bytes.to_vec()).await.unwrap().unwrap();
        assert_eq!(begun.done().await.unwrap(), bytes);
    }

    #[tokio::test]
    async fn a_newer_writer_ends_the_one_before_if_it_gets_no_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::in_folder(&dir.path().join("media"));
        let first = files.write(7, LONG).await.unwrap().unwrap();
        assert!(files.write(7, LONG).await.unwrap().is_none(), "the first one gets bytes");
        assert!(!first.newest.superseded.is_cancelled());
        let second = {
            let files = Arc::clone(&files);
            tokio::spawn(async move { files.write(7, Duration::ZERO).await })
        };
        first.superseded().await;
        drop(first);
        let second = second.await.unwrap().unwrap().unwrap();
        assert!(!second.newest.superseded.is_cancelled());
        let other = files.write(8, LONG).await.unwrap().unwrap();
        assert_eq!(files.turns.lock().len(), 2);
        drop((second, other));
        assert!(files.turns.lock().is_empty(), "what nobody writes to is forgotten");
    }

    #[tokio::test]
    async fn what_comes_after_a_gap_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::in_folder(&dir.path().join("media"));
        let writing = files.write(7, LONG).await.unwrap().unwrap();
        write(&writing, 0, b"one").await;
        // As if the piece between them had failed.
        let begun = writing.write(4, b"three".to_vec()).await.unwrap().unwrap();
        begun.done().await.unwrap_err();
        assert_eq!(writing.begin(3).await.unwrap(), 3);
        write(&writing, 3, b"two").await;
        assert_eq!(files.received(7).await.unwrap(), 6);
    }

    #[tokio::test]
    async fn two_nodes_do_not_write_to_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (Files::in_folder(&dir.path().join("media")), Files::in_folder(&dir.path().join("media")));
        let first = here.write(7, LONG).await.unwrap().unwrap();
        // However long the first one is quiet.
        assert!(there.write(7, Duration::ZERO).await.unwrap().is_none());
        assert!(there.turns.lock().is_empty(), "who is refused is forgotten");
        // A write that nobody waits for any more keeps the lock.
        write(&first, 0, b"one").await;
        let held = first.target.clone();
        drop(first);
        assert!(there.write(7, Duration::ZERO).await.unwrap().is_none());
        drop(held);
        let second = there.write(7, Duration::ZERO).await.unwrap().unwrap();
        assert_eq!(second.begin(3).await.unwrap(), 3);
        write(&second, 1, b"2345").await;
        second.truncate(4).await.unwrap();
        drop(second);
        let content = here.open_file(7, Version::Original).await.unwrap().unwrap();
        assert_eq!(content.read(0, 9).await.unwrap(), "o234");
    }
}
