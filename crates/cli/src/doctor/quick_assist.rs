//! Intel QAT: cards, their functions and drivers, the library, and whether packets go through.

use warpline_qat::{Card, Places, Unavailable, When, cards, install};

use super::root::Root;
use super::{Finding, Remedy, State};

const AREA: &str = "machine";

/// The cards, and what they lack to seal packets.
pub(super) fn look(root: &Root) -> Vec<Finding> {
    let places = Places { root: root.path("/"), ..Places::default() };
    let cards = cards(&places.root);
    let meaning = "a card can seal packets in batches; without one the processor does";
    if cards.is_empty() {
        return vec![Finding::new(AREA, "Intel QAT", "none", State::Note, meaning)];
    }
    let found: Vec<String> = cards.iter().map(named).collect();
    vec![Finding::new(AREA, "Intel QAT", found.join(", "), State::Note, meaning), in_use(&places)]
}

fn named(card: &Card) -> String {
    let kind = if card.is_virtual { " function" } else { "" };
    let driver = card.driver.as_deref().unwrap_or("none");
    format!("{} ({}{kind}, driver {driver})", card.address, card.model.name)
}

/// Whether a card seals packets, by trying it.
fn in_use(places: &Places) -> Finding {
    let what = "QAT for packets";
    match install(places, When::Working) {
        Ok(installed) => {
            let trial = installed.trial;
            let pays = trial.batch_min.is_some();
            let state = if pays { State::Good } else { State::Note };
            let (device, library) = (trial.device.as_nanos(), trial.library.as_nanos());
            let found = format!("works; {device} ns a packet, the processor takes {library}");
            let meaning = "--crypto auto uses it where it is faster, --crypto qat in any case";
            Finding::new(AREA, what, found, state, meaning)
        }
        Err(error) => {
            let state = if matches!(error, Unavailable::OldCard { .. }) { State::Note } else { State::Missing };
            let meaning = "until then the processor seals packets";
            let finding = Finding::new(AREA, what, error.to_string(), state, meaning);
            match error.remedy() {
                Some(command) => finding.remedy(Remedy::Command(command)),
                None => finding,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn device(root: &Path, address: &str, id: &str, driver: Option<&str>) {
        let directory = root.join("sys/bus/pci/devices").join(address);
        std::fs::create_dir_all(&directory).expect("it is ours");
        std::fs::write(directory.join("vendor"), "0x8086\n").expect("it is ours");
        std::fs::write(directory.join("device"), format!("{id}\n")).expect("it is ours");
        if let Some(driver) = driver {
            symlink(format!("../../drivers/{driver}"), directory.join("driver")).expect("it is ours");
        }
    }

    fn found(root: &Path) -> Vec<(String, State, Option<String>)> {
        let all = look(&Root::at(root)).into_iter();
        all.map(|finding| (finding.found, finding.state, finding.remedy.map(|remedy| remedy.command()))).collect()
    }

    #[test]
    fn what_a_card_lacks_is_said_with_the_command() {
        let machine = tempfile::tempdir().expect("a temporary directory");
        let root = machine.path();
        assert_eq!(found(root), [("none".to_owned(), State::Note, None)]);
        device(root, "0000:6b:00.0", "0x4940", None);
        let missing = "QAT card 0000:6b:00.0 has no kernel driver".to_owned();
        assert_eq!(
            found(root),
            [
                ("0000:6b:00.0 (4xxx, driver none)".to_owned(), State::Note, None),
                (missing, State::Missing, Some("modprobe qat_4xxx".to_owned())),
            ]
        );
        device(root, "0000:6b:00.1", "0x4941", Some("4xxxvf"));
        let all = found(root);
        assert!(all[0].0.ends_with(", 0000:6b:00.1 (4xxx function, driver 4xxxvf)"), "{}", all[0].0);
        assert_eq!(all[1].0, "QAT function 0000:6b:00.1 is not bound to vfio-pci");
        assert!(all[1].2.as_ref().is_some_and(|command| command.contains("modprobe vfio-pci")));
    }

    #[test]
    fn cards_that_the_library_does_not_drive_are_worth_a_note() {
        let machine = tempfile::tempdir().expect("a temporary directory");
        device(machine.path(), "0000:3d:00.0", "0x37c8", Some("c6xx"));
        let all = found(machine.path());
        assert_eq!((all[1].1, all[1].2.clone()), (State::Note, None));
    }
}
