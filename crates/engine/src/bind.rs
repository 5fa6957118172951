//! The sockets that an engine starts on.

use crate::config::EngineConfig;
use crate::error::StartError;
use crate::scaling::Ports;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use warpline_pktio::Io;
use warpline_ring::partition::{Plan, Table};
use warpline_wire::cid::PARTITION_SLOTS;

pub(crate) fn first_plan(config: &EngineConfig) -> Plan {
    let number = |n: usize| u16::try_from(n).expect("there are at most WORKERS_MAX workers");
    let workers: Vec<u16> = (0..number(config.workers)).collect();
    let table = if config.has_ports() {
        Table::runs(PARTITION_SLOTS, &workers)
    } else {
        Table::modulo(PARTITION_SLOTS, number(config.workers))
    };
    Plan::first(table, workers)
}

/// What an engine starts on.
#[derive(Default)]
pub(crate) struct Bound {
    pub(crate) ios: Vec<Io>,
    pub(crate) ports: Option<Box<dyn Ports>>,
    /// The mark in connection IDs, if the port may go to another process.
    pub(crate) mark: Option<bool>,
    /// The process that has the port so far.
    #[cfg(target_os = "linux")]
    pub(crate) predecessor: Option<crate::restart::Predecessor>,
}

/// One socket per worker; with several, the kernel steers by connection ID with the arithmetic of the first plan.
pub(crate) fn bind(config: &mut EngineConfig) -> Result<Bound, StartError> {
    #[cfg(target_os = "linux")]
    if let Some(path) = &config.restart
        && let Some(visit) = crate::restart::visit(path)?
    {
        return take_over(visit, config);
    }
    let bound = bind_to(config.bind, config);
    match bound {
        // `[::]` means every address; without IPv6 those are the IPv4 ones.
        Err(StartError::Io { ref source, .. }) if config.bind.ip() == Ipv6Addr::UNSPECIFIED && no_ipv6(source) => {
            bind_to((Ipv4Addr::UNSPECIFIED, config.bind.port()).into(), config)
        }
        bound => bound,
    }
}

/// Joins the sockets of the process that has the port so far, with its secret.
#[cfg(target_os = "linux")]
fn take_over(visit: crate::restart::Visit, config: &mut EngineConfig) -> Result<Bound, StartError> {
    let failed = |error| StartError::io("taking over the sockets", error);
    let (secret, mark, neighbour) = (visit.secret, visit.mark, visit.neighbour());
    let mut group = warpline_pktio::udp::Group::adopt(visit.sockets, &config.io, steering(config)).map_err(failed)?;
    let port = group.local_addr().port();
    if config.bind.port() != 0 && config.bind.port() != port {
        return Err(StartError::config("bind", format!("the process at the restart socket has port {port}")));
    }
    group.share(Some(neighbour)).map_err(failed)?;
    let ios = open(&mut group, config)?;
    config.keys = config.keys.clone().with_current(&secret);
    Ok(Bound { ios, ports: Some(Box::new(group)), mark: Some(mark), predecessor: Some(visit.predecessor) })
}

fn no_ipv6(error: &std::io::Error) -> bool {
    #[cfg(target_os = "linux")]
    let unsupported = error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    #[cfg(not(target_os = "linux"))]
    let unsupported = error.kind() == std::io::ErrorKind::Unsupported;
    unsupported || error.kind() == std::io::ErrorKind::AddrNotAvailable
}

fn bind_to(address: SocketAddr, config: &EngineConfig) -> Result<Bound, StartError> {
    if config.has_ports() {
        let mut ports = group(address, config)?;
        let ios = open(ports.as_mut(), config)?;
        // Any process's first mark.
        let mark = config.restart.is_some().then_some(false);
        return Ok(Bound { ios, ports: Some(ports), mark, ..Bound::default() });
    }
    if config.workers == 1 {
        let io = Io::bind(address, &config.io).map_err(|error| StartError::io("binding the socket", error))?;
        return Ok(Bound { ios: vec![io], ..Bound::default() });
    }
    Ok(Bound { ios: bind_group(address, config)?, ..Bound::default() })
}

/// The numbers of the readers that an engine starts with.
pub(crate) fn readers(config: &EngineConfig) -> Vec<u16> {
    config.reader_numbers().filter_map(|number| u16::try_from(number).ok()).collect()
}

/// Where the packets of each slot arrive: at its owner, or at one of the readers if there are some.
pub(crate) fn arrivals(table: &Table, readers: &[u16]) -> Vec<u16> {
    let owners = table.owners();
    match readers.len() {
        0 => owners.to_vec(),
        count => (0..owners.len()).map(|slot| readers[slot * count / owners.len()]).collect(),
    }
}

/// Opens the back ends of the first workers.
pub(crate) fn open(ports: &mut dyn Ports, config: &EngineConfig) -> Result<Vec<Io>, StartError> {
    let refused = |error| StartError::io("binding the sockets of the workers", error);
    let plan = first_plan(config);
    let readers = readers(config);
    let numbers = plan.active.iter().chain(&readers);
    let ios = numbers.map(|number| ports.open(*number)).collect::<Result<Vec<_>, _>>().map_err(refused)?;
    ports.steer(&arrivals(&plan.new, &readers)).map_err(refused)?;
    Ok(ios)
}

#[cfg(target_os = "linux")]
fn steering(config: &EngineConfig) -> warpline_pktio::udp::Steering {
    warpline_pktio::udp::Steering { key_offset: config.layout().key_offset, slots: PARTITION_SLOTS }
}

#[cfg(target_os = "linux")]
fn bind_group(address: SocketAddr, config: &EngineConfig) -> Result<Vec<Io>, StartError> {
    let workers = u16::try_from(config.workers).expect("there are at most WORKERS_MAX workers");
    Io::bind_group(address, workers, &config.io, &steering(config))
        .map_err(|error| StartError::io("binding the sockets of the workers", error))
}

#[cfg(target_os = "linux")]
fn group(address: SocketAddr, config: &EngineConfig) -> Result<Box<dyn Ports>, StartError> {
    use warpline_pktio::{Growing, udp};
    if config.readers > 0 || config.restart.is_some() {
        return Ok(Box::new(udp::Group::new(address, &config.io, steering(config))));
    }
    let number = |workers| u16::try_from(workers).expect("there are at most WORKERS_MAX workers");
    let workers = number(config.workers)..=number(config.workers_max());
    match warpline_pktio::growing(address, workers, &config.io, &steering(config)) {
        Ok(Growing::Sockets(group)) => Ok(group),
        Ok(Growing::Queues(group)) => Ok(group),
        Err(error) => Err(StartError::io("binding the sockets of the workers", error)),
    }
}

#[cfg(not(target_os = "linux"))]
fn bind_group(_address: SocketAddr, _config: &EngineConfig) -> Result<Vec<Io>, StartError> {
    Err(StartError::config("workers", "only Linux steers one port to several workers"))
}

#[cfg(not(target_os = "linux"))]
fn group(_address: SocketAddr, _config: &EngineConfig) -> Result<Box<dyn Ports>, StartError> {
    Err(StartError::config("workers_max", "only Linux steers one port to several workers"))
}
