//! The id of this installation.

use std::path::Path;

use zim_protocol::{ErrorCode, id};

use crate::error::Error;

const FILE: &str = "device-id";

/// Returns the id that is stored in `folder`, and creates it at the first start. Without a folder the id is random.
pub(crate) fn id(folder: Option<&Path>) -> Result<[u8; 16], Error> {
    let mut fresh = [0; 16];
    getrandom::fill(&mut fresh)
        .map_err(|error| Error::new(ErrorCode::Failed, "the system cannot provide random bytes").with_source(error))?;
    let Some(folder) = folder else { return Ok(fresh) };
    let failed = |error: std::io::Error| {
        let message = format!("{} cannot be used: {error}", folder.display());
        Error::new(ErrorCode::DatabaseModuleOpenDatabaseError, message).with_source(error)
    };
    zim_files::create_folder(folder).map_err(failed)?;
    let file = folder.join(FILE);
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            zim_files::close_to_others(&file);
            if let Some(known) = id::from_hex(text.trim()) {
                return Ok(known);
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    // The write is atomic: of two processes that start at once, neither sees half a file.
    zim_files::write(&file, id::hex(&fresh).as_bytes()).map_err(failed)?;
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_keeps_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let first = id(Some(folder.path())).unwrap();
        assert_eq!(id(Some(folder.path())).unwrap(), first);
        assert_ne!(id(None).unwrap(), first);
    }

    #[cfg(unix)]
    #[test]
    fn other_users_cannot_read_the_id() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let (folder, file) = (folder.path().join("data"), folder.path().join("data/device-id"));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let first = id(Some(&folder)).unwrap();
        assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));
        // As an older version left it.
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(id(Some(&folder)).unwrap(), first);
        assert_eq!(mode(&file), 0o600);
    }
}
