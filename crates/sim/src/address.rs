//! Who has which address. Client `n` owns everything whose second and third octets are `n`: its own address in 10/8 and
//! the outside addresses that NATs give it in 100/8.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The server's address.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4433);

/// The address that client `index` begins with.
pub fn client(index: u16) -> SocketAddr {
    home(index, 0)
}

/// The `nth` address that client `index` may move to by itself; 0 is where it begins.
pub fn home(index: u16, nth: u8) -> SocketAddr {
    let [high, low] = index.to_be_bytes();
    (Ipv4Addr::new(10, high, low, nth.saturating_add(1)), 50_000).into()
}

/// The `nth` address that a NAT may give to client `index`.
pub fn outside(index: u16, nth: u8) -> SocketAddr {
    let [high, low] = index.to_be_bytes();
    (Ipv4Addr::new(100, high, low, nth), 60_000).into()
}

/// Which client's path leads to `address`.
pub fn owner(address: SocketAddr) -> Option<usize> {
    match address.ip() {
        IpAddr::V4(ip) => match ip.octets() {
            [10 | 100, high, low, _] => Some(usize::from(u16::from_be_bytes([high, low]))),
            _ => None,
        },
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_back_to_their_owner() {
        assert_eq!(owner(client(300)), Some(300));
        assert_eq!(owner(home(300, 3)), Some(300));
        assert_eq!(owner(outside(7, 9)), Some(7));
        assert_eq!(owner(SERVER), None);
    }
}
