//! Offline push: where devices get pushes, who gets one, and what became of it.

mod decide;
mod log;
mod newer;
mod on_demand;
mod pushed;
mod receivers;
mod rules;
mod send;
mod store;

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use zim_protocol::id::login_name;
use zim_protocol::{
    PushConfig, PushListQueriedResult, PushRegisteredResult, PushRegistration, PushUnregisteredResult,
    QueryPushListRequest, RegisterRequest, UnregisterRequest, server::PushService,
};

pub(crate) use self::decide::PUSH;
pub(crate) use self::log::PUSH_LOG_END;
pub(crate) use self::send::PUSH_DELIVERY;
use crate::app::App;
use crate::connection::{Caller, Identity};
use crate::db::Scope;
use crate::error::Error;
use crate::key::UserKey;
use crate::push::{NewPush, PushKind};
use crate::tenant::Tenant;

impl PushService for App {
    async fn register(&self, caller: &Caller, request: RegisterRequest) -> Result<PushRegisteredResult, Error> {
        let (identity, connection) = (caller.identity()?, caller.connection()?);
        if identity.one_shot {
            return Err(Error::params_invalid("a one-shot login is no device, so nothing can be pushed to it"));
        }
        rules::check(&request, self.config.push.allow_private_addresses)?;
        let new = store::New {
            id: self.ids.next(),
            app: identity.app,
            user: identity.user,
            device: connection.device,
            login: login_name(&identity.ticket),
            platform: connection.platform,
            source: request.source(),
            app_type: request.app_type,
            token: request.token,
            p256dh: request.p256dh,
            auth: request.auth,
            now: self.clock.now_ms(),
        };
        let most = self.config.limits.max_push_ids;
        let stored =
            caller.write(&self.db, Scope::user(identity.user), async move |tx, _| store::register(tx, new, most).await);
        let push_id = self.tenants.of(identity.app)?.scrambler.public(stored.await?).to_string();
        Ok(PushRegisteredResult { push_id })
    }

    async fn unregister(&self, caller: &Caller, _: UnregisterRequest) -> Result<PushUnregisteredResult, Error> {
        let (user, device) = (caller.identity()?.user, caller.connection()?.device);
        caller
            .write(&self.db, Scope::user(user), async move |tx, _| crate::push::unbind(tx, device, user).await)
            .await?;
        Ok(PushUnregisteredResult {})
    }

    async fn query_push_list(&self, caller: &Caller, _: QueryPushListRequest) -> Result<PushListQueriedResult, Error> {
        let (identity, device) = (caller.identity()?, caller.connection()?.device);
        let (user, scrambler) = (identity.user, self.tenants.of(identity.app)?.scrambler.clone());
        let push_list = self.db.read(async move |tx| store::list(tx, user, device, &scrambler).await).await?;
        Ok(PushListQueriedResult { push_list })
    }
}

impl App {
    /// Returns where the devices of a user get pushes.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn push_registrations(
        &self,
        tenant: &Tenant,
        user: UserKey,
    ) -> Result<Vec<PushRegistration>, Error> {
        let scrambler = Arc::clone(&tenant.scrambler);
        self.db.read(async move |tx| store::list(tx, user, [0; 16], &scrambler).await).await
    }

    /// Returns what a request wants pushed, unless the app has no push service.
    pub(crate) fn new_push(
        &self,
        identity: &Identity,
        kind: PushKind,
        config: Option<&PushConfig>,
    ) -> Result<Option<NewPush>, Error> {
        let Some(config) = config else { return Ok(None) };
        if self.tenants.of(identity.app)?.providers().is_empty() {
            return Ok(None);
        }
        let now = self.clock.now_ms();
        Ok(Some(NewPush {
            id: self.ids.next(),
            app: identity.app,
            sender: identity.user,
            kind,
            config: Bytes::from(config.encode_to_vec()),
            now,
            due_at: now + i64::from(self.config.push.delay_ms),
        }))
    }
}
