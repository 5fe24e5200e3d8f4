//! The whole surface of the contract as committed text, so that a change of the wire shows in review. The names are the
//! reference's, to the letter.

use std::collections::HashMap;
use std::fmt::Write;

use crate::surface::{Surface, committed, messages, type_of};
use zim_protocol::{ErrorCode, METHODS};

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
fn an_id_is_called_id_in_json() {
    let ends = |name: &str, end: &str| name.strip_suffix(end).is_some_and(|rest| rest.ends_with(char::is_lowercase));
    for file in Surface::read().files() {
        for field in messages(&file).iter().flat_map(prost_reflect::MessageDescriptor::fields) {
            let name = field.json_name();
            assert!(!ends(name, "Id") && !ends(name, "Ids"), "{}: json_name is missing", field.full_name());
        }
    }
}
