//! The types that an app sees.

use std::collections::{BTreeSet, HashSet};

use anyhow::{Context, Result, ensure};
use prost_reflect::DescriptorPool;

use crate::model::{camel, snake, type_name};

/// The files of what travels, and of the operator's service.
const INTERNAL: [&str; 4] = ["admin.proto", "frame.proto", "options.proto", "sync.proto"];

/// What other files have for the wire only, besides requests.
const WIRE: [&str; 6] =
    ["EventRecord", "LogUploadCreatedResult", "LoginResult", "LogoutResult", "MediaUploadCreatedResult", "MessageFlag"];

/// Generates the re-exports of these types, and of the modules with the types of their oneofs.
pub(crate) fn exports(pool: &DescriptorPool) -> Result<String> {
    let requests: HashSet<String> = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| method.input().name().to_owned())
        .collect();
    let is_seen = |package: &str, file: &str, name: &str| {
        let file = file.rsplit('/').next().unwrap_or(file);
        package == "zim.v1" && !INTERNAL.contains(&file) && !WIRE.contains(&name) && !requests.contains(name)
    };
    let mut names = BTreeSet::new();
    let mut unseen: HashSet<&str> = WIRE.into();
    for message in pool.all_messages().filter(|message| message.parent_message().is_none()) {
        unseen.remove(message.name());
        if is_seen(message.package_name(), message.parent_file().name(), message.name()) {
            names.insert(type_name(&message));
            if message.oneofs().any(|oneof| !oneof.is_synthetic()) {
                names.insert(snake(message.name()));
            }
        }
    }
    for kind in pool.all_enums().filter(|kind| kind.parent_message().is_none()) {
        unseen.remove(kind.name());
        if is_seen(kind.package_name(), kind.parent_file().name(), kind.name()) {
            names.insert(camel(kind.name()));
        }
    }
    ensure!(unseen.is_empty(), "there are no types {unseen:?}");
    let names: Vec<String> = names.into_iter().collect();
    names.first().context("no types")?;
    Ok(format!("pub use crate::v1::{{{}}};\n", names.join(", ")))
}
