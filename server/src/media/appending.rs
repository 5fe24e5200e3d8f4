//! Appends the bytes of a request to a file, in pieces: some are written while the next one arrives.

use std::collections::VecDeque;
use std::io;

use super::Writing;
use super::disk::Begun;

/// The bytes of a file that the disk may have to take at once. It gets them little by little: what else waits for the disk, like a message
/// that is being stored, waits for no more than that.
const UNSYNCED: u64 = 2 << 20;
/// The most pieces that are written or wait for it, besides the one that is collected. While one is written, the next one waits:
/// otherwise the thread would have nothing to do until this request has heard of it.
const AHEAD: usize = 2;

/// Bytes that are appended to a file.
#[derive(Debug)]
pub(crate) struct Appending<'a> {
    writing: &'a Writing,
    /// The size that the file will have.
    size: u64,
    /// Where the bytes that are collected belong.
    at: u64,
    collected: Vec<u8>,
    /// The other buffers that are not in use.
    spare: Vec<Vec<u8>>,
    /// What was given to be written, in its order, with the numbers of the bytes.
    written: VecDeque<(Begun<Vec<u8>>, u64)>,
    /// The first bytes of the file that are known to be written.
    written_to: u64,
    synced: Option<Begun<()>>,
    /// The bytes that were written since the last wait for the disk began.
    unsynced: u64,
    /// Whether the disk has failed to take something.
    is_lost: bool,
}

impl<'a> Appending<'a> {
    /// Appends to a file of which the first `at` bytes have arrived.
    pub(crate) fn new(writing: &'a Writing, at: u64, size: u64) -> Self {
        Self {
            writing,
            size,
            at,
            collected: Vec::new(),
            spare: Vec::new(),
            written: VecDeque::new(),
            written_to: at,
            synced: None,
            unsynced: 0,
            is_lost: false,
        }
    }

    /// Returns how many bytes of the file there are, with those that are not written yet.
    pub(crate) fn reached(&self) -> u64 {
        self.at + self.collected.len() as u64
    }

    /// Appends bytes. Waits while too many of those before them are not written yet. After an error nothing more is appended. If the disk
    /// has failed to take something, the file ends then with what it has taken for certain.
    pub(crate) async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let appended = self.collect(bytes).await;
        if appended.is_err() {
            self.settle().await;
        }
        appended
    }

    /// Waits until the disk has everything. Returns how many bytes of the file have arrived. After an error it is as for
    /// [`Appending::append`].
    pub(crate) async fn finish(mut self) -> io::Result<u64> {
        let finished = self.write_rest().await;
        if finished.is_err() {
            self.settle().await;
        }
        finished.map(|()| self.at)
    }

    async fn collect(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let piece = self.writing.piece(self.at);
            if self.collected.capacity() == 0 {
                // A buffer never grows. A small file needs a small one.
                let left = usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(piece);
                self.collected.reserve_exact(left.clamp(1, piece));
            }
            let room = piece.saturating_sub(self.collected.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.collected.extend_from_slice(now);
            bytes = later;
            if self.collected.len() >= piece {
                self.write().await?;
            }
        }
        Ok(())
    }

    async fn write_rest(&mut self) -> io::Result<()> {
        if !self.collected.is_empty() {
            self.write().await?;
        }
        self.all_written().await?;
        self.synced().await?;
        // After a power failure, the offset must not count bytes that the disk does not have.
        let synced = self.writing.sync().await;
        self.is_lost |= synced.is_err();
        synced
    }

    /// Waits for what was begun: until it ends, it keeps the file locked. Then removes what the disk may not have: the system tells such a
    /// failure once, and whoever goes on with the upload would wait for the disk in vain.
    async fn settle(&mut self) {
        // The first failure was told.
        while !self.written.is_empty() {
            drop(self.oldest_written().await);
        }
        drop(self.synced().await);
        if self.is_lost
            && let Err(error) = self.writing.cut_unsynced().await
        {
            // The next request tries again before it goes on.
            tracing::error!(%error, "the end of an upload may not be on the disk, and cannot be removed");
        }
    }

    /// Gives what is collected to be written, when there is room for it.
    async fn write(&mut self) -> io::Result<()> {
        while self.written.len() >= AHEAD {
            self.oldest_written().await?;
        }
        let piece = std::mem::take(&mut self.collected);
        let length = piece.len() as u64;
        match self.writing.write(self.at, piece).await? {
            Some(begun) => self.written.push_back((begun, length)),
            None => self.written_to += length,
        }
        self.collected = self.spare.pop().unwrap_or_default();
        self.at += length;
        self.unsynced += length;
        if self.unsynced >= UNSYNCED {
            // A disk that is slower than the network holds up the client.
            self.synced().await?;
            // The last pieces may not be written yet.
            self.synced = self.writing.begin_sync(self.written_to)?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Waits until all that was given is written.
    async fn all_written(&mut self) -> io::Result<()> {
        while !self.written.is_empty() {
            self.oldest_written().await?;
        }
        Ok(())
    }

    /// Waits until the oldest piece is written.
    async fn oldest_written(&mut self) -> io::Result<()> {
        if let Some((begun, length)) = self.written.pop_front() {
            let mut piece = begun.done().await?;
            self.written_to += length;
            piece.clear();
            self.spare.push(piece);
        }
        Ok(())
    }

    /// Waits for the disk if that has begun. Its failure is told once, so it must not be missed.
    async fn synced(&mut self) -> io::Result<()> {
        let Some(synced) = self.synced.take() else { return Ok(()) };
        let done = synced.done().await;
        self.is_lost |= done.is_err();
        done
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::media::{Files, Version};

    fn noise(length: u32) -> Vec<u8> {
        (0..length).map(|index| (index.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect()
    }

    fn hash(bytes: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&Sha256::digest(bytes))
    }

    /// Appends in parts of a size that is no part of a piece.
    async fn append(writing: &Writing, (at, size): (u64, u64), bytes: &[u8]) -> u64 {
        let mut appending = Appending::new(writing, at, size);
        for part in bytes.chunks(16_000) {
            appending.append(part).await.unwrap();
            // A buffer that grew would take twice as much.
            let most = writing.piece(0);
            let mut buffers = appending.spare.iter().chain([&appending.collected]);
            assert!(buffers.all(|buffer| buffer.capacity() <= most));
            assert!(appending.written.len() + appending.spare.len() <= AHEAD, "too many buffers");
        }
        assert_eq!(appending.reached(), at + bytes.len() as u64);
        appending.finish().await.unwrap()
    }

    #[tokio::test]
    async fn what_is_appended_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::in_folder(&dir.path().join("media"));
        // More than is synced at once, and an end that is no whole piece.
        let bytes = noise(5_000_003);
        let size = bytes.len() as u64;
        let (first, rest) = bytes.split_at(1_700_001);
        let writing = files.write(7, Duration::ZERO).await.unwrap().unwrap();
        assert_eq!(append(&writing, (0, size), first).await, 1_700_001);
        drop(writing);
        let writing = files.write(7, Duration::ZERO).await.unwrap().unwrap();
        assert_eq!(writing.begin(0).await.unwrap(), 1_700_001);
        assert_eq!(append(&writing, (1_700_001, size), rest).await, size);
        // Nothing more has arrived.
        assert_eq!(append(&writing, (size, size), b"").await, size);
        assert_eq!(writing.finish(size, hash(b"other")).await.unwrap(), None);
        assert_eq!(writing.finish(size, hash(&bytes)).await.unwrap().as_deref(), bytes.get(..4_096));
        drop(writing);
        let content = files.open_file(7, Version::Original).await.unwrap().unwrap();
        assert!(content.read(0, size).await.unwrap() == bytes, "the file differs");
    }

    #[tokio::test]
    async fn the_hash_goes_on_over_another_connection_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("media");
        let files = Files::in_folder(&root);
        let path = root.join(super::super::place(7, Version::Original));
        let bytes = noise(400_000);
        let writing = files.write(7, Duration::ZERO).await.unwrap().unwrap();
        append(&writing, (0, 400_000), &bytes[..150_000]).await;
        drop(writing);
        // Nobody reads these bytes again, so it does not show that they change without a trace.
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        let change = |byte: u8, later: Duration| {
            use std::io::{Seek, SeekFrom, Write};
            let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.seek(SeekFrom::Start(5)).unwrap();
            file.write_all(&[byte]).unwrap();
            file.set_modified(modified + later).unwrap();
        };
        change(!bytes[5], Duration::ZERO);
        let writing = files.write(7, Duration::ZERO).await.unwrap().unwrap();
        append(&writing, (150_000, 400_000), &bytes[150_000..300_000]).await;
        drop(writing);
        // After a restart nothing is known, and the file is read: it shows.
        drop(files);
        let files = Files::in_folder(&root);
        let writing = files.write(7, Duration::ZERO).await.unwrap().unwrap();
        append(&writing, (300_000, 400_000), &bytes[300_000..]).await;
        assert_eq!(writing.finish(400_000, hash(&bytes)).await.unwrap(), None);
        drop(writing);
        change(bytes[5], Duration::from_secs(1));
        let writing = files.write(7, Duration::ZERO).await.unwrap().unwrap();
        assert!(writing.finish(400_000, hash(&bytes)).await.unwrap().is_some());
        drop(writing);
        // The same without a restart: the hash is that of what arrived.
        let writing = files.write(8, Duration::ZERO).await.unwrap().unwrap();
        append(&writing, (0, 400_000), &bytes[..150_000]).await;
        drop(writing);
        let path = root.join(super::super::place(8, Version::Original));
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&path, vec![0; 150_000]).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
        drop(file);
        let writing = files.write(8, Duration::ZERO).await.unwrap().unwrap();
        append(&writing, (150_000, 400_000), &bytes[150_000..]).await;
        assert!(writing.finish(400_000, hash(&bytes)).await.unwrap().is_some());
    }

    /// Appends bytes that the disk fails to take.
    async fn append_in_vain(writing: &Writing, (at, size): (u64, u64), bytes: &[u8]) {
        let mut appending = Appending::new(writing, at, size);
        appending.append(bytes).await.unwrap();
        appending.finish().await.unwrap_err();
    }

    #[tokio::test]
    async fn what_the_disk_has_failed_to_take_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("media");
        let files = Files::in_folder(&root);
        let bytes = noise(5_000_003);
        let size = bytes.len() as u64;
        let resume = async || {
            let writing = files.write(7, Duration::ZERO).await.unwrap().unwrap();
            let at = writing.begin(0).await.unwrap();
            (writing, at)
        };

        // It fails in the end: what the request before has left stays, and the hash goes on from there.
        let (writing, _) = resume().await;
        append(&writing, (0, size), &bytes[..300_000]).await;
        drop(writing);
        let (writing, at) = resume().await;
        writing.fail_sync_after(0);
        append_in_vain(&writing, (at, size), &[7; 100_000]).await;
        drop(writing);
        let (writing, at) = resume().await;
        assert_eq!(at, 300_000);
        append(&writing, (at, size), &bytes[300_000..]).await;
        assert!(writing.finish(size, hash(&bytes)).await.unwrap().is_some());

        // It fails while more arrives: what it has taken before stays.
        writing.truncate(0).await.unwrap();
        writing.fail_sync_after(1);
        append_in_vain(&writing, (0, size), &bytes).await;
        let taken = UNSYNCED - (AHEAD * writing.piece(0)) as u64;
        drop(writing);
        let (writing, at) = resume().await;
        assert_eq!(at, taken);
        let (_, rest) = bytes.split_at(usize::try_from(taken).unwrap());
        append(&writing, (taken, size), rest).await;
        assert!(writing.finish(size, hash(&bytes)).await.unwrap().is_some());
        drop(writing);

        // After a restart nobody knows what the disk has: all of it, or nothing.
        drop(files);
        let files = Files::in_folder(&root);
        let writing = files.write(7, Duration::ZERO).await.unwrap().unwrap();
        writing.fail_sync_after(0);
        writing.finish(size, hash(&bytes)).await.unwrap_err();
        assert_eq!(files.received(7).await.unwrap(), 0);
        // A file does not become longer by removing its end.
        writing.truncate(size).await.unwrap();
        assert_eq!(files.received(7).await.unwrap(), 0);
        append(&writing, (0, size), &bytes).await;
        assert!(writing.finish(size, hash(&bytes)).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn an_upload_goes_on_when_what_the_disk_has_failed_to_take_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::in_folder(&dir.path().join("media"));
        let bytes = noise(400_000);
        let size = bytes.len() as u64;
        let path = dir.path().join("media").join(super::super::place(7, Version::Original));
        let length = || std::fs::metadata(&path).unwrap().len();
        let take = async || files.write(7, Duration::ZERO).await.unwrap().unwrap();

        let writing = take().await;
        append(&writing, (0, size), &bytes[..300_000]).await;
        writing.fail_sync_after(0);
        writing.keep_all(true);
        append_in_vain(&writing, (300_000, size), &[7; 50_000]).await;
        drop(writing);
        assert_eq!((length(), files.received(7).await.unwrap()), (350_000, 300_000));
        // Each request tries again.
        for _ in 0..2 {
            let writing = take().await;
            writing.keep_all(true);
            assert_eq!(writing.begin(350_000).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
        // A request that does not try changes nothing.
        drop(take().await);
        assert_eq!((length(), files.received(7).await.unwrap()), (350_000, 300_000));
        let writing = take().await;
        assert_eq!(writing.begin(350_000).await.unwrap(), 300_000);
        assert_eq!(length(), 300_000);
        append(&writing, (300_000, size), &bytes[300_000..]).await;
        assert!(writing.finish(size, hash(&bytes)).await.unwrap().is_some());
        drop(writing);
        assert_eq!(files.received(7).await.unwrap(), size);

        // What begins anew needs nothing removed.
        let writing = take().await;
        writing.fail_sync_after(0);
        writing.keep_all(true);
        append_in_vain(&writing, (0, size), &[7; 50_000]).await;
        writing.truncate(0).await.unwrap();
        assert_eq!(writing.begin(0).await.unwrap(), 0);
        drop(writing);
        assert!(files.uncut.lock().is_empty());
    }

    #[tokio::test]
    async fn a_file_that_another_node_has_written_to_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (Files::in_folder(&dir.path().join("media")), Files::in_folder(&dir.path().join("media")));
        let bytes = noise(300_000);
        let writing = here.write(7, Duration::ZERO).await.unwrap().unwrap();
        append(&writing, (0, 300_000), &vec![7; 100_000]).await;
        drop(writing);
        let writing = there.write(7, Duration::ZERO).await.unwrap().unwrap();
        writing.truncate(0).await.unwrap();
        append(&writing, (0, 300_000), &bytes[..200_000]).await;
        drop(writing);
        let writing = here.write(7, Duration::ZERO).await.unwrap().unwrap();
        append(&writing, (200_000, 300_000), &bytes[200_000..]).await;
        assert!(writing.finish(300_000, hash(&bytes)).await.unwrap().is_some());
        // A file that was removed meanwhile is not there, even if somebody has it open.
        here.remove(7).await.unwrap();
        let gone = writing.finish(300_000, hash(&bytes)).await.unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
