//! The state machines of stream halves as tables of transitions (RFC 9000 section 3).

/// States of the sending half (figure 2). "Ready" and "Send" are one here: the difference is only whether a frame went out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SendState {
    #[default]
    Send,
    DataSent,
    ResetSent,
    DataRecvd,
    ResetRecvd,
}

/// What happens to a sending half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendEvent {
    /// The application ended the stream.
    Finish,
    /// Everything up to the end was acknowledged.
    AllAcked,
    /// The application or the peer's STOP_SENDING abandoned the stream.
    Reset,
    /// RESET_STREAM was acknowledged.
    ResetAcked,
}

impl SendState {
    /// The state after `event`, or `None` when it changes nothing.
    pub(super) fn on(self, event: SendEvent) -> Option<Self> {
        use {SendEvent as E, SendState as S};
        match (self, event) {
            (S::Send, E::Finish) => Some(S::DataSent),
            (S::Send | S::DataSent, E::Reset) => Some(S::ResetSent),
            (S::DataSent, E::AllAcked) => Some(S::DataRecvd),
            (S::ResetSent, E::ResetAcked) => Some(S::ResetRecvd),
            _ => None,
        }
    }

    /// Nothing more will ever happen in this half.
    #[inline]
    pub(super) fn is_terminal(self) -> bool {
        matches!(self, Self::DataRecvd | Self::ResetRecvd)
    }
}

/// States of the receiving half (figure 3). "Data Recvd" is left out: whether all data has arrived is the assembler's to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RecvState {
    #[default]
    Recv,
    SizeKnown,
    ResetRecvd,
    DataRead,
    ResetRead,
}

/// What happens to a receiving half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecvEvent {
    /// A frame told where the stream ends.
    Fin,
    /// RESET_STREAM arrived.
    Reset,
    /// The application has everything, or wants nothing any more and the size is known.
    ReadAll,
    /// The application has seen the reset, or does not care.
    ReadReset,
}

impl RecvState {
    /// The state after `event`, or `None` when it changes nothing.
    pub(super) fn on(self, event: RecvEvent) -> Option<Self> {
        use {RecvEvent as E, RecvState as S};
        match (self, event) {
            (S::Recv, E::Fin) => Some(S::SizeKnown),
            (S::Recv | S::SizeKnown, E::Reset) => Some(S::ResetRecvd),
            (S::SizeKnown, E::ReadAll) => Some(S::DataRead),
            (S::ResetRecvd, E::ReadReset) => Some(S::ResetRead),
            _ => None,
        }
    }

    /// Nothing more will ever happen in this half.
    #[inline]
    pub(super) fn is_terminal(self) -> bool {
        matches!(self, Self::DataRead | Self::ResetRead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sending_half_follows_figure_2() {
        use {SendEvent as E, SendState as S};
        let mut table = String::new();
        for state in [S::Send, S::DataSent, S::ResetSent, S::DataRecvd, S::ResetRecvd] {
            for event in [E::Finish, E::AllAcked, E::Reset, E::ResetAcked] {
                if let Some(next) = state.on(event) {
                    table += &format!("{state:?} --{event:?}--> {next:?}\n");
                }
            }
        }
        let figure = "Send --Finish--> DataSent\nSend --Reset--> ResetSent\nDataSent --AllAcked--> DataRecvd\n\
                      DataSent --Reset--> ResetSent\nResetSent --ResetAcked--> ResetRecvd\n";
        assert_eq!(table, figure);
    }

    #[test]
    fn the_receiving_half_follows_figure_3() {
        use {RecvEvent as E, RecvState as S};
        let mut table = String::new();
        for state in [S::Recv, S::SizeKnown, S::ResetRecvd, S::DataRead, S::ResetRead] {
            for event in [E::Fin, E::Reset, E::ReadAll, E::ReadReset] {
                if let Some(next) = state.on(event) {
                    table += &format!("{state:?} --{event:?}--> {next:?}\n");
                }
            }
        }
        let figure = "Recv --Fin--> SizeKnown\nRecv --Reset--> ResetRecvd\nSizeKnown --Reset--> ResetRecvd\n\
                      SizeKnown --ReadAll--> DataRead\nResetRecvd --ReadReset--> ResetRead\n";
        assert_eq!(table, figure);
    }
}
