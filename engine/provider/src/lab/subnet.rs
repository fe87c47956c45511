//! IPv4 subnets: which one a lab takes, and which address a node gets.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An IPv4 network such as `10.213.7.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Subnet {
    base: u32,
    prefix: u8,
}

impl Subnet {
    /// The network that holds `address`.
    pub(crate) fn new(address: Ipv4Addr, prefix: u8) -> Self {
        let mut subnet = Self { base: 0, prefix: prefix.min(32) };
        subnet.base = u32::from(address) & subnet.mask();
        subnet
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    /// Length of the prefix.
    pub(crate) fn prefix(self) -> u8 {
        self.prefix
    }

    /// Do the two share an address?
    pub(crate) fn overlaps(self, other: Self) -> bool {
        let mask = self.mask() & other.mask();
        self.base & mask == other.base & mask
    }

    /// The host's own address in it: the first.
    pub(crate) fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// How many nodes fit.
    pub(crate) fn capacity(self) -> u32 {
        (!self.mask()).saturating_sub(2)
    }

    /// Address of the node with this index, which counts from 0 and is below the capacity.
    pub(crate) fn node(self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 2 + index)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl TryFrom<String> for Subnet {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Subnet {
    type Err = String;

    /// An address without a prefix is that one address.
    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let address: Ipv4Addr = address.parse().map_err(|_| format!("`{text}` is no IPv4 subnet"))?;
        match prefix.parse() {
            Ok(prefix @ 0..=32) => Ok(Self::new(address, prefix)),
            _ => Err(format!("`{text}` is no IPv4 subnet")),
        }
    }
}

/// Private networks that a lab may take: parts of RFC 1918 that container tools and home routers seldom use.
const POOLS: [(u8, u8); 2] = [(10, 213), (172, 29)];

/// A /24 of the pools that overlaps nothing in use, looked for from a place that `seed` gives so that labs seldom meet.
pub(crate) fn pick(seed: u8, used: &[Subnet]) -> Option<Subnet> {
    POOLS.iter().find_map(|&(first, second)| {
        (0..=255u8).map(|step| seed.wrapping_add(step)).find_map(|third| {
            let subnet = Subnet::new(Ipv4Addr::new(first, second, third, 0), 24);
            used.iter().all(|other| !subnet.overlaps(*other)).then_some(subnet)
        })
    })
}

/// What is in use according to `ip -4 -o route show table all` and `ip -4 -o addr show`: every network but the default.
pub(crate) fn in_use(listing: &str) -> Vec<Subnet> {
    listing
        .split_whitespace()
        .filter_map(|word| word.parse::<Subnet>().ok())
        .filter(|subnet| subnet.prefix > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().expect("a subnet")
    }

    #[test]
    fn parses_and_prints() {
        assert_eq!(subnet("10.1.2.3/24").to_string(), "10.1.2.0/24");
        assert_eq!(subnet("10.1.2.3").to_string(), "10.1.2.3/32");
        for wrong in ["", "10.1.2", "10.1.2.3/33", "10.1.2.3/x", "fe80::/64"] {
            assert!(wrong.parse::<Subnet>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn hands_out_addresses_between_the_gateway_and_the_broadcast() {
        let net = subnet("10.1.2.0/30");
        assert_eq!((net.gateway().to_string(), net.capacity()), ("10.1.2.1".to_owned(), 1));
        assert_eq!(net.node(0).to_string(), "10.1.2.2");
        assert_eq!(subnet("10.1.2.0/24").capacity(), 253);
        assert_eq!(subnet("10.1.2.0/24").node(252).to_string(), "10.1.2.254");
        assert_eq!(subnet("10.1.2.0/32").capacity(), 0);
    }

    #[test]
    fn overlaps_in_both_directions() {
        assert!(subnet("10.0.0.0/8").overlaps(subnet("10.213.7.0/24")));
        assert!(subnet("10.213.7.0/24").overlaps(subnet("10.0.0.0/8")));
        assert!(!subnet("10.213.7.0/24").overlaps(subnet("10.213.8.0/24")));
    }

    #[test]
    fn picks_around_what_is_used() {
        let routes = "default via 192.0.2.1 dev eth0 \n10.213.7.0/24 dev x proto kernel src 10.213.7.1\n";
        assert_eq!(pick(7, &in_use(routes)).expect("one is free").to_string(), "10.213.8.0/24");
        assert_eq!(pick(7, &in_use("10.0.0.0/8 dev vpn")).expect("one is free").to_string(), "172.29.7.0/24");
        assert_eq!(pick(7, &in_use("10.0.0.0/8 dev vpn\n172.16.0.0/12 dev docker")), None);
    }
}
