//! The whole surface of the contract as committed text, so that a change of the wire shows in review. The names are the
//! reference's, to the letter.

use std::collections::HashMap;
use std::fmt::Write;

use crate::surface::{Surface, committed, messages, type_of};
use zim_protocol::{ErrorCode, EventKind, METHODS};

#[test]
fn the_wire_changes_only_on_purpose() {
    let surface = Surface::read();
    let mut text = String::from("# The contract, as it is on the wire. Written by its test; see CONTRIBUTING.md.\n");
    for method in METHODS {
        let _ = writeln!(
            text,
            "method {} ({}) -> {} access={:?} scheduling={:?}{}{}",
            method.path,
            method.request,
            method.response,
            method.access,
            method.scheduling,
            if method.internal { " internal" } else { "" },
            if method.idempotent { " idempotent" } else { "" },
        );
    }
    for file in surface.files() {
        for message in messages(&file) {
            for field in message.fields() {
                let limits = surface.limits(&field).join(", ");
                let _ = writeln!(
                    text,
                    "field {}.{} = {} {} json={}{}",
                    message.name(),
                    field.name(),
                    field.number(),
                    type_of(&field),
                    field.json_name(),
                    if limits.is_empty() { String::new() } else { format!(" [{limits}]") },
                );
            }
        }
    }
    for one in surface.enums() {
        for value in one.values() {
            let _ = writeln!(text, "enum {} {} = {}", one.name(), value.name(), value.number());
        }
    }
    let how = "If the change is intended and clients of the previous version can cope with it, run: \
               UPDATE=1 cargo nextest run -p zim-protocol --test contract";
    committed("tests/contract/contract.txt", &text, how);
}

/// Normalizes a name: `OnlyPinned` and `ONLY_PINNED` are the same.
fn plain(name: &str) -> String {
    name.replace('_', "").to_lowercase()
}

#[test]
fn enums_have_the_references_members_and_numbers() {
    let surface = Surface::read();
    let ours: HashMap<String, _> = surface.enums().into_iter().map(|one| (one.name().to_owned(), one)).collect();
    for line in include_str!("reference/enums.txt").lines().filter(|line| !line.is_empty()) {
        let (name, members) = line.split_once(':').unwrap();
        let one = ours.get(name).unwrap_or_else(|| panic!("there is no enum {name}"));
        for member in members.split_whitespace().filter(|member| !member.starts_with("Community")) {
            let (member, number) = member.split_once('=').unwrap();
            let number: i32 = number.parse().unwrap();
            let value = one.get_value(number).unwrap_or_else(|| panic!("{name} has no {number}"));
            assert_eq!(plain(value.name()), plain(&format!("{name}{member}")), "{name} {number}");
        }
    }
}

#[test]
fn error_codes_have_the_references_names() {
    let mut count = 0;
    for line in include_str!("reference/errors.tsv").lines().skip(1) {
        let (code, name) = line.split_once('\t').unwrap();
        let code = ErrorCode::try_from(code.parse::<i32>().unwrap()).unwrap_or_else(|_| panic!("there is no {code}"));
        assert_eq!(code.reference_name(), name);
        count += 1;
    }
    assert_eq!(count, 169);
}

#[test]
fn events_have_the_references_names_and_fields() {
    let surface = Surface::read();
    let mut names = Vec::new();
    let mut message = None;
    for line in include_str!("reference/events.txt").lines().filter(|line| !line.is_empty()) {
        if let Some(field) = line.strip_prefix("  ") {
            let Some((name, _)) = field.split_once(':') else { continue };
            let message: &prost_reflect::MessageDescriptor = message.as_ref().unwrap();
            assert!(message.get_field_by_json_name(name).is_some(), "{} has no {name}", message.name());
        } else {
            let name = line.split_whitespace().next().unwrap();
            names.push(name.to_owned());
            let event = format!("zim.v1.{}{}Event", name[..1].to_uppercase(), &name[1..]);
            message = Some(surface.pool.get_message_by_name(&event).unwrap_or_else(|| panic!("there is no {event}")));
        }
    }
    let ours: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(ours, names);
    assert_eq!(ours.len(), 60);
}

/// Messages that share their name with a class of the reference and are not that class.
const OTHERS: [&str; 2] = ["Error", "App"];

#[test]
fn types_have_the_references_fields() {
    let surface = Surface::read();
    let mut types: HashMap<&str, (Option<&str>, Vec<&str>)> = HashMap::new();
    let mut current = "";
    for line in include_str!("reference/types.txt").lines().filter(|line| !line.is_empty()) {
        if let Some(field) = line.strip_prefix("  ") {
            let (name, kind) = field.split_once(':').unwrap();
            // `type: MessageType.Text` becomes the variant of the oneof.
            if !kind.contains("MessageType.") {
                types.get_mut(current).unwrap().1.push(name.trim_end_matches('?'));
            }
        } else {
            let mut names = line.split('<').map(str::trim);
            current = names.next().unwrap();
            types.insert(current, (names.next(), Vec::new()));
        }
    }
    let mut checked = 0;
    for (name, (base, fields)) in &types {
        let Some(message) = surface.pool.get_message_by_name(&format!("zim.v1.{name}")) else { continue };
        if OTHERS.contains(name) {
            continue;
        }
        let mut fields = fields.clone();
        // A body has only its own fields; `Message` has the common ones.
        let is_body = matches!(base, Some("Message" | "MediaMessage" | "MessageLiteInfo" | "MediaMessageLiteInfo"));
        if let Some((_, more)) = base.filter(|_| !is_body).and_then(|base| types.get(base)) {
            fields.extend(more);
        }
        for field in fields {
            // Callbacks: in Rust a builder takes them.
            if field.starts_with("on") && field.chars().nth(2).is_some_and(char::is_uppercase) {
                continue;
            }
            assert!(message.get_field_by_json_name(field).is_some(), "{name} has no {field}");
        }
        checked += 1;
    }
    assert!(checked > 80, "only {checked} types were looked at");
}

#[test]
fn methods_have_the_references_names() {
    let reference = include_str!("reference/methods.tsv");
    for method in METHODS.iter().filter(|method| !method.internal) {
        let names = format!("\t{}\t{}\n", method.reference, method.name);
        assert!(reference.contains(&names), "the reference has no {} ({})", method.reference, method.name);
    }
}
