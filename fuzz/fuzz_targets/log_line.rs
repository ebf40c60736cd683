#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vela_proxy::fuzzing::run("log_line", bytes));
