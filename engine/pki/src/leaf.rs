//! What an authority signs for a node.

use engine_core::request::CertificateUsage;
use rcgen::{
    CertificateParams, CrlDistributionPoint, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType,
};
use time::{Duration, OffsetDateTime};

use crate::authority::whole;
use crate::error::doing;
use crate::request::Request;
use crate::{Name, PkiError, SKEW, Serial, Signer};

/// How something is signed.
#[derive(Clone, Copy)]
pub struct Issuing<'a> {
    /// Of the new certificate.
    pub serial: Serial,
    /// The time.
    pub now: OffsetDateTime,
    /// From now to its end; less if the authority ends before.
    pub lifetime: Duration,
    /// What it is for.
    pub usages: &'a [CertificateUsage],
    /// Where the list can be had that has it when it is revoked.
    pub list: &'a str,
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
/// When the authority is at its end.
pub fn issue(request: &Request, signer: &Signer, how: &Issuing<'_>) -> Result<Issued, PkiError> {
    let not_after = whole(how.now + how.lifetime).min(signer.not_after);
    if not_after <= how.now {
        return Err(PkiError::AuthorityEnds { not_after: signer.not_after.to_string() });
    }
    let mut params = CertificateParams::default();
    params.serial_number = Some(how.serial.number());
    params.not_before = whole(how.now - SKEW);
    params.not_after = not_after;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, request.common_name.as_str());
    params.subject_alt_names = request.names.iter().map(san).collect::<Result<_, _>>()?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = how
        .usages
        .iter()
        .map(|usage| match usage {
            CertificateUsage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            CertificateUsage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        })
        .collect();
    params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![how.list.to_owned()] }];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&request.key, &signer.issuer).map_err(doing("signing a certificate"))?;
    let renew_at = whole(how.now + (not_after - how.now) * 2 / 3);
    Ok(Issued { certificate: certificate.pem(), not_before: params.not_before, not_after, renew_at })
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
