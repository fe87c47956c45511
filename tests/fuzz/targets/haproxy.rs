//! `tests::haproxy` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_mutator!(|bytes: &mut [u8], size: usize, most: usize, number: u32| {
    fuzz::mutate(bytes, size, most, number, tests::haproxy::seeds)
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tests::haproxy::check(bytes);
});
