//! What the tests share: certificates, engines on loopback or in memory, and running something on a worker.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod load;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use warpline_engine::local::{Connection, RecvStream, SendStream, Worker};
use warpline_engine::{Engine, EngineConfig};
use warpline_pktio::IoConfig;
use warpline_pktio::memory::Hub;
use warpline_proto::config::{ClientConfig, ServerConfig, TransportConfig};

pub const ALPN: &[&[u8]] = &[b"test"];

/// A server and a client configuration that fit each other.
pub struct Pair {
    pub server: Arc<ServerConfig>,
    pub client: Arc<ClientConfig>,
}

pub fn pair() -> Pair {
    pair_with(TransportConfig::default(), TransportConfig::default())
}

pub fn pair_with(server: TransportConfig, client: TransportConfig) -> Pair {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("the name is fine");
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let server = ServerConfig::with_single_cert(vec![made.cert.der().clone()], key, ALPN)
        .and_then(|config| config.transport(server))
        .expect("the configuration is fine");
    let client = ClientConfig::insecure(ALPN).and_then(|config| config.transport(client)).expect("as above");
    Pair { server: Arc::new(server), client: Arc::new(client) }
}

pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub fn config(workers: usize) -> EngineConfig {
    let mut config = EngineConfig::new().expect("there are random bytes");
    config.bind = loopback();
    config.workers = workers;
    config.io = IoConfig { large_frames: 64, medium_frames: 128, small_frames: 512, ..IoConfig::default() };
    config
}

pub fn server_config(pair: &Pair, workers: usize) -> EngineConfig {
    EngineConfig { server: Some(Arc::clone(&pair.server)), ..config(workers) }
}

/// A client engine on loopback whose program does nothing.
pub fn client() -> Engine {
    Engine::start(config(1), |_| async {}).expect("loopback is there")
}

/// A server on loopback that serves each connection with `handler`.
pub fn server<H, F>(pair: &Pair, workers: usize, handler: H) -> Engine
where
    H: Fn(Connection) -> F + Send + Sync + Clone + 'static,
    F: Future<Output = ()> + 'static,
{
    Engine::start(server_config(pair, workers), serve(handler)).expect("loopback is there")
}

/// The program of a server: a task for every connection.
pub fn serve<H, F>(handler: H) -> impl Fn(Worker) -> std::pin::Pin<Box<dyn Future<Output = ()>>> + Send + Sync + 'static
where
    H: Fn(Connection) -> F + Send + Sync + Clone + 'static,
    F: Future<Output = ()> + 'static,
{
    move |worker| {
        let handler = handler.clone();
        Box::pin(async move {
            while let Some(connection) = worker.accept().await {
                worker.spawn(handler(connection)).expect("the program runs on its worker").detach();
            }
        })
    }
}

/// Two engines on a network in memory.
pub fn in_memory<H, F>(pair: &Pair, handler: H) -> (Engine, Engine)
where
    H: Fn(Connection) -> F + Send + Sync + Clone + 'static,
    F: Future<Output = ()> + 'static,
{
    let hub = Hub::new();
    let attach = |last| hub.attach(SocketAddr::from(([10, 0, 0, last], 4433))).expect("the address is free");
    let server = Engine::start_on(vec![attach(1)], server_config(pair, 1), serve(handler)).expect("nothing is refused");
    let client = Engine::start_on(vec![attach(9)], config(1), |_| async {}).expect("nothing is refused");
    (server, client)
}

/// Runs a future on the engine's first worker and waits for its result.
pub fn on_worker<T, P, F>(engine: &Engine, program: P) -> T
where
    T: Send + 'static,
    P: FnOnce(Worker) -> F + Send + 'static,
    F: Future<Output = T> + 'static,
{
    on_worker_number(engine, 0, program)
}

/// Runs a future on one of the engine's workers and waits for its result.
pub fn on_worker_number<T, P, F>(engine: &Engine, number: usize, program: P) -> T
where
    T: Send + 'static,
    P: FnOnce(Worker) -> F + Send + 'static,
    F: Future<Output = T> + 'static,
{
    let (done, result) = mpsc::channel();
    let command = Box::new(move || {
        let worker = Worker::current().expect("commands run on the worker");
        let future = program(worker.clone());
        let task = worker.spawn(async move { done.send(future.await).expect("the test waits") });
        task.expect("commands run on the worker").detach();
    });
    engine.workers()[number].post(command).expect("the worker takes commands");
    result.recv().expect("the program ends without a panic")
}

/// Sends back what comes in, stream by stream.
pub async fn echo(connection: Connection) {
    while let Ok((send, recv)) = connection.accept_bi().await {
        warpline_engine::local::spawn(echo_stream(send, recv)).expect("handlers run on the worker").detach();
    }
}

pub async fn echo_stream(mut send: SendStream, mut recv: RecvStream) {
    while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX).await {
        if send.write_chunk(chunk).await.is_err() {
            return;
        }
    }
}

/// Bytes that are different everywhere.
pub fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31 + seed * 7 + i / 251) % 256) as u8).collect()
}
