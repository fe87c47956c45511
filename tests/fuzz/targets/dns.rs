//! `tests::dns` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tests::dns::check(bytes);
});
