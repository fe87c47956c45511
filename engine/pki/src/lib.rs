//! Certificates: authorities, requests of nodes, and what is signed.
//!
//! Everything here is a function of its arguments, but for new keys and signatures, whose randomness is that of ring.
//! The time and serial numbers are arguments. Nothing of a request gets into a certificate but its key and the names that
//! were expected; whoever asks for more is refused. Deliberately absent: files, the database, and keys of nodes, which
//! never leave their machines.

pub mod authority;
pub mod leaf;
pub mod outside;
pub mod request;
pub mod revocation;

mod error;
mod name;
mod signer;

pub use error::{ImportError, PkiError, RequestError};
pub use name::{BadName, Name};
pub use signer::Signer;

use ::pem::{EncodeConfig, LineEnding};
use sha2::{Digest as _, Sha256};
use x509_parser::pem::{Pem, parse_x509_pem};

/// How PEM is written.
const LINES: EncodeConfig = EncodeConfig::new().set_line_ending(LineEnding::LF);

/// Clocks may differ by so much: a certificate holds from so long before it was signed.
const SKEW: time::Duration = time::Duration::minutes(5);

/// A serial number: 16 random bytes of the caller, made positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial([u8; 16]);

impl Serial {
    /// Of random bytes. 126 bits of them are kept.
    pub fn of(mut random: [u8; 16]) -> Self {
        random[0] = random[0] & 0x7f | 0x40;
        Self(random)
    }

    /// As `openssl x509 -serial` shows it, in lower case.
    pub fn hex(self) -> String {
        hex::encode(self.0)
    }

    fn number(self) -> rcgen::SerialNumber {
        rcgen::SerialNumber::from_slice(&self.0)
    }
}

/// SHA-256 of a certificate's DER, as hexadecimal digits.
///
/// # Errors
/// When the text is no certificate in PEM.
pub fn fingerprint(certificate: &str) -> Result<String, PkiError> {
    Ok(hex::encode(Sha256::digest(pem(certificate, "CERTIFICATE")?.contents)))
}

/// The only block of a text, of this kind.
fn pem(text: &str, label: &str) -> Result<Pem, PkiError> {
    let unreadable = |reason: String| PkiError::Unreadable { what: "certificate", reason };
    let (rest, pem) = parse_x509_pem(text.as_bytes()).map_err(|error| unreadable(error.to_string()))?;
    if pem.label != label {
        return Err(unreadable(format!("it is a {}", pem.label)));
    }
    if !rest.trim_ascii().is_empty() {
        return Err(unreadable("there is more behind it".to_owned()));
    }
    Ok(pem)
}
