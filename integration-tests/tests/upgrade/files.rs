//! Files that never change: released migrations and fixtures.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};

use crate::FIXTURE;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(FIXTURE)
}

/// Compares the files of a list in the format of `sha256sum` with the files on disk; returns their names.
fn check(list: &Path, root: &Path, what_to_do: &str) -> BTreeSet<PathBuf> {
    let mut names = BTreeSet::new();
    for line in fs::read_to_string(list).unwrap().lines() {
        let (sum, name) = line.split_once("  ").unwrap();
        let bytes = fs::read(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let now = zim_protocol::id::hex(digest(&SHA256, &bytes).as_ref());
        assert_eq!(now, sum, "{name} was changed: {what_to_do}");
        assert!(names.insert(name.into()), "{name} is listed twice");
    }
    assert!(!names.is_empty());
    names
}

#[test]
fn released_migrations_are_unchanged() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let what_to_do = "put the old text back, comments included, and write a new migration";
    let names = check(&fixture().join("migrations.sha256"), &root, what_to_do);
    for folder in ["server/migrations", "client-sdk/src/store/migrations"] {
        assert!(names.iter().any(|name| name.starts_with(folder)), "no file of {folder} is listed");
    }
}

#[test]
fn fixtures_are_unchanged() {
    let mut listed =
        check(&fixture().join("files.sha256"), &fixture(), "a fixture never changes; tests work on a copy");
    // The README may change.
    listed.extend(["files.sha256", "README.md"].map(PathBuf::from));
    let mut folders = vec![fixture()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(fixture()).unwrap();
            assert!(listed.contains(name), "{} was added: a fixture never changes", name.display());
        }
    }
}
