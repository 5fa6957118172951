//! What presses a server: packets that mean nothing, and a worker that hardly gets to work. Also for the tests of `warpline`.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use warpline_engine::WorkerHandle;

/// Sends packets of so many bytes that belong to no connection, for every slot, as long as `goes_on` says of how many were sent.
pub fn flood(socket: &UdpSocket, to: SocketAddr, len: usize, mut goes_on: impl FnMut(u64) -> bool) {
    let mut packet = vec![0; len];
    packet[0] = 0x40;
    for (key, sent) in (0..u16::MAX).cycle().zip(0_u64..) {
        if !goes_on(sent) {
            return;
        }
        packet[7..9].copy_from_slice(&key.to_be_bytes());
        // A full buffer of the receiver or of the device is no error of the sender's.
        let _ = socket.send_to(&packet, to);
    }
}

/// Has a worker sleep more than it works until dropped: 10 ms at the beginning of each turn.
pub struct HoldUp(Arc<AtomicBool>);

impl HoldUp {
    pub fn new(worker: WorkerHandle) -> HoldUp {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let (napped, wait) = std::sync::mpsc::channel();
                let nap = move || {
                    std::thread::sleep(Duration::from_millis(10));
                    let _ = napped.send(());
                };
                // One at a time, so that each turn has one.
                if worker.post(Box::new(nap)).is_err() || wait.recv().is_err() {
                    return;
                }
            }
        });
        HoldUp(stop)
    }
}

impl Drop for HoldUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
