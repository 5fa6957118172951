//! What is missing for QAT on machines that lack something, step by step.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;

use common::{Fault, Standin, card, file, group, machine_with_card};
use warpline_qat::{Places, Qat, Unavailable, cards, check};

fn why(root: &Path) -> Unavailable {
    check(root).unwrap_err()
}

fn remedy(why: &Unavailable) -> String {
    why.remedy().unwrap()
}

#[test]
fn a_machine_without_a_card_has_none() {
    let machine = tempfile::tempdir().unwrap();
    assert_eq!(why(machine.path()), Unavailable::NoCard);
    file(machine.path(), "sys/bus/pci/devices/0000:00:00.0/vendor", "0x1022\n");
    file(machine.path(), "sys/bus/pci/devices/0000:00:00.0/device", "0x4940\n");
    card(machine.path(), "0000:00:02.0", "0x1572", Some("i40e"));
    assert!(cards(machine.path()).is_empty(), "another vendor's, and another device of Intel's");
    assert_eq!(why(machine.path()), Unavailable::NoCard);
    assert!(!why(machine.path()).has_card());
}

#[test]
fn cards_of_all_families_are_told_apart_from_their_functions() {
    let machine = tempfile::tempdir().unwrap();
    let ids = ["0x4940", "0x4943", "0x4944", "0x4947", "0x37c8", "0x6f55"];
    for (at, id) in ids.into_iter().enumerate() {
        card(machine.path(), &format!("0000:6b:00.{at}"), id, Some("vfio-pci"));
    }
    let found: Vec<_> = cards(machine.path()).iter().map(|card| (card.model.name, card.is_virtual)).collect();
    let expected =
        [("4xxx", false), ("401xx", true), ("402xx", false), ("420xx", true), ("c62x", false), ("d15xx", true)];
    assert_eq!(found, expected);
    assert_eq!(cards(machine.path())[0].driver.as_deref(), Some("vfio-pci"));
}

#[test]
fn each_step_says_what_is_missing_and_the_command() {
    let machine = tempfile::tempdir().unwrap();
    let root = machine.path();
    card(root, "0000:6b:00.0", "0x37c8", Some("c6xx"));
    assert!(matches!(why(root), Unavailable::OldCard { model: "c62x", .. }), "{}", why(root));
    assert_eq!(why(root).remedy(), None);

    card(root, "0000:70:00.0", "0x4946", None);
    let step = why(root);
    assert_eq!(step, Unavailable::NoDriver { card: "0000:70:00.0".into(), module: "qat_420xx" });
    assert_eq!(remedy(&step), "modprobe qat_420xx");
    assert!(step.has_card());

    card(root, "0000:6c:00.0", "0x4940", Some("4xxx"));
    file(root, "sys/bus/pci/devices/0000:6c:00.0/sriov_totalvfs", "16\n");
    let step = why(root);
    assert_eq!(step, Unavailable::NoFunctions { card: "0000:6c:00.0".into(), most: 16 });
    assert!(remedy(&step).starts_with("echo 16 > /sys/bus/pci/devices/0000:6c:00.0/sriov_numvfs"));

    card(root, "0000:6c:00.1", "0x4941", Some("4xxxvf"));
    let step = why(root);
    assert_eq!(step, Unavailable::NotForPrograms { card: "0000:6c:00.1".into() });
    assert!(remedy(&step).contains("modprobe vfio-pci"));

    card(root, "0000:6c:00.2", "0x4941", Some("vfio-pci"));
    assert!(why(root).to_string().ends_with("0000:6c:00.2 has no IOMMU group"), "{}", why(root));
    group(root, "0000:6c:00.2", "33");
    let step = why(root);
    assert!(matches!(&step, Unavailable::NoAccess { file, .. } if file.ends_with("dev/vfio/33")), "{step}");
    assert!(remedy(&step).contains("usermod"));
    file(root, "dev/vfio/noiommu-33", "");
    assert_eq!(check(root), Ok(()), "without an IOMMU the file has another name");
    file(root, "dev/vfio/33", "");
    assert_eq!(check(root), Ok(()));
}

#[test]
fn a_card_that_compresses_has_no_ciphers() {
    let machine = machine_with_card();
    let services = "sys/bus/pci/devices/0000:6b:00.0/qat/cfg_services";
    assert_eq!(check(machine.path()), Ok(()));
    file(machine.path(), services, "dc\n");
    let step = why(machine.path());
    assert_eq!(step, Unavailable::OtherServices { card: "0000:6b:00.0".into(), services: "dc".into() });
    assert!(remedy(&step).contains("echo sym > /sys/bus/pci/devices/0000:6b:00.0/qat/cfg_services"));
    file(machine.path(), services, "asym;sym\n");
    assert_eq!(check(machine.path()), Ok(()));
    // A second card that does.
    file(machine.path(), services, "dc\n");
    card(machine.path(), "0000:70:00.0", "0x4940", Some("4xxx"));
    file(machine.path(), "sys/bus/pci/devices/0000:70:00.0/qat/cfg_services", "sym\n");
    assert_eq!(check(machine.path()), Ok(()));
}

#[test]
fn libraries_are_looked_for_behind_the_card_and_named() {
    let machine = machine_with_card();
    let real = common::path();
    let open = |libqat: &Path, libusdm: &Path| {
        Qat::open(&Places { root: machine.path().into(), libqat: libqat.into(), libusdm: libusdm.into() }).unwrap_err()
    };
    let nowhere = Path::new("libqat-that-is-not-there.so.4");
    for (step, library) in [(open(nowhere, &real), nowhere), (open(&real, nowhere), nowhere)] {
        assert!(matches!(&step, Unavailable::NoLibrary { name, .. } if name == library), "{step}");
        assert!(step.to_string().contains("libqat-that-is-not-there.so.4 cannot be loaded"), "{step}");
        assert!(step.to_string().contains("No such file"), "what the system says: {step}");
        assert!(remedy(&step).contains("qatlib"));
    }
    // The C library is on every machine, and no library of cards.
    let step = open(Path::new("libc.so.6"), &real);
    assert!(matches!(step, Unavailable::NoFunction { function: "icp_sal_userStart", .. }), "{step}");
    let step = open(&real, Path::new("libc.so.6"));
    assert!(matches!(step, Unavailable::NoFunction { function: "qaeMemAllocNUMA", .. }), "{step}");
}

#[test]
fn a_library_that_cannot_start_says_where_it_failed() {
    let standin = Standin::new(2);
    for (fault, expected) in [
        (Fault::Start, Unavailable::Start { status: -1 }),
        (Fault::NoInstances, Unavailable::NoInstance),
        (Fault::NoGcm, Unavailable::NoCipher),
        (Fault::Memory, Unavailable::NoMemory),
    ] {
        standin.fault(fault);
        assert_eq!(Qat::open(&standin.places).unwrap_err(), expected);
        standin.fault(Fault::None);
        assert_eq!(standin.live_starts(), 0, "{fault:?}: the library was stopped again");
    }
}
