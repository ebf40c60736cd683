#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vela_control::fuzzing::run("answer_lines", bytes));
