//! What a client remembers of servers, in a file: for the next process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;
use rustls_pki_types::ServerName;
use warpline_proto::config::{ClientMemory, MemoryError, MemoryStats};
use warpline_proto::limits::MEMORY_BYTES_MAX;
use zeroize::Zeroizing;

/// A file of address tokens and TLS sessions, which outlive the process in it.
///
/// ```
/// use warpline::{ClientConfig, MemoryFile, TlsOptions, Trust};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (roots, dir) = (warpline::RootCertStore { roots: webpki_root() }, tempfile::tempdir()?);
/// # let path = dir.path().join("servers");
/// let options = TlsOptions { portable_sessions: true, ..TlsOptions::default() };
/// let config = ClientConfig::with_options(&Trust::Roots(roots.into()), &[b"h3"], &options, None)?;
/// let file = MemoryFile::new(path);
/// file.load(&config.memory)?;
/// // … connections with `config` resume what is there, and remember what they are given …
/// file.save(&config.memory)?;
/// # Ok(()) }
/// # fn webpki_root() -> Vec<rustls_pki_types::TrustAnchor<'static>> {
/// #     let id = warpline::Identity::generate(["localhost"]).unwrap();
/// #     let mut store = warpline::RootCertStore::empty();
/// #     store.add(id.certificate).unwrap();
/// #     store.roots
/// # }
/// ```
///
/// Sessions are kept of configurations with [`TlsOptions::portable_sessions`](crate::TlsOptions::portable_sessions), tokens of
/// all. One file may serve any number of configurations: what comes from it is used by a configuration that shows the
/// same client certificate or none, offers the protocol, and trusts the certificates that the server showed then.
///
/// # Used once
///
/// A token or session that is used twice tells an onlooker that the two connections are one client's (RFC 8446 appendix C.4),
/// and early data that is sent under it twice may be refused. So each is in one place: [`load`](Self::load) takes what it
/// returns out of the file, and [`save`](Self::save) takes what it writes out of the memory. Processes that share a
/// file wait for each other while one reads or writes it (by a lock on a file beside it, with `.lock` behind the name), not
/// for longer: what one has taken the others do not find, until it saves. A process that ends without saving loses
/// what it took, and its next connections begin with full handshakes.
///
/// # Secrets
///
/// The file is made for its owner alone (mode 0600) and is refused if anyone else can use it: it is not encrypted.
/// Whoever reads it can resume the sessions in the client's name, and read the early data that this client sent on
/// those that it used (RFC 8446 section 2.3: there is no forward secrecy for it); whoever writes it can pass for the servers
/// that are in it, towards this client. It is written beside and moved into place, so that after a crash it is the old one or
/// the new one.
#[derive(Clone, Debug)]
pub struct MemoryFile {
    path: PathBuf,
}

/// The file was not used, and nothing is in the memory that was not there before. What the file had is still in it, unless the
/// disk failed while it was written.
#[derive(Debug, thiserror::Error)]
pub enum MemoryFileError {
    /// The system says no.
    #[error("{}: {what}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Others than the owner could read or write the file.
    #[error("{}: others than you can use it (mode {mode:04o}, user {owner}), and it holds secrets; make it yours alone with chmod 600, or remove it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// The number of the user that it belongs to.
        owner: u32,
    },
    /// It is something else, damaged, or of another version.
    #[error("{}: {source}; remove it to begin anew", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: MemoryError,
    },
    /// What was asked for is no name of a server.
    #[error("{0}: no name of a server")]
    Name(String),
}

impl MemoryFile {
    /// The file at `path`, which need not be there yet; its directory is.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves all there is from the file to `memory`; returns what came. Sessions that are over are dropped, and those that a memory
    /// made for fewer has no room for. Reads and writes as much as [`MEMORY_BYTES_MAX`] at once: not for a thread that has packets to serve.
    ///
    /// # Errors
    /// The file cannot be read or written, or is not what [`save`](Self::save) writes.
    pub fn load(&self, memory: &ClientMemory) -> Result<MemoryStats, MemoryFileError> {
        self.take(memory, |all, memory| all.move_all(memory))
    }

    /// Moves what is known of one server, by the name and port that it is connected to with, and leaves the rest to
    /// others. For a program that speaks to one server and ends.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), or a name that is none.
    pub fn load_server(&self, memory: &ClientMemory, name: &str, port: u16) -> Result<MemoryStats, MemoryFileError> {
        let name = ServerName::try_from(name).map_err(|_| MemoryFileError::Name(name.to_owned()))?;
        self.take(memory, |all, memory| all.move_server(&name, port, memory))
    }

    fn take(
        &self,
        memory: &ClientMemory,
        choose: impl FnOnce(&ClientMemory, &ClientMemory) -> MemoryStats,
    ) -> Result<MemoryStats, MemoryFileError> {
        let _lock = self.lock()?;
        let (all, chosen) = (ClientMemory::default(), ClientMemory::default());
        if !self.read(&all)? {
            return Ok(MemoryStats::default());
        }
        let came = choose(&all, &chosen);
        if came != MemoryStats::default() {
            // Gone from the file before anybody can use it.
            self.write(&Zeroizing::new(all.export(now())))?;
            chosen.move_all(memory);
        }
        Ok(came)
    }

    /// Moves all tokens and portable sessions from `memory` to the file, as the newest in it, which holds
    /// [`CLIENT_SESSIONS`](warpline_proto::limits::CLIENT_SESSIONS) sessions; those not used for longest make room. Call it when the
    /// connections are over. Blocks as [`load`](Self::load) does.
    ///
    /// # Errors
    /// The file cannot be read or written, or has something else in it. The memory keeps what it has.
    pub fn save(&self, memory: &ClientMemory) -> Result<(), MemoryFileError> {
        let _lock = self.lock()?;
        let all = ClientMemory::default();
        self.read(&all)?;
        let new = Zeroizing::new(memory.export(now()));
        let content = |source| MemoryFileError::Content { path: self.path.clone(), source };
        all.import(&new, now()).map_err(content)?;
        let written = self.write(&Zeroizing::new(all.export(now())));
        if written.is_err() {
            memory.import(&new, now()).map_err(content)?;
        }
        written
    }

    fn io(&self, what: &'static str) -> impl Fn(io::Error) -> MemoryFileError {
        move |source| MemoryFileError::Io { path: self.path.clone(), what, source }
    }

    /// Alone with the file until the result is dropped. The lock is on a file beside it, since this one is replaced.
    fn lock(&self) -> Result<File, MemoryFileError> {
        let failed = self.io("cannot be locked (by a file with `.lock` behind its name)");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
        let lock = options.open(self.beside(".lock")).map_err(&failed)?;
        lock.lock().map_err(&failed)?;
        Ok(lock)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    /// False when there is no file.
    fn read(&self, memory: &ClientMemory) -> Result<bool, MemoryFileError> {
        let failed = self.io("cannot be read");
        // A pipe would be waited for.
        let flags = OFlags::NONBLOCK.bits() as i32;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        let content = |source| MemoryFileError::Content { path: self.path.clone(), source };
        let metadata = file.metadata().map_err(&failed)?;
        if !metadata.is_file() {
            return Err(content(MemoryError::Foreign));
        }
        let (mode, owner) = (metadata.permissions().mode() & 0o7777, metadata.uid());
        if mode & 0o077 != 0 || owner != rustix::process::geteuid().as_raw() {
            return Err(MemoryFileError::Exposed { path: self.path.clone(), mode, owner });
        }
        // With room for all of it, so that no copy stays behind.
        let len = usize::try_from(metadata.len()).unwrap_or(usize::MAX).min(MEMORY_BYTES_MAX);
        let mut bytes = Zeroizing::new(Vec::with_capacity(len + 1));
        file.take(MEMORY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(&failed)?;
        memory.import(&bytes, now()).map_err(content)?;
        Ok(true)
    }

    fn write(&self, bytes: &[u8]) -> Result<(), MemoryFileError> {
        let failed = self.io("cannot be written");
        let new = self.beside(".new");
        // One that a crash has left; the lock says that nobody is writing it.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            // What was taken out must not be back after a crash.
            let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
        })();
        if written.is_err() {
            // Best effort: the next one to write removes it.
            let _ = fs::remove_file(&new);
        }
        written.map_err(failed)
    }
}

/// Since 1970; zero on a machine whose clock is before that, where no session is valid.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
