//! Whose files are in the store. Each deployment leaves its name there, so that none takes the files of another one for its own that no
//! row knows.

use std::io;
use std::path::Path;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};

use super::bucket::{Bucket, What};
use super::folder::Folder;
use super::{Files, Store};

/// The folder of the store that has the names.
const OWNERS: &str = "owners";

/// What a deployment has found in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Whether its own name was there before.
    pub(crate) was_there: bool,
    /// The names of others.
    pub(crate) others: Vec<String>,
}

impl Claim {
    fn of(found: impl IntoIterator<Item = String>, own: &str) -> Self {
        let mut claim = Self::default();
        for name in found {
            // A name that was not written to its end is there again, whole.
            if name == own {
                claim.was_there = true;
            } else if !name.ends_with(zim_files::DRAFT) {
                claim.others.push(name);
            }
        }
        claim
    }
}

impl Files {
    /// Leaves the name of a deployment in the store, and returns what was there before. A folder that does not exist yet has no names.
    pub(crate) async fn claim(&self, own: &str) -> io::Result<Claim> {
        match &self.store {
            Store::Folder(store) => store.claim(own.to_owned()).await,
            Store::Bucket(bucket) => bucket.claim(own).await,
        }
    }
}

impl Folder {
    async fn claim(&self, own: String) -> io::Result<Claim> {
        let root = self.root().to_owned();
        tokio::task::spawn_blocking(move || claim(&root, &own)).await.map_err(io::Error::other)?
    }
}

fn claim(root: &Path, own: &str) -> io::Result<Claim> {
    if !root.is_dir() {
        return Ok(Claim::default());
    }
    let folder = root.join(OWNERS);
    zim_files::create_folder(&folder)?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        found.push(entry?.file_name().to_string_lossy().into_owned());
    }
    let claim = Claim::of(found, own);
    if !claim.was_there {
        zim_files::write(&folder.join(own), b"")?;
    }
    Ok(claim)
}

impl Bucket {
    async fn claim(&self, own: &str) -> io::Result<Claim> {
        let folder = self.folder(OWNERS);
        let listed = self.objects().list(Some(&folder)).try_collect::<Vec<_>>();
        let listed = self.asked(What::Read, listed).await?;
        let claim = Claim::of(listed.iter().filter_map(|object| object.location.filename()).map(str::to_owned), own);
        if !claim.was_there {
            // Some stores take no empty objects.
            let text = Bytes::copy_from_slice(own.as_bytes());
            self.asked(What::Write, self.objects().put(&folder.join(own), text.into())).await?;
        }
        Ok(claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deployment_finds_its_name_and_those_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("media");
        let files = Files::in_folder(&root);
        assert_eq!(files.claim("aa").await.unwrap(), Claim::default());
        assert!(!root.exists(), "a folder that may not be mounted is not made");
        std::fs::create_dir(&root).unwrap();
        assert_eq!(files.claim("aa").await.unwrap(), Claim::default());
        assert_eq!(files.claim("aa").await.unwrap(), Claim { was_there: true, others: Vec::new() });
        // Another database with the same folder.
        let other = Files::in_folder(&root);
        assert_eq!(other.claim("bb").await.unwrap(), Claim { was_there: false, others: vec!["aa".to_owned()] });
        assert_eq!(files.claim("aa").await.unwrap(), Claim { was_there: true, others: vec!["bb".to_owned()] });
        std::fs::remove_file(root.join(OWNERS).join("bb")).unwrap();
        std::fs::write(root.join(OWNERS).join("bb.x1.new"), "").unwrap();
        assert_eq!(files.claim("aa").await.unwrap(), Claim { was_there: true, others: Vec::new() });
    }
}
