//! Settings of the interface: file, environment and flags in that order, each honoured or refused with the reason.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::stage::{CLIENT, Io, SERVER, Server, Stage, check_io, report};

/// The user and the group without privileges.
const NOBODY: u32 = 65534;

/// A server with a file of settings, variables and flags; what it says if it refuses.
fn server(stage: &Stage, file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<Server, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("settings.toml");
    std::fs::write(&path, file).unwrap();
    let mut command = stage.warpline(SERVER, Io::Udp);
    command.env_remove("WARPLINE_IO").arg("--config").arg(&path);
    command.args(["perf", "server", "--bind", "[::]:4433"]).envs(variables.iter().copied()).args(flags);
    // Its input ends at once, and with it the server, if it gets so far.
    let probe = command.stdin(std::process::Stdio::piped()).output().unwrap();
    if !probe.status.success() {
        return Err(String::from_utf8_lossy(&probe.stderr).into_owned());
    }
    Ok(Server::start(&mut command))
}

const FILE: &str = "io = \"xdp\"\ninterface = \"wl0\"\nxdp_frames = 4096\n[perf.server]\nxdp_queues = [0, \"1\"]\n";

/// What the only worker reports of its queues.
fn reported(server: Server) -> Value {
    let said = server.end();
    serde_json::from_str::<Value>(said.lines().last().unwrap()).unwrap()["xdp"].take()
}

#[test]
fn flags_come_before_variables_and_variables_before_the_file() {
    let Some(stage) = Stage::with_queues("order", 2) else { return };
    let started = |variables: &[(&str, &str)], flags: &[&str]| {
        let report = reported(server(&stage, FILE, variables, flags).unwrap());
        (report[0]["frames"]["all"].clone(), report[0]["queues"].clone())
    };
    let variables = [("WARPLINE_XDP_FRAMES", "5120"), ("WARPLINE_XDP_QUEUES", "0")];
    assert_eq!(started(&[], &[]), (json!(2 * 4096), json!([0, 1])));
    assert_eq!(started(&variables, &[]), (json!(5120), json!([0])));
    assert_eq!(started(&variables, &["--xdp-frames", "6144", "--xdp-queues", "1"]), (json!(6144), json!([1])));
}

#[test]
fn cores_workers_and_nodes_are_honoured() {
    let Some(stage) = Stage::with_queues("cores", 2) else { return };
    let file = format!("{FILE}workers = 2\ncores = [1, 0]\n");
    let server = server(&stage, &file, &[("WARPLINE_NUMA_NODE", "0")], &[]).unwrap();
    let proc = format!("/proc/{}", server.id());
    let mut pinned = Vec::new();
    for thread in std::fs::read_dir(format!("{proc}/task")).unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let field = |name| status.lines().find_map(|line: &str| line.strip_prefix(name)).unwrap().trim().to_owned();
        if field("Name:").starts_with("warpline-") {
            pinned.push((field("Name:"), field("Cpus_allowed_list:")));
        }
    }
    pinned.sort();
    let expected = [("warpline-0", "1"), ("warpline-1", "0")].map(|(name, core)| (name.to_owned(), core.to_owned()));
    assert_eq!(pinned, expected);
    match std::fs::read_to_string(format!("{proc}/numa_maps")) {
        Ok(maps) => assert!(maps.lines().filter(|line| line.contains(" bind:0 ")).count() >= 2, "{maps}"),
        Err(error) => println!("NUMA skipped: this kernel does not tell: {error}"),
    }
    let report = reported(server);
    assert_eq!((&report[0]["queues"], &report[1]["queues"]), (&json!([0]), &json!([1])));
}

#[test]
fn who_computes_checksums_is_a_setting() {
    let Some(stage) = Stage::with_queues("sums", 1) else { return };
    let file = "io = \"xdp\"\ninterface = \"wl0\"\nxdp_checksums = \"own\"\n";
    let reason = |variables: &[(&str, &str)], flags: &[&str]| {
        reported(server(&stage, file, variables, flags).unwrap())[0]["reason"].as_str().unwrap().to_owned()
    };
    let kernel = [("WARPLINE_XDP_CHECKSUMS", "kernel")];
    for (reason, who) in [
        (reason(&[], &[]), "checksums computed here, as asked for"),
        (reason(&kernel, &[]), "checksums by the kernel, as asked for"),
        (reason(&kernel, &["--xdp-checksums", "device"]), "checksums by the device"),
    ] {
        assert!(reason.contains(who), "{reason:?} does not say {who:?}");
    }
    let refused = |flags: &[&str]| server(&stage, file, &[], flags).map(|_| ()).unwrap_err();
    let said = refused(&["--xdp-checksums", "kernel", "--xdp-mode", "zero-copy"]);
    assert!(said.contains("the kernel computes them in copy mode only"), "{said}");
    match stage.net.exec(SERVER, "ethtool -K wl0 tx off") {
        Ok(_) => assert!(refused(&["--xdp-checksums", "device"]).contains("the device does not")),
        Err(reason) => println!("a device without checksums skipped: no ethtool: {reason}"),
    }
}

#[test]
fn each_way_of_waking_serves() {
    let Some(stage) = Stage::with_queues("wakeups", 1) else { return };
    for way in ["send", "poll", "uring"] {
        let file = format!("io = \"xdp\"\ninterface = \"wl0\"\nxdp_wakeups = \"{way}\"\n");
        let server = match server(&stage, &file, &[], &[]) {
            Ok(server) => server,
            Err(said) => {
                assert!(way == "uring" && said.contains("io_uring"), "{way}: {said}");
                println!("{way} skipped: {said}");
                continue;
            }
        };
        let mut command = stage.warpline(CLIENT, Io::Xdp);
        command.args(["perf", "client", "10.77.0.1:4433", "--insecure", "--scenario", "reqresp", "--in-flight", "20"]);
        command.args(["--duration", "1", "--xdp-wakeups", way]);
        let report = report(&command.output().unwrap());
        assert!(report["requests"].as_u64().unwrap() > 0, "{way}: {report}");
        println!("{way}: {} requests", report["requests"]);
        server.end();
    }
}

#[test]
fn a_host_is_kept_on_its_cores() {
    let Some(stage) = Stage::with_queues("hostcores", 1) else { return };
    let dir = tempfile::tempdir().unwrap();
    let command = |cores: &str| {
        let mut command = stage.warpline(SERVER, Io::Xdp);
        command.arg("host").arg(dir.path()).args(["--json", "--cores", cores]);
        command
    };
    let host = Server::start(&mut command("1"));
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.id())).unwrap();
    let kept = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    assert_eq!(kept, "1");
    host.end();
    let refused = command("0,1000").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("not all of the cores"), "{said}");
}

/// The unit in `docs/deploy-afxdp.md`: what it runs, as nobody and with its capabilities. Each of them is needed; instead of
/// CAP_IPC_LOCK a limit will do.
#[test]
fn nobody_with_four_capabilities_serves() {
    let Some(stage) = Stage::with_queues("least", 1) else { return };
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let [shared, state, got] = ["shared", "state", "got"].map(|name| dir.path().join(name));
    [&shared, &state].into_iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
    std::fs::write(shared.join("file"), vec![7; 300_000]).unwrap();
    std::os::unix::fs::chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
    let all = ["net_raw", "net_admin", "bpf", "ipc_lock"];
    let command = |held: &[&str], locked_max: &str| {
        let held: String = held.iter().map(|one| format!(",+{one}")).collect();
        let mut command = stage.inside(SERVER, "prlimit");
        command.arg(format!("--memlock={locked_max}:{locked_max}")).arg("setpriv");
        command.args(["reuid", "regid"].map(|id| format!("--{id}={NOBODY}")));
        command.args(["--clear-groups", "--no-new-privs"]);
        command.args(["inh-caps", "ambient-caps", "bounding-set"].map(|set| format!("--{set}=-all{held}")));
        command.arg(env!("CARGO_BIN_EXE_warpline")).arg("host").arg(&shared).args([
            "--io",
            "xdp",
            "--interface",
            "wl0",
        ]);
        command.args(["--bind", "[::]:4433", "--json", "--state-dir"]).arg(&state).env("HOME", "/");
        command
    };
    let refusal = |held, locked_max| match command(held, locked_max).arg("--help").output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("no ip: {error}")),
    };
    if let Some(reason) = refusal(&all, "65536") {
        return println!("skipped: {reason}");
    }
    // What counts is the capability in the first case, in the second the limit, of 8 MiB for 6 MiB of frames. Zero-copy is tried
    // first, and until its socket is gone the kernel has the frames twice.
    for (held, locked_max, settings) in
        [(&all[..], "65536", &[][..]), (&all[..3], "8388608", &["--xdp-frames", "3072"])]
    {
        if let Some(reason) = refusal(held, locked_max) {
            println!("CAP_IPC_LOCK replaced by a limit skipped: {reason}");
            continue;
        }
        let host = Server::start(command(held, locked_max).args(settings));
        check_io(&host.ready["io"], &host.ready["xdp"], Io::Xdp);
        let mut client = stage.warpline(CLIENT, Io::Udp);
        client.args(["get", host.ready["code"].as_str().unwrap(), "--json", "-q", "-o"]).arg(&got);
        let fetched = report(&client.output().unwrap());
        assert_eq!((&fetched["files"], &fetched["verified"]), (&json!(1), &json!(true)), "{fetched}");
        std::fs::remove_dir_all(&got).unwrap();
        host.end();
    }
    for missing in all {
        let held: Vec<&str> = all.into_iter().filter(|one| *one != missing).collect();
        let refused = command(&held, "65536").output().unwrap();
        let (said, named) = (String::from_utf8_lossy(&refused.stderr), format!("CAP_{}", missing.to_uppercase()));
        assert!(!refused.status.success() && said.contains(&named), "without {missing}: {said}");
    }
}

#[test]
fn what_cannot_be_honoured_is_refused_with_the_reason() {
    let Some(stage) = Stage::with_queues("refused", 2) else { return };
    let refused = |file: &str, flags: &[&str], part: &str| {
        let said = server(&stage, file, &[], flags).map(|_| ()).expect_err(part);
        assert!(said.contains(part), "{flags:?}: {said:?} does not say {part:?}");
    };
    refused(FILE, &["--xdp-queues", "5"], "wl0 has no queue 5: it has 2, counted from 0");
    refused(FILE, &["--xdp-frames", "100"], "frames per queue");
    refused(FILE, &["--xdp-frame-size", "1500"], "frames of 2048 or 4096 bytes");
    refused(FILE, &["--numa-node", "77"], "NUMA node 77");
    refused(FILE, &["--cores", "0,1"], "one core for each worker");
    refused(FILE, &["--cores", "1000"], "core 1000 is not there");
    refused(FILE, &["--cores", "x"], "is no number");
    refused(&format!("{FILE}xdp_queue = 1\n"), &[], "`xdp_queue` is no setting");
    refused("[perf.sever]\nio = \"xdp\"\n", &[], "[sever] is no command");
    refused("io = \"xdp\"\n", &[], "needs --interface");
    stage.net.ip(SERVER, "link set wl0 mtu 3000");
    refused(FILE, &["--xdp-frame-size", "2048"], "too small for an MTU of 3000");
}
