//! Bytes that come wrong: only their groups are asked for again, and not for ever.

use std::sync::Arc;

use super::super::Welcome;
use super::super::partial::Partial;
use super::*;
use crate::hash::group_value;
use crate::manifest::{Entry, Kind, Mtime};
use crate::message::{message, put_varint};
use crate::progress::Progress;

const ID: u64 = 7;
const GROUP: u64 = GROUP_LEN as u64;

/// A target in a directory of its own, with one file asked for.
struct Scene {
    dir: tempfile::TempDir,
    target: Target,
    pending: Pending,
    wants: mpsc::Sender<Vec<u8>>,
    asked: mpsc::Receiver<Vec<u8>>,
    data: Vec<u8>,
}

impl Scene {
    fn new(size: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let welcome = Welcome { name: b"share".to_vec(), single: false };
        let target = Target::open(Some(dir.path().join("target")), &welcome).unwrap();
        let pending = Pending::new(Arc::new(Progress::default()));
        let (wants, asked) = mpsc::channel(64);
        let kind = Kind::File { size: size as u64 };
        let entry = Entry { path: b"file".to_vec(), kind, mode: 0o644, mtime: Mtime::default(), xattrs: Vec::new() };
        let partial = (size > PART_LEN).then(|| Partial::open(&target, &entry, size as u64).unwrap());
        pending.add(ID, Wanted { entry, size: size as u64, partial, open_wants: 1, owed: size as u64, reused: 0 });
        let data = (0..size).map(|i| (i * 7 % 251) as u8).collect();
        Self { dir, target, pending, wants, asked, data }
    }

    /// The part of the file from `start` to `end`.
    fn part(&self, start: usize, end: usize) -> Vec<u8> {
        let size = self.data.len() as u64;
        message(kind::PART, |out| {
            put_varint(out, ID);
            put_varint(out, start as u64);
            put_varint(out, (end - start) as u64);
            for (i, group) in self.data[start..end].chunks(GROUP_LEN).enumerate() {
                out.extend_from_slice(&group_value((start + i * GROUP_LEN) as u64, group, size));
            }
            put_varint(out, 1);
            put_varint(out, 0);
            put_varint(out, (end - start) as u64);
            out.extend_from_slice(&self.data[start..end]);
        })
    }

    /// The same with a byte of the file changed on the way.
    fn part_with_wrong(&self, start: usize, end: usize, wrong: &[usize]) -> Vec<u8> {
        let mut part = self.part(start, end);
        let data_at = part.len() - (end - start);
        for at in wrong {
            part[data_at + at - start] ^= 0x10;
        }
        part
    }

    /// What was asked for again.
    fn again(&mut self) -> Vec<(u64, u64)> {
        self.asked_for().iter().map(|want| (want.start, want.end)).collect()
    }

    fn asked_for(&mut self) -> Vec<Want> {
        std::iter::from_fn(|| self.asked.try_recv().ok()).map(|want| Want::decode(&want[5..]).unwrap()).collect()
    }

    fn served(&self) -> Vec<u8> {
        message(kind::SERVED, |out| put_varint(out, ID))
    }

    fn result(&self) -> Option<Vec<u8>> {
        std::fs::read(self.dir.path().join("target/file")).ok()
    }
}

/// Hands a whole message over.
fn take(writer: &mut Writer<'_>, message: &[u8]) -> Result<(), ShareError> {
    writer.take(message[4], &message[5..])
}

/// What a scene's writer borrows, so that the scene stays free to be asked.
macro_rules! writer {
    ($scene:ident) => {
        Writer::new(&$scene.target, &$scene.pending, &$scene.wants)
    };
}

fn groups_are_fetched_again(size: usize) {
    let mut scene = Scene::new(size);
    let (target, pending, wants) = (&scene.target, &scene.pending, scene.wants.clone());
    let mut writer = Writer::new(target, pending, &wants);
    let first_end = size.min(PART_LEN);
    // Two neighbours and one by itself.
    let wrong = [2 * GROUP_LEN + 5, 3 * GROUP_LEN, 6 * GROUP_LEN + GROUP_LEN - 1];
    take(&mut writer, &scene.part_with_wrong(0, first_end, &wrong)).unwrap();
    let asked: Vec<_> =
        std::iter::from_fn(|| scene.asked.try_recv().ok()).map(|w| Want::decode(&w[5..]).unwrap()).collect();
    let ranges: Vec<_> = asked.iter().map(|want| (want.start, want.end)).collect();
    assert_eq!(ranges, [(2 * GROUP, 4 * GROUP), (6 * GROUP, 7 * GROUP)]);
    assert!(asked.iter().all(|want| want.id == ID && want.path == b"file" && want.size == size as u64));
    for start in (first_end..size).step_by(PART_LEN) {
        take(&mut writer, &scene.part(start, size.min(start + PART_LEN))).unwrap();
    }
    take(&mut writer, &scene.served()).unwrap();
    assert_eq!(scene.result(), None, "not before it is complete");
    for (start, end) in ranges {
        take(&mut writer, &scene.part(start as usize, end as usize)).unwrap();
        take(&mut writer, &scene.served()).unwrap();
    }
    assert_eq!(scene.result().as_ref(), Some(&scene.data));
    assert_eq!(scene.pending.progress.bytes_done.get(), size as u64);
    assert_eq!(scene.pending.progress.refetched.get(), 2);
}

#[test]
fn groups_of_a_small_file() {
    groups_are_fetched_again(8 * GROUP_LEN + 100);
}

#[test]
fn groups_of_a_file_of_several_parts() {
    groups_are_fetched_again(3 * PART_LEN + 5);
}

#[test]
fn a_wrong_value_is_found_as_a_wrong_byte_is() {
    let mut scene = Scene::new(100_000);
    let mut message = scene.part(0, 100_000);
    // Behind kind, number, start (one byte each) and a length of four.
    message[12 + 32] ^= 1;
    take(&mut writer!(scene), &message).unwrap();
    assert_eq!(scene.again(), [(GROUP, 2 * GROUP)]);
}

#[test]
fn the_last_group_of_a_file_ends_where_the_file_does() {
    let mut scene = Scene::new(50_000);
    let message = scene.part_with_wrong(0, 50_000, &[49_999]);
    take(&mut writer!(scene), &message).unwrap();
    assert_eq!(scene.again(), [(3 * GROUP, 50_000)]);
}

#[test]
fn what_is_always_wrong_is_given_up() {
    let mut scene = Scene::new(50_000);
    let (whole, again) = (scene.part_with_wrong(0, 50_000, &[20_000]), scene.part_with_wrong(16384, 32768, &[20_000]));
    let (target, pending, wants) = (&scene.target, &scene.pending, scene.wants.clone());
    let mut writer = Writer::new(target, pending, &wants);
    take(&mut writer, &whole).unwrap();
    take(&mut writer, &again).unwrap();
    take(&mut writer, &again).unwrap();
    let error = take(&mut writer, &again).unwrap_err();
    assert!(matches!(error, ShareError::Corrupt { tries: 4, start: 16384, end: 32768, .. }), "{error:?}");
    assert_eq!(scene.again(), [(GROUP, 2 * GROUP); 3]);
    assert_eq!(scene.result(), None);
}

#[test]
fn faults_in_different_parts_do_not_add_up() {
    let size = 6 * PART_LEN;
    let scene = Scene::new(size);
    let mut writer = writer!(scene);
    for start in (0..size).step_by(PART_LEN) {
        take(&mut writer, &scene.part_with_wrong(start, start + PART_LEN, &[start + 1])).unwrap();
    }
    for start in (0..size).step_by(PART_LEN) {
        take(&mut writer, &scene.part(start, start + GROUP_LEN)).unwrap();
        take(&mut writer, &scene.served()).unwrap();
    }
    take(&mut writer, &scene.served()).unwrap();
    assert_eq!(scene.result().as_ref(), Some(&scene.data));
}

#[test]
fn a_file_that_cannot_be_served_is_told_and_leaves_nothing() {
    for size in [50_000, 2 * PART_LEN] {
        let scene = Scene::new(size);
        let mut writer = writer!(scene);
        take(&mut writer, &scene.part(0, size.min(PART_LEN))).unwrap();
        let failed = message(kind::FAILED, |out| {
            put_varint(out, ID);
            crate::message::put_bytes(out, b"changed");
        });
        take(&mut writer, &failed).unwrap();
        assert_eq!(scene.pending.take_not_kept().0, [(b"file".to_vec(), "changed".to_owned())]);
        assert_eq!(scene.result(), None);
        let partial = scene.dir.path().join("target/.warpline-partial");
        // The mark of the boot, and data and record of a file of several parts.
        let kept = if size > PART_LEN { 3 } else { 1 };
        assert_eq!(std::fs::read_dir(partial).unwrap().count(), kept);
    }
}

/// The values of a part's groups as the older version has them.
fn copied(data: &[u8], part: u64, groups: std::ops::Range<usize>) -> Step {
    let mut values: Groups = Box::new([None; GROUPS]);
    for nth in groups {
        let offset = part as usize * PART_LEN + nth * GROUP_LEN;
        let bytes = &data[offset..(offset + GROUP_LEN).min(data.len())];
        values[nth] = Some(group_value(offset as u64, bytes, data.len() as u64));
    }
    Step::Copied { part, groups: values }
}

/// Puts bytes where a thread that copies them would.
fn put(scene: &Scene, offset: usize, bytes: &[u8]) {
    let partial = scene.dir.path().join("target/.warpline-partial");
    let names = std::fs::read_dir(partial).unwrap().map(|entry| entry.unwrap().path());
    let data = names.into_iter().find(|path| path.extension().is_some_and(|e| e == "data")).unwrap();
    File::options().write(true).open(data).unwrap().write_all_at(bytes, offset as u64).unwrap();
}

/// A scene in which the whole is asked for by what compares it with an older version.
fn delta_scene(size: usize) -> Scene {
    let scene = Scene::new(size);
    let mut wanted = scene.pending.take(ID).unwrap();
    wanted.owed = 0;
    scene.pending.complete(&wanted);
    scene.pending.add(ID, wanted);
    scene
}

#[test]
fn what_was_copied_and_what_comes_make_a_file() {
    let scene = delta_scene(2 * PART_LEN);
    let root = *blake3::hash(&scene.data).as_bytes();
    let mut writer = writer!(scene);
    let asked = 3 * GROUP_LEN..5 * GROUP_LEN;
    writer.delta(ID, Step::Asked { wants: 1, bytes: 2 * GROUP }).unwrap();
    // What was asked for may come before what is copied.
    take(&mut writer, &scene.part(asked.start, asked.end)).unwrap();
    take(&mut writer, &scene.served()).unwrap();
    put(&scene, 0, &scene.data[..asked.start]);
    put(&scene, asked.end, &scene.data[asked.end..]);
    let Step::Copied { groups, .. } = copied(&scene.data, 0, 0..GROUPS) else { unreachable!() };
    let mut some = groups;
    some[3..5].fill(None);
    writer.delta(ID, Step::Copied { part: 0, groups: some }).unwrap();
    writer.delta(ID, copied(&scene.data, 1, 0..GROUPS)).unwrap();
    assert_eq!(scene.result(), None, "not before the comparison has come to its end");
    writer.delta(ID, Step::Done(Some(root))).unwrap();
    assert_eq!(scene.result().as_ref(), Some(&scene.data));
    assert_eq!(scene.pending.progress.bytes_copied.get(), 2 * PART_LEN as u64 - 2 * GROUP);
    assert_eq!(scene.pending.progress.bytes_done.get(), 2 * PART_LEN as u64);
}

#[test]
fn what_was_copied_and_is_not_of_this_version_is_dropped() {
    for told in [true, false] {
        let mut scene = delta_scene(2 * PART_LEN);
        let root = *blake3::hash(&scene.data).as_bytes();
        let (target, pending, wants) = (&scene.target, &scene.pending, scene.wants.clone());
        let mut writer = Writer::new(target, pending, &wants);
        let other = vec![1; 2 * PART_LEN];
        put(&scene, 0, &other);
        writer.delta(ID, copied(&other, 0, 0..GROUPS)).unwrap();
        writer.delta(ID, copied(&other, 1, 0..GROUPS)).unwrap();
        writer.delta(ID, Step::Done(told.then_some(root))).unwrap();
        assert_eq!(scene.result(), None);
        assert_eq!(pending.progress.bytes_copied.get(), 0);
        // All of it is asked for, once.
        let asked: Vec<_> =
            std::iter::from_fn(|| scene.asked.try_recv().ok()).map(|w| Want::decode(&w[5..]).unwrap()).collect();
        assert_eq!(asked.iter().map(|want| (want.start, want.end)).collect::<Vec<_>>(), [(0, 2 * PART_LEN as u64)]);
        for start in [0, PART_LEN] {
            take(&mut writer, &scene.part(start, start + PART_LEN)).unwrap();
        }
        take(&mut writer, &scene.served()).unwrap();
        assert_eq!(scene.result().as_ref(), Some(&scene.data));
        assert_eq!(pending.progress.bytes_done.get(), 2 * PART_LEN as u64);
    }
}
