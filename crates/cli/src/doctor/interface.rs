//! What depends on an interface: driver, modes of AF_XDP, queues, rings, interrupts.

use warpline::InterfaceName;
use warpline_pktio::xdp::{Features, ethtool, features};

use super::root::Root;
use super::{Finding, Remedy, State};

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

/// Looks at everything.
pub(super) fn look(root: &Root, name: InterfaceName) -> Vec<Finding> {
    let area = format!("interface {}", name.as_str());
    let mut all = vec![driver(&area, name)];
    all.extend(xdp(&area, name));
    all.extend(mtu(&area, root, name));
    all.extend(queues(&area, root, name));
    all.extend(rings(&area, name));
    all.extend(coalescing(&area, name));
    all.extend(interrupts(&area, root, name));
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
    let meaning = "AF_XDP: a worker owns a queue, so there are at most as many workers";
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
        let meaning =
            "flows are spread over the queues by this table; UDP ports should count (ethtool -N … rx-flow-hash)";
        let state = if entries == 0 { State::Costs } else { State::Good };
        let finding = Finding::new(area, "receive-side scaling", format!("{entries} entries"), state, meaning);
        let command = format!("ethtool -N {} rx-flow-hash udp4 sdfn", name.as_str());
        all.push(finding.remedy(Remedy::Command(command)));
    }
    all
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

/// On which cores the device interrupts.
fn interrupts(area: &str, root: &Root, name: InterfaceName) -> Option<Finding> {
    let numbers = root.list(&format!("/sys/class/net/{}/device/msi_irqs", name.as_str()));
    let affinity = |number: &String| root.read(&format!("/proc/irq/{number}/effective_affinity_list"));
    let mut cores: Vec<String> = numbers.iter().filter_map(affinity).filter(|list| !list.is_empty()).collect();
    let count = cores.len();
    if count == 0 {
        return None;
    }
    cores.sort();
    cores.dedup();
    let found = format!("{count} on cores {}", cores.join(", "));
    let meaning = "each queue's interrupt belongs on the core of its worker, or on its neighbour";
    let state = if count > 2 && cores.len() == 1 { State::Costs } else { State::Note };
    let command = "echo CORE > /proc/irq/NUMBER/smp_affinity_list".to_owned();
    Some(Finding::new(area, "interrupts", found, state, meaning).remedy(Remedy::Command(command)))
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
        let finding = interrupts("x", &root, name).expect("there are some");
        assert_eq!((finding.state, finding.found.as_str()), (State::Costs, "4 on cores 0"));
        write("proc/irq/31/effective_affinity_list", "1\n");
        assert_eq!(interrupts("x", &root, name).map(|finding| finding.state), Some(State::Note));
        write("sys/class/net/eth0/operstate", "up\n");
        write("sys/class/net/eth1/operstate", "down\n");
        write("sys/class/net/lo/operstate", "unknown\n");
        assert_eq!(all_up(&root), [name]);
    }

    #[test]
    fn loopback_can_be_looked_at() {
        let findings = look(&Root::real(), InterfaceName::new("lo").expect("a short name"));
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
