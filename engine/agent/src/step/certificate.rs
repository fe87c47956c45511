//! `certificate`: a certificate, its key and what it is trusted by are files that fit each other.
//!
//! It changes nothing. What it tells has the fingerprint of the certificate and its end, so that whoever reads that hears
//! of a new one.

use std::fs;
use std::path::Path;

use rcgen::{KeyPair, PublicKeyData as _};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

use crate::args::AbsPath;
use crate::context::{Context, Report};
use crate::error::{Result, StepError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    /// The certificate, and those between it and one of `ca`.
    cert: AbsPath,
    /// Its key.
    key: AbsPath,
    /// Those that are trusted.
    ca: AbsPath,
    /// Of what is trusted; told as it is.
    #[serde(default)]
    generation: i64,
}

pub(super) fn apply(args: &Certificate, cx: &mut Context<'_>) -> Result<Report> {
    let mut report = Report::unchanged();
    match fit(args, OffsetDateTime::now_utc()) {
        Ok((fingerprint, not_after)) => {
            report.value = json!({
                "key": args.key.0, "cert": args.cert.0, "ca": args.ca.0, "fingerprint": format!("sha256:{fingerprint}"),
                "not_after": not_after, "trust_generation": args.generation,
            });
            Ok(report)
        }
        Err(reason) if cx.check => {
            report.diff(args.cert.to_string_lossy(), reason);
            Ok(report)
        }
        // The steps before would write them.
        Err(_) if cx.dry => Ok(Report::undecided()),
        Err(reason) => Err(StepError::CertificateInvalid { path: args.cert.0.clone(), reason }),
    }
}

/// Fingerprint and end of the certificate, or what does not fit.
fn fit(args: &Certificate, now: OffsetDateTime) -> std::result::Result<(String, String), String> {
    let (chain, trusted) = (blocks(&args.cert)?, blocks(&args.ca)?);
    let (chain, trusted) = (certificates(&chain, &args.cert)?, certificates(&trusted, &args.ca)?);
    let own = chain.first().ok_or_else(|| format!("there is no certificate in {}", args.cert.display()))?;
    let clear = Zeroizing::new(read(&args.key)?);
    let key = KeyPair::from_pem(&clear).map_err(|_| format!("{} is no private key", args.key.display()))?;
    if own.public_key().raw != key.subject_public_key_info().as_slice() {
        return Err(format!("it is not for the key in {}", args.key.display()));
    }
    let holds = |one: &X509Certificate<'_>| {
        let validity = one.validity();
        (validity.not_before.to_datetime()..=validity.not_after.to_datetime()).contains(&now)
    };
    if let Some(over) = chain.iter().find(|one| !holds(one)) {
        return Err(format!(
            "{} holds from {} to {}",
            over.subject(),
            over.validity().not_before,
            over.validity().not_after
        ));
    }
    let signed = |one: &X509Certificate<'_>, by: &X509Certificate<'_>| {
        one.issuer() == by.subject() && one.verify_signature(Some(by.public_key())).is_ok()
    };
    for pair in chain.windows(2) {
        if !signed(&pair[0], &pair[1]) {
            return Err(format!("{} is not signed by {}, which follows it", pair[0].subject(), pair[1].subject()));
        }
    }
    if !chain.last().is_some_and(|last| trusted.iter().any(|by| holds(by) && signed(last, by))) {
        return Err(format!("nobody in {} has signed it", args.ca.display()));
    }
    let fingerprint = hex::encode(Sha256::digest(own.as_raw()));
    let not_after = own.validity().not_after.to_datetime().format(&Rfc3339).map_err(|error| error.to_string())?;
    Ok((fingerprint, not_after))
}

fn read(path: &Path) -> std::result::Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{} can not be read: {error}", path.display()))
}

fn blocks(path: &Path) -> std::result::Result<Vec<Pem>, String> {
    let text = read(path)?;
    let blocks = Pem::iter_from_buffer(text.as_bytes()).collect::<std::result::Result<_, _>>();
    blocks.map_err(|error| format!("{} is no PEM: {error}", path.display()))
}

fn certificates<'p>(blocks: &'p [Pem], path: &Path) -> std::result::Result<Vec<X509Certificate<'p>>, String> {
    let wrong = || format!("{} has something else than certificates in it", path.display());
    blocks
        .iter()
        .map(|pem| match X509Certificate::from_der(&pem.contents) {
            Ok((rest, one)) if rest.is_empty() && pem.label == "CERTIFICATE" => Ok(one),
            _ => Err(wrong()),
        })
        .collect()
}
