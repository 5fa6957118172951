//! HTTP/3 over quinn, by the h3 crate.

use std::path::Path;

use warpline_interop_kit::Result;
use warpline_interop_kit::http3;

/// Options that cannot be honoured.
pub const LACKS: &[&str] = &[];

/// The client's side of a connection.
#[derive(Clone)]
pub struct Requests(http3::Requests<h3_quinn::OpenStreams>);

impl Requests {
    pub async fn begin(connection: quinn::Connection) -> Result<Self> {
        Ok(Self(http3::Requests::begin(h3_quinn::Connection::new(connection)).await?))
    }

    pub async fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        self.0.get(path).await
    }
}

/// Answers the requests of one connection.
pub async fn serve(connection: quinn::Connection, root: &Path) -> Result<()> {
    http3::serve(h3_quinn::Connection::new(connection), root).await
}
