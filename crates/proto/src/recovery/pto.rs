//! The loss detection timer: when to declare losses or to probe next, and in which packet number space (RFC 9002
//! sections 6.1.2 and 6.2, appendix A.8).

use core::time::Duration;

use crate::time::Instant;

/// Doublings past which the timeout stays: from the least one, 1 ms, it has reached a minute, longer than a silent connection is kept.
const BACKOFF_MAX: u32 = 16;

/// A packet number space, in the order in which they come into use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    /// Initial packets.
    Initial,
    /// Handshake packets.
    Handshake,
    /// 0-RTT and 1-RTT packets.
    Data,
}

/// What the timer has to know of one packet number space.
#[derive(Clone, Copy, Debug)]
pub struct SpaceTimes {
    /// Which one.
    pub space: Space,
    /// [`SentPackets::loss_time`](super::sent::SentPackets::loss_time).
    pub loss_time: Option<Instant>,
    /// When its last ack-eliciting packet was sent, provided that one is in flight.
    pub last_eliciting_sent: Option<Instant>,
}

/// What the timer has to know of the connection.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// [`RttEstimator::pto_base`](super::rtt::RttEstimator::pto_base).
    pub base: Duration,
    /// The peer's `max_ack_delay`; counts in the data space only.
    pub max_ack_delay: Duration,
    /// Probe timeouts since the last acknowledgement that was progress.
    pub count: u32,
    /// [`TransportConfig::pto_max`](crate::config::TransportConfig::pto_max).
    pub longest: Duration,
    /// The handshake is confirmed: the data space may probe.
    pub confirmed: bool,
    /// A client whose address the server may not have validated yet, so that the server may be unable to send: the time
    /// from which to count, that of the last packet sent or of the last timeout. `None` for everyone else (RFC 9002
    /// section 6.2.2.1).
    pub deadlock_since: Option<Instant>,
    /// Handshake keys are there.
    pub has_handshake_keys: bool,
    /// A server that may send nothing before the client does (anti-amplification): it does not probe (RFC 9002 section
    /// 6.2.2.1).
    pub is_blocked: bool,
}

/// What the loss detection timer is set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Declare losses in this space: call [`SentPackets::detect_lost`](super::sent::SentPackets::detect_lost).
    DetectLost(Space),
    /// A probe timeout: send one or two ack-eliciting packets in this space.
    Probe(Space),
}

/// `base` doubled `count` times, up to `longest` unless `base` itself is longer.
#[inline]
pub fn backed_off(base: Duration, count: u32, longest: Duration) -> Duration {
    base.saturating_mul(1 << count.min(BACKOFF_MAX)).min(longest.max(base))
}

/// When to act next and how; `None` when there is nothing to wait for.
pub fn next_action(spaces: impl Iterator<Item = SpaceTimes>, at: &Situation) -> Option<(Instant, Action)> {
    let timeout = backed_off(at.base, at.count, at.longest);
    let mut losses: Option<(Instant, Space)> = None;
    let mut probes: Option<(Instant, Space)> = None;
    let mut is_waiting = false;
    let earliest = |best: Option<(Instant, Space)>, new: (Instant, Space)| Some(best.map_or(new, |b| b.min(new)));
    for times in spaces {
        if let Some(when) = times.loss_time {
            losses = earliest(losses, (when, times.space));
        }
        let Some(sent_at) = times.last_eliciting_sent else { continue };
        is_waiting = true;
        let when = match times.space {
            Space::Data if !at.confirmed => continue,
            Space::Data => sent_at + backed_off(at.base + at.max_ack_delay, at.count, at.longest),
            Space::Initial | Space::Handshake => sent_at + timeout,
        };
        probes = earliest(probes, (when, times.space));
    }
    if let Some((when, space)) = losses {
        return Some((when, Action::DetectLost(space)));
    }
    if at.is_blocked {
        return None;
    }
    if let Some((when, space)) = probes {
        return Some((when, Action::Probe(space)));
    }
    // Only 0-RTT or early 1-RTT data is in flight, or nothing at all: the client has to keep the handshake going.
    let since = at.deadlock_since.filter(|_| !is_waiting || !at.confirmed)?;
    let space = if at.has_handshake_keys { Space::Handshake } else { Space::Initial };
    Some((since + timeout, Action::Probe(space)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn at(n: u64) -> Instant {
        Instant::from_nanos(n * 1_000_000)
    }

    fn space(space: Space, sent: u64) -> SpaceTimes {
        SpaceTimes { space, loss_time: None, last_eliciting_sent: Some(at(sent)) }
    }

    const SITUATION: Situation = Situation {
        base: ms(300),
        max_ack_delay: ms(25),
        count: 0,
        longest: ms(3_000),
        confirmed: true,
        deadlock_since: None,
        has_handshake_keys: true,
        is_blocked: false,
    };

    #[test]
    fn backoff_doubles_and_ends() {
        assert_eq!(backed_off(ms(300), 0, ms(3_000)), ms(300));
        assert_eq!(backed_off(ms(300), 3, ms(3_000)), ms(2_400));
        assert_eq!(backed_off(ms(300), 99, ms(3_000)), ms(3_000));
        assert_eq!(backed_off(ms(12_000), 2, ms(3_000)), ms(12_000));
        assert_eq!(backed_off(ms(300), 5, Duration::MAX), ms(9_600));
        assert_eq!(backed_off(Duration::MAX, 9, ms(3_000)), Duration::MAX);
    }

    #[test]
    fn data_adds_the_ack_delay_with_backoff() {
        let spaces = [space(Space::Data, 1_000)];
        assert_eq!(next_action(spaces.into_iter(), &SITUATION), Some((at(1_325), Action::Probe(Space::Data))));
        let twice = Situation { count: 2, ..SITUATION };
        assert_eq!(next_action(spaces.into_iter(), &twice), Some((at(2_300), Action::Probe(Space::Data))));
    }

    #[test]
    fn earliest_space_probes_and_data_waits_for_confirmation() {
        let spaces = [space(Space::Handshake, 900), space(Space::Initial, 880), space(Space::Data, 100)];
        let early = Situation { confirmed: false, ..SITUATION };
        assert_eq!(next_action(spaces.into_iter(), &early), Some((at(1_180), Action::Probe(Space::Initial))));
        assert_eq!(next_action(spaces.into_iter(), &SITUATION), Some((at(425), Action::Probe(Space::Data))));
        assert_eq!(next_action(spaces[2..].iter().copied(), &early), None);
    }

    #[test]
    fn a_blocked_server_waits_for_the_client() {
        let blocked = Situation { is_blocked: true, ..SITUATION };
        assert_eq!(next_action([space(Space::Handshake, 900)].into_iter(), &blocked), None);
    }

    #[test]
    fn loss_time_goes_first() {
        let mut late = space(Space::Data, 0);
        late.loss_time = Some(at(9_000));
        let spaces = [space(Space::Initial, 10), late];
        assert_eq!(next_action(spaces.into_iter(), &SITUATION), Some((at(9_000), Action::DetectLost(Space::Data))));
    }

    #[test]
    fn a_client_keeps_a_blocked_server_going() {
        let client = Situation { confirmed: false, deadlock_since: Some(at(50)), count: 1, ..SITUATION };
        assert_eq!(next_action([].into_iter(), &client), Some((at(650), Action::Probe(Space::Handshake))));
        let no_keys = Situation { has_handshake_keys: false, ..client };
        assert_eq!(next_action([].into_iter(), &no_keys), Some((at(650), Action::Probe(Space::Initial))));
        // 0-RTT data in flight probes nothing by itself.
        let zero_rtt = [space(Space::Data, 100)];
        assert_eq!(next_action(zero_rtt.into_iter(), &no_keys), Some((at(650), Action::Probe(Space::Initial))));
        assert_eq!(next_action([].into_iter(), &SITUATION), None);
    }
}
