//! What an authority signs for a node.

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroize as _;

use crate::authority::whole;
use crate::error::doing;
use crate::request::Request;
use crate::{Name, PkiError, SKEW, Serial};

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Usage {
    /// Its holder is connected to.
    Server,
    /// Its holder connects.
    Client,
}

/// Who signs, and how.
#[derive(Clone, Copy)]
pub struct Issuing<'a> {
    /// The certificate of the authority, in PEM.
    pub certificate: &'a str,
    /// Its key, PKCS #8.
    pub key: &'a [u8],
    /// Of the new certificate.
    pub serial: Serial,
    /// The time.
    pub now: OffsetDateTime,
    /// From now to its end; less if the authority ends before.
    pub lifetime: Duration,
    /// What it is for.
    pub usages: &'a [Usage],
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// In PEM.
    pub certificate: String,
    /// Holds from then; a little before it was signed, for clocks differ.
    pub not_before: OffsetDateTime,
    /// Its end.
    pub not_after: OffsetDateTime,
    /// When another one should be asked for: after two thirds of its life.
    pub renew_at: OffsetDateTime,
}

/// Signs a request that was found to be in order. From the request come its key and the names that were expected.
///
/// # Errors
/// When the authority can not be read, or is at its end.
pub fn issue(request: &Request, by: &Issuing<'_>) -> Result<Issued, PkiError> {
    let signer = crate::pem(by.certificate, "CERTIFICATE")?;
    let ends = not_after(&signer.contents)?;
    let not_after = whole(by.now + by.lifetime).min(ends);
    if not_after <= by.now {
        return Err(PkiError::AuthorityEnds { not_after: ends.to_string() });
    }
    let mut params = CertificateParams::default();
    params.serial_number = Some(by.serial.number());
    params.not_before = whole(by.now - SKEW);
    params.not_after = not_after;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, request.common_name.as_str());
    params.subject_alt_names = request.names.iter().map(san).collect::<Result<_, _>>()?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = by
        .usages
        .iter()
        .map(|usage| match usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        })
        .collect();
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&by.key.into(), &PKCS_ECDSA_P256_SHA256)
        .map_err(doing("reading the key of an authority"))?;
    let issuer = Keeper(key);
    let signer = Issuer::from_ca_cert_der(&signer.contents.as_slice().into(), &issuer.0)
        .map_err(doing("reading the certificate of an authority"))?;
    let certificate = params.signed_by(&request.key, &signer).map_err(doing("signing a certificate"))?;
    let renew_at = whole(by.now + (not_after - by.now) * 2 / 3);
    Ok(Issued { certificate: certificate.pem(), not_before: params.not_before, not_after, renew_at })
}

/// Overwrites the key when it is dropped, however that comes.
struct Keeper(KeyPair);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

fn not_after(der: &[u8]) -> Result<OffsetDateTime, PkiError> {
    let unreadable = |reason: String| PkiError::Unreadable { what: "certificate", reason };
    let (_, found) = x509_parser::certificate::X509Certificate::from_der(der).map_err(|e| unreadable(e.to_string()))?;
    Ok(found.validity().not_after.to_datetime())
}

fn san(name: &Name) -> Result<SanType, PkiError> {
    Ok(match name {
        Name::Ip(address) => SanType::IpAddress(*address),
        Name::Dns(name) => {
            let text = name.as_str().try_into().map_err(doing("writing a name into a certificate"))?;
            SanType::DnsName(text)
        }
    })
}
