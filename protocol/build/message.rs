//! Messages as Rust types with the reference's JSON, to the letter.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

use crate::model::{camel, snake, type_name};

/// Messages with a `type` and a body, whose fields stand beside the common ones in JSON.
const WITH_BODY: [&str; 3] = ["zim.v1.Message", "zim.v1.MessageLiteInfo", "zim.v1.TipsMessageChangeInfo"];

/// The one of them that has a body for several types. `src/flat.rs` relates them.
const BY_HAND: &str = "zim.v1.TipsMessageChangeInfo";

const DERIVE: &str = "#[derive(serde::Serialize, serde::Deserialize)]";

/// Rare parts of a message, which go on the heap. Inline, they would make every message twice as large, and a message is
/// moved a dozen times on its way.
const RARE: [&str; 9] = [
    ".zim.v1.Message.replied_info",
    ".zim.v1.Message.body.image",
    ".zim.v1.Message.body.file",
    ".zim.v1.Message.body.audio",
    ".zim.v1.Message.body.video",
    ".zim.v1.Message.body.revoke",
    ".zim.v1.Message.body.tips",
    ".zim.v1.Message.body.combine",
    ".zim.v1.MessageEntry.state",
];

/// Tells prost to box the rare parts of a message.
pub(crate) fn boxes(config: &mut prost_build::Config) {
    for path in RARE {
        config.boxed(path);
    }
}

/// Whether the fields of the body stand beside the common ones in JSON.
pub(crate) fn is_flat(message: &MessageDescriptor) -> bool {
    WITH_BODY.contains(&message.full_name())
}

fn ours(pool: &DescriptorPool) -> impl Iterator<Item = MessageDescriptor> {
    pool.all_messages().filter(|message| message.package_name() == "zim.v1" && !message.is_map_entry())
}

/// Gives each message, oneof and field its serde attributes.
pub(crate) fn attributes(config: &mut prost_build::Config, pool: &DescriptorPool) -> Result<()> {
    for message in ours(pool) {
        let path = format!(".{}", message.full_name());
        config.message_attribute(&path, DERIVE);
        config.message_attribute(&path, "#[serde(default)]");
        let with_body = is_flat(&message);
        if with_body {
            // `src/flat.rs` merges the body into the common fields.
            config.message_attribute(&path, "#[serde(remote = \"Self\")]");
        }
        for oneof in message.oneofs().filter(|oneof| !is_optional(oneof)) {
            let oneof_path = format!("{path}.{}", oneof.name());
            config.enum_attribute(&oneof_path, DERIVE);
            if with_body {
                // prost also adds the attribute to the variants. That does no harm: serde never sees a body.
                config.field_attribute(&oneof_path, "#[serde(skip)]");
                continue;
            }
            // With a path from the root, prost would add it to the variants as well.
            let field = format!("{}.{}", message.name(), oneof.name());
            config.field_attribute(field, "#[serde(flatten, deserialize_with = \"crate::json::oneof\")]");
            for field in oneof.fields() {
                let variant = format!("{oneof_path}.{}", field.name());
                config.field_attribute(&variant, rename(&field));
                if matches!(field.kind(), Kind::Bytes) {
                    config.field_attribute(&variant, "#[serde(with = \"crate::json::base64\")]");
                }
            }
        }
        for field in message.fields().filter(|field| !in_oneof(field)) {
            let field_path = format!("{path}.{}", field.name());
            config.field_attribute(&field_path, rename(&field));
            if is_number_id(&field) {
                config.field_attribute(&field_path, "#[serde(with = \"crate::json::decimal\")]");
            }
            if has_bytes(&field) {
                let is_plain = !field.is_list() && !field.is_map() && !field.supports_presence();
                ensure!(is_plain, "{}: bytes have JSON only in a plain field", field.full_name());
                config.field_attribute(&field_path, "#[serde(with = \"crate::json::base64\")]");
            }
            if field.supports_presence() && !field.is_list() {
                config.field_attribute(&field_path, "#[serde(skip_serializing_if = \"Option::is_none\")]");
            }
        }
    }
    Ok(())
}

/// Whether the field holds bytes, also as the values of a map.
fn has_bytes(field: &FieldDescriptor) -> bool {
    match field.kind() {
        Kind::Bytes => true,
        Kind::Message(entry) if field.is_map() => matches!(entry.map_entry_value_field().kind(), Kind::Bytes),
        _ => false,
    }
}

/// Whether the field is an ID of 64 bits. JSON numbers are exact up to 2^53 only, so these are strings there, as
/// `messageID` of the reference is.
fn is_number_id(field: &FieldDescriptor) -> bool {
    field.json_name().ends_with("ID") && matches!(field.kind(), Kind::Int64 | Kind::Uint64) && !field.is_list()
}

fn rename(field: &FieldDescriptor) -> String {
    format!("#[serde(rename = \"{}\")]", field.json_name())
}

fn is_optional(oneof: &prost_reflect::OneofDescriptor) -> bool {
    oneof.is_synthetic()
}

fn in_oneof(field: &FieldDescriptor) -> bool {
    field.containing_oneof().is_some_and(|oneof| !is_optional(&oneof))
}

/// Generates the JSON keys of each oneof, except that of a flat body.
pub(crate) fn oneofs(pool: &DescriptorPool) -> Result<String> {
    let mut out = String::new();
    for message in ours(pool).filter(|message| !is_flat(message)) {
        for oneof in message.oneofs().filter(|oneof| !is_optional(oneof)) {
            let keys: Vec<String> = oneof.fields().map(|field| field.json_name().to_owned()).collect();
            let (module, name) = (snake(message.name()), camel(oneof.name()));
            writeln!(
                out,
                "impl crate::json::Oneof for {module}::{name} {{\n    const KEYS: &'static [&'static str] = &{keys:?};\n}}\n"
            )?;
        }
    }
    Ok(out)
}

/// Generates the relation between `type` and body, both ways, and the JSON of bodies.
pub(crate) fn bodies(pool: &DescriptorPool) -> Result<String> {
    let mut out = String::new();
    for name in WITH_BODY.into_iter().filter(|name| *name != BY_HAND) {
        let message = pool.get_message_by_name(name).with_context(|| name.to_owned())?;
        write_bodies(&mut out, &message)?;
    }
    Ok(out)
}

fn write_bodies(out: &mut String, message: &MessageDescriptor) -> Result<()> {
    let name = type_name(message);
    let module = snake(message.name());
    let oneof = message.oneofs().find(|oneof| oneof.name() == "body").context("a oneof named body")?;
    let variants: Vec<String> = oneof.fields().map(|field| camel(field.name())).collect();
    writeln!(out, "impl crate::flat::WithBody for v1::{name} {{")?;
    writeln!(out, "    fn body_type(&self) -> Option<i32> {{\n        let of = match self.body.as_ref()? {{")?;
    for variant in &variants {
        writeln!(out, "            v1::{module}::Body::{variant}(_) => MessageType::{variant},")?;
    }
    writeln!(out, "        }};\n        Some(of as i32)\n    }}\n")?;
    writeln!(
        out,
        "    fn body_to_json(&self) -> serde_json::Result<serde_json::Value> {{\n        match &self.body {{"
    )?;
    for variant in &variants {
        writeln!(out, "            Some(v1::{module}::Body::{variant}(body)) => serde_json::to_value(body),")?;
    }
    writeln!(out, "            None => Ok(serde_json::Value::Null),\n        }}\n    }}\n")?;
    writeln!(out, "    fn body_from_json(&mut self, value: serde_json::Value) -> serde_json::Result<()> {{")?;
    writeln!(out, "        self.body = match MessageType::try_from(self.r#type) {{")?;
    for variant in &variants {
        writeln!(
            out,
            "            Ok(MessageType::{variant}) => Some(v1::{module}::Body::{variant}(serde_json::from_value(value)?)),"
        )?;
    }
    writeln!(out, "            _ => None,\n        }};\n        Ok(())\n    }}\n}}\n")?;
    Ok(())
}
