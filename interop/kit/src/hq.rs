//! The file transfer of the public interop suite: ALPN `hq-interop`, which is HTTP/0.9. The client sends `GET /path` and
//! CRLF on a bidirectional stream and FIN, the server answers with the file and FIN.

use std::io;
use std::path::Path;

/// The ALPN token.
pub const ALPN: &[u8] = b"hq-interop";

/// ALPN token of the other protocol that our peers speak: each stream's and each datagram's bytes are sent back.
pub const ECHO_ALPN: &[u8] = b"echo";

/// ALPN token of HTTP/3 (RFC 9114 section 3.1), which a program speaks instead if it is asked to.
pub const HTTP3_ALPN: &[u8] = b"h3";

/// The token of HTTP/3 or of HTTP/0.9.
pub fn alpn(http3: bool) -> &'static [u8] {
    if http3 { HTTP3_ALPN } else { ALPN }
}

/// A server reads at most this much of a request.
pub const REQUEST_LEN_MAX: usize = 4_096;

/// Application error code for a request that cannot be answered.
pub const BAD_REQUEST: u32 = 0x0bad;

/// What a server does about a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Sends these bytes and FIN.
    File(Vec<u8>),
    /// Closes the connection with this code: the path was `/close/CODE`.
    Close(u32),
    /// Resets the stream with [`BAD_REQUEST`].
    Reset,
}

/// The bytes that ask for `path`, which begins with a slash.
pub fn request(path: &str) -> Vec<u8> {
    format!("GET {path}\r\n").into_bytes()
}

/// Answers `request` with a file right in `root`. Only the last part of the path counts, so nothing outside is served.
pub fn answer(request: &[u8], root: &Path) -> Answer {
    let Some(path) = parse(request) else { return Answer::Reset };
    if let Some(code) = path.strip_prefix("/close/") {
        return code.parse().map_or(Answer::Reset, Answer::Close);
    }
    let file = || -> io::Result<Vec<u8>> {
        let name = Path::new(path).file_name().ok_or(io::ErrorKind::InvalidInput)?;
        std::fs::read(root.join(name))
    };
    file().map_or(Answer::Reset, Answer::File)
}

/// The path that is asked for.
fn parse(request: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(request).ok()?.lines().next()?;
    line.strip_prefix("GET ").filter(|path| path.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_answered_from_the_root_only() {
        let root = tempfile::tempdir().unwrap();
        let expected = b"something".to_vec();
        std::fs::write(root.path().join("file-0.bin"), &expected).unwrap();
        assert_eq!(answer(&request("/file-0.bin"), root.path()), Answer::File(expected.clone()));
        assert_eq!(answer(&request("/../../file-0.bin"), root.path()), Answer::File(expected));
        assert_eq!(answer(&request("/missing"), root.path()), Answer::Reset);
        assert_eq!(answer(&request("/.."), root.path()), Answer::Reset);
        assert_eq!(answer(&request("/close/42"), root.path()), Answer::Close(42));
        assert_eq!(answer(b"\xff\xfe", root.path()), Answer::Reset);
    }
}
