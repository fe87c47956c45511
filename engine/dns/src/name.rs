//! Names of hosts and zones, by the rules for host names (RFC 1035, RFC 1123).

use std::fmt;
use std::net::IpAddr;

/// Letters of a name without its last dot: with the lengths of labels it is 255 bytes on the wire.
const LONGEST: usize = 253;
const LONGEST_LABEL: usize = 63;

/// A name in small letters, without its last dot: `web.demo.plinth.internal`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Longer than any name.
    #[error("the name `{0}` has more than 253 letters")]
    Long(String),
    /// A label that no host may have.
    #[error(
        "`{label}` in `{name}` is no label of a host name: expected up to 63 of the letters a-z, digits, and `-` in between"
    )]
    Label {
        /// The label.
        label: String,
        /// In this name.
        name: String,
    },
    /// It reads like an address.
    #[error("the last label of `{0}` is a number, as in an address")]
    Numeric(String),
    /// No zone of addresses is cut like this.
    #[error(
        "`{0}` is no subnet of which addresses have a zone: expected IPv4 with /8, /16 or /24, or IPv6 with a multiple of 4"
    )]
    Subnet(String),
}

impl NameError {
    /// Stable code, listed in docs/ERRORS.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Long(_) | Self::Label { .. } | Self::Numeric(_) => "dns-name",
            Self::Subnet(_) => "dns-subnet",
        }
    }
}

impl Name {
    /// Reads a name; a last dot and capital letters make no difference.
    ///
    /// # Errors
    /// What is wrong with it as the name of a host.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        Self::read(text, false)
    }

    /// Reads the name of a record, whose labels may begin with `_` (RFC 8552): `_acme-challenge.web.demo.plinth.internal`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_record(text: &str) -> Result<Self, NameError> {
        Self::read(text, true)
    }

    fn read(text: &str, underscored: bool) -> Result<Self, NameError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.len() > LONGEST {
            return Err(NameError::Long(name));
        }
        for label in name.split('.') {
            let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            let plain = label.strip_prefix('_').filter(|_| underscored).unwrap_or(label);
            let fits = label.len() <= LONGEST_LABEL && !plain.is_empty() && plain.bytes().all(sound);
            if !fits || plain.starts_with('-') || plain.ends_with('-') {
                return Err(NameError::Label { label: label.to_owned(), name });
            }
        }
        if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(NameError::Numeric(name));
        }
        Ok(Self(name))
    }

    /// A name below this one.
    ///
    /// # Errors
    /// What is wrong with `below`, or that the whole gets too long.
    pub fn below(&self, below: &str) -> Result<Self, NameError> {
        Self::parse(&format!("{below}.{self}"))
    }

    /// The name under which an address has its record back.
    pub fn of_address(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(four) => {
                let [a, b, c, d] = four.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            IpAddr::V6(six) => {
                let nibbles = six.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
                nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
            }
        })
    }

    /// Is it this zone, or below it?
    pub fn is_in(&self, zone: &Self) -> bool {
        self.0.strip_suffix(&zone.0).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As it travels, not compressed.
    pub(crate) fn wire(&self) -> Box<[u8]> {
        let mut wire = Vec::with_capacity(self.0.len() + 2);
        for label in self.0.split('.') {
            // No label is longer than 63.
            wire.push(u8::try_from(label.len()).unwrap_or(0));
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        wire.into_boxed_slice()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The zone that has the names of a subnet's addresses: `2.0.192.in-addr.arpa` of `192.0.2.0/24`.
///
/// # Errors
/// Where a zone can not be cut at the end of the prefix.
pub fn reverse_zone(subnet: &str) -> Result<Name, NameError> {
    let wrong = || NameError::Subnet(subnet.to_owned());
    let (address, prefix) = subnet.split_once('/').ok_or_else(wrong)?;
    let (address, prefix): (IpAddr, u32) =
        (address.parse().map_err(|_| wrong())?, prefix.parse().map_err(|_| wrong())?);
    let (bits, of_a_label, labels) = match address {
        IpAddr::V4(four) => (u128::from(four.to_bits()) << 96, 8, 4),
        IpAddr::V6(six) => (six.to_bits(), 4, 32),
    };
    let kept = prefix / of_a_label;
    if prefix % of_a_label != 0 || kept == 0 || kept >= labels || bits << prefix != 0 {
        return Err(wrong());
    }
    let all = Name::of_address(address);
    // One dot after each label that is left out.
    let zone = all.0.splitn(usize::try_from(labels - kept).unwrap_or(0) + 1, '.').last().unwrap_or_default();
    Ok(Name(zone.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{Name, reverse_zone};

    #[test]
    fn host_names_are_told_from_others() {
        let long = format!("{}.internal", "a".repeat(64));
        let longer = vec!["abcdefg"; 32].join(".");
        for (text, read) in [
            ("Web-1.Demo.internal.", Some("web-1.demo.internal")),
            ("3com.internal", Some("3com.internal")),
            ("a", Some("a")),
            ("10.0.0.1", None),
            ("", None),
            (".", None),
            ("a..b", None),
            ("-a.b", None),
            ("a-.b", None),
            ("a_b.c", None),
            ("*.demo.internal", None),
            ("b\u{fc}cher.internal", None),
            (&long, None),
            (&longer, None),
        ] {
            let name = Name::parse(text);
            assert_eq!(name.as_ref().ok().map(Name::as_str), read, "{text}: {name:?}");
        }
        assert!(Name::parse(&longer[..253]).is_ok());
        for (text, fits) in [("_acme-challenge.a.internal", true), ("_.a", false), ("a_b.c", false), ("__a.b", false)] {
            assert!(Name::parse(text).is_err());
            assert_eq!(Name::of_record(text).is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn addresses_have_names_in_the_zones_of_their_subnets() {
        for (address, subnet, zone, name) in [
            ("192.0.2.7", "192.0.2.0/24", "2.0.192.in-addr.arpa", "7.2.0.192.in-addr.arpa"),
            ("10.1.2.3", "10.0.0.0/8", "10.in-addr.arpa", "3.2.1.10.in-addr.arpa"),
            (
                "2001:db8::1",
                "2001:db8::/32",
                "8.b.d.0.1.0.0.2.ip6.arpa",
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            ),
        ] {
            let of = Name::of_address(address.parse().expect("an address"));
            let in_zone = reverse_zone(subnet).expect("a zone");
            assert_eq!((of.as_str(), in_zone.as_str()), (name, zone));
            assert!(of.is_in(&in_zone));
        }
        for wrong in
            ["10.0.0.0/12", "10.0.0.1/24", "10.0.0.0/0", "10.0.0.0/32", "10.0.0.0", "x/8", "::/0", "10.0.0.0/99"]
        {
            assert!(reverse_zone(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_is_in_a_zone_by_whole_labels() {
        let name = |text| Name::parse(text).expect("a name");
        assert!(name("demo.internal").is_in(&name("demo.internal")));
        assert!(name("a.demo.internal").is_in(&name("demo.internal")));
        assert!(!name("ademo.internal").is_in(&name("demo.internal")));
        assert!(!name("internal").is_in(&name("demo.internal")));
    }
}
