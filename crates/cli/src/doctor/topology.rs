//! Which threads of the processor share a core, and which cores share memory: where to pin workers.

use std::collections::{BTreeMap, BTreeSet};

use super::root::Root;
use super::{Finding, State};

const AREA: &str = "machine";
const CPUS: &str = "/sys/devices/system/cpu";
const NODES: &str = "/sys/devices/system/node";

/// A core: its socket and its number there.
type Core = (u64, u64);

/// The numbers behind `prefix` among the names in a directory.
fn numbered(root: &Root, directory: &str, prefix: &str) -> Vec<u32> {
    let number = |name: String| name.strip_prefix(prefix)?.parse().ok();
    let mut all: Vec<u32> = root.list(directory).into_iter().filter_map(number).collect();
    all.sort_unstable();
    all
}

/// The hardware threads of each core; empty if the kernel does not say.
fn cores(root: &Root) -> BTreeMap<Core, Vec<u32>> {
    let mut cores: BTreeMap<Core, Vec<u32>> = BTreeMap::new();
    for cpu in numbered(root, CPUS, "cpu") {
        let topology = format!("{CPUS}/cpu{cpu}/topology");
        let package = root.number(&format!("{topology}/physical_package_id"));
        if let Some((package, core)) = package.zip(root.number(&format!("{topology}/core_id"))) {
            cores.entry((package, core)).or_default().push(cpu);
        }
    }
    cores
}

/// Sockets, cores and threads, with one thread of each core as the list to pin to; then the memory nodes.
pub(super) fn look(root: &Root) -> Vec<Finding> {
    let cores = cores(root);
    let mut all = Vec::new();
    if !cores.is_empty() {
        let sockets: BTreeSet<u64> = cores.keys().map(|(package, _)| *package).collect();
        let threads: usize = cores.values().map(Vec::len).sum();
        let firsts: Vec<String> = cores.values().filter_map(|threads| threads.first()).map(u32::to_string).collect();
        let found = format!(
            "{} sockets, {} cores, {threads} threads; one of each core: {}",
            sockets.len(),
            cores.len(),
            firsts.join(",")
        );
        let meaning = "threads of one core share its units: pin workers to one thread of each core first";
        all.push(Finding::new(AREA, "topology", found, State::Note, meaning));
    }
    let nodes: Vec<String> = numbered(root, NODES, "node")
        .into_iter()
        .filter_map(|node| Some(format!("node {node}: {}", root.read(&format!("{NODES}/node{node}/cpulist"))?)))
        .collect();
    if !nodes.is_empty() {
        let meaning =
            "a pinned worker's packet memory lies on its core's node: use the cores of the network card's node first";
        all.push(Finding::new(AREA, "memory nodes", nodes.join("; "), State::Note, meaning));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sockets_with_two_threads_a_core_are_told_apart() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let write = |path: String, content: &str| {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("it is ours");
            std::fs::write(path, content).expect("it is ours");
        };
        // Linux numbers the second threads of all cores after the first ones, and gives each socket core numbers from 0.
        for cpu in 0..8 {
            let topology = format!("sys/devices/system/cpu/cpu{cpu}/topology");
            write(format!("{topology}/physical_package_id"), if cpu % 4 < 2 { "0\n" } else { "1\n" });
            write(format!("{topology}/core_id"), if cpu % 2 == 0 { "0\n" } else { "1\n" });
        }
        write("sys/devices/system/cpu/cpufreq/policy0".to_owned(), "");
        write("sys/devices/system/node/node0/cpulist".to_owned(), "0-1,4-5\n");
        write("sys/devices/system/node/node1/cpulist".to_owned(), "2-3,6-7\n");
        let found: Vec<String> = look(&Root::at(directory.path())).into_iter().map(|finding| finding.found).collect();
        let expected = ["2 sockets, 4 cores, 8 threads; one of each core: 0,1,2,3", "node 0: 0-1,4-5; node 1: 2-3,6-7"];
        assert_eq!(found, expected);
        let empty = tempfile::tempdir().expect("a temporary directory");
        assert!(look(&Root::at(empty.path())).is_empty(), "what the kernel does not say is not made up");
    }
}
