//! Connections whose packets are sealed and opened by a device. The device is a program's here; what is tested is what comes to it, and
//! what happens when it does not do its work.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use common::{ALPN, Pair, Transfer};
use rustls::CipherSuite;
use warpline_proto::config::{ClientConfig, ServerConfig, TlsOptions, TransportConfig, Trust};
use warpline_proto::{BATCH_MAX, DeviceKey, Job, PacketCrypto, PacketDevice, TrialError, install_device, try_device};

/// What the device saw, and how it is.
#[derive(Debug, Default)]
struct State {
    keys: AtomicUsize,
    sealed: [AtomicUsize; BATCH_MAX + 1],
    opened: [AtomicUsize; BATCH_MAX + 1],
    is_full: AtomicBool,
    is_broken: AtomicBool,
    /// It seals to something else than AES-GCM says.
    is_wrong: AtomicBool,
}

impl State {
    fn packets(batches: &[AtomicUsize]) -> usize {
        batches.iter().enumerate().map(|(len, count)| len * count.load(Relaxed)).sum()
    }
}

#[derive(Debug)]
struct Device(Arc<State>);

struct Key {
    key: LessSafeKey,
    iv: [u8; 12],
    state: Arc<State>,
}

impl PacketDevice for Device {
    fn key(&self, key: &[u8], iv: &[u8; 12]) -> Option<Box<dyn DeviceKey>> {
        if self.0.is_full.load(Relaxed) {
            return None;
        }
        self.0.keys.fetch_add(1, Relaxed);
        let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap());
        Some(Box::new(Key { key, iv: *iv, state: Arc::clone(&self.0) }))
    }
}

impl Key {
    fn nonce(&self, number: u64) -> Nonce {
        let mut nonce = self.iv;
        nonce[4..].iter_mut().zip(number.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
        Nonce::assume_unique_for_key(nonce)
    }
}

impl DeviceKey for Key {
    fn seal(&self, jobs: &mut [Job<'_>]) -> bool {
        if self.state.is_broken.load(Relaxed) {
            return false;
        }
        self.state.sealed[jobs.len()].fetch_add(1, Relaxed);
        for job in jobs {
            let (header, rest) = job.packet.split_at_mut(job.header_len);
            let (text, tag) = rest.split_last_chunk_mut::<16>().unwrap();
            let made = self.key.seal_in_place_separate_tag(self.nonce(job.number), Aad::from(&*header), text);
            tag.copy_from_slice(made.unwrap().as_ref());
            tag[0] ^= u8::from(self.state.is_wrong.load(Relaxed));
            job.is_done = true;
        }
        true
    }

    fn open(&self, jobs: &mut [Job<'_>]) -> bool {
        if self.state.is_broken.load(Relaxed) {
            return false;
        }
        self.state.opened[jobs.len()].fetch_add(1, Relaxed);
        for job in jobs {
            let (header, rest) = job.packet.split_at_mut(job.header_len);
            job.is_done = self.key.open_in_place(self.nonce(job.number), Aad::from(&*header), rest).is_ok();
        }
        true
    }

    fn batch_min(&self) -> usize {
        2
    }
}

/// The one device of this process, as it is at first, for one test at a time.
fn device() -> (MutexGuard<'static, ()>, Arc<State>) {
    static STATE: Mutex<Option<Arc<State>>> = Mutex::new(None);
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut state = STATE.lock().unwrap();
    let state = state.get_or_insert_with(|| {
        let state = Arc::new(State::default());
        assert!(install_device(Arc::new(Device(Arc::clone(&state)))));
        state
    });
    for count in [&state.keys].into_iter().chain(&state.sealed).chain(&state.opened) {
        count.store(0, Relaxed);
    }
    state.is_full.store(false, Relaxed);
    state.is_broken.store(false, Relaxed);
    state.is_wrong.store(false, Relaxed);
    (turn, Arc::clone(state))
}

fn pair(suite: CipherSuite) -> Pair {
    let transport = TransportConfig { packets_per_key: Some(300), ..TransportConfig::default() };
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let chain = vec![identity.cert.der().clone()];
    let key = identity.signing_key.serialize_der().try_into().unwrap();
    let server = ServerConfig::with_packet_crypto(PacketCrypto::Device, chain, key, &[ALPN]).unwrap();
    let mut pair = Pair::with_server(&transport, server.transport(transport.clone()).unwrap());
    let options = TlsOptions { crypto: PacketCrypto::Device, suites: vec![suite], ..TlsOptions::default() };
    let client = ClientConfig::with_options(&Trust::Anyone, &[ALPN], &options, None).unwrap();
    pair.client_config = client.transport(transport).unwrap();
    pair
}

/// Three megabytes each way.
fn transfer(pair: &mut Pair, ends: (warpline_proto::ConnectionHandle, warpline_proto::ConnectionHandle)) {
    let (client, server) = ends;
    let mut up = Transfer::open(&mut pair.client, client, 3_000_000);
    let mut down = Transfer::open(&mut pair.server, server, 3_000_000);
    pair.run_until(Duration::from_secs(100), |p| {
        up.pump(p.now, (&mut p.client, client), (&mut p.server, server));
        down.pump(p.now, (&mut p.server, server), (&mut p.client, client));
        up.done && down.done
    });
    pair.run_for(Duration::from_secs(2));
}

const AES: [CipherSuite; 2] = [CipherSuite::TLS13_AES_128_GCM_SHA256, CipherSuite::TLS13_AES_256_GCM_SHA384];

#[test]
fn trains_come_to_the_device_as_batches() {
    let (_turn, state) = device();
    for suite in AES {
        let mut pair = pair(suite);
        let ends = pair.established();
        assert_eq!(state.keys.swap(0, Relaxed), 4, "those of 1-RTT: two directions, at two ends");
        transfer(&mut pair, ends);
        let updates = pair.client.peek(ends.0).unwrap().stats().key_updates;
        assert!(updates > 0 && state.keys.swap(0, Relaxed) as u64 >= 4 * updates, "new keys are the device's, too");
        for batches in [&state.sealed, &state.opened] {
            let packets = State::packets(batches);
            assert!(
                packets > 2_000,
                "{packets} of some 6,000 packets: acknowledgements and what is paced slowly come alone"
            );
            assert!(batches[BATCH_MAX].load(Relaxed) > 0, "full batches: {batches:?}");
            assert_eq!(batches[0].load(Relaxed) + batches[1].load(Relaxed), 0, "one alone is not worth the way");
            batches.iter().for_each(|count| count.store(0, Relaxed));
        }
        assert_eq!(pair.client.packet_drops().not_authentic + pair.server.packet_drops().not_authentic, 0);
    }
}

#[test]
fn a_device_that_fails_in_the_middle_is_done_without() {
    let (_turn, state) = device();
    let mut pair = pair(AES[0]);
    let ends = pair.established();
    transfer(&mut pair, ends);
    state.is_broken.store(true, Relaxed);
    let before = (State::packets(&state.sealed), State::packets(&state.opened));
    transfer(&mut pair, ends);
    assert_eq!((State::packets(&state.sealed), State::packets(&state.opened)), before);
    state.is_broken.store(false, Relaxed);
    transfer(&mut pair, ends);
    assert!(State::packets(&state.sealed) > before.0 + 300);
    assert_eq!(pair.client.packet_drops().not_authentic + pair.server.packet_drops().not_authentic, 0);
}

#[test]
fn a_device_without_room_for_keys_and_other_ciphers_are_left_to_the_library() {
    let (_turn, state) = device();
    state.is_full.store(true, Relaxed);
    let mut full = pair(AES[0]);
    let ends = full.established();
    transfer(&mut full, ends);
    state.is_full.store(false, Relaxed);
    let mut chacha = pair(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    let ends = chacha.established();
    transfer(&mut chacha, ends);
    assert_eq!(state.keys.load(Relaxed) + State::packets(&state.sealed) + State::packets(&state.opened), 0);
}

#[test]
fn a_trial_finds_what_a_device_does_wrong_and_lets_go_of_it() {
    let state = Arc::new(State::default());
    let device: Arc<dyn PacketDevice> = Arc::new(Device(Arc::clone(&state)));
    let trial = try_device(&device).unwrap();
    assert!(trial.batch_min.is_none_or(|packets| trial.device < trial.library && packets <= BATCH_MAX));
    assert!(trial.batch_min.is_some() || trial.device >= trial.library);
    assert!(state.sealed[BATCH_MAX].load(Relaxed) > 0 && state.opened[BATCH_MAX].load(Relaxed) > 0);
    for (flag, error) in [
        (&state.is_wrong, TrialError::Disagrees),
        (&state.is_broken, TrialError::Refused),
        (&state.is_full, TrialError::NoKey),
    ] {
        flag.store(true, Relaxed);
        assert_eq!(try_device(&device), Err(error));
        flag.store(false, Relaxed);
    }
    let gone = Arc::downgrade(&device);
    drop(device);
    assert!(gone.upgrade().is_none(), "a device that does not pay is closed");
}
