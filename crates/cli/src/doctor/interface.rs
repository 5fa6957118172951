//! What depends on an interface: driver, modes of AF_XDP, queues, rings, interrupts.

use warpline::InterfaceName;
use warpline_pktio::xdp::{Features, ethtool, features};

use super::root::Root;
use super::{Finding, Remedy, State};
use crate::io::{Span, numbers};

/// Interfaces that are looked at without being named.
const INTERFACES_MAX: usize = 16;
/// Entries that a device's ring should have: a burst of 4,096 packets is 0.4 ms at 10 million a second.
const RING: u32 = 2048;

/// All interfaces that are up but the loopback.
pub(super) fn all_up(root: &Root) -> Vec<InterfaceName> {
    let is_up = |name: &String| {
        let state = root.read(&format!("/sys/class/net/{name}/operstate"));
        name != "lo" && state.is_some_and(|state| state == "up" || state == "unknown")
    };
    let names = root.list("/sys/class/net").into_iter().filter(is_up);
    names.filter_map(|name| InterfaceName::new(&name).ok()).take(INTERFACES_MAX).collect()
}

/// Whether there is such an interface.
pub(super) fn exists(root: &Root, name: &InterfaceName) -> bool {
    root.path(&format!("/sys/class/net/{}", name.as_str())).exists()
}

/// Looks at everything, for workers on the cores that are named.
pub(super) fn look(root: &Root, name: InterfaceName, workers: &[u32]) -> Vec<Finding> {
    let area = format!("interface {}", name.as_str());
    let mut all = vec![driver(&area, name)];
    all.extend(xdp(&area, name));
    all.extend(mtu(&area, root, name));
    all.extend(queues(&area, root, name));
    all.extend(rings(&area, name));
    all.extend(coalescing(&area, name));
    all.extend(deferral(&area, root, name));
    all.extend(interrupts(&area, root, name, workers));
    all
}

fn driver(area: &str, name: InterfaceName) -> Finding {
    let meaning = "the driver decides which modes of AF_XDP there are";
    match ethtool::driver(name) {
        Ok(driver) => {
            let bus = if driver.bus.is_empty() { String::new() } else { format!(" at {}", driver.bus) };
            Finding::new(area, "driver", format!("{} {}{bus}", driver.name, driver.version), State::Note, meaning)
        }
        Err(error) => Finding::new(area, "driver", format!("unknown ({error})"), State::Note, meaning),
    }
}

fn xdp(area: &str, name: InterfaceName) -> Vec<Finding> {
    let modes = "AF_XDP: zero-copy is fastest, copy mode saves the stack, generic mode little";
    let jumbo = "AF_XDP in the driver takes this for an MTU above 3,498 bytes";
    match features(name) {
        Ok(features) => {
            let (found, state) = match (features.native && features.redirect, features.zero_copy) {
                (true, true) => ("zero-copy", State::Good),
                (true, false) => ("copy", State::Costs),
                (false, _) => ("generic", State::Costs),
            };
            let several = if features.multi_buffer { "yes" } else { "no" };
            let mut all = vec![
                Finding::new(area, "best mode of AF_XDP", found, state, modes),
                Finding::new(area, "packets of several buffers", several, State::Note, jumbo),
            ];
            all.extend(checksums(area, name, features));
            all
        }
        Err(error) => vec![Finding::new(area, "best mode of AF_XDP", format!("unknown ({error})"), State::Note, modes)],
    }
}

/// Who can compute checksums in the mode that AF_XDP would take.
fn checksums(area: &str, name: InterfaceName, features: Features) -> Option<Finding> {
    let what = "checksums of AF_XDP";
    if features.zero_copy {
        let meaning =
            "the driver computes them in zero-copy mode if it reads TX metadata (Linux 6.8), else the worker does";
        let (found, state) = match features.tx_checksum {
            true => ("TX metadata: the device", State::Good),
            false => ("no TX metadata: the worker", State::Costs),
        };
        return Some(Finding::new(area, what, found, state, meaning));
    }
    let meaning = "in copy mode they are computed as the kernel's packets' are: by the device if tx-checksumming is on";
    let (found, state) = match ethtool::computes_checksums(name).ok()? {
        true => ("the device, as of the kernel's packets; no TX metadata", State::Good),
        false => ("the worker: tx-checksumming is off; no TX metadata", State::Costs),
    };
    let finding = Finding::new(area, what, found, state, meaning);
    Some(finding.remedy(Remedy::Command(format!("ethtool -K {} tx on", name.as_str()))))
}

fn mtu(area: &str, root: &Root, name: InterfaceName) -> Option<Finding> {
    let mtu = root.number(&format!("/sys/class/net/{}/mtu", name.as_str()))?;
    let meaning = "larger packets cost less per byte, if every hop of the path takes them";
    Some(Finding::new(area, "MTU", mtu.to_string(), State::Note, meaning))
}

fn queues(area: &str, root: &Root, name: InterfaceName) -> Vec<Finding> {
    let meaning = "AF_XDP: a worker owns queues; those beyond their number receive and send by way of others";
    let Ok(sizes) = ethtool::channels(name) else {
        let count = root.list(&format!("/sys/class/net/{}/queues", name.as_str()));
        let count = count.iter().filter(|queue| queue.starts_with("rx-")).count();
        return vec![Finding::new(area, "receive queues", count.to_string(), State::Note, meaning)];
    };
    let found = format!("{} of {}", sizes.rx, sizes.rx_max.max(sizes.rx));
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let more = sizes.rx_max.min(cores);
    let mut queues = Finding::new(area, "receive queues", found, State::Good, meaning);
    if sizes.rx < more {
        queues.state = State::Note;
        queues.remedy = Some(Remedy::Command(format!("ethtool -L {} combined {more}", name.as_str())));
    }
    let mut all = vec![queues];
    if let Ok(entries) = ethtool::spreading_entries(name)
        && sizes.rx > 1
    {
        let by_port = ethtool::spreads_udp_by_port(name);
        all.push(spreading(area, name, entries, by_port.ok()));
    }
    all
}

/// How flows get to queues.
fn spreading(area: &str, name: InterfaceName, entries: u32, by_port: Option<bool>) -> Finding {
    let meaning = "flows are spread over the queues by this table; without ports all flows of two hosts share a queue";
    let (ports, state) = match (entries, by_port) {
        (0, _) => ("", State::Costs),
        (_, Some(false)) => (", UDP without ports", State::Costs),
        (_, Some(true)) => (", UDP by ports", State::Good),
        (_, None) => (", the driver does not say whether UDP's ports count", State::Note),
    };
    let finding = Finding::new(area, "receive-side scaling", format!("{entries} entries{ports}"), state, meaning);
    let udp = |family| format!("ethtool -N {} rx-flow-hash {family} sdfn", name.as_str());
    finding.remedy(Remedy::Command(format!("{}; {}", udp("udp4"), udp("udp6"))))
}

fn rings(area: &str, name: InterfaceName) -> Option<Finding> {
    let rings = ethtool::rings(name).ok()?;
    let found = format!("rx {} of {}, tx {} of {}", rings.rx, rings.rx_max, rings.tx, rings.tx_max);
    let (rx, tx) = (rings.rx_max.min(RING), rings.tx_max.min(RING));
    let meaning = "bursts beyond the rings are lost before anyone sees them";
    let state = if rings.rx < rx || rings.tx < tx { State::Costs } else { State::Good };
    let command = format!("ethtool -G {} rx {} tx {}", name.as_str(), rings.rx.max(rx), rings.tx.max(tx));
    Some(Finding::new(area, "device rings", found, state, meaning).remedy(Remedy::Command(command)))
}

fn coalescing(area: &str, name: InterfaceName) -> Option<Finding> {
    let set = ethtool::coalescing(name).ok()?;
    let adaptive = if set.adaptive_rx { ", adaptive" } else { "" };
    let found = format!("rx {} µs or {} packets{adaptive}; tx {} µs", set.rx_usecs, set.rx_frames, set.tx_usecs);
    let meaning =
        "interrupts wait this long: more saves interrupts, less saves latency; with busy polling it hardly matters";
    let state = if set.rx_usecs > 100 && !set.adaptive_rx { State::Costs } else { State::Note };
    let command = format!("ethtool -C {} adaptive-rx off rx-usecs 20", name.as_str());
    Some(Finding::new(area, "interrupt coalescing", found, state, meaning).remedy(Remedy::Command(command)))
}

/// How long interrupts stay off while a worker polls busily: until the timer has run out so many times.
fn deferral(area: &str, root: &Root, name: InterfaceName) -> Option<Finding> {
    let path = |what: &str| format!("/sys/class/net/{}/{what}", name.as_str());
    let (times, timer) = (path("napi_defer_hard_irqs"), path("gro_flush_timeout"));
    let found = (root.number(&times)?, root.number(&timer)?);
    let meaning =
        "busy polling (--xdp-busy-poll) keeps interrupts away only if both are set; others' packets may wait as long";
    let state = if found.0 > 0 && found.1 > 0 { State::Good } else { State::Note };
    let found = format!("napi_defer_hard_irqs {}, gro_flush_timeout {} ns", found.0, found.1);
    let command = format!("echo 2 > {times}; echo 200000 > {timer}");
    Some(Finding::new(area, "interrupts deferred", found, state, meaning).remedy(Remedy::Command(command)))
}

/// The numbers in a list of the kernel's, such as `0-3,8`.
fn cores(list: &str) -> Vec<u32> {
    let spans: Vec<Span> = list.split(',').filter_map(|span| span.trim().parse().ok()).collect();
    numbers(&spans).collect()
}

/// On which cores the device interrupts, and whether those are the workers'.
fn interrupts(area: &str, root: &Root, name: InterfaceName, workers: &[u32]) -> Option<Finding> {
    let mut irqs: Vec<u32> = root
        .list(&format!("/sys/class/net/{}/device/msi_irqs", name.as_str()))
        .iter()
        .filter_map(|number| number.parse().ok())
        .collect();
    irqs.sort_unstable();
    let affinity = |number: &u32| {
        let list = root.read(&format!("/proc/irq/{number}/effective_affinity_list"))?;
        (!list.is_empty()).then_some((*number, list))
    };
    let all: Vec<(u32, String)> = irqs.iter().filter_map(affinity).collect();
    if all.is_empty() {
        return None;
    }
    let mut used: Vec<&str> = all.iter().map(|(_, list)| list.as_str()).collect();
    used.sort_unstable();
    used.dedup();
    let mut found = format!("{} on cores {}", all.len(), used.join(", "));
    // A core and its hyper-thread neighbours.
    let place = |core: u32| {
        let siblings = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        root.read(&siblings).map_or(vec![core], |list| cores(&list))
    };
    let taken: Vec<u32> = used.iter().flat_map(|list| cores(list)).collect();
    let without: Vec<String> = workers
        .iter()
        .filter(|core| !place(**core).iter().any(|near| taken.contains(near)))
        .map(u32::to_string)
        .collect();
    if !without.is_empty() {
        found += &format!("; none on those of the workers on {}", without.join(", "));
    }
    let state = match workers {
        [] if all.len() > 2 && used.len() == 1 => State::Costs,
        [] => State::Note,
        _ if without.is_empty() || all.len() < workers.len() => State::Good,
        _ => State::Costs,
    };
    // In their order, on the workers' cores in theirs.
    let online = root.read("/sys/devices/system/cpu/online").map_or(vec![0], |list| cores(&list));
    let to = if workers.is_empty() { &online[..] } else { workers };
    let pin =
        |((number, _), core): (&(u32, String), &u32)| format!("echo {core} > /proc/irq/{number}/smp_affinity_list");
    let commands: Vec<String> = all.iter().zip(to.iter().cycle()).map(pin).collect();
    let meaning =
        "each queue's interrupt belongs on the core of its worker, or on its neighbour (--cores LIST compares)";
    let finding = Finding::new(area, "interrupts", found, state, meaning);
    Some(finding.remedy(Remedy::Command(commands.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_that_share_a_core_are_noticed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let write = |path: &str, content: &str| {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("it is ours");
            std::fs::write(path, content).expect("it is ours");
        };
        for irq in 30..34 {
            write(&format!("sys/class/net/eth0/device/msi_irqs/{irq}"), "msix\n");
            write(&format!("proc/irq/{irq}/effective_affinity_list"), "0\n");
        }
        let root = Root::at(directory.path());
        let name = InterfaceName::new("eth0").expect("a short name");
        let finding = interrupts("x", &root, name, &[]).expect("there are some");
        assert_eq!((finding.state, finding.found.as_str()), (State::Costs, "4 on cores 0"));
        write("proc/irq/31/effective_affinity_list", "1\n");
        assert_eq!(interrupts("x", &root, name, &[]).map(|finding| finding.state), Some(State::Note));
        // Worker cores: 0 and 1 have some, 2 is the neighbour of 0, and 3 has none near it.
        write("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "0,2\n");
        let state = |workers: &[u32]| interrupts("x", &root, name, workers).expect("there are some");
        assert_eq!(state(&[0, 1]).state, State::Good);
        assert_eq!(state(&[1, 2]).state, State::Good);
        let finding = state(&[1, 3]);
        assert_eq!(
            (finding.state, finding.found.as_str()),
            (State::Costs, "4 on cores 0, 1; none on those of the workers on 3")
        );
        let command = finding.remedy.expect("there is one").command();
        assert!(command.starts_with("echo 1 > /proc/irq/30/smp_affinity_list; echo 3 > /proc/irq/31/"), "{command}");
        write("sys/class/net/eth0/napi_defer_hard_irqs", "2\n");
        write("sys/class/net/eth0/gro_flush_timeout", "0\n");
        let deferred = deferral("x", &root, name).expect("the files are there");
        assert_eq!(deferred.state, State::Note);
        write("sys/class/net/eth0/gro_flush_timeout", "200000\n");
        assert_eq!(deferral("x", &root, name).map(|finding| finding.state), Some(State::Good));
        write("sys/class/net/eth0/operstate", "up\n");
        write("sys/class/net/eth1/operstate", "down\n");
        write("sys/class/net/lo/operstate", "unknown\n");
        assert_eq!(all_up(&root), [name]);
    }

    #[test]
    fn flows_that_are_not_spread_by_ports_cost_speed() {
        let eth0 = InterfaceName::new("eth0").expect("a short name");
        let state = |entries, by_port| spreading("x", eth0, entries, by_port).state;
        assert_eq!([state(128, Some(true)), state(128, Some(false))], [State::Good, State::Costs]);
        assert_eq!([state(0, None), state(128, None)], [State::Costs, State::Note]);
    }

    #[test]
    fn loopback_can_be_looked_at() {
        let findings = look(&Root::real(), InterfaceName::new("lo").expect("a short name"), &[]);
        assert!(findings.iter().any(|finding| finding.what == "MTU"));
        assert!(findings.iter().any(|finding| finding.what == "best mode of AF_XDP"));
        // Before Linux 6.3 nobody tells.
        if features(InterfaceName::new("lo").expect("a short name")).is_ok() {
            let checksums = findings.iter().find(|finding| finding.what == "checksums of AF_XDP").expect("it is told");
            assert_eq!(checksums.state, State::Good, "{}", checksums.found);
        }
    }

    #[test]
    fn checksums_are_told_for_the_mode_that_there_is() {
        let lo = InterfaceName::new("lo").expect("a short name");
        let state = |zero_copy, tx_checksum| {
            let features = Features { native: true, redirect: true, zero_copy, tx_checksum, ..Features::default() };
            checksums("x", lo, features).map(|finding| (finding.state, finding.remedy.is_some()))
        };
        assert_eq!(state(true, true), Some((State::Good, false)));
        assert_eq!(state(true, false), Some((State::Costs, false)));
        assert_eq!(state(false, false), Some((State::Good, true)), "the kernel's packets have theirs computed");
    }
}
