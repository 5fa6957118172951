//! What a host has connections on: one endpoint, or several that share them as the workers of an engine do.
//!
//! Several endpoints have one address, the same keys and the same configuration. Each owns some of the slots that connection
//! IDs fall into; a datagram goes to the owner of its slot. Slots, and the connections in them, move between the
//! endpoints while everything goes on. The application does not see it: it names its connections by [`ConnectionKey`], which
//! stays the same wherever the connection is.

mod moving;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use warpline_frame::Frame;
use warpline_proto::config::ClientConfig;
use warpline_proto::{
    ConnectError, Connection, ConnectionHandle, DatagramMeta, Endpoint, Event, Kept, MigrateError, Transmit,
};

pub use self::moving::Moving;
use self::moving::{Partition, Step};
use crate::{Instant, Rng};

/// Names a connection of a host as long as the application knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionKey(u64);

/// Where a connection is.
type Place = (usize, ConnectionHandle);

/// The endpoints of a host.
#[derive(Debug)]
pub struct Workers {
    endpoints: Vec<Endpoint>,
    /// Who owns which slot; one endpoint owns them all.
    partition: Option<Partition>,
    /// Where the connections are that the application knows. Those between two endpoints are nowhere.
    places: BTreeMap<ConnectionKey, Place>,
    keys: BTreeMap<Place, ConnectionKey>,
    keys_given: u64,
}

impl Workers {
    /// One endpoint.
    pub fn one(endpoint: Endpoint) -> Self {
        Self {
            endpoints: vec![endpoint],
            partition: None,
            places: BTreeMap::new(),
            keys: BTreeMap::new(),
            keys_given: 0,
        }
    }

    /// Several endpoints made by `endpoint`, between which connections move as `moving` says.
    pub fn several(moving: Moving, mut rng: Rng, mut endpoint: impl FnMut([u8; 32]) -> Endpoint) -> Self {
        let mut workers = Self::one(endpoint(rng.seed()));
        workers.endpoints.extend((1..moving.workers).map(|_| endpoint(rng.seed())));
        let partition = Partition::new(moving, rng);
        partition.announce(&mut workers.endpoints);
        workers.partition = Some(partition);
        workers
    }

    /// The connection of `key`, to act on. None if it is over or between two endpoints.
    pub fn connection(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        let &(worker, handle) = self.places.get(&key)?;
        self.endpoints.get_mut(worker)?.connection(handle)
    }

    /// Starts a connection, at any endpoint that keeps slots.
    ///
    /// # Errors
    ///
    /// Those of [`Endpoint::connect`].
    pub fn connect(
        &mut self,
        now: Instant,
        config: &ClientConfig,
        remote: SocketAddr,
        server_name: &str,
    ) -> Result<ConnectionKey, ConnectError> {
        let worker = self.partition.as_mut().map_or(0, Partition::any_worker);
        let handle = self.endpoints[worker].connect(now, config, remote, server_name)?;
        Ok(self.key_at((worker, handle)))
    }

    /// Moves a connection of a client to the address that the host has from now on.
    ///
    /// # Errors
    ///
    /// Those of [`Endpoint::migrate`].
    pub fn migrate(&mut self, now: Instant, key: ConnectionKey) -> Result<(), MigrateError> {
        let &(worker, handle) = self.places.get(&key).ok_or(MigrateError::NotEstablished)?;
        self.endpoints[worker].migrate(now, handle)
    }

    /// The next event of any connection.
    pub fn poll_event(&mut self) -> Option<(ConnectionKey, Event)> {
        let found = |(worker, endpoint): (usize, &mut Endpoint)| {
            endpoint.poll_event().map(|(handle, event)| ((worker, handle), event))
        };
        let (place, event) = self.endpoints.iter_mut().enumerate().find_map(found)?;
        let key = self.key_at(place);
        if matches!(event, Event::Closed(_)) {
            self.keys.remove(&place);
            self.places.remove(&key);
        }
        Some((key, event))
    }

    /// Writes the next train of datagrams.
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut [u8]) -> Option<Transmit> {
        self.endpoints.iter_mut().find_map(|endpoint| endpoint.poll_transmit(now, buf))
    }

    /// Handles datagrams that arrived together, each at the owner of its slot. They wait for it if the slot is about to move.
    pub fn handle_datagrams(&mut self, now: Instant, meta: &DatagramMeta, mut together: Vec<Frame>) {
        let Some(partition) = &mut self.partition else {
            return self.endpoints[0].handle_datagrams(now, meta, &mut together);
        };
        partition.note_traffic(now);
        let mut shares: Vec<Vec<Frame>> = self.endpoints.iter().map(|_| Vec::new()).collect();
        for datagram in together {
            if let Some((owner, datagram)) = partition.route(meta, datagram) {
                shares[owner].push(datagram);
            }
        }
        for (owner, mut share) in shares.into_iter().enumerate() {
            self.assert_unknown_elsewhere(owner, &share);
            self.endpoints[owner].handle_datagrams(now, meta, &mut share);
        }
    }

    /// At every moment at most one endpoint acts for a slot.
    fn assert_unknown_elsewhere(&mut self, owner: usize, datagrams: &[Frame]) {
        let others = self.endpoints.iter_mut().enumerate().filter(|(worker, _)| *worker != owner);
        for (worker, endpoint) in others {
            let known = datagrams.iter().any(|datagram| endpoint.knows(datagram));
            assert!(!known, "worker {worker} has a connection in a slot of worker {owner}");
        }
    }

    /// Does what is due: deadlines of connections, and the next step of a move.
    pub fn handle_timeout(&mut self, now: Instant) {
        for endpoint in &mut self.endpoints {
            if endpoint.next_timeout().is_some_and(|at| at <= now) {
                endpoint.handle_timeout(now);
            }
        }
        while let Some(step) = self.partition.as_mut().and_then(|partition| partition.next_step(now)) {
            match step {
                Step::Hold => {}
                Step::Give => self.give(),
                Step::Start => self.start(now),
            }
            self.partition.iter().for_each(|partition| partition.announce(&mut self.endpoints));
        }
    }

    /// Takes the connections out whose slots leave.
    fn give(&mut self) {
        let Some(partition) = &mut self.partition else { return };
        for (worker, endpoint) in self.endpoints.iter_mut().enumerate() {
            for handle in endpoint.handles() {
                let leaves = endpoint.partition_key(handle).is_some_and(|key| partition.is_leaving(key));
                if leaves && let Some(detached) = endpoint.detach(handle) {
                    let key = self.keys.remove(&(worker, handle));
                    if let Some(key) = &key {
                        self.places.remove(key);
                    }
                    partition.in_transit.push((key, detached));
                }
            }
        }
    }

    /// Hands connections to the new owners of their slots, and then the datagrams that waited there.
    fn start(&mut self, now: Instant) {
        let Some(partition) = &mut self.partition else { return };
        for (key, detached) in std::mem::take(&mut partition.in_transit) {
            let worker = partition.owner(detached.partition_key());
            let handle = self.endpoints[worker].attach(detached);
            if let Some(key) = key {
                self.places.insert(key, (worker, handle));
                self.keys.insert((worker, handle), key);
            }
        }
        for (meta, datagram) in std::mem::take(&mut partition.held) {
            self.handle_datagrams(now, &meta, vec![datagram]);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn next_timeout(&self) -> Option<Instant> {
        let deadlines = self.endpoints.iter().filter_map(Endpoint::next_timeout);
        deadlines.chain(self.partition.as_ref().and_then(Partition::next_time)).min()
    }

    /// Whether no connection is between two endpoints. What the program does of itself waits for that, as tasks move along
    /// with their connections.
    pub fn are_settled(&self) -> bool {
        self.partition.as_ref().is_none_or(|partition| partition.in_transit.is_empty())
    }

    /// Nothing is left of any connection.
    pub fn are_idle(&self) -> bool {
        let waits = self.partition.as_ref().is_some_and(|partition| !partition.held.is_empty());
        self.are_settled() && !waits && self.endpoints.iter().all(Endpoint::is_idle)
    }

    /// What is kept for connections at all endpoints and between them.
    pub fn kept(&self) -> Kept {
        let in_transit = self.partition.as_ref().map_or(0, |partition| partition.in_transit.len());
        let start = Kept { connections: in_transit, ..Kept::default() };
        self.endpoints.iter().map(Endpoint::kept).fold(start, |all, kept| Kept {
            connections: all.connections + kept.connections,
            half_open: all.half_open + kept.half_open,
            ids: all.ids + kept.ids,
            reset_tokens: all.reset_tokens + kept.reset_tokens,
            deadlines: all.deadlines + kept.deadlines,
        })
    }

    /// The key of the connection here, a new one if it has none.
    fn key_at(&mut self, place: Place) -> ConnectionKey {
        let Self { places, keys, keys_given, .. } = self;
        *keys.entry(place).or_insert_with(|| {
            *keys_given += 1;
            let key = ConnectionKey(*keys_given);
            places.insert(key, place);
            key
        })
    }
}
