//! What a URL says about where to go.

use ::url::{Host, Url};
use std::net::{IpAddr, SocketAddr};

use super::Failure;

/// The target of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The whole, without its fragment.
    pub url: Url,
    /// What the certificate has to be for.
    pub name: String,
    host: Host,
    /// The port of the server.
    pub port: u16,
}

impl Target {
    /// Takes an `https` URL.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let url = Url::parse(text).map_err(|error| Failure::usage(format!("{text}: {error}")))?;
        Self::of(url)
    }

    /// What a redirection leads to.
    pub fn redirected(&self, location: &str) -> Result<Self, Failure> {
        let broken = |error| Failure::failed(format!("a redirection to {location:?}: {error}"));
        Self::of(self.url.join(location).map_err(broken)?)
    }

    fn of(mut url: Url) -> Result<Self, Failure> {
        if url.scheme() != "https" {
            return Err(Failure::usage(format!("{url}: HTTP/3 takes https URLs only")));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Failure::usage("a URL with a user or a password is not taken"));
        }
        url.set_fragment(None);
        let host = url.host().ok_or_else(|| Failure::usage(format!("{url}: no host")))?.to_owned();
        let name = match &host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let port = url.port_or_known_default().unwrap_or(443);
        Ok(Self { url, name, host, port })
    }

    /// The addresses of the host, those of IPv6 first.
    pub async fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let name = match &self.host {
            Host::Ipv4(address) => return Ok(vec![(IpAddr::V4(*address), self.port).into()]),
            Host::Ipv6(address) => return Ok(vec![(IpAddr::V6(*address), self.port).into()]),
            Host::Domain(name) => name,
        };
        let found = tokio::net::lookup_host((name.as_str(), self.port)).await;
        let mut addresses: Vec<_> = found.map_err(|error| Failure::disconnected(format!("{name}: {error}")))?.collect();
        addresses.sort_by_key(|address| !address.is_ipv6());
        addresses.dedup();
        if addresses.is_empty() {
            return Err(Failure::disconnected(format!("{name} has no address")));
        }
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_are_taken_and_those_that_are_not() {
        let target = Target::parse("https://Example.org:4433/a b?q#frag").expect("it is fine");
        assert_eq!(target.url.as_str(), "https://example.org:4433/a%20b?q");
        assert_eq!((target.name.as_str(), target.port), ("example.org", 4433));
        assert_eq!(Target::parse("https://[::1]/").expect("it is fine").name, "::1");
        for refused in ["http://example.org/", "example.org", "https://", "https://u:p@example.org/", "ftp://x/"] {
            assert!(Target::parse(refused).is_err(), "{refused}");
        }
        let next = target.redirected("../c").expect("it is fine");
        assert_eq!(next.url.as_str(), "https://example.org:4433/c");
        assert!(target.redirected("http://example.org/").is_err());
    }
}
