//! Authorities that somebody else signs: what is asked for, and what is taken.
//!
//! The key of such an authority is ours as well, for it signs leaves and lists; what is outside is who signs its certificate. It is
//! held to the same as one of our own: its key type, that it may sign certificates and lists, and for which names.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, GeneralSubtree, NameConstraints, ParsedExtension};
use x509_parser::oid_registry::OID_X509_EXT_NAME_CONSTRAINTS;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::authority::{Founding, Permitted, found};
use crate::error::doing;
use crate::{ImportError, PkiError, Serial};

/// No chain of ours has so many bytes.
const LARGEST: usize = 256 << 10;

/// A key that waits for its certificate. Whoever keeps it seals the key.
pub struct Requested {
    /// In PEM (PKCS #10). It asks for what the certificate has to have: an authority below which there is no other, confined as said.
    pub request: String,
    /// PKCS #8; overwritten when it is dropped.
    pub key: Zeroizing<Vec<u8>>,
}

/// Makes the key of an authority, and what is to be signed for it.
///
/// # Errors
/// When what it is to be confined to can not be read.
pub fn request(common_name: &str, permitted: &Permitted) -> Result<Requested, PkiError> {
    let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(doing("making the key of an authority"))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.custom_extensions.extend(constraints(permitted)?);
    let request = params.serialize_request(&key).and_then(|request| request.pem());
    let clear = Zeroizing::new(key.serialize_der());
    key.zeroize();
    Ok(Requested { request: request.map_err(doing("writing the request of an authority"))?, key: clear })
}

/// The extension that confines, as a certificate of our own would have it: requests are written without.
fn constraints(permitted: &Permitted) -> Result<Option<CustomExtension>, PkiError> {
    let (serial, now) = (Serial::of([0; 16]), OffsetDateTime::UNIX_EPOCH);
    let lifetime = time::Duration::days(1);
    let like = found(&Founding { common_name: "like", serial, now, lifetime, permitted })?;
    let pem = crate::pem(&like.certificate, "CERTIFICATE")?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents)
        .map_err(|error| PkiError::Unreadable { what: "certificate", reason: error.to_string() })?;
    let is_it = |oid: &x509_parser::der_parser::oid::Oid<'_>| *oid == OID_X509_EXT_NAME_CONSTRAINTS;
    Ok(certificate.extensions().iter().find(|one| is_it(&one.oid)).map(|one| {
        let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], one.value.to_vec());
        extension.set_criticality(true);
        extension
    }))
}

/// Reads a private key in PEM (PKCS #8, not encrypted).
///
/// # Errors
/// When it is none of ECDSA P-256.
pub fn key(pem: &str) -> Result<Zeroizing<Vec<u8>>, ImportError> {
    let mut key = KeyPair::from_pem(pem).map_err(|_| ImportError::Key)?;
    let is_ours = key.algorithm() == &PKCS_ECDSA_P256_SHA256;
    let clear = Zeroizing::new(key.serialize_der());
    key.zeroize();
    if is_ours { Ok(clear) } else { Err(ImportError::Key) }
}

/// What was signed for an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Its certificate, in PEM.
    pub certificate: String,
    /// What follows whatever it signs, in PEM: itself, and those above it but for a root, which others have. Nothing if it signed
    /// itself.
    pub above: String,
    /// Its end.
    pub not_after: OffsetDateTime,
}

/// Takes a chain: the certificate for a key (PKCS #8), then those above it, each signed by the next.
///
/// # Errors
/// Everything by which it is not what an authority of ours has to be.
pub fn import(chain: &str, key: &[u8], permitted: &Permitted, now: OffsetDateTime) -> Result<Imported, ImportError> {
    let unreadable = |reason: String| ImportError::Unreadable { reason };
    if chain.len() > LARGEST {
        return Err(unreadable(format!("it has more than {LARGEST} bytes")));
    }
    let blocks: Vec<Pem> = Pem::iter_from_buffer(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(error.to_string()))?;
    let mut all = Vec::new();
    for block in &blocks {
        match X509Certificate::from_der(&block.contents) {
            Ok((rest, one)) if rest.is_empty() && block.label == "CERTIFICATE" => all.push(one),
            _ => return Err(unreadable("there is something else than certificates in it".to_owned())),
        }
    }
    let Some(own) = all.first() else { return Err(unreadable("there is no certificate in it".to_owned())) };
    let mut pair =
        KeyPair::from_pkcs8_der_and_sign_algo(&key.into(), &PKCS_ECDSA_P256_SHA256).map_err(|_| ImportError::Key)?;
    let same = own.public_key().raw == pair.subject_public_key_info().as_slice();
    pair.zeroize();
    if !same {
        return Err(ImportError::OtherKey);
    }
    may_sign(own)?;
    confined(own, permitted)?;
    for one in &all {
        let (begin, end) = (one.validity().not_before.to_datetime(), one.validity().not_after.to_datetime());
        if !(begin..end).contains(&now) {
            return Err(ImportError::NotInForce { subject: one.subject().to_string(), begin, end });
        }
    }
    let signed = |one: &X509Certificate<'_>, by: &X509Certificate<'_>| {
        one.issuer() == by.subject() && one.verify_signature(Some(by.public_key())).is_ok()
    };
    if let Some(pair) = all.windows(2).find(|pair| !signed(&pair[0], &pair[1])) {
        let (subject, next) = (pair[0].subject().to_string(), pair[1].subject().to_string());
        return Err(ImportError::Broken { subject, next });
    }
    let pem = |block: &Pem| pem::encode_config(&pem::Pem::new("CERTIFICATE", block.contents.clone()), crate::LINES);
    let above = blocks.iter().zip(&all).filter(|(_, one)| !signed(one, one)).map(|(block, _)| pem(block));
    let not_after = own.validity().not_after.to_datetime();
    Ok(Imported { certificate: pem(&blocks[0]), above: above.collect(), not_after })
}

fn may_sign(own: &X509Certificate<'_>) -> Result<(), ImportError> {
    let is_authority = own.basic_constraints().ok().flatten().is_some_and(|limits| limits.value.ca);
    let signs =
        own.key_usage().ok().flatten().is_some_and(|usage| usage.value.key_cert_sign() && usage.value.crl_sign());
    if is_authority && signs { Ok(()) } else { Err(ImportError::NoAuthority) }
}

/// It must say that it is confined, and to exactly what it is to be confined to: else what is signed by it would be refused, or it
/// could sign for more than it may.
fn confined(own: &X509Certificate<'_>, permitted: &Permitted) -> Result<(), ImportError> {
    let wanted: BTreeSet<String> = permitted.dns.iter().chain(&permitted.subnets).cloned().collect();
    let mut found = BTreeSet::new();
    for extension in own.extensions() {
        if let ParsedExtension::NameConstraints(NameConstraints { permitted_subtrees, excluded_subtrees }) =
            extension.parsed_extension()
        {
            found.extend(permitted_subtrees.iter().flatten().map(subtree));
            found.extend(excluded_subtrees.iter().flatten().map(|one| format!("not {}", subtree(one))));
        }
    }
    if found == wanted {
        return Ok(());
    }
    let list = |all: &BTreeSet<String>| match all.len() {
        0 => "nothing".to_owned(),
        _ => all.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    };
    Err(ImportError::Constraints { found: list(&found), wanted: list(&wanted) })
}

fn subtree(tree: &GeneralSubtree<'_>) -> String {
    match &tree.base {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) if bytes.len() == 8 || bytes.len() == 32 => {
            let (network, mask) = bytes.split_at(bytes.len() / 2);
            let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
            let v4 = <[u8; 4]>::try_from(network).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(network).map(IpAddr::from));
            address.map_or_else(|_| "an address".to_owned(), |address| format!("{address}/{ones}"))
        }
        other => other.to_string(),
    }
}
