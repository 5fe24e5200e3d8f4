//! A push on demand, to see which step fails.

use futures_util::future::join_all;
use zim_protocol::{PushConfig, PushOutcome, PushSource, PushTest};

use super::store::{self, DEVICE};
use crate::app::App;
use crate::db::{Row, params};
use crate::error::Error;
use crate::provider::{Answer, Data, Device, Meaning, Notification, Providers, name};
use crate::push::PushKind;
use crate::tenant::Tenant;

/// How long a push service keeps the push, milliseconds.
const VALID_MS: i64 = 60_000;

impl App {
    /// Sends a push to each device of a user now, and returns what became of it. Nothing of it is stored.
    pub(crate) async fn test_push(
        &self,
        tenant: &Tenant,
        user_id: &str,
        config: PushConfig,
    ) -> Result<Vec<PushTest>, Error> {
        let user = self.user_key(tenant.key, user_id).await?.ok_or_else(|| Error::user_not_found(user_id))?;
        let found = self.db.read(async move |tx| {
            let sql = format!(
                "SELECT p.id, COALESCE(MAX(s.connected), 0), {DEVICE} FROM push_id p LEFT JOIN session s \
                 ON s.account = p.account AND s.device = p.device AND s.state = 0 WHERE p.account = $1 \
                 GROUP BY p.id, {DEVICE} ORDER BY p.id"
            );
            let read = |row: &Row| Ok((row.get(0)?, row.get::<i64>(1)? == 1, store::device(row, 2)?));
            let rows = tx.fetch(&sql, &params![user]).await?;
            rows.iter().map(read).collect::<Result<Vec<(i64, bool, Device)>, Error>>()
        });
        let (devices, providers, now) = (found.await?, tenant.providers(), self.clock.now_ms());
        let tests = devices.iter().map(async |(id, is_online, device)| {
            let push_id = tenant.scrambler.public(*id).to_string();
            let notification = Notification {
                app_id: tenant.key.0,
                user_id: user_id.to_owned(),
                push_id: push_id.clone(),
                config: config.clone(),
                data: Data {
                    id: tenant.scrambler.public(self.ids.next()).to_string(),
                    kind: "test".to_owned(),
                    ..Data::default()
                },
                badge: None,
                expires_at: now + VALID_MS,
                kind: PushKind::Message,
            };
            let answer = try_device(&providers, &notification, device, now).await;
            PushTest {
                push_id,
                source: device.source as i32,
                platform: device.platform as i32,
                is_online: *is_online,
                has_provider: providers.find(device.source, device.app_type).is_some(),
                outcome: match answer {
                    Some(Answer { meaning: Meaning::Accepted, .. }) => PushOutcome::Sent,
                    Some(_) => PushOutcome::Failed,
                    None => PushOutcome::Skipped,
                } as i32,
                detail: answer
                    .map_or_else(|| "not tried: it would ring as for a call".to_owned(), |answer| answer.detail),
            }
        });
        Ok(join_all(tests).await)
    }
}

/// Sends a push; `None` if the device would ring.
async fn try_device(providers: &Providers, push: &Notification, device: &Device, now: i64) -> Option<Answer> {
    match providers.find(device.source, device.app_type) {
        _ if device.source == PushSource::ApnsVoip => None,
        Some(provider) => Some(provider.send(push, device, now).await),
        None => {
            let (name, app_type) = (name(device.source), device.app_type);
            Some(Answer::refused(format!("the app has no credentials for {name} with the app type {app_type}")))
        }
    }
}
