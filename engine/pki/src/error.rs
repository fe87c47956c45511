//! What is wrong with a request, and what can not be signed.

/// A request that is refused: nothing is signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Larger than any request of ours.
    #[error("the request has {bytes} bytes, at most {limit} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What is read.
        limit: usize,
    },
    /// No certificate request in PEM.
    #[error("the request can not be read: {reason}")]
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
    /// Its signature is not that of the key in it.
    #[error("the request is not signed by the key that it is for")]
    Signature,
    /// Neither ECDSA P-256 nor Ed25519.
    #[error("the key of the request is neither ECDSA P-256 nor Ed25519")]
    KeyType,
    /// It names somebody else.
    #[error("the request is for `{name}`, which is no name of {node}")]
    NameForeign {
        /// The name.
        name: String,
        /// Whose request it is.
        node: String,
    },
    /// It leaves out a name that the certificate is to have.
    #[error("the request lacks the name `{name}`")]
    NameMissing {
        /// The name.
        name: String,
    },
    /// It names many at once.
    #[error("the request is for `{name}`: names with `*` are not signed")]
    NameWildcard {
        /// The name.
        name: String,
    },
    /// It wants to sign others.
    #[error("the request is for an authority")]
    Authority,
    /// It would be over when it is signed.
    #[error("the certificate would end at {not_after}, which is over")]
    Expired {
        /// Its end.
        not_after: String,
    },
    /// It would begin later.
    #[error("the certificate would begin at {not_before}; what is signed holds from now on")]
    NotYetValid {
        /// Its beginning.
        not_before: String,
    },
    /// It asks for more than names.
    #[error("the request asks for {what}, and only names may be asked for")]
    Extension {
        /// What else.
        what: String,
    },
}

impl RequestError {
    /// Stable code, listed in docs/ERRORS.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "csr-too-large",
            Self::Unreadable { .. } => "csr-unreadable",
            Self::Signature => "csr-signature",
            Self::KeyType => "csr-key-type",
            Self::NameForeign { .. } => "csr-name-foreign",
            Self::NameMissing { .. } => "csr-name-missing",
            Self::NameWildcard { .. } => "csr-name-wildcard",
            Self::Authority => "csr-authority",
            Self::Expired { .. } => "csr-expired",
            Self::NotYetValid { .. } => "csr-not-yet-valid",
            Self::Extension { .. } => "csr-extension",
        }
    }
}

/// A chain that is not taken for an authority: nothing is changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// No certificates in PEM.
    #[error("the chain can not be read: {reason}")]
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
    /// No key, or of another kind.
    #[error("the key is no private key of ECDSA P-256 in PEM (PKCS #8, not encrypted)")]
    Key,
    /// The certificate is for somebody else.
    #[error("the first certificate of the chain is not for the key of the authority")]
    OtherKey,
    /// It could not sign.
    #[error(
        "the first certificate of the chain is for no authority that may sign certificates and lists of what was revoked"
    )]
    NoAuthority,
    /// It may sign for other names than it should.
    #[error("the first certificate of the chain is confined to {found}, and it is to be {wanted}")]
    Constraints {
        /// As it says.
        found: String,
        /// As the role says.
        wanted: String,
    },
    /// Its time is over, or not yet come.
    #[error("the certificate of {subject} holds from {begin} to {end}")]
    NotInForce {
        /// Whose.
        subject: String,
        /// Its beginning.
        begin: time::OffsetDateTime,
        /// Its end.
        end: time::OffsetDateTime,
    },
    /// It is no chain.
    #[error("{subject} is not signed by {next}, which follows it")]
    Broken {
        /// Whose certificate.
        subject: String,
        /// The next one.
        next: String,
    },
}

impl ImportError {
    /// Stable code, listed in docs/ERRORS.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "chain-unreadable",
            Self::Key => "chain-key-type",
            Self::OtherKey => "chain-other-key",
            Self::NoAuthority => "chain-no-authority",
            Self::Constraints { .. } => "chain-constraints",
            Self::NotInForce { .. } => "chain-not-in-force",
            Self::Broken { .. } => "chain-broken",
        }
    }
}

/// An authority that can not be made, or can not sign.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// What was kept can not be read.
    #[error("the {what} can not be read: {reason}")]
    Unreadable {
        /// A certificate or a key.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A subnet or zone that an authority is to be confined to.
    #[error("`{0}` is no subnet such as 10.0.0.0/8 and no zone such as blue.example")]
    Constraint(String),
    /// Its time is over, or nearly.
    #[error("the authority ends at {not_after}, before anything that it signs now would be of use")]
    AuthorityEnds {
        /// When.
        not_after: String,
    },
    /// The library refused.
    #[error("{doing}")]
    Sign {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        #[source]
        source: rcgen::Error,
    },
}

impl PkiError {
    /// Stable code, listed in docs/ERRORS.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "pki-unreadable",
            Self::Constraint(_) => "pki-constraint",
            Self::AuthorityEnds { .. } => "authority-ends",
            Self::Sign { .. } => "pki-failed",
        }
    }
}

/// For `map_err`.
pub(crate) fn doing(doing: &'static str) -> impl Fn(rcgen::Error) -> PkiError {
    move |source| PkiError::Sign { doing, source }
}
