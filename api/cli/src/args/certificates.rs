//! Arguments of `plinth ca` and `plinth cert`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use engine_core::request::{CertificateUsage, RevocationReason, RotationMove};
use engine_core::serial::SerialNumber;

/// What can be done with authorities.
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// List the authorities of a deployment, and how far they are in going over to another key.
    List {
        /// The deployment.
        name: String,
    },
    /// Show an authority of a deployment, with its certificates and where its lists of what was revoked are.
    #[command(after_help = "Example:\n  plinth ca show blue etcd-ca")]
    Show {
        /// The deployment.
        name: String,
        /// The deployment role of the authority.
        role: String,
    },
    /// Revoke the key of an authority: it goes over to another one with no way back, and all that it signed is signed anew and
    /// refused in the end.
    ///
    /// It takes the stages of a rotation, for whoever trusts the other key only can not talk to those who have not heard of it.
    #[command(after_help = "Example:\n  plinth ca revoke blue etcd-ca --reason key-compromise")]
    Revoke {
        /// The deployment.
        name: String,
        /// The deployment role of the authority.
        role: String,
        /// Why: unspecified, key-compromise, affiliation-changed, superseded, cessation-of-operation or privilege-withdrawn.
        #[arg(long, default_value = "unspecified", value_parser = reason)]
        reason: RevocationReason,
    },
    /// Show what somebody else is to sign for an authority of `signed_by: others`: the request that waits, or one for another key.
    #[command(after_help = "Example:\n  plinth ca request blue etcd-ca >etcd-ca.csr")]
    Request {
        /// The deployment.
        name: String,
        /// The deployment role of the authority.
        role: String,
    },
    /// Bring an authority what somebody else signed for it. One that signs already goes over to it, stage by stage.
    #[command(after_help = "Examples:\n  plinth ca import blue etcd-ca --chain chain.pem\n  \
        plinth ca import blue etcd-ca --chain chain.pem --key key.pem   a key that was made elsewhere")]
    Import {
        /// The deployment.
        name: String,
        /// The deployment role of the authority.
        role: String,
        /// Certificates in PEM: its own, then those above it.
        #[arg(long)]
        chain: PathBuf,
        /// Its private key in PEM (PKCS #8, not encrypted; ECDSA P-256), if it was not made here.
        #[arg(long)]
        key: Option<PathBuf>,
    },
    /// Go over to another key: it is trusted beside the old one, then it signs, then the old one is retired.
    ///
    /// Each stage begins when every node role below has absorbed the one before, and their checks have passed since; `plinth
    /// status` names those that are waited for. Until the old one is retired it can be held up, or taken back.
    #[command(after_help = "Examples:\n  plinth ca rotate blue etcd-ca\n  plinth ca rotate blue etcd-ca --pause\n  \
        plinth ca rotate blue etcd-ca --back   the old key signs again, and the new one is retired")]
    Rotate {
        /// The deployment.
        name: String,
        /// The deployment role of the authority.
        role: String,
        #[command(flatten)]
        ask: RotationAsk,
    },
}

/// What is asked of a rotation that has begun; without any of them one begins.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct RotationAsk {
    /// Stay in the stage that it is in.
    #[arg(long)]
    pause: bool,
    /// Go on.
    #[arg(long)]
    resume: bool,
    /// Go back to the key before, by the same rules.
    #[arg(long)]
    back: bool,
}

impl RotationAsk {
    /// Which of them, if any.
    pub(crate) fn what(&self) -> Option<RotationMove> {
        match self {
            Self { pause: true, .. } => Some(RotationMove::Pause),
            Self { resume: true, .. } => Some(RotationMove::Resume),
            Self { back: true, .. } => Some(RotationMove::Back),
            _ => None,
        }
    }
}

/// What can be done with certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// List the certificates of a deployment that have not ended.
    List {
        /// The deployment.
        name: String,
    },
    /// Show a certificate, also one that has ended.
    Show {
        /// Its serial number, as `plinth cert list` or openssl shows it.
        serial: SerialNumber,
    },
    /// Have a request signed for somebody who is no node, and print the certificate. It is not renewed by itself.
    #[command(
        after_help = "Example:\n  plinth cert sign blue etcd-ca --request ann.csr --subject ann --names ann.blue.plinth.internal >ann.pem"
    )]
    Sign {
        /// The deployment.
        name: String,
        /// The deployment role of the authority.
        role: String,
        /// A request in PEM (PKCS #10), for this subject and exactly these names.
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        /// Who it is for: the common name of the request, and nothing else.
        #[arg(long)]
        subject: String,
        /// DNS names and addresses, with commas between them.
        #[arg(long, value_delimiter = ',', required = true)]
        names: Vec<String>,
        /// What it is for, with commas between: server, client.
        #[arg(long, value_delimiter = ',', default_value = "client", value_parser = usage)]
        usages: Vec<CertificateUsage>,
        /// How long it holds, such as 30d or 12h.
        #[arg(long, default_value = "30d")]
        lifetime: String,
    },
    /// Have another certificate signed now for the node role that holds this one. The one before stays good until its end.
    Renew {
        /// Its serial number, as `plinth cert list` or openssl shows it.
        serial: SerialNumber,
    },
    /// Revoke a certificate. Its authority lists it at once, and services that read the list refuse it from their next handshake on.
    #[command(after_help = "Example:\n  plinth cert revoke 5c0fd1… --reason key-compromise")]
    Revoke {
        /// Its serial number, as `plinth cert list` or openssl shows it.
        serial: SerialNumber,
        /// Why: unspecified, key-compromise, affiliation-changed, superseded, cessation-of-operation or privilege-withdrawn.
        #[arg(long, default_value = "unspecified", value_parser = reason)]
        reason: RevocationReason,
    },
}

fn usage(text: &str) -> Result<CertificateUsage, String> {
    let found = [CertificateUsage::Server, CertificateUsage::Client].into_iter().find(|one| one.as_str() == text);
    found.ok_or_else(|| "expected server or client".to_owned())
}

fn reason(text: &str) -> Result<RevocationReason, String> {
    let known = || RevocationReason::ALL.map(RevocationReason::as_str).join(", ");
    RevocationReason::parse(text).ok_or_else(|| format!("expected one of {}", known()))
}
