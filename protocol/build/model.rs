//! The model that the generators read: services and methods with their rules, and the rules of fields.

use anyhow::{Context, Result, bail, ensure};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, ReflectMessage, Value,
};

/// The operator's service. tonic generates its transport.
pub(crate) const OPERATOR: &str = "Admin";

/// All services. The operator's is among them with the feature `admin`.
pub(crate) struct Model {
    pub(crate) services: Vec<Service>,
}

pub(crate) struct Service {
    /// `Group`, for `GroupService` in the `.proto` file.
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) methods: Vec<Method>,
}

pub(crate) struct Method {
    /// `CreateGroup`
    pub(crate) rpc: String,
    /// `create_group`
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) request: String,
    pub(crate) response: String,
    pub(crate) access: String,
    pub(crate) scheduling: String,
    pub(crate) rate: String,
    pub(crate) internal: bool,
    pub(crate) deprecated: bool,
    pub(crate) idempotent: bool,
    pub(crate) deadline_ms: i64,
    /// Rust statements, in order, that hash the target of a write.
    pub(crate) targets: Vec<String>,
}

impl Method {
    pub(crate) fn path(&self, service: &Service) -> String {
        format!("{}/{}", service.name, self.rpc)
    }

    /// The name of the variant of `AnyRequest`.
    pub(crate) fn variant(&self, service: &Service) -> String {
        format!("{}{}", service.name, self.rpc)
    }
}

impl Model {
    pub(crate) fn read(pool: &DescriptorPool) -> Result<Self> {
        let rule = pool.get_extension_by_name("zim.v1.method").context("option zim.v1.method")?;
        let mut services = Vec::new();
        for service in pool.services() {
            let name = Some(service.name()).filter(|name| *name == OPERATOR);
            let name = name.or_else(|| service.name().strip_suffix("Service"));
            let name = name.with_context(|| format!("{}: a service is called …Service", service.name()))?;
            let doc = comment(service.parent_file().file_descriptor_proto(), service.path());
            ensure!(!doc.is_empty(), "{}: its comment is its documentation", service.name());
            let methods = service
                .methods()
                .map(|method| {
                    let options = method.options();
                    let rule = options.get_extension(&rule).into_owned();
                    read_method(&method, rule.as_message().context("method rule")?)
                        .with_context(|| method.full_name().to_owned())
                })
                .collect::<Result<_>>()?;
            services.push(Service { name: name.to_owned(), doc, methods });
        }
        Ok(Self { services })
    }
}

fn read_method(method: &MethodDescriptor, rule: &DynamicMessage) -> Result<Method> {
    let doc = comment(method.parent_file().file_descriptor_proto(), method.path());
    ensure!(!doc.is_empty(), "its comment is its documentation");
    let scheduling = variant(rule, "scheduling")?;
    Ok(Method {
        rpc: method.name().to_owned(),
        name: snake(method.name()),
        doc,
        request: type_name(&method.input()),
        response: type_name(&method.output()),
        access: variant(rule, "access")?,
        internal: flag(rule, "internal"),
        deprecated: flag(rule, "deprecated"),
        // A request that changes nothing is idempotent anyway.
        idempotent: flag(rule, "idempotent") || scheduling != "Write",
        scheduling,
        rate: variant(rule, "rate")?,
        deadline_ms: number(rule, "deadline_ms"),
        targets: match texts(rule, "targets") {
            paths if paths.is_empty() => targets(&method.input())?,
            paths => named_targets(&method.input(), &paths)?,
        },
    })
}

/// Returns statements that hash the fields marked as target, also those of messages inside. Numbers come before text, so
/// that a conversation is one target whether a request has its type first or its ID.
fn targets(request: &MessageDescriptor) -> Result<Vec<String>> {
    let (mut numbers, mut texts) = (Vec::new(), Vec::new());
    find_targets(request, &mut Vec::new(), &mut numbers, &mut texts)?;
    numbers.append(&mut texts);
    Ok(numbers)
}

/// Returns statements that hash the fields with these paths, in their order.
fn named_targets(request: &MessageDescriptor, paths: &[String]) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    for path in paths {
        let (mut outer, mut message) = (Vec::new(), request.clone());
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let field = message.get_field_by_name(name).with_context(|| format!("{path}: there is no such field"))?;
            if names.peek().is_none() {
                let value = format!("{}.{}", if outer.is_empty() { "self" } else { "it" }, rust_field(name));
                let (_, hash) = hashed(&field, &value)?;
                statements.push(inside(&outer, &hash));
            } else {
                let Kind::Message(inner) = field.kind() else { bail!("{path}: {name} is no message") };
                outer.push(field);
                message = inner;
            }
        }
    }
    Ok(statements)
}

/// Returns whether a field is a text, and the statement that hashes its value.
fn hashed(field: &FieldDescriptor, value: &str) -> Result<(bool, String)> {
    Ok(match field.kind() {
        Kind::String => (true, format!("order.text(&{value});")),
        Kind::Bytes => (true, format!("order.bytes(&{value});")),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => (false, format!("order.number({value});")),
        Kind::Uint64 | Kind::Fixed64 => (false, format!("order.number({value}.cast_signed());")),
        Kind::Message(_) | Kind::Float | Kind::Double => bail!("{}: no target", field.full_name()),
        _ => (false, format!("order.number(i64::from({value}));")),
    })
}

fn find_targets(
    message: &MessageDescriptor,
    path: &mut Vec<FieldDescriptor>,
    numbers: &mut Vec<String>,
    texts: &mut Vec<String>,
) -> Result<()> {
    for field in message.fields() {
        let in_oneof = field.containing_oneof().is_some();
        let name = rust_field(field.name());
        if flag(&field_rule(&field)?, "target") {
            ensure!(!field.is_list() && !field.is_map() && !in_oneof, "{}: no target", field.full_name());
            let value = if path.is_empty() { format!("self.{name}") } else { format!("it.{name}") };
            let (is_text, hash) = hashed(&field, &value)?;
            let found = if is_text { &mut *texts } else { &mut *numbers };
            found.push(inside(path, &hash));
        } else if let Some(kind) = conversation_type(&field)? {
            ensure!(!field.is_list() && !in_oneof, "{}: no target", field.full_name());
            // The same as for a request that names the type and the ID, whose ID may be anywhere.
            numbers.push(format!("order.number({kind});"));
            let value = if path.is_empty() { format!("self.{name}") } else { format!("it.{name}") };
            texts.push(inside(path, &format!("order.text(&{value});")));
        } else if let Kind::Message(inner) = field.kind()
            && !(field.is_list() || field.is_map() || in_oneof)
            && inner != *message
            && path.iter().all(|outer| *outer.parent_message() != inner)
        {
            path.push(field);
            find_targets(&inner, path, numbers, texts)?;
            path.pop();
        }
    }
    Ok(())
}

/// Returns the number of the type of the conversation whose ID this field is, if it is the target of a write.
fn conversation_type(field: &FieldDescriptor) -> Result<Option<i32>> {
    let rule = field_rule(field)?;
    let name = rule.get_field_by_name("target_of");
    let Some(name) = name.as_deref().and_then(Value::as_str).filter(|name| !name.is_empty()) else { return Ok(None) };
    let kinds = field.parent_pool().get_enum_by_name("zim.v1.ConversationType").context("ConversationType")?;
    let kind = kinds.get_value_by_name(name).with_context(|| format!("target_of: there is no {name}"))?;
    Ok(Some(kind.number()))
}

/// Wraps `hash` in a check that each message on the path is set.
fn inside(path: &[FieldDescriptor], hash: &str) -> String {
    let steps: Vec<String> = path
        .iter()
        .enumerate()
        .map(|(depth, field)| {
            let outer = if depth == 0 { "self" } else { "it" };
            format!("let Some(it) = &{outer}.{}", rust_field(field.name()))
        })
        .collect();
    if steps.is_empty() { hash.to_owned() } else { format!("if {} {{ {hash} }}", steps.join(" && ")) }
}

/// Returns the rule of a field, or an empty rule if it has none.
pub(crate) fn field_rule(field: &FieldDescriptor) -> Result<DynamicMessage> {
    let pool = field.parent_message().parent_pool().clone();
    let extension = pool.get_extension_by_name("zim.v1.field").context("option zim.v1.field")?;
    let options = field.options();
    Ok(options.get_extension(&extension).as_message().context("field rule")?.clone())
}

pub(crate) fn flag(rule: &DynamicMessage, name: &str) -> bool {
    rule.get_field_by_name(name).and_then(|value| value.as_bool()).unwrap_or(false)
}

pub(crate) fn number(rule: &DynamicMessage, name: &str) -> i64 {
    match rule.get_field_by_name(name).as_deref() {
        Some(Value::I32(value) | Value::EnumNumber(value)) => i64::from(*value),
        Some(Value::U32(value)) => i64::from(*value),
        Some(Value::I64(value)) => *value,
        _ => 0,
    }
}

/// Returns prost's name of an enum option's variant. A number that the enum does not name is an error: a method must not
/// become open to every user because the generator does not know its access.
pub(crate) fn variant(rule: &DynamicMessage, name: &str) -> Result<String> {
    let field = rule.descriptor().get_field_by_name(name).with_context(|| format!("no option {name}"))?;
    let Kind::Enum(options) = field.kind() else { bail!("the option {name} is not an enum") };
    let number = i32::try_from(number(rule, name))?;
    let value = options.get_value(number).with_context(|| format!("{number} is no value of the option {name}"))?;
    let prefix = format!("{}_", snake(options.name()).to_uppercase());
    let variant = value.name().strip_prefix(&prefix);
    Ok(camel(&variant.with_context(|| format!("{} does not begin with {prefix}", value.name()))?.to_lowercase()))
}

pub(crate) fn texts(rule: &DynamicMessage, name: &str) -> Vec<String> {
    let value = rule.get_field_by_name(name);
    let list = value.as_deref().and_then(Value::as_list).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Returns the comment before an item.
pub(crate) fn comment(file: &prost_reflect::prost_types::FileDescriptorProto, path: &[i32]) -> String {
    let info = file.source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|location| location.path == path));
    let text = location.and_then(|location| location.leading_comments.clone()).unwrap_or_default();
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// Returns prost's name of a message's Rust type.
pub(crate) fn type_name(message: &MessageDescriptor) -> String {
    camel(message.name())
}

/// Converts a name as prost does: `VoIPConfig` becomes `VoIpConfig`.
pub(crate) fn camel(name: &str) -> String {
    snake(name)
        .split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
        })
        .collect()
}

/// Converts a name as prost and heck do: `CreateGroup` becomes `create_group`, `VoIPConfig` becomes `vo_ip_config`.
pub(crate) fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (index, letter) in letters.iter().enumerate() {
        if letter.is_uppercase() && index > 0 && letters[index - 1] != '_' {
            let after_lower = !letters[index - 1].is_uppercase();
            let before_lower = letters.get(index + 1).is_some_and(|next| next.is_lowercase());
            if after_lower || before_lower {
                out.push('_');
            }
        }
        out.extend(letter.to_lowercase());
    }
    out
}

/// Returns a field's Rust name, escaped as prost does.
pub(crate) fn rust_field(name: &str) -> String {
    const RAW: [&str; 47] = [
        "as", "break", "const", "continue", "else", "enum", "false", "fn", "for", "if", "impl", "in", "let", "loop",
        "match", "mod", "move", "mut", "pub", "ref", "return", "static", "struct", "trait", "true", "type", "unsafe",
        "use", "where", "while", "dyn", "abstract", "become", "box", "do", "final", "macro", "override", "priv",
        "typeof", "unsized", "virtual", "yield", "async", "await", "try", "gen",
    ];
    match name {
        "super" | "self" | "extern" | "crate" => format!("{name}_"),
        _ if RAW.contains(&name) => format!("r#{name}"),
        _ => name.to_owned(),
    }
}
