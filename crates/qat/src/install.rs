//! Putting the cards to use: whether they work, whether they pay, and then as the device of the process.

use std::sync::Arc;

use warpline_proto::{DeviceTrial, PacketDevice, install_device, try_device};

use crate::error::Unavailable;
use crate::{Places, Qat, answers};

/// When to use the cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// If they work.
    Working,
    /// If they work and are faster than the processor's ciphers, as measured.
    Faster,
}

/// Cards in use.
#[derive(Debug, Clone)]
pub struct Installed {
    /// The cards.
    pub qat: Qat,
    /// What was measured.
    pub trial: DeviceTrial,
}

/// Opens the cards, tries them (known answers, then batches beside the fastest library: some milliseconds) and makes them the
/// [device](warpline_proto::PacketCrypto::Device) of this process.
///
/// # Errors
/// Why they are not used; nothing is left open then.
pub fn install(places: &Places, when: When) -> Result<Installed, Unavailable> {
    let qat = Qat::open(places)?;
    let device: Arc<dyn PacketDevice> = Arc::new(qat.clone());
    let tried = tried(&qat, &device, when);
    // The threads that move packets need the instances.
    qat.release();
    let trial = tried?;
    if let Some(packets) = trial.batch_min {
        qat.set_batch_min(packets);
    }
    if install_device(device) { Ok(Installed { qat, trial }) } else { Err(Unavailable::Taken) }
}

fn tried(qat: &Qat, device: &Arc<dyn PacketDevice>, when: When) -> Result<DeviceTrial, Unavailable> {
    answers::check(qat)?;
    let trial = try_device(device)?;
    match when {
        When::Faster if trial.batch_min.is_none() => {
            Err(Unavailable::Slower { device: trial.device, library: trial.library })
        }
        _ => Ok(trial),
    }
}
