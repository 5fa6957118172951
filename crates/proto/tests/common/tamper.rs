//! A client whose packets can be rewritten on their way: opened with its keys, edited, and sealed again.

#![allow(clippy::unwrap_used, dead_code, missing_docs, reason = "shared by test binaries, each of which uses a part")]

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CipherSuite, DigitallySignedStruct, KeyLog, NamedGroup, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use warpline_proto::config::{ClientConfig, ServerConfig, TransportConfig};
use warpline_proto::{ConnectionError, ConnectionHandle, Event, TransportErrorCode, provider};
use warpline_wire::PacketNumber;

use super::{ALPN, Pair};

/// RFC 9001 section 5.2.
const INITIAL_SALT: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f,
    0x0a,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    Initial,
    Early,
    Handshake,
    OneRtt,
}

/// Secrets of the client, as TLS logs them.
#[derive(Debug, Default)]
struct Secrets(Mutex<HashMap<String, Vec<u8>>>);

impl KeyLog for Secrets {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().insert(label.to_owned(), secret.to_vec());
    }
}

/// Content with everything, even without a proof that the server holds its key.
#[derive(Debug)]
pub struct TrustsAnyone;

impl ServerCertVerifier for TrustsAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519, SignatureScheme::RSA_PSS_SHA256]
    }
}

struct Len(usize);

impl hkdf::KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label of RFC 8446 section 7.1, without a context.
fn expand(secret: &[u8], label: &str, len: usize) -> Vec<u8> {
    let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, secret);
    let label = format!("tls13 {label}");
    let length = (len as u16).to_be_bytes();
    let info: [&[u8]; 4] = [&length, &[label.len() as u8], label.as_bytes(), &[0]];
    let mut out = vec![0; len];
    prk.expand(&info, Len(len)).unwrap().fill(&mut out).unwrap();
    out
}

/// Keys of one level, TLS_AES_128_GCM_SHA256.
struct Keys {
    secret: Vec<u8>,
    packet: LessSafeKey,
    iv: Vec<u8>,
    header: aead::quic::HeaderProtectionKey,
}

impl Keys {
    fn new(secret: &[u8]) -> Self {
        let packet = UnboundKey::new(&aead::AES_128_GCM, &expand(secret, "quic key", 16)).unwrap();
        let header = expand(secret, "quic hp", 16);
        Self {
            secret: secret.to_vec(),
            packet: LessSafeKey::new(packet),
            iv: expand(secret, "quic iv", 12),
            header: aead::quic::HeaderProtectionKey::new(&aead::quic::AES_128, &header).unwrap(),
        }
    }

    fn initial(dcid: &[u8]) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &INITIAL_SALT);
        let secret = salt.extract(dcid);
        let info: [&[u8]; 4] = [&32u16.to_be_bytes(), &[15], b"tls13 client in", &[0]];
        let mut out = vec![0; 32];
        secret.expand(&info, Len(32)).unwrap().fill(&mut out).unwrap();
        Self::new(&out)
    }

    /// Key and IV after so many updates (RFC 9001 section 6.1); `None` for none.
    fn updated(&self, generation: u32) -> Option<(LessSafeKey, Vec<u8>)> {
        let mut secret = self.secret.clone();
        for _ in 0..generation {
            secret = expand(&secret, "quic ku", 32);
        }
        let key = UnboundKey::new(&aead::AES_128_GCM, &expand(&secret, "quic key", 16)).unwrap();
        (generation > 0).then(|| (LessSafeKey::new(key), expand(&secret, "quic iv", 12)))
    }
}

fn nonce(iv: &[u8], pn: u64) -> Nonce {
    let mut nonce: [u8; 12] = iv.try_into().unwrap();
    for (byte, pn) in nonce[4..].iter_mut().zip(pn.to_be_bytes()) {
        *byte ^= pn;
    }
    Nonce::assume_unique_for_key(nonce)
}

/// What an edit sees of a packet: the first byte without protection, and the frames.
pub struct Clear {
    pub first: u8,
    pub payload: Vec<u8>,
    /// How many key updates it is sealed after; 1-RTT packets only.
    pub generation: u32,
    /// What the last byte of its source ID is changed by; long headers only.
    pub scid_change: u8,
}

impl Clear {
    /// Puts a frame before all others.
    pub fn prepend(&mut self, frame: &[u8]) {
        self.payload.splice(0..0, frame.iter().copied());
    }

    /// The packet carries this and nothing else.
    pub fn replace(&mut self, frames: &[u8]) {
        self.payload = frames.to_vec();
        while self.payload.len() < 4 {
            self.payload.push(0);
        }
    }
}

type Edit = Box<dyn FnMut(&mut Clear)>;

/// Rewrites the client's packets.
pub struct Tamper {
    secrets: Arc<Secrets>,
    initial_dcid: Vec<u8>,
    edits: VecDeque<(Level, Edit)>,
    /// Largest packet number that was rewritten.
    largest: HashMap<Level, Option<u64>>,
    /// How many packets were rewritten.
    pub edited: usize,
}

fn varint(bytes: &[u8]) -> (u64, usize) {
    let len = 1 << (bytes[0] >> 6);
    let value = bytes[1..len].iter().fold(u64::from(bytes[0] & 0x3f), |v, b| v << 8 | u64::from(*b));
    (value, len)
}

impl Tamper {
    /// Applies `edit` to the next packet of `level`.
    pub fn edit(&mut self, level: Level, edit: impl FnMut(&mut Clear) + 'static) {
        self.edits.push_back((level, Box::new(edit)));
    }

    fn keys(&self, level: Level) -> Option<Keys> {
        let label = match level {
            Level::Initial => return Some(Keys::initial(&self.initial_dcid)),
            Level::Early => "CLIENT_EARLY_TRAFFIC_SECRET",
            Level::Handshake => "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            Level::OneRtt => "CLIENT_TRAFFIC_SECRET_0",
        };
        self.secrets.0.lock().unwrap().get(label).map(|s| Keys::new(s))
    }

    /// Rewrites a datagram of the client.
    pub fn datagram(&mut self, bytes: &mut Vec<u8>) {
        let mut at = 0;
        while at < bytes.len() {
            let (level, length_at, pn_at, end) = Self::layout(&bytes[at..], &mut self.initial_dcid);
            let end = at + end;
            let Some(which) = self.edits.iter().position(|(l, _)| *l == level) else {
                at = end;
                continue;
            };
            let Some(keys) = self.keys(level) else { return };
            let Some((_, mut edit)) = self.edits.remove(which) else { return };
            let packet = bytes[at..end].to_vec();
            let rewritten =
                rewrite(&keys, &packet, (length_at, pn_at), self.largest.entry(level).or_default(), &mut edit);
            let len = rewritten.len();
            bytes.splice(at..end, rewritten);
            self.edited += 1;
            at += len;
        }
    }

    /// Level, place of the length field, place of the packet number, and the packet's end.
    fn layout(bytes: &[u8], initial_dcid: &mut Vec<u8>) -> (Level, Option<usize>, usize, usize) {
        if bytes[0] & 0x80 == 0 {
            return (Level::OneRtt, None, 9, bytes.len());
        }
        let dcid_len = usize::from(bytes[5]);
        let scid_at = 6 + dcid_len;
        let mut at = scid_at + 1 + usize::from(bytes[scid_at]);
        let level = match bytes[0] & 0x30 {
            0x00 => Level::Initial,
            0x10 => Level::Early,
            _ => Level::Handshake,
        };
        if level == Level::Initial {
            if initial_dcid.is_empty() {
                *initial_dcid = bytes[6..6 + dcid_len].to_vec();
            }
            let (token, len) = varint(&bytes[at..]);
            at += len + token as usize;
        }
        let (length, len) = varint(&bytes[at..]);
        (level, Some(at), at + len, at + len + length as usize)
    }
}

fn rewrite(
    keys: &Keys,
    packet: &[u8],
    (length_at, pn_at): (Option<usize>, usize),
    largest: &mut Option<u64>,
    edit: &mut Edit,
) -> Vec<u8> {
    let mut bytes = packet.to_vec();
    let low_bits = if length_at.is_some() { 0x0f } else { 0x1f };
    let mask = keys.header.new_mask(&bytes[pn_at + 4..pn_at + 20]).unwrap();
    bytes[0] ^= mask[0] & low_bits;
    let pn_len = usize::from(bytes[0] & 3) + 1;
    for (byte, mask) in bytes[pn_at..pn_at + pn_len].iter_mut().zip(&mask[1..]) {
        *byte ^= mask;
    }
    let truncated = bytes[pn_at..pn_at + pn_len].iter().fold(0u64, |pn, b| pn << 8 | u64::from(*b));
    let pn = PacketNumber::expand(truncated, pn_len, *largest).0;
    *largest = (*largest).max(Some(pn));
    let header_len = pn_at + pn_len;
    let (header, body) = bytes.split_at_mut(header_len);
    let payload =
        keys.packet.open_in_place(nonce(&keys.iv, pn), Aad::from(&*header), body).expect("the client's own packet");
    let mut clear = Clear { first: header[0], payload: payload.to_vec(), generation: 0, scid_change: 0 };
    edit(&mut clear);
    let mut out = header.to_vec();
    out[0] = clear.first;
    if length_at.is_some() {
        let scid_at = 6 + usize::from(out[5]);
        let last = scid_at + usize::from(out[scid_at]);
        out[last] ^= clear.scid_change;
    }
    let (mut pn_len, mut header_len) = (pn_len, header_len);
    if clear.payload.is_empty() {
        // Only a number of four bytes leaves a sample for the header's protection then.
        out.truncate(pn_at);
        out.extend_from_slice(&(pn as u32).to_be_bytes());
        out[0] |= 3;
        (pn_len, header_len) = (4, pn_at + 4);
    }
    if let Some(at) = length_at {
        let length = (pn_len + clear.payload.len() + 16) as u16 | 0x4000;
        assert_eq!(out[at] >> 6, 1, "the length field has two bytes");
        out[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }
    let mut body = clear.payload;
    let updated = keys.updated(clear.generation);
    if clear.generation % 2 == 1 {
        out[0] ^= 0x04;
    }
    let (packet, iv) = updated.as_ref().map_or((&keys.packet, &keys.iv), |(key, iv)| (key, iv));
    packet.seal_in_place_append_tag(nonce(iv, pn), Aad::from(&out), &mut body).unwrap();
    out.extend_from_slice(&body);
    let mask = keys.header.new_mask(&out[pn_at + 4..pn_at + 20]).unwrap();
    out[0] ^= mask[0] & low_bits;
    for (byte, mask) in out[pn_at..header_len].iter_mut().zip(&mask[1..]) {
        *byte ^= mask;
    }
    out
}

/// A client's first Initial packet, to be sent under any number of connection IDs.
pub struct FirstInitial {
    header: Vec<u8>,
    payload: Vec<u8>,
    pn: u64,
    pn_at: usize,
}

impl FirstInitial {
    /// Of the datagram that it fills.
    pub fn of(datagram: &[u8]) -> Self {
        let mut dcid = Vec::new();
        let (level, _, pn_at, end) = Tamper::layout(datagram, &mut dcid);
        assert_eq!((level, end), (Level::Initial, datagram.len()));
        let keys = Keys::initial(&dcid);
        let mut bytes = datagram.to_vec();
        let pn_len = protect(&keys, &mut bytes, pn_at, None);
        let pn = bytes[pn_at..pn_at + pn_len].iter().fold(0u64, |pn, b| pn << 8 | u64::from(*b));
        let (header, body) = bytes.split_at_mut(pn_at + pn_len);
        let payload = keys.packet.open_in_place(nonce(&keys.iv, pn), Aad::from(&*header), body).unwrap().to_vec();
        Self { header: header.to_vec(), payload, pn, pn_at }
    }

    /// The same as the first packet of another connection, whose ID is as long.
    pub fn to(&self, dcid: &[u8]) -> Vec<u8> {
        let keys = Keys::initial(dcid);
        let mut bytes = self.header.clone();
        assert_eq!(usize::from(bytes[5]), dcid.len());
        bytes[6..6 + dcid.len()].copy_from_slice(dcid);
        let mut body = self.payload.clone();
        keys.packet.seal_in_place_append_tag(nonce(&keys.iv, self.pn), Aad::from(&bytes), &mut body).unwrap();
        let pn_len = bytes.len() - self.pn_at;
        bytes.extend_from_slice(&body);
        protect(&keys, &mut bytes, self.pn_at, Some(pn_len));
        bytes
    }
}

/// Puts the protection of a long header on or takes it off; the length of the packet number, if not given, is read
/// behind it.
fn protect(keys: &Keys, bytes: &mut [u8], pn_at: usize, pn_len: Option<usize>) -> usize {
    let mask = keys.header.new_mask(&bytes[pn_at + 4..pn_at + 20]).unwrap();
    bytes[0] ^= mask[0] & 0x0f;
    let pn_len = pn_len.unwrap_or_else(|| usize::from(bytes[0] & 3) + 1);
    for (byte, mask) in bytes[pn_at..pn_at + pn_len].iter_mut().zip(&mask[1..]) {
        *byte ^= mask;
    }
    pn_len
}

/// A client that can be tampered with and a server that does not know of it.
pub struct Tampered {
    pub pair: Pair,
    pub tamper: Rc<RefCell<Tamper>>,
}

impl Tampered {
    pub fn new(transport: &TransportConfig) -> Self {
        let pair = Pair::new(transport);
        Self::on(pair, transport, ALPN)
    }

    pub fn with_server(transport: &TransportConfig, server: ServerConfig) -> Self {
        Self::on(Pair::with_server(transport, server), transport, ALPN)
    }

    pub fn with_alpn(alpn: &[u8]) -> Self {
        let transport = TransportConfig::default();
        Self::on(Pair::new(&transport), &transport, alpn)
    }

    fn on(mut pair: Pair, transport: &TransportConfig, alpn: &[u8]) -> Self {
        let secrets = Arc::new(Secrets::default());
        let mut crypto = (*provider::provider(provider::PacketCrypto::Auto).unwrap()).clone();
        crypto.cipher_suites.retain(|s| s.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
        // A small ClientHello: it fits one packet.
        crypto.kx_groups.retain(|g| g.name() == NamedGroup::X25519);
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(crypto))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustsAnyone))
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.to_vec()];
        tls.key_log = secrets.clone();
        pair.client_config = ClientConfig::with_rustls(Arc::new(tls)).unwrap().transport(transport.clone()).unwrap();
        let tamper =
            Tamper { secrets, initial_dcid: Vec::new(), edits: VecDeque::new(), largest: HashMap::new(), edited: 0 };
        let tamper = Rc::new(RefCell::new(tamper));
        let hand = Rc::clone(&tamper);
        pair.filter = Box::new(move |_, from_client, bytes| {
            if from_client {
                hand.borrow_mut().datagram(bytes);
            }
            true
        });
        Self { pair, tamper }
    }

    /// Edits the client's next packet of `level`.
    pub fn edit(&self, level: Level, edit: impl FnMut(&mut Clear) + 'static) {
        self.tamper.borrow_mut().edit(level, edit);
    }

    /// Has the client send a 1-RTT packet that carries `frames` and nothing else.
    pub fn send(&mut self, client: ConnectionHandle, frames: &[u8]) {
        let frames = frames.to_vec();
        self.edit(Level::OneRtt, move |clear| clear.replace(&frames));
        let before = self.tamper.borrow().edited;
        self.pair.client.connection(client).unwrap().ping();
        let tamper = Rc::clone(&self.tamper);
        self.pair.run_until(Duration::from_secs(10), |_| tamper.borrow().edited > before);
    }

    /// The code with which the server closes; the client must have been told the same.
    pub fn server_error(&mut self) -> TransportErrorCode {
        fn code(events: &[(ConnectionHandle, Event)]) -> Option<TransportErrorCode> {
            events.iter().find_map(|(_, event)| match event {
                Event::Closed(ConnectionError::Transport(error)) => Some(error.code),
                _ => None,
            })
        }
        self.pair.run_until(Duration::from_secs(10), |p| code(&p.server_events).is_some());
        self.pair.run_for(Duration::from_millis(100));
        let found = code(&self.pair.server_events).unwrap();
        let told = self.pair.client_events.iter().any(
            |(_, event)| matches!(event, Event::Closed(ConnectionError::ClosedByPeer { code, .. }) if *code == found),
        );
        assert!(told, "the client was not told {found}: {:?}", self.pair.client_events);
        found
    }
}
