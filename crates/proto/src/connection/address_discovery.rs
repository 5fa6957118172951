//! What each side sees of the other's address (draft-ietf-quic-address-discovery).

use std::net::SocketAddr;

use warpline_wire::frame::ObservedAddress;
use warpline_wire::{Writer, frame};

use super::Connection;
use crate::error::TransportError;
use crate::event::Event;
use crate::sent_frame::SentFrame;

/// Room that an OBSERVED_ADDRESS frame needs at most: type, sequence number, IPv6 address, port.
const FRAME_LEN_MAX: usize = 4 + 8 + 16 + 2;

/// Both directions. There is none of it for a peer that takes no part.
#[derive(Debug, Default)]
pub(super) struct AddressObservations {
    /// The peer asked and this side tells.
    provides: bool,
    to_send: bool,
    /// Number of the next frame.
    next_sequence: u64,
    /// The newest that the peer said about this side, with its number.
    ours: Option<(u64, SocketAddr)>,
}

impl Connection {
    /// The address that the peer sees this endpoint at, if it was asked and has said so. Only the peer's word.
    pub fn observed_address(&self) -> Option<SocketAddr> {
        self.paths.discovery.as_deref().and_then(|d| d.ours).map(|(_, address)| address)
    }

    /// The peer's parameter is known: 0 tells, 1 asks, 2 does both.
    pub(super) fn start_address_discovery(&mut self, parameter: Option<u64>) {
        let Some(peer) = parameter else { return };
        let config = self.config.extensions.address_discovery;
        let provides = config.provide && peer >= 1;
        if provides || config.request {
            let observations = AddressObservations { provides, to_send: provides, ..AddressObservations::default() };
            self.paths.discovery = Some(Box::new(observations));
        }
    }

    /// The path in use is new to the peer: it is told what it looks like from here (section 3 of the draft).
    pub(super) fn observe_address(&mut self) {
        if let Some(discovery) = self.paths.discovery.as_deref_mut() {
            discovery.to_send = discovery.provides;
        }
    }

    #[inline]
    pub(super) fn wants_observation(&self) -> bool {
        self.paths.discovery.as_deref().is_some_and(|d| d.to_send)
    }

    /// Writes the OBSERVED_ADDRESS frame of the path in use, if it is due.
    pub(super) fn write_observation(&mut self, w: &mut Writer<'_>) {
        if !self.wants_observation() || w.remaining() < FRAME_LEN_MAX {
            return;
        }
        let remote = self.paths.current.remote;
        // A socket for both families shows IPv4 peers in IPv6 form.
        let address = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let Some(discovery) = self.paths.discovery.as_deref_mut() else { return };
        discovery.to_send = false;
        let sequence = discovery.next_sequence;
        discovery.next_sequence += 1;
        frame::ObservedAddress { sequence, address }.encode(w);
        self.spaces.data.sent.push_token(SentFrame::ObservedAddress { sequence });
    }

    /// Repeated with a new number, unless another was sent since: then the path is another one.
    pub(super) fn on_observation_lost(&mut self, sequence: u64) {
        if let Some(discovery) = self.paths.discovery.as_deref_mut() {
            discovery.to_send |= sequence + 1 == discovery.next_sequence;
        }
    }

    /// Takes an OBSERVED_ADDRESS frame. Only the newest is kept, and one event stands for all that follow one another.
    pub(super) fn on_observed_address(&mut self, seen: &ObservedAddress) -> Result<(), TransportError> {
        if !self.config.extensions.address_discovery.request {
            return Err(TransportError::protocol("OBSERVED_ADDRESS was not asked for"));
        }
        let discovery = self.paths.discovery.get_or_insert_default();
        if discovery.ours.is_some_and(|(known, _)| seen.sequence <= known) {
            return Ok(());
        }
        let before = discovery.ours.replace((seen.sequence, seen.address));
        let changed = before.is_none_or(|(_, address)| address != seen.address);
        if changed && self.events.back() != Some(&Event::AddressObserved) {
            self.emit(Event::AddressObserved);
        }
        Ok(())
    }
}
