//! Models of the lock-free parts, run by loom over every interleaving and every value a relaxed load may see.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Plain;
use std::sync::atomic::Ordering::SeqCst;

use loom::cell::UnsafeCell;
use loom::thread;

use crate::count::RefCount;
use crate::returns::{Last, NIL, Returns};
use crate::sync::{AtomicU32, Ordering};

/// Frames as loom sees them: content that tracks access, and a link.
struct Table {
    returns: Returns,
    links: [AtomicU32; 2],
    content: [UnsafeCell<u32>; 2],
    freed: Plain,
}

impl Table {
    fn new() -> loom::sync::Arc<Table> {
        loom::sync::Arc::new(Table {
            returns: Returns::new(2),
            links: [AtomicU32::new(NIL), AtomicU32::new(NIL)],
            content: [UnsafeCell::new(0), UnsafeCell::new(0)],
            freed: Plain::new(0),
        })
    }

    /// What a user of the frame does: writes it, then drops it.
    fn use_and_return(&self, index: u32) {
        // SAFETY: the model's threads own different frames; loom checks that.
        self.content[index as usize].with_mut(|value| unsafe { *value += 1 });
        if self.returns.push(index, &self.links[index as usize]) == Last::Yes {
            self.freed.fetch_add(1, SeqCst);
        }
    }

    fn reuse(&self, mut index: u32) -> usize {
        let mut len = 0;
        while index != NIL {
            // SAFETY: frames in the list taken belong to the taker; loom checks that.
            self.content[index as usize].with_mut(|value| unsafe { *value += 1 });
            len += 1;
            index = self.links[index as usize].load(Ordering::Relaxed);
        }
        len
    }
}

#[test]
fn returned_frames_are_collected_once_each() {
    loom::model(|| {
        let table = Table::new();
        let users: Vec<_> = (0..2)
            .map(|index| {
                let table = table.clone();
                thread::spawn(move || table.use_and_return(index))
            })
            .collect();
        let mut collected = table.reuse(table.returns.take_all());
        for user in users {
            user.join().expect("the user does not panic");
        }
        collected += table.reuse(table.returns.take_all());
        assert_eq!(collected, 2);
        assert_eq!(table.freed.load(SeqCst), 0);
    });
}

#[test]
fn the_region_is_freed_by_exactly_one() {
    loom::model(|| {
        let table = Table::new();
        let users: Vec<_> = (0..2)
            .map(|index| {
                let table = table.clone();
                thread::spawn(move || table.use_and_return(index))
            })
            .collect();
        let home = table.reuse(table.returns.close());
        if table.returns.leave(home + 1) == Last::Yes {
            table.freed.fetch_add(1, SeqCst);
        }
        for user in users {
            user.join().expect("the user does not panic");
        }
        assert_eq!(table.freed.load(SeqCst), 1);
    });
}

#[test]
fn the_last_reference_sees_what_all_others_did() {
    loom::model(|| {
        let shared = loom::sync::Arc::new((RefCount::new(), UnsafeCell::new(0u32)));
        let owners = Arc::new(Plain::new(0));
        let release = |shared: &(RefCount, UnsafeCell<u32>), owners: &Plain| {
            // SAFETY: nobody writes while references exist; loom checks that.
            shared.1.with(|value| unsafe { assert_eq!(*value, 0) });
            if shared.0.release() {
                // SAFETY: the last one owns the content; loom checks that.
                shared.1.with_mut(|value| unsafe { *value = 1 });
                owners.fetch_add(1, SeqCst);
            }
        };
        shared.0.retain();
        shared.0.retain();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (shared, owners) = (shared.clone(), owners.clone());
                thread::spawn(move || release(&shared, &owners))
            })
            .collect();
        release(&shared, &owners);
        for thread in threads {
            thread.join().expect("a holder does not panic");
        }
        assert_eq!(owners.load(SeqCst), 1);
    });
}
