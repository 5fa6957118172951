//! A fleet behind a balancer that knows nothing but connection IDs (draft-ietf-quic-load-balancers).

mod common;

use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, UnboundCipherKey};
use common::{configs, loopback, pattern};
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use warpline::{Connection, Endpoint, Fault, QuicLb, TransportConfig};

const KEY: [u8; 16] = [0x5a; 16];
/// Bytes of server ID and nonce: with 16 together they are one block of AES.
const ID_LEN: usize = 3;
const NONCE_LEN: usize = 13;

/// The server IDs of the fleet.
const FLEET: [[u8; ID_LEN]; 2] = [[1, 0, 7], [2, 0, 9]];

/// What a balancer reads of a packet with a short header.
fn server_of(datagram: &[u8], encrypted: bool) -> Option<[u8; ID_LEN]> {
    let mut block: [u8; ID_LEN + NONCE_LEN] = datagram.get(2..)?.first_chunk().copied()?;
    if encrypted {
        let key = UnboundCipherKey::new(&AES_128, &KEY).and_then(DecryptingKey::ecb).expect("16 bytes are a key");
        key.decrypt(&mut block, DecryptionContext::None).expect("one block");
    }
    block.first_chunk().copied()
}

/// A balancer without any memory but for the sockets to the servers, which it can be told to forget.
struct Balancer {
    address: SocketAddr,
    forget: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    /// Packets that it found the server of by their connection ID.
    routed: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Balancer {
    fn start(servers: [SocketAddr; 2], encrypted: bool) -> Self {
        let front = socket();
        let address = front.local_addr().expect("it is bound");
        let (forget, stop, routed) = <(Arc<AtomicBool>, Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let (forgets, stops, counts) = (Arc::clone(&forget), Arc::clone(&stop), Arc::clone(&routed));
        let thread = std::thread::spawn(move || {
            let mut back: HashMap<(SocketAddr, usize), UdpSocket> = HashMap::new();
            let mut datagram = [0; 2_000];
            while !stops.load(Ordering::Relaxed) {
                if forgets.swap(false, Ordering::Relaxed) {
                    back.clear();
                }
                let mut idle = true;
                while let Ok((len, client)) = front.recv_from(&mut datagram) {
                    idle = false;
                    let server = if datagram[0] & 0x80 == 0 {
                        let id = server_of(&datagram[..len], encrypted).expect("packets are longer than IDs");
                        counts.fetch_add(1, Ordering::Relaxed);
                        FLEET.iter().position(|known| *known == id).expect("the ID of a server of the fleet")
                    } else {
                        // What begins a connection may go anywhere, but all of it to one place.
                        usize::from(client.port()) % 2
                    };
                    let upstream = back.entry((client, server)).or_insert_with(socket);
                    let _ = upstream.send_to(&datagram[..len], servers[server]);
                }
                for ((client, _), upstream) in &back {
                    while let Ok((len, _)) = upstream.recv_from(&mut datagram) {
                        idle = false;
                        let _ = front.send_to(&datagram[..len], client);
                    }
                }
                if idle {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        Self { address, forget, stop, routed, thread: Some(thread) }
    }

    /// From now on it sends to the servers from other ports: to them all clients have moved.
    fn forget(&self) {
        self.forget.store(true, Ordering::Relaxed);
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("every packet bears the ID of a server");
        }
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
    socket.set_nonblocking(true).expect("it can be");
    socket
}

/// A server that says which one it is and sends back what it gets.
async fn serve(endpoint: Endpoint, id: [u8; ID_LEN]) {
    while let Some(connection) = endpoint.accept().await {
        tokio::spawn(async move {
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                let mut answer = id.to_vec();
                answer.extend(recv.read_to_end(100_000).await.expect("the client lives"));
                send.write_all(&answer).await.expect("the client reads");
                send.finish().expect("the stream is open");
            }
        });
    }
}

/// Has something sent back; returns who did.
async fn ask(connection: &Connection, seed: usize) -> Vec<u8> {
    let (mut send, mut recv) = connection.open_bi().await.expect("the connection lives");
    let message = pattern(seed, 40_000);
    send.write_all(&message).await.expect("the server reads");
    send.finish().expect("the stream is open");
    let answer = recv.read_to_end(100_000).await.expect("the answer comes");
    let (id, echo) = answer.split_at(ID_LEN);
    assert!(echo == message, "as it was sent");
    id.to_vec()
}

async fn connections_stay_with_their_server(encrypted: bool) {
    let (config, client_config) = configs(TransportConfig::default());
    let (config, client_config) = (Arc::new(config), Arc::new(client_config));
    let fleet = FLEET.map(|id| {
        let lb = QuicLb::new(1, &id, NONCE_LEN, encrypted.then_some(&KEY), 1 << 40).expect("within bounds");
        // Several workers each: behind the balancer's part of the ID is the one by which the kernel finds the worker.
        loopback().workers(2).server(Arc::clone(&config)).quic_lb(lb).start().expect("loopback is there")
    });
    for (server, id) in fleet.iter().zip(FLEET) {
        tokio::spawn(serve(server.clone(), id));
    }
    let balancer = Balancer::start([fleet[0].local_addr(), fleet[1].local_addr()], encrypted);

    // Each client has a port of its own, which decides where it begins.
    let (mut clients, mut connections) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let client = loopback().start().expect("loopback is there");
        let connection = client.connect(balancer.address, "localhost", Arc::clone(&client_config)).await;
        connections.push(connection.expect("a server answers"));
        clients.push(client);
    }
    let mut served_by = Vec::new();
    for (seed, connection) in connections.iter().enumerate() {
        served_by.push(ask(connection, seed).await);
    }
    for round in 1..4 {
        balancer.forget();
        let before = balancer.routed.load(Ordering::Relaxed);
        for (seed, connection) in connections.iter().enumerate() {
            assert_eq!(ask(connection, seed + round).await, served_by[seed], "after its address has changed");
        }
        assert!(balancer.routed.load(Ordering::Relaxed) > before);
    }
    for server in &fleet {
        let stats = server.stats();
        // First packets bear IDs that the client has chosen, with the key elsewhere. Later ones reach their worker at once.
        assert!(stats.handed_over < 8 * 20, "{} of {} datagrams", stats.handed_over, stats.datagrams);
        server.shutdown(0, b"").await;
    }
    for client in clients {
        client.shutdown(0, b"").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_stay_with_their_server_by_ids_in_the_clear() {
    connections_stay_with_their_server(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_stay_with_their_server_by_encrypted_ids() {
    connections_stay_with_their_server(true).await;
}

#[test]
fn a_port_cannot_be_handed_over_with_such_ids() {
    let lb = QuicLb::new(0, &FLEET[0], 8, Some(&KEY), 0).expect("within bounds");
    let path = tempfile::tempdir().expect("a temporary directory");
    let refused = loopback().quic_lb(lb).restart_socket(path.path().join("socket")).start().expect_err("no mark");
    assert_eq!(refused.fault(), Fault::Caller);
    assert!(refused.to_string().contains("quic_lb"), "{refused}");
}
