//! Endpoints on AF_XDP at the two ends of a veth pair between namespaces.

#[path = "../../../pktio/tests/common/netns.rs"]
pub mod netns;

use std::net::SocketAddr;
use std::time::Duration;
use warpline::{Backend, Endpoint, EndpointBuilder, InterfaceName, IoConfig, XdpConfig, XdpFrames};

/// Where the server is, in the first namespace.
const SERVER: &str = "10.77.0.1:4433";

/// A builder for AF_XDP at one end, with the usual pools.
pub fn at(end: usize) -> EndpointBuilder {
    let interface = InterfaceName::new(&format!("wl{end}")).expect("a short name");
    let io = IoConfig { backend: Backend::Xdp, xdp: Some(XdpConfig::new(interface)), ..IoConfig::default() };
    let client: SocketAddr = "10.77.0.2:5000".parse().expect("a literal");
    Endpoint::builder().bind(if end == 0 { address() } else { client }).io(io)
}

/// Namespaces with a link of so many queues. Where everything is to be installed (`CI`) a story that is not told is none.
pub fn namespaces(story: &str, queues: u32) -> Option<netns::Pair> {
    let pair = netns::Pair::with_queues(story, queues);
    assert!(pair.is_some() || std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "there are no namespaces");
    pair
}

pub fn address() -> SocketAddr {
    SERVER.parse().expect("a literal")
}

pub fn start(net: &netns::Pair, end: usize, builder: EndpointBuilder) -> Endpoint {
    net.inside(end, || builder.start().expect("AF_XDP on veth"))
}

/// The frames of each owner of queues once nothing is under way and no guest is left.
pub async fn frames_at_rest(endpoint: &Endpoint) -> Vec<XdpFrames> {
    let look = || -> Vec<XdpFrames> {
        let workers = endpoint.workers();
        let owners = workers.iter().filter(|worker| worker.xdp_status().is_some_and(|xdp| !xdp.queues.is_empty()));
        owners.map(|worker| worker.xdp_frames().expect("it is AF_XDP")).collect()
    };
    for _ in 0..600 {
        let frames = look();
        if frames.iter().all(|frames| frames.add_up() && frames.with_program == 0 && frames.sending == 0) {
            return frames;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("frames are missing: {:?}", look());
}
