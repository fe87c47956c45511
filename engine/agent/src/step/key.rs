//! `key`: a private key that is made on this machine and never leaves it, and a request for a certificate for it.
//!
//! The request stands beside the key, under its name with `.csr`. Its first line says what it was made for; the key is
//! made anew when its generation is another one, the request when anything else is. Signatures are never the same twice,
//! so a request that still fits is kept. If we die between the two files, the next run makes both again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData as _,
    SignatureAlgorithm,
};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

use super::file::{Access, put, take};
use crate::args::{AbsPath, ModeBits};
use crate::context::{Context, Report};
use crate::error::{Result, StepError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    path: AbsPath,
    #[serde(default)]
    algorithm: Algorithm,
    /// Another one makes another key.
    #[serde(default)]
    generation: i64,
    subject: String,
    names: Vec<String>,
    #[serde(flatten)]
    access: Access,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
enum Algorithm {
    #[default]
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    #[serde(rename = "ed25519")]
    Ed25519,
}

impl Algorithm {
    fn of(self) -> &'static SignatureAlgorithm {
        match self {
            Self::EcdsaP256 => &PKCS_ECDSA_P256_SHA256,
            Self::Ed25519 => &PKCS_ED25519,
        }
    }
}

pub(super) fn apply(args: &Key, cx: &mut Context<'_>) -> Result<Report> {
    let beside = beside(&args.path);
    let head = format!("# {}\n", json!({"generation": args.generation, "subject": args.subject, "names": args.names}));
    let request = text(&beside)?.unwrap_or_default();
    let there = text(&args.path)?.filter(|_| generation(&request) == Some(args.generation));
    let there =
        there.and_then(|text| Some((KeyPair::from_pkcs8_pem_and_sign_algo(&text, args.algorithm.of()).ok()?, text)));
    if there.is_none() && cx.dry {
        let mut report = Report::undecided();
        report.diff(args.path.to_string_lossy(), "a new key");
        return Ok(report);
    }
    let (key, clear) = match there {
        Some(there) => there,
        None => {
            let key = KeyPair::generate_for(args.algorithm.of()).map_err(|error| failed(&error))?;
            let clear = Zeroizing::new(key.serialize_pem());
            (key, clear)
        }
    };
    let kept = request.strip_prefix(&head).filter(|request| is_for(request, &key));
    let request = match kept {
        Some(request) => request.to_owned(),
        None if cx.dry => {
            let mut report = Report::undecided();
            report.diff(beside.to_string_lossy(), "a new request");
            return Ok(report);
        }
        None => ask(args, &key)?,
    };
    // The key first: a request of this generation must mean that its key is there.
    let access = Access { mode: args.access.mode.or(Some(ModeBits(0o600))), ..args.access.clone() };
    let mut report = put(&args.path, clear.as_bytes(), &access, false, cx)?;
    report.add(put(&beside, format!("{head}{request}").as_bytes(), &access, false, cx)?);
    let public = hex::encode(Sha256::digest(key.subject_public_key_info()));
    report.value = json!({"key": {"path": args.path.0, "digest": format!("sha256:{public}")}, "csr": request});
    Ok(report)
}

pub(super) fn undo(args: &Key, cx: &mut Context<'_>) -> Result<Report> {
    let mut report = take(&beside(&args.path), cx)?;
    report.add(take(&args.path, cx)?);
    Ok(report)
}

fn beside(key: &Path) -> PathBuf {
    key.with_extension("csr")
}

fn text(path: &Path) -> Result<Option<Zeroizing<String>>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // Not text, so not a key of ours.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(StepError::io("reading", path)(error)),
    }
}

/// For which generation a request was made.
fn generation(request: &str) -> Option<i64> {
    let head: Value = serde_json::from_str(request.lines().next()?.strip_prefix("# ")?).ok()?;
    head["generation"].as_i64()
}

fn is_for(request: &str, key: &KeyPair) -> bool {
    let Ok((_, pem)) = parse_x509_pem(request.as_bytes()) else { return false };
    X509CertificationRequest::from_der(&pem.contents).is_ok_and(|(_, request)| {
        request.certification_request_info.subject_pki.raw == key.subject_public_key_info().as_slice()
    })
}

fn ask(args: &Key, key: &KeyPair) -> Result<String> {
    let mut params = CertificateParams::new(args.names.clone())
        .map_err(|error| StepError::argument("key", format!("`names`: {error}")))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, args.subject.as_str());
    params.serialize_request(key).and_then(|request| request.pem()).map_err(|error| failed(&error))
}

fn failed(error: &rcgen::Error) -> StepError {
    StepError::KeyFailed(error.to_string())
}
