//! No crate puts HTTP/3 on noq.

use std::path::Path;

use warpline_interop_kit::Result;

/// Options that cannot be honoured.
pub const LACKS: &[&str] = &["http3"];

/// There are none.
#[derive(Clone)]
pub enum Requests {}

impl Requests {
    pub async fn begin(_: noq::Connection) -> Result<Self> {
        Err("the option has been refused".into())
    }

    pub async fn get(&mut self, _: &str) -> Result<Vec<u8>> {
        match *self {}
    }
}

/// Never called.
pub async fn serve(_: noq::Connection, _: &Path) -> Result<()> {
    Err("the option has been refused".into())
}
