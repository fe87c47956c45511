//! Authorities: a key that signs, and the certificate that it signed for itself.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, GeneralSubtree, IsCa, KeyPair,
    KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::doing;
use crate::{Name, PkiError, SKEW, Serial};

/// What an authority may sign for. Of a kind of names without an entry, all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permitted {
    /// DNS zones: the zone itself, and all names below it.
    pub dns: Vec<String>,
    /// Subnets, such as `10.0.0.0/8`.
    pub subnets: Vec<String>,
}

impl Permitted {
    /// May it sign for this name? What can not be read permits nothing.
    pub fn allows(&self, name: &Name) -> bool {
        match name {
            Name::Dns(name) => {
                let within = |zone: &String| {
                    name.strip_suffix(zone.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                };
                self.dns.is_empty() || self.dns.iter().any(within)
            }
            Name::Ip(address) => {
                let within = |subnet: &String| {
                    subnet_of(subnet).is_some_and(|(network, bits)| same_network(*address, network, bits))
                };
                self.subnets.is_empty() || self.subnets.iter().any(within)
            }
        }
    }
}

/// An address and how many of its first bits count.
fn subnet_of(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?);
    let most = if address.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some((address, bits))
}

fn same_network(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let above = |all: u32| all - u32::from(bits);
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (one.to_bits() ^ other.to_bits()).checked_shr(above(32)).unwrap_or_default() == 0
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            (one.to_bits() ^ other.to_bits()).checked_shr(above(128)).unwrap_or_default() == 0
        }
        _ => false,
    }
}

/// A new authority.
#[derive(Clone, Copy, Debug)]
pub struct Founding<'a> {
    /// What it is called.
    pub common_name: &'a str,
    /// Of its certificate.
    pub serial: Serial,
    /// The time.
    pub now: OffsetDateTime,
    /// From now to its end.
    pub lifetime: Duration,
    /// What it may sign for.
    pub permitted: &'a Permitted,
}

/// A key that signs, with its certificate. Whoever keeps it seals the key.
pub struct Founded {
    /// In PEM.
    pub certificate: String,
    /// PKCS #8; overwritten when it is dropped.
    pub key: Zeroizing<Vec<u8>>,
    /// Its end.
    pub not_after: OffsetDateTime,
}

/// Makes an authority: a new key of ECDSA P-256, signed by itself. It may sign for nobody who signs in turn.
///
/// # Errors
/// When what it is to be confined to can not be read.
pub fn found(founding: &Founding<'_>) -> Result<Founded, PkiError> {
    let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(doing("making the key of an authority"))?;
    let not_after = whole(founding.now + founding.lifetime);
    let mut params = CertificateParams::default();
    params.serial_number = Some(founding.serial.number());
    params.not_before = whole(founding.now - SKEW);
    params.not_after = not_after;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, founding.common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = constraints(founding.permitted)?;
    let certificate = params.self_signed(&key).map_err(doing("signing the certificate of an authority"));
    let clear = Zeroizing::new(key.serialize_der());
    key.zeroize();
    Ok(Founded { certificate: certificate?.pem(), key: clear, not_after })
}

fn constraints(permitted: &Permitted) -> Result<Option<NameConstraints>, PkiError> {
    let bad = |text: &String| PkiError::Constraint(text.clone());
    let mut permitted_subtrees = Vec::new();
    for zone in &permitted.dns {
        match zone.parse() {
            Ok(Name::Dns(zone)) => permitted_subtrees.push(GeneralSubtree::DnsName(zone)),
            _ => return Err(bad(zone)),
        }
    }
    for subnet in &permitted.subnets {
        let (address, bits) = subnet_of(subnet).ok_or_else(|| bad(subnet))?;
        permitted_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits)));
    }
    let some = !permitted_subtrees.is_empty();
    Ok(some.then_some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() }))
}

/// Certificates tell time in seconds.
pub(crate) fn whole(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).unwrap_or(time)
}
