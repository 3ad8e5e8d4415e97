//! Which addresses are public. Invariant: an address that is not known to be public is not; nothing that
//! wraps another address (mapped, NAT64, 6to4, Teredo) gets past by its wrapping.
//!
//! Ranges: IANA's special-purpose registries for IPv4 and IPv6 (RFC 6890 and what updates it).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a cloud answers its own machines on an address that is public otherwise (Azure).
const WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// Network, bits, and what it is.
const V4: [([u8; 4], u32, &str); 16] = [
    ([0, 0, 0, 0], 8, "this host"),
    ([10, 0, 0, 0], 8, "private"),
    ([100, 64, 0, 0], 10, "shared by a carrier (CGNAT)"),
    ([127, 0, 0, 0], 8, "loopback"),
    ([169, 254, 0, 0], 16, "link-local, where clouds keep metadata"),
    ([172, 16, 0, 0], 12, "private"),
    ([192, 0, 0, 0], 24, "reserved"),
    ([192, 0, 2, 0], 24, "reserved for documentation"),
    ([192, 88, 99, 0], 24, "a 6to4 relay"),
    ([192, 168, 0, 0], 16, "private"),
    ([198, 18, 0, 0], 15, "reserved for benchmarks"),
    ([198, 51, 100, 0], 24, "reserved for documentation"),
    ([203, 0, 113, 0], 24, "reserved for documentation"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([255, 255, 255, 255], 32, "broadcast"),
    ([240, 0, 0, 0], 4, "reserved"),
];

/// The same of IPv6, by the first 64 bits. Whatever is outside 2000::/3 and not listed is reserved.
const V6: [(u64, u32, &str); 9] = [
    (0x0064_ff9b_0000_0000, 47, "an IPv4 address behind NAT64"),
    (0x2001_0db8_0000_0000, 32, "reserved for documentation"),
    (0x2001_0000_0000_0000, 23, "reserved (Teredo and the like)"),
    (0x2002_0000_0000_0000, 16, "an IPv4 address behind 6to4"),
    (0x3fff_0000_0000_0000, 20, "reserved for documentation"),
    (0xfc00_0000_0000_0000, 7, "private"),
    (0xfe80_0000_0000_0000, 10, "link-local"),
    (0xfec0_0000_0000_0000, 10, "site-local"),
    (0xff00_0000_0000_0000, 8, "multicast"),
];

/// What keeps an address from being public; `None`: it is public.
pub fn inside(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => inside_v4(address),
        IpAddr::V6(address) => inside_v6(address),
    }
}

fn inside_v4(address: Ipv4Addr) -> Option<&'static str> {
    if address == WIRE_SERVER {
        return Some("a cloud's metadata");
    }
    let bits = address.to_bits();
    let within = |(net, len, _): &&([u8; 4], u32, &str)| (bits ^ u32::from_be_bytes(*net)).leading_zeros() >= *len;
    V4.iter().find(within).map(|(_, _, words)| *words)
}

fn inside_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_loopback() {
        return Some("loopback");
    }
    if address.is_unspecified() {
        return Some("this host");
    }
    if address.to_ipv4_mapped().is_some() {
        return Some("an IPv4 address in IPv6 clothes");
    }
    let high = (address.to_bits() >> 64) as u64;
    let within = |(net, len, _): &&(u64, u32, &str)| (high ^ net).leading_zeros() >= *len;
    match V6.iter().find(within) {
        Some((_, _, words)) => Some(words),
        None if high >> 61 == 0b001 => None,
        None => Some("reserved"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_pass_at_both_ends_of_every_range() {
        let public = "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 \
            169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.167.255.255 \
            192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 168.63.129.17 2001:200:: 2606:4700:4700::1111 \
            2a00:1450::1 2003::1 3ffe::1 2001:db7::1 2001:db9::1";
        for text in public.split_whitespace() {
            assert_eq!(inside(text.parse().unwrap()), None, "{text}");
        }
        let blocked = "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 100.100.100.200 \
            127.0.0.1 127.255.255.255 169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255 \
            192.0.0.0 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 \
            198.51.100.7 203.0.113.7 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.254 255.255.255.255 \
            168.63.129.16 :: ::1 ::2 ::7f00:1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 64:ff9b::1 64:ff9b:1::a00:1 \
            100::1 1fff::1 2001::1 2001:1ff::1 2001:db8::1 2002:7f00:1::1 3fff::1 3fff:fff::1 4000::1 5f00::1 \
            fc00::1 fd00:ec2::254 fe80::1 febf::1 fec0::1 ff02::1";
        for text in blocked.split_whitespace() {
            assert!(inside(text.parse().unwrap()).is_some(), "{text}");
        }
    }
}
