//! Pinning threads to cores.

use crate::error::StartError;

/// Whether this process may use all of `cores`.
#[cfg(target_os = "linux")]
pub(crate) fn check(cores: &[usize]) -> Result<(), StartError> {
    let allowed = rustix::thread::sched_getaffinity(None)
        .map_err(|error| StartError::io("asking which cores may be used", error.into()))?;
    for &core in cores {
        if core >= rustix::thread::CpuSet::MAX_CPU || !allowed.is_set(core) {
            return Err(StartError::config("cores", format!("core {core} is not there or not ours to use")));
        }
    }
    Ok(())
}

/// Pins the calling thread.
#[cfg(target_os = "linux")]
pub(crate) fn pin(core: usize) -> Result<(), StartError> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|error| StartError::io("pinning a worker to its core", error.into()))
}

/// There is no way to pin here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn check(_cores: &[usize]) -> Result<(), StartError> {
    Err(StartError::config("cores", "threads cannot be pinned on this system"))
}

/// There is no way to pin here; [`check`] has refused it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn pin(_core: usize) -> Result<(), StartError> {
    check(&[])
}
