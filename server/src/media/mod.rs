//! The bytes of files: in a folder or in a bucket of an object store, who writes to one, small versions of pictures, and first frames
//! of films. The rows about them belong to `service/media`.

mod appending;
mod bucket;
mod content;
mod credentials;
mod disk;
mod folder;
mod frame;
mod hashed;
mod orphans;
mod owners;
mod picture;
mod refs;
mod writing;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) use self::appending::Appending;
use self::bucket::Bucket;
pub(crate) use self::bucket::BucketAddress;
pub(crate) use self::content::Content;
pub(crate) use self::credentials::Credentials;
use self::disk::Disk;
use self::folder::Folder;
use self::frame::{FrameError, Frames};
use self::hashed::Hashes;
pub(crate) use self::orphans::FOLDERS;
pub(crate) use self::owners::Claim;
pub(crate) use self::picture::{PictureError, Versions};
pub(crate) use self::refs::{lock, refer};
pub(crate) use self::writing::Writing;
use self::writing::{Turns, Uncut};
use crate::db::{Tx, params};
use crate::effect::{Effect, Queue};
use crate::error::Error;

/// The number of the kind of entries in the outbox that remove a file. The file is removed after the commit that deletes its row.
pub(crate) const REMOVAL: i64 = 70;

/// Pictures that are unpacked at the same time: each takes four bytes for each pixel, eight with 16-bit colors.
const PICTURES_AT_ONCE: usize = 2;
/// Films whose first frames are made at the same time. Pictures do not wait for them: each may take seconds.
const FILMS_AT_ONCE: usize = 2;
/// What the name of a copy of a film ends with.
const COPY: &str = ".film";
/// How often an object store is asked whether it works.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// A version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// As it was uploaded.
    Original,
    /// The large version of a picture, or the first frame of a film.
    Large,
    /// The thumbnail of a picture.
    Thumbnail,
}

impl Version {
    /// All versions.
    pub(crate) const ALL: [Self; 3] = [Self::Original, Self::Large, Self::Thumbnail];

    /// Returns the last part of its URL.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Original => "",
            Self::Large => "large",
            Self::Thumbnail => "thumbnail",
        }
    }
}

/// The files of a server.
#[derive(Debug)]
pub(crate) struct Files {
    store: Store,
    turns: Turns,
    /// Writes the files of uploads in a folder.
    disk: Disk,
    /// What is known of the hashes of uploads that nobody writes to.
    hashes: Hashes,
    /// Uploads that do not go on until the disk lets their ends be removed.
    uncut: Uncut,
    pictures: Arc<Semaphore>,
    films_at_once: Arc<Semaphore>,
    /// Makes first frames of films, if the settings name a program for it.
    frames: Option<Frames>,
    films: PathBuf,
    recheck: Duration,
}

/// How files are kept, as the settings say.
#[derive(Clone, Debug)]
pub(crate) struct Options<'a> {
    pub(crate) location: Location<'a>,
    /// The most pieces of an upload in a bucket.
    pub(crate) max_pieces: u32,
    /// The program that makes first frames of films, and the time that it has; `None`: films have no first frames.
    pub(crate) frames: Option<(PathBuf, Duration)>,
    /// The folder where films from a bucket are while their first frames are made.
    pub(crate) films: PathBuf,
    /// How often an object store that does not work is asked whether it does.
    pub(crate) recheck: Duration,
}

/// Where the files are, as the settings say.
#[derive(Clone, Debug)]
pub(crate) enum Location<'a> {
    Folder(PathBuf),
    Bucket(BucketAddress<'a>),
}

/// Where the files are.
#[derive(Debug)]
enum Store {
    Folder(Folder),
    Bucket(Arc<Bucket>),
}

/// Returns in which of the 256 folders a file is.
pub(crate) fn folder_of(id: i64) -> i64 {
    // The lowest bits of an ID are the number of the node.
    (id >> 6) & 0xff
}

/// Returns where a file is in its folder or bucket.
fn place(id: i64, version: Version) -> String {
    let folder = folder_of(id);
    match version {
        Version::Original => format!("{folder:02x}/{id}"),
        _ => format!("{folder:02x}/{id}.{}", version.name()),
    }
}

impl Files {
    /// The files where the settings say.
    ///
    /// # Errors
    /// The credentials of the object store cannot be read; the text says so.
    pub(crate) fn open(options: Options<'_>) -> Result<Arc<Self>, String> {
        let Options { location, max_pieces, frames, films, recheck } = options;
        let store = match location {
            Location::Bucket(address) => Store::Bucket(Arc::new(Bucket::open(address, max_pieces)?)),
            Location::Folder(root) => Store::Folder(Folder::new(root)),
        };
        remove_copies(&films);
        Ok(Arc::new(Self {
            store,
            turns: Turns::default(),
            disk: Disk::default(),
            hashes: Hashes::default(),
            uncut: Uncut::default(),
            pictures: Arc::new(Semaphore::new(PICTURES_AT_ONCE)),
            films_at_once: Arc::new(Semaphore::new(FILMS_AT_ONCE)),
            frames: frames.map(|(program, within)| Frames::new(program, within)),
            films,
            recheck,
        }))
    }

    /// Whether the bytes of an upload are in pieces, which are removed when it is complete.
    pub(crate) fn has_pieces(&self) -> bool {
        matches!(self.store, Store::Bucket(_))
    }

    /// Returns how many bytes of a file have arrived.
    pub(crate) async fn received(&self, id: i64) -> io::Result<u64> {
        match &self.store {
            Store::Folder(folder) => {
                let received = folder.received(id).await?;
                // What could not be removed does not count.
                Ok(self.uncut.lock().get(&id).map_or(received, |synced| received.min(*synced)))
            }
            Store::Bucket(bucket) => bucket.received(id).await,
        }
    }

    /// Opens a file to read it; `None`: there is no such file.
    pub(crate) async fn open_file(&self, id: i64, version: Version) -> io::Result<Option<Content>> {
        match &self.store {
            Store::Folder(folder) => folder.open(id, version).await,
            Store::Bucket(bucket) => Arc::clone(bucket).open_object(id, version).await,
        }
    }

    /// Returns the URL at which a client gets a file from the object store for some time, with headers that it answers with. `None`:
    /// the files are in a folder.
    pub(crate) async fn url(
        &self,
        (id, version): (i64, Version),
        headers: &[(&str, &str)],
        valid: Duration,
    ) -> io::Result<Option<String>> {
        match &self.store {
            Store::Folder(_) => Ok(None),
            Store::Bucket(bucket) => bucket.url((id, version), headers, valid).await.map(Some),
        }
    }

    /// Makes the small versions of a picture.
    pub(crate) async fn make_versions(&self, id: i64, max_pixels: u32) -> Result<Versions, PictureError> {
        // Never closed.
        let permit = Arc::clone(&self.pictures).acquire_owned().await.ok();
        let original = match &self.store {
            Store::Folder(folder) => picture::Source::File(folder.path(id, Version::Original)),
            Store::Bucket(bucket) => picture::Source::Bytes(bucket.whole(id).await.map_err(PictureError::Io)?),
        };
        let made = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            picture::make(original, max_pixels)
        });
        // A decoder that panics has met a file that it cannot read.
        let made = made.await.unwrap_or(Err(PictureError::Unreadable))?;
        for (version, bytes) in [(Version::Large, made.large), (Version::Thumbnail, made.thumbnail)] {
            self.put(id, version, bytes).await.map_err(PictureError::Io)?;
        }
        Ok(made.sizes)
    }

    /// Makes the first frame of a film, and returns its width and height. `None`: there is none, because the settings name no program
    /// for it, or because it fails.
    pub(crate) async fn make_first_frame(&self, id: i64, max_pixels: u32) -> Option<(u32, u32)> {
        let frames = self.frames.as_ref()?;
        let made = self.first_frame(frames, id, max_pixels).await;
        frames.note(made.as_ref().err());
        made.ok()
    }

    async fn first_frame(&self, frames: &Frames, id: i64, max_pixels: u32) -> Result<(u32, u32), FrameError> {
        // A client waits. Never closed.
        let permit = timeout(frames.within, Arc::clone(&self.films_at_once).acquire_owned()).await;
        let permit = permit.map_err(|_| FrameError::Busy)?.ok();
        let frame = match &self.store {
            Store::Folder(folder) => frames.of(&folder.path(id, Version::Original)).await?,
            Store::Bucket(bucket) => {
                let film = timeout(frames.within, bucket.fetch(id, &self.films)).await;
                let film = film.map_err(|_| FrameError::Slow)?.map_err(FrameError::Store)?;
                frames.of(film.path()).await?
            }
        };
        let made = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            picture::make(picture::Source::Bytes(frame.into()), max_pixels.min(frame::PIXELS))
        });
        let made = made.await.unwrap_or(Err(PictureError::Unreadable));
        let made = made.map_err(|_| FrameError::Failed("it is none".to_owned()))?;
        self.put(id, Version::Large, made.large).await.map_err(FrameError::Store)?;
        Ok(made.sizes.large)
    }

    async fn put(&self, id: i64, version: Version, bytes: Vec<u8>) -> io::Result<()> {
        match &self.store {
            Store::Folder(folder) => folder.put(id, version, bytes).await,
            Store::Bucket(bucket) => bucket.put_version(id, version, bytes).await,
        }
    }

    /// Removes a file with its versions.
    pub(crate) async fn remove(&self, id: i64) -> io::Result<()> {
        match &self.store {
            Store::Folder(folder) => {
                folder.remove(id).await?;
                self.uncut.lock().remove(&id);
                Ok(())
            }
            Store::Bucket(bucket) => bucket.remove(id).await,
        }
    }

    /// Returns why an object store does not work, if it is known not to.
    pub(crate) fn problem(&self) -> Option<String> {
        match &self.store {
            Store::Folder(_) => None,
            Store::Bucket(bucket) => bucket.problem(),
        }
    }

    /// Looks until `end` whether an object store works, so that the operator learns of it before users do.
    pub(crate) async fn watch(self: Arc<Self>, end: CancellationToken) {
        let Store::Bucket(bucket) = &self.store else { return };
        let mut waited = CHECK_INTERVAL;
        loop {
            if waited >= CHECK_INTERVAL || bucket.problem().is_some() {
                tokio::select! {
                    () = bucket.check() => {}
                    () = end.cancelled() => return,
                }
                waited = Duration::ZERO;
            }
            if timeout(self.recheck, end.cancelled()).await.is_ok() {
                return;
            }
            waited += self.recheck;
        }
    }
}

/// Removes the copies of films that a server has left that was killed, and nothing else: the folder may be somebody's.
fn remove_copies(films: &Path) {
    for entry in std::fs::read_dir(films).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(COPY));
        if id.is_some_and(|id| id.parse::<i64>().is_ok()) {
            // It is tried again at the next start.
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

/// Whether a failure of the store is that it cannot be reached or is overloaded: the same request may succeed later.
pub(crate) fn is_away(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotConnected | io::ErrorKind::TimedOut)
}

/// Deletes the row of a file, and removes the file after the commit.
///
/// # Errors
/// The store fails.
pub(crate) async fn delete(tx: &mut Tx<'_>, id: i64, now: i64) -> Result<(), Error> {
    tx.execute("DELETE FROM media WHERE id = $1", &params![id]).await?;
    let sql = "INSERT INTO outbox (id, kind, cause, cursor, next_at, attempts, last_error) VALUES ($1, $2, $1, 0, $3, 0, '') \
               ON CONFLICT (id) DO NOTHING";
    tx.execute(sql, &params![id, REMOVAL, now]).await?;
    tx.emit(Effect::Due { queue: Queue::Outbox, at: now });
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sha2::{Digest, Sha256};

    use super::*;

    impl Files {
        /// The files in this folder.
        pub(super) fn in_folder(root: &Path) -> Arc<Self> {
            let (location, films) = (Location::Folder(root.to_owned()), root.join("films"));
            let recheck = Duration::from_secs(5);
            Self::open(Options { location, max_pieces: 1_000, frames: None, films, recheck }).unwrap()
        }
    }

    #[test]
    fn a_start_removes_copies_of_films_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let films = dir.path().join("films");
        std::fs::create_dir_all(films.join("66.film")).unwrap();
        for name in ["65.film", "holiday.film", "65", "66.film/67.film"] {
            std::fs::write(films.join(name), name).unwrap();
        }
        drop(Files::in_folder(dir.path()));
        assert!(!films.join("65.film").exists());
        assert!(["holiday.film", "65", "66.film/67.film"].iter().all(|name| films.join(name).exists()));
    }

    #[tokio::test]
    async fn a_picture_is_unpacked_when_few_others_are() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::in_folder(dir.path());
        let mut picture = io::Cursor::new(Vec::new());
        image::DynamicImage::new_rgb8(4, 2).write_to(&mut picture, image::ImageFormat::Png).unwrap();
        let path = dir.path().join(place(65, Version::Original));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, picture.into_inner()).unwrap();
        let others = Arc::clone(&files.pictures).acquire_many_owned(u32::try_from(PICTURES_AT_ONCE).unwrap());
        let others = others.await.unwrap();
        let mut made = Box::pin(files.make_versions(65, 100));
        assert!(futures_util::poll!(&mut made).is_pending());
        drop(others);
        assert_eq!(files.pictures.available_permits(), PICTURES_AT_ONCE - 1, "it waits for one of them");
        assert_eq!(made.await.unwrap().large, (4, 2));
        assert_eq!(files.pictures.available_permits(), PICTURES_AT_ONCE);
    }

    #[tokio::test]
    async fn files_are_written_examined_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::in_folder(&dir.path().join("media"));
        assert_eq!(files.received(65).await.unwrap(), 0);
        for (at, bytes) in [(0, "one "), (4, "two")] {
            let writing = files.write(65, Duration::ZERO).await.unwrap().unwrap();
            let mut appending = Appending::new(&writing, at, 7);
            appending.append(bytes.as_bytes()).await.unwrap();
            assert_eq!(appending.finish().await.unwrap(), at + bytes.len() as u64);
        }
        assert_eq!(files.received(65).await.unwrap(), 7);
        let hash = |text: &str| Bytes::copy_from_slice(&Sha256::digest(text));
        let writing = files.write(65, Duration::ZERO).await.unwrap().unwrap();
        assert_eq!(writing.finish(7, hash("one two")).await.unwrap(), Some(b"one two".to_vec()));
        assert_eq!(writing.finish(7, hash("one")).await.unwrap(), None);
        drop(writing);
        let content = async || files.open_file(65, Version::Original).await.unwrap().unwrap();
        assert_eq!((content().await.size(), content().await.first()), (7, &b"one two"[..]));
        assert_eq!(content().await.read(4, 100).await.unwrap(), "two");
        assert_eq!(content().await.read(7, 100).await.unwrap(), "");
        files.remove(65).await.unwrap();
        files.remove(65).await.unwrap();
        assert!(files.open_file(65, Version::Original).await.unwrap().is_none());
    }
}
