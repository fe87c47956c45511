//! Lists of what an authority does not stand by any more.

use engine_core::request::RevocationReason;
use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, PKCS_ECDSA_P256_SHA256, RevocationReason as Code,
    RevokedCertParams, SerialNumber,
};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroize as _;

use crate::authority::whole;
use crate::error::doing;
use crate::{PkiError, SKEW};

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

/// Who signs a list, and how.
#[derive(Clone, Copy)]
pub struct Listing<'a> {
    /// The certificate of the authority, in PEM.
    pub certificate: &'a str,
    /// Its key, PKCS #8.
    pub key: &'a [u8],
    /// The time. The number of the list follows from it, so that a later list has a higher one.
    pub now: OffsetDateTime,
    /// Until another one must be there.
    pub lifetime: Duration,
}

/// A list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// In PEM.
    pub list: String,
    /// When another one should be made: after two thirds of its life.
    pub renew_at: OffsetDateTime,
}

/// Signs a list of what was revoked.
///
/// # Errors
/// When the authority can not be read.
pub fn list(revoked: &[Revoked], by: &Listing<'_>) -> Result<Listed, PkiError> {
    let signer = crate::pem(by.certificate, "CERTIFICATE")?;
    let number = u64::try_from(by.now.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    let params = CertificateRevocationListParams {
        this_update: whole(by.now - SKEW),
        next_update: whole(by.now + by.lifetime),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect::<Result<_, _>>()?,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let mut key = KeyPair::from_pkcs8_der_and_sign_algo(&by.key.into(), &PKCS_ECDSA_P256_SHA256)
        .map_err(doing("reading the key of an authority"))?;
    let signed = Issuer::from_ca_cert_der(&signer.contents.as_slice().into(), &key)
        .and_then(|issuer| params.signed_by(&issuer))
        .and_then(|list| list.pem());
    key.zeroize();
    let list = signed.map_err(doing("signing a list of what was revoked"))?;
    Ok(Listed { list, renew_at: whole(by.now + by.lifetime * 2 / 3) })
}

fn entry(revoked: &Revoked) -> Result<RevokedCertParams, PkiError> {
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
        reason_code: Some(reason),
        invalidity_date: None,
    })
}
