//! `warpline perf`, `warpline host` with `warpline get`, and `warpline h3`.

use std::path::Path;

use crate::stage::{CLIENT, ENDS, Io, SERVER, Server, Stage, check_io, report};

#[test]
fn perf_measures_over_every_way() {
    let Some(stage) = Stage::new("perf") else { return };
    for [server_io, client_io] in ENDS {
        let mut command = stage.warpline(SERVER, server_io);
        let server = Server::start(command.args(["perf", "server", "--bind", "[::]:4433"]));
        let mut moved = 0;
        for (way, address) in &stage.ways {
            for (scenario, counted) in
                [("download", "bytes"), ("upload", "bytes"), ("reqresp", "requests"), ("datagram-echo", "requests")]
            {
                let size = if scenario == "datagram-echo" { "1000" } else { "1000000" };
                let run = |seconds| {
                    let mut command = stage.warpline(CLIENT, client_io);
                    command.args(["perf", "client", &format!("{address}:4433"), "--insecure", "--scenario", scenario]);
                    command.args(["--duration", seconds, "--warmup", "0.1", "--in-flight", "20", "--bytes", size]);
                    command.output().unwrap()
                };
                // A slow machine may get nothing done in a moment.
                let short = run("0.3");
                let report = report(&if short.status.success() { short } else { run("20") });
                println!("{server_io:?} to {client_io:?}, {way}, {scenario}: {}", report[counted]);
                assert!(report[counted].as_u64().unwrap() > 0, "{way}, {scenario}: {report}");
                check_io(&report["io"]["backend"], &report["io"]["xdp"], client_io);
                moved += report["io"]["datagrams"].as_u64().unwrap();
            }
        }
        let said = server.end();
        let report: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        check_io(&report["backend"], &report["xdp"], server_io);
        let datagrams = report["datagrams"].as_u64().unwrap();
        assert!(datagrams > moved / 2, "the server saw {datagrams}, the clients {moved}");
    }
}

/// Handshakes take long enough for one worker to fall behind. The second has no queue: it is a guest, and the report says whose.
#[test]
fn a_server_under_load_has_as_many_workers_as_it_may() {
    let Some(stage) = Stage::new("grow") else { return };
    let mut command = stage.warpline(SERVER, Io::Xdp);
    let server = Server::start(command.args(["perf", "server", "--bind", "[::]:4433", "--max-workers", "2"]));
    let (_, address) = &stage.ways[0];
    let mut command = stage.warpline(CLIENT, Io::Udp);
    command.args(["perf", "client", &format!("{address}:4433"), "--insecure", "--scenario", "connect"]);
    // The first change comes after two seconds at the earliest.
    report(&command.args(["--duration", "4", "--warmup", "0.1", "--in-flight", "32"]).output().unwrap());
    let said = server.end();
    let report: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(report["workers"], 2, "{report}");
    assert!(report["growth_asked"].as_u64().is_some_and(|times| times > 0), "{report}");
    let guests = [0, 1].map(|at| &report["xdp"][at]).map(|one| (&one["worker"], &one["queues"], &one["guest_of"]));
    let expected = serde_json::json!([[0, [0], null], [1, [], 0]]);
    assert_eq!(serde_json::json!(guests), expected, "{report}");
}

/// Some files of sizes that matter.
fn make_tree(dir: &Path) {
    std::fs::create_dir_all(dir.join("a/b")).unwrap();
    for (name, len) in [("empty", 0), ("a/one", 1), ("a/packet", 1452), ("a/b/some", 300_000), ("large", 7_000_001)] {
        let bytes: Vec<u8> = (0..len).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    for n in 0..200 {
        std::fs::write(dir.join(format!("a/b/{n}")), n.to_string()).unwrap();
    }
}

/// Every file below `dir`, by its path there.
fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let (mut dirs, mut all) = (vec![dir.to_owned()], Vec::new());
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                all.push((path.strip_prefix(dir).unwrap().to_owned(), std::fs::read(&path).unwrap()));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn directories_are_shared_over_every_way() {
    let Some(stage) = Stage::new("share") else { return };
    let dir = tempfile::tempdir().unwrap();
    let shared = dir.path().join("shared");
    make_tree(&shared);
    let sent = files(&shared);
    for (number, [host_io, get_io]) in ENDS.into_iter().enumerate() {
        for (way, address) in &stage.ways {
            let place = |what: &str| dir.path().join(format!("{number}-{way}-{what}"));
            let mut command = stage.warpline(SERVER, host_io);
            command.arg("host").arg(&shared).args(["--bind", &format!("{address}:4434"), "--json", "--state-dir"]);
            let host = Server::start(command.arg(place("state")));
            check_io(&host.ready["io"], &host.ready["xdp"], host_io);
            let mut command = stage.warpline(CLIENT, get_io);
            command.args(["get", host.ready["code"].as_str().unwrap(), "--json", "-q", "-o"]).arg(place("got"));
            let report = report(&command.output().unwrap());
            check_io(&report["io"], &report["xdp"], get_io);
            host.end();
            assert!(files(&place("got")) == sent, "{host_io:?} to {get_io:?}, {way}");
            println!("{host_io:?} to {get_io:?}, {way}: {} files", sent.len());
        }
    }
}

#[test]
fn http3_is_served_and_fetched_and_both_say_over_what() {
    let Some(stage) = Stage::new("http3") else { return };
    let dir = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..500_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(dir.path().join("file"), &content).unwrap();
    let got = dir.path().join("got");
    for [serve_io, get_io] in ENDS {
        let mut command = stage.warpline(SERVER, serve_io);
        command.args(["h3", "serve", "--bind", "[::]:4435", "--json"]).arg(dir.path());
        let server = Server::start(&mut command);
        check_io(&server.ready["io"], &server.ready["xdp"], serve_io);
        for (way, address) in &stage.ways {
            let mut command = stage.warpline(CLIENT, get_io);
            command.args(["h3", "get", &format!("https://{address}:4435/file"), "--insecure", "--json", "-o"]);
            let report = report(&command.arg(&got).output().unwrap());
            check_io(&report["io"], &report["xdp"], get_io);
            assert!(std::fs::read(&got).unwrap() == content, "{serve_io:?} to {get_io:?}, {way}");
        }
        server.end();
    }
}
