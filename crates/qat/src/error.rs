//! Why there is no card to use, and what to do about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use warpline_proto::TrialError;

/// What is missing for QAT, in the order in which it is looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The driver is for Linux on x86-64.
    #[error("QAT is used on Linux on x86-64 only")]
    Platform,
    /// No card is on the PCI bus.
    #[error("no QAT card is in this machine")]
    NoCard,
    /// The cards are of a generation that the library does not drive.
    #[error("QAT card {card} ({model}) is older than what qatlib drives (4xxx and later)")]
    OldCard {
        /// PCI address of the first one.
        card: String,
        /// Its family.
        model: &'static str,
    },
    /// No kernel driver has the card.
    #[error("QAT card {card} has no kernel driver")]
    NoDriver {
        /// PCI address of the first one.
        card: String,
        /// The kernel module for it.
        module: &'static str,
    },
    /// The card has no virtual functions: programs are given those.
    #[error("QAT card {card} has no virtual functions")]
    NoFunctions {
        /// PCI address of the first one.
        card: String,
        /// As many as it may have; 0 if the kernel does not say.
        most: u64,
    },
    /// The virtual functions are not for programs.
    #[error("QAT function {card} is not bound to vfio-pci")]
    NotForPrograms {
        /// PCI address of the first one.
        card: String,
    },
    /// The card does something else.
    #[error("QAT card {card} is set to {services:?}, not to symmetric ciphers")]
    OtherServices {
        /// PCI address of the first one.
        card: String,
        /// What the kernel says that it does.
        services: String,
    },
    /// This process may not use the functions.
    #[error("{} cannot be opened: {error}", file.display())]
    NoAccess {
        /// The file of the function's group.
        file: PathBuf,
        /// What the system says.
        error: String,
    },
    /// A library is missing.
    #[error("{} cannot be loaded: {error}", name.display())]
    NoLibrary {
        /// Its name, or path.
        name: PathBuf,
        /// What the loader says.
        error: String,
    },
    /// A library is too old, or something else.
    #[error("{} has no {function}", library.display())]
    NoFunction {
        /// Its name, or path.
        library: PathBuf,
        /// What it lacks.
        function: &'static str,
    },
    /// The library did not start.
    #[error("icp_sal_userStart failed (status {status})")]
    Start {
        /// What it returned (`CpaStatus`).
        status: i32,
    },
    /// The library has no instances for this process: none are configured, or other processes have them.
    #[error("the library has no instance for this process")]
    NoInstance,
    /// No instance seals with AES-GCM.
    #[error("no instance has AES-GCM")]
    NoCipher,
    /// An instance did not start.
    #[error("{call} failed (status {status})")]
    Instance {
        /// The function.
        call: &'static str,
        /// What it returned (`CpaStatus`).
        status: i32,
    },
    /// No pinned memory is left.
    #[error("no pinned memory is to be had")]
    NoMemory,
    /// The card did not seal or open a published example as it should.
    #[error("the card fails the known answers of AES-GCM ({0})")]
    WrongAnswer(&'static str),
    /// The card failed beside the library.
    #[error("the card fails beside the ciphers of the processor: {0}")]
    Trial(#[from] TrialError),
    /// The card works and does not pay.
    #[error("the card takes {} ns a packet, the processor {}", device.as_nanos(), library.as_nanos())]
    Slower {
        /// For a packet sealed and opened in batches of 16 by the card.
        device: Duration,
        /// The same by the fastest library.
        library: Duration,
    },
    /// A process opens the cards once, and has one device for packets.
    #[error("this process has a device for packets already")]
    Taken,
}

impl Unavailable {
    /// The command that changes it, where there is one.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::NoDriver { module, .. } => format!("modprobe {module}"),
            Self::NoFunctions { card, most } => match most {
                0 => "systemctl enable --now qat".to_owned(),
                most => format!("echo {most} > /sys/bus/pci/devices/{card}/sriov_numvfs && systemctl enable --now qat"),
            },
            Self::NotForPrograms { .. } => "modprobe vfio-pci && systemctl enable --now qat".to_owned(),
            Self::OtherServices { card, .. } => {
                let directory = format!("/sys/bus/pci/devices/{card}/qat");
                format!(
                    "echo down > {directory}/state && echo sym > {directory}/cfg_services && echo up > {directory}/state"
                )
            }
            Self::NoAccess { .. } => "usermod -aG qat $USER".to_owned(),
            // As Ubuntu names the packages (24.04), and as Fedora does.
            Self::NoLibrary { .. } | Self::NoFunction { .. } => match Path::new("/usr/bin/apt-get").exists() {
                true => "apt-get install libqat4 libusdm0 qatlib-service".to_owned(),
                false => "dnf install qatlib qatlib-service".to_owned(),
            },
            Self::Start { .. } | Self::NoInstance => "systemctl restart qat".to_owned(),
            Self::NoMemory => "ulimit -l unlimited".to_owned(),
            _ => return None,
        })
    }

    /// Whether there is a card: then it is worth a line that it is not used.
    pub fn has_card(&self) -> bool {
        !matches!(self, Self::Platform | Self::NoCard | Self::OldCard { .. })
    }
}
