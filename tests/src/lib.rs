//! What must hold of every parser of bytes that others send, whatever the bytes are: one function each, which panics where it
//! does not. The properties here call it with noise and with what is nearly right; `fuzz` beside this folder lets
//! libFuzzer look for more.

pub mod change;
pub mod csr;
pub mod dns;
pub mod haproxy;
pub mod tsig;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One of the seeds with some bytes changed, put in or taken out, or nothing like them.
    fn near(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
        let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 0..8);
        let changed = (prop::sample::select(seeds), changes).prop_map(|(mut bytes, changes)| {
            for (at, byte, what) in changes {
                let at = at.index(bytes.len() + 1);
                match what {
                    0 => bytes.insert(at, byte),
                    1 => bytes.truncate(at.max(bytes.len().saturating_sub(8))),
                    2 if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
                    _ if at < bytes.len() => bytes[at] = byte,
                    _ => {}
                }
            }
            bytes
        });
        prop_oneof![4 => changed, 1 => prop::collection::vec(any::<u8>(), 0..600)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn questions(bytes in near(dns::seeds())) {
            dns::check(&bytes);
        }

        #[test]
        fn changes_that_others_ask_for(bytes in near(change::seeds())) {
            change::check(&bytes);
        }

        #[test]
        fn answers_to_updates(bytes in near(tsig::seeds())) {
            tsig::check(&bytes);
        }

        #[test]
        fn what_haproxy_says(bytes in near(haproxy::seeds())) {
            haproxy::check(&bytes);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn requests_of_certificates(bytes in near(csr::seeds())) {
            csr::check(&bytes);
        }
    }

    /// Else noise would be all that is tried.
    #[test]
    fn what_is_right_is_taken() {
        assert_eq!(csr::check(&csr::seeds()[0]), 1, "one of three readings of it");
        let changes: Vec<bool> = change::seeds().iter().map(|seed| change::check(seed)).collect();
        assert_eq!(changes, [true, true, true, false, false], "the last two are about what others have");
        assert!(dns::check(&dns::seeds()[0]));
        assert!(tsig::check(&tsig::seeds()[0]));
        assert!(haproxy::check(&haproxy::seeds()[0]));
    }
}
