//! What the book says of the settings is true: every setting is there, with its default.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::ffi::OsString;

use serde_json::Value;
use zim_server::config::{Args, Config};

const PAGE: &str = include_str!("../../docs/operations/configuration.md");

/// The block of the page that lists the settings.
fn block() -> &'static str {
    let (_, rest) = PAGE.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0
}

/// `section.name` of every line that sets something.
fn names_in_block() -> BTreeSet<String> {
    let mut section = String::new();
    let mut names = BTreeSet::new();
    for line in block().lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_end_matches(']'));
        } else if let Some((name, _)) = line.split_once(" = ")
            && !line.starts_with('#')
        {
            names.insert(format!("{section}{name}"));
        }
    }
    names
}

fn names_of_settings() -> BTreeSet<String> {
    let Value::Object(settings) = serde_json::to_value(Config::default()).unwrap() else { return BTreeSet::new() };
    let mut names = BTreeSet::new();
    for (name, value) in settings {
        match value {
            Value::Object(section) => names.extend(section.keys().map(|key| format!("{name}.{key}"))),
            _ => drop(names.insert(name)),
        }
    }
    names
}

#[test]
fn every_setting_is_in_the_book() {
    assert_eq!(names_in_block(), names_of_settings());
}

#[test]
fn the_book_has_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("zim.toml");
    std::fs::write(&file, block()).unwrap();
    let arguments = ["zim-server".into(), "--config".into(), OsString::from(file)];
    let args = Args::parse_from(arguments).unwrap();
    assert_eq!(Config::load(&args, []).unwrap(), Config::default());
}
