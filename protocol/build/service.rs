//! Methods: their table, `AnyRequest` and its dispatch, and the traits of the server.

use std::fmt::Write;

use crate::model::{Method, Model, Service};
use crate::shape;

fn each(model: &Model) -> impl Iterator<Item = (&Service, &Method)> {
    model.services.iter().flat_map(|service| service.methods.iter().map(move |method| (service, method)))
}

fn lower_first(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Generates the tables of methods, and `Rpc` for each request.
pub(crate) fn methods(model: &Model) -> String {
    let mut sorted: Vec<_> = each(model).collect();
    sorted.sort_by_key(|(service, method)| method.path(service));
    // A table of their own: no client can name one of the server's methods.
    let (server, wire): (Vec<_>, Vec<_>) = sorted.into_iter().partition(|(_, method)| method.access == "Server");
    let mut out = table("METHODS", "All methods of the wire", &wire);
    out.push_str(&table("SERVER_METHODS", "The methods that only the server itself may call", &server));
    for (name, methods) in [("METHODS", &wire), ("SERVER_METHODS", &server)] {
        for (index, (service, method)) in methods.iter().enumerate() {
            rpc(&mut out, &format!("{name}[{index}]"), service, method);
        }
    }
    out
}

fn table(name: &str, doc: &str, methods: &[(&Service, &Method)]) -> String {
    let mut out = format!("/// {doc}, sorted by path.\npub static {name}: &[Method] = &[\n");
    for (service, method) in methods {
        let _ = writeln!(
            out,
            "    Method {{ path: {:?}, service: {:?}, rpc: {:?}, name: {:?}, reference: {:?}, access: Access::{}, \
             scheduling: Scheduling::{}, rate: Rate::{}, internal: {}, deprecated: {}, idempotent: {}, deadline_ms: {}, doc: {:?}, request: {:?}, response: {:?}, \
             codec: Codec::of::<v1::{}>(&shape::{}) }},",
            method.path(service),
            service.name,
            method.rpc,
            method.name,
            lower_first(&method.rpc),
            method.access,
            method.scheduling,
            method.rate,
            method.internal,
            method.deprecated,
            method.idempotent,
            method.deadline_ms,
            method.doc,
            method.request,
            method.response,
            method.request,
            shape::name(&method.request),
        );
    }
    out.push_str("];\n\n");
    out
}

fn rpc(out: &mut String, entry: &str, service: &Service, method: &Method) {
    let _ = writeln!(
        out,
        "impl Rpc for v1::{request} {{\n    type Response = v1::{response};\n    const METHOD: &'static Method = \
         &{entry};\n\n    fn order(&self) -> Option<u64> {{",
        request = method.request,
        response = method.response,
    );
    if method.scheduling == "Write" {
        let _ = writeln!(
            out,
            "        let {}order = Order::new({:?});",
            if method.targets.is_empty() { "" } else { "mut " },
            order_scope(service, method)
        );
        for line in &method.targets {
            let _ = writeln!(out, "        {line}");
        }
        out.push_str("        Some(order.finish())\n");
    } else {
        out.push_str("        None\n");
    }
    out.push_str("    }\n}\n\n");
}

/// Writes with equal targets are ordered with each other, whatever their service. A write without a target is ordered with
/// those of its service.
fn order_scope<'a>(service: &'a Service, method: &Method) -> &'a str {
    if method.targets.is_empty() { &service.name } else { "" }
}

/// Generates `AnyRequest`.
pub(crate) fn requests(model: &Model) -> String {
    let mut out = String::from(
        "/// A decoded request of any method.\n#[derive(Clone, Debug)]\n#[non_exhaustive]\npub enum AnyRequest {\n",
    );
    for (service, method) in each(model) {
        let _ = writeln!(
            out,
            "    /// `{}`\n    {}(Box<v1::{}>),",
            method.path(service),
            method.variant(service),
            method.request
        );
    }
    out.push_str("}\n\n#[expect(clippy::too_many_lines, reason = \"a line for each method\")]\nimpl AnyRequest {\n");
    for (doc, signature, body) in [
        ("Returns the method that is called.", "method(&self) -> &'static Method", "Rpc::method(&**request)"),
        ("Returns what orders a write: see [`Rpc::order`].", "order(&self) -> Option<u64>", "request.order()"),
        ("Encodes the request.", "encode(&self) -> Vec<u8>", "prost::Message::encode_to_vec(&**request)"),
    ] {
        let _ = writeln!(out, "    /// {doc}\n    pub fn {signature} {{\n        match self {{");
        for (service, method) in each(model) {
            let _ = writeln!(out, "            Self::{}(request) => {body},", method.variant(service));
        }
        out.push_str("        }\n    }\n\n");
    }
    out.push_str(
        "    /// Checks the limits of every field.\n    ///\n    /// # Errors\n    /// The first violation.\n",
    );
    out.push_str("    pub fn validate(&self) -> Result<(), Box<Violation>> {\n        match self {\n");
    for (service, method) in each(model) {
        let _ = writeln!(out, "            Self::{}(request) => request.validate(),", method.variant(service));
    }
    out.push_str("        }\n    }\n}\n\n");
    for (service, method) in each(model) {
        let (request, variant) = (&method.request, method.variant(service));
        let _ = writeln!(
            out,
            "impl From<v1::{request}> for AnyRequest {{\n    fn from(request: v1::{request}) -> Self {{\n        \
             Self::{variant}(Box::new(request))\n    }}\n}}\n"
        );
    }
    out
}

fn doc(out: &mut String, indent: &str, text: &str) {
    let _ = writeln!(out, "{indent}/// {text}");
}

/// Generates the traits that a server implements.
pub(crate) fn server(model: &Model) -> String {
    let mut out = String::new();
    for service in &model.services {
        doc(&mut out, "", &service.doc);
        let _ = writeln!(out, "pub trait {}Service: Backend {{", service.name);
        for method in &service.methods {
            doc(&mut out, "    ", &method.doc);
            let _ = writeln!(
                out,
                "    fn {}(&self, caller: &Self::Caller, request: v1::{}) -> impl Future<Output = Result<v1::{}, Self::Error>> + Send;",
                method.name, method.request, method.response
            );
        }
        out.push_str("}\n\n");
    }
    let all: Vec<String> = model.services.iter().map(|service| format!("{}Service", service.name)).collect();
    let _ = writeln!(
        out,
        "/// All services together.\npub trait Services: {all} {{}}\n\nimpl<S: {all}> Services for S {{}}",
        all = all.join(" + ")
    );
    out
}

/// Generates `AnyRequest::call`.
pub(crate) fn dispatch(model: &Model) -> String {
    let mut out = String::from(
        "#[expect(clippy::too_many_lines, reason = \"a line for each method\")]\nimpl AnyRequest {\n    /// Calls the service and encodes its response.\n",
    );
    out.push_str("    pub fn call<'a, S: Services>(\n        self,\n        services: &'a S,\n        caller: &'a S::Caller,\n    ) -> BoxFuture<'a, Result<bytes::Bytes, S::Error>> {\n        match self {\n");
    for (service, method) in each(model) {
        let _ = writeln!(
            out,
            "            Self::{}(request) => Box::pin(async move {{ {}Service::{}(services, caller, *request).await.map(|it| \
             prost::Message::encode_to_vec(&it).into()) }}),",
            method.variant(service),
            service.name,
            method.name
        );
    }
    out.push_str("        }\n    }\n}\n");
    out
}
