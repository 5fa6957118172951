//! `Io::Auto` with an interface: AF_XDP once it has been tried, and what is taken where it is not to be had. Needs root; without
//! it each story says in one line that it was skipped.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/xdp.rs"]
mod ends;
#[path = "common/netns.rs"]
mod netns;

use std::io::ErrorKind;
use std::process::Command;
use std::time::Duration;

use common::{addr, config};
use ends::{STEERING, backend, echo, udp, xdp};
use netns::Pair;
use warpline_pktio::xdp::{InterfaceName, XdpConfig, XdpModes};
use warpline_pktio::{Backend, Io, IoConfig, IoKind};

fn auto(modes: XdpModes) -> IoConfig {
    let name = InterfaceName::new("wl0").expect("a short name");
    IoConfig { backend: Backend::Auto, xdp: Some(XdpConfig { modes, ..XdpConfig::new(name) }), ..config() }
}

#[test]
fn queues_that_pass_their_test_are_taken() {
    for (modes, workers) in [(XdpModes::Best, 1), (XdpModes::Generic, 1), (XdpModes::Best, 3)] {
        let Some(pair) = Pair::new("auto") else { return };
        let group = pair.inside(0, || Io::bind_group(addr("[::]:4000"), workers, &auto(modes), &STEERING));
        let mut group = group.expect("AF_XDP on veth");
        for (worker, io) in group.iter_mut().enumerate() {
            let choice = io.choice();
            assert!(choice.kind == IoKind::Xdp && !choice.why.contains('\n'), "{choice:?}");
            // The kernel makes packets for queue 0 only, and the other workers are guests of its owner.
            let said = if worker == 0 { "its test passed" } else { "not tested in full" };
            assert!(choice.why.ends_with(said) || choice.why.contains(&format!("; {said},")), "{choice:?}");
            assert_eq!(io.recv(&mut Vec::new()).expect("the socket is usable"), 0, "the test's packet is gone");
        }
        if let [a] = &mut group[..] {
            let frames = backend(a).frames();
            assert!(frames.add_up() && (frames.sending, frames.with_program) == (0, 0), "{frames:?}");
            echo(&mut udp(&pair, 1, "10.77.0.2:4001"), a, addr("10.77.0.1:4000"));
        }
    }
}

#[test]
fn an_interface_that_is_down_cannot_be_tried_and_is_taken() {
    let Some(pair) = Pair::new("trial") else { return };
    pair.ip(0, "link set wl0 down");
    let io = pair.inside(0, || Io::bind(addr("0.0.0.0:4000"), &auto(XdpModes::Best))).expect("something works");
    let choice = io.choice();
    assert!(choice.kind == IoKind::Xdp && choice.why.contains("; not tested in full"), "{choice:?}");
}

#[test]
fn where_it_is_not_to_be_had_one_line_says_why() {
    let Some(pair) = Pair::new("taken") else { return };
    let open = |config: &IoConfig| {
        // Children that other tests have forked hold copies of a port until they are programs of their own.
        let once = || pair.inside(0, || Io::bind(addr("10.77.0.1:4005"), config));
        let is_held = |opened: &std::io::Result<Io>| {
            std::thread::sleep(Duration::from_millis(10));
            opened.as_ref().is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
        };
        (0..100).map(|_| once()).find(|opened| !is_held(opened)).unwrap_or_else(once)
    };
    let first = xdp(&pair, 0, "0.0.0.0:4000", XdpModes::Best);
    let io = open(&auto(XdpModes::Best)).expect("UDP works");
    let choice = io.choice();
    assert_eq!(choice.kind, IoKind::Udp);
    assert!(choice.why.contains("no xdp: another XDP program") && !choice.why.contains('\n'), "{choice:?}");
    drop(io);
    let named = IoConfig { backend: Backend::Xdp, ..auto(XdpModes::Best) };
    assert_eq!(open(&named).expect_err("it was named").kind(), ErrorKind::ResourceBusy);
    drop(first);
    let choice = open(&auto(XdpModes::ZeroCopy)).expect("UDP works").choice();
    assert!(choice.kind == IoKind::Udp && choice.why.contains("no xdp: "), "{choice:?}");
    // A port that is taken is nothing that another back end would change.
    let plain = IoConfig { backend: Backend::Udp, ..auto(XdpModes::Best) };
    let _taken = open(&plain).expect("UDP works");
    assert_eq!(open(&auto(XdpModes::Best)).expect_err("it is taken").kind(), ErrorKind::AddrInUse);
}

/// Set in the child: the namespace's interface is ready.
const CHILD: &str = "WARPLINE_TEST_FEW_FILES";

/// Runs one of the tests that begin with "child" in a process of its own, in the namespace; what it printed.
fn child(pair: &Pair, name: &str) -> String {
    let output = Command::new("ip")
        .args(["netns", "exec", pair.name(0)])
        .arg(std::env::current_exe().expect("a test has a path"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .expect("the test can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn limit_descriptors(to: u64) {
    let limit = libc::rlimit { rlim_cur: to, rlim_max: 4096 };
    // SAFETY: the structure is valid.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

#[test]
fn child_whose_interface_comes_back_while_it_lacks_descriptors() {
    if std::env::var(CHILD).is_err() {
        return;
    }
    let mut io = Io::bind(addr("10.77.0.1:4000"), &auto(XdpModes::Best)).expect("AF_XDP on veth");
    let mut look = |wanted: &dyn Fn(&Io) -> bool| {
        (0..5_000).any(|_| {
            io.wait(Some(Duration::from_millis(1))).expect("the socket is usable");
            io.recv(&mut Vec::new()).expect("the socket is usable");
            wanted(&io)
        })
    };
    netns::run("ip link del wl0").expect("it is there");
    assert!(look(&|io| backend(io).status().mode.is_none()), "it is gone");
    for words in ["add wl0 type veth peer name wl1", "set wl1 up"] {
        netns::run(&format!("ip link {words}")).expect("the kernel has veth");
    }
    // What is open stays so, and no number below that is free.
    limit_descriptors(3);
    let refused = look(&|io| backend(io).status().reason.contains("Too many open files"));
    assert!(refused, "sockets, maps, program and link are a descriptor each");
    limit_descriptors(4096);
    assert!(look(&|io| backend(io).status().mode.is_some()), "it is tried again");
}

#[test]
fn an_interface_that_comes_back_during_a_lack_of_descriptors_is_used_once_there_are_some() {
    let Some(pair) = Pair::new("later") else { return };
    child(&pair, "child_whose_interface_comes_back_while_it_lacks_descriptors");
}

/// Run by the next story.
#[test]
fn child_with_few_descriptors() {
    if std::env::var(CHILD).is_err() {
        return;
    }
    let open = std::fs::read_dir("/proc/self/fd").expect("Linux has it").count() as u64;
    let mut refused = 0;
    for more in 0..100 {
        limit_descriptors(open + more);
        match Io::bind(addr("10.77.0.1:4000"), &auto(XdpModes::Best)) {
            Ok(io) => {
                assert_eq!(io.choice().kind, IoKind::Xdp, "with {more} descriptors: {:?}", io.choice());
                println!("{refused} times refused");
                assert!(refused > 4, "sockets, maps, program and link are a descriptor each");
                return;
            }
            Err(error) => {
                assert!(error.to_string().contains("Too many open files"), "with {more} descriptors: {error}");
                refused += 1;
            }
        }
    }
    panic!("a hundred descriptors are enough");
}

#[test]
fn a_passing_lack_of_descriptors_is_an_error_and_no_reason_for_another_back_end() {
    let Some(pair) = Pair::new("files") else { return };
    child(&pair, "child_with_few_descriptors");
}
