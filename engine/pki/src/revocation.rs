//! Lists of what an authority does not stand by any more.

use engine_core::request::RevocationReason;
use pem::Pem;
use rcgen::{
    CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, RevocationReason as Code,
    RevokedCertParams, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::authority::whole;
use crate::error::doing;
use crate::{PkiError, SKEW, Signer};

/// A certificate that was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// Since when.
    pub at: OffsetDateTime,
    /// Why.
    pub reason: RevocationReason,
}

/// How a list is signed.
#[derive(Clone, Copy)]
pub struct Listing<'a> {
    /// The time. The number of the list follows from it, so that a later list has a higher one.
    pub now: OffsetDateTime,
    /// Until another one must be there.
    pub lifetime: Duration,
    /// Where the list can be had, if it is for those certificates alone that name this place. Else it is for all, and for machines: it says of none
    /// why, which is a quarter of its length.
    pub part: Option<&'a str>,
}

/// A list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// In DER.
    pub der: Vec<u8>,
    /// When another one should be made: after two thirds of its life.
    pub renew_at: OffsetDateTime,
}

/// Signs a list of what was revoked.
///
/// # Errors
/// When a serial number can not be read.
pub fn list(revoked: &[Revoked], signer: &Signer, how: &Listing<'_>) -> Result<Listed, PkiError> {
    let number = u64::try_from(how.now.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    let part = |place: &str| CrlIssuingDistributionPoint {
        distribution_point: CrlDistributionPoint { uris: vec![place.to_owned()] },
        scope: None,
    };
    let params = CertificateRevocationListParams {
        this_update: whole(how.now - SKEW),
        next_update: whole(how.now + how.lifetime),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: how.part.map(part),
        revoked_certs: revoked.iter().map(|one| entry(one, how.part.is_some())).collect::<Result<_, _>>()?,
        key_identifier_method: signer.identifier.clone(),
    };
    let failed = doing("signing a list of what was revoked");
    let list = params.signed_by(&signer.issuer).map_err(&failed)?;
    Ok(Listed { der: list.der().to_vec(), renew_at: whole(how.now + how.lifetime * 2 / 3) })
}

/// A list in PEM.
pub fn in_pem(der: &[u8]) -> String {
    pem::encode_config(&Pem::new("X509 CRL", der), crate::LINES)
}

fn entry(revoked: &Revoked, says_why: bool) -> Result<RevokedCertParams, PkiError> {
    let serial = hex::decode(&revoked.serial);
    let serial = serial.map_err(|error| PkiError::Unreadable { what: "serial number", reason: error.to_string() })?;
    let reason = match revoked.reason {
        RevocationReason::Unspecified => Code::Unspecified,
        RevocationReason::KeyCompromise => Code::KeyCompromise,
        RevocationReason::AffiliationChanged => Code::AffiliationChanged,
        RevocationReason::Superseded => Code::Superseded,
        RevocationReason::CessationOfOperation => Code::CessationOfOperation,
        RevocationReason::PrivilegeWithdrawn => Code::PrivilegeWithdrawn,
    };
    Ok(RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: whole(revoked.at),
        reason_code: says_why.then_some(reason),
        invalidity_date: None,
    })
}
