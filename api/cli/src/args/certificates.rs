//! Arguments of `plinth ca` and `plinth cert`.

use clap::Subcommand;
use engine_core::request::RevocationReason;

/// What can be done with authorities.
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// List the authorities of a deployment, and how far they are in going over to another key.
    List {
        /// The deployment.
        name: String,
    },
    /// Go over to another key: it is trusted beside the old one, then it signs, then the old one is retired.
    ///
    /// Each stage begins when every node role below has absorbed the one before; `plinth ca list` names those that have not.
    #[command(after_help = "Example:\n  plinth ca rotate blue etcd-ca")]
    Rotate {
        /// The deployment.
        name: String,
        /// The deployment role of the authority.
        role: String,
    },
}

/// What can be done with certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// List the certificates of a deployment that have not ended.
    List {
        /// The deployment.
        name: String,
    },
    /// Revoke a certificate. Its authority lists it at once, and services that read the list refuse it from their next handshake on.
    #[command(after_help = "Example:\n  plinth cert revoke 5c0fd1… --reason key-compromise")]
    Revoke {
        /// Its serial number, as `plinth cert list` shows it.
        serial: String,
        /// Why: unspecified, key-compromise, affiliation-changed, superseded, cessation-of-operation or privilege-withdrawn.
        #[arg(long, default_value = "unspecified", value_parser = reason)]
        reason: RevocationReason,
    },
}

fn reason(text: &str) -> Result<RevocationReason, String> {
    let known = || RevocationReason::ALL.map(RevocationReason::as_str).join(", ");
    RevocationReason::parse(text).ok_or_else(|| format!("expected one of {}", known()))
}
