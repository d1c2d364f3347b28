//! Which addresses lie in the public Internet?
//!
//! By the registries of IANA, as of 2025: IPv4 and IPv6 Special-Purpose Address Registry (RFC 6890 and successors), IPv4
//! and IPv6 Multicast Address Space, Internet Protocol Version 6 Address Space, of which 2000::/3 alone is given out.
//! What they say is not globally reachable is not public here, nor what embeds another address in its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who can be met at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Public,
    /// This machine or a network of one's own: where the administrator allows it.
    Private,
    /// Nobody whom a calendar could come from.
    Never,
}

/// Where this address leads.
pub fn reach(address: IpAddr) -> Reach {
    if METADATA.contains(&address) {
        return Reach::Never;
    }
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

/// Services that clouds offer to their own machines, credentials among them, and that lie outside 169.254.0.0/16.
const METADATA: [IpAddr; 7] = [
    // Alibaba Cloud.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Azure: a public address by registry, and the host of the virtual machine by routing.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Oracle Cloud, the older one.
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // AWS.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    // AWS, for pods.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    // Scaleway.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
    // Google Cloud.
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

fn reach_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        // Loopback (RFC 1122), private use (RFC 1918), shared address space (RFC 6598).
        [127, ..] | [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Reach::Private,
        // "This network" (RFC 791).
        [0, ..]
        // Link-local (RFC 3927), with the clouds' metadata services.
        | [169, 254, ..]
        // IETF protocol assignments (RFC 6890).
        | [192, 0, 0, _]
        // Documentation (RFC 5737).
        | [192, 0, 2, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        // 6to4 relay anycast, given up (RFC 7526).
        | [192, 88, 99, _]
        // Benchmarking (RFC 2544).
        | [198, 18..=19, ..]
        // Multicast (RFC 5771), reserved and limited broadcast (RFC 1112, RFC 8190).
        | [224..=255, ..] => Reach::Never,
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    match address.segments() {
        // Loopback (RFC 4291).
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private,
        // Unique local (RFC 4193).
        [0xfc00..=0xfdff, ..] => Reach::Private,
        // NAT64 (RFC 6052 §3.1: of public addresses only).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => match reach(embedded(high, low).into()) {
            Reach::Public => Reach::Public,
            Reach::Private | Reach::Never => Reach::Never,
        },
        // IETF protocol assignments, Teredo and ORCHID among them (RFC 2928, RFC 4380, RFC 7343).
        [0x2001, 0..=0x1ff, ..]
        // Documentation (RFC 3849, RFC 9637).
        | [0x2001, 0xdb8, ..]
        | [0x3fff, 0..=0xfff, ..]
        // 6to4 (RFC 3056), whose relays are given up (RFC 7526).
        | [0x2002, ..] => Reach::Never,
        [0x2000..=0x3fff, ..] => Reach::Public,
        // Unspecified, mapped, compatible, NAT64 of local use (RFC 8215), discard-only, link-local, site-local, multicast,
        // segment routing (RFC 9602), and what has not been given out.
        _ => Reach::Never,
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}
