//! What is signed, and what is refused.

use std::collections::BTreeSet;

use engine_core::request::CertificateUsage as Usage;
use engine_core::request::RevocationReason;
use engine_pki::authority::{Founded, Founding, Permitted, found};
use engine_pki::leaf::{Issued, Issuing, issue};
use engine_pki::request::{LARGEST, Wanted, read};
use engine_pki::revocation::{Listing, Revoked, in_pem, list};
use engine_pki::{Name, Serial, Signer, fingerprint};
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm,
};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, GeneralName, X509Certificate};

const NOW: OffsetDateTime = datetime!(2026-11-21 21:00:00.5 UTC);
const NODE: &str = "blue-members-1";

/// A request for some names, with something more.
fn request(
    algorithm: &'static SignatureAlgorithm,
    subject: &[&str],
    names: &[&str],
    more: impl Fn(&mut CertificateParams),
) -> String {
    let key = KeyPair::generate_for(algorithm).expect("a key");
    let mut params =
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).expect("names");
    params.distinguished_name = DistinguishedName::new();
    for (place, name) in subject.iter().enumerate() {
        params.distinguished_name.push([DnType::CommonName, DnType::OrganizationName][place].clone(), *name);
    }
    more(&mut params);
    params.serialize_request(&key).expect("a request").pem().expect("PEM")
}

fn names(all: &[&str]) -> BTreeSet<Name> {
    all.iter().map(|name| name.parse().expect("a name")).collect()
}

const NAMES: [&str; 2] = ["blue-members-1.blue.plinth.internal", "10.1.2.3"];

fn code(text: &str) -> &'static str {
    match read(text, &Wanted { node: NODE, names: &names(&NAMES) }) {
        Ok(_) => "signed",
        Err(error) => error.code(),
    }
}

fn authority(lifetime: Duration) -> Founded {
    let permitted = Permitted { dns: vec!["blue.plinth.internal".to_owned()], subnets: vec!["10.0.0.0/8".to_owned()] };
    let founding =
        Founding { common_name: "etcd", serial: Serial::of([0xff; 16]), now: NOW, lifetime, permitted: &permitted };
    found(&founding).expect("an authority")
}

/// Where lists are.
const LIST: &str = "http://crl.blue.plinth.internal/1/0.crl";

fn open(authority: &Founded) -> Signer {
    Signer::open(&authority.certificate, &authority.key).expect("an authority")
}

fn leaf(authority: &Founded, usages: &[Usage], lifetime: Duration) -> Issued {
    let request = request(&PKCS_ECDSA_P256_SHA256, &[NODE], &NAMES, |_| {});
    let request = read(&request, &Wanted { node: NODE, names: &names(&NAMES) }).expect("in order");
    let serial = Serial::of([0; 16]);
    let how = Issuing { serial, now: NOW, lifetime, usages, list: LIST };
    issue(&request, &open(authority), &how).expect("signed")
}

fn der(pem: &str) -> Vec<u8> {
    x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM").1.contents
}

#[test]
fn what_is_asked_for_beyond_ones_own_names_is_refused() {
    let p256 = &PKCS_ECDSA_P256_SHA256;
    let plain = |_: &mut CertificateParams| {};
    assert_eq!(code(&request(p256, &[NODE], &NAMES, plain)), "signed");
    assert_eq!(code(&request(&PKCS_ED25519, &[NODE], &NAMES, plain)), "signed");
    assert_eq!(
        code(&request(p256, &[NODE], &[NAMES[1], NAMES[0], NAMES[0]], plain)),
        "signed",
        "the order says nothing"
    );
    let foreign = [NAMES[0], NAMES[1], "blue-members-2.blue.plinth.internal"];
    assert_eq!(code(&request(p256, &[NODE], &foreign, plain)), "csr-name-foreign");
    assert_eq!(code(&request(p256, &[NODE], &[NAMES[0], NAMES[1], "10.1.2.4"], plain)), "csr-name-foreign");
    assert_eq!(code(&request(p256, &["blue-members-2"], &NAMES, plain)), "csr-name-foreign");
    assert_eq!(code(&request(p256, &[NODE, "Example"], &NAMES, plain)), "csr-name-foreign");
    assert_eq!(code(&request(p256, &[], &NAMES, plain)), "csr-name-foreign");
    assert_eq!(
        code(&request(p256, &[NODE], &[NAMES[0], NAMES[1], "*.blue.plinth.internal"], plain)),
        "csr-name-wildcard"
    );
    assert_eq!(code(&request(p256, &["*"], &NAMES, plain)), "csr-name-wildcard");
    assert_eq!(code(&request(p256, &[NODE], &NAMES[..1], plain)), "csr-name-missing");
    assert_eq!(code(&request(p256, &[NODE], &[], plain)), "csr-name-missing");
    assert_eq!(code(&request(&PKCS_ECDSA_P384_SHA384, &[NODE], &NAMES, plain)), "csr-key-type");
    let authority = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(code(&request(p256, &[NODE], &NAMES, authority)), "csr-authority");
    let signer = |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    assert_eq!(code(&request(p256, &[NODE], &NAMES, signer)), "csr-authority");
    let server = |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    assert_eq!(code(&request(p256, &[NODE], &NAMES, server)), "csr-extension");
    let strange = |params: &mut CertificateParams| {
        params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]));
    };
    assert_eq!(code(&request(p256, &[NODE], &NAMES, strange)), "csr-extension");
}

#[test]
fn what_is_no_request_is_refused() {
    let good = request(&PKCS_ECDSA_P256_SHA256, &[NODE], &NAMES, |_| {});
    assert_eq!(code(""), "csr-unreadable");
    assert_eq!(code(&good.replace("REQUEST", "REQUESTS")), "csr-unreadable");
    assert_eq!(code(&format!("{good}{good}")), "csr-unreadable");
    assert_eq!(code(&authority(Duration::days(1)).certificate), "csr-unreadable");
    assert_eq!(code(&format!("{good}{}", " ".repeat(LARGEST))), "csr-too-large");
}

#[test]
fn a_certificate_has_what_was_wanted_and_nothing_else() {
    let authority = authority(Duration::days(3650));
    let issued = leaf(&authority, &[Usage::Server], Duration::days(30));
    let (root, der) = (der(&authority.certificate), der(&issued.certificate));
    let (_, root) = X509Certificate::from_der(&root).expect("a certificate");
    let (_, found) = X509Certificate::from_der(&der).expect("a certificate");
    root.verify_signature(None).expect("signed by itself");
    found.verify_signature(Some(root.public_key())).expect("signed by the authority");
    assert_eq!(found.issuer(), root.subject());
    assert_eq!(found.subject().to_string(), format!("CN={NODE}"));
    assert_eq!(found.validity().not_before.to_datetime(), datetime!(2026-11-21 20:55:00 UTC));
    assert_eq!(found.validity().not_after.to_datetime(), datetime!(2026-12-21 21:00:00 UTC));
    assert_eq!(issued.renew_at, datetime!(2026-12-11 21:00:00 UTC));
    let limits = root.basic_constraints().expect("readable").expect("some").value;
    assert_eq!((limits.ca, limits.path_len_constraint), (true, Some(0)));
    let usages = root.key_usage().expect("readable").expect("some").value;
    assert!(usages.key_cert_sign() && usages.crl_sign() && !usages.digital_signature());
    let confined = root.name_constraints().expect("readable").expect("some");
    assert!(confined.critical);
    let permitted: Vec<String> =
        confined.value.permitted_subtrees.iter().flatten().map(|tree| tree.base.to_string()).collect();
    assert_eq!(permitted.len(), 2, "{permitted:?}");
    assert!(!found.basic_constraints().expect("readable").expect("some").value.ca);
    let usage = found.extended_key_usage().expect("readable").expect("some").value;
    assert!(usage.server_auth && !usage.client_auth && !usage.any);
    let sans = &found.subject_alternative_name().expect("readable").expect("some").value.general_names;
    let sans: Vec<&GeneralName<'_>> = sans.iter().collect();
    assert_eq!(sans, [&GeneralName::DNSName(NAMES[0]), &GeneralName::IPAddress(&[10, 1, 2, 3])]);
    assert_eq!(found.raw_serial(), [&[0x40][..], &[0; 15]].concat());
    assert_eq!(root.raw_serial(), [&[0x7f][..], &[0xff; 15]].concat());
    assert_eq!(fingerprint(&issued.certificate).expect("readable").len(), 64);
}

#[test]
fn nothing_outlives_its_authority() {
    let authority = authority(Duration::minutes(10));
    let issued = leaf(&authority, &[Usage::Server, Usage::Client], Duration::days(30));
    assert_eq!(issued.not_after, authority.not_after);
    assert_eq!(issued.renew_at, datetime!(2026-11-21 21:06:40 UTC));
    let request = request(&PKCS_ECDSA_P256_SHA256, &[NODE], &NAMES, |_| {});
    let request = read(&request, &Wanted { node: NODE, names: &names(&NAMES) }).expect("in order");
    let how = Issuing {
        serial: Serial::of([1; 16]),
        now: NOW + Duration::minutes(10),
        lifetime: Duration::days(1),
        usages: &[Usage::Client],
        list: LIST,
    };
    assert_eq!(issue(&request, &open(&authority), &how).expect_err("at its end").code(), "authority-ends");
}

#[test]
fn an_authority_is_confined_only_to_what_there_can_be() {
    for (dns, subnets) in [
        (vec!["*.example"], vec![]),
        (vec!["10.0.0.1"], vec![]),
        (vec![], vec!["10.0.0.0/33"]),
        (vec![], vec!["10.0.0.0"]),
    ] {
        let own = |all: Vec<&str>| all.into_iter().map(str::to_owned).collect();
        let permitted = Permitted { dns: own(dns), subnets: own(subnets) };
        let (serial, lifetime) = (Serial::of([2; 16]), Duration::days(1));
        let founding = Founding { common_name: "x", serial, now: NOW, lifetime, permitted: &permitted };
        let refused = found(&founding).err().map(|error| error.code());
        assert_eq!(refused, Some("pki-constraint"), "{permitted:?}");
    }
}

#[test]
fn an_authority_signs_for_names_in_its_zones_and_subnets() {
    let own = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    let permitted = Permitted { dns: own(&["blue.internal"]), subnets: own(&["10.1.0.0/16", "fd00::/8"]) };
    let allows = |name: &str| permitted.allows(&name.parse().expect("a name"));
    let within = ["blue.internal", "a.blue.internal", "a.b.blue.internal", "10.1.255.255", "fd12::1"];
    assert!(within.into_iter().all(allows));
    let outside = ["internal", "xblue.internal", "blue.internal.example", "10.2.0.1", "fe80::1", "::ffff:10.1.0.1"];
    assert!(!outside.into_iter().any(allows));
    let free = Permitted::default();
    assert!(free.allows(&"10.2.0.1".parse().expect("a name")) && free.allows(&"any".parse().expect("a name")));
    let nothing = Permitted { dns: Vec::new(), subnets: own(&["0.0.0.0/0"]) };
    assert!(nothing.allows(&"255.255.255.255".parse().expect("a name")));
    assert!(!nothing.allows(&"::1".parse().expect("a name")), "it has no subnet of that kind");
}

/// What openssl says of all this.
fn openssl(words: &[&str]) -> String {
    let said = std::process::Command::new("openssl").args(words).output().expect("openssl");
    format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
}

/// Parts are for those certificates that name them, and for no others; openssl holds the one against the other.
#[test]
fn openssl_looks_into_the_part_that_a_certificate_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &[u8]| {
        let path = folder.path().join(name).display().to_string();
        std::fs::write(&path, text).expect("a file");
        path
    };
    let now = OffsetDateTime::now_utc();
    let permitted = Permitted::default();
    let lifetime = Duration::days(30);
    let founding = Founding { common_name: "etcd", serial: Serial::of([9; 16]), now, lifetime, permitted: &permitted };
    let authority = found(&founding).expect("an authority");
    let signer = open(&authority);
    let request = request(&PKCS_ECDSA_P256_SHA256, &[NODE], &NAMES, |_| {});
    let request = read(&request, &Wanted { node: NODE, names: &names(&NAMES) }).expect("in order");
    let serial = Serial::of([7; 16]);
    let how = Issuing { serial, now, lifetime, usages: &[Usage::Client], list: LIST };
    let issued = issue(&request, &signer, &how).expect("signed");
    let (ca, own) = (file("ca", authority.certificate.as_bytes()), file("own", issued.certificate.as_bytes()));
    let revoked = Revoked { serial: serial.hex(), at: now, reason: RevocationReason::KeyCompromise };
    let other = "http://crl.blue.plinth.internal/1/1.crl";
    for (name, revoked, part, wanted) in [
        ("none", &[][..], LIST, "OK"),
        ("revoked", &[revoked][..], LIST, "certificate revoked"),
        ("other", &[][..], other, "different CRL scope"),
    ] {
        let listed = list(revoked, &signer, &Listing { now, lifetime, part: Some(part) }).expect("signed");
        assert_eq!(der(&in_pem(&listed.der)), listed.der);
        let crl = file(name, in_pem(&listed.der).as_bytes());
        let said = openssl(&["verify", "-extended_crl", "-crl_check", "-CRLfile", &crl, "-CAfile", &ca, &own]);
        assert!(said.contains(wanted), "{name}: {said}");
    }
}

#[test]
fn a_part_of_which_everything_is_revoked_has_less_than_a_megabyte() {
    let signer = open(&authority(Duration::days(30)));
    // As many as a part is for, and some that were signed at the same moment.
    let revoked = |number: u32| {
        let mut serial = [0xff; 16];
        serial[12..].copy_from_slice(&number.to_be_bytes());
        Revoked { serial: Serial::of(serial).hex(), at: NOW, reason: RevocationReason::PrivilegeWithdrawn }
    };
    let all: Vec<Revoked> = (0..17_000).map(revoked).collect();
    let how = Listing { now: NOW, lifetime: Duration::days(3), part: Some(LIST) };
    let listed = list(&all, &signer, &how).expect("signed");
    assert!(listed.der.len() < 1_000_000, "{} bytes", listed.der.len());
}

/// Programs on nodes read one file, and read it whole.
#[test]
fn the_list_for_nodes_has_twenty_thousand_in_a_megabyte() {
    let signer = open(&authority(Duration::days(30)));
    let revoked = |number: u32| {
        let mut serial = [0xff; 16];
        serial[12..].copy_from_slice(&number.to_be_bytes());
        Revoked { serial: Serial::of(serial).hex(), at: NOW, reason: RevocationReason::PrivilegeWithdrawn }
    };
    let all: Vec<Revoked> = (0..20_000).map(revoked).collect();
    let listed = list(&all, &signer, &Listing { now: NOW, lifetime: Duration::days(3), part: None }).expect("signed");
    let length = in_pem(&listed.der).len();
    assert!(length < 1_000_000, "{length} bytes");
    let (_, read) = CertificateRevocationList::from_der(&listed.der).expect("a list");
    assert_eq!(read.iter_revoked_certificates().count(), all.len());
}

#[test]
fn a_list_names_what_was_revoked_and_is_signed() {
    let authority = authority(Duration::days(30));
    let issued = leaf(&authority, &[Usage::Client], Duration::days(1));
    let serial = Serial::of([0; 16]).hex();
    let signer = open(&authority);
    let by = |now| Listing { now, lifetime: Duration::days(3), part: None };
    let revoked = Revoked { serial: serial.clone(), at: NOW, reason: RevocationReason::KeyCompromise };
    let empty = list(&[], &signer, &by(NOW)).expect("signed");
    let full = list(&[revoked], &signer, &by(NOW + Duration::milliseconds(1))).expect("signed");
    assert_eq!(full.renew_at, datetime!(2026-11-23 21:00:00 UTC));
    let (root, own) = (der(&authority.certificate), der(&issued.certificate));
    let (_, root) = X509Certificate::from_der(&root).expect("a certificate");
    let (_, own) = X509Certificate::from_der(&own).expect("a certificate");
    let (empty, full) = (empty.der, full.der);
    let (_, empty) = CertificateRevocationList::from_der(&empty).expect("a list");
    let (_, full) = CertificateRevocationList::from_der(&full).expect("a list");
    full.verify_signature(root.public_key()).expect("signed by the authority");
    assert_eq!(full.issuer(), own.issuer());
    assert_eq!(empty.iter_revoked_certificates().count(), 0);
    let named: Vec<_> = full.iter_revoked_certificates().map(|one| one.raw_serial().to_vec()).collect();
    assert_eq!(named, [own.raw_serial()]);
    assert!(full.crl_number() > empty.crl_number(), "a later list has a higher number");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Signed is exactly who asks for exactly the names that are wanted.
    #[test]
    fn only_the_wanted_names_are_signed(wanted in 1_u8..16, asked in 0_u8..16) {
        let all = ["a.blue.plinth.internal", "b", "10.0.0.1", "fd00::1"];
        let some = |bits: u8| -> Vec<&str> {
            all.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0).map(|(_, name)| *name).collect()
        };
        let text = request(&PKCS_ED25519, &[NODE], &some(asked), |_| {});
        let told = read(&text, &Wanted { node: NODE, names: &names(&some(wanted)) });
        prop_assert_eq!(told.is_ok(), wanted == asked, "{:?}", told);
    }

    /// Whatever became of what is signed of a request: it is refused.
    #[test]
    fn a_damaged_request_is_refused(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let good = der(&request(&PKCS_ED25519, &[NODE], &NAMES, |_| {}));
        let mut bad = good;
        // Before it comes a header (4 bytes), behind it the algorithm (7) and the signature (3 and 64).
        let at = 4 + at.index(bad.len() - 78);
        bad[at] ^= 1 << bit;
        let text = x509(&bad);
        prop_assert_ne!(code(&text), "signed", "byte {}, bit {}", at, bit);
    }
}

/// Some bytes as a request in PEM.
fn x509(der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", lines.join("\n"))
}
