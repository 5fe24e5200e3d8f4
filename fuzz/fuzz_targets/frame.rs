#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| zim_integration_tests::decoders::frame(input));
