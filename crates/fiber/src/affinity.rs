//! Pinning a thread to a core.

use crate::SetupError;

/// Pins the calling thread.
pub(crate) fn pin(core: usize) -> Result<(), SetupError> {
    let known = core_affinity::get_core_ids().unwrap_or_default();
    match known.into_iter().find(|id| id.id == core) {
        Some(id) if core_affinity::set_for_current(id) => Ok(()),
        _ => Err(SetupError::Core(core)),
    }
}
