//! What a node asks to be signed: its key and its names, and nothing else.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData as _, SubjectPublicKeyInfo};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_X509_COMMON_NAME;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer as _;

use crate::{Name, RequestError};

/// No request of ours has so many bytes.
pub const LARGEST: usize = 16 << 10;
/// Bytes of what it says that are shown.
const LONGEST_SHOWN: usize = 200;

/// A request that was found to be in order.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) key: SubjectPublicKeyInfo,
    pub(crate) common_name: String,
    pub(crate) names: BTreeSet<Name>,
}

/// What a request must be for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The node, and its only subject.
    pub node: &'a str,
    /// Its names: all of them, and no others.
    pub names: &'a BTreeSet<Name>,
}

/// Reads a request in PEM and holds it against what it must be for.
///
/// # Errors
/// Everything that is not signed, each with its code.
pub fn read(text: &str, wanted: &Wanted<'_>) -> Result<Request, RequestError> {
    if text.len() > LARGEST {
        return Err(RequestError::TooLarge { bytes: text.len(), limit: LARGEST });
    }
    let unreadable = |reason: &dyn std::fmt::Display| RequestError::Unreadable { reason: shown(&reason.to_string()) };
    let (behind, pem) = parse_x509_pem(text.as_bytes()).map_err(|error| unreadable(&error))?;
    if !matches!(pem.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
        return Err(unreadable(&format!("it is a {}", pem.label)));
    }
    let (rest, csr) = X509CertificationRequest::from_der(&pem.contents).map_err(|error| unreadable(&error))?;
    if !rest.is_empty() || !behind.trim_ascii().is_empty() {
        return Err(unreadable(&"there is more behind it"));
    }
    let key = SubjectPublicKeyInfo::from_der(csr.certification_request_info.subject_pki.raw);
    let key = key.map_err(|_| RequestError::KeyType)?;
    if ![&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519].contains(&key.algorithm()) {
        return Err(RequestError::KeyType);
    }
    csr.verify_signature().map_err(|_| RequestError::Signature)?;
    subject(&csr, wanted)?;
    let names = asked(&csr, wanted.node)?;
    if let Some(name) = wanted.names.difference(&names).next() {
        return Err(RequestError::NameMissing { name: name.to_string() });
    }
    if let Some(name) = names.difference(wanted.names).next() {
        return Err(foreign(&name.to_string(), wanted.node));
    }
    Ok(Request { key, common_name: wanted.node.to_owned(), names })
}

/// What somebody else wrote, for people: short, and without what a terminal would obey.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars() {
        if shown.len() > LONGEST_SHOWN {
            shown.push('…');
            break;
        }
        match letter {
            '"' | '\'' | '\\' => shown.push(letter),
            letter => shown.extend(letter.escape_debug()),
        }
    }
    shown
}

fn foreign(name: &str, node: &str) -> RequestError {
    let (name, node) = (shown(name), node.to_owned());
    if name.contains('*') { RequestError::NameWildcard { name } } else { RequestError::NameForeign { name, node } }
}

/// The subject is the node's name, and nothing but that.
fn subject(csr: &X509CertificationRequest<'_>, wanted: &Wanted<'_>) -> Result<(), RequestError> {
    let subject = &csr.certification_request_info.subject;
    let mut parts = subject.iter_attributes();
    match (parts.next(), parts.next()) {
        (Some(only), None) if *only.attr_type() == OID_X509_COMMON_NAME => {
            let name = only.as_str().map_err(|error| RequestError::Unreadable { reason: shown(&error.to_string()) })?;
            if name == wanted.node { Ok(()) } else { Err(foreign(name, wanted.node)) }
        }
        _ => Err(foreign(&subject.to_string(), wanted.node)),
    }
}

/// The names that it is for. Whatever else it asks for is refused.
fn asked(csr: &X509CertificationRequest<'_>, node: &str) -> Result<BTreeSet<Name>, RequestError> {
    let mut names = BTreeSet::new();
    let other = |what: String| RequestError::Extension { what: shown(&what) };
    for attribute in csr.certification_request_info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else {
            return Err(other(format!("the attribute {}", attribute.oid)));
        };
        for extension in &asked.extensions {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(found) => {
                    for name in &found.general_names {
                        names.insert(self::name(name, node)?);
                    }
                }
                ParsedExtension::BasicConstraints(found) if found.ca => return Err(RequestError::Authority),
                ParsedExtension::KeyUsage(found) if found.key_cert_sign() => return Err(RequestError::Authority),
                ParsedExtension::BasicConstraints(_) => {}
                _ => return Err(other(format!("the extension {}", extension.oid))),
            }
        }
    }
    Ok(names)
}

fn name(name: &GeneralName<'_>, node: &str) -> Result<Name, RequestError> {
    match name {
        GeneralName::DNSName(name) => match name.parse() {
            Ok(Name::Dns(name)) => Ok(Name::Dns(name)),
            _ => Err(foreign(name, node)),
        },
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.map(Name::Ip).map_err(|_| foreign("an address of a strange length", node))
        }
        other => Err(foreign(&other.to_string(), node)),
    }
}
