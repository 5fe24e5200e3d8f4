//! Limits are enforced as the `.proto` files state them. The tests derive the values that must pass or fail from the
//! options, by reflection and not from the generated code, so that a limit that the generator overlooks fails here.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::HashMap;

use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};
use zim_protocol::{AnyRequest, DESCRIPTOR, METHODS, Method, Violation};

const DEFAULT_CODE: i64 = 6_000_001;
const UNKNOWN_NUMBER: i32 = 987_654;

/// The options of a field that are set.
struct Rule {
    numbers: HashMap<String, i64>,
    keys: Vec<String>,
}

impl Rule {
    fn of(field: &FieldDescriptor) -> Self {
        let extension = field.parent_pool().get_extension_by_name("zim.v1.field").unwrap();
        let options = field.options();
        let rule = options.get_extension(&extension);
        let (mut numbers, mut keys) = (HashMap::new(), Vec::new());
        for (option, value) in rule.as_message().unwrap().fields() {
            let value = match value {
                Value::Bool(is) => i64::from(*is),
                Value::U32(number) => i64::from(*number),
                Value::I64(number) => *number,
                Value::EnumNumber(number) => i64::from(*number),
                Value::List(list) if option.name() == "keys" => {
                    keys.extend(list.iter().map(|key| key.as_str().unwrap().to_owned()));
                    continue;
                }
                // It is the order of writes that it is about.
                Value::String(_) if option.name() == "target_of" => continue,
                other => panic!("{other:?}"),
            };
            numbers.insert(option.name().to_owned(), value);
        }
        Self { numbers, keys }
    }

    fn has(&self, option: &str) -> bool {
        self.numbers.contains_key(option)
    }

    fn get(&self, option: &str) -> i64 {
        self.numbers.get(option).copied().unwrap_or(0)
    }

    fn size(&self, option: &str) -> usize {
        self.get(option).try_into().unwrap()
    }

    fn code(&self) -> i64 {
        if self.has("error") { self.get("error") } else { DEFAULT_CODE }
    }

    /// Returns the code for more than `max_items`.
    fn too_many(&self) -> i64 {
        if self.has("max_items_error") { self.get("max_items_error") } else { self.code() }
    }

    /// Returns a map of `count` entries with allowed keys.
    fn map(&self, count: usize) -> Value {
        let key = |index: usize| self.keys.get(index).cloned().unwrap_or_else(|| format!("key{index}"));
        map((0..count).map(|index| (key(index), String::new())))
    }
}

fn map(entries: impl IntoIterator<Item = (String, String)>) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (MapKey::String(key), Value::String(value))).collect())
}

fn number(kind: &Kind, value: i64) -> Option<Value> {
    Some(match kind {
        Kind::Int32 => Value::I32(value.try_into().ok()?),
        Kind::Int64 => Value::I64(value),
        Kind::Uint32 => Value::U32(value.try_into().ok()?),
        Kind::Uint64 => Value::U64(value.try_into().ok()?),
        _ => return None,
    })
}

/// Returns a value within the limits of a field.
fn valid_value(field: &FieldDescriptor) -> Value {
    let rule = Rule::of(field);
    match field.kind() {
        Kind::String => Value::String("a".to_owned()),
        Kind::Bytes => Value::Bytes(vec![1; rule.size("exact_bytes").max(1)].into()),
        Kind::Message(message) => Value::Message(smallest(&message)),
        Kind::Enum(one) => {
            Value::EnumNumber(one.values().find(|value| !value.name().ends_with("_UNSPECIFIED")).unwrap().number())
        }
        Kind::Bool => Value::Bool(true),
        kind => number(&kind, rule.get("min").max(1)).unwrap(),
    }
}

/// Returns the smallest valid message of a type.
fn smallest(message: &MessageDescriptor) -> DynamicMessage {
    let mut made = DynamicMessage::new(message.clone());
    for field in message.fields() {
        let rule = Rule::of(&field);
        if field.is_list() {
            let items = rule.size("min_items").max(usize::from(rule.has("required")));
            made.set_field(&field, Value::List(vec![valid_value(&field); items]));
        } else if field.is_map() {
            made.set_field(&field, rule.map(rule.size("min_items").max(usize::from(rule.has("required")))));
        } else if ["required", "not_blank", "known", "min"].iter().any(|option| rule.has(option)) {
            made.set_field(&field, valid_value(&field));
        }
    }
    made
}

/// A field to test: the fields that lead to it, and its path in a violation.
#[derive(Clone)]
struct Place {
    path: Vec<FieldDescriptor>,
    names: Vec<String>,
}

impl Place {
    fn field(&self) -> &FieldDescriptor {
        self.path.last().unwrap()
    }

    fn name(&self) -> String {
        self.names.join(".")
    }

    /// Returns the smallest request that has `value` here.
    fn request(&self, root: &MessageDescriptor, value: Value) -> DynamicMessage {
        fn put(message: &mut DynamicMessage, path: &[FieldDescriptor], value: Value) {
            let (first, rest) = path.split_first().unwrap();
            if rest.is_empty() {
                message.set_field(first, value);
                return;
            }
            let Kind::Message(inner) = first.kind() else { panic!("{} leads nowhere", first.full_name()) };
            let mut inside = smallest(&inner);
            put(&mut inside, rest, value);
            let inside = Value::Message(inside);
            message.set_field(first, if first.is_list() { Value::List(vec![inside]) } else { inside });
        }
        let mut request = smallest(root);
        put(&mut request, &self.path, value);
        request
    }
}

/// Finds every field of a request, also those of messages inside. A recursive type is entered once.
fn places(message: &MessageDescriptor, before: &Place, found: &mut Vec<Place>) {
    for field in message.fields() {
        let mut place = before.clone();
        // A flat body has no name of its own in JSON.
        let is_body = field.containing_oneof().is_some_and(|oneof| oneof.name() == "body");
        if !is_body {
            place.names.push(field.json_name().to_owned());
        }
        place.path.push(field.clone());
        found.push(place.clone());
        let Kind::Message(inner) = field.kind() else { continue };
        let is_inside = place.path.iter().any(|field| *field.parent_message() == inner);
        if field.is_map() || is_inside {
            continue;
        }
        if let Some(name) = place.names.last_mut().filter(|_| field.is_list()) {
            name.push_str("[0]");
        }
        places(&inner, &place, found);
    }
}

fn validate(method: &'static Method, request: &DynamicMessage) -> Result<(), Box<Violation>> {
    AnyRequest::decode(method, request.encode_to_vec().into()).unwrap().validate()
}

struct Trial {
    method: &'static Method,
    root: MessageDescriptor,
    problems: Vec<String>,
    tried: usize,
}

impl Trial {
    fn passes(&mut self, place: &Place, what: &str, value: Value) {
        self.tried += 1;
        if let Err(violation) = validate(self.method, &place.request(&self.root, value)) {
            self.problems.push(format!("{} {}: {what} is refused: {violation}", self.method.path, place.name()));
        }
    }

    fn fails(&mut self, place: &Place, item: &str, what: &str, value: Value) {
        self.fails_with(place, item, what, value, Rule::of(place.field()).code());
    }

    fn fails_with(&mut self, place: &Place, item: &str, what: &str, value: Value, code: i64) {
        self.tried += 1;
        let (path, name) = (self.method.path, place.name() + item);
        match validate(self.method, &place.request(&self.root, value)) {
            Ok(()) => self.problems.push(format!("{path} {name}: {what} passes")),
            Err(violation) if violation.field != name => {
                self.problems.push(format!("{path} {name}: {what} is reported at {}", violation.field));
            }
            Err(violation) if i64::from(violation.code as i32) != code => {
                self.problems.push(format!("{path} {name}: {what} has code {:?}", violation.code));
            }
            Err(_) => {}
        }
    }

    /// Tests valid and invalid values of this field, or of one item of it.
    fn value(&mut self, place: &Place, item: &str, wrap: impl Fn(Value) -> Value) {
        let field = place.field().clone();
        let rule = Rule::of(&field);
        let text = |text: String| wrap(Value::String(text));
        match field.kind() {
            Kind::String => {
                self.fails(place, item, "U+0000", text("a\0b".to_owned()));
                if rule.has("max_bytes") {
                    self.passes(place, "the longest", text("a".repeat(rule.size("max_bytes"))));
                    self.fails(place, item, "one byte more", text("a".repeat(rule.size("max_bytes") + 1)));
                }
                if rule.has("max_chars") {
                    self.passes(place, "the longest", text("ä".repeat(rule.size("max_chars"))));
                    self.fails(place, item, "one character more", text("ä".repeat(rule.size("max_chars") + 1)));
                }
                if rule.has("charset") {
                    for bad in ["a b", "a/b", "ä", "a,"] {
                        self.fails(place, item, "a bad id", text(bad.to_owned()));
                    }
                }
                if rule.has("not_blank") {
                    self.fails(place, item, "blank", text(" \t\u{2003}".to_owned()));
                }
                if rule.has("required") || rule.has("not_blank") || (!item.is_empty() && rule.has("charset")) {
                    self.fails(place, item, "nothing", text(String::new()));
                }
            }
            Kind::Bytes => {
                for (option, more) in [("max_bytes", 1), ("exact_bytes", 1)] {
                    if rule.has(option) {
                        let length = rule.size(option);
                        self.passes(place, "the longest", wrap(Value::Bytes(vec![0; length].into())));
                        self.fails(place, item, "one more", wrap(Value::Bytes(vec![0; length + more].into())));
                    }
                }
                if rule.has("exact_bytes") {
                    self.fails(
                        place,
                        item,
                        "one less",
                        wrap(Value::Bytes(vec![0; rule.size("exact_bytes") - 1].into())),
                    );
                }
                if rule.has("required") {
                    self.fails(place, item, "nothing", wrap(Value::Bytes(bytes::Bytes::new())));
                }
            }
            Kind::Enum(one) => {
                if rule.has("known") {
                    self.fails(place, item, "an unknown number", wrap(Value::EnumNumber(UNKNOWN_NUMBER)));
                    if one.default_value().name().ends_with("_UNSPECIFIED") {
                        // A field without a value; an item always has one.
                        let unset = wrap(Value::EnumNumber(0));
                        if item.is_empty() && !rule.has("required") {
                            self.passes(place, "unspecified", unset);
                        } else {
                            self.fails(place, item, "unspecified", unset);
                        }
                    }
                }
            }
            kind => {
                let (min, max) = (rule.get("min"), rule.get("max"));
                if (min, max) != (0, 0) {
                    for bound in [min, max] {
                        self.passes(place, "a bound", wrap(number(&kind, bound).unwrap()));
                    }
                    for beyond in [min - 1, max + 1] {
                        if let Some(value) = number(&kind, beyond) {
                            self.fails(place, item, "beyond a bound", wrap(value));
                        }
                    }
                }
            }
        }
    }

    fn field(&mut self, place: &Place) {
        let field = place.field().clone();
        let rule = Rule::of(&field);
        if field.is_list() {
            let list = |count: usize| Value::List(vec![valid_value(&field); count]);
            if rule.has("max_items") {
                self.passes(place, "the longest list", list(rule.size("max_items")));
                self.fails_with(place, "", "one item more", list(rule.size("max_items") + 1), rule.too_many());
            }
            if rule.has("min_items") {
                self.fails(place, "", "one item less", list(rule.size("min_items") - 1));
            }
            let before = vec![valid_value(&field); rule.size("min_items").saturating_sub(1).max(1)];
            let item = format!("[{}]", before.len());
            self.value(place, &item, |value| Value::List([&before[..], &[value]].concat()));
        } else if field.is_map() {
            self.map(place, &rule);
        } else {
            self.value(place, "", |value| value);
        }
    }

    /// Tests valid and invalid maps.
    fn map(&mut self, place: &Place, rule: &Rule) {
        let key = rule.keys.first().map_or("a", String::as_str);
        let one = |key: &str, value: String| map([(key.to_owned(), value)]);
        for (key, value) in [("a\0", "b"), (key, "b\0")] {
            self.fails(place, "", "U+0000", one(key, value.to_owned()));
        }
        if rule.has("max_items") {
            self.passes(place, "the largest map", rule.map(rule.size("max_items")));
            let more = rule.map(rule.size("max_items") + 1);
            self.fails_with(place, "", "one entry more", more, rule.too_many());
        }
        if rule.has("min_items") {
            self.fails(place, "", "one entry less", rule.map(rule.size("min_items") - 1));
        }
        if let Some(key) = rule.keys.first() {
            self.passes(place, "all keys", rule.map(rule.keys.len()));
            self.fails(place, "", "another key", one(&format!("{key}x"), String::new()));
        }
        if rule.has("max_total_bytes") {
            let fits = rule.size("max_total_bytes") - key.len();
            self.passes(place, "the most bytes", one(key, "a".repeat(fits)));
            self.fails(place, "", "one byte more", one(key, "a".repeat(fits + 1)));
        }
    }
}

#[test]
fn every_limit_of_every_request_is_enforced_exactly() {
    let pool = DescriptorPool::decode(DESCRIPTOR).unwrap();
    let (mut problems, mut tried) = (Vec::new(), 0);
    for method in METHODS {
        let root = pool.get_message_by_name(&format!("zim.v1.{}", method.request)).unwrap();
        validate(method, &smallest(&root)).unwrap_or_else(|violation| panic!("{}: {violation}", method.path));
        let mut found = Vec::new();
        places(&root, &Place { path: Vec::new(), names: Vec::new() }, &mut found);
        let mut trial = Trial { method, root, problems: Vec::new(), tried: 0 };
        for place in &found {
            trial.field(place);
        }
        problems.append(&mut trial.problems);
        tried += trial.tried;
    }
    problems.sort();
    assert!(problems.is_empty(), "{} of {tried}:\n{}", problems.len(), problems.join("\n"));
    assert!(tried > 300, "only {tried} values were tried");
}

#[test]
fn a_missing_required_message_is_a_violation() {
    for method in METHODS {
        let pool = DescriptorPool::decode(DESCRIPTOR).unwrap();
        let root = pool.get_message_by_name(&format!("zim.v1.{}", method.request)).unwrap();
        for field in root.fields() {
            if matches!(field.kind(), Kind::Message(_)) && !field.is_list() && Rule::of(&field).has("required") {
                let mut request = smallest(&root);
                request.clear_field(&field);
                assert_eq!(validate(method, &request).unwrap_err().field, field.json_name(), "{}", method.path);
            }
        }
        assert_eq!(smallest(&root).descriptor(), root);
    }
}
