//! Network namespaces for a run whose programs use AF_XDP: each program in one of its own, and between them a middle, where the
//! proxies are.
//!
//! ```text
//! client 0 ── veth ──┐
//!                    ├── middle ── veth ── server
//! client 1 ── veth ──┘
//! ```
//!
//! The loopback runs no XDP programs, so programs on AF_XDP cannot meet there. That their packets went past the kernel's network stack
//! is shown by the kernel itself: it counts the UDP datagrams of each namespace, and there are none.

use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What the interface of a program is called in its namespace.
pub const INTERFACE: &str = "wl0";
/// Addresses beside the first one that the middle has towards the server: from here on, half of a network of 256.
pub const MORE_ADDRESSES: Ipv4Addr = Ipv4Addr::new(10, 90, 9, 128);
/// The server's part of the addresses.
const SERVER: usize = 9;

/// Tells the namespaces of several runs apart.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// A namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Of the client with that number, 0 or 1.
    Client(usize),
    /// Where the proxies are.
    Middle,
    /// Of the server.
    Server,
}

/// The namespaces of a run, removed when this is dropped.
#[derive(Debug)]
pub struct Net {
    prefix: String,
    clients: usize,
}

impl Net {
    /// Namespaces for one server and one or two clients.
    ///
    /// # Errors
    ///
    /// What `ip` says, which needs root.
    pub fn new(clients: usize) -> io::Result<Self> {
        let prefix = format!("wli-{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
        let net = Self { prefix, clients };
        let middle = net.name(Place::Middle);
        ip(&format!("netns add {middle}"))?;
        for place in net.ends() {
            ip(&format!("netns add {}", net.name(place)))?;
        }
        let mut inside_middle = String::from("link set lo up\n");
        for place in net.ends() {
            let (name, number) = (net.name(place), number(place));
            ip(&format!("link add wl{number} netns {middle} type veth peer name {INTERFACE} netns {name}"))?;
            net.batch(
                place,
                &format!(
                    "link set {INTERFACE} up\naddr add 10.90.{number}.2/24 dev {INTERFACE}\n\
                     addr add fd90:{number}::2/64 dev {INTERFACE} nodad\n\
                     route add default via 10.90.{number}.1\nroute add default via fd90:{number}::1\n"
                ),
            )?;
            inside_middle += &format!(
                "link set wl{number} up\naddr add 10.90.{number}.1/24 dev wl{number}\n\
                 addr add fd90:{number}::1/64 dev wl{number} nodad\n"
            );
        }
        net.batch(Place::Middle, &format!("{inside_middle}route add local {MORE_ADDRESSES}/25 dev lo\n"))?;
        Ok(net)
    }

    /// All but the middle.
    fn ends(&self) -> impl Iterator<Item = Place> + use<> {
        (0..self.clients).map(Place::Client).chain([Place::Server])
    }

    fn name(&self, place: Place) -> String {
        match place {
            Place::Middle => format!("{}-m", self.prefix),
            end => format!("{}-{}", self.prefix, number(end)),
        }
    }

    /// Runs the lines with one `ip`.
    fn batch(&self, place: Place, lines: &str) -> io::Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name(place), "-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().map_or(Ok(()), |mut input| input.write_all(lines.as_bytes()))?;
        check("ip -batch", &child.wait_with_output()?)
    }

    /// Where the server is.
    pub fn server(&self, ipv6: bool) -> IpAddr {
        address(SERVER, 2, ipv6)
    }

    /// Where clients send to.
    pub fn listen(&self, ipv6: bool) -> IpAddr {
        address(0, 1, ipv6)
    }

    /// A command that runs there.
    pub fn command(&self, place: Place, program: Command) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(place)]).arg(program.get_program()).args(program.get_args());
        command
    }

    /// Runs code on a thread inside: sockets and threads that it makes stay there.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered, or what the code says.
    pub fn inside<T: Send>(&self, place: Place, code: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let file = File::open(format!("/run/netns/{}", self.name(place)))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                code()
            });
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the code inside a namespace panicked")))
        })
    }

    /// A UDP port that is free there.
    ///
    /// # Errors
    ///
    /// As [`inside`](Self::inside), and of binding.
    pub fn free_address(&self, place: Place, ip: IpAddr) -> io::Result<SocketAddr> {
        self.inside(place, || std::net::UdpSocket::bind((ip, 0))?.local_addr())
    }

    /// UDP datagrams that the kernel has handed to sockets or sent for them there.
    ///
    /// # Errors
    ///
    /// As [`inside`](Self::inside), and if the kernel does not count.
    pub fn kernel_datagrams(&self, place: Place) -> io::Result<u64> {
        let [v4, v6] = self.inside(place, || {
            let read = |file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}"));
            Ok([read("snmp")?, read("snmp6")?])
        })?;
        sum_v4(&v4)
            .zip(sum_v6(&v6))
            .map(|(v4, v6)| v4 + v6)
            .ok_or_else(|| io::Error::other("no counts of UDP datagrams"))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for place in self.ends().chain([Place::Middle]) {
            // It may not have been made.
            let _ = ip(&format!("netns del {}", self.name(place)));
        }
    }
}

fn number(place: Place) -> usize {
    match place {
        Place::Client(index) => index,
        Place::Middle | Place::Server => SERVER,
    }
}

fn address(number: usize, host: u8, ipv6: bool) -> IpAddr {
    let number = number as u8;
    if ipv6 { [0xfd90, number.into(), 0, 0, 0, 0, 0, host.into()].into() } else { [10, 90, number, host].into() }
}

/// `/proc/net/snmp` has a line of names and one of numbers for each protocol.
fn sum_v4(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, numbers) = (lines.next()?.split(' '), lines.next()?.split(' '));
    let mut counts = names.zip(numbers).filter(|(name, _)| matches!(*name, "InDatagrams" | "OutDatagrams"));
    counts.try_fold(0, |sum, (_, count)| Some(sum + count.parse::<u64>().ok()?))
}

/// `/proc/net/snmp6` has a line for each number.
fn sum_v6(text: &str) -> Option<u64> {
    let count = |name: &str| text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse::<u64>().ok();
    Some(count("Udp6InDatagrams")? + count("Udp6OutDatagrams")?)
}

fn ip(words: &str) -> io::Result<()> {
    let mut command = Command::new("ip");
    check(words, &command.args(words.split(' ')).stdin(Stdio::null()).output()?)
}

fn check(what: &str, output: &Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("`{what}`: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_counts_are_found_by_name() {
        let v4 = "Ip: Forwarding\nIp: 1\nUdp: InDatagrams NoPorts InErrors OutDatagrams\nUdp: 5 7 11 13\n";
        assert_eq!(sum_v4(v4), Some(18));
        assert_eq!(sum_v4("Tcp: a\nTcp: 1\n"), None);
        let v6 = "Udp6InDatagrams                 \t2\nUdp6OutDatagrams                \t3\nUdp6InErrors 9\n";
        assert_eq!(sum_v6(v6), Some(5));
        assert_eq!(sum_v6("Udp6InDatagrams 2\n"), None);
    }

    #[test]
    fn addresses_are_those_of_the_links() {
        assert_eq!(address(0, 1, false).to_string(), "10.90.0.1");
        assert_eq!(address(SERVER, 2, true).to_string(), "fd90:9::2");
    }
}
