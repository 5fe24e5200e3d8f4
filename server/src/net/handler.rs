//! Admits the requests of a connection: the method, the access, the rate and the limits of the fields.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use zim_protocol::{AnyRequest, Method, Rate, Request, method};

use super::Net;
use super::in_flight::Done;
use crate::connection::{Allowance, Caller, ConnectionState};
use crate::error::Error;
use crate::service::invoke::{Checked, check_access, invoke, record};

/// A request that is admitted and may run.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) id: u64,
    pub(crate) request: Checked,
    pub(crate) caller: Arc<Caller>,
    pub(crate) arrived: Instant,
}

impl Allowance {
    fn take(&mut self, net: &Net, rate: Rate) -> Result<(), Error> {
        let now = net.app.clock.steady_ms();
        if matches!(rate, Rate::Requests | Rate::Messages | Rate::OnceASecond) {
            self.requests.take(net.requests, now).map_err(Error::too_fast)?;
        }
        let taken = match rate {
            Rate::Requests | Rate::Free => Ok(()),
            Rate::Messages => self.messages.take(net.messages, now),
            Rate::OnceASecond => self.once_a_second.take(net.once_a_second, now),
            Rate::Pulls => self.pulls.take(net.pulls, now),
            Rate::Syncs => self.syncs.take(net.syncs, now),
        };
        taken.map_err(Error::too_fast)
    }

    /// Takes from the allowance for refused requests and frames that are not requests, which is as large as that for
    /// pulls. Otherwise fails with the milliseconds to wait.
    pub(crate) fn take_refused(&mut self, net: &Net, now_ms: i64) -> Result<(), i64> {
        self.refused.take(net.pulls, now_ms)
    }
}

/// Checks whether a request may run.
pub(crate) fn admit(
    net: &Net,
    session: &Arc<ConnectionState>,
    allowance: &mut Allowance,
    request: Request,
) -> Result<Invocation, Error> {
    let arrived = Instant::now();
    let Some(method) = method(&request.method) else {
        let refused = Error::unsupported(&request.method);
        net.app.meter.unknown_method(refused.code() as i32);
        return Err(refused);
    };
    let caller = Caller::connected(Arc::clone(session)).with_request_bytes(request.payload.len());
    let caller = Arc::new(caller);
    check(net, &caller, allowance, method, request.payload)
        .map(|checked| Invocation { id: request.id, request: checked, caller, arrived })
        .inspect_err(|refused| record(&net.app, method, Err(refused), arrived))
}

fn check(
    net: &Net,
    caller: &Caller,
    allowance: &mut Allowance,
    method: &'static Method,
    payload: Bytes,
) -> Result<Checked, Error> {
    // Before the payload is decoded: what a client may not call must cost little.
    check_access(caller, method)?;
    allowance.take(net, method.rate)?;
    let request = AnyRequest::decode(method, payload).map_err(|error| Error::undecodable(method.path, &error))?;
    Checked::new(caller, request)
}

/// Runs a request to its end.
pub(crate) async fn run(net: Arc<Net>, invocation: Invocation) -> Done {
    let Invocation { id, request, caller, arrived } = invocation;
    let result = invoke(&net.app, &caller, request, (id, arrived)).await;
    Done { id, caller, result }
}
