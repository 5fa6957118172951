//! What a client does, whatever the stack.

use std::future::Future;
use std::path::Path;

use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::Result;
use crate::args::{ClientArgs, Url};

/// Opens connections from one local address.
pub trait Dialer {
    /// What it opens.
    type Connection: Connection;

    /// Opens a connection. `early`: returns as soon as early data can be sent.
    fn dial(&self, early: bool) -> impl Future<Output = Result<Self::Connection>>;

    /// Goes over to another local address, with all connections.
    fn migrate(&self) -> impl Future<Output = Result<()>>;
}

/// A connection of a client.
pub trait Connection {
    /// Fetches `path` on a stream of its own, by HTTP/0.9 ([`crate::hq`]) or by HTTP/3 as the program was asked to.
    fn get(&self, path: &str) -> impl Future<Output = Result<Vec<u8>>>;

    /// Updates the packet protection keys.
    fn update_keys(&self) -> impl Future<Output = Result<()>>;

    /// Waits until the server has given something to resume the session with.
    fn ticket(&self) -> impl Future<Output = Result<()>>;

    /// Closes without an error and waits until the peer has surely been told. Returns what the stack knows about it.
    fn close(self) -> impl Future<Output = Result<Value>>;
}

/// Fetches everything in the order that `args` ask for. Returns one object for each connection.
///
/// # Errors
///
/// Of the first thing that fails.
pub async fn run<D: Dialer>(dialer: &D, args: &ClientArgs) -> Result<Value> {
    let (first, rest) = args.urls.split_at(1);
    let mut connections = Vec::new();
    if args.multiconnect {
        for url in &args.urls {
            let connection = dialer.dial(false).await?;
            fetch(&connection, std::slice::from_ref(url), &args.out).await?;
            connections.push(connection.close().await?);
        }
    } else if args.resume || args.zero_rtt {
        let connection = dialer.dial(false).await?;
        fetch(&connection, first, &args.out).await?;
        connection.ticket().await?;
        connections.push(connection.close().await?);
        let connection = dialer.dial(args.zero_rtt).await?;
        fetch(&connection, rest, &args.out).await?;
        connections.push(connection.close().await?);
    } else {
        let connection = dialer.dial(false).await?;
        let mut urls = args.urls.as_slice();
        if args.key_update || args.migrate {
            fetch(&connection, first, &args.out).await?;
            urls = rest;
        }
        if args.key_update {
            connection.update_keys().await?;
        }
        if args.migrate {
            dialer.migrate().await?;
        }
        fetch(&connection, urls, &args.out).await?;
        connections.push(connection.close().await?);
    }
    Ok(json!({ "connections": connections }))
}

/// Fetches `urls` all at once, each on a stream of its own.
async fn fetch<C: Connection>(connection: &C, urls: &[Url], out: &Path) -> Result<()> {
    let gets = urls.iter().map(|url| async {
        let content = connection.get(&url.path).await?;
        Ok::<(), crate::Error>(std::fs::write(out.join(url.name()), content)?)
    });
    try_join_all(gets).await?;
    Ok(())
}
