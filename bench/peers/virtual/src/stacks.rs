//! The stacks that are compared.

use warpline_proto::congestion::CongestionAlgorithm;
use warpline_sim::Node;
use warpline_sim::congestion::{self, Flows, Link, Outcome};
use warpline_sim::run::Identity;

use crate::{noq, quinn};

/// Datagrams of a train: what the programs of quinn and noq send at once.
pub const TRAIN_MAX: usize = 10;

/// A stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Stack {
    /// The production endpoints of this repository.
    Warpline,
    /// `quinn-proto`.
    Quinn,
    /// `noq-proto`.
    Noq,
}

impl Stack {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warpline => "warpline",
            Self::Quinn => "quinn",
            Self::Noq => "noq",
        }
    }

    /// Whether the results of this stack count where the best of the others is looked for. quinn's BBR follows the first version
    /// of the draft, which does not react to loss: another algorithm than BBRv3.
    pub fn is_peer(self, algorithm: CongestionAlgorithm) -> bool {
        match self {
            Self::Warpline => false,
            Self::Quinn => algorithm != CongestionAlgorithm::Bbr,
            Self::Noq => true,
        }
    }

    /// Downloads over `link`.
    ///
    /// # Errors
    ///
    /// What went wrong: a setting that was refused, a connection that ended.
    pub fn measure(
        self,
        link: &Link,
        algorithm: CongestionAlgorithm,
        flows: &Flows,
        seed: u64,
        identity: &Identity,
    ) -> Result<Outcome, String> {
        match self {
            Self::Warpline => congestion::measure(link, algorithm, flows, seed),
            Self::Quinn => congestion::measure_nodes(link, flows, seed, |place| {
                node(quinn::host::Host::new(place, link, algorithm, identity))
            }),
            Self::Noq => congestion::measure_nodes(link, flows, seed, |place| {
                node(noq::host::Host::new(place, link, algorithm, identity))
            }),
        }
    }
}

fn node<N: Node + 'static>(made: warpline_peer_kit::Result<N>) -> Result<Box<dyn Node>, String> {
    made.map(|node| Box::new(node) as Box<dyn Node>).map_err(|error| error.to_string())
}
