//! Runs the committed fuzz corpus through every target.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use zim_integration_tests::decoders::{self, TARGETS};
use zim_protocol::METHODS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The sorted names of the files in a folder, without extension.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<_> = entries.map(|entry| stem(&entry.unwrap().path())).collect();
    names.sort();
    names
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = fuzz().join("corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

#[test]
fn every_decoder_has_a_target_and_a_corpus() {
    let expected: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&fuzz().join("fuzz_targets")), expected);
    assert_eq!(names(&fuzz().join("corpus")), expected);
}

#[test]
fn every_corpus_input_passes_its_target() {
    for (name, target) in TARGETS {
        let inputs = corpus(name);
        assert!(inputs.len() > 2, "only {} inputs for {name}", inputs.len());
        for input in inputs {
            let outcome = std::panic::catch_unwind(|| target(&input));
            assert!(outcome.is_ok(), "{name}: {}", input.escape_ascii());
        }
    }
    decoders::end();
}

#[test]
fn every_method_decodes_the_payloads_of_all_others() {
    let inputs = corpus("protobuf");
    let payloads = inputs.iter().filter_map(|input| Some(&input[input.iter().position(|byte| *byte == b'\n')?..]));
    for payload in payloads {
        for method in METHODS {
            decoders::protobuf(&[method.path.as_bytes(), payload].concat());
        }
    }
}
