//! Serial numbers of certificates, as people and other programs write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The serial number of a certificate, in the one form in which it is stored and shown: hexadecimal digits in lower case, without
/// zeros before them. It is read from any form that openssl and others write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct SerialNumber(String);

/// Why a text is no serial number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no serial number: expected hexadecimal digits, such as openssl prints")]
pub struct BadSerialNumber(String);

impl SerialNumber {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SerialNumber {
    type Err = BadSerialNumber;

    fn from_str(text: &str) -> Result<Self, BadSerialNumber> {
        let digits = text.trim().to_ascii_lowercase().replace(':', "");
        let digits = digits.strip_prefix("serial=").unwrap_or(&digits);
        let digits = digits.strip_prefix("0x").unwrap_or(digits);
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(BadSerialNumber(text.chars().take(100).collect()));
        }
        let shortest = digits.trim_start_matches('0');
        Ok(Self(if shortest.is_empty() { "0" } else { shortest }.to_owned()))
    }
}

impl TryFrom<String> for SerialNumber {
    type Error = BadSerialNumber;

    fn try_from(text: String) -> Result<Self, BadSerialNumber> {
        text.parse()
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_the_same_number() {
        let number: SerialNumber = "5c0fd1".parse().expect("a number");
        assert_eq!(number.as_str(), "5c0fd1");
        for form in
            ["5C0FD1", "5c:0f:d1", "5C:0F:D1", "0x5C0FD1", "005c0fd1", "00:5c:0f:d1", "serial=5C0FD1", " 5c0fd1\n"]
        {
            assert_eq!(form.parse().as_ref(), Ok(&number), "{form}");
        }
        assert_eq!("00".parse::<SerialNumber>().expect("zero").as_str(), "0");
        for wrong in ["", "0x", ":", "5c0fd1…", "-5c", "5c 0f", "serial="] {
            assert!(wrong.parse::<SerialNumber>().is_err(), "{wrong}");
        }
    }
}
