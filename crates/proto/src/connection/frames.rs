//! One line per frame: to the part that owns it (RFC 9000 section 19).

use warpline_wire::frame::{ConnectionClose, Frame};
use warpline_wire::header::ProtectedHeader;
use warpline_wire::{Side, TransportErrorCode};

use super::Connection;
use crate::crypto::Level;
use crate::cx::Cx;
use crate::datagram_meta::DatagramMeta;
use crate::error::{ConnectionError, TransportError};
use crate::limits::TOKEN_LEN_MAX;

impl Connection {
    /// Everything but STREAM and DATAGRAM, whose data stays where it lies.
    pub(super) fn on_frame(
        &mut self,
        cx: &mut Cx<'_>,
        meta: &DatagramMeta,
        frame: Frame<'_>,
        level: Level,
        header: &ProtectedHeader,
    ) -> Result<(), TransportError> {
        let kind = frame.frame_type();
        match frame {
            Frame::Padding(_) | Frame::Ping => Ok(()),
            Frame::Ack(ack) => self.on_ack(cx, level, &ack),
            Frame::Crypto(crypto) => self.on_crypto(cx, level, crypto.offset, crypto.data),
            Frame::ResetStream(f) => {
                self.streams.on_reset_stream(f.id, f.code, f.final_size).map_err(|e| e.into_transport(kind))
            }
            Frame::StopSending(f) => self.streams.on_stop_sending(f.id, f.code).map_err(|e| e.into_transport(kind)),
            Frame::MaxData(max) => {
                self.streams.on_max_data(max);
                Ok(())
            }
            Frame::MaxStreamData { id, max } => {
                self.streams.on_max_stream_data(id, max).map_err(|e| e.into_transport(kind))
            }
            Frame::MaxStreams { dir, max } => {
                self.streams.on_max_streams(dir, max);
                Ok(())
            }
            Frame::DataBlocked(_) | Frame::StreamsBlocked { .. } => Ok(()),
            Frame::StreamDataBlocked { id, .. } => {
                self.streams.on_stream_data_blocked(id).map_err(|e| e.into_transport(kind))
            }
            Frame::NewToken(token) => self.on_new_token(token),
            Frame::NewConnectionId(new) => self.on_new_connection_id(cx, &new),
            Frame::RetireConnectionId(sequence) => {
                self.local_cids.on_retire(cx, sequence, &header.dcid)?;
                self.replenish_cids(cx);
                Ok(())
            }
            Frame::PathChallenge(data) => {
                self.on_path_challenge(cx, meta, data);
                Ok(())
            }
            Frame::PathResponse(data) => {
                self.on_path_response(cx, data);
                Ok(())
            }
            Frame::HandshakeDone => {
                if self.identity.side == Side::Server {
                    return Err(TransportError::protocol("HANDSHAKE_DONE from a client"));
                }
                self.on_confirmed(cx)
            }
            Frame::ConnectionClose(close) => {
                self.on_close_frame(cx, &close);
                Ok(())
            }
            Frame::Stream(_) | Frame::Datagram(_) => unreachable!("handled where the packet is taken apart"),
            Frame::AckFrequency(wish) if self.config.extensions.ack_frequency => self.on_ack_frequency(&wish),
            Frame::ImmediateAck if self.config.extensions.ack_frequency => {
                self.spaces.data.acks.on_immediate();
                Ok(())
            }
            Frame::ResetStreamAt(f) if self.config.extensions.reset_stream_at => {
                self.streams.on_reset_stream_at(&f).map_err(|e| e.into_transport(kind))
            }
            Frame::ObservedAddress(seen) => self.on_observed_address(&seen),
            // Extensions that this side did not announce: the peer must not send their frames.
            Frame::AckFrequency(_) | Frame::ImmediateAck | Frame::ResetStreamAt(_) => Err(TransportError::new(
                TransportErrorCode::FRAME_ENCODING_ERROR,
                "a frame of an extension not negotiated",
            )),
        }
    }

    fn on_close_frame(&mut self, cx: &mut Cx<'_>, close: &ConnectionClose<'_>) {
        let error = match close {
            ConnectionClose::Transport { code, reason, .. } => {
                ConnectionError::ClosedByPeer { code: *code, reason: String::from_utf8_lossy(reason).into_owned() }
            }
            ConnectionClose::Application { code, reason } => {
                ConnectionError::ApplicationClosed { code: *code, reason: String::from_utf8_lossy(reason).into_owned() }
            }
        };
        self.on_peer_close(cx.now, error);
    }

    fn on_new_token(&mut self, token: &[u8]) -> Result<(), TransportError> {
        if self.identity.side == Side::Server {
            return Err(TransportError::protocol("NEW_TOKEN from a client"));
        }
        if token.is_empty() {
            return Err(TransportError::new(TransportErrorCode::FRAME_ENCODING_ERROR, "an empty NEW_TOKEN"));
        }
        if let Some(client) = self.handshake.client.as_ref().filter(|_| token.len() <= TOKEN_LEN_MAX) {
            client.keep_token(self.identity.version, token);
        }
        Ok(())
    }

    fn on_new_connection_id(
        &mut self,
        cx: &mut Cx<'_>,
        new: &warpline_wire::frame::NewConnectionId,
    ) -> Result<(), TransportError> {
        let before = self.remote_cids.reset_token();
        self.remote_cids.on_new(new)?;
        self.update_reset_route(cx, before);
        Ok(())
    }

    /// Keeps the endpoint's table of reset tokens in step with the ID in use.
    pub(super) fn update_reset_route(&mut self, cx: &mut Cx<'_>, before: Option<warpline_wire::ResetToken>) {
        let after = self.remote_cids.reset_token();
        if before.map(|t| t.0) == after.map(|t| t.0) {
            return;
        }
        if let Some(token) = before {
            cx.routes.remove_reset_token(token);
        }
        if let Some(token) = after {
            cx.routes.insert_reset_token(token, cx.handle);
        }
    }
}
