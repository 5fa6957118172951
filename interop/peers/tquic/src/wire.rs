//! The socket, and an endpoint's turn on it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tquic::{Endpoint, PacketInfo, PacketSendHandler, TIMER_GRANULARITY};
use warpline_interop_kit::Result;

/// Longest sleep without a timer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Packets on their way out: tquic hands them over where nothing can be awaited.
#[derive(Default)]
pub struct Outbox(RefCell<Vec<(Vec<u8>, SocketAddr)>>);

impl PacketSendHandler for Outbox {
    fn on_packets_send(&self, packets: &[(Vec<u8>, PacketInfo)]) -> tquic::Result<usize> {
        self.0.borrow_mut().extend(packets.iter().map(|(packet, info)| (packet.clone(), info.dst)));
        Ok(packets.len())
    }
}

/// Lets the endpoint work, sends what came of it, and sleeps until there is more to do.
pub async fn turn(socket: &UdpSocket, outbox: &Outbox, endpoint: &RefCell<Endpoint>, wake: &Notify) -> Result<()> {
    let timeout = {
        let mut endpoint = endpoint.borrow_mut();
        let (dst, mut buffer) = (socket.local_addr()?, vec![0; 64 << 10]);
        while let Ok((len, src)) = socket.try_recv_from(&mut buffer) {
            // A packet that its connection does not want is dropped.
            let _ = endpoint.recv(&mut buffer[..len], &PacketInfo { src, dst, time: Instant::now() });
        }
        endpoint.on_timeout(Instant::now());
        endpoint.process_connections()?;
        endpoint.timeout()
    };
    for (packet, to) in outbox.0.take() {
        // What the system does not take is lost, as on any network.
        let _ = socket.send_to(&packet, to).await;
    }
    // That exact time is tquic's word for work that is left.
    let timeout = if timeout == Some(TIMER_GRANULARITY) { Duration::ZERO } else { timeout.unwrap_or(PATIENCE) };
    tokio::select! {
        _ = socket.readable() => {}
        () = tokio::time::sleep(timeout.min(PATIENCE)) => {}
        () = wake.notified() => {}
    }
    Ok(())
}
