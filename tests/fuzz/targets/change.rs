//! `tests::change` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_mutator!(|bytes: &mut [u8], size: usize, most: usize, number: u32| {
    fuzz::mutate(bytes, size, most, number, tests::change::seeds)
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tests::change::check(bytes);
});
