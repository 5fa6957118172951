//! Sends tquic's packets in trains.

use std::cell::RefCell;
use std::rc::Rc;

use tquic::{Error, PacketInfo, PacketSendHandler};
use warpline_peer_kit::driven::{Train, Wire};

/// The sending side of the loop's socket.
pub struct Sender {
    wire: Rc<Wire>,
    train: RefCell<Train>,
    payload: usize,
}

impl Sender {
    /// Sends over `wire` packets of at most `payload` bytes.
    pub fn new(wire: Rc<Wire>, payload: u16) -> Self {
        Self { wire, train: RefCell::default(), payload: payload.into() }
    }
}

impl PacketSendHandler for Sender {
    fn on_packets_send(&self, packets: &[(Vec<u8>, PacketInfo)]) -> tquic::Result<usize> {
        let mut rest = packets.iter();
        let sent = self.wire.send_all(&mut self.train.borrow_mut(), self.payload, |buffer| {
            let Some((packet, info)) = rest.next() else { return Ok(None) };
            let room = buffer.get_mut(..packet.len()).ok_or("a packet above the size of the run")?;
            room.copy_from_slice(packet);
            Ok(Some((packet.len(), info.dst)))
        });
        sent.map(|()| packets.len()).map_err(|error| Error::IoError(error.to_string()))
    }
}
