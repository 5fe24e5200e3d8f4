//! Settings by name, and methods by name, as the reference has them for what is not part of its API. Here each name is
//! documented, and another one is refused.

use serde::Deserialize;
use serde_json::{Value, json};
use zim_protocol::ErrorCode;

use crate::advanced;
#[cfg(doc)]
use crate::config::Config;
use crate::error::Error;
use crate::message::invalid;
use crate::zim::Zim;

/// What [`Zim::call_experimental_api`] takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    method: String,
    #[serde(default)]
    params: Value,
}

/// What `zim.call` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MethodCall {
    path: String,
    #[serde(default = "nothing")]
    request: Value,
}

fn nothing() -> Value {
    json!({})
}

impl Zim {
    /// Sets a setting by its name (reference: `setAdvancedConfig`). It holds for clients that are created afterwards, whatever their
    /// [`Config`] says, so it has to come before [`Zim::create`]. The last value of a name counts.
    ///
    /// | key | value | like |
    /// |---|---|---|
    /// | `connect_timeout_ms` | 100 to 600000 | [`Config::connect_timeout_ms`] |
    /// | `request_timeout_ms` | 100 to 600000 | [`Config::request_timeout_ms`] |
    /// | `resend_window_ms` | 100 to 600000 | [`Config::resend_window_ms`] |
    /// | `retry_login` | `true` or `false` | [`Config::retry_login`] |
    ///
    /// # Errors
    /// 6000001: there is no such key, or the value is none that it can have.
    pub fn set_advanced_config(key: &str, value: &str) -> Result<(), Error> {
        advanced::set(key, value)
    }

    /// Calls a method that is not part of the API (reference: `callExperimentalAPI`). `params` is JSON:
    /// `{"method":"zim.diagnostics","params":{}}`; so is the answer. These methods may change with any version.
    ///
    /// | method | params | answer |
    /// |---|---|---|
    /// | `zim.diagnostics` | none | the state of the connection, and, while it lasts, what the server says of itself and its clock |
    /// | `zim.networkChanged` | none | `{}`, after [`Zim::network_changed`] |
    /// | `zim.call` | `path` and `request` | the answer of any method of the protocol, as [`Zim::call_json`] |
    ///
    /// # Errors
    /// 6000001: `params` is not such JSON. 6000013: there is no such method. Besides, the errors of the method.
    pub async fn call_experimental_api(&self, params: &str) -> Result<String, Error> {
        self.client().alive()?;
        let unreadable = |error: serde_json::Error| invalid(&format!("params cannot be read: {error}"));
        let Call { method, params } = serde_json::from_str(params).map_err(unreadable)?;
        let without_params = || match &params {
            Value::Null => Ok(()),
            Value::Object(fields) if fields.is_empty() => Ok(()),
            _ => Err(invalid(&format!("{method} has no params"))),
        };
        let answer = match method.as_str() {
            "zim.diagnostics" => {
                without_params()?;
                self.diagnostics()
            }
            "zim.networkChanged" => {
                without_params()?;
                self.network_changed();
                json!({})
            }
            "zim.call" => {
                let MethodCall { path, request } = serde_json::from_value(params).map_err(unreadable)?;
                self.call_json(&path, request).await?
            }
            _ => {
                let message = format!("there is no experimental method {method:?}");
                return Err(Error::new(ErrorCode::CommonModuleUnsupportedRequest, message));
            }
        };
        Ok(answer.to_string())
    }

    fn diagnostics(&self) -> Value {
        let state = self.connection_state() as i32;
        let login = self.client().login.lock().clone();
        let welcome = login.and_then(|login| login.link.present_welcome());
        let server = welcome.map(|welcome| {
            json!({
                "version": welcome.server_version,
                "area": welcome.area,
                "epoch": zim_protocol::id::hex(&welcome.epoch),
                "clockAheadMs": welcome.server_time.saturating_sub(self.client().config.clock.now_ms()),
            })
        });
        json!({ "sdkVersion": Self::get_version(), "connectionState": state, "server": server })
    }
}
