//! What others have a worker's loop do, by commands.

use crate::worker::LinkChange;
#[cfg(target_os = "linux")]
use crate::worker::Packet;
#[cfg(target_os = "linux")]
use crate::{restart::Heir, worker::ingress::Fates, worker::run::Loop};
#[cfg(target_os = "linux")]
use std::sync::Arc;

/// Something that only the loop can do.
pub(crate) enum Order {
    /// Open or close rings.
    Links(LinkChange),
    /// Pass on to another process what begins connections, or do so no more.
    #[cfg(target_os = "linux")]
    Heir(Option<Arc<Heir>>),
    /// Handle a datagram that another process has passed on.
    #[cfg(target_os = "linux")]
    Bequest(Packet),
}

impl Order {
    /// Leaves the order for the loop. To be called by a command, which runs on the worker.
    pub(crate) fn give(self) {
        // Off a worker there is no loop.
        let _ = crate::cx::with(|cx| cx.orders.borrow_mut().push(self));
    }
}

#[cfg(target_os = "linux")]
impl Loop {
    /// Handles a datagram of another process, or passes it on to its owner here.
    pub(super) fn take_bequest(&mut self, packet: Packet) {
        let mut fates = Fates::default();
        let mut core = self.cx.core.borrow_mut();
        let now = self.setup.clock.now();
        core.now = now;
        self.share.dispatch(now, packet, &mut core, &mut self.links, &mut fates);
        drop(core);
        self.count(&fates);
    }
}
