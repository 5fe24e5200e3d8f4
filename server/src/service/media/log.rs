//! The logs of clients: files that only the operator reads. They travel as the files of messages do, and no message can have them.

use bytes::Bytes;
use zim_protocol::{CreateLogUploadRequest, ListLogsRequest, ListLogsResult, LogInfo, LogUploadCreatedResult};

use super::store::{self, File};
use crate::app::App;
use crate::connection::Caller;
use crate::error::Error;
use crate::media::Version;
use crate::tenant::Tenant;

/// The kind of the rows of logs. No message has this type, so none can have such a file.
pub(crate) const LOG: i32 = 1_000;
/// Three log files of 5 MB, even if they do not get smaller.
const MAX_BYTES: i64 = 16 << 20;
/// The most logs on a page, and the number if none is asked for.
const PAGE: u32 = 100;
/// Bytes of a log in one answer.
const PART: u64 = 512 << 10;

impl App {
    pub(super) async fn announce_log(
        &self,
        caller: &Caller,
        request: CreateLogUploadRequest,
    ) -> Result<LogUploadCreatedResult, Error> {
        if request.file_size > MAX_BYTES {
            return Err(Error::file_size_invalid(request.file_size, MAX_BYTES));
        }
        let device = zim_protocol::id::hex(&caller.connection()?.device);
        let (size, hash) = (request.file_size, request.sha256);
        let file = self.announce(caller, (LOG, device), (size, hash), &request.host).await?;
        let upload_url = if file.is_complete { String::new() } else { file.upload_url() };
        Ok(LogUploadCreatedResult { upload_url })
    }

    /// Returns a page of the logs of an app, the newest first.
    pub(crate) async fn logs(&self, tenant: &Tenant, request: ListLogsRequest) -> Result<ListLogsResult, Error> {
        let app = tenant.key;
        let user = match request.user_id.as_str() {
            "" => None,
            id => Some(self.user_key(app, id).await?.ok_or_else(|| Error::user_not_found(id))?),
        };
        let count = i64::from(if request.count == 0 { PAGE } else { request.count.min(PAGE) });
        let before = match request.next_flag {
            0 => i64::MAX,
            flag => tenant.scrambler.stored(flag.cast_signed()),
        };
        let mut found = self.db.read(async move |tx| store::logs(tx, (app, user), before, count + 1).await).await?;
        let has_more = i64::try_from(found.len()).is_ok_and(|len| len > count);
        found.truncate(usize::try_from(count).unwrap_or_default());
        let next_flag = match found.last().filter(|_| has_more) {
            Some((file, ..)) => tenant.scrambler.public(file.id).cast_unsigned(),
            None => 0,
        };
        let logs = found.into_iter().map(|(file, user_id, uploaded_at)| LogInfo {
            log_id: tenant.scrambler.public(file.id).to_string(),
            user_id,
            device_id: file.name,
            uploaded_at,
            size: file.size,
        });
        Ok(ListLogsResult { logs: logs.collect(), next_flag })
    }

    /// Returns a part of a log.
    pub(crate) async fn read_log(&self, tenant: &Tenant, log_id: &str, offset: i64) -> Result<Bytes, Error> {
        let id = tenant.scrambler.stored(log_id.parse().map_err(|_| Error::log_not_found())?);
        let app = tenant.key;
        let found = self.db.read(async move |tx| store::log(tx, app, id).await).await?;
        let File { id, .. } = found.ok_or_else(Error::log_not_found)?;
        let opened = self.files.open_file(id, Version::Original).await.map_err(Error::file_store_failed)?;
        let content = opened.ok_or_else(Error::log_not_found)?;
        content.read(offset.unsigned_abs(), PART).await.map_err(Error::file_store_failed)
    }
}
