//! `tests::csr` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tests::csr::check(bytes);
});
