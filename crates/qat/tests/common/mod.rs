//! The stand-in for the libraries of the cards, and machines with cards.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part, and may panic")]

use std::ops::Deref;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use warpline_qat::{Places, Qat};

/// What the stand-in can do wrong, by its own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None = 0,
    /// The library does not start.
    Start,
    NoInstances,
    /// Its instances have no AES-GCM.
    NoGcm,
    /// Sessions fail.
    Session,
    /// Rings are full for good.
    Full,
    /// Batches are refused.
    Refuses,
    /// Packets are taken and not answered.
    Silent,
    /// Polling fails.
    Poll,
    /// Packets are answered with a failure.
    Packet,
    /// Tags are wrong.
    Tag,
    /// Whatever is opened is authentic.
    Credulous,
    /// There is no pinned memory.
    Memory,
    /// Rings are full for seven times.
    FullForAWhile,
    /// The last packets of a batch are not answered.
    HalfSilent,
}

/// The stand-in, for one test at a time.
pub struct Standin {
    library: libloading::Library,
    pub places: Places,
    _machine: tempfile::TempDir,
}

/// Whose turn it is. A test that fails gives it back as well.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

impl Drop for Standin {
    fn drop(&mut self) {
        IS_TAKEN.store(false, SeqCst);
    }
}

/// Cards that the thread of a test gives back before the next test has its turn.
pub struct Opened(Qat);

impl Deref for Opened {
    type Target = Qat;

    fn deref(&self) -> &Qat {
        &self.0
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Where cargo puts the examples of this package.
pub fn path() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples/libstandin.so");
    assert!(path.exists(), "cargo build -p warpline-qat --example standin");
    path
}

impl Standin {
    /// With so many instances, on a machine with a card.
    pub fn new(instances: u16) -> Self {
        while IS_TAKEN.swap(true, SeqCst) {
            std::thread::yield_now();
        }
        // SAFETY: it is our own, and does nothing when it is loaded.
        let library = unsafe { libloading::Library::new(path()) }.unwrap();
        let machine = machine_with_card();
        let places = Places { root: machine.path().into(), libqat: path(), libusdm: path() };
        let standin = Self { library, places, _machine: machine };
        standin.reset(instances);
        standin
    }

    /// As after a new start of the machine.
    pub fn reset(&self, instances: u16) {
        self.call::<extern "C" fn(u16)>("standin_reset")(instances);
    }

    pub fn open(&self) -> Opened {
        Opened(Qat::open(&self.places).unwrap())
    }

    pub fn fault(&self, fault: Fault) {
        self.call::<extern "C" fn(u32)>("standin_fault")(fault as u32);
    }

    /// Packets that it was given.
    pub fn packets(&self) -> u64 {
        self.call::<extern "C" fn() -> u64>("standin_packets")()
    }

    pub fn live_sessions(&self) -> usize {
        self.call::<extern "C" fn(u32) -> usize>("standin_live")(0)
    }

    pub fn live_blocks(&self) -> usize {
        self.call::<extern "C" fn(u32) -> usize>("standin_live")(1)
    }

    pub fn live_starts(&self) -> usize {
        self.call::<extern "C" fn(u32) -> usize>("standin_live")(2)
    }

    fn call<F: Copy>(&self, name: &str) -> F {
        // SAFETY: `F` is the type of the function, and the library is there as long as `self`.
        *unsafe { self.library.get::<F>(name.as_bytes()) }.unwrap()
    }
}

/// A card with a function for programs, and what they need to use it.
pub fn machine_with_card() -> tempfile::TempDir {
    let machine = tempfile::tempdir().unwrap();
    card(machine.path(), "0000:6b:00.0", "0x4940", Some("4xxx"));
    card(machine.path(), "0000:6b:00.1", "0x4941", Some("vfio-pci"));
    file(machine.path(), "sys/bus/pci/devices/0000:6b:00.0/qat/cfg_services", "sym;asym\n");
    group(machine.path(), "0000:6b:00.1", "17");
    file(machine.path(), "dev/vfio/17", "");
    machine
}

pub fn file(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// A PCI device of Intel's.
pub fn card(root: &Path, address: &str, id: &str, driver: Option<&str>) {
    let directory = format!("sys/bus/pci/devices/{address}");
    file(root, &format!("{directory}/vendor"), "0x8086\n");
    file(root, &format!("{directory}/device"), &format!("{id}\n"));
    if let Some(driver) = driver {
        symlink(format!("../../../bus/pci/drivers/{driver}"), root.join(directory).join("driver")).unwrap();
    }
}

pub fn group(root: &Path, address: &str, number: &str) {
    let link = root.join(format!("sys/bus/pci/devices/{address}/iommu_group"));
    symlink(format!("../../../kernel/iommu_groups/{number}"), link).unwrap();
}
