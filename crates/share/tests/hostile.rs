//! A host that lies: every lie is told as such, and nothing outside the target is touched.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::{Scene, fetch, run};
use warpline::{Connection, Endpoint, Identity, RecvStream, SendStream, ServerConfig};
use warpline_share::manifest::{Entry, Kind, Mtime, encode_entry};
use warpline_share::{JoinCode, NetOptions, ShareError, connect};
use warpline_wire::varint;

const SECRET: [u8; 16] = [5; 16];
const ENTRIES: u8 = 4;
const LIST_END: u8 = 6;
const PART: u8 = 8;
const SERVED: u8 = 9;
const CHUNKS: u8 = 13;
const COMPARED: u8 = 14;

/// What the fake host says: on the control stream after its greeting, and on the data stream.
#[derive(Default)]
struct Script {
    control: Vec<Vec<u8>>,
    data: Vec<Vec<u8>>,
    /// What the receiver has as `f` already.
    older: Vec<u8>,
    /// Closes the connection once everything is said, or delivered.
    goes: bool,
}

/// The receiver's greeting: length, kind, version and proof.
const HELLO_LEN: usize = 4 + 1 + 4 + 32;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = ((body.len() + 1) as u32).to_be_bytes().to_vec();
    out.push(kind);
    out.extend_from_slice(body);
    out
}

fn put(out: &mut Vec<u8>, value: u64) {
    let mut bytes = [0; 8];
    let len = varint::encode(value, &mut bytes);
    out.extend_from_slice(&bytes[..len]);
}

fn number(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, value);
    out
}

fn entry(path: &str, kind: Kind) -> Entry {
    Entry { path: path.as_bytes().to_vec(), kind, mode: 0o755, mtime: Mtime::default(), xattrs: Vec::new() }
}

fn dir(path: &str) -> Entry {
    entry(path, Kind::Directory)
}

fn file(path: &str, size: u64) -> Entry {
    entry(path, Kind::File { size })
}

fn link(path: &str, to: &str) -> Entry {
    entry(path, Kind::Symlink { target: to.as_bytes().to_vec() })
}

fn hard(path: &str, to: &str) -> Entry {
    entry(path, Kind::HardLink { target: to.as_bytes().to_vec() })
}

/// A list of entries and its end.
fn list(entries: &[Entry]) -> Vec<Vec<u8>> {
    let mut body = Vec::new();
    let mut previous: &[u8] = b"";
    for entry in entries {
        encode_entry(&mut body, entry, previous);
        previous = &entry.path;
    }
    vec![message(ENTRIES, &body), message(LIST_END, &number(entries.len() as u64))]
}

/// A part with one extent of data and its right values.
fn part(id: u64, start: u64, data: &[u8], size: u64) -> Vec<u8> {
    let mut body = number(id);
    put(&mut body, start);
    put(&mut body, data.len() as u64);
    for (i, group) in data.chunks(16384).enumerate() {
        let value = if size <= 16384 {
            *blake3::hash(group).as_bytes()
        } else {
            use blake3::hazmat::HasherExt;
            let mut hasher = blake3::Hasher::new();
            hasher.set_input_offset(start + i as u64 * 16384);
            hasher.update(group);
            hasher.finalize_non_root()
        };
        body.extend_from_slice(&value);
    }
    put(&mut body, 1);
    put(&mut body, 0);
    put(&mut body, data.len() as u64);
    body.extend_from_slice(data);
    message(PART, &body)
}

async fn proof(connection: &Connection) -> blake3::Hash {
    let material = connection.export_keying_material(32, b"EXPORTER-warpline-share", b"").await.unwrap().unwrap();
    let key = blake3::derive_key("warpline share 2026 proof", &SECRET);
    blake3::Hasher::new_keyed(&key).update(b"host").update(&material).finalize()
}

/// Serves one receiver by the script, and then keeps quiet with all streams open.
async fn serve(endpoint: Endpoint, script: Script) {
    let Some(connection) = endpoint.accept().await else { return };
    let Ok((mut control, mut requests)) = connection.accept_bi().await else { return };
    let mut body = 1u32.to_be_bytes().to_vec();
    body.extend_from_slice(proof(&connection).await.as_bytes());
    put(&mut body, 5);
    body.extend_from_slice(b"share\0");
    let Ok(()) = control.write_all(&message(2, &body)).await else { return };
    let goes = script.goes;
    let kept = say(&connection, &mut control, &mut requests, script).await;
    if goes {
        wait_for_wants(&mut requests).await;
        connection.close(3, b"goes");
        return;
    }
    connection.closed().await;
    drop((kept, requests, control));
}

/// Once the receiver has asked for something, it has begun with the list and noted all files of its first message.
async fn wait_for_wants(requests: &mut RecvStream) {
    let mut hello_left = HELLO_LEN + 1;
    while hello_left > 0 {
        match requests.read_chunk(hello_left).await {
            Ok(Some(chunk)) => hello_left -= chunk.len(),
            _ => return,
        }
    }
}

async fn say(
    connection: &Connection,
    control: &mut SendStream,
    requests: &mut RecvStream,
    script: Script,
) -> (Option<SendStream>, Option<RecvStream>) {
    for message in script.control {
        let Ok(()) = control.write_all(&message).await else { return (None, None) };
    }
    if script.data.is_empty() {
        return (None, None);
    }
    wait_for_wants(requests).await;
    let Ok(mut data) = connection.open_uni().await else { return (None, None) };
    for message in script.data {
        if data.write_all(&message).await.is_err() {
            break;
        }
    }
    (Some(data), None)
}

/// What the receiver makes of the script. There is a sentinel beside the target, which must stay as it is.
async fn outcome(script: Script) -> (Scene, Result<(), ShareError>) {
    let scene = Scene::new();
    let beside = scene.dir.path().join("beside");
    fs::create_dir(&beside).unwrap();
    fs::write(beside.join("file"), b"untouched").unwrap();
    if !script.older.is_empty() {
        fs::create_dir(scene.target()).unwrap();
        fs::write(scene.target().join("f"), &script.older).unwrap();
    }
    let id = Identity::generate(["warpline"]).unwrap();
    let config =
        ServerConfig::with_single_cert(vec![id.certificate.clone()], id.key(), &[b"warpline-share/1"]).unwrap();
    let endpoint = Endpoint::builder().bind(([127, 0, 0, 1], 0)).workers(1).server(config).start().unwrap();
    let mut fingerprint = [0; 16];
    fingerprint.copy_from_slice(&id.fingerprint().0[..16]);
    let code = JoinCode { addresses: vec![endpoint.local_addr()], fingerprint, secret: SECRET };
    let serving = tokio::spawn(serve(endpoint, script));
    let outcome = fetch(&code, &scene.target()).await.map(drop);
    serving.await.unwrap();
    let left: Vec<_> = common::tree(&beside).into_iter().map(|(path, seen)| (path, seen.size)).collect();
    assert_eq!(left, [(b"".to_vec(), 0), (b"file".to_vec(), 9)]);
    assert_eq!(fs::read(beside.join("file")).unwrap(), b"untouched");
    let mut names: Vec<_> = fs::read_dir(scene.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert!(
        names.iter().all(|n| ["beside", "source", "target"].iter().any(|k| Path::new(n) == Path::new(k))),
        "{names:?}"
    );
    (scene, outcome)
}

/// The script must be refused as the other side's fault.
fn refused(what: &str, script: Script) {
    let (_, outcome) = run(outcome(script));
    assert!(matches!(outcome, Err(ShareError::Peer(_))), "{what}: {outcome:?}");
}

fn refused_list(what: &str, entries: &[Entry]) {
    refused(what, Script { control: list(entries), ..Script::default() });
}

#[test]
fn the_fake_host_can_be_honest() {
    let data = common::noise(1, 100_000);
    let script = Script {
        control: list(&[dir(""), file("f", 100_000), file("g", 3)]),
        data: vec![
            part(2, 0, &data, 100_000),
            message(SERVED, &number(2)),
            part(3, 0, b"abc", 3),
            message(SERVED, &number(3)),
        ],
        ..Script::default()
    };
    let (scene, outcome) = run(outcome(script));
    outcome.unwrap();
    assert_eq!(fs::read(scene.target().join("f")).unwrap(), data);
    assert_eq!(fs::read(scene.target().join("g")).unwrap(), b"abc");
}

#[test]
fn lists_that_lead_out_of_the_target() {
    refused_list("an entry below a link", &[dir(""), link("l", "../beside"), file("l/file", 4)]);
    refused_list("a directory below a link", &[dir(""), link("l", "../beside"), dir("l/new")]);
    refused_list("a link instead of a directory", &[dir(""), dir("d"), link("d", "../beside"), file("d/file", 0)]);
    refused_list("a path upwards", &[dir(""), file("../beside/file", 0)]);
    refused_list("a path through the parent", &[dir(""), dir("a"), file("a/../../beside/file", 0)]);
    refused_list("an absolute path", &[dir(""), file("/tmp/file", 0)]);
    refused_list("the directory for incomplete files", &[dir(""), link(".warpline-partial", "../beside")]);
    refused_list("another name of something outside", &[dir(""), hard("f", "../beside/file")]);
}

#[test]
fn a_second_name_through_a_link_is_not_made() {
    let entries = [dir(""), link("a", "../beside"), hard("b", "a/file")];
    let (scene, outcome) = run(outcome(Script { control: list(&entries), ..Script::default() }));
    assert!(outcome.is_err());
    assert!(!scene.target().join("b").exists());
}

#[test]
fn lists_that_contradict_themselves() {
    refused_list("a name twice", &[dir(""), file("a", 0), file("a", 0)]);
    refused_list("two directories of one name", &[dir(""), dir("a"), dir("a")]);
    refused_list("out of order", &[dir(""), file("b", 0), file("a", 0)]);
    refused_list("below a file", &[dir(""), file("a", 0), file("a/b", 0)]);
    let mut control = list(&[dir(""), file("a", 0)]);
    control[1] = message(LIST_END, &number(3));
    refused("a wrong count", Script { control, ..Script::default() });
    refused("no entry", Script { control: vec![message(ENTRIES, b"\x7f\xff\xff")], ..Script::default() });
    refused("no kind", Script { control: vec![message(0, b"")], ..Script::default() });
    refused("a kind for elsewhere", Script { control: vec![message(7, b"")], ..Script::default() });
    refused("no length", Script { control: vec![vec![0; 5]], ..Script::default() });
    refused("an absurd length", Script { control: vec![vec![0xff; 5]], ..Script::default() });
    let mut impossible = file("a", 0);
    impossible.mtime.nanos = 1_000_000_000;
    refused_list("an impossible time", &[dir(""), impossible]);
    let mut attributes = file("a", 0);
    attributes.xattrs = (0..40).map(|i| (format!("user.{i}").into_bytes(), vec![0; 2000])).collect();
    refused_list("too many attributes", &[dir(""), attributes]);
}

/// A share of one file of 40,000 bytes, whose number is 2.
fn about_a_file(data: Vec<Vec<u8>>) -> Script {
    Script { control: list(&[dir(""), file("f", 40_000)]), data, ..Script::default() }
}

#[test]
fn parts_that_do_not_belong() {
    let data = common::noise(2, 40_000);
    let whole = || part(2, 0, &data, 40_000);
    let served = || message(SERVED, &number(2));
    refused("a part that nobody asked for", about_a_file(vec![part(1, 0, &data, 40_000)]));
    refused("a part beyond the end", about_a_file(vec![part(2, 32_768, &data[..16_384], 40_000)]));
    refused("a part far beyond the end", about_a_file(vec![part(2, 1 << 40, &data[..16_384], 1 << 41)]));
    refused("a part that ends within a group", about_a_file(vec![part(2, 0, &data[..20_000], 40_000)]));
    refused("a part twice", about_a_file(vec![whole(), whole()]));
    refused("a part after the end", about_a_file(vec![whole(), served(), whole()]).and_more());
    refused("an end without data", about_a_file(vec![served()]));
    refused("an end after half the data", about_a_file(vec![part(2, 0, &data[..16_384], 40_000), served()]));
    refused("an end of what was not asked for", about_a_file(vec![message(SERVED, &number(77))]));
    refused("a part that is no part", about_a_file(vec![message(PART, &[0xff; 40])]));
    refused("a message for elsewhere", about_a_file(vec![message(ENTRIES, b"")]));
    let (_, contradiction) = run(outcome(about_a_file(vec![whole(), message(SERVED, &[&[2][..], &[9; 32]].concat())])));
    assert!(matches!(contradiction, Err(ShareError::Corrupt { .. })), "{contradiction:?}");
}

impl Script {
    /// Another file is asked for that never comes, so that the transfer is not over.
    fn and_more(mut self) -> Self {
        self.control = list(&[dir(""), file("f", 40_000), file("g", 1)]);
        self
    }
}

/// Size of a file that the receiver has an older version of; the file's number is 2.
const CHANGED: u64 = 3 << 20;

fn about_a_changed_file(data: Vec<Vec<u8>>) -> Script {
    let older = common::noise(3, 2 << 20);
    Script { control: list(&[dir(""), file("f", CHANGED)]), data, older, goes: false }
}

/// A message of chunks of these lengths.
fn chunks(id: u64, lengths: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut body = number(id);
    for len in lengths {
        put(&mut body, len);
        body.extend_from_slice(&[7; 16]);
    }
    message(CHUNKS, &body)
}

/// The end of a list, with a hash.
fn compared(id: u64) -> Vec<u8> {
    message(COMPARED, &[number(id), vec![9; 32]].concat())
}

#[test]
fn lists_of_chunks_that_nobody_can_have_made() {
    let refused = |what, data| refused(what, about_a_changed_file(data));
    let all = || chunks(2, std::iter::repeat_n(16_384, CHANGED as usize / 16_384));
    refused("chunks of no length", vec![chunks(2, [0])]);
    refused("chunks that are too short", vec![chunks(2, [4095])]);
    refused("chunks that are too long", vec![chunks(2, [65_537])]);
    refused("a length beyond all measure", vec![chunks(2, [varint::MAX])]);
    refused("chunks beyond the end", vec![all(), chunks(2, [16_384])]);
    refused("chunks that end behind the end", vec![chunks(2, std::iter::repeat_n(65_535, 49))]);
    refused("chunks without an end", vec![chunks(2, std::iter::repeat_n(4096, 60_000))]);
    refused("chunks for what was not compared", vec![chunks(3, [16_384])]);
    refused("chunks after the end", vec![message(COMPARED, &number(2)), chunks(2, [16_384])]);
    refused("half a chunk", vec![message(CHUNKS, &[2, 0x40, 0x80, 1, 2, 3])]);
    refused("no number", vec![message(CHUNKS, b"")]);
    refused("an end before all of it", vec![chunks(2, [16_384]), compared(2)]);
    refused("an end of what was not compared", vec![compared(3)]);
    refused("two ends", vec![all(), compared(2), compared(2)]);
    refused("half a hash", vec![all(), message(COMPARED, &[2; 20])]);
    refused("bytes that were not asked for yet", vec![part(2, 0, &common::noise(1, 1 << 20), CHANGED)]);
}

#[test]
fn lists_of_chunks_for_a_receiver_that_has_no_older_version() {
    refused("chunks", Script { older: Vec::new(), ..about_a_changed_file(vec![chunks(2, [16_384])]) });
    refused("an end of chunks", Script { older: Vec::new(), ..about_a_changed_file(vec![compared(2)]) });
}

#[test]
fn a_host_that_goes_ends_a_transfer_that_waits_for_its_list() {
    let script = Script { goes: true, ..about_a_changed_file(Vec::new()) };
    let (scene, outcome) = run(outcome(script));
    assert!(matches!(outcome, Err(ShareError::Connection(_))), "{outcome:?}");
    assert_eq!(fs::read(scene.target().join("f")).unwrap(), common::noise(3, 2 << 20));
}

#[test]
fn sizes_that_no_disk_holds() {
    let huge = varint::MAX;
    let (scene, outcome) = run(outcome(Script { control: list(&[dir(""), file("f", huge)]), ..Script::default() }));
    assert!(outcome.is_err());
    assert!(!scene.target().join("f").exists());
}

/// A list of more files than may be asked for at once, with names of `len` bytes.
fn many_files(len: usize) -> Vec<Vec<u8>> {
    let entries: Vec<_> = (0..12_000).map(|i| file(&format!("{i:0len$}"), 1)).collect();
    let mut out = list(&[dir("")]);
    out.pop();
    for some in entries.chunks(500) {
        // Each message begins with a whole path of its own.
        let mut body = Vec::new();
        let mut previous: Vec<u8> = Vec::new();
        for entry in some {
            encode_entry(&mut body, entry, &previous);
            previous.clone_from(&entry.path);
        }
        out.push(message(ENTRIES, &body));
    }
    out
}

#[test]
fn a_wrong_message_ends_a_transfer_whose_plan_waits() {
    // The plan waits until fewer files are outstanding.
    let wrong = || vec![message(SERVED, &number(1 << 40))];
    refused("while files are outstanding", Script { control: many_files(20), data: wrong(), ..Script::default() });
    // The plan waits until its requests are read, which never happens.
    refused("while requests are not read", Script { control: many_files(250), data: wrong(), ..Script::default() });
}

#[test]
fn a_host_that_goes_ends_a_transfer_whose_plan_waits() {
    for len in [20, 250] {
        let (_, outcome) = run(outcome(Script { control: many_files(len), goes: true, ..Script::default() }));
        assert!(matches!(outcome, Err(ShareError::Connection(_))), "{outcome:?}");
    }
}

#[test]
fn a_receiver_that_misbehaves_is_disconnected() {
    run(async {
        let scene = Scene::new();
        for i in 0..3_000 {
            fs::write(scene.source().join(format!("{i:0200}")), b"").unwrap();
        }
        let host = scene.source_host();
        let code = host.code();
        let proof = async |connection: &Connection| {
            let material =
                connection.export_keying_material(32, b"EXPORTER-warpline-share", b"").await.unwrap().unwrap();
            let key = blake3::derive_key("warpline share 2026 proof", &code.secret);
            blake3::Hasher::new_keyed(&key).update(b"receiver").update(&material).finalize()
        };
        // Nothing of what the host says is ever read, so its list waits for ever.
        let compare = |bits: u8| message(11, &[&[1, 1, b'f', 1][..], &[0; 12], &[1, bits]].concat());
        let bad = [
            message(PART, b""),
            message(7, &[0xff; 9]),
            vec![0; 8],
            message(7, &[1, 0, 0x40]),
            // Chunks that are too short or too long to be told, and half a request for them.
            compare(13),
            compare(23),
            message(11, &[1, 1, b'f']),
            message(12, b""),
            message(13, &[1]),
        ];
        for bad in bad {
            let (_endpoint, connection) = connect(code, &NetOptions::default()).await.unwrap();
            let (mut control, _answers) = connection.open_bi().await.unwrap();
            let mut hello = 1u32.to_be_bytes().to_vec();
            hello.extend_from_slice(proof(&connection).await.as_bytes());
            control.write_all(&message(1, &hello)).await.unwrap();
            control.write_all(&bad).await.unwrap();
            connection.closed().await;
        }
        // Who asks for lists again and again and reads none is held back like everyone who does not read, and holds up nobody.
        let (_endpoint, connection) = connect(code, &NetOptions::default()).await.unwrap();
        let (mut control, _answers) = connection.open_bi().await.unwrap();
        let mut hello = 1u32.to_be_bytes().to_vec();
        hello.extend_from_slice(proof(&connection).await.as_bytes());
        control.write_all(&message(1, &hello)).await.unwrap();
        let greedy = async {
            loop {
                control.write_all(&compare(14)).await.unwrap();
            }
        };
        assert!(tokio::time::timeout(std::time::Duration::from_millis(500), greedy).await.is_err());
        // And who is honest is served.
        scene.get(code).await.unwrap();
    });
}
