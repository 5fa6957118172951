//! Careful resume on the path in use (draft-ietf-tsvwg-careful-resume): what it is told, and what becomes of it.

use super::Connection;
use crate::congestion::{AckSample, Congestion, Situation, Transition};
use crate::crypto::Level;
use crate::resume::PathKey;
use crate::time::Instant;

impl Connection {
    fn resume_situation(&self, now: Instant) -> Situation {
        Situation {
            now,
            in_flight: self.spaces.bytes_in_flight(),
            largest_acked: self.spaces.data.largest_acked,
            next_number: self.spaces.data.next_pn,
            mtu: self.paths.current.mtu.current(),
        }
    }

    /// An ACK frame took bytes out of flight.
    #[inline]
    pub(super) fn resume_on_ack(&mut self, level: Level, ack: &AckSample) {
        if self.paths.current.resume.is_some() {
            self.take_resume_ack(level, ack);
        }
    }

    fn take_resume_ack(&mut self, level: Level, ack: &AckSample) {
        let at = self.resume_situation(ack.now);
        let path = &mut self.paths.current;
        // Section 3.2: all the initial data, which is as much as any new connection may send. That the application has more than
        // the window lets out shows in that it never ran dry.
        let initial = crate::congestion::initial_window(at.mtu);
        let is_confirmed = ack.rate.total_delivered >= initial && level == Level::OneRtt && self.progress.complete;
        let may_jump = is_confirmed && path.validated && !ack.rate.app_limited && !path.delivery.is_app_limited();
        let Some(resume) = &mut path.resume else { return };
        if may_jump {
            resume.set_key(PathKey { local: path.local, remote: path.remote.ip() });
        }
        let transition = resume.on_ack(ack, &at, may_jump, &mut path.congestion);
        self.note_transition(ack.now, transition);
    }

    /// A packet of the jump was sent.
    #[cold]
    pub(super) fn resume_on_sent(&mut self, now: Instant) {
        let at = self.resume_situation(now);
        let path = &mut self.paths.current;
        let Some(resume) = &mut path.resume else { return };
        let transition = resume.on_sent(&at, &mut path.congestion);
        self.note_transition(now, transition);
    }

    /// Losses or marks; true if the controller has been told what to do about them.
    pub(super) fn resume_on_congestion(&mut self, now: Instant, what: Congestion) -> bool {
        if self.paths.current.resume.is_none() {
            return false;
        }
        let at = self.resume_situation(now);
        let path = &mut self.paths.current;
        let Some(resume) = &mut path.resume else { return false };
        let (is_handled, transition) = resume.on_congestion(what, &at, &mut path.congestion);
        self.note_transition(now, transition);
        is_handled
    }

    /// The connection has ended.
    pub(super) fn resume_finish(&mut self, now: Instant) {
        let path = &mut self.paths.current;
        if let Some(resume) = &mut path.resume {
            resume.set_key(PathKey { local: path.local, remote: path.remote.ip() });
            resume.finish(now, path.mtu.current());
        }
    }

    fn note_transition(&mut self, now: Instant, transition: Option<Transition>) {
        let Some(transition) = transition else { return };
        let path = &mut self.paths.current;
        let Some(resume) = &path.resume else { return };
        path.pacer.set_cautious(resume.is_unvalidated());
        if let Some(log) = &mut self.log {
            log.careful_resume(now, &transition, resume, &path.congestion);
        }
    }
}
