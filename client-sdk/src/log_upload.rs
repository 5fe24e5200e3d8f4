//! Uploads the log files of this device for the operator of the server.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use zim_protocol::{CreateLogUploadRequest, ErrorCode, MessageType};

use crate::error::Error;
use crate::log;
use crate::media::Failed;
use crate::zim::Zim;

/// How often an upload that broke off goes on.
const ATTEMPTS: u32 = 3;
/// The pause before that.
const PAUSE: Duration = Duration::from_secs(1);

impl Zim {
    /// Uploads the log files for the operator of the server, who reads them with `zim admin log` (reference: `uploadLog`). Call
    /// [`Zim::set_log_config`] with a folder first: what is in its files is uploaded, in a zip file. Calls at the same time share
    /// an upload, and of a device's logs within ten minutes the server keeps the last one, which has what the others have.
    ///
    /// # Errors
    /// - 6000121: nobody is logged in.
    /// - 6000010: there is no log to upload, or it could not be read or uploaded; the source of the error tells why.
    pub async fn upload_log(&self) -> Result<(), Error> {
        let account = self.account()?;
        let client = Arc::clone(self.client());
        let failed = |message: &str| Error::new(ErrorCode::CommonModuleUploadLogError, message.to_owned());
        let no_folder = || failed("the log goes to no folder; set one with set_log_config");
        if !log::is_in_a_folder() {
            return Err(no_folder());
        }
        let number = client.logs_uploaded();
        let _turn = client.log_upload.lock().await;
        if client.logs_uploaded() > number + 1 {
            // An upload that began after this call has what was to be uploaded.
            return Ok(());
        }
        let zipping = tokio::task::spawn_blocking(|| match log::open_files()? {
            Some((folder, files)) => zip_files(&folder, files).map(Some),
            None => Ok(None),
        });
        let zipped = zipping.await.map_err(io::Error::other).flatten();
        let zipped = zipped.map_err(|error| failed("the log cannot be read").with_source(error))?;
        let Some(path) = zipped.ok_or_else(no_folder)? else { return Err(failed("the log is empty")) };
        let uploaded = async {
            let file = account.media().read(path.0.to_string_lossy().into_owned(), MessageType::File).await?;
            let request = CreateLogUploadRequest {
                file_size: i64::try_from(file.size).unwrap_or(i64::MAX),
                sha256: Bytes::copy_from_slice(&file.sha256),
                host: account.media().host.clone(),
            };
            let mut attempts = 0;
            loop {
                let created = account.request(request.clone()).await?;
                if created.upload_url.is_empty() {
                    return Ok(());
                }
                attempts += 1;
                match account.media().upload(&created.upload_url, &file, Arc::new(|_| {})).await {
                    Ok(()) => return Ok(()),
                    Err(Failed::Finally(error)) => return Err(error),
                    Err(Failed::Later(error) | Failed::Restart(error)) if attempts == ATTEMPTS => return Err(error),
                    Err(Failed::Later(_) | Failed::Restart(_)) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        uploaded.await.map_err(|error: Error| failed("the log cannot be uploaded").with_source(error))?;
        client.count_log_upload();
        Ok(())
    }
}

/// A file that is removed in the end.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(%error, "the zip file of the log could not be removed");
        }
    }
}

/// Packs the log files, oldest first, into a zip file beside them. `None`: there is nothing in them.
fn zip_files(folder: &Path, files: Vec<(String, File)>) -> io::Result<Option<Temporary>> {
    let mut packed = Vec::new();
    for (name, mut file) in files {
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        if !content.is_empty() {
            packed.push((name, content));
        }
    }
    if packed.is_empty() {
        return Ok(None);
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let path = folder.join(format!("upload-{}.zip", zim_protocol::id::hex(&random)));
    write_zip(&path, &packed)?;
    Ok(Some(Temporary(path)))
}

/// Writes a zip file, which nobody but this user can read.
fn write_zip(path: &Path, files: &[(String, Vec<u8>)]) -> io::Result<()> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    let number = |length: usize| u32::try_from(length).map_err(io::Error::other);
    for (name, content) in files {
        let mut crc = Crc::new();
        crc.update(content);
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
        deflate.write_all(content)?;
        let packed = deflate.finish()?;
        let offset = number(out.len())?;
        let name_bytes = u16::try_from(name.len()).map_err(io::Error::other)?;
        // Version 2.0, names in UTF-8, deflated, without a time.
        let mut head = Vec::new();
        for part in [20_u16, 0x0800, 8, 0, 0x21] {
            head.extend(part.to_le_bytes());
        }
        for part in [crc.sum(), number(packed.len())?, number(content.len())?] {
            head.extend(part.to_le_bytes());
        }
        head.extend(name_bytes.to_le_bytes());
        head.extend([0, 0]);
        out.extend(b"PK\x03\x04");
        out.extend(&head);
        out.extend(name.as_bytes());
        out.extend(packed);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&head);
        // No comment, the first disk, no attributes.
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, count) = (number(out.len())?, u16::try_from(files.len()).map_err(io::Error::other)?);
    let length = number(directory.len())?;
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    for part in [count, count] {
        out.extend(part.to_le_bytes());
    }
    out.extend(length.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    zim_files::write(path, &out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_packed_oldest_first_and_the_package_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let zip = |names: &[&str]| {
            let files = names.iter().map(|name| ((*name).to_owned(), File::open(path(name)).unwrap())).collect();
            zip_files(folder.path(), files).unwrap()
        };
        assert!(zip(&[]).is_none(), "no file is there");
        std::fs::write(path("zim.log"), "").unwrap();
        assert!(zip(&["zim.log"]).is_none(), "it is empty");
        std::fs::write(path("zim.1.log"), "old line\n".repeat(10_000)).unwrap();
        std::fs::write(path("zim.log"), "new line\n").unwrap();
        let zipped = zip(&["zim.1.log", "zim.log"]).unwrap();
        let bytes = std::fs::read(&zipped.0).unwrap();
        assert!(bytes.starts_with(b"PK\x03\x04") && bytes.len() < 1_000, "{} bytes", bytes.len());
        let at = |name: &str| bytes.windows(name.len()).position(|part| part == name.as_bytes()).unwrap();
        assert!(at("zim.1.log") < at("zim.log"));
        drop(zipped);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
