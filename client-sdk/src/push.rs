//! Offline push: where this device gets pushes while it is away.
//!
//! The library of the push service, such as Firebase's, gives the app a token for the device. The app registers it here, and messages,
//! revocations and calls with a `pushConfig` then reach the device while it is away. A logout ends that. Without a connection the server cannot be told: then pushes go on until the next login on
//! the device, whoever logs in. The app should delete the token at the push service, too, if nobody may log in for long.

use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use zim_protocol::{
    ErrorCode, PushListQueriedResult, PushRegisteredResult, PushSource, PushUnregisteredResult, QueryPushListRequest,
    RegisterRequest, UnregisterRequest, UpdateUserBadgeRequest, UserBadgeUpdatedResult,
};

use crate::error::Error;
use crate::zim::{Handle, Zim};

/// What a push service knows this device by.
#[derive(Clone, PartialEq, Eq)]
pub struct PushToken {
    request: RegisterRequest,
}

impl fmt::Debug for PushToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever has it and the app's credentials can push to the device.
        f.debug_struct("PushToken").field("source", &self.request.source()).finish_non_exhaustive()
    }
}

impl PushToken {
    /// A token of any push service that has nothing but a token. Those of Huawei, Xiaomi, Oppo, Vivo and Honor go to the webhook of the
    /// app.
    pub fn of(source: PushSource, token: impl Into<String>) -> Self {
        let request = RegisterRequest { source: source as i32, token: token.into(), ..RegisterRequest::default() };
        Self { request }
    }

    /// A registration token of Firebase Cloud Messaging.
    pub fn fcm(token: impl Into<String>) -> Self {
        Self::of(PushSource::Fcm, token)
    }

    /// A device token of Apple's service, in hexadecimal digits.
    pub fn apns(token: impl Into<String>) -> Self {
        Self::of(PushSource::Apns, token)
    }

    /// A token of PushKit, which rings for a call. A device registers it beside its token for notifications.
    pub fn apns_voip(token: impl Into<String>) -> Self {
        Self::of(PushSource::ApnsVoip, token)
    }

    /// A name that the app's own back end knows the device by.
    pub fn webhook(token: impl Into<String>) -> Self {
        Self::of(PushSource::Webhook, token)
    }

    /// The subscription of a browser: its endpoint, and its two keys.
    pub fn web_push(endpoint: impl Into<String>, p256dh: impl Into<Vec<u8>>, auth: impl Into<Vec<u8>>) -> Self {
        let mut token = Self::of(PushSource::WebPush, endpoint);
        token.request.p256dh = p256dh.into().into();
        token.request.auth = auth.into().into();
        token
    }

    /// Chooses among several credentials that the app has for the push service. Default: 0.
    #[must_use]
    pub fn app_type(mut self, app_type: i64) -> Self {
        self.request.app_type = app_type;
        self
    }
}

impl Zim {
    /// Lets this device get offline pushes until it logs out. It replaces what the device has registered before, and takes the token from
    /// any other user who has it.
    ///
    /// # Errors
    /// 6000401: this cannot be a token of the push service.
    pub fn register_push(
        &self,
        token: PushToken,
    ) -> impl Future<Output = Result<PushRegisteredResult, Error>> + Send + 'static + use<> {
        self.call(token.request)
    }

    /// Ends the pushes to this device.
    ///
    /// # Errors
    /// None but those of [every method](crate#errors).
    pub fn unregister_push(
        &self,
    ) -> impl Future<Output = Result<PushUnregisteredResult, Error>> + Send + 'static + use<> {
        self.call(UnregisterRequest {})
    }

    /// Returns where the devices of this user get pushes, the newest first.
    ///
    /// # Errors
    /// None but those of [every method](crate#errors).
    pub fn query_push_list(
        &self,
    ) -> impl Future<Output = Result<PushListQueriedResult, Error>> + Send + 'static + use<> {
        self.call(QueryPushListRequest {})
    }

    /// Tells the server the number on the icon of the app, for all devices of this user (reference: `updateUserBadge`). The next push
    /// with `enableBadge` counts on from it.
    ///
    /// # Errors
    /// 6000001: the number is negative, or greater than a million.
    pub fn update_user_badge(
        &self,
        badge: i64,
    ) -> impl Future<Output = Result<UserBadgeUpdatedResult, Error>> + Send + 'static + use<> {
        self.call(UpdateUserBadgeRequest { badge })
    }
}

/// The settings of [`ZPNs::register`] (reference: `ZPNsConfig`). The reference's SDK contains the libraries of the vendors, which ask
/// for a token with these IDs. Here the app asks for it, and [`ZPNsConfig::push_token`] has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the reference's fields, which nothing here uses")]
pub struct ZPNsConfig {
    /// What the push service knows this device by.
    pub push_token: Option<PushToken>,
    /// Chooses among several credentials that the app has for the push service.
    pub app_type: i64,
    pub enable_hw_push: bool,
    pub enable_mi_push: bool,
    pub enable_vivo_push: bool,
    pub enable_oppo_push: bool,
    pub enable_fcm_push: bool,
    pub enable_hw_badge: bool,
    pub hw_app_id: String,
    pub mi_app_id: String,
    pub mi_app_key: String,
    pub oppo_app_id: String,
    pub oppo_app_secret: String,
    pub oppo_app_key: String,
    pub vivo_app_id: String,
    pub vivo_app_key: String,
}

/// What became of [`ZPNs::register`] (reference: the event `registered`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ZPNsRegistered {
    /// The ID of the registration; empty if it failed.
    pub push_id: String,
    /// 0, or why it failed.
    pub error_code: i32,
    /// Why it failed.
    pub msg: String,
}

type OnRegistered = Arc<dyn Fn(&ZPNsRegistered) + Send + Sync>;

/// Offline push in the reference's form. [`Zim::register_push`] is the same without a singleton.
#[derive(Clone, Copy, Debug)]
pub struct ZPNs(());

/// The client that registered last, and who is told.
struct Last {
    client: Option<Weak<Handle>>,
    on_registered: Option<OnRegistered>,
}

static LAST: Mutex<Last> = Mutex::new(Last { client: None, on_registered: None });

impl ZPNs {
    /// Returns the singleton (reference: `getInstance`).
    pub fn get_instance() -> Self {
        Self(())
    }

    /// Calls `listener` with what becomes of each registration; replaces the listener before (reference: `on('registered')`).
    pub fn on_registered(self, listener: impl Fn(&ZPNsRegistered) + Send + Sync + 'static) {
        LAST.lock().on_registered = Some(Arc::new(listener));
    }

    /// Registers this device for the user who is logged in (reference: `register`). [`ZPNs::on_registered`] tells what became of it.
    pub fn register(self, config: ZPNsConfig, zim: &Zim) {
        let listener = {
            let mut last = LAST.lock();
            last.client = Some(Arc::downgrade(&zim.0));
            last.on_registered.clone()
        };
        let tell = move |registered: &ZPNsRegistered| {
            if let Some(listener) = &listener {
                listener(registered);
            }
        };
        let Some(token) = config.push_token else {
            let error_code = ErrorCode::ZpnsModulePushIdInvalid as i32;
            let msg = "config.push_token is missing: the app asks its push service for it".to_owned();
            return tell(&ZPNsRegistered { push_id: String::new(), error_code, msg });
        };
        let registered = zim.register_push(token.app_type(config.app_type));
        drop(tokio::spawn(async move {
            tell(&match registered.await {
                Ok(done) => ZPNsRegistered { push_id: done.push_id, error_code: 0, msg: String::new() },
                Err(error) => ZPNsRegistered {
                    push_id: String::new(),
                    error_code: error.code() as i32,
                    msg: error.message().to_owned(),
                },
            });
        }));
    }

    /// Ends the pushes to this device (reference: `unregister`). Nothing happens if nothing was registered, or the client has ended.
    pub fn unregister(self) {
        let client = LAST.lock().client.take();
        if let Some(handle) = client.and_then(|client| client.upgrade()) {
            // It is sent at the call; the answer says nothing that the app could use.
            drop(Zim(handle).unregister_push());
        }
    }
}
