//! Shapes: which fields of a message hold messages. With them, messages are counted before anything is decoded.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result};
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

use crate::model::{Model, snake};

/// Returns the name of a request's shape.
pub(crate) fn name(request: &str) -> String {
    snake(request).to_uppercase()
}

/// Returns the name of any message's shape. The name of a map's entry includes that of its parent.
fn full_name(message: &MessageDescriptor) -> String {
    let parent = message.parent_message().map_or_else(String::new, |parent| full_name(&parent) + "_");
    parent + &name(message.name())
}

/// Generates a static for every request and every message inside one.
pub(crate) fn all(model: &Model, pool: &DescriptorPool) -> Result<String> {
    let mut open = Vec::new();
    for method in model.services.iter().flat_map(|service| &service.methods) {
        let request = pool.all_messages().find(|message| crate::model::type_name(message) == method.request);
        open.push(request.with_context(|| method.request.clone())?);
    }
    let mut shapes = BTreeMap::new();
    while let Some(message) = open.pop() {
        let name = full_name(&message);
        if shapes.contains_key(&name) {
            continue;
        }
        let mut fields = String::new();
        for field in message.fields() {
            if let Kind::Message(inner) = field.kind() {
                let _ = write!(fields, "({}, &{}), ", field.number(), full_name(&inner));
                open.push(inner);
            }
        }
        shapes.insert(name, fields);
    }
    let statics =
        shapes.iter().map(|(name, fields)| format!("pub(crate) static {name}: Shape = Shape(&[{fields}]);\n"));
    Ok(statics.collect())
}
