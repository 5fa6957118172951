//! What the two processes say to each other.

use std::io;
use std::net::{IpAddr, SocketAddr};
use warpline_proto::{DatagramMeta, Ecn};

/// The version of all this. Processes with different ones do not hand over.
pub(crate) const VERSION: u8 = 1;

/// Bytes of a message at most: an offer with a table of 1,021 slots and 256 sockets.
pub(crate) const MESSAGE_MAX: usize = 4_096;

/// One message. The sockets of an offer go along with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Successor: may I take over?
    Hello,
    /// Predecessor: with these things.
    Offer(Box<Offer>),
    /// Predecessor: not now, another handing over is under way.
    Busy,
    /// Successor: my workers are ready.
    Take,
    /// Predecessor: what begins new connections is passed on to you from now on.
    Given,
    /// Predecessor: none of my connections is in its handshake any more.
    Settled,
    /// Predecessor: I have no connection left.
    Finished,
    /// Successor: nothing is steered to you any more.
    Released,
}

/// What a successor needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The mark in the predecessor's connection IDs.
    pub(crate) mark: bool,
    /// What keys are derived from.
    pub(crate) secret: [u8; 32],
    /// The socket of each slot.
    pub(crate) table: Vec<u16>,
    /// The sockets that the predecessor uses.
    pub(crate) used: Vec<u16>,
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the process at the restart socket speaks something else")
}

impl Message {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let tag = match self {
            Self::Hello => 1,
            Self::Offer(_) => 2,
            Self::Busy => 3,
            Self::Take => 4,
            Self::Given => 5,
            Self::Settled => 6,
            Self::Finished => 7,
            Self::Released => 8,
        };
        let mut bytes = vec![VERSION, tag];
        if let Self::Offer(offer) = self {
            bytes.push(offer.mark.into());
            bytes.extend(offer.secret);
            for list in [&offer.table, &offer.used] {
                bytes.extend((list.len() as u16).to_be_bytes());
                bytes.extend(list.iter().flat_map(|number| number.to_be_bytes()));
            }
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> io::Result<Self> {
        let [VERSION, tag, rest @ ..] = bytes else { return Err(malformed()) };
        let message = match tag {
            1 => Self::Hello,
            2 => return Offer::decode(rest).map(Box::new).map(Self::Offer).ok_or_else(malformed),
            3 => Self::Busy,
            4 => Self::Take,
            5 => Self::Given,
            6 => Self::Settled,
            7 => Self::Finished,
            8 => Self::Released,
            _ => return Err(malformed()),
        };
        if rest.is_empty() { Ok(message) } else { Err(malformed()) }
    }
}

impl Offer {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (mark, bytes) = bytes.split_first()?;
        let (secret, bytes) = bytes.split_first_chunk::<32>()?;
        let list = |bytes: &mut &[u8]| {
            let (len, rest) = bytes.split_first_chunk::<2>()?;
            let (list, rest) = rest.split_at_checked(2 * usize::from(u16::from_be_bytes(*len)))?;
            *bytes = rest;
            let number = |pair: &[u8]| u16::from_be_bytes([pair[0], pair[1]]);
            Some(list.chunks_exact(2).map(number).collect::<Vec<u16>>())
        };
        let mut rest = bytes;
        let (table, used) = (list(&mut rest)?, list(&mut rest)?);
        (*mark < 2 && rest.is_empty()).then_some(Self { mark: *mark == 1, secret: *secret, table, used })
    }
}

/// Bytes before a datagram that is passed on: ECN, local address, remote address and port.
pub(crate) const META_LEN: usize = 1 + 17 + 19;

fn put_ip(out: &mut [u8], ip: Option<IpAddr>) {
    match ip {
        None => out[0] = 0,
        Some(IpAddr::V4(ip)) => {
            out[0] = 4;
            out[1..5].copy_from_slice(&ip.octets());
        }
        Some(IpAddr::V6(ip)) => {
            out[0] = 6;
            out[1..17].copy_from_slice(&ip.octets());
        }
    }
}

fn get_ip(bytes: &[u8; 17]) -> Option<Option<IpAddr>> {
    let ip = match bytes {
        [0, ..] => None,
        [4, a, b, c, d, ..] => Some(IpAddr::from([*a, *b, *c, *d])),
        [6, ip @ ..] => Some(IpAddr::from(*ip)),
        _ => return Option::None,
    };
    Some(ip)
}

/// What is known of a datagram, to go before it.
pub(crate) fn encode_meta(meta: &DatagramMeta) -> [u8; META_LEN] {
    let mut bytes = [0; META_LEN];
    bytes[0] = match meta.ecn {
        None => 0,
        Some(Ecn::Ect1) => 1,
        Some(Ecn::Ect0) => 2,
        Some(Ecn::Ce) => 3,
    };
    put_ip(&mut bytes[1..18], meta.local);
    put_ip(&mut bytes[18..35], Some(meta.remote.ip()));
    bytes[35..].copy_from_slice(&meta.remote.port().to_be_bytes());
    bytes
}

/// A datagram that was passed on: what is known of it, and its bytes.
pub(crate) fn decode_datagram(bytes: &[u8]) -> Option<(DatagramMeta, &[u8])> {
    let (meta, datagram) = bytes.split_first_chunk::<META_LEN>()?;
    let ecn = match meta[0] {
        0 => None,
        1 => Some(Ecn::Ect1),
        2 => Some(Ecn::Ect0),
        3 => Some(Ecn::Ce),
        _ => return None,
    };
    let local = get_ip(meta[1..18].first_chunk()?)?;
    let ip = get_ip(meta[18..35].first_chunk()?)??;
    let remote = SocketAddr::new(ip, u16::from_be_bytes([meta[35], meta[36]]));
    Some((DatagramMeta { remote, local, ecn }, datagram))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written_and_nothing_else_is() {
        let offer = Offer { mark: true, secret: [7; 32], table: (0..1021).collect(), used: vec![0, 5] };
        let plain = [Message::Hello, Message::Busy, Message::Take, Message::Given, Message::Settled];
        let all =
            [vec![Message::Offer(Box::new(offer)), Message::Finished, Message::Released], plain.to_vec()].concat();
        for message in all {
            let bytes = message.encode();
            assert!(bytes.len() <= MESSAGE_MAX);
            assert_eq!(Message::decode(&bytes).expect("it was written"), message);
            assert!(Message::decode(&bytes[..bytes.len() - 1]).is_err(), "{message:?} cut short");
            assert!(Message::decode(&[&bytes[..], &[0]].concat()).is_err(), "{message:?} with more behind it");
        }
        assert!(Message::decode(&[VERSION + 1, 1]).is_err() && Message::decode(&[VERSION, 9]).is_err());
    }

    #[test]
    fn a_datagram_keeps_where_it_came_from() {
        let metas = [
            DatagramMeta { remote: ([10, 1, 2, 3], 443).into(), local: None, ecn: None },
            DatagramMeta {
                remote: "[2001:db8::1]:65535".parse().expect("an address"),
                local: "2001:db8::2".parse().ok(),
                ecn: Some(Ecn::Ce),
            },
            DatagramMeta { remote: ([1, 1, 1, 1], 1).into(), local: "127.0.0.1".parse().ok(), ecn: Some(Ecn::Ect0) },
        ];
        for meta in metas {
            let bytes = [&encode_meta(&meta)[..], b"datagram"].concat();
            assert_eq!(decode_datagram(&bytes), Some((meta, &b"datagram"[..])));
        }
        assert_eq!(decode_datagram(&[0; META_LEN]), None, "a remote address is needed");
        assert_eq!(decode_datagram(&[0; META_LEN - 1]), None);
    }
}
