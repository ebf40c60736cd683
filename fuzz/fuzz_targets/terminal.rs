#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vela_cli::fuzzing::run("terminal", bytes));
