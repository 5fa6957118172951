//! Sessions and tokens that outlive the process, in a file.

mod common;

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use common::{ALPN, loopback, pattern};
use warpline::{
    ClientConfig, ClientMemory, EarlyData, Endpoint, Identity, MemoryError, MemoryFile, MemoryFileError, MemoryStats,
    ServerConfig, TlsOptions, Trust,
};

const NAME: &str = "localhost";

/// A server that answers every question with "answer".
fn server(id: &Identity) -> Endpoint {
    let config = ServerConfig::with_single_cert(vec![id.certificate.clone()], id.key(), ALPN)
        .and_then(|config| config.early_data(true))
        .expect("the certificate fits its key");
    loopback().server(config).start().expect("loopback is there")
}

async fn serve(server: Endpoint) {
    while let Some(connection) = server.accept().await {
        tokio::spawn(async move {
            let Ok((mut reply, mut question)) = connection.accept_bi().await else { return };
            assert_eq!(question.read_to_end(5000).await.expect("all of it"), pattern(1, 3000));
            reply.write_all(b"answer").await.expect("the window takes it");
            reply.finish().expect("the stream is open");
            connection.closed().await;
        });
    }
}

/// What a process of a client begins with.
fn process(id: &Identity) -> ClientConfig {
    let options = TlsOptions { portable_sessions: true, ..TlsOptions::default() };
    let trust = Trust::Fingerprint(id.fingerprint().0.to_vec());
    let mut config = ClientConfig::with_options(&trust, ALPN, &options, None).expect("the fingerprint is whole");
    config.early_data = true;
    config
}

/// A process: reads the file, asks once, and writes the file. Returns what it found, and what became of its early data.
async fn run(file: &Path, id: &Identity, address: SocketAddr) -> (MemoryStats, EarlyData, bool) {
    let (file, config) = (MemoryFile::new(file), process(id));
    let found = file.load_server(&config.memory, NAME, address.port()).expect("the file is good");
    let client = loopback().start().expect("loopback is there");
    let connection = client.connect_early(address, NAME, config.clone()).await.expect("it can be tried");
    let (mut send, mut answer) = connection.open_bi().await.expect("a stream");
    send.write_all(&pattern(1, 3000)).await.expect("the window takes it");
    send.finish().expect("the stream is open");
    assert_eq!(answer.read_to_end(100).await.expect("the answer"), b"answer");
    connection.handshake().await.expect("the handshake ends well");
    let result = (connection.early_data().await, connection.is_resumed().await);
    // The server gives two.
    let expected = found.sessions.max(1) + 1;
    for _ in 0..6000 {
        if config.memory.stats().sessions >= expected && config.memory.stats().tokens >= 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    connection.close(0, b"");
    client.shutdown(0, b"").await;
    file.save(&config.memory).expect("the directory is there");
    assert_eq!((config.memory.stats().sessions, config.memory.stats().tokens), (0, 0), "moved, not copied");
    (found, result.0.expect("the connection lives"), result.1.expect("the connection lives"))
}

fn id() -> Identity {
    Identity::generate([NAME]).expect("the name is fine")
}

/// What a file has, which is taken out of it.
fn content(file: &Path) -> MemoryStats {
    MemoryFile::new(file).load(&ClientMemory::default()).expect("the file is good")
}

/// A file with a visit's sessions in it.
async fn filled(file: &Path) -> (Identity, SocketAddr) {
    let id = id();
    let server = server(&id);
    let address = server.local_addr();
    tokio::spawn(serve(server));
    run(file, &id, address).await;
    (id, address)
}

#[tokio::test]
async fn the_second_process_sends_early_data_and_the_third_one_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("servers");
    let id = id();
    let server = server(&id);
    let address = server.local_addr();
    let served = tokio::spawn(serve(server.clone()));
    let (found, early, is_resumed) = run(&path, &id, address).await;
    assert_eq!((found, early, is_resumed), (MemoryStats::default(), EarlyData::None, false), "there is no file yet");
    for sessions in [2, 3, 4] {
        let (found, early, is_resumed) = run(&path, &id, address).await;
        assert_eq!((found.servers, found.sessions), (1, sessions), "each uses one and is given two");
        assert!(found.tokens >= 1);
        assert_eq!((early, is_resumed), (EarlyData::Accepted, true));
    }
    assert_eq!(fs::metadata(&path).expect("it was saved").permissions().mode() & 0o7777, 0o600);
    let beside: Vec<_> = fs::read_dir(dir.path()).expect("it is there").flatten().map(|e| e.file_name()).collect();
    assert_eq!(beside.len(), 2, "the file and its lock: {beside:?}");
    server.shutdown(0, b"").await;
    served.await.expect("the server served well");
}

#[tokio::test]
async fn what_one_process_takes_another_one_does_not_find() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("servers");
    let (_, address) = filled(&path).await;
    let file = MemoryFile::new(&path);
    let (first, second) = (ClientMemory::default(), ClientMemory::default());
    let other = file.load_server(&second, NAME, address.port() ^ 1).expect("the file is good");
    assert_eq!(other, MemoryStats::default(), "another server's");
    assert!(matches!(file.load_server(&second, "no name", 1), Err(MemoryFileError::Name(_))));
    assert_eq!(file.load(&first).expect("the file is good").sessions, 2);
    assert_eq!(file.load(&second).expect("the file is good"), MemoryStats::default());
    file.save(&second).expect("the directory is there");
    file.save(&first).expect("the directory is there");
    assert_eq!(content(&path).sessions, 2, "what was not used is there for the next one");
}

#[tokio::test]
async fn many_processes_at_once_lose_and_double_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("servers");
    let mut visits = Vec::new();
    for _ in 0..4 {
        visits.push(filled(&path).await);
    }
    let start = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (start, path) = (Arc::clone(&start), path.clone());
            std::thread::spawn(move || {
                let (file, memory) = (MemoryFile::new(path), ClientMemory::default());
                start.wait();
                for _ in 0..20 {
                    file.load(&memory).expect("the file is good");
                    file.save(&memory).expect("the file is good");
                }
                assert_eq!(memory.stats().sessions, 0);
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("it went well");
    }
    let memory = ClientMemory::default();
    assert_eq!(MemoryFile::new(&path).load(&memory).expect("the file is good").sessions, 8);
    let ports: HashSet<u16> = visits.iter().map(|(_, address)| address.port()).collect();
    for port in &ports {
        let name = rustls_pki_types::ServerName::try_from(NAME).expect("a name");
        let one = memory.move_server(&name, *port, &ClientMemory::default());
        assert_eq!(one.sessions, 8 / ports.len(), "of each server");
    }
}

#[tokio::test]
async fn what_is_no_good_is_named_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("servers");
    filled(&path).await;
    let good = fs::read(&path).expect("it was saved");
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 1;
    let mut newer = good.clone();
    newer[16] = 3;
    let contents = [
        (b"# my notes\n".to_vec(), MemoryError::Foreign),
        (Vec::new(), MemoryError::Foreign),
        (damaged, MemoryError::Damaged),
        (good[..good.len() - 1].to_vec(), MemoryError::Damaged),
        (newer, MemoryError::Format(3)),
        (vec![b'w'; (64 << 20) + 1], MemoryError::TooLong),
    ];
    let memory = ClientMemory::default();
    for (bytes, why) in contents {
        fs::write(&path, &bytes).expect("the directory is there");
        for result in [MemoryFile::new(&path).load(&memory).map(|_| ()), MemoryFile::new(&path).save(&memory)] {
            let error = result.expect_err("the file is no good");
            assert!(matches!(&error, MemoryFileError::Content { source, .. } if *source == why), "{error}");
            assert!(error.to_string().contains(path.to_str().expect("a name of text")), "{error}");
        }
        assert!(fs::read(&path).expect("it is there") == bytes, "not overwritten");
    }
    assert_eq!(memory.stats(), MemoryStats::default());

    fs::write(&path, &good).expect("the directory is there");
    for mode in [0o644, 0o660, 0o602] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        let error = MemoryFile::new(&path).load(&memory).expect_err("secrets that others can read");
        assert!(matches!(error, MemoryFileError::Exposed { mode: found, .. } if found == mode), "{error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
    assert_eq!(content(&path).sessions, 2);

    let pipe = dir.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).expect("a pipe");
    for odd in [dir.path(), &pipe] {
        let error = MemoryFile::new(odd).load(&memory).expect_err("no file");
        assert!(matches!(error, MemoryFileError::Content { source: MemoryError::Foreign, .. }), "{error}");
    }
    let nowhere = dir.path().join("none/servers");
    assert!(matches!(MemoryFile::new(&nowhere).load(&memory), Err(MemoryFileError::Io { .. })));
}

#[tokio::test]
async fn a_file_that_cannot_be_written_costs_no_session() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("servers");
    filled(&path).await;
    let (file, memory) = (MemoryFile::new(&path), ClientMemory::default());
    // The place where the new file is written is taken.
    let in_the_way = dir.path().join("servers.new");
    fs::create_dir(&in_the_way).expect("the directory is there");
    assert!(matches!(file.load(&memory), Err(MemoryFileError::Io { .. })));
    assert_eq!(memory.stats().sessions, 0, "nothing is used that is still in the file");
    fs::remove_dir(&in_the_way).expect("it is empty");
    assert_eq!(file.load(&memory).expect("the file is good").sessions, 2);
    fs::create_dir(&in_the_way).expect("the directory is there");
    assert!(matches!(file.save(&memory), Err(MemoryFileError::Io { .. })));
    assert_eq!(memory.stats().sessions, 2);
    fs::remove_dir(&in_the_way).expect("it is empty");
    // What a crash leaves is no hindrance.
    fs::write(&in_the_way, b"half").expect("the directory is there");
    file.save(&memory).expect("the directory is there");
    assert_eq!(content(&path).sessions, 2);
}
