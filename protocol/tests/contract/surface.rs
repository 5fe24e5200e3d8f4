//! The contract, read from its descriptor. The snapshot and the reference pages are made from it.

use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, Value,
};

/// The contents of the `.proto` files.
pub(crate) struct Surface {
    pub(crate) pool: DescriptorPool,
}

impl Surface {
    pub(crate) fn read() -> Self {
        Self { pool: DescriptorPool::decode(zim_protocol::DESCRIPTOR).unwrap() }
    }

    pub(crate) fn files(&self) -> Vec<FileDescriptor> {
        let mut files: Vec<_> = self.pool.files().filter(|file| file.package_name() == "zim.v1").collect();
        files.sort_by(|a, b| a.name().cmp(b.name()));
        files
    }

    pub(crate) fn enums(&self) -> Vec<EnumDescriptor> {
        let mut enums: Vec<_> = self.pool.all_enums().filter(|one| one.package_name() == "zim.v1").collect();
        enums.sort_by(|a, b| a.name().cmp(b.name()));
        enums
    }

    /// Returns the limits of a field as words: `required`, `≤ 256 bytes`.
    pub(crate) fn limits(&self, field: &FieldDescriptor) -> Vec<String> {
        let extension = self.pool.get_extension_by_name("zim.v1.field").unwrap();
        let options = field.options();
        let rule = options.get_extension(&extension);
        let rule = rule.as_message().unwrap();
        let of = |name: &str| number(rule, name);
        let mut words = Vec::new();
        for (name, word) in [("required", "required"), ("not_blank", "not blank"), ("known", "a known number")] {
            if of(name) == 1 {
                words.push(word.to_owned());
            }
        }
        if of("charset") == 1 {
            words.push("id characters".to_owned());
        }
        for (name, unit) in [("max_bytes", "bytes"), ("max_chars", "characters"), ("max_items", "items")] {
            if of(name) > 0 {
                words.push(format!("≤ {} {unit}", of(name)));
            }
        }
        if of("min_items") > 0 {
            words.push(format!("≥ {} items", of("min_items")));
        }
        if of("exact_bytes") > 0 {
            words.push(format!("{} bytes", of("exact_bytes")));
        }
        if (of("min"), of("max")) != (0, 0) {
            words.push(format!("{} to {}", of("min"), of("max")));
        }
        if let Some(keys) = rule.get_field_by_name("keys")
            && let Some(keys) = keys.as_list().filter(|keys| !keys.is_empty())
        {
            let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
            words.push(format!("keys {}", keys.join(" ")));
        }
        if of("max_total_bytes") > 0 {
            words.push(format!("≤ {} bytes in all", of("max_total_bytes")));
        }
        if of("error") > 0 {
            words.push(format!("else {}", of("error")));
        }
        if of("max_items_error") > 0 {
            words.push(format!("more items: {}", of("max_items_error")));
        }
        if of("target") == 1 {
            words.push("orders writes".to_owned());
        }
        words
    }
}

fn number(rule: &DynamicMessage, name: &str) -> i64 {
    match rule.get_field_by_name(name).as_deref() {
        Some(Value::Bool(is)) => i64::from(*is),
        Some(Value::U32(value)) => i64::from(*value),
        Some(Value::I64(value)) => *value,
        Some(Value::EnumNumber(value)) => i64::from(*value),
        _ => 0,
    }
}

/// Returns the name of a field's type.
pub(crate) fn type_of(field: &FieldDescriptor) -> String {
    let name = |kind: Kind| match kind {
        Kind::Message(message) => message.name().to_owned(),
        Kind::Enum(one) => one.name().to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    if field.is_map() {
        return "map<string, string>".to_owned();
    }
    let name = name(field.kind());
    if field.is_list() { format!("{name}[]") } else { name }
}

/// Returns the comment before an item as one line.
pub(crate) fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|location| location.path == path));
    let text = location.and_then(|location| location.leading_comments.clone()).unwrap_or_default();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Returns the messages of a file, in its order.
pub(crate) fn messages(file: &FileDescriptor) -> Vec<MessageDescriptor> {
    file.messages().filter(|message| !message.is_map_entry()).collect()
}

/// Compares a text with the committed file, or writes the file if `UPDATE` is set.
pub(crate) fn committed(path: &str, text: &str, how: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        return;
    }
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    if old == text {
        return;
    }
    let (before, now): (Vec<&str>, Vec<&str>) = (old.lines().collect(), text.lines().collect());
    let gone = before.iter().filter(|line| !now.contains(line)).map(|line| format!("- {line}"));
    let new = now.iter().filter(|line| !before.contains(line)).map(|line| format!("+ {line}"));
    let diff: Vec<String> = gone.chain(new).collect();
    panic!("{} differs from the contract:\n{}\n\n{how}", path.display(), diff.join("\n"));
}
