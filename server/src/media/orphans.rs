//! What is in the store: to find files that no row knows.

use std::fs::DirEntry;
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use futures_util::TryStreamExt;
use object_store::ObjectStore;

use super::bucket::{Bucket, What};
use super::folder::Folder;
use super::{Files, Store, Version, folder_of};

/// The folders over which files are spread.
pub(crate) const FOLDERS: i64 = 256;

/// Something in the store that belongs to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The ID of the file.
    pub(crate) id: i64,
    /// Whether a complete file does not need it: it is a piece of its upload, or a version that was not written to its end.
    pub(crate) is_rest: bool,
    /// When it was written last, Unix milliseconds.
    pub(crate) written_at: i64,
}

/// What is looked for in a folder of the store.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    folder: i64,
    /// When it was written at the latest.
    until: i64,
}

impl Wanted {
    /// What somebody has put into the wrong folder is not the file that its name says.
    fn has(self, found: &Found) -> bool {
        found.written_at <= self.until && folder_of(found.id) == self.folder
    }
}

/// Returns of which file something in a folder of the store is, and whether a complete file does not need it. `None`: it is none of
/// this server's.
fn read_name(name: &str) -> Option<(i64, bool)> {
    let (id, rest) = name.split_once('.').unwrap_or((name, ""));
    let number: i64 = id.parse().ok().filter(|number: &i64| *number > 0 && number.to_string() == id)?;
    let is_version = Version::ALL.iter().any(|version| version.name() == rest);
    let is_rest = rest == "parts" || rest.ends_with(zim_files::DRAFT);
    (is_version || is_rest).then_some((number, is_rest))
}

impl Files {
    /// Returns what is in one of the folders of the store, from 0 to 255, and was written at `until` or before, Unix milliseconds.
    pub(crate) async fn list(&self, folder: i64, until: i64) -> io::Result<Vec<Found>> {
        let name = format!("{folder:02x}");
        let wanted = Wanted { folder, until };
        match &self.store {
            Store::Folder(store) => store.list(name, wanted).await,
            Store::Bucket(bucket) => bucket.list(&name, wanted).await,
        }
    }

    /// Removes what a complete file does not need.
    pub(crate) async fn remove_rest(&self, id: i64) -> io::Result<()> {
        match &self.store {
            Store::Folder(store) => store.remove_rest(id).await,
            Store::Bucket(bucket) => bucket.truncate(id, 0).await,
        }
    }
}

impl Folder {
    async fn list(&self, name: String, wanted: Wanted) -> io::Result<Vec<Found>> {
        let path = self.root().join(name);
        tokio::task::spawn_blocking(move || list(&path, wanted)).await.map_err(io::Error::other)?
    }

    async fn remove_rest(&self, id: i64) -> io::Result<()> {
        let path = self.path(id, Version::Original);
        let removed = tokio::task::spawn_blocking(move || {
            for entry in entries(path.parent().unwrap_or(&path))? {
                let entry = entry?;
                let is_rest = entry.file_name().to_str().and_then(read_name) == Some((id, true));
                if is_rest && entry.file_type()?.is_file() {
                    std::fs::remove_file(entry.path())?;
                }
            }
            Ok::<_, io::Error>(())
        });
        removed.await.map_err(io::Error::other)?
    }
}

/// Returns what is in a folder, which may be missing.
fn entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<DirEntry>>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => Some(entries),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(entries.into_iter().flatten())
}

fn list(folder: &Path, wanted: Wanted) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in entries(folder)? {
        let entry = entry?;
        let Some((id, is_rest)) = entry.file_name().to_str().and_then(read_name) else { continue };
        // It may be removed meanwhile.
        let Ok(known) = entry.metadata() else { continue };
        if !known.is_file() {
            continue;
        }
        let written = known.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let one = Found { id, is_rest, written_at: i64::try_from(written.as_millis()).unwrap_or(i64::MAX) };
        if wanted.has(&one) {
            found.push(one);
        }
    }
    Ok(found)
}

impl Bucket {
    async fn list(&self, name: &str, wanted: Wanted) -> io::Result<Vec<Found>> {
        let folder = self.folder(name);
        let of_folder = |object: object_store::ObjectMeta| {
            // A piece is in a folder of its own.
            let mut parts = object.location.prefix_match(&folder)?;
            let (id, is_rest) = read_name(parts.next()?.as_ref())?;
            Some(Found { id, is_rest, written_at: object.last_modified.timestamp_millis() })
        };
        // Only this much is kept of what the store says: a folder may have very many objects.
        let found = async {
            let (mut listed, mut found) = (self.objects().list(Some(&folder)), Vec::new());
            while let Some(object) = listed.try_next().await? {
                found.extend(of_folder(object).filter(|one| wanted.has(one)));
            }
            Ok::<_, object_store::Error>(found)
        };
        self.asked(What::Read, found).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_file() {
        for (name, expected) in [
            ("65", Some((65, false))),
            ("65.large", Some((65, false))),
            ("65.thumbnail", Some((65, false))),
            ("65.parts", Some((65, true))),
            ("65.large.Ab1.new", Some((65, true))),
            ("65.jpg", None),
            ("065", None),
            ("-65", None),
            ("+65", None),
            ("0", None),
            ("notes", None),
            (".large", None),
            ("", None),
        ] {
            assert_eq!(read_name(name), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn a_folder_is_listed_and_its_drafts_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("media");
        let files = Files::in_folder(&root);
        let list = async |until| files.list(1, until).await.unwrap();
        assert!(list(i64::MAX).await.is_empty(), "there is none yet");
        std::fs::create_dir_all(root.join("01/66.parts")).unwrap();
        // The last one belongs into another folder.
        for name in ["65", "65.large", "65.large.x.new", "66.large.x.new", "notes", "129"] {
            std::fs::write(root.join("01").join(name), name).unwrap();
        }
        let listed = async || {
            let mut found: Vec<_> = list(i64::MAX).await.into_iter().map(|one| (one.id, one.is_rest)).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(listed().await, [(65, false), (65, false), (65, true), (66, true)]);
        let oldest = list(i64::MAX).await.iter().map(|found| found.written_at).min().unwrap();
        assert!(oldest > 1_600_000_000_000 && list(oldest - 1).await.is_empty() && !list(oldest).await.is_empty());
        files.remove_rest(65).await.unwrap();
        files.remove_rest(129).await.unwrap();
        assert_eq!(listed().await, [(65, false), (65, false), (66, true)]);
    }
}
