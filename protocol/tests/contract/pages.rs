//! Generates the reference pages of the book from the contract. `just docs` writes them, and these tests compare them.

use std::fmt::Write;

use crate::surface::{Surface, comment, committed, messages, type_of};
use prost_reflect::{FileDescriptor, Kind, MessageDescriptor};
use zim_protocol::{Access, ErrorCode, EventKind, METHODS, Method, Scheduling};

const HOW: &str = "The pages are generated: run `just docs`";

fn page(name: &str, text: &str) {
    committed(&format!("../docs/reference/{name}.md"), text, HOW);
}

fn find(surface: &Surface, name: &str) -> (FileDescriptor, MessageDescriptor) {
    let files = surface.files();
    let found = files.into_iter().find_map(|file| {
        let message = messages(&file).into_iter().find(|message| message.name().eq_ignore_ascii_case(name));
        message.map(|message| (file, message))
    });
    found.unwrap_or_else(|| panic!("there is no message {name}"))
}

fn fields(out: &mut String, surface: &Surface, name: &str) {
    let (file, message) = find(surface, name);
    if message.fields().len() == 0 {
        let _ = writeln!(out, "`{}` is empty.\n", message.name());
        return;
    }
    let _ = writeln!(out, "`{}`:\n\n| field | type | limits | |\n|---|---|---|---|", message.name());
    for field in message.fields() {
        let limits = surface.limits(&field);
        let limits: Vec<&str> = limits.iter().map(String::as_str).filter(|limit| *limit != "orders writes").collect();
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            field.json_name(),
            type_of(&field),
            limits.join(", "),
            comment(&file, field.path()),
        );
    }
    out.push('\n');
}

fn rules(method: &Method) -> String {
    let who = match method.access {
        Access::Server => unreachable!("no method of the wire"),
        Access::User => "Needs a login.",
        Access::Anyone => "Needs no login.",
    };
    let order = match method.scheduling {
        Scheduling::Read => "A read.",
        Scheduling::Write => "A write: those of one session with the same target run in order.",
    };
    let again = if method.idempotent { " Idempotent." } else { "" };
    format!("{who} {order}{again}")
}

#[test]
fn the_pages_of_the_methods_are_current() {
    let surface = Surface::read();
    let mut services: Vec<&str> = METHODS.iter().map(|method| method.service).collect();
    services.dedup();
    let mut index = String::from("# Reference\n\nGenerated from the contract. JSON uses exactly these names.\n\n");
    for service in services {
        let mut text = format!("# {service}\n\n");
        for method in METHODS.iter().filter(|method| method.service == service) {
            let title = if method.internal { method.rpc } else { method.reference };
            let _ = writeln!(text, "## {title}\n\n{}\n", method.doc);
            let _ = writeln!(text, "Wire: `{}`. {}\n", method.path, rules(method));
            fields(&mut text, &surface, method.request);
            fields(&mut text, &surface, method.response);
        }
        let name = service.to_lowercase();
        page(&name, &text);
        let _ = writeln!(index, "- [{service}]({name}.md)");
    }
    index.push_str(
        "- [Events](events.md)\n- [Error codes](errors.md)\n- [Conformance](conformance.md): what tests show of each\n",
    );
    page("README", &index);
}

#[test]
fn the_page_of_the_events_is_current() {
    let surface = Surface::read();
    let mut text = String::from(
        "# Events\n\nThe events of the reference, and at the end our own, as `zim listen` prints them.\n\n",
    );
    for kind in EventKind::ALL {
        let _ = writeln!(text, "## {kind}\n");
        let (file, message) = find(&surface, &format!("{kind}Event"));
        let comment = comment(&file, message.path());
        if !comment.is_empty() {
            let _ = writeln!(text, "{comment}\n");
        }
        fields(&mut text, &surface, &format!("{kind}Event"));
    }
    page("events", &text);
}

#[test]
fn the_page_of_the_error_codes_is_current() {
    let surface = Surface::read();
    let codes = surface.pool.get_enum_by_name("zim.v1.ErrorCode").unwrap();
    let mut text = String::from("# Error codes\n\n| code | name |\n|---|---|\n");
    for value in codes.values() {
        let code = ErrorCode::try_from(value.number()).unwrap();
        let _ = writeln!(text, "| {} | {} |", value.number(), code.reference_name());
    }
    page("errors", &text);
}

#[test]
fn every_message_field_of_a_method_has_a_type_of_the_contract() {
    let surface = Surface::read();
    for method in METHODS {
        for name in [method.request, method.response] {
            let (_, message) = find(&surface, name);
            for field in message.fields() {
                if let Kind::Message(inner) = field.kind() {
                    assert!(inner.full_name().starts_with("zim.v1."), "{name}.{}", field.name());
                }
            }
        }
    }
}
