//! `zim call`: calls any method of the server.

use std::io::Read;

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use zim_protocol::{Access, METHODS, Method, Scheduling};

use crate::context::Context;
use crate::exit::Failure;
use crate::output::{Align, Table};
use crate::text::{preview, printable_json, without_mark};
use crate::unknown;

/// How the names of the methods of the SDK begin that are not part of the API.
const OF_THE_SDK: &str = "zim.";

/// `zim call`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zim call --list
  zim call User/QueryUsersInfo '{\"userIDs\":[\"bob\"]}'
  zim call zim.diagnostics
  zim call Message/SendMessage '{\"message\":{\"type\":1,\"message\":\"hi\"},\"toConversationID\":\"bob\"}'

Names and numbers are those of the reference documentation. Omitted fields have their defaults. Unknown fields are \
ignored with a warning; with --strict they are an error. Names that begin with zim. are those of callExperimentalAPI: \
zim.diagnostics says how the connection is, zim.networkChanged moves it to a new socket.")]
pub(crate) struct CallArgs {
    /// The method, as in --list
    #[arg(required_unless_present = "list", value_name = "METHOD")]
    method: Option<String>,
    /// The request; - reads standard input
    #[arg(value_name = "JSON", default_value = "{}", hide_default_value = true)]
    request: String,
    /// Refuse a request with unknown fields
    #[arg(long, conflicts_with = "list")]
    strict: bool,
    /// List the methods
    #[arg(long, conflicts_with_all = ["method", "request"])]
    list: bool,
    /// Also list methods that only an SDK needs
    #[arg(long, requires = "list")]
    internal: bool,
}

/// A method in JSON.
#[derive(Serialize)]
struct Listed {
    method: &'static str,
    name: &'static str,
    doc: &'static str,
    request: &'static str,
    response: &'static str,
    changes: bool,
    access: &'static str,
    deprecated: bool,
    internal: bool,
}

impl From<&'static Method> for Listed {
    fn from(method: &'static Method) -> Self {
        Self {
            method: method.path,
            name: method.reference,
            doc: method.doc,
            request: method.request,
            response: method.response,
            changes: method.scheduling == Scheduling::Write,
            access: if method.access == Access::Anyone { "anyone" } else { "user" },
            deprecated: method.deprecated,
            internal: method.internal,
        }
    }
}

pub(crate) async fn run(args: CallArgs, context: &Context) -> Result<(), Failure> {
    if args.list {
        return list(context, args.internal);
    }
    let path = args.method.unwrap_or_default();
    if path.starts_with(OF_THE_SDK) {
        return experimental(&path, read_request(&args.request)?, context).await;
    }
    let method = find(&path)?;
    let request = read_request(&args.request)?;
    let unknown = unknown::fields(method, &request)?;
    if !unknown.is_empty() {
        let unknown = format!("{} has no field {}", method.request, unknown.join(", "));
        if args.strict {
            return Err(Failure::usage(unknown));
        }
        context.output.warn(format!("{unknown}; it is ignored"));
    }
    let session = context.one_shot().await?;
    let answer = session.zim.call_json(method.path, request).await;
    session.end().await;
    show(&answer?, context)
}

/// Calls a method of the SDK that is not part of the API.
async fn experimental(method: &str, params: Value, context: &Context) -> Result<(), Failure> {
    let session = context.one_shot().await?;
    let call = serde_json::json!({ "method": method, "params": params });
    let answer = session.zim.call_experimental_api(&call.to_string()).await;
    session.end().await;
    show(&serde_json::from_str::<Value>(&answer?)?, context)
}

fn show(answer: &Value, context: &Context) -> Result<(), Failure> {
    if context.output.is_json() {
        return context.output.json(answer);
    }
    context.output.line(printable_json(&serde_json::to_string_pretty(answer)?))
}

fn list(context: &Context, internal: bool) -> Result<(), Failure> {
    let methods = METHODS.iter().filter(|method| internal || !method.internal);
    if context.output.is_json() {
        return methods.map(Listed::from).try_for_each(|method| context.output.json(&method));
    }
    let mut table = Table::new(&[("METHOD", Align::Left), ("", Align::Left)]);
    for method in methods {
        table.row([method.path.to_owned(), preview(method.doc, 100)]);
    }
    context.output.table(&table)
}

pub(crate) fn find(path: &str) -> Result<&'static Method, Failure> {
    zim_protocol::method(path).ok_or_else(|| {
        let failure = Failure::usage(format!("there is no method {path:?}"));
        match similar(path).as_slice() {
            [] => failure.hint("zim call --list"),
            similar => failure.hint(format!("did you mean {}?", similar.join(" or "))),
        }
    })
}

/// Returns methods with a similar name: another spelling, or a part of the name.
fn similar(path: &str) -> Vec<&'static str> {
    let plain = |text: &str| text.chars().filter(|letter| letter.is_alphanumeric()).collect::<String>().to_lowercase();
    let wanted = plain(path);
    if wanted.len() < 3 {
        return Vec::new();
    }
    let is_similar = |method: &&Method| plain(method.path).contains(&wanted) || wanted.contains(&plain(method.rpc));
    METHODS.iter().filter(is_similar).map(|method| method.path).take(3).collect()
}

pub(crate) fn read_request(text: &str) -> Result<Value, Failure> {
    let mut from_stdin = String::new();
    let text = if text == "-" {
        std::io::stdin().lock().read_to_string(&mut from_stdin)?;
        without_mark(&from_stdin)
    } else {
        text
    };
    let value: Value =
        serde_json::from_str(text).map_err(|error| Failure::usage(format!("the request is not JSON: {error}")))?;
    if !value.is_object() {
        return Err(Failure::usage("the request must be a JSON object, as in {\"userIDs\":[\"bob\"]}"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_found_and_a_misspelt_one_has_a_hint() {
        assert_eq!(find("Message/SendMessage").unwrap().reference, "sendMessage");
        for misspelt in ["sendMessage", "send_message", "message/sendmessage", "Messages/SendMessage"] {
            let hint = find(misspelt).unwrap_err().hint.unwrap();
            assert!(hint.contains("did you mean Message/SendMessage"), "{misspelt}: {hint}");
        }
        assert_eq!(find("x").unwrap_err().hint.as_deref(), Some("zim call --list"));
    }

    #[test]
    fn a_request_is_a_json_object() {
        assert_eq!(read_request("{}").unwrap(), serde_json::json!({}));
        assert!(read_request("{").unwrap_err().message.contains("not JSON"));
        assert!(read_request("[]").unwrap_err().message.contains("object"));
    }
}
