//! What a server has to know of a ClientHello before TLS reads it (RFC 8446 section 4.1.2): a version is chosen by its transport
//! parameters (RFC 9368 section 2.3), and TLS is begun for one version.

use core::ops::Range;

use crate::{Reader, Side, TransportParameters, Version, VersionInformation};

/// Type and length in front of a handshake message.
const HEADER_LEN: usize = 4;
/// Handshake type of a ClientHello.
const CLIENT_HELLO: u8 = 1;
const EXT_EARLY_DATA: u16 = 42;
const EXT_QUIC_TRANSPORT_PARAMETERS: u16 = 57;

/// What the bytes are so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Scan {
    /// More must come.
    Incomplete,
    /// Something that TLS will refuse.
    Foreign,
    /// A whole ClientHello.
    Hello(Offer),
}

/// What a ClientHello offers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Where the transport parameters are.
    params: Option<Range<usize>>,
    /// Early data follows.
    pub early_data: bool,
}

impl Offer {
    /// Transport parameters are there, under the type that RFC 9001 section 8.2 gives them.
    pub fn has_params(&self) -> bool {
        self.params.is_some()
    }

    /// The versions that the client's first flight suits; `bytes` are those that were scanned. Transport parameters that cannot be
    /// read say nothing here, and end the connection when they are taken into use.
    pub fn versions(&self, bytes: &[u8]) -> Option<VersionInformation> {
        let params = bytes.get(self.params.clone()?)?;
        TransportParameters::decode(params, Side::Client).ok()?.version_information
    }

    /// The version to go on with: the client's favourite among those that this side speaks (RFC 9368 section 2.3). Early data is
    /// sealed for the version that the client began with, and stays there.
    pub fn choose(&self, bytes: &[u8], original: Version, spoken: &[Version]) -> Version {
        if self.early_data {
            return original;
        }
        let compatible = [Version::V1, Version::V2];
        let offered = self.versions(bytes).map(|info| info.available).unwrap_or_default();
        let common = |v: &Version| spoken.contains(v) && compatible.contains(v) && compatible.contains(&original);
        offered.into_iter().find(common).unwrap_or(original)
    }
}

/// Looks for a whole ClientHello of `len_max` bytes at most at the front of `bytes`, which are those of a CRYPTO stream from its
/// beginning (RFC 9001 section 4.1.3).
pub fn scan(bytes: &[u8], len_max: u64) -> Scan {
    let Some((head, body)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return match bytes.first() {
            None | Some(&CLIENT_HELLO) => Scan::Incomplete,
            Some(_) => Scan::Foreign,
        };
    };
    let len = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
    if head[0] != CLIENT_HELLO || len as u64 > len_max {
        return Scan::Foreign;
    }
    match body.get(..len) {
        None => Scan::Incomplete,
        Some(body) => offer(body).map_or(Scan::Foreign, Scan::Hello),
    }
}

/// `None` when the message is malformed.
fn offer(body: &[u8]) -> Option<Offer> {
    let mut r = Reader::new(body);
    // Version and random.
    r.bytes(2 + 32).ok()?;
    for len_bytes in [1, 2, 1] {
        // Session ID, cipher suites, compression methods.
        let len = if len_bytes == 1 { usize::from(r.u8().ok()?) } else { usize::from(r.u16().ok()?) };
        r.bytes(len).ok()?;
    }
    let mut found = Offer::default();
    let end = usize::from(r.u16().ok()?) + r.position();
    while r.position() < end {
        let kind = r.u16().ok()?;
        let len = usize::from(r.u16().ok()?);
        let at = r.position() + HEADER_LEN;
        r.bytes(len).ok()?;
        match kind {
            EXT_EARLY_DATA => found.early_data = true,
            EXT_QUIC_TRANSPORT_PARAMETERS => found.params = Some(at..at + len),
            _ => {}
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    const LEN_MAX: u64 = 1 << 16;

    fn hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut ext = Vec::new();
        for (kind, data) in extensions {
            ext.extend_from_slice(&kind.to_be_bytes());
            ext.extend_from_slice(&(data.len() as u16).to_be_bytes());
            ext.extend_from_slice(data);
        }
        let mut body = vec![3, 3];
        body.extend_from_slice(&[9; 32]);
        body.extend_from_slice(&[0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend_from_slice(&(ext.len() as u16).to_be_bytes());
        body.extend_from_slice(&ext);
        let len = (body.len() as u32).to_be_bytes();
        let mut out = vec![1, len[1], len[2], len[3]];
        out.extend_from_slice(&body);
        out
    }

    /// version_information of version 1 with these available.
    fn params(available: &[Version]) -> Vec<u8> {
        let params = TransportParameters {
            version_information: Some(VersionInformation { chosen: Version::V1, available: available.to_vec() }),
            initial_source_connection_id: crate::ConnectionId::new(&[]),
            ..TransportParameters::default()
        };
        let mut raw = Vec::new();
        params.encode(&mut raw, Side::Client);
        raw
    }

    #[test]
    fn the_clients_favourite_among_the_spoken_is_chosen() {
        let both = [Version::V1, Version::V2];
        let choose = |available: &[Version], early: bool, spoken: &[Version]| {
            let raw = params(available);
            let mut extensions: Vec<(u16, &[u8])> = vec![(0x1234, b"other"), (EXT_QUIC_TRANSPORT_PARAMETERS, &raw)];
            if early {
                extensions.push((EXT_EARLY_DATA, b""));
            }
            let bytes = hello(&extensions);
            let Scan::Hello(offer) = scan(&bytes, LEN_MAX) else { panic!("not seen") };
            offer.choose(&bytes, Version::V1, spoken)
        };
        assert_eq!(choose(&[Version::V2, Version::V1], false, &both), Version::V2);
        assert_eq!(choose(&[Version::V1, Version::V2], false, &both), Version::V1);
        assert_eq!(choose(&[Version(0x0a1a_2a3a), Version::V2, Version::V1], false, &both), Version::V2);
        assert_eq!(choose(&[Version::V2, Version::V1], false, &[Version::V1]), Version::V1);
        assert_eq!(choose(&[Version::V2, Version::V1], true, &both), Version::V1, "early data stays where it is");
    }

    #[test]
    fn parts_of_a_hello_are_no_hello() {
        let bytes = hello(&[(EXT_QUIC_TRANSPORT_PARAMETERS, &params(&[Version::V1])), (0, b"x")]);
        for len in 0..bytes.len() {
            assert_eq!(scan(&bytes[..len], LEN_MAX), Scan::Incomplete, "{len}");
        }
        assert!(matches!(scan(&bytes, LEN_MAX), Scan::Hello(_)));
        assert_eq!(scan(&[2], LEN_MAX), Scan::Foreign);
        assert_eq!(scan(&[1, 1, 0, 1, 0], LEN_MAX), Scan::Foreign, "longer than any hello");
        let mut short = bytes.clone();
        short[3] -= 1;
        assert_eq!(scan(&short, LEN_MAX), Scan::Foreign, "the last extension is cut");
    }
}
