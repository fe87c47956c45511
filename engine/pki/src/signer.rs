//! An authority that is open: its key is at hand, and overwritten when it is dropped.

use rcgen::{Issuer, KeyIdMethod, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use time::OffsetDateTime;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroize as _;

use crate::PkiError;
use crate::error::doing;

/// An authority that can sign.
pub struct Signer {
    pub(crate) issuer: Issuer<'static, Keeper>,
    /// How its certificate names its key: lists name it alike.
    pub(crate) identifier: KeyIdMethod,
    /// Its end.
    pub not_after: OffsetDateTime,
}

impl Signer {
    /// Opens an authority: its certificate in PEM, and its key as PKCS #8.
    ///
    /// # Errors
    /// When one of them can not be read.
    pub fn open(certificate: &str, key: &[u8]) -> Result<Self, PkiError> {
        let pem = crate::pem(certificate, "CERTIFICATE")?;
        let unreadable = |reason: String| PkiError::Unreadable { what: "certificate", reason };
        let (_, found) = x509_parser::certificate::X509Certificate::from_der(&pem.contents)
            .map_err(|error| unreadable(error.to_string()))?;
        let identifier = found.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(named) => Some(KeyIdMethod::PreSpecified(named.0.to_vec())),
            _ => None,
        });
        let identifier = identifier.unwrap_or(KeyIdMethod::Sha256);
        let not_after = found.validity().not_after.to_datetime();
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key.into(), &PKCS_ECDSA_P256_SHA256)
            .map_err(doing("reading the key of an authority"))?;
        let issuer = Issuer::from_ca_cert_der(&pem.contents.as_slice().into(), Keeper(key))
            .map_err(doing("reading the certificate of an authority"))?;
        Ok(Self { issuer, identifier, not_after })
    }
}

/// Overwrites the key when it is dropped, however that comes.
pub(crate) struct Keeper(KeyPair);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PublicKeyData for Keeper {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&self.0)
    }
}

impl SigningKey for Keeper {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}
