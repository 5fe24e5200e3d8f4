//! Folders that only their owner can read.

use std::fs;
use std::path::Path;

/// Copies a folder. Only its owner can read the copy, whatever mode a checkout gave the original.
pub(crate) fn copy_private(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    restrict(to, 0o700);
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_private(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
            restrict(&target, 0o600);
        }
    }
}

/// Gives the data folder of a node the certificate, the keys and the first app of another node, as an operator does.
pub fn share_identity(from: &Path, to: &Path) {
    zim_files::create_folder(to).unwrap();
    for file in ["cert.pem", "key.pem", "transport.key", "admin.key", "first-app.toml"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

#[cfg(unix)]
fn restrict(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
fn restrict(_: &Path, _: u32) {}
