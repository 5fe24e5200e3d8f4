//! Checks by reflection whether a request keeps the limits of the `.proto` files: a second implementation beside the
//! generated `Validate`.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};
use zim_protocol::{DESCRIPTOR, id};

/// The options of one field.
#[derive(Default)]
struct Rule {
    required: bool,
    not_blank: bool,
    known: bool,
    is_id: bool,
    max_bytes: usize,
    exact_bytes: usize,
    max_chars: usize,
    min_items: usize,
    max_items: usize,
    min: i64,
    max: i64,
    /// The allowed keys of a map; empty allows any.
    keys: Vec<String>,
    /// The limit of all keys and values of a map, bytes.
    max_total_bytes: usize,
}

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| DescriptorPool::decode(DESCRIPTOR).unwrap());

/// The rules by full name of the field.
static RULES: LazyLock<HashMap<String, Rule>> = LazyLock::new(|| {
    let fields = POOL.all_messages().flat_map(|message| message.fields().collect::<Vec<_>>());
    fields.map(|field| (field.full_name().to_owned(), Rule::of(&field))).collect()
});

impl Rule {
    fn of(field: &FieldDescriptor) -> Self {
        let extension = POOL.get_extension_by_name("zim.v1.field").unwrap();
        let options = field.options();
        let stated = options.get_extension(&extension);
        let mut rule = Self::default();
        for (option, value) in stated.as_message().unwrap().fields() {
            let size = value.as_u32().map_or(0, |size| size as usize);
            match option.name() {
                "required" => rule.required = value.as_bool().unwrap(),
                "not_blank" => rule.not_blank = value.as_bool().unwrap(),
                "known" => rule.known = value.as_bool().unwrap(),
                "charset" => rule.is_id = value.as_enum_number().unwrap() == 1,
                "max_bytes" => rule.max_bytes = size,
                "exact_bytes" => rule.exact_bytes = size,
                "max_chars" => rule.max_chars = size,
                "min_items" => rule.min_items = size,
                "max_items" => rule.max_items = size,
                "min" => rule.min = value.as_i64().unwrap(),
                "max" => rule.max = value.as_i64().unwrap(),
                "max_total_bytes" => rule.max_total_bytes = size,
                "keys" => {
                    let keys = value.as_list().unwrap().iter();
                    rule.keys = keys.map(|key| key.as_str().unwrap().to_owned()).collect();
                }
                "error" | "max_items_error" | "target" | "target_of" => {}
                other => panic!("{}: the option {other} is not checked", field.full_name()),
            }
        }
        rule
    }
}

/// Returns the descriptor of a request.
pub(super) fn descriptor(request: &str) -> MessageDescriptor {
    POOL.get_message_by_name(&format!("zim.v1.{request}")).unwrap()
}

/// Whether a message keeps every limit.
pub(super) fn are_kept(message: &DynamicMessage) -> bool {
    message.descriptor().fields().all(|field| {
        let rule = &RULES[field.full_name()];
        let value = message.get_field(&field);
        if field.is_map() {
            let entries = value.as_map().unwrap().iter();
            let texts: Vec<_> = entries.map(|(key, value)| (key.as_str().unwrap(), value.as_str().unwrap())).collect();
            return is_count(rule, texts.len()) && is_map(rule, &texts);
        }
        if field.is_list() {
            let items = value.as_list().unwrap();
            return is_count(rule, items.len()) && items.iter().all(|item| is_fine(&field, rule, rule.is_id, item));
        }
        if field.supports_presence() {
            return if message.has_field(&field) {
                is_fine(&field, rule, false, &value)
            } else {
                !rule.required || field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic())
            };
        }
        is_fine(&field, rule, rule.required, &value)
    })
}

fn is_count(rule: &Rule, count: usize) -> bool {
    let min = rule.min_items.max(usize::from(rule.required));
    count >= min && (rule.max_items == 0 || count <= rule.max_items)
}

fn is_map(rule: &Rule, entries: &[(&str, &str)]) -> bool {
    let bytes: usize = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
    let is_key = |key: &str| rule.keys.is_empty() || rule.keys.iter().any(|allowed| allowed == key);
    (rule.max_total_bytes == 0 || bytes <= rule.max_total_bytes)
        && entries.iter().all(|(key, value)| is_key(key) && !key.contains('\0') && !value.contains('\0'))
}

fn is_fine(field: &FieldDescriptor, rule: &Rule, required: bool, value: &Value) -> bool {
    match (field.kind(), value) {
        (Kind::Message(_), Value::Message(inner)) => are_kept(inner),
        (Kind::String, Value::String(text)) => is_text(rule, required, text),
        (Kind::Bytes, Value::Bytes(bytes)) if bytes.is_empty() => !required,
        (Kind::Bytes, Value::Bytes(bytes)) => {
            (rule.max_bytes == 0 || bytes.len() <= rule.max_bytes)
                && (rule.exact_bytes == 0 || bytes.len() == rule.exact_bytes)
        }
        (Kind::Enum(one), Value::EnumNumber(number)) => {
            let is_nothing = *number == 0 && one.default_value().name().ends_with("_UNSPECIFIED");
            !(required && *number == 0) && (!rule.known || one.get_value(*number).is_some() && !is_nothing)
        }
        (_, Value::Bool(_)) => true,
        (_, number) => {
            let number = match number {
                Value::I32(number) => i128::from(*number),
                Value::I64(number) => i128::from(*number),
                Value::U32(number) => i128::from(*number),
                Value::U64(number) => i128::from(*number),
                other => panic!("{}: {other:?}", field.full_name()),
            };
            let is_bounded = (rule.min, rule.max) != (0, 0);
            !(required && number == 0)
                && (!is_bounded || (i128::from(rule.min)..=i128::from(rule.max)).contains(&number))
        }
    }
}

fn is_text(rule: &Rule, required: bool, text: &str) -> bool {
    if text.is_empty() {
        return !required && !rule.not_blank;
    }
    (rule.max_bytes == 0 || text.len() <= rule.max_bytes)
        && (rule.max_chars == 0 || text.chars().count() <= rule.max_chars)
        && !text.contains('\0')
        && (!rule.is_id || text.chars().all(id::is_id_char))
        && (!rule.not_blank || !text.trim().is_empty())
}
