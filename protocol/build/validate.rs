//! Limits: from the options of fields to `Validate`.

use std::fmt::Write;

use anyhow::Result;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

use crate::model::{camel, field_rule, flag, number, rust_field, snake, type_name};

/// `Validate` for every message.
pub(crate) fn all(pool: &DescriptorPool) -> Result<String> {
    let mut out = String::new();
    for message in pool.all_messages() {
        if message.package_name() == "zim.v1" && !message.is_map_entry() {
            one(&mut out, &message)?;
        }
    }
    Ok(out)
}

fn one(out: &mut String, message: &MessageDescriptor) -> Result<()> {
    let mut body = String::new();
    for field in message.fields() {
        if field.containing_oneof().is_none_or(|oneof| oneof.is_synthetic()) {
            check_field(&mut body, &field)?;
        }
    }
    let module = snake(message.name());
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        let (kind, at) = (format!("v1::{module}::{}", camel(oneof.name())), rust_field(oneof.name()));
        let arms: Vec<(String, String)> = oneof
            .fields()
            .filter(|field| matches!(field.kind(), Kind::Message(_)))
            .map(|field| {
                let check = format!("it.validate().map_err(|it| it.within({:?}))?", field.json_name());
                (format!("Some({kind}::{}(it))", camel(field.name())), check)
            })
            .collect();
        match arms.as_slice() {
            [] => {}
            [(pattern, check)] => {
                writeln!(body, "        if let {pattern} = &self.{at} {{\n            {check};\n        }}")?;
            }
            _ => {
                writeln!(body, "        match &self.{at} {{")?;
                for (pattern, check) in arms {
                    writeln!(body, "            {pattern} => {check},")?;
                }
                writeln!(body, "            _ => {{}}\n        }}")?;
            }
        }
    }
    writeln!(
        out,
        "impl Validate for v1::{} {{\n    fn validate(&self) -> Result<(), Box<Violation>> {{\n{body}        Ok(())\n    }}\n}}\n",
        type_name(message)
    )?;
    Ok(())
}

fn check_field(out: &mut String, field: &FieldDescriptor) -> Result<()> {
    let rule = field_rule(field)?;
    let name = rust_field(field.name());
    let json = field.json_name();
    let code = match number(&rule, "error") {
        0 => 6_000_001,
        code => code,
    };
    let at = format!("Field {{ name: {json:?}, code: {code} }}");
    let items = (number(&rule, "min_items"), number(&rule, "max_items"));
    if field.is_list() || field.is_map() {
        if items != (0, 0) {
            writeln!(out, "        check::items({at}, self.{name}.len(), {}, {})?;", items.0, items.1)?;
        }
        if field.is_map() {
            writeln!(out, "        for (key, value) in &self.{name} {{ check::map_entry({at}, key, value)?; }}")?;
            return Ok(());
        }
        match field.kind() {
            Kind::String => {
                writeln!(out, "        for it in &self.{name} {{ {} }}", text(&rule, &at, "it", true))?;
            }
            Kind::Message(_) => writeln!(
                out,
                "        for (index, it) in self.{name}.iter().enumerate() {{ it.validate().map_err(|it| it.within_item({json:?}, index))?; }}"
            )?,
            _ => {}
        }
        return Ok(());
    }
    match field.kind() {
        Kind::String => writeln!(out, "        {}", text(&rule, &at, &format!("&self.{name}"), false))?,
        Kind::Bytes => {
            let (required, most, exact) =
                (flag(&rule, "required"), number(&rule, "max_bytes"), number(&rule, "exact_bytes"));
            if required || most > 0 || exact > 0 {
                writeln!(out, "        check::bytes({at}, &self.{name}, {required}, {most}, {exact})?;")?;
            }
        }
        Kind::Message(_) => {
            if flag(&rule, "required") {
                writeln!(out, "        check::present({at}, self.{name}.is_some())?;")?;
            }
            writeln!(
                out,
                "        if let Some(it) = &self.{name} {{ it.validate().map_err(|it| it.within({json:?}))?; }}"
            )?;
        }
        Kind::Enum(kind) if flag(&rule, "known") => {
            writeln!(out, "        check::known({at}, v1::{}::try_from(self.{name}).is_ok())?;", camel(kind.name()))?;
        }
        Kind::Enum(_) | Kind::Bool | Kind::Float | Kind::Double => {}
        _ => {
            let (min, max) = (number(&rule, "min"), number(&rule, "max"));
            if (min, max) != (0, 0) {
                writeln!(out, "        check::range({at}, self.{name} as i128, {min}, {max})?;")?;
            } else if flag(&rule, "required") {
                writeln!(out, "        check::present({at}, self.{name} != 0)?;")?;
            }
        }
    }
    Ok(())
}

fn text(rule: &prost_reflect::DynamicMessage, at: &str, value: &str, is_item: bool) -> String {
    let (bytes, chars) = (number(rule, "max_bytes"), number(rule, "max_chars"));
    let is_id = number(rule, "charset") == 1;
    // An id in a list is never empty.
    let required = flag(rule, "required") || (is_item && is_id);
    format!(
        "check::text({at}, {value}, Text {{ required: {required}, max_bytes: {bytes}, max_chars: {chars}, is_id: {is_id}, not_blank: {} }})?;",
        flag(rule, "not_blank")
    )
}
