//! Calls.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use zim_protocol::{
    CallAcceptConfig, CallCancelConfig, CallEndConfig, CallInvitationMode, CallInviteConfig, CallJoinConfig,
    CallQuitConfig, CallRejectConfig, CallUserInfo, CallingInviteConfig, ErrorUserInfo, PushConfig,
};

use crate::error::Error;
use crate::types::strings;
use crate::zim::Zim;

/// A call. It is a cheap handle: a client and an ID.
///
/// ```no_run
/// # async fn example(zim: &zim_client_sdk::Zim) -> Result<(), zim_client_sdk::Error> {
/// use zim_client_sdk::CallInvitationReceivedEvent;
///
/// // One side rings …
/// let call = zim.ring(["bob"]).extended_data("video").await?;
/// println!("call {}", call.id());
///
/// // … and the other answers.
/// let guard = zim.on_event(|zim, event: &CallInvitationReceivedEvent| {
///     let call = zim.call_by_id(&event.call_id);
///     tokio::spawn(async move { call.accept().await });
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Call {
    zim: Zim,
    id: Arc<str>,
    left_out: Arc<[ErrorUserInfo]>,
}

impl Zim {
    /// Begins a call with up to 9 users: it rings when this is awaited, and the result is the call.
    pub fn ring<I>(&self, invitees: I) -> Ring
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let invitees = strings(invitees);
        Ring { zim: self.clone(), invitees, config: CallInviteConfig::default() }
    }

    /// Returns the call with an ID that an event or the list of calls named.
    pub fn call_by_id(&self, call_id: impl AsRef<str>) -> Call {
        Call { zim: self.clone(), id: Arc::from(call_id.as_ref()), left_out: Arc::from([]) }
    }
}

/// A call that is about to begin, with its options. It rings when this is awaited.
///
/// # Errors
/// See [`Zim::call_invite`].
#[must_use = "a call begins when this is awaited"]
#[derive(Debug)]
pub struct Ring {
    zim: Zim,
    invitees: Vec<String>,
    config: CallInviteConfig,
}

impl Ring {
    /// The call goes on after the answers: users invite others, come and go, and end it for all.
    pub fn advanced(mut self) -> Self {
        self.config.mode = CallInvitationMode::Advanced as i32;
        self
    }

    /// Sets how long the invitees have for the answer, in whole seconds up to ten minutes. Default: 90 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.config.timeout = Some(i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX));
        self
    }

    /// Sets data of the app that the invitees see, up to 2 KB.
    pub fn extended_data(mut self, data: impl Into<String>) -> Self {
        self.config.extended_data = data.into();
        self
    }

    /// Asks to be told which invitees have not received the invitation after five seconds.
    pub fn check_received(mut self) -> Self {
        self.config.enable_not_received_check = true;
        self
    }

    /// Sets what an offline push of the invitation shows.
    pub fn push_config(mut self, config: PushConfig) -> Self {
        self.config.push_config = Some(config);
        self
    }
}

impl IntoFuture for Ring {
    type Output = Result<Call, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { zim, invitees, config } = self;
        let sent = zim.call_invite(invitees, config);
        Box::pin(async move {
            let sent = sent.await?;
            Ok(Call { zim, id: Arc::from(sent.call_id), left_out: Arc::from(sent.error_user_list) })
        })
    }
}

impl Call {
    /// Returns the ID of the call.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the users who could not be invited, of a call that [`Zim::ring`] began.
    pub fn left_out(&self) -> &[ErrorUserInfo] {
        &self.left_out
    }

    /// Accepts the invitation, on this device.
    ///
    /// # Errors
    /// See [`Zim::call_accept`].
    pub async fn accept(&self) -> Result<(), Error> {
        self.zim.call_accept(&self.id, CallAcceptConfig::default()).await.map(drop)
    }

    /// Rejects the invitation.
    ///
    /// # Errors
    /// See [`Zim::call_reject`].
    pub async fn reject(&self) -> Result<(), Error> {
        self.zim.call_reject(&self.id, CallRejectConfig::default()).await.map(drop)
    }

    /// Cancels the call, for its caller.
    ///
    /// # Errors
    /// See [`Zim::call_cancel`].
    pub async fn cancel(&self) -> Result<(), Error> {
        self.zim.call_cancel([""; 0], &self.id, CallCancelConfig::default()).await.map(drop)
    }

    /// Invites more users. Returns those who could not be invited.
    ///
    /// # Errors
    /// See [`Zim::calling_invite`].
    pub async fn invite<I>(&self, invitees: I) -> Result<Vec<ErrorUserInfo>, Error>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let sent = self.zim.calling_invite(invitees, &self.id, CallingInviteConfig::default()).await?;
        Ok(sent.error_user_list)
    }

    /// Comes into the call, or makes this device the main one. Returns the users of the call.
    ///
    /// # Errors
    /// See [`Zim::call_join`].
    pub async fn join(&self) -> Result<Vec<CallUserInfo>, Error> {
        Ok(self.zim.call_join(&self.id, CallJoinConfig::default()).await?.call_user_list)
    }

    /// Leaves the call, which goes on for the others.
    ///
    /// # Errors
    /// See [`Zim::call_quit`].
    pub async fn quit(&self) -> Result<(), Error> {
        self.zim.call_quit(&self.id, CallQuitConfig::default()).await.map(drop)
    }

    /// Ends the call for everybody.
    ///
    /// # Errors
    /// See [`Zim::call_end`].
    pub async fn end(&self) -> Result<(), Error> {
        self.zim.call_end(&self.id, CallEndConfig::default()).await.map(drop)
    }
}
