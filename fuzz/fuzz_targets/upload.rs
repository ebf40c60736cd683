#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vela_release::fuzzing::run("upload", bytes));
