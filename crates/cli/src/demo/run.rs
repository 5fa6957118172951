//! The steps of the demo: two processes, real sockets, real files.

use std::error::Error;
use std::fs;
use std::path::Path;

use super::kills::{Interrupted, Plan};
use super::place::Place;
use super::process::{Fetched, Get, Host, Hosted, cpu_of_children};
use super::{DemoArgs, compare, tree};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the demo found.
#[derive(Debug, Default)]
pub struct Outcome {
    pub first: Fetched,
    pub host: Hosted,
    pub host_cpu: f64,
    pub get_cpu: f64,
    pub interrupted: Interrupted,
    pub compared: u64,
    pub differences: Vec<String>,
}

impl Outcome {
    pub fn is_good(&self) -> bool {
        self.differences.is_empty() && self.first.verified && self.interrupted.last.verified
    }

    pub fn host_cpu_per_gib(&self) -> f64 {
        per_gib(self.host_cpu, self.first.bytes)
    }

    pub fn get_cpu_per_gib(&self) -> f64 {
        per_gib(self.get_cpu, self.first.bytes)
    }

    /// Bytes on the wire beyond the content, as a share of the content without its holes, which are not sent.
    pub fn overhead(&self) -> Option<f64> {
        let on_wire = self.interrupted.on_wire?;
        Some(on_wire as f64 / self.first.received_bytes.max(1) as f64 - 1.0)
    }
}

fn per_gib(seconds: f64, bytes: u64) -> f64 {
    if bytes == 0 { 0.0 } else { seconds * (1u64 << 30) as f64 / bytes as f64 }
}

/// Runs all steps.
pub fn demo(args: &DemoArgs) -> Result<Outcome> {
    let scratch = match &args.scratch {
        Some(dir) => tempfile::Builder::new().prefix("warpline-demo-").tempdir_in(dir)?,
        None => tempfile::Builder::new().prefix("warpline-demo-").tempdir()?,
    };
    let scratch = Scratch(scratch);
    let place = Place::new(args.namespaces)?;
    let tree = match &args.dir {
        Some(dir) => dir.canonicalize().map_err(|e| format!("{}: {e}", dir.display()))?,
        None => {
            eprintln!("making a tree of {} MiB and {} small files", args.size, args.files);
            let tree = scratch.path().join("tree");
            tree::make(&tree, args.size, args.files)?;
            tree
        }
    };
    let mut outcome = Outcome::default();
    let host = Host::start(&place, &tree, scratch.path())?;
    match place {
        Place::Loopback => eprintln!("fetching it through the loopback, in two processes"),
        Place::Namespaces(_) => eprintln!("fetching it from one network namespace to another"),
    }
    let copy = scratch.path().join("copy");
    let (host_before, get_before) = (host.cpu()?, cpu_of_children()?);
    outcome.first = Get::start(&place, &host.code_file, &copy)?.finish()?;
    outcome.host_cpu = host.cpu()? - host_before;
    outcome.get_cpu = cpu_of_children()? - get_before;
    outcome.host = host.stop()?;
    check(&mut outcome, &tree, &copy)?;
    remove(&copy)?;

    let again = scratch.path().join("again");
    eprintln!("fetching it again, with {} kill(s) on the way", args.kills);
    let plan = Plan {
        place: &place,
        tree: &tree,
        scratch: scratch.path(),
        target: &again,
        content: outcome.first.bytes,
        kills: args.kills,
    };
    outcome.interrupted = plan.run()?;
    check(&mut outcome, &tree, &again)?;
    Ok(outcome)
}

fn check(outcome: &mut Outcome, tree: &Path, copy: &Path) -> Result<()> {
    eprintln!("comparing every byte and attribute");
    let comparison = compare::compare(tree, copy)?;
    outcome.compared += comparison.entries;
    outcome.differences.extend(comparison.differences);
    Ok(())
}

/// The directory for everything, removed with it even where modes stand against it.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        open_up(self.path());
    }
}

/// Removes a copy.
pub fn remove(copy: &Path) -> Result<()> {
    open_up(copy);
    Ok(fs::remove_dir_all(copy)?)
}

/// Read-only directories would keep what is in them.
fn open_up(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    // What cannot be changed is found by the removal that follows.
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            open_up(&entry.path());
        }
    }
}
