//! `tests::tsig` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tests::tsig::check(bytes);
});
