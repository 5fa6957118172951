//! Join codes: all that a receiver needs to reach a host, to know it, and to be let in.
//!
//! ```text
//! wl1 ‖ base32( flags ‖ port ‖ addresses ‖ fingerprint (16 bytes) ‖ secret (16 bytes) ‖ checksum (2 bytes) )
//! ```
//! Base32 in Crockford's alphabet: upper and lower case mean the same, and `I`, `L`, `O` are read as the digits they look
//! like. The checksum finds a slip of the pen before anything is sent.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use data_encoding::{Encoding, Specification};
use std::sync::LazyLock;

const PREFIX: &str = "wl1";
/// Bytes of the SHA-256 of the host's certificate that a code carries: 128 bits, as the secret has.
pub const FINGERPRINT_LEN: usize = 16;
/// Bytes of the secret.
pub const SECRET_LEN: usize = 16;
/// Addresses in one code.
const ADDRESSES_MAX: usize = 8;

/// What a join code says.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinCode {
    /// Where the host may be reached, best first; one to eight, all with the same port.
    pub addresses: Vec<SocketAddr>,
    /// The beginning of the SHA-256 of the host's certificate.
    pub fingerprint: [u8; FINGERPRINT_LEN],
    /// Lets its holders in.
    pub secret: [u8; SECRET_LEN],
}

/// Why a text is not a join code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// It does not begin as codes do.
    #[error("a join code begins with \"wl1\"")]
    Prefix,
    /// It has a character that codes do not have.
    #[error("character {0} does not belong into a join code")]
    Character(usize),
    /// Characters are missing, added or changed.
    #[error("the join code is damaged: a character is missing or wrong")]
    Damaged,
}

static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
    spec.translate.from.push_str("ABCDEFGHJKMNPQRSTVWXYZoOiIlL");
    spec.translate.to.push_str("abcdefghjkmnpqrstvwxyz001111");
    spec.encoding().expect("the alphabet has 32 symbols and the translations lead into it")
});

impl fmt::Display for JoinCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(80);
        bytes.push(self.addresses.len().min(ADDRESSES_MAX) as u8);
        let port = self.addresses.first().map_or(0, SocketAddr::port);
        bytes.extend_from_slice(&port.to_be_bytes());
        for address in self.addresses.iter().take(ADDRESSES_MAX) {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend_from_slice(&ip.octets());
                }
            }
        }
        bytes.extend_from_slice(&self.fingerprint);
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(&checksum(&bytes));
        write!(f, "{PREFIX}{}", BASE32.encode(&bytes))
    }
}

impl fmt::Debug for JoinCode {
    /// Without the secret: codes end up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinCode").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let hash = blake3::hash(bytes);
    [hash.as_bytes()[0], hash.as_bytes()[1]]
}

impl FromStr for JoinCode {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let text = text.trim();
        let body = match text.get(..PREFIX.len()) {
            Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => &text[PREFIX.len()..],
            _ => return Err(CodeError::Prefix),
        };
        // First, as it says more than that the length is wrong too.
        if let Some(at) = body.bytes().position(|b| !b.is_ascii_alphanumeric() || b.eq_ignore_ascii_case(&b'u')) {
            return Err(CodeError::Character(PREFIX.len() + at + 1));
        }
        let bytes = BASE32.decode(body.as_bytes()).map_err(|_| CodeError::Damaged)?;
        let (payload, sum) = bytes.split_last_chunk::<2>().ok_or(CodeError::Damaged)?;
        if checksum(payload) != *sum {
            return Err(CodeError::Damaged);
        }
        parse(payload).ok_or(CodeError::Damaged)
    }
}

fn parse(payload: &[u8]) -> Option<JoinCode> {
    let mut r = warpline_wire::Reader::new(payload);
    let count = usize::from(r.u8().ok()?);
    let port = r.u16().ok()?;
    if !(1..=ADDRESSES_MAX).contains(&count) || port == 0 {
        return None;
    }
    let mut addresses = Vec::with_capacity(count);
    for _ in 0..count {
        let ip = match r.u8().ok()? {
            4 => IpAddr::V4(Ipv4Addr::from(r.array::<4>().ok()?)),
            6 => IpAddr::V6(Ipv6Addr::from(r.array::<16>().ok()?)),
            _ => return None,
        };
        addresses.push(SocketAddr::new(ip, port));
    }
    let code = JoinCode { addresses, fingerprint: r.array().ok()?, secret: r.array().ok()? };
    r.is_empty().then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> JoinCode {
        JoinCode {
            addresses: vec!["192.0.2.7:4433".parse().unwrap(), "[2001:db8::1]:4433".parse().unwrap()],
            fingerprint: [0xab; FINGERPRINT_LEN],
            secret: [0x17; SECRET_LEN],
        }
    }

    #[test]
    fn reads_back_in_either_case_and_with_lookalikes() {
        let text = code().to_string();
        assert_eq!(text.parse(), Ok(code()));
        assert_eq!(text.to_uppercase().parse(), Ok(code()));
        assert_eq!(text.replace('0', "O").replacen('1', "l", 0).parse(), Ok(code()));
    }

    #[test]
    fn every_changed_or_missing_character_is_noticed() {
        let text = code().to_string();
        for at in 3..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'7' { b'8' } else { b'7' };
            assert!(String::from_utf8(bytes).unwrap().parse::<JoinCode>().is_err(), "position {at}");
            assert!(text[..at].parse::<JoinCode>().is_err());
        }
        assert_eq!("hello".parse::<JoinCode>(), Err(CodeError::Prefix));
        assert_eq!("wl1ab!".parse::<JoinCode>(), Err(CodeError::Character(6)));
    }

    #[test]
    fn logs_do_not_show_the_secret() {
        assert!(!format!("{:?}", code()).contains("17"));
    }
}
