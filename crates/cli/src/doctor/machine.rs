//! What does not depend on an interface: kernel, privileges, memory, settings, processor.

use std::net::SocketAddr;

use warpline::{Backend, IoConfig};
use warpline_pktio::Io;

use super::root::Root;
use super::{Finding, Remedy, State};

const AREA: &str = "machine";

/// Socket buffers that the transport asks for.
const BUFFER: u64 = 4 << 20;
/// Huge pages that a worker's packet memory takes (16 MiB), for two workers.
const HUGE_PAGES: u64 = 16;
/// Looks at everything.
pub(super) fn look(root: &Root) -> Vec<Finding> {
    let mut all = vec![kernel(root)];
    all.extend(capabilities(root));
    all.extend([locked_memory(root), huge_pages(root), transparent_pages(root)].into_iter().flatten());
    all.extend(settings(root));
    all.extend(cores(root));
    all.extend(super::topology::look(root));
    all.extend([governor(root), irqbalance(root)].into_iter().flatten());
    all.push(ciphers());
    all.extend(super::quick_assist::look(root));
    all.extend([backend(Backend::Udp), backend(Backend::Uring)]);
    all
}

fn kernel(root: &Root) -> Finding {
    let release = root.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (state, meaning) = match version {
        (0..=5, 0..=8) | (0..=4, _) => {
            (State::Missing, "AF_XDP here takes Linux 5.9 (programs that go with their process)")
        }
        (5, 9..=10) => (State::Costs, "busy polling of queues takes Linux 5.11"),
        (5, _) | (6, 0) => (State::Costs, "io_uring's multishot reception takes Linux 6.1"),
        (6, 1..=16) => (State::Costs, "long batches of packets in AF_XDP's copy mode take Linux 6.17"),
        _ => (State::Good, "everything that is used is there"),
    };
    Finding::new(AREA, "kernel", release, state, meaning)
}

/// The capabilities of this process.
fn capabilities(root: &Root) -> Vec<Finding> {
    let status = root.read("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    let needed = [
        ("CAP_NET_ADMIN", 12, "AF_XDP: attaching the program, asking for neighbours; larger socket buffers"),
        ("CAP_NET_RAW", 13, "AF_XDP: its sockets"),
        ("CAP_BPF", 39, "AF_XDP: loading the program"),
        ("CAP_IPC_LOCK", 14, "packet memory beyond the limit of locked memory"),
    ];
    let finding = |(what, bit, meaning): (&'static str, u32, &'static str)| {
        if held >> bit & 1 == 1 {
            return Finding::new(AREA, what, "held", State::Good, meaning);
        }
        let program = std::env::current_exe().map_or("warpline".to_owned(), |path| path.display().to_string());
        let all = "cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock";
        Finding::new(AREA, what, "not held", State::Missing, meaning)
            .remedy(Remedy::Command(format!("setcap {all}+ep {program}")))
    };
    needed.into_iter().map(finding).collect()
}

fn locked_memory(root: &Root) -> Option<Finding> {
    let limits = root.read("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    let soft = line.split_whitespace().next()?;
    let enough = soft == "unlimited" || soft.parse::<u64>().is_ok_and(|bytes| bytes >= 64 << 20);
    let state = if enough { State::Good } else { State::Note };
    let meaning = "AF_XDP locks 16 MiB per queue; CAP_IPC_LOCK lifts the limit";
    let remedy = Remedy::Command("ulimit -l unlimited".to_owned());
    Some(Finding::new(AREA, "locked memory", soft, state, meaning).remedy(remedy))
}

fn huge_pages(root: &Root) -> Option<Finding> {
    let path = "/proc/sys/vm/nr_hugepages";
    let reserved = root.number(path)?;
    let meminfo = root.read("/proc/meminfo").unwrap_or_default();
    let of = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let free = of("HugePages_Free:").unwrap_or(0);
    let (state, found) = match free {
        HUGE_PAGES.. => (State::Good, format!("{free} of {reserved} free")),
        _ => (State::Costs, format!("{free} of {reserved} free")),
    };
    let finding = Finding::new(
        AREA,
        "huge pages",
        found,
        state,
        "packet memory on 2 MiB pages misses the TLB less; 16 are enough",
    );
    // They are taken from what is available: not if that is scarce.
    let spare = of("MemAvailable:").unwrap_or(0) > 1 << 20;
    let value = (reserved + HUGE_PAGES - free.min(HUGE_PAGES)).to_string();
    let remedy = if spare {
        Remedy::Write { path: root.path(path), value }
    } else {
        Remedy::Command(format!("sysctl -w vm.nr_hugepages={value}"))
    };
    Some(finding.remedy(remedy))
}

fn transparent_pages(root: &Root) -> Option<Finding> {
    let text = root.read("/sys/kernel/mm/transparent_hugepage/enabled")?;
    let chosen = text.split(['[', ']']).nth(1)?.to_owned();
    let state = if chosen == "never" { State::Costs } else { State::Good };
    let remedy =
        Remedy::Write { path: root.path("/sys/kernel/mm/transparent_hugepage/enabled"), value: "madvise".to_owned() };
    let meaning = "where no huge pages are reserved, the kernel can merge small ones if asked";
    Some(Finding::new(AREA, "transparent huge pages", chosen, state, meaning).remedy(remedy))
}

/// Settings with a least value.
fn settings(root: &Root) -> Vec<Finding> {
    let least = [
        ("net.core.rmem_max", BUFFER, "receive buffers are cut to this: bursts above it are lost"),
        ("net.core.wmem_max", BUFFER, "send buffers are cut to this: senders wait for room more often"),
        ("net.core.bpf_jit_enable", 1, "BPF programs are interpreted, at several times the cost per packet"),
    ];
    let finding = |(key, least, meaning): (&'static str, u64, &'static str)| {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let found = root.number(&path)?;
        let state = if found >= least { State::Good } else { State::Costs };
        let remedy = Remedy::Write { path: root.path(&path), value: least.to_string() };
        Some(Finding::new(AREA, key, found.to_string(), state, meaning).remedy(remedy))
    };
    let mut all: Vec<Finding> = least.into_iter().filter_map(finding).collect();
    for (key, meaning) in [
        (
            "net.core.busy_poll",
            "microseconds that poll(2) looks itself before sleeping: 50 lowers latency, costs a core",
        ),
        ("net.core.busy_read", "the same for receive calls"),
    ] {
        if let Some(found) = root.number(&format!("/proc/sys/{}", key.replace('.', "/"))) {
            all.push(Finding::new(AREA, key, found.to_string(), State::Note, meaning));
        }
    }
    all
}

fn cores(root: &Root) -> Option<Finding> {
    let online = root.read("/sys/devices/system/cpu/online")?;
    let isolated = root.read("/sys/devices/system/cpu/isolated").unwrap_or_default();
    let found = match isolated.as_str() {
        "" => format!("online {online}, none isolated"),
        cores => format!("online {online}, isolated {cores}"),
    };
    let meaning = "workers that poll want cores of their own: boot with isolcpus=CORES nohz_full=CORES and pin them";
    Some(Finding::new(AREA, "cores", found, State::Note, meaning))
}

fn governor(root: &Root) -> Option<Finding> {
    let directory = "/sys/devices/system/cpu";
    let is_core = |name: &String| name.strip_prefix("cpu").is_some_and(|n| !n.is_empty() && n.parse::<u32>().is_ok());
    let path = |core: &String| format!("{directory}/{core}/cpufreq/scaling_governor");
    let all: Vec<(String, String)> = root
        .list(directory)
        .iter()
        .filter(|name| is_core(name))
        .filter_map(|core| Some((path(core), root.read(&path(core))?)))
        .collect();
    let slow = all.iter().find(|(_, governor)| governor != "performance");
    let meaning = "cores that clock down add tens of microseconds to the first packets after a pause";
    let Some((path, governor)) = slow else {
        let found = if all.is_empty() { "not adjustable" } else { "performance" };
        return Some(Finding::new(AREA, "CPU governor", found, State::Good, meaning));
    };
    let finding = Finding::new(AREA, "CPU governor", governor, State::Costs, meaning);
    let remedy = match all.len() {
        1 => Remedy::Write { path: root.path(path), value: "performance".to_owned() },
        _ => Remedy::Command(format!("echo performance | tee {directory}/cpu*/cpufreq/scaling_governor")),
    };
    Some(finding.remedy(remedy))
}

fn irqbalance(root: &Root) -> Option<Finding> {
    let running = root
        .list("/proc")
        .iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .any(|pid| root.read(&format!("/proc/{pid}/comm")).as_deref() == Some("irqbalance"));
    let meaning = "it moves interrupts away from the workers' cores again";
    Some(if running {
        Finding::new(AREA, "irqbalance", "running", State::Costs, meaning)
            .remedy(Remedy::Command("systemctl disable --now irqbalance".to_owned()))
    } else {
        Finding::new(AREA, "irqbalance", "not running", State::Good, meaning)
    })
}

/// What the processor has for AES.
fn ciphers() -> Finding {
    let meaning = "with VAES and AVX-512 a packet is sealed in about half the time, without AES-NI in ten times";
    #[cfg(target_arch = "x86_64")]
    {
        let has = [
            ("AES-NI", std::arch::is_x86_feature_detected!("aes")),
            ("VAES", std::arch::is_x86_feature_detected!("vaes")),
            ("VPCLMULQDQ", std::arch::is_x86_feature_detected!("vpclmulqdq")),
            ("AVX-512", std::arch::is_x86_feature_detected!("avx512f")),
        ];
        let found: Vec<&str> = has.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
        let state = match (has[0].1, has[1].1) {
            (true, true) => State::Good,
            (true, false) => State::Note,
            _ => State::Costs,
        };
        let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        Finding::new(AREA, "ciphers in hardware", found, state, meaning)
    }
    #[cfg(target_arch = "aarch64")]
    {
        let has = std::arch::is_aarch64_feature_detected!("aes");
        let (found, state) = if has { ("AES", State::Good) } else { ("none", State::Costs) };
        Finding::new(AREA, "ciphers in hardware", found, state, meaning)
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    Finding::new(AREA, "ciphers in hardware", "unknown", State::Note, meaning)
}

/// Whether a back end of sockets works, by opening one.
fn backend(backend: Backend) -> Finding {
    let (what, meaning) = match backend {
        Backend::Uring => {
            ("io_uring", "the back end that waits, receives and sends with one system call is not to be had")
        }
        _ => ("UDP sockets", "trains of datagrams (GSO, GRO) move 10 to 60 packets per system call"),
    };
    let config = IoConfig { backend, ..IoConfig::default() };
    match Io::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &config) {
        Ok(io) => {
            let (segments, gro) = (io.gso_segments_max(), io.gro());
            let found = format!("works; GSO {segments} segments, GRO {}", if gro { "on" } else { "off" });
            let state = if segments > 1 && gro { State::Good } else { State::Costs };
            Finding::new(AREA, what, found, state, meaning)
        }
        Err(error) => Finding::new(AREA, what, error.to_string(), State::Missing, meaning),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for (path, content) in files {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("it is ours");
            std::fs::write(path, content).expect("it is ours");
        }
        directory
    }

    fn state(finding: Option<Finding>) -> (State, String) {
        finding.map(|finding| (finding.state, finding.found)).expect("the files are there")
    }

    #[test]
    fn kernels_are_told_apart() {
        for (release, expected) in [
            ("4.19.0-generic\n", State::Missing),
            ("5.4.0-42\n", State::Missing),
            ("5.10.1\n", State::Costs),
            ("5.15.0\n", State::Costs),
            ("6.6.30-rc1\n", State::Costs),
            ("6.18.44\n", State::Good),
            ("7.0\n", State::Good),
        ] {
            let files = machine(&[("proc/sys/kernel/osrelease", release)]);
            assert_eq!(kernel(&Root::at(files.path())).state, expected, "{release}");
        }
    }

    #[test]
    fn capabilities_are_read_bit_by_bit() {
        let files = machine(&[("proc/self/status", "Name:\tx\nCapEff:\t0000000000003000\n")]);
        let found = capabilities(&Root::at(files.path()));
        let states: Vec<State> = found.iter().map(|finding| finding.state).collect();
        assert_eq!(states, [State::Good, State::Good, State::Missing, State::Missing]);
        let remedy = found[2].remedy.as_ref().map(Remedy::command).expect("there is one");
        assert!(remedy.starts_with("setcap cap_net_admin"), "{remedy}");
    }

    #[test]
    fn settings_below_their_least_are_raised_and_others_left() {
        let files = machine(&[
            ("proc/sys/net/core/rmem_max", "212992\n"),
            ("proc/sys/net/core/wmem_max", "8388608\n"),
            ("proc/sys/vm/nr_hugepages", "4\n"),
            ("proc/meminfo", "MemAvailable:   20000000 kB\nHugePages_Free:        2\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"),
            ("proc/77/comm", "irqbalance\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
        ]);
        let root = Root::at(files.path());
        let states: Vec<State> = settings(&root).iter().map(|finding| finding.state).collect();
        assert_eq!(states, [State::Costs, State::Good]);
        let pages = huge_pages(&root).expect("the files are there");
        assert_eq!((pages.state, pages.found.as_str()), (State::Costs, "2 of 4 free"));
        let wanted = Remedy::Write { path: root.path("/proc/sys/vm/nr_hugepages"), value: "18".to_owned() };
        assert_eq!(pages.remedy, Some(wanted));
        assert_eq!(state(transparent_pages(&root)).0, State::Costs);
        assert_eq!(state(irqbalance(&root)).0, State::Costs);
        assert_eq!(state(governor(&root)), (State::Costs, "powersave".to_owned()));
    }

    #[test]
    fn little_memory_is_not_given_away() {
        let files = machine(&[
            ("proc/sys/vm/nr_hugepages", "0\n"),
            ("proc/meminfo", "MemAvailable: 500000 kB\nHugePages_Free: 0\n"),
        ]);
        let finding = huge_pages(&Root::at(files.path())).expect("the files are there");
        assert!(matches!(finding.remedy, Some(Remedy::Command(_))));
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let findings = look(&Root::real());
        let udp = findings.iter().find(|finding| finding.what == "UDP sockets").expect("it is always looked at");
        assert_ne!(udp.state, State::Missing, "{}", udp.found);
        assert!(findings.len() > 10);
    }
}
