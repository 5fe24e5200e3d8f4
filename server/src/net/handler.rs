//! The checks around every request: the method, the access, the rate, the validation, the deadline and the metrics. A
//! service is a function of a caller and a typed request, and knows nothing of these checks.

use std::any::Any;
use std::error::Error as StdError;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, debug, debug_span, error};
use zim_protocol::{Access, AnyRequest, Method, Request, method};

use super::Net;
use super::in_flight::Done;
use crate::connection::{Allowance, Caller, ConnectionState};
use crate::error::Error;

/// Methods with a rate of their own.
const SEND: &str = "Message/SendMessage";
const SYNC: &str = "Sync/Sync";
const CUSTOM_STATUS: &str = "Status/UpdateUserCustomStatus";

/// A request that is admitted and may run.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) id: u64,
    pub(crate) request: AnyRequest,
    pub(crate) caller: Arc<Caller>,
    pub(crate) arrived: Instant,
}

impl Allowance {
    fn take(&mut self, net: &Net, method: &Method) -> Result<(), Error> {
        let now = net.app.clock.steady_ms();
        if method.path == SYNC {
            return self.syncs.take(net.syncs, now).map_err(Error::too_fast);
        }
        if method.internal {
            return self.pulls.take(net.pulls, now).map_err(Error::too_fast);
        }
        self.requests.take(net.requests, now).map_err(Error::too_fast)?;
        match method.path {
            SEND => self.messages.take(net.messages, now).map_err(Error::too_fast),
            CUSTOM_STATUS => self.custom_statuses.take(net.custom_statuses, now).map_err(Error::too_fast),
            _ => Ok(()),
        }
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
        net.meter.unknown_method(refused.code() as i32);
        return Err(refused);
    };
    let id = request.id;
    let bytes = request.payload.len();
    let caller = || Arc::new(Caller::connected(Arc::clone(session)).with_request_bytes(bytes));
    check(net, session, allowance, method, request.payload)
        .map(|request| Invocation { id, request, caller: caller(), arrived })
        .inspect_err(|refused| record(net, method, Err(refused), arrived))
}

fn check(
    net: &Net,
    session: &ConnectionState,
    allowance: &mut Allowance,
    method: &'static Method,
    payload: Bytes,
) -> Result<AnyRequest, Error> {
    let is_allowed = match method.access {
        Access::Anyone => true,
        // A login that has ended may do nothing more, even before its client reads of the end.
        Access::User => session.identity().is_some() && !session.is_logged_out() && !session.queue.is_ended(),
    };
    if !is_allowed {
        return Err(Error::not_logged_in());
    }
    allowance.take(net, method)?;
    let request = AnyRequest::decode(method, payload).map_err(|error| Error::undecodable(method.path, &error))?;
    request.validate()?;
    Ok(request)
}

/// Runs a request to its end, at most until its deadline. A panic fails only this request.
pub(crate) async fn run(net: Arc<Net>, invocation: Invocation) -> Done {
    let Invocation { id, request, caller, arrived } = invocation;
    let method = request.method();
    let deadline_ms = match method.deadline_ms {
        0 => net.app.config.limits.request_timeout_ms,
        own => own,
    };
    let user = caller.identity().map_or("", |identity| &*identity.user_id);
    let span = debug_span!("request", method = method.path, id, user);
    let service = AssertUnwindSafe(request.call(&*net.app, &caller)).catch_unwind().instrument(span);
    let result = match timeout_at(arrived + Duration::from_millis(deadline_ms.into()), service).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(Error::internal_text(format!("panic: {}", panic_text(&*panic)))),
        Err(_) => Err(Error::timed_out()),
    };
    record(&net, method, result.as_ref().map(drop), arrived);
    Done { id, caller, result }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("of an unknown kind")
}

/// Counts a request, and logs the cause of an error, which the client does not receive.
fn record(net: &Net, method: &'static Method, result: Result<(), &Error>, arrived: Instant) {
    let code = result.map_or_else(|failed| failed.code() as i32, |()| 0);
    net.meter.record(method, code, arrived.elapsed());
    let Err(failed) = result else { return };
    match failed.cause() {
        Some(cause) => {
            error!(method = method.path, code, cause = %Chain(cause), "request failed with an internal error");
        }
        None => debug!(method = method.path, code, error = failed.message(), "request failed"),
    }
}

/// Displays an error with all its sources.
struct Chain<'a>(&'a (dyn StdError + Send + Sync + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_with_its_sources() {
        #[derive(Debug, thiserror::Error)]
        #[error("the page is torn")]
        struct Outer(#[source] std::io::Error);
        let outer = Outer(std::io::Error::other("bad sector"));
        assert_eq!(Chain(&outer).to_string(), "the page is torn: bad sector");
    }

    #[test]
    fn a_panic_is_shown_with_its_message() {
        let text = |run: fn()| panic_text(&*std::panic::catch_unwind(run).unwrap_err()).to_owned();
        assert_eq!(text(|| std::panic::panic_any("plain")), "plain");
        assert_eq!(text(|| std::panic::panic_any(String::from("made"))), "made");
        assert_eq!(text(|| std::panic::panic_any(7)), "of an unknown kind");
    }
}
