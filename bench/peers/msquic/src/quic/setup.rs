//! msquic's settings.

use std::net::SocketAddr;

use msquic::ffi::{
    QUIC_CONGESTION_CONTROL_ALGORITHM_QUIC_CONGESTION_CONTROL_ALGORITHM_BBR as BBR,
    QUIC_CONGESTION_CONTROL_ALGORITHM_QUIC_CONGESTION_CONTROL_ALGORITHM_CUBIC as CUBIC, QUIC_GLOBAL_EXECUTION_CONFIG,
    QUIC_GLOBAL_EXECUTION_CONFIG_FLAGS_QUIC_GLOBAL_EXECUTION_CONFIG_FLAG_AFFINITIZE as AFFINITIZE,
    QUIC_GLOBAL_EXECUTION_CONFIG_FLAGS_QUIC_GLOBAL_EXECUTION_CONFIG_FLAG_NONE as NO_FLAGS,
    QUIC_PARAM_GLOBAL_EXECUTION_CONFIG, QUIC_PARAM_GLOBAL_SETTINGS, QUIC_SETTINGS,
};
use msquic::{Api, ServerResumptionLevel, Settings};
use rustix::thread::{CpuSet, sched_getaffinity};
use warpline_peer_kit::{Congestion, Result};

use super::{api, check};

/// Longer than any run, so that held connections stay, in milliseconds.
const IDLE_TIMEOUT_MS: u64 = 300_000;
/// Streams that a peer may open.
const STREAMS: u16 = 1_024;
/// Longest that work may wait before connections are refused, in microseconds: longer than a client is patient.
const QUEUE_DELAY_MAX_US: u32 = 60_000_000;
/// The largest packet on the path that msquic is built for, with its IP and UDP headers.
const MTU_MAX: u16 = 1_500;

/// What differs between runs.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// The server's address: the size of the IP header counts.
    pub address: SocketAddr,
    /// UDP payload in bytes of a full packet.
    pub payload: u16,
    /// Stream receive window in bytes, a power of two.
    pub window: u64,
    /// Congestion controller; CUBIC if there is none.
    pub congestion: Option<Congestion>,
}

impl Setup {
    /// The settings of connections.
    ///
    /// # Errors
    ///
    /// If it is for something that msquic does not have.
    pub(super) fn settings(&self) -> Result<QUIC_SETTINGS> {
        let headers = if self.address.is_ipv4() { 20 + 8 } else { 40 + 8 };
        let mtu = self.payload.saturating_add(headers);
        if mtu > MTU_MAX {
            return Err(format!(
                "no payloads over {} bytes: msquic sends {MTU_MAX} with headers at most",
                MTU_MAX - headers
            )
            .into());
        }
        let congestion = match self.congestion {
            None | Some(Congestion::Cubic) => CUBIC,
            Some(Congestion::Bbr) => BBR,
            Some(Congestion::NewReno) => return Err("no congestion control newreno: msquic has CUBIC and BBR".into()),
        };
        let window = u32::try_from(self.window)?;
        // One byte is left to its search for the path's size, as it is the search's end that makes servers work out how
        // long a datagram may be.
        let settings = Settings::new()
            .set_IdleTimeoutMs(IDLE_TIMEOUT_MS)
            .set_StreamRecvWindowDefault(window)
            .set_ConnFlowControlWindow(window.saturating_mul(16))
            .set_PeerBidiStreamCount(STREAMS)
            .set_DatagramReceiveEnabled()
            .set_ServerResumptionLevel(ServerResumptionLevel::ResumeAndZerortt)
            .set_CongestionControlAlgorithm(congestion.try_into()?)
            .set_MinimumMtu(mtu - 1)
            .set_MaximumMtu(mtu)
            .set_SendBufferingEnabled();
        let mut settings = *settings.as_ffi_ref();
        // The builder can only switch it on. Off, msquic sends from our memory, and says how much should wait there.
        settings.set_SendBufferingEnabled(0);
        Ok(settings)
    }
}

/// One worker thread, on the processor that this process was given. Before anything else is asked of msquic.
pub(super) fn use_one_worker() -> Result<()> {
    let allowed = sched_getaffinity(None)?;
    let mut processors = (0..CpuSet::MAX_CPU).filter(|&processor| allowed.is_set(processor));
    let first = processors.next().ok_or("no processor to run on")?;
    let config = QUIC_GLOBAL_EXECUTION_CONFIG {
        // Where there is libnuma, threads are let run on their whole node otherwise, whatever the process was given.
        Flags: if processors.next().is_none() { AFFINITIZE } else { NO_FLAGS },
        PollingIdleTimeoutUs: 0,
        ProcessorCount: 1,
        ProcessorList: [u16::try_from(first)?],
    };
    let length = size_of::<QUIC_GLOBAL_EXECUTION_CONFIG>() as u32;
    let value = (&raw const config).cast();
    // SAFETY: the parameter is of this type, with one processor in its list.
    let status = unsafe { api!(SetParam)(std::ptr::null_mut(), QUIC_PARAM_GLOBAL_EXECUTION_CONFIG, length, value) };
    check("execution config", status)
}

/// Lets work wait for the worker however long: by default msquic refuses connections when its thread falls behind by
/// 250 ms, as it may where a whole process has one core.
pub(super) fn refuse_nobody() -> Result<()> {
    let settings = Settings::new().set_MaxWorkerQueueDelayUs(QUEUE_DELAY_MAX_US);
    let length = size_of::<QUIC_SETTINGS>() as u32;
    let value = std::ptr::from_ref(settings.as_ffi_ref()).cast();
    // SAFETY: the parameter is of this type.
    let status = unsafe { api!(SetParam)(std::ptr::null_mut(), QUIC_PARAM_GLOBAL_SETTINGS, length, value) };
    check("settings", status)
}

/// UDP datagrams so far, and the bytes of their payloads: those received, or those sent.
pub fn payload_counts(sent: bool) -> Result<(i64, i64)> {
    let counters = Api::get_perf().map_err(|status| format!("msquic: counters: {status}"))?;
    Ok(if sent { (counters.udp_send, counters.udp_send_bytes) } else { (counters.udp_recv, counters.udp_recv_bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup() -> Setup {
        Setup { address: ([127, 0, 0, 1], 1).into(), payload: 1_452, window: 4 << 20, congestion: None }
    }

    #[test]
    fn packets_have_one_size_whatever_the_ip_header() {
        let four = setup().settings().unwrap();
        assert_eq!((four.MinimumMtu, four.MaximumMtu), (1_479, 1_480));
        let six = Setup { address: "[::1]:1".parse().unwrap(), ..setup() }.settings().unwrap();
        assert_eq!((six.MinimumMtu, six.MaximumMtu), (1_499, 1_500));
        let jumbo = Setup { payload: 8_972, ..setup() }.settings();
        assert!(jumbo.err().unwrap().to_string().contains("1472"));
    }

    #[test]
    fn what_it_lacks_is_refused() {
        let with = |congestion| Setup { congestion: Some(congestion), ..setup() }.settings();
        assert_eq!(u32::from(with(Congestion::Bbr).unwrap().CongestionControlAlgorithm), BBR);
        assert!(with(Congestion::NewReno).is_err());
    }

    #[test]
    fn sends_are_not_buffered() {
        let settings = setup().settings().unwrap();
        assert_eq!(settings.SendBufferingEnabled(), 0);
        // SAFETY: both variants are the same bits.
        assert_eq!(unsafe { settings.__bindgen_anon_1.IsSet }.SendBufferingEnabled(), 1);
    }
}
