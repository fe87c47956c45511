//! Requests of certificates.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::LazyLock;

use base64::Engine as _;
use engine_core::request::CertificateUsage;
use engine_pki::authority::{Founding, Permitted, found};
use engine_pki::leaf::{Issuing, issue};
use engine_pki::request::{Wanted, read};
use engine_pki::{Name, Serial, Signer};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

const NODE: &str = "blue-members-1";
const NAMES: [&str; 2] = ["blue-members-1.blue.plinth.internal", "10.1.2.3"];
const NOW: OffsetDateTime = time::macros::datetime!(2026-11-21 21:00:00 UTC);

static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate_for(&PKCS_ED25519).expect("a key"));
static WANTED: LazyLock<BTreeSet<Name>> =
    LazyLock::new(|| NAMES.iter().map(|name| name.parse().expect("a name")).collect());
static SIGNER: LazyLock<Signer> = LazyLock::new(|| {
    let (serial, lifetime) = (Serial::of([1; 16]), Duration::days(365));
    let founding = Founding { common_name: "fuzz", serial, now: NOW, lifetime, permitted: &Permitted::default() };
    let founded = found(&founding).expect("an authority");
    Signer::open(&founded.certificate, &founded.key).expect("an authority")
});

/// What stands in a request before its key, and behind it: what is signed is `before + key + seed`. The first is in order; others
/// ask for more names, for an authority, and for what nobody may ask for.
pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |change: &dyn Fn(&mut CertificateParams)| {
        let names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, NODE);
        change(&mut params);
        let der = params.serialize_request(&*KEY).expect("a request").der().to_vec();
        let key = KEY.subject_public_key_info();
        let at = der.windows(key.len()).position(|part| part == key).expect("its key") + key.len();
        // Behind the attributes come the algorithm (7 bytes) and the signature (67).
        der[at..der.len() - 74].to_vec()
    };
    let foreign = |params: &mut CertificateParams| {
        let name = "*.blue.plinth.internal".try_into().expect("a name");
        params.subject_alt_names.push(rcgen::SanType::DnsName(name));
    };
    let authority =
        |params: &mut CertificateParams| params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let usage = |params: &mut CertificateParams| params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    let mut seeds = vec![seed(&|_| {}), seed(&foreign), seed(&authority), seed(&usage)];
    seeds.push(signed(&seeds[0]));
    seeds.push(pem(&seeds[4]).into_bytes());
    seeds
}

/// Takes bytes as a request in PEM, as one in DER, and as attributes of one that is signed as it should be. Whatever they are, a
/// request is refused with a code and a line for people, or what is signed for it has exactly the names that were wanted.
/// Returns how many of the three were signed.
///
/// # Panics
/// When something of that does not hold.
pub fn check(bytes: &[u8]) -> usize {
    let texts = [String::from_utf8_lossy(bytes).into_owned(), pem(bytes), pem(&signed(bytes))];
    texts.iter().filter(|text| checked(text)).count()
}

fn checked(text: &str) -> bool {
    let request = match read(text, &Wanted { node: NODE, names: &WANTED }) {
        Ok(request) => request,
        Err(error) => {
            let line = error.to_string();
            assert!(error.code().starts_with("csr-"), "{error:?}");
            assert!(line.len() < 600 && !line.contains(char::is_control), "for people: {line:?}");
            return false;
        }
    };
    let usages = &[CertificateUsage::Client];
    let list = "http://crl.blue.plinth.internal/1/0.crl";
    let how = Issuing { serial: Serial::of([2; 16]), now: NOW, lifetime: Duration::days(1), usages, list };
    let issued = issue(&request, &SIGNER, &how).expect("what is in order is signed");
    let (_, block) = x509_parser::pem::parse_x509_pem(issued.certificate.as_bytes()).expect("PEM");
    let (_, found) = X509Certificate::from_der(&block.contents).expect("a certificate");
    assert_eq!(found.subject().to_string(), format!("CN={NODE}"));
    let mut names = BTreeSet::new();
    for extension in found.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(all) => {
                names.extend(all.general_names.iter().map(|name| match name {
                    GeneralName::DNSName(name) => Name::Dns((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => Name::Ip(IpAddr::from(<[u8; 4]>::try_from(*bytes).expect("IPv4"))),
                    other => panic!("nobody wanted {other}"),
                }))
            }
            ParsedExtension::BasicConstraints(limits) => assert!(!limits.ca),
            ParsedExtension::KeyUsage(usage) => assert!(usage.digital_signature() && !usage.key_cert_sign()),
            ParsedExtension::ExtendedKeyUsage(usage) => assert!(usage.client_auth && !usage.server_auth && !usage.any),
            ParsedExtension::AuthorityKeyIdentifier(_)
            | ParsedExtension::SubjectKeyIdentifier(_)
            | ParsedExtension::CRLDistributionPoints(_) => {}
            other => panic!("nobody wanted {other:?}"),
        }
    }
    assert_eq!(names, *WANTED);
    true
}

/// A request with our key and these attributes, signed by it.
fn signed(attributes: &[u8]) -> Vec<u8> {
    let name = element(0x0c, NODE.as_bytes());
    // 2.5.4.3 is a common name, 1.3.101.112 is Ed25519.
    let part = element(0x30, &[&[6, 3, 0x55, 4, 3][..], &name].concat());
    let subject = element(0x30, &element(0x31, &part));
    let key = KEY.subject_public_key_info();
    let info = element(0x30, &[&[2, 1, 0][..], &subject, &key, attributes].concat());
    let signature = KEY.sign(&info).expect("signed");
    let bits = element(3, &[&[0][..], &signature].concat());
    element(0x30, &[&info[..], &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70], &bits].concat())
}

/// An element of DER.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("short").to_be_bytes();
    let header = match content.len() {
        short @ 0..128 => vec![tag, u8::try_from(short).expect("short")],
        _ => [&[tag, 0x84][..], &length].concat(),
    };
    // The shortest form of a length is the only one.
    let header = match (header.get(1), length) {
        (Some(0x84), [0, 0, 0, low]) => vec![tag, 0x81, low],
        (Some(0x84), [0, 0, high, low]) => vec![tag, 0x82, high, low],
        (Some(0x84), [0, high, middle, low]) => vec![tag, 0x83, high, middle, low],
        _ => header,
    };
    [&header[..], content].concat()
}

fn pem(der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", lines.join("\n"))
}
