//! Events and error codes, with the reference's names.

use std::fmt::Write;

use anyhow::{Context, Result, bail};
use prost_reflect::{DescriptorPool, Kind};

use crate::model::{camel, type_name};

/// Generates `EventKind`, the functions of `Event` that need it, and the kind of each payload.
pub(crate) fn events(pool: &DescriptorPool) -> Result<String> {
    let record = pool.get_message_by_name("zim.v1.EventRecord").context("EventRecord")?;
    let oneof = record.oneofs().find(|oneof| oneof.name() == "event").context("the oneof of events")?;
    let events: Vec<(String, String)> =
        oneof.fields().map(|field| (camel(field.name()), field.json_name().to_owned())).collect();
    let mut out = String::from(
        "/// The kind of an event, which `on` and `off` of the reference take.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]\npub enum EventKind {\n",
    );
    for (variant, name) in &events {
        writeln!(out, "    /// `{name}`\n    {variant},")?;
    }
    out.push_str("}\n\nimpl EventKind {\n    /// All kinds.\n    pub const ALL: &'static [Self] = &[\n");
    for (variant, _) in &events {
        writeln!(out, "        Self::{variant},")?;
    }
    out.push_str("    ];\n\n    /// Returns the reference's name, such as `peerMessageReceived`.\n    pub fn name(self) -> &'static str {\n        match self {\n");
    for (variant, name) in &events {
        writeln!(out, "            Self::{variant} => {name:?},")?;
    }
    out.push_str("        }\n    }\n}\n\nimpl v1::event_record::Event {\n    /// Returns the kind of this event.\n    pub fn kind(&self) -> EventKind {\n        match self {\n");
    for (variant, _) in &events {
        writeln!(out, "            Self::{variant}(_) => EventKind::{variant},")?;
    }
    out.push_str("        }\n    }\n\n    pub(crate) fn payload(&self) -> serde_json::Result<serde_json::Value> {\n        match self {\n");
    for (variant, _) in &events {
        writeln!(out, "            Self::{variant}(payload) => serde_json::to_value(payload),")?;
    }
    out.push_str("        }\n    }\n}\n");
    for (field, (variant, _)) in oneof.fields().zip(&events) {
        let Kind::Message(payload) = field.kind() else { bail!("{}: an event is a message", field.full_name()) };
        let name = type_name(&payload);
        writeln!(
            out,
            "\nimpl sealed::Sealed for v1::{name} {{}}\n\nimpl EventType for v1::{name} {{\n    \
             const KIND: EventKind = EventKind::{variant};\n\n    \
             fn of(event: &v1::event_record::Event) -> Option<&Self> {{\n        match event {{\n            \
             v1::event_record::Event::{variant}(payload) => Some(payload),\n            _ => None,\n        }}\n    }}\n}}"
        )?;
    }
    Ok(out)
}

/// Generates the reference's names of the error codes.
pub(crate) fn errors(pool: &DescriptorPool) -> Result<String> {
    let codes = pool.get_enum_by_name("zim.v1.ErrorCode").context("ErrorCode")?;
    let mut out = String::from(
        "impl v1::ErrorCode {\n    /// Returns the reference's name, such as `MessageModuleTargetDoesNotExist`.\n    \
         #[expect(clippy::too_many_lines, reason = \"a line for each code\")]\n    \
         pub fn reference_name(self) -> &'static str {\n        match self {\n",
    );
    let name = pool.get_extension_by_name("zim.v1.reference").context("option zim.v1.reference")?;
    for value in codes.values() {
        let variant = camel(&value.name().trim_start_matches("ERROR_CODE_").to_lowercase());
        let options = value.options();
        let given = options.get_extension(&name);
        let reference = given.as_str().filter(|name| !name.is_empty()).unwrap_or(&variant);
        writeln!(out, "            Self::{variant} => {reference:?},")?;
    }
    out.push_str("        }\n    }\n}\n");
    Ok(out)
}
