//! Files and connections that outlive the scheduler they were made under.
#![cfg(target_os = "linux")]

mod common;

use common::{on_ring, pair, settle, std_pair};
use std::io::Write as _;
use warpline_fiber::reactor::{File, TcpStream, UringConfig};
use warpline_fiber::{Baton, shield, spawn};

fn one_slot() -> UringConfig {
    UringConfig { files: 1, ..UringConfig::default() }
}

#[test]
fn a_file_of_an_earlier_scheduler_is_not_taken_for_one_of_the_next() {
    let files = ["of the first", "of the second"].map(|text| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    });
    let [first, second] = files;
    let Some(scheduler) = on_ring(one_slot()) else { return };
    let old = scheduler.run(|| File::from_std(first).unwrap());
    assert_eq!(scheduler.stats().reactor.unwrap().registered_files, 1);
    drop(scheduler);
    let scheduler = on_ring(one_slot()).unwrap();
    scheduler.run(move || {
        let new = File::from_std(second).unwrap();
        let mut buffer = [0; 32];
        assert_eq!(old.read_at(&mut buffer, 0).unwrap(), 12);
        assert_eq!(&buffer[..12], b"of the first");
        old.write_at(b"written", 0).unwrap();
        assert_eq!(new.read_at(&mut buffer, 0).unwrap(), 13);
        assert_eq!(&buffer[..13], b"of the second");
    });
}

#[test]
fn a_connection_of_an_earlier_scheduler_is_not_taken_for_one_of_the_next() {
    let Some(scheduler) = on_ring(one_slot()) else { return };
    let (near, mut far) = std_pair();
    let old = scheduler.run(|| TcpStream::from_std(near).unwrap());
    drop(scheduler);
    on_ring(one_slot()).unwrap().run(move || {
        let (_new, new_far) = pair();
        let reader = spawn(move || {
            let mut buffer = [0; 16];
            let len = old.read(&mut buffer).unwrap();
            buffer[..len].to_vec()
        });
        settle();
        new_far.write_all(b"wrong").unwrap();
        settle();
        far.write_all(b"right").unwrap();
        assert_eq!(reader.join().unwrap(), b"right");
    });
}

/// A scheduler whose fibers cannot end keeps its memory, and with it the list of its slots.
#[test]
fn a_file_of_a_scheduler_that_was_leaked_does_not_take_anothers_slot_with_it() {
    let Some(scheduler) = on_ring(one_slot()) else { return };
    let old = scheduler.run(|| {
        spawn(|| shield(|| Baton::new().wait())).detach();
        File::from_std(tempfile::tempfile().unwrap()).unwrap()
    });
    scheduler.turn(10);
    drop(scheduler);
    on_ring(one_slot()).unwrap().run(move || {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        let file = File::from_std(file).unwrap();
        drop(old);
        let mut buffer = [0; 16];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 7);
    });
}
