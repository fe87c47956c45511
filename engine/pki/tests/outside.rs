//! Authorities that others sign: what is taken, and what is not.

use std::str::FromStr as _;

use engine_pki::authority::{Founded, Founding, Permitted, found};
use engine_pki::outside::{Imported, import, key, request};
use engine_pki::request::{Wanted, read};
use engine_pki::{ImportError, Serial};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, PKCS_ECDSA_P384_SHA384,
};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

const NOW: OffsetDateTime = datetime!(2026-11-21 21:00:00 UTC);

fn permitted(dns: &[&str], subnets: &[&str]) -> Permitted {
    let own = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    Permitted { dns: own(dns), subnets: own(subnets) }
}

fn zone() -> Permitted {
    permitted(&["blue.internal"], &["10.0.0.0/8", "fd00::/8"])
}

/// Somebody who signs authorities.
fn root() -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "corporation");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let pem = params.self_signed(&key).expect("signed").pem();
    (pem, Issuer::new(params, key))
}

/// What they sign for a key, with something changed.
fn signed(key: &[u8], by: &Issuer<'static, KeyPair>, more: impl Fn(&mut CertificateParams)) -> String {
    let key = KeyPair::try_from(key).expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "web");
    params.not_before = NOW - Duration::days(1);
    params.not_after = NOW + Duration::days(30);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let subnet = |text: &str| GeneralSubtree::IpAddress(CidrSubnet::from_str(text).expect("a subnet"));
    let permitted_subtrees =
        vec![GeneralSubtree::DnsName("blue.internal".to_owned()), subnet("10.0.0.0/8"), subnet("fd00::/8")];
    params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    more(&mut params);
    params.signed_by(&key, by).expect("signed").pem()
}

fn code(result: Result<Imported, ImportError>) -> &'static str {
    result.map_or_else(|error| error.code(), |_| "taken")
}

#[test]
fn a_request_asks_for_what_is_taken() {
    let made = request("web", &zone()).expect("a request");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("csr").display().to_string();
    std::fs::write(&file, &made.request).expect("a file");
    let said = std::process::Command::new("openssl")
        .args(["req", "-verify", "-noout", "-text", "-in", &file])
        .output()
        .expect("openssl");
    let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    for wanted in ["verify OK", "CN = web", "CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign", "DNS:blue.internal"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    // It is for an authority, so nobody signs it as a leaf.
    let none = std::collections::BTreeSet::new();
    let refused = read(&made.request, &Wanted { node: "web", names: &none }).expect_err("an authority");
    assert_eq!(refused.code(), "csr-authority");
}

#[test]
fn a_chain_is_taken_for_its_key_and_what_it_is_confined_to() {
    let made = request("web", &zone()).expect("a request");
    let (root_pem, by) = root();
    let own = signed(&made.key, &by, |_| {});
    let chain = format!("{own}{root_pem}");
    let taken = import(&chain, &made.key, &zone(), NOW).expect("in order");
    assert_eq!((&taken.certificate, &taken.above), (&own, &own), "a root is trusted elsewhere, and not told");
    assert_eq!(taken.not_after, NOW + Duration::days(30));
    assert_eq!(code(import(&own, &made.key, &zone(), NOW)), "taken", "whoever trusts the root has it");
    for (other, says) in [
        (
            permitted(&["blue.internal"], &[]),
            "confined to 10.0.0.0/8, blue.internal, fd00::/8, and it is to be blue.internal",
        ),
        (permitted(&["internal"], &["10.0.0.0/8", "fd00::/8"]), "and it is to be 10.0.0.0/8, fd00::/8, internal"),
        (permitted(&[], &[]), "it is to be nothing"),
    ] {
        let refused = import(&chain, &made.key, &other, NOW).expect_err("other names");
        assert_eq!(refused.code(), "chain-constraints");
        assert!(refused.to_string().contains(says), "{refused}");
    }
    let other = request("web", &zone()).expect("a request");
    assert_eq!(code(import(&chain, &other.key, &zone(), NOW)), "chain-other-key");
    assert_eq!(code(import(&chain, &made.key, &zone(), NOW + Duration::days(30))), "chain-not-in-force");
    assert_eq!(code(import(&chain, &made.key, &zone(), NOW - Duration::days(2))), "chain-not-in-force");
    assert_eq!(code(import(&format!("{own}{}", root().0), &made.key, &zone(), NOW)), "chain-broken");
    let leaf = |params: &mut CertificateParams| params.is_ca = IsCa::ExplicitNoCa;
    assert_eq!(code(import(&signed(&made.key, &by, leaf), &made.key, &zone(), NOW)), "chain-no-authority");
    let excluded = |params: &mut CertificateParams| {
        let constraints = params.name_constraints.as_mut().expect("some");
        constraints.excluded_subtrees.push(GeneralSubtree::DnsName("a.blue.internal".to_owned()));
    };
    assert_eq!(code(import(&signed(&made.key, &by, excluded), &made.key, &zone(), NOW)), "chain-constraints");
    let free = |params: &mut CertificateParams| params.name_constraints = None;
    assert_eq!(code(import(&signed(&made.key, &by, free), &made.key, &zone(), NOW)), "chain-constraints");
    let no_lists = |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    assert_eq!(code(import(&signed(&made.key, &by, no_lists), &made.key, &zone(), NOW)), "chain-no-authority");
    for garbage in ["", "nothing", &made.request, &"x".repeat(300_000)] {
        assert_eq!(code(import(garbage, &made.key, &zone(), NOW)), "chain-unreadable");
    }
}

#[test]
fn an_authority_that_signed_itself_has_nothing_above() {
    let (serial, lifetime, permitted) = (Serial::of([3; 16]), Duration::days(9), zone());
    let founding = Founding { common_name: "web", serial, now: NOW, lifetime, permitted: &permitted };
    let Founded { certificate, key, .. } = found(&founding).expect("an authority");
    let taken = import(&certificate, &key, &permitted, NOW).expect("in order");
    assert_eq!((taken.certificate, taken.above), (certificate, String::new()));
}

#[test]
fn keys_are_of_one_kind() {
    let own = KeyPair::generate().expect("a key");
    assert_eq!(*key(&own.serialize_pem()).expect("a key"), own.serialize_der());
    let other = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    for wrong in [
        other.serialize_pem(),
        String::new(),
        "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n".to_owned(),
    ] {
        assert_eq!(key(&wrong).expect_err("no key of ours").code(), "chain-key-type");
    }
}
