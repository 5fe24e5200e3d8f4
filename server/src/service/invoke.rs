//! Runs a request, whoever the caller is: a client, the operator, or the server itself. The access, the limits of the fields,
//! the deadline, the guard against panics, the span and the metrics are here, once. A service is a function of a caller and a
//! typed request, and knows nothing of them.

use std::any::Any;
use std::error::Error as StdError;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, debug, debug_span, error};
use zim_protocol::{Access, AnyRequest, Method, Rpc};

use crate::app::App;
use crate::connection::Caller;
use crate::error::Error;

/// Checks whether a caller may call a method.
///
/// # Errors
/// The caller is not logged in, or only the server itself may call the method.
pub(crate) fn check_access(caller: &Caller, method: &Method) -> Result<(), Error> {
    match method.access {
        Access::Anyone => Ok(()),
        Access::User if caller.is_active() => Ok(()),
        Access::User => Err(Error::not_logged_in()),
        Access::Server if caller.is_server() => Ok(()),
        // No client can name such a method; if one could, it would learn nothing.
        Access::Server => Err(Error::unsupported(method.path)),
    }
}

/// A request that its caller may make, with fields within their limits.
#[derive(Debug)]
pub(crate) struct Checked(AnyRequest);

impl Checked {
    /// Checks a request of `caller`.
    ///
    /// # Errors
    /// The caller may not call the method, or a field is not valid.
    pub(crate) fn new(caller: &Caller, request: AnyRequest) -> Result<Self, Error> {
        check_access(caller, request.method())?;
        request.validate()?;
        Ok(Self(request))
    }

    /// A request that is not checked, for tests that do not run it.
    #[cfg(test)]
    pub(crate) fn unchecked(request: AnyRequest) -> Self {
        Self(request)
    }

    /// Returns what orders a write: see [`Rpc::order`].
    pub(crate) fn order(&self) -> Option<u64> {
        self.0.order()
    }
}

/// Runs a request to its end, at most until its deadline. A panic fails only this request. `id` is for the log.
///
/// # Errors
/// What the service returns; or the deadline passed, or the service panicked.
pub(crate) async fn invoke(
    app: &App,
    caller: &Caller,
    Checked(request): Checked,
    (id, arrived): (u64, Instant),
) -> Result<Bytes, Error> {
    let method = request.method();
    let deadline_ms = match method.deadline_ms {
        0 => app.config.limits.request_timeout_ms,
        own => own,
    };
    let user = caller.identity().map_or("", |identity| &*identity.user_id);
    let span = debug_span!("request", method = method.path, id, user);
    let service = AssertUnwindSafe(request.call(app, caller)).catch_unwind().instrument(span);
    let result = match timeout_at(arrived + Duration::from_millis(deadline_ms.into()), service).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(Error::internal_text(format!("panic: {}", panic_text(&*panic)))),
        Err(_) => Err(Error::timed_out()),
    };
    record(app, method, result.as_ref().map(drop), arrived);
    result
}

/// Calls a method as the server itself.
///
/// # Errors
/// As [`invoke`], and if a field of the request is not valid.
pub(crate) async fn call_as_server<R>(app: &App, caller: &Caller, request: R) -> Result<R::Response, Error>
where
    R: Rpc + Into<AnyRequest>,
{
    let arrived = Instant::now();
    let checked = Checked::new(caller, request.into()).inspect_err(|error| {
        record(app, R::METHOD, Err(error), arrived);
    })?;
    let payload = invoke(app, caller, checked, (0, arrived)).await?;
    prost::Message::decode(payload).map_err(Error::internal)
}

/// Calls a method as a user for whom the operator acts. Boxed, because it is itself called in a method.
pub(crate) fn call_as_user<'c>(
    app: &'c App,
    user: &'c Caller,
    method: &'static Method,
    payload: Bytes,
) -> Pin<Box<dyn Future<Output = Result<Bytes, Error>> + Send + 'c>> {
    Box::pin(async move {
        let arrived = Instant::now();
        let checked = AnyRequest::decode(method, payload)
            .map_err(|error| Error::undecodable(method.path, &error))
            .and_then(|request| Checked::new(user, request))
            .inspect_err(|error| record(app, method, Err(error), arrived))?;
        invoke(app, user, checked, (0, arrived)).await
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("of an unknown kind")
}

/// Counts a request, and logs the cause of an error, which the client does not receive.
pub(crate) fn record(app: &App, method: &'static Method, result: Result<(), &Error>, arrived: Instant) {
    let code = result.map_or_else(|failed| failed.code() as i32, |()| 0);
    app.meter.record(method, code, arrived.elapsed());
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
    use std::sync::Arc;

    use zim_protocol::{ErrorCode, METHODS, SERVER_METHODS};

    use super::*;
    use crate::connection::{ConnectionState, Identity};
    use crate::key::{AppKey, LoginKey, UserKey};

    #[test]
    fn a_method_is_open_to_those_whom_its_access_names() {
        let code = |caller: &Caller, method: &Method| check_access(caller, method).map_err(|error| error.code());
        let find = |path: &str| METHODS.iter().chain(SERVER_METHODS).find(|method| method.path == path).unwrap();
        let (login, send, ban) = (find("Session/Login"), find("Message/SendMessage"), find("Admin/BanUser"));
        let connection =
            || Arc::new(ConnectionState::new("127.0.0.1:1".parse().unwrap(), 5, [1; 16], String::new(), 1_000));
        let stranger = Caller::connected(connection());
        assert_eq!(code(&stranger, login), Ok(()));
        assert_eq!(code(&stranger, send), Err(ErrorCode::NetworkModuleUserIsNotLogged));
        assert_eq!(code(&stranger, ban), Err(ErrorCode::CommonModuleUnsupportedRequest));
        let ann = connection();
        ann.log_in(Identity {
            app: AppKey(1),
            user: UserKey(1),
            user_id: "ann".into(),
            login: LoginKey(1),
            ticket: [0; 16],
            login_at: 0,
            one_shot: false,
        });
        let user = Caller::connected(Arc::clone(&ann));
        assert_eq!((code(&user, send), code(&user, ban)), (Ok(()), Err(ErrorCode::CommonModuleUnsupportedRequest)));
        assert_eq!(code(&Caller::server(), ban), Ok(()));
        // The server is no user, and a login that has ended is none any more.
        assert_eq!(code(&Caller::server(), send), Err(ErrorCode::NetworkModuleUserIsNotLogged));
        ann.set_logged_out();
        assert_eq!(code(&user, send), Err(ErrorCode::NetworkModuleUserIsNotLogged));
    }

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
