//! The tables of the reference, as `reference/` holds them. `methods.tsv` has the forms of SDK 2.29 where the older class
//! reference differs, and the methods that only 2.29 has. A `?` stands for what no table says.

use std::collections::{BTreeMap, BTreeSet};

/// A parameter of a method, or a field of a type or an event.
pub(crate) struct Item {
    pub(crate) name: &'static str,
    /// The TypeScript type: `string`, `UserInfo[]`, `Record<string, string>`.
    pub(crate) kind: &'static str,
}

impl Item {
    fn read(text: &'static str) -> Self {
        let (name, kind) = text.trim().split_once(':').unwrap();
        Self { name: name.trim_end_matches('?'), kind: kind.trim().trim_end_matches(" (deprecated)") }
    }

    /// Whether it is a callback. In Rust, a builder takes callbacks.
    pub(crate) fn is_callback(&self) -> bool {
        self.name.strip_prefix("on").is_some_and(|rest| rest.starts_with(char::is_uppercase))
    }
}

pub(crate) struct Type {
    pub(crate) base: Option<&'static str>,
    /// The type's own fields.
    pub(crate) fields: Vec<Item>,
}

/// One form of a method.
pub(crate) struct Signature {
    pub(crate) method: &'static str,
    pub(crate) rust_name: &'static str,
    /// `None`: no table has them.
    pub(crate) parameters: Option<Vec<Item>>,
    pub(crate) result: &'static str,
    pub(crate) is_deprecated: bool,
}

/// Returns names with the indented lines that follow each.
fn blocks(text: &'static str) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut blocks: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("  ") {
            Some(field) => blocks.last_mut().unwrap().1.push(field),
            None => blocks.push((line, Vec::new())),
        }
    }
    blocks
}

pub(crate) fn types() -> BTreeMap<&'static str, Type> {
    let read = |(head, fields): (&'static str, Vec<&'static str>)| {
        let (name, base) = head.split_once(" < ").map_or((head, None), |(name, base)| (name, Some(base)));
        (name, Type { base, fields: fields.into_iter().map(Item::read).collect() })
    };
    blocks(include_str!("reference/types.txt")).into_iter().map(read).collect()
}

/// Returns the events with their fields, in the reference's order.
pub(crate) fn events() -> Vec<(&'static str, Vec<Item>)> {
    let read = |(head, fields): (&'static str, Vec<&'static str>)| {
        // The payload of one event is a string without a name.
        let fields = fields.into_iter().map(|field| if field == "string" { "content: string" } else { field });
        (head.trim_end_matches(" (deprecated)"), fields.map(Item::read).collect())
    };
    blocks(include_str!("reference/events.txt")).into_iter().map(read).collect()
}

pub(crate) fn methods() -> Vec<Signature> {
    let read = |line: &'static str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let [_, method, rust_name, parameters, result, flags] = cells[..] else { panic!("{line}") };
        let parameters = match parameters {
            "?" => None,
            "" => Some(Vec::new()),
            // No type of a parameter has a comma but `Record<string, string>`.
            list => Some(list.replace("string, string", "string; string").leak().split(", ").map(Item::read).collect()),
        };
        Signature { method, rust_name, parameters, result, is_deprecated: flags.contains("deprecated") }
    };
    include_str!("reference/methods.tsv").lines().skip(1).map(read).collect()
}

/// A line of `absent.txt`: what the contract does not have, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Absence {
    pub(crate) class: &'static str,
    /// What takes its place.
    pub(crate) item: &'static str,
    pub(crate) reason: &'static str,
}

impl Absence {
    /// Reads `KIND NAME CLASS ITEM: reason`; returns the kind, the name and the rest.
    pub(crate) fn read(line: &'static str) -> Option<(&'static str, &'static str, Self)> {
        let (head, reason) = line.split_once(": ")?;
        let words: Vec<&str> = head.split(' ').collect();
        let [kind @ ("method" | "type"), name, class @ ("unwritten" | "local" | "elsewhere" | "unused"), item] =
            words[..]
        else {
            return None;
        };
        // A single word says nothing to anybody.
        let is_reason = reason.trim() == reason && reason.contains(' ');
        (is_reason && !name.is_empty() && !item.is_empty()).then_some((kind, name, Self { class, item, reason }))
    }
}

/// The names of one kind, `method` or `type`, that the contract does not have: `absent.txt`.
pub(crate) fn absent(kind: &str) -> BTreeSet<&'static str> {
    absences(kind).into_keys().collect()
}

/// The same, each with the reason.
pub(crate) fn absences(kind: &str) -> BTreeMap<&'static str, Absence> {
    let mut names = BTreeMap::new();
    for line in include_str!("absent.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (of, name, absence) = Absence::read(line).unwrap_or_else(|| panic!("absent.txt: {line}"));
        if of == kind {
            assert!(names.insert(name, absence).is_none(), "{line} is there twice");
        }
    }
    names
}

#[test]
fn a_line_about_what_is_absent_has_a_reason() {
    let (kind, name, absence) = Absence::read("method on local Zim::on: the SDK chooses who hears: all").unwrap();
    let expected = Absence { class: "local", item: "Zim::on", reason: "the SDK chooses who hears: all" };
    assert_eq!((kind, name, absence), ("method", "on", expected));
    for bad in [
        "method on local",
        "method on local Zim::on",
        "method on local Zim::on:",
        "method on local Zim::on: ",
        "method on local Zim::on: local",
        "method on local: nothing travels",
        "method on local Zim::on Zim::off: nothing travels",
        "method on allowed Zim::on: nothing travels",
        "event on local Zim::on: nothing travels",
    ] {
        assert_eq!(Absence::read(bad), None, "{bad}");
    }
}
