//! Call invitations: who is asked into a call, and who answers how. What is said and shown in the call travels elsewhere.

use zim_protocol::{
    CallAcceptConfig, CallAcceptRequest, CallAcceptanceSentResult, CallCancelConfig, CallCancelRequest,
    CallCancelSentResult, CallEndConfig, CallEndRequest, CallEndSentResult, CallInvitationListQueriedResult,
    CallInvitationQueryConfig, CallInvitationSentResult, CallInviteConfig, CallInviteRequest, CallJoinConfig,
    CallJoinRequest, CallJoinSentResult, CallQuitConfig, CallQuitRequest, CallQuitSentResult, CallRejectConfig,
    CallRejectRequest, CallRejectionSentResult, CallingInvitationSentResult, CallingInviteConfig, CallingInviteRequest,
    QueryCallInvitationListRequest,
};

use crate::error::Error;
use crate::types::strings;
use crate::zim::Zim;

impl Zim {
    /// Begins a call and invites up to 9 users (reference: `callInvite`). All devices of an invitee ring and get
    /// `callInvitationReceived`; invitees who are not online get it when they come online in time. All devices of the caller get
    /// `callInvitationCreated`, and this one `callUserStateChanged` from now on. Invitees have 90 seconds for the answer unless
    /// `config.timeout` says otherwise. The result lists the users who could not be invited; if that is all of them, the call fails.
    ///
    /// In general mode the call is over once every invitee has answered. In advanced mode it goes on until its users end or leave it.
    ///
    /// # Errors
    /// - 6000272: there are more than 9 invitees. 6000281: none of them is registered. 6000283: the only invitee is the caller.
    /// - 6000001: there are no invitees, the timeout is not 1 to 600 seconds, `extendedData` has more than 2 KB, or the mode is neither
    ///   general nor advanced.
    pub fn call_invite<I>(
        &self,
        invitees: I,
        config: CallInviteConfig,
    ) -> impl Future<Output = Result<CallInvitationSentResult, Error>> + Send + 'static + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let invitees = strings(invitees);
        self.call(CallInviteRequest { invitees, config: Some(config) })
    }

    /// Invites users into a call in advanced mode that the user is in (reference: `callingInvite`). They have as long for the answer as
    /// the first invitees had. At most 10 users are in a call or asked into it. The result lists the users who could not be invited,
    /// with 6000283 for those who are in the call or asked into it; if that is all of them, the call fails.
    ///
    /// # Errors
    /// - 6000276: there is no such running call, or the user is not in it. 6000286: the call is in general mode.
    /// - 6000272: there is no room for so many. 6000281: none of them is registered. 6000283: all of them are in the call.
    pub fn calling_invite<I>(
        &self,
        invitees: I,
        call_id: &str,
        config: CallingInviteConfig,
    ) -> impl Future<Output = Result<CallingInvitationSentResult, Error>> + Send + 'static + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let invitees = strings(invitees);
        self.call(CallingInviteRequest { invitees, call_id: call_id.to_owned(), config: Some(config) })
    }

    /// Comes into a running call in advanced mode, also without an invitation; or, for a user who is in it on another device, makes this
    /// device the main one: it gets the events of the call from now on, and the other one no more (reference: `callJoin`).
    ///
    /// # Errors
    /// 6000276: there is no such running call. 6000286: it is in general mode. 6000283: the user is in it on this device. 6000272: 10
    /// users are in it or asked into it.
    pub fn call_join(
        &self,
        call_id: &str,
        config: CallJoinConfig,
    ) -> impl Future<Output = Result<CallJoinSentResult, Error>> + Send + 'static + use<> {
        self.call(CallJoinRequest { call_id: call_id.to_owned(), config: Some(config) })
    }

    /// Cancels a call, for its caller and as long as nobody has accepted (reference: `callCancel`). In advanced mode `invitees` names
    /// those whose invitations are cancelled; if it is empty, and always in general mode, the call is cancelled as a whole. The
    /// invitees get `callInvitationCancelled`. The result lists those whose invitations could not be cancelled.
    ///
    /// # Errors
    /// 6000276: there is no such running call; a call in general mode is over with the time of its invitations. 6000273: the user is not
    /// the caller. 6000271: somebody has accepted, or none of the named users has an invitation that waits for an answer.
    pub fn call_cancel<I>(
        &self,
        invitees: I,
        call_id: &str,
        config: CallCancelConfig,
    ) -> impl Future<Output = Result<CallCancelSentResult, Error>> + Send + 'static + use<I>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let invitees = strings(invitees);
        self.call(CallCancelRequest { invitees, call_id: call_id.to_owned(), config: Some(config) })
    }

    /// Accepts an invitation (reference: `callAccept`). The users of the call get `callUserStateChanged`. This device becomes the main
    /// one of the user: the others stop ringing and get no more events of the call.
    ///
    /// # Errors
    /// 6000276: there is no such running call, or no invitation waits for the user's answer. 6000274: the user was not invited. 6000283:
    /// the user has accepted before.
    pub fn call_accept(
        &self,
        call_id: &str,
        config: CallAcceptConfig,
    ) -> impl Future<Output = Result<CallAcceptanceSentResult, Error>> + Send + 'static + use<> {
        self.call(CallAcceptRequest { call_id: call_id.to_owned(), config: Some(config) })
    }

    /// Rejects an invitation (reference: `callReject`). The users of the call get `callUserStateChanged`.
    ///
    /// # Errors
    /// 6000276: there is no such running call, or no invitation waits for the user's answer. 6000274: the user was not invited.
    pub fn call_reject(
        &self,
        call_id: &str,
        config: CallRejectConfig,
    ) -> impl Future<Output = Result<CallRejectionSentResult, Error>> + Send + 'static + use<> {
        self.call(CallRejectRequest { call_id: call_id.to_owned(), config: Some(config) })
    }

    /// Leaves a call in advanced mode, which goes on for the others (reference: `callQuit`). They get `callUserStateChanged`. The call
    /// ends when nobody is left in it or asked into it.
    ///
    /// # Errors
    /// 6000276: there is no such running call, or the user is not in it. 6000286: the call is in general mode.
    pub fn call_quit(
        &self,
        call_id: &str,
        config: CallQuitConfig,
    ) -> impl Future<Output = Result<CallQuitSentResult, Error>> + Send + 'static + use<> {
        self.call(CallQuitRequest { call_id: call_id.to_owned(), config: Some(config) })
    }

    /// Ends a call in advanced mode for everybody, for those who are in it (reference: `callEnd`). If the caller has invited one user and
    /// nobody else ever came into the call, that user refuses it in this way too. All who are in the call or asked into it get
    /// `callInvitationEnded`.
    ///
    /// # Errors
    /// 6000276: there is no such running call, or the user is not in it. 6000286: the call is in general mode.
    pub fn call_end(
        &self,
        call_id: &str,
        config: CallEndConfig,
    ) -> impl Future<Output = Result<CallEndSentResult, Error>> + Send + 'static + use<> {
        self.call(CallEndRequest { call_id: call_id.to_owned(), config: Some(config) })
    }

    /// Returns a page of up to 100 calls that the user began, was invited to or joined, the newest first (reference:
    /// `queryCallInvitationList`). `nextFlag` of the result is the cursor of the next page; 0 is the end.
    ///
    /// # Errors
    /// 6000001: `config.count` is below 1.
    pub fn query_call_invitation_list(
        &self,
        config: CallInvitationQueryConfig,
    ) -> impl Future<Output = Result<CallInvitationListQueriedResult, Error>> + Send + 'static + use<> {
        self.call(QueryCallInvitationListRequest { config: Some(config) })
    }
}
