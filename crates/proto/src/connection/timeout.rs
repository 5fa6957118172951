//! Deadlines: which is next, and what each does when it passes.

use super::Connection;
use super::timers::Timer;
use crate::cx::Cx;
use crate::error::ConnectionError;
use crate::limits::KEY_UPDATE_PTOS;
use crate::time::Instant;

impl Connection {
    /// Handles every deadline that has passed.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        if self.timers.take_due(Timer::Close, now) {
            return self.on_close_timer();
        }
        if !self.lifecycle.is_open() {
            return;
        }
        if self.timers.take_due(Timer::Idle, now) {
            self.log_closed(now, false, "nothing heard from the peer");
            self.resume_finish(now);
            return self.abandon(ConnectionError::TimedOut);
        }
        self.update_deadlines();
        if self.timers.take_due(Timer::Loss, now) {
            self.on_loss_timer(cx);
        }
        if self.timers.take_due(Timer::Ack, now) {
            self.spaces.data.acks.on_timeout(now);
        }
        if self.timers.take_due(Timer::KeepAlive, now) {
            self.spaces.data.ping = true;
        }
        if self.timers.take_due(Timer::Path, now) {
            self.on_path_timer(cx);
        }
        if self.timers.take_due(Timer::KeyDiscard, now) {
            let not_before = now + self.pto_base() * KEY_UPDATE_PTOS;
            self.keys.zero_rtt = None;
            if let Some(keys) = self.keys.one_rtt.as_mut() {
                keys.forget_previous(not_before);
            }
        }
        if self.timers.take_due(Timer::Rest, now) {
            self.rest(cx);
        }
        self.timers.take_due(Timer::Pacing, now);
        self.timers.take_due(Timer::Mtu, now);
        if let Some(error) = self.limit_reached() {
            self.close_with(now, error);
        }
        self.log_changes(now);
    }

    /// Brings the deadlines that follow from other state up to date.
    fn update_deadlines(&mut self) {
        let loss = self.loss_deadline();
        self.timers.set_opt(Timer::Loss, loss);
        self.timers.set_opt(Timer::Ack, self.spaces.data.acks.deadline());
    }

    /// The earliest deadline.
    pub(crate) fn next_timeout(&mut self) -> Option<Instant> {
        if self.lifecycle.is_open() {
            self.update_deadlines();
        }
        self.timers.next()
    }
}
