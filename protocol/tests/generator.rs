//! The generator does not guess. An option that it does not know fails the build: otherwise a method would be open to more callers
//! than its contract says, or nothing would enforce a limit that the contract states. The sources of the generator are compiled
//! into this test.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../build/message.rs"]
#[expect(dead_code, reason = "the generator has other uses for the rest")]
mod message;
#[path = "../build/model.rs"]
#[expect(dead_code, reason = "the generator has other uses for the rest")]
mod model;
#[path = "../build/validate.rs"]
mod validate;

use std::path::PathBuf;

use anyhow::Result;
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

use crate::model::{Method, Model};

const FILE: &str = "trial.proto";
const METHOD: &str = "access: ACCESS_SERVER, scheduling: SCHEDULING_WRITE, rate: RATE_FREE";
const FIELD: &str = "max_bytes: 32, charset: CHARSET_ID";

/// A contract that is in no folder.
struct Trial(String);

impl FileResolver for Trial {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match name {
            FILE => File::from_source(name, &self.0),
            _ => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// Generates from a contract whose only method and whose only field have these options. Returns the method, and the checks of its
/// request.
fn generate(method: &str, field: &str) -> Result<(Method, String)> {
    let text = format!(
        "syntax = \"proto3\";\n\
         package zim.v1;\n\
         import \"zim/v1/options.proto\";\n\
         import \"zim/v1/error.proto\";\n\
         message TryRequest {{\n\
         string text = 1 [(zim.v1.field) = {{{field}}}];\n\
         }}\n\
         // A trial.\n\
         service TrialService {{\n\
         // Tries.\n\
         rpc Try(TryRequest) returns (TryRequest) {{\n\
         option (zim.v1.method) = {{{method}}};\n\
         }}\n\
         }}\n"
    );
    let mut resolver = ChainFileResolver::new();
    resolver.add(Trial(text));
    resolver.add(IncludeFileResolver::new(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/proto"))));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_source_info(true).include_imports(true).open_file(FILE)?;
    let pool = compiler.descriptor_pool();
    let method = Model::read(&pool)?.services.remove(0).methods.remove(0);
    Ok((method, validate::all(&pool)?))
}

/// Returns why nothing is generated.
fn refused(method: &str, field: &str) -> String {
    let error = generate(method, field).err().unwrap();
    // With what it is about.
    format!("{error:#}")
}

#[test]
fn what_options_say_is_generated() {
    let (method, checks) = generate(METHOD, FIELD).unwrap();
    assert_eq!((&*method.access, &*method.scheduling, &*method.rate), ("Server", "Write", "Free"));
    assert!(checks.contains("max_bytes: 32, max_chars: 0, is_id: true"), "{checks}");
    let (method, checks) = generate("access: ACCESS_ANYONE", "max_chars: 5").unwrap();
    assert_eq!((&*method.access, &*method.scheduling, &*method.rate), ("Anyone", "Read", "Requests"));
    assert!(checks.contains("max_bytes: 0, max_chars: 5, is_id: false"), "{checks}");
}

#[test]
fn a_value_that_an_option_does_not_have_fails_the_build() {
    for option in ["access", "scheduling", "rate"] {
        let why = refused(&format!("{option}: 9"), FIELD);
        assert!(why.contains(&format!("9 is no value of the option {option}")), "{why}");
    }
    let why = refused(METHOD, "charset: 9");
    assert!(why.contains("9 is no value of the option charset"), "{why}");
}

#[test]
fn an_option_that_does_not_apply_to_its_field_fails_the_build() {
    for (field, option) in [("max_items: 3", "max_items"), ("min: 1, max: 3", "min"), ("known: true", "known")] {
        let why = refused(METHOD, field);
        assert!(why.contains(&format!("the option {option} does not apply to this field")), "{why}");
    }
}

#[test]
fn a_target_that_the_request_does_not_have_fails_the_build() {
    let why = refused("scheduling: SCHEDULING_WRITE, targets: \"texts\"", FIELD);
    assert!(why.contains("texts: there is no such field"), "{why}");
    assert_eq!(generate("targets: \"text\"", FIELD).unwrap().0.targets, ["order.text(&self.text);"]);
}
