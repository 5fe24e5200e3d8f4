//! What names this installation for good.

use std::path::Path;

use zim_protocol::{ErrorCode, id};

use crate::error::Error;

const FILE: &str = "device-id";

/// The id kept in `folder`, made at the first start; a fresh one where nothing is kept.
pub(crate) fn id(folder: Option<&Path>) -> Result<[u8; 16], Error> {
    let mut fresh = [0; 16];
    getrandom::fill(&mut fresh)
        .map_err(|error| Error::new(ErrorCode::Failed, "the system gives no random bytes").with_source(error))?;
    let Some(folder) = folder else { return Ok(fresh) };
    let failed = |error: std::io::Error| {
        let message = format!("{} cannot be used: {error}", folder.display());
        Error::new(ErrorCode::DatabaseModuleOpenDatabaseError, message).with_source(error)
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let file = folder.join(FILE);
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            if let Some(known) = id::from_hex(text.trim()) {
                return Ok(known);
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    // Complete or not there: two processes that start at once never see half of it.
    let draft = folder.join(format!("{FILE}.{}", id::hex(&fresh[..4])));
    std::fs::write(&draft, id::hex(&fresh)).map_err(failed)?;
    std::fs::rename(&draft, &file).map_err(failed)?;
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let first = id(Some(folder.path())).unwrap();
        assert_eq!(id(Some(folder.path())).unwrap(), first);
        assert_ne!(id(None).unwrap(), first);
    }
}
