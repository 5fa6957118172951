//! What the tests of several peers share.

use std::io;
use std::time::Duration;

use warpline_interop::aioquic::Python;
use warpline_interop::hq;
use warpline_interop::identity::Identity;
use warpline_interop::proxy::Config;

/// Sizes of the files that are fetched all at once: a byte, a packet or so, a few megabytes.
pub const SIZES: [usize; 5] = [1, 1_300, 100_000, 2_000_000, 3_000_000];

/// Certificates, and files to serve in their directory.
pub fn set(sizes: &[usize]) -> io::Result<(Identity, Vec<String>)> {
    let identity = Identity::new()?;
    let names = hq::make_files(identity.directory(), sizes)?;
    Ok((identity, names))
}

/// aioquic, or nothing where Python or its packages cannot be had. With `CI` set that is a failure.
pub fn aioquic() -> Option<Python> {
    match Python::find() {
        Ok(python) => Some(python),
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped: aioquic cannot be had: {error}");
            None
        }
        Err(error) => panic!("aioquic cannot be had: {error}"),
    }
}

/// A network with everything wrong that still lets a transfer through.
pub fn bad_network(config: Config) -> Config {
    Config {
        reorder: 0.02,
        duplicate: 0.01,
        corrupt: 0.005,
        rate: Some(100_000_000),
        ..config.delay(Duration::from_millis(10)).loss(0.01)
    }
}

/// Content that differs everywhere.
pub fn content(len: usize) -> Vec<u8> {
    warpline_sim::check::Pattern::new(len as u64).generate(len)
}

/// Compares what was fetched with the files of `identity`'s directory.
pub fn compare(identity: &Identity, names: &[String], contents: Vec<Vec<u8>>) {
    assert_eq!(names.len(), contents.len());
    for (name, content) in names.iter().zip(contents) {
        let file = std::fs::read(identity.directory().join(name)).expect("the test has written it");
        assert!(content == file, "{name} differs: {} bytes of {}", content.len(), file.len());
    }
}
