//! Generates `Validate` from the options of fields. An option that does not apply to its field fails the build: a limit
//! that the contract states and nothing enforces would be worse than none.

use std::fmt::Write;

use anyhow::{Context, Result, bail, ensure};
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor};

use crate::message::is_flat;
use crate::model::{camel, field_rule, flag, number, rust_field, snake, texts, type_name, variant};

const DEFAULT_CODE: i64 = 6_000_001;

/// Generates `Validate` for every message.
pub(crate) fn all(pool: &DescriptorPool) -> Result<String> {
    let mut out = String::new();
    for message in pool.all_messages() {
        if message.package_name() == "zim.v1" && !message.is_map_entry() {
            one(&mut out, &message).with_context(|| message.full_name().to_owned())?;
        }
    }
    Ok(out)
}

fn one(out: &mut String, message: &MessageDescriptor) -> Result<()> {
    let mut body = String::new();
    for field in message.fields() {
        if field.containing_oneof().is_none_or(|oneof| oneof.is_synthetic()) {
            let limits = Limits::read(&field).with_context(|| field.name().to_owned())?;
            limits.check_field(&mut body).with_context(|| field.name().to_owned())?;
        }
    }
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        check_oneof(&mut body, message, &oneof).with_context(|| oneof.name().to_owned())?;
    }
    writeln!(
        out,
        "impl Validate for v1::{} {{\n    fn validate(&self) -> Result<(), Box<Violation>> {{\n{body}        Ok(())\n    }}\n}}\n",
        type_name(message)
    )?;
    Ok(())
}

fn check_oneof(out: &mut String, message: &MessageDescriptor, oneof: &OneofDescriptor) -> Result<()> {
    let (kind, at) = (format!("v1::{}::{}", snake(message.name()), camel(oneof.name())), rust_field(oneof.name()));
    let mut arms = Vec::new();
    for field in oneof.fields() {
        let limits = Limits::read(&field).with_context(|| field.name().to_owned())?;
        // A flat body has no name of its own in JSON.
        let checks = match field.kind() {
            Kind::Message(_) if is_flat(message) => vec!["it.validate()".to_owned()],
            _ => limits.checks("it", "*it").with_context(|| field.name().to_owned())?,
        };
        if !checks.is_empty() {
            arms.push((format!("Some({kind}::{}(it))", camel(field.name())), statements(&checks)));
        }
    }
    match arms.as_slice() {
        [] => {}
        [(pattern, check)] => {
            writeln!(out, "        if let {pattern} = &self.{at} {{\n            {check}\n        }}")?;
        }
        _ => {
            writeln!(out, "        match &self.{at} {{")?;
            for (pattern, check) in &arms {
                writeln!(out, "            {pattern} => {{ {check} }}")?;
            }
            // A scalar without limits has no arm.
            let rest = if arms.len() < oneof.fields().len() { "_" } else { "None" };
            writeln!(out, "            {rest} => {{}}\n        }}")?;
        }
    }
    Ok(())
}

fn statements(checks: &[String]) -> String {
    checks.iter().map(|check| format!("{check}?;")).collect::<Vec<_>>().join(" ")
}

/// A field with its rule.
struct Limits<'a> {
    field: &'a FieldDescriptor,
    rule: DynamicMessage,
    /// The Rust expression that names the field in a violation.
    at: String,
    /// The same for a violation of `max_items`.
    at_too_many: String,
}

fn or(code: i64, other: i64) -> i64 {
    if code == 0 { other } else { code }
}

impl<'a> Limits<'a> {
    fn read(field: &'a FieldDescriptor) -> Result<Self> {
        let rule = field_rule(field)?;
        let fits: &[&str] = match field.kind() {
            _ if field.is_map() => &[],
            Kind::String => &["max_bytes", "max_chars", "charset", "not_blank", "target_of"],
            Kind::Bytes => &["max_bytes", "exact_bytes"],
            Kind::Enum(_) => &["known"],
            Kind::Message(_) | Kind::Bool | Kind::Float | Kind::Double => &[],
            _ => &["min", "max"],
        };
        let is_oneof = field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic());
        let more: &[&str] = match field.kind() {
            _ if field.is_map() => {
                &["required", "min_items", "max_items", "max_items_error", "keys", "max_total_bytes"]
            }
            _ if field.is_list() => &["required", "min_items", "max_items", "max_items_error"],
            _ if is_oneof => &[],
            Kind::Bool => &["target"],
            Kind::Message(_) | Kind::Float | Kind::Double => &["required"],
            _ => &["required", "target"],
        };
        for (option, _) in rule.fields() {
            let name = option.name();
            ensure!(
                name == "error" || fits.contains(&name) || more.contains(&name),
                "the option {name} does not apply to this field"
            );
        }
        let code = or(number(&rule, "error"), DEFAULT_CODE);
        let too_many = or(number(&rule, "max_items_error"), code);
        let codes = field.parent_pool().get_enum_by_name("zim.v1.ErrorCode").context("ErrorCode")?;
        for code in [code, too_many] {
            let is_code = i32::try_from(code).is_ok_and(|code| codes.get_value(code).is_some());
            ensure!(is_code, "{code} is not an error code of the reference");
        }
        let at = |code| format!("Field {{ name: {:?}, code: {code} }}", field.json_name());
        Ok(Self { field, rule, at: at(code), at_too_many: at(too_many) })
    }

    fn check_field(&self, out: &mut String) -> Result<()> {
        let (name, at) = (rust_field(self.field.name()), &self.at);
        if !self.field.is_list() && !self.field.is_map() {
            if flag(&self.rule, "required") && self.field.supports_presence() {
                writeln!(out, "        check::present({at}, self.{name}.is_some())?;")?;
            }
            if self.field.supports_presence() {
                let checks = self.checks("it", "*it")?;
                if !checks.is_empty() {
                    writeln!(out, "        if let Some(it) = &self.{name} {{ {} }}", statements(&checks))?;
                }
            } else {
                for check in self.checks(&format!("&self.{name}"), &format!("self.{name}"))? {
                    writeln!(out, "        {check}?;")?;
                }
            }
            return Ok(());
        }
        let (min, max) = (number(&self.rule, "min_items"), number(&self.rule, "max_items"));
        ensure!(max == 0 || min <= max, "min_items is greater than max_items");
        let min = min.max(i64::from(flag(&self.rule, "required")));
        if (min, max) != (0, 0) {
            let at_too_many = &self.at_too_many;
            writeln!(out, "        check::items({at}, {at_too_many}, self.{name}.len(), {min}, {max})?;")?;
        }
        if self.field.is_map() {
            let Kind::Message(entry) = self.field.kind() else { return Ok(()) };
            let is_text = |field: &FieldDescriptor| matches!(field.kind(), Kind::String);
            ensure!(
                is_text(&entry.map_entry_key_field()) && is_text(&entry.map_entry_value_field()),
                "only maps from string to string can be checked"
            );
            let keys = texts(&self.rule, "keys");
            writeln!(
                out,
                "        for (key, value) in &self.{name} {{ check::map_entry({at}, key, value, &{keys:?})?; }}"
            )?;
            let most = number(&self.rule, "max_total_bytes");
            if most > 0 {
                writeln!(out, "        check::map_bytes({at}, &self.{name}, {most})?;")?;
            }
        } else if let Kind::Message(_) = self.field.kind() {
            let json = self.field.json_name();
            writeln!(
                out,
                "        for (index, it) in self.{name}.iter().enumerate() {{ it.validate().map_err(|it| it.within_item({json:?}, index))?; }}"
            )?;
        } else {
            let checks = self.checks("it", "*it")?;
            let checks: Vec<_> = checks.iter().map(|check| format!("{check}.map_err(|it| it.item(index))")).collect();
            if !checks.is_empty() {
                let all = statements(&checks);
                writeln!(out, "        for (index, it) in self.{name}.iter().enumerate() {{ {all} }}")?;
            }
        }
        Ok(())
    }

    /// Returns expressions that check one value, none if it has no limits. `reference` and `value` are the expressions for
    /// the value's reference and for the value itself.
    fn checks(&self, reference: &str, value: &str) -> Result<Vec<String>> {
        let (rule, at) = (&self.rule, &self.at);
        let required = flag(rule, "required") && !self.field.is_list() && !self.field.supports_presence();
        let mut checks = Vec::new();
        match self.field.kind() {
            Kind::String => checks.push(self.text(reference)?),
            Kind::Bytes => {
                let (most, exact) = (number(rule, "max_bytes"), number(rule, "exact_bytes"));
                if required || most > 0 || exact > 0 {
                    checks.push(format!("check::bytes({at}, {reference}, {required}, {most}, {exact})"));
                }
            }
            Kind::Message(_) => {
                checks.push(format!("it.validate().map_err(|it| it.within({:?}))", self.field.json_name()));
            }
            Kind::Enum(kind) => {
                let unspecified = kind.default_value().name().ends_with("_UNSPECIFIED");
                ensure!(!required || unspecified, "required: 0 is an ordinary value of {}", kind.name());
                if required {
                    checks.push(format!("check::present({at}, {value} != 0)"));
                }
                if flag(rule, "known") {
                    // The reference has no such member. It exists because proto3 needs one for a missing value.
                    let no_member = unspecified && self.field.is_list();
                    let named = if no_member { format!("{value} != 0 && ") } else { String::new() };
                    let name = camel(kind.name());
                    checks.push(format!("check::known({at}, {named}v1::{name}::try_from({value}).is_ok())"));
                }
            }
            Kind::Bool | Kind::Float | Kind::Double => {
                ensure!(!required, "required: false or 0 cannot be told from a missing value");
            }
            _ => {
                let (min, max) = (number(rule, "min"), number(rule, "max"));
                ensure!(min <= max, "min is greater than max: both bounds are needed");
                if required {
                    checks.push(format!("check::present({at}, {value} != 0)"));
                }
                if (min, max) != (0, 0) {
                    checks.push(format!("check::range({at}, i128::from({value}), {min}, {max})"));
                }
            }
        }
        Ok(checks)
    }

    fn text(&self, reference: &str) -> Result<String> {
        let (rule, at) = (&self.rule, &self.at);
        let (bytes, chars) = (number(rule, "max_bytes"), number(rule, "max_chars"));
        let not_blank = flag(rule, "not_blank");
        let is_id = match &*variant(rule, "charset")? {
            "Text" => false,
            "Id" => true,
            other => bail!("the alphabet {other} is checked by nothing"),
        };
        // A required list may contain an empty text, but never an empty ID.
        let required = if self.field.is_list() { is_id } else { flag(rule, "required") };
        Ok(format!(
            "check::text({at}, {reference}, Text {{ required: {required}, max_bytes: {bytes}, max_chars: {chars}, is_id: {is_id}, not_blank: {not_blank} }})"
        ))
    }
}
