//! Transport parameters to bytes.

use alloc::vec::Vec;

use super::{TransportParameters, id};
use crate::{Side, varint};

impl TransportParameters {
    /// Appends the parameters as `from` sends them: what has its default is left out, and so is what only a server sends when `from` is a client.
    pub fn encode(&self, out: &mut Vec<u8>, from: Side) {
        let defaults = Self::default();
        let mut number = |key, value: u64, default: u64| {
            if value != default {
                put_number(out, key, value);
            }
        };
        number(id::MAX_IDLE_TIMEOUT, self.max_idle_timeout, 0);
        number(id::MAX_UDP_PAYLOAD, self.max_udp_payload_size, defaults.max_udp_payload_size);
        number(id::MAX_DATA, self.initial_max_data, 0);
        number(id::MAX_STREAM_DATA_BIDI_LOCAL, self.initial_max_stream_data_bidi_local, 0);
        number(id::MAX_STREAM_DATA_BIDI_REMOTE, self.initial_max_stream_data_bidi_remote, 0);
        number(id::MAX_STREAM_DATA_UNI, self.initial_max_stream_data_uni, 0);
        number(id::MAX_STREAMS_BIDI, self.initial_max_streams_bidi, 0);
        number(id::MAX_STREAMS_UNI, self.initial_max_streams_uni, 0);
        number(id::ACK_DELAY_EXPONENT, self.ack_delay_exponent, defaults.ack_delay_exponent);
        number(id::MAX_ACK_DELAY, self.max_ack_delay, defaults.max_ack_delay);
        number(id::ACTIVE_CID_LIMIT, self.active_connection_id_limit, defaults.active_connection_id_limit);
        for (key, value) in [
            (id::MAX_DATAGRAM, self.max_datagram_frame_size),
            (id::MIN_ACK_DELAY, self.min_ack_delay),
            (id::OBSERVED_ADDRESS, self.observed_address),
        ] {
            if let Some(value) = value {
                put_number(out, key, value);
            }
        }
        for (key, set) in [
            (id::DISABLE_MIGRATION, self.disable_active_migration),
            (id::GREASE_QUIC_BIT, self.grease_quic_bit),
            (id::RESET_STREAM_AT, self.reset_stream_at),
        ] {
            if set {
                put(out, key, &[]);
            }
        }
        if let Some(cid) = &self.initial_source_connection_id {
            put(out, id::INITIAL_SCID, &[cid]);
        }
        if let Some(info) = &self.version_information {
            put_varint(out, id::VERSION_INFORMATION);
            put_varint(out, 4 + 4 * info.available.len() as u64);
            out.extend_from_slice(&info.chosen.0.to_be_bytes());
            info.available.iter().for_each(|v| out.extend_from_slice(&v.0.to_be_bytes()));
        }
        if let Some(seed) = self.grease {
            // Reserved IDs are 31 * N + 27 (section 18.1).
            let key = 31 * (seed % (1 << 24)) + 27;
            put(out, key, &[&seed.to_be_bytes()[..(seed % 8) as usize]]);
        }
        if from == Side::Server {
            self.encode_server_only(out);
        }
    }

    fn encode_server_only(&self, out: &mut Vec<u8>) {
        if let Some(cid) = &self.original_destination_connection_id {
            put(out, id::ORIGINAL_DCID, &[cid]);
        }
        if let Some(cid) = &self.retry_source_connection_id {
            put(out, id::RETRY_SCID, &[cid]);
        }
        if let Some(token) = &self.stateless_reset_token {
            put(out, id::RESET_TOKEN, &[&token.0]);
        }
        if let Some(preferred) = &self.preferred_address {
            let value: [&[u8]; 7] = [
                &preferred.v4.ip().octets(),
                &preferred.v4.port().to_be_bytes(),
                &preferred.v6.ip().octets(),
                &preferred.v6.port().to_be_bytes(),
                &[preferred.cid.len() as u8],
                &preferred.cid,
                &preferred.reset_token.0,
            ];
            put(out, id::PREFERRED_ADDRESS, &value);
        }
    }
}

/// One parameter: ID, length, and the value in parts.
fn put(out: &mut Vec<u8>, key: u64, value: &[&[u8]]) {
    put_varint(out, key);
    put_varint(out, value.iter().map(|part| part.len() as u64).sum());
    value.iter().for_each(|part| out.extend_from_slice(part));
}

/// One parameter whose value is a number.
fn put_number(out: &mut Vec<u8>, key: u64, value: u64) {
    put_varint(out, key);
    put_varint(out, varint::len(value) as u64);
    put_varint(out, value);
}

fn put_varint(out: &mut Vec<u8>, value: u64) {
    let mut bytes = [0; 8];
    let len = varint::encode(value, &mut bytes);
    out.extend_from_slice(&bytes[..len]);
}
