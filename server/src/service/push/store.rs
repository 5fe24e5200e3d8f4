//! Rows of push IDs.

use bytes::Bytes;
use zim_protocol::{PlatformType, PushRegistration, PushSource};

use crate::db::{Row, Tx, params};
use crate::error::Error;
use crate::key::{AppKey, Scrambler, UserKey};
use crate::provider::Device;
use crate::push::token_hash;

/// What a device registers.
#[derive(Clone)]
pub(super) struct New {
    pub(super) id: i64,
    pub(super) app: AppKey,
    pub(super) user: UserKey,
    pub(super) device: [u8; 16],
    /// Names the login.
    pub(super) login: [u8; 16],
    pub(super) platform: i32,
    pub(super) source: PushSource,
    pub(super) app_type: i64,
    pub(super) token: String,
    pub(super) p256dh: Bytes,
    pub(super) auth: Bytes,
    pub(super) now: i64,
}

/// The slot of a source: a device has one registration for notifications, and one that rings.
pub(super) fn slot(source: PushSource) -> i64 {
    i64::from(source == PushSource::ApnsVoip)
}

/// Stores a registration. It replaces that of the device, and takes the token from whoever has it. Beyond `most` the oldest of the user
/// goes. Returns its ID: a device that registers the same again keeps the one that it has, which pushes on their way name.
pub(super) async fn register(tx: &mut Tx<'_>, new: New, most: u32) -> Result<i64, Error> {
    let hash = token_hash(new.source, &new.token);
    let same = "UPDATE push_id SET platform = $6, app_type = $7, p256dh = $8, auth = $9, registered_at = $10, login = $11 \
                WHERE app = $1 AND token_hash = $2 AND account = $3 AND device = $4 AND slot = $5 RETURNING id";
    let values = params![
        new.app,
        hash.clone(),
        new.user,
        new.device.to_vec(),
        slot(new.source),
        new.platform,
        new.app_type,
        new.p256dh.clone(),
        new.auth.clone(),
        new.now,
        new.login.to_vec()
    ];
    if let Some(row) = tx.fetch_one(same, &values).await? {
        return Ok(row.get(0)?);
    }
    let sql =
        "DELETE FROM push_id WHERE (app = $1 AND token_hash = $2) OR (account = $3 AND device = $4 AND slot = $5)";
    let slot = slot(new.source);
    tx.execute(sql, &params![new.app, hash.clone(), new.user, new.device.to_vec(), slot]).await?;
    let oldest = "DELETE FROM push_id WHERE account = $1 AND id NOT IN \
                  (SELECT id FROM push_id WHERE account = $1 ORDER BY registered_at DESC, id DESC LIMIT $2)";
    tx.execute(oldest, &params![new.user, i64::from(most) - 1]).await?;
    // Another user may register the token at the same time: one of the two is the last.
    tx.execute(
        "INSERT INTO push_id (id, app, account, device, slot, platform, source, app_type, token, token_hash, p256dh, auth, \
         registered_at, login) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
         ON CONFLICT (app, token_hash) DO UPDATE SET id = excluded.id, account = excluded.account, device = excluded.device, \
         slot = excluded.slot, platform = excluded.platform, app_type = excluded.app_type, p256dh = excluded.p256dh, \
         auth = excluded.auth, registered_at = excluded.registered_at, login = excluded.login",
        &params![
            new.id,
            new.app,
            new.user,
            new.device.to_vec(),
            slot,
            new.platform,
            new.source as i32,
            new.app_type,
            new.token,
            hash,
            new.p256dh,
            new.auth,
            new.now,
            new.login.to_vec()
        ],
    )
    .await?;
    Ok(new.id)
}

/// Removes a push ID that its push service no longer knows, unless the device has registered again since.
pub(super) async fn remove(tx: &mut Tx<'_>, id: i64, known_until: i64) -> Result<(), Error> {
    tx.execute("DELETE FROM push_id WHERE id = $1 AND registered_at < $2", &params![id, known_until]).await?;
    Ok(())
}

/// Returns where the devices of a user get pushes, the newest first.
pub(super) async fn list(
    tx: &mut Tx<'_>,
    user: UserKey,
    device: [u8; 16],
    scrambler: &Scrambler,
) -> Result<Vec<PushRegistration>, Error> {
    let sql = "SELECT id, source, platform, app_type, registered_at, device FROM push_id WHERE account = $1 \
               ORDER BY registered_at DESC, id DESC";
    let rows = tx.fetch(sql, &params![user]).await?;
    let registration = |row: &Row| {
        Ok(PushRegistration {
            push_id: scrambler.public(row.get(0)?).to_string(),
            source: row.get(1)?,
            platform: row.get(2)?,
            app_type: row.get(3)?,
            registered_time: row.get(4)?,
            is_own_device: row.get::<Vec<u8>>(5)? == device,
        })
    };
    rows.iter().map(registration).collect()
}

/// The columns that [`device`] reads, of a table named `p`.
pub(super) const DEVICE: &str = "p.source, p.platform, p.app_type, p.token, p.p256dh, p.auth";

/// Reads the columns of [`DEVICE`], of which the first is column `first`.
pub(super) fn device(row: &Row, first: usize) -> Result<Device, Error> {
    Ok(Device {
        source: source(row.get(first)?),
        platform: platform(row.get(first + 1)?),
        app_type: row.get(first + 2)?,
        token: row.get(first + 3)?,
        p256dh: row.get(first + 4)?,
        auth: row.get(first + 5)?,
    })
}

/// Returns the source with a number in the store.
pub(super) fn source(number: i32) -> PushSource {
    PushSource::try_from(number).unwrap_or_default()
}

/// Returns the platform with a number in the store.
pub(super) fn platform(number: i32) -> PlatformType {
    PlatformType::try_from(number).unwrap_or(PlatformType::Unknown)
}
