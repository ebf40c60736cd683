#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vela_supervisor::fuzzing::run("shim_wire", bytes));
