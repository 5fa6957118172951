//! Which QAT cards are on the PCI bus, and whether programs can use them.

use std::path::{Path, PathBuf};

use crate::error::Unavailable;

/// Where the kernel lists PCI devices.
const DEVICES: &str = "sys/bus/pci/devices";
/// Intel's number as a vendor.
const VENDOR: &str = "0x8086";

/// A family of cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// The kernel module that drives it.
    pub module: &'static str,
    /// PCI number of the whole device.
    physical: &'static str,
    /// PCI number of its virtual functions.
    virtual_function: &'static str,
    /// Whether qatlib drives it.
    pub is_current: bool,
}

/// A row of the table.
const fn model(name: &'static str, module: &'static str, ids: [&'static str; 2], is_current: bool) -> Model {
    Model { name, module, physical: ids[0], virtual_function: ids[1], is_current }
}

/// Every family that the kernel drives.
const MODELS: [Model; 8] = [
    model("4xxx", "qat_4xxx", ["0x4940", "0x4941"], true),
    model("401xx", "qat_4xxx", ["0x4942", "0x4943"], true),
    model("402xx", "qat_4xxx", ["0x4944", "0x4945"], true),
    model("420xx", "qat_420xx", ["0x4946", "0x4947"], true),
    model("dh895xcc", "qat_dh895xcc", ["0x0435", "0x0443"], false),
    model("c62x", "qat_c62x", ["0x37c8", "0x37c9"], false),
    model("c3xxx", "qat_c3xxx", ["0x19e2", "0x19e3"], false),
    model("d15xx", "qat_d15xx", ["0x6f54", "0x6f55"], false),
];

/// A card, or a virtual function of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// PCI address.
    pub address: String,
    /// Its family.
    pub model: Model,
    /// It is a virtual function: a part of a card for one program or virtual machine.
    pub is_virtual: bool,
    /// The kernel driver that has it.
    pub driver: Option<String>,
}

/// The cards and virtual functions on the PCI bus, by address; `root` is where `/sys` is, `/` but in tests.
pub fn cards(root: &Path) -> Vec<Card> {
    let entries = std::fs::read_dir(root.join(DEVICES)).into_iter().flatten().flatten();
    let mut cards: Vec<Card> = entries.filter_map(|entry| card(&entry.path())).collect();
    cards.sort_by(|a, b| a.address.cmp(&b.address));
    cards
}

fn card(directory: &Path) -> Option<Card> {
    if read(&directory.join("vendor"))? != VENDOR {
        return None;
    }
    let id = read(&directory.join("device"))?;
    let model = *MODELS.iter().find(|model| [model.physical, model.virtual_function].contains(&&*id))?;
    Some(Card {
        address: directory.file_name()?.to_str()?.to_owned(),
        is_virtual: model.virtual_function == id,
        driver: link(&directory.join("driver")),
        model,
    })
}

/// Whether programs can use a card, as far as the kernel says. See [`cards`] for `root`.
///
/// # Errors
/// What is missing first.
pub fn check(root: &Path) -> Result<(), Unavailable> {
    let cards = cards(root);
    let first = cards.first().ok_or(Unavailable::NoCard)?;
    let Some(current) = cards.iter().find(|card| card.model.is_current) else {
        return Err(Unavailable::OldCard { card: first.address.clone(), model: first.model.name });
    };
    let functions = || cards.iter().filter(|card| card.model.is_current && card.is_virtual);
    if functions().next().is_none() {
        return Err(no_functions(root, current));
    }
    // A virtual machine sees functions without their card, which then is the host's business.
    let physical = || cards.iter().filter(|card| card.model.is_current && !card.is_virtual);
    let services = |card: &Card| read(&root.join(DEVICES).join(&card.address).join("qat/cfg_services"));
    let others = |card: &Card| services(card).filter(|services| !services.split(';').any(|service| service == "sym"));
    if physical().all(|card| others(card).is_some())
        && let Some((card, services)) = physical().next().and_then(|card| Some((card, others(card)?)))
    {
        return Err(Unavailable::OtherServices { card: card.address.clone(), services });
    }
    let mut refused = None;
    for card in functions().filter(|card| card.driver.as_deref() == Some("vfio-pci")) {
        match open_group(root, card) {
            Ok(()) => return Ok(()),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    let first = functions().next().map(|card| card.address.clone()).unwrap_or_default();
    Err(refused.unwrap_or(Unavailable::NotForPrograms { card: first }))
}

/// Why a card has no virtual functions.
fn no_functions(root: &Path, card: &Card) -> Unavailable {
    let address = card.address.clone();
    if card.driver.is_none() {
        return Unavailable::NoDriver { card: address, module: card.model.module };
    }
    let most = read(&root.join(DEVICES).join(&address).join("sriov_totalvfs")).and_then(|text| text.parse().ok());
    Unavailable::NoFunctions { card: address, most: most.unwrap_or(0) }
}

/// Whether this process may use the VFIO group of a function. The group is not opened: one process at a time can.
fn open_group(root: &Path, card: &Card) -> Result<(), Unavailable> {
    let directory = root.join("dev/vfio");
    let Some(group) = link(&root.join(DEVICES).join(&card.address).join("iommu_group")) else {
        return Err(Unavailable::NoAccess { file: directory, error: format!("{} has no IOMMU group", card.address) });
    };
    // Without an IOMMU, as in a virtual machine, the file has another name.
    let files = [directory.join(&group), directory.join(format!("noiommu-{group}"))];
    let file = files.iter().find(|file| file.exists()).unwrap_or(&files[0]);
    may_use(file).map_err(|error| Unavailable::NoAccess { file: file.clone(), error })
}

#[cfg(target_os = "linux")]
fn may_use(file: &PathBuf) -> Result<(), String> {
    use rustix::fs::{Access, access};
    access(file, Access::READ_OK | Access::WRITE_OK).map_err(|error| error.to_string())
}

#[cfg(not(target_os = "linux"))]
fn may_use(_: &PathBuf) -> Result<(), String> {
    Err("there is no VFIO on this system".to_owned())
}

/// The content without the last newline; `None` if it cannot be read.
fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

/// The name of what a link leads to.
fn link(path: &Path) -> Option<String> {
    std::fs::read_link(path).ok()?.file_name()?.to_str().map(str::to_owned)
}
