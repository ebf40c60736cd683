#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vela_services::fuzzing::run("nats_answer", bytes));
