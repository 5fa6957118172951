//! A network path: its addresses, whether the peer was shown to be there, and what was measured on it.

mod validation;

use std::net::{IpAddr, SocketAddr};

pub(crate) use validation::{Challenge, Responses, Route, Visitor};

use crate::config::TransportConfig;
use crate::congestion::{CarefulResume, Controller, Recovery};
use crate::ecn;
use crate::ids::PathCid;
use crate::limits::AMPLIFICATION_FACTOR;
use crate::mtu::Discovery;
use crate::pacing::Pacer;
use crate::recovery::rate::DeliveryRate;
use crate::recovery::rtt::RttEstimator;

/// One path and everything that is per path (RFC 9002 section 5, RFC 9000 sections 8 and 9).
pub(crate) struct Path {
    pub(crate) remote: SocketAddr,
    pub(crate) local: Option<IpAddr>,
    pub(crate) rtt: RttEstimator,
    pub(crate) delivery: DeliveryRate,
    pub(crate) congestion: Controller,
    /// Since the last congestion event that was counted.
    pub(crate) recovery: Recovery,
    /// For the path that a connection begins on.
    pub(crate) resume: Option<Box<CarefulResume>>,
    pub(crate) pacer: Pacer,
    pub(crate) mtu: Discovery,
    pub(crate) ecn: ecn::Validation,
    /// The peer is known to receive at `remote`.
    pub(crate) validated: bool,
    /// The ID to put on packets, for a path that is not the one in use.
    pub(crate) cid: Option<PathCid>,
    pub(crate) challenge: Option<Box<Challenge>>,
    /// Bytes, as long as `validated` is false.
    received: u64,
    sent: u64,
}

impl Path {
    pub(crate) fn new(remote: SocketAddr, local: Option<IpAddr>, config: &TransportConfig, validated: bool) -> Self {
        let congestion = match &config.custom_congestion {
            Some(make) => Controller::custom(make, config.initial_mtu),
            None => Controller::new(config.congestion, config.initial_mtu),
        };
        let pacer = if congestion.is_clocked() { Pacer::clocked } else { Pacer::new };
        Self {
            remote,
            local,
            rtt: RttEstimator::new(config.initial_rtt),
            delivery: DeliveryRate::default(),
            congestion,
            recovery: Recovery::default(),
            resume: None,
            pacer: pacer(config.initial_mtu),
            mtu: Discovery::new(config.initial_mtu, config.mtu_ceiling),
            ecn: ecn::Validation::new(config.ecn),
            validated,
            cid: None,
            challenge: None,
            received: 0,
            sent: 0,
        }
    }

    /// Both addresses.
    #[inline]
    pub(crate) fn route(&self) -> Route {
        Route { remote: self.remote, local: self.local }
    }

    /// Goes on with what was measured on `other`, which is the same path under another address.
    pub(crate) fn take_measurements(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.rtt, &mut other.rtt);
        std::mem::swap(&mut self.delivery, &mut other.delivery);
        std::mem::swap(&mut self.congestion, &mut other.congestion);
        std::mem::swap(&mut self.recovery, &mut other.recovery);
        std::mem::swap(&mut self.resume, &mut other.resume);
        std::mem::swap(&mut self.pacer, &mut other.pacer);
        std::mem::swap(&mut self.mtu, &mut other.mtu);
        std::mem::swap(&mut self.ecn, &mut other.ecn);
    }

    /// A PATH_CHALLENGE is to be sent here.
    #[inline]
    pub(crate) fn owes_challenge(&self) -> bool {
        self.challenge.as_deref().is_some_and(|c| c.to_send)
    }

    pub(crate) fn on_received(&mut self, bytes: usize) {
        if !self.validated {
            self.received = self.received.saturating_add(bytes as u64);
        }
    }

    pub(crate) fn on_sent(&mut self, bytes: usize) {
        if !self.validated {
            self.sent = self.sent.saturating_add(bytes as u64);
        }
    }

    /// Bytes that may be sent before the address is validated (RFC 9000 section 8.1).
    pub(crate) fn amplification_budget(&self) -> u64 {
        if self.validated {
            return u64::MAX;
        }
        self.received.saturating_mul(AMPLIFICATION_FACTOR).saturating_sub(self.sent)
    }
}
