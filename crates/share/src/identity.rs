//! What a host keeps between runs so that its code stays good: key, secret and port, one file per shared path.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use warpline::Identity;
use warpline_wire::Reader;

use crate::code::SECRET_LEN;
use crate::error::ShareError;
use crate::message::{put_bytes, take_bytes};

const MAGIC: &[u8; 8] = b"wlshare1";
/// Largest file that is read as an identity.
const FILE_MAX: usize = 64 * 1024;

/// The identity of a share.
#[derive(Debug)]
pub struct ShareIdentity {
    /// Certificate and key.
    pub tls: Identity,
    /// The code's secret.
    pub secret: [u8; SECRET_LEN],
    /// The port of the last run; 0 for none.
    pub port: u16,
    file: PathBuf,
}

impl ShareIdentity {
    /// The identity for `root`, an absolute path, from `state_dir`, or a new one that is kept there.
    ///
    /// # Errors
    /// The state directory cannot be used, or the file in it is damaged.
    pub fn load_or_create(state_dir: &Path, root: &Path) -> Result<Self, ShareError> {
        let name = blake3::hash(root.as_os_str().as_bytes()).to_hex();
        let file = state_dir.join(&name.as_str()[..32]);
        match fs::read(&file) {
            Ok(bytes) if bytes.len() <= FILE_MAX => Self::parse(&bytes, &file).ok_or_else(|| ShareError::Misuse {
                path: file.clone(),
                what: "is damaged; remove it to make a new identity (codes given out before will not work)".into(),
            }),
            Ok(_) => Err(ShareError::Misuse { path: file, what: "is no identity of a share".into() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::create(state_dir, file),
            Err(error) => Err(ShareError::io(file.display(), "cannot read the identity", error)),
        }
    }

    fn create(state_dir: &Path, file: PathBuf) -> Result<Self, ShareError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(|e| ShareError::io(state_dir.display(), "cannot make the state directory", e))?;
        let tls = Identity::generate(["warpline"])
            .map_err(|e| ShareError::Misuse { path: file.clone(), what: format!("no key could be made: {e}") })?;
        let mut secret = [0; SECRET_LEN];
        getrandom::fill(&mut secret)
            .map_err(|e| ShareError::Misuse { path: file.clone(), what: format!("no randomness: {e}") })?;
        let identity = Self { tls, secret, port: 0, file };
        identity.save()?;
        Ok(identity)
    }

    fn parse(bytes: &[u8], file: &Path) -> Option<Self> {
        let body = bytes.strip_prefix(MAGIC)?;
        let mut r = Reader::new(body);
        let secret = r.array().ok()?;
        let port = r.u16().ok()?;
        let certificate = CertificateDer::from(take_bytes(&mut r, FILE_MAX)?.to_vec());
        let key = take_bytes(&mut r, FILE_MAX)?.to_vec();
        r.is_empty().then(|| Self { tls: Identity::from_der(certificate, key), secret, port, file: file.into() })
    }

    /// What the keys of stateless resets and tokens are derived from. A host that was killed and runs again can so tell its receivers that
    /// their connections are gone, and they need not wait for silence.
    pub(crate) fn endpoint_secret(&self) -> [u8; 32] {
        blake3::derive_key("warpline share 2026 endpoint secret", self.tls.key_pkcs8())
    }

    /// Remembers the port, for the next run.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_port(&mut self, port: u16) -> Result<(), ShareError> {
        if self.port == port {
            return Ok(());
        }
        self.port = port;
        self.save()
    }

    /// Written beside and moved into place, so that a kill leaves the old or the new one.
    fn save(&self) -> Result<(), ShareError> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(&self.port.to_be_bytes());
        put_bytes(&mut bytes, &self.tls.certificate);
        put_bytes(&mut bytes, self.tls.key_pkcs8());
        let beside = self.file.with_extension("new");
        let error = |e| ShareError::io(beside.display(), "cannot keep the identity", e);
        let _ = fs::remove_file(&beside);
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(error)?;
        out.write_all(&bytes).map_err(error)?;
        out.sync_all().map_err(error)?;
        fs::rename(&beside, &self.file).map_err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_path_keeps_its_identity() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = ShareIdentity::load_or_create(dir.path(), Path::new("/some/where")).unwrap();
        first.set_port(4433).unwrap();
        let again = ShareIdentity::load_or_create(dir.path(), Path::new("/some/where")).unwrap();
        assert_eq!(
            (first.secret, first.tls.fingerprint().0, 4433),
            (again.secret, again.tls.fingerprint().0, again.port)
        );
        let other = ShareIdentity::load_or_create(dir.path(), Path::new("/else/where")).unwrap();
        assert_ne!(first.secret, other.secret);
    }

    #[test]
    fn a_damaged_file_is_not_replaced_silently() {
        let dir = tempfile::tempdir().unwrap();
        let first = ShareIdentity::load_or_create(dir.path(), Path::new("/x")).unwrap();
        fs::write(&first.file, b"garbage").unwrap();
        assert!(matches!(ShareIdentity::load_or_create(dir.path(), Path::new("/x")), Err(ShareError::Misuse { .. })));
    }
}
