//! What targets share.

/// Changes an input as libFuzzer does, but now and then begins again from a seed: bytes that are nearly right are hard to come by.
pub fn mutate(bytes: &mut [u8], size: usize, most: usize, number: u32, seeds: fn() -> Vec<Vec<u8>>) -> usize {
    if number.is_multiple_of(64) {
        let seeds = seeds();
        let seed = &seeds[(number / 64) as usize % seeds.len()];
        if seed.len() <= most {
            bytes[..seed.len()].copy_from_slice(seed);
            return seed.len();
        }
    }
    libfuzzer_sys::fuzzer_mutate(bytes, size, most)
}
