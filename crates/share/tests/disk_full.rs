//! A disk that is full ends a transfer, and room lets it go on.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Scene, assert_same_tree, fetch, noise, run};
use warpline_share::ShareError;

/// A file system of a few megabytes, until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output().ok()?;
        mounted.status.success().then(|| Self(at.to_path_buf()))
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_what_arrived_is_kept() {
    run(async {
        let scene = Scene::new();
        let Some(disk) = SmallDisk::mount(&scene.dir.path().join("disk"), "8m") else {
            eprintln!("skipped: only root may mount a small file system");
            return;
        };
        fs::write(scene.source().join("large"), noise(1, 20 << 20)).unwrap();
        for i in 0..100 {
            fs::write(scene.source().join(format!("small {i}")), noise(i, 10_000)).unwrap();
        }
        let host = scene.source_host();
        let target = disk.0.join("target");
        let outcome = fetch(host.code(), &target).await;
        assert!(matches!(outcome, Err(ShareError::DiskFull { .. })), "{outcome:?}");
        disk.resize("64m");
        let report = fetch(host.code(), &target).await.unwrap();
        assert!(report.reused_bytes > 4 << 20, "{report:?}");
        assert_same_tree(&scene.source(), &target);
    });
}
