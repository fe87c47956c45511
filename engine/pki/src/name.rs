//! Names that a certificate is for.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A DNS name in lower case, or an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// A DNS name, of one label or more.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

/// A text that is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a DNS name in lower case nor an address")]
pub struct BadName(pub String);

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let fits =
            |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-' || letter == b'_';
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(fits)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // What ends in digits would be an address that is none.
        let last = text.rsplit('.').next().unwrap_or_default();
        let is_name =
            text.len() <= 253 && text.split('.').all(label) && !last.bytes().all(|letter| letter.is_ascii_digit());
        if is_name { Ok(Self::Dns(text.to_owned())) } else { Err(BadName(text.to_owned())) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}
