//! Every transport error that a server must raise, each provoked by one rewritten packet of an honest client. The cases are
//! those of the h3spec tool for the transport, and the sections of RFC 9000 and 9001 that ask for them.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod common;

use common::tamper::{Level, Tampered};
use warpline_proto::TransportErrorCode as Code;
use warpline_proto::config::TransportConfig;

/// Edits the client's first packet of a level during the handshake.
fn during_handshake(level: Level, edit: impl FnMut(&mut common::tamper::Clear) + 'static) -> Code {
    let mut test = Tampered::new(&TransportConfig::default());
    test.edit(level, edit);
    test.pair.connect();
    test.server_error()
}

/// Edits one 1-RTT packet of the client.
fn one_rtt_edit(edit: impl FnMut(&mut common::tamper::Clear) + 'static) -> Code {
    let mut test = Tampered::new(&TransportConfig::default());
    let (client, _) = test.pair.established();
    test.edit(Level::OneRtt, edit);
    test.pair.client.connection(client).unwrap().ping();
    test.server_error()
}

/// Sends these frames, and only them, in a 1-RTT packet.
fn one_rtt(frames: &[u8]) -> Code {
    let mut test = Tampered::new(&TransportConfig::default());
    let (client, _) = test.pair.established();
    test.send(client, frames);
    test.server_error()
}

fn varint(value: u64) -> Vec<u8> {
    match value {
        0..0x40 => vec![value as u8],
        0x40..0x4000 => (value as u16 | 0x4000).to_be_bytes().to_vec(),
        0x4000..0x4000_0000 => (value as u32 | 0x8000_0000).to_be_bytes().to_vec(),
        _ => (value | 0xc000_0000_0000_0000).to_be_bytes().to_vec(),
    }
}

fn frame(parts: &[u64]) -> Vec<u8> {
    parts.iter().flat_map(|p| varint(*p)).collect()
}

/// The ClientHello in an Initial packet's CRYPTO frames.
fn client_hello(payload: &[u8]) -> Vec<u8> {
    let mut pieces: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut at = 0;
    let read = |at: &mut usize| {
        let len = 1usize << (payload[*at] >> 6);
        let first = u64::from(payload[*at] & 0x3f);
        let value = payload[*at + 1..*at + len].iter().fold(first, |v, b| v << 8 | u64::from(*b));
        *at += len;
        value as usize
    };
    while at < payload.len() {
        match payload[at] {
            6 => {
                at += 1;
                let (offset, len) = (read(&mut at), read(&mut at));
                pieces.push((offset, payload[at..at + len].to_vec()));
                at += len;
            }
            _ => at += 1,
        }
    }
    pieces.sort();
    pieces.into_iter().flat_map(|(_, bytes)| bytes).collect()
}

/// The type of the transport parameters' extension (RFC 9001 section 8.2).
const PARAMETERS: u16 = 0x39;

/// Rewrites an extension of the ClientHello, and perhaps its type; `None` takes it out.
fn with_extension(hello: &[u8], kind: u16, edit: impl Fn(&[u8]) -> Option<(u16, Vec<u8>)>) -> Vec<u8> {
    let u16_at = |at: usize| usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    // Type, length, version, random; then session ID, cipher suites, compression.
    let mut at = 4 + 2 + 32;
    at += 1 + usize::from(hello[at]);
    at += 2 + u16_at(at);
    at += 1 + usize::from(hello[at]);
    let extensions_at = at;
    at += 2;
    let mut extensions = Vec::new();
    while at < hello.len() {
        let (found, len) = (u16_at(at) as u16, u16_at(at + 2));
        let body = &hello[at + 4..at + 4 + len];
        let extension = if found == kind { edit(body) } else { Some((found, body.to_vec())) };
        if let Some((kind, body)) = extension {
            extensions.extend_from_slice(&kind.to_be_bytes());
            extensions.extend_from_slice(&(body.len() as u16).to_be_bytes());
            extensions.extend_from_slice(&body);
        }
        at += 4 + len;
    }
    let mut out = hello[..extensions_at].to_vec();
    out.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
    out.extend_from_slice(&extensions);
    let length = (out.len() - 4) as u32;
    out[1..4].copy_from_slice(&length.to_be_bytes()[1..]);
    out
}

/// The code for a ClientHello whose transport parameters were rewritten.
fn parameters(edit: impl Fn(&[u8]) -> Option<Vec<u8>> + 'static) -> Code {
    extension(move |body| Some((PARAMETERS, edit(body)?)))
}

/// The same, and their extension may get another type.
fn extension(edit: impl Fn(&[u8]) -> Option<(u16, Vec<u8>)> + 'static) -> Code {
    during_handshake(Level::Initial, move |clear| {
        let len = clear.payload.len();
        let hello = with_extension(&client_hello(&clear.payload), PARAMETERS, &edit);
        let mut payload = frame(&[6, 0]);
        payload.extend_from_slice(&(hello.len() as u16 | 0x4000).to_be_bytes());
        payload.extend_from_slice(&hello);
        payload.resize(len.max(payload.len()), 0);
        clear.payload = payload;
    })
}

fn with_parameter(id: u64, value: &'static [u8]) -> Code {
    parameters(move |body| {
        let mut out = body.to_vec();
        out.extend(frame(&[id, value.len() as u64]));
        out.extend_from_slice(value);
        Some(out)
    })
}

/// Takes parameters with this ID out, then adds what `add` says.
fn replacing_parameter(id: u64, value: Option<&'static [u8]>) -> Code {
    parameters(move |body| {
        let mut out = Vec::new();
        let mut at = 0;
        let read = |at: &mut usize| {
            let len = 1usize << (body[*at] >> 6);
            let first = u64::from(body[*at] & 0x3f);
            let value = body[*at + 1..*at + len].iter().fold(first, |v, b| v << 8 | u64::from(*b));
            *at += len;
            value
        };
        while at < body.len() {
            let start = at;
            let (found, len) = (read(&mut at), read(&mut at) as usize);
            at += len;
            if found != id {
                out.extend_from_slice(&body[start..at]);
            }
        }
        if let Some(value) = value {
            out.extend(frame(&[id, value.len() as u64]));
            out.extend_from_slice(value);
        }
        Some(out)
    })
}

#[test]
fn parameters_that_must_be_there_or_must_not() {
    // Section 7.3: initial_source_connection_id is missing, or another.
    assert_eq!(replacing_parameter(0x0f, None), Code::TRANSPORT_PARAMETER_ERROR);
    assert_eq!(replacing_parameter(0x0f, Some(&[1, 2, 3])), Code::TRANSPORT_PARAMETER_ERROR);
    // Section 18.2: what only servers send.
    for id in [0x00, 0x02, 0x0d, 0x10] {
        assert_eq!(with_parameter(id, &[7; 16]), Code::TRANSPORT_PARAMETER_ERROR, "{id:#x}");
    }
    // Section 7.4: twice the same.
    assert_eq!(with_parameter(0x0f, &[1; 8]), Code::TRANSPORT_PARAMETER_ERROR);
}

#[test]
fn parameters_out_of_their_range() {
    // max_udp_payload_size below 1,200; ack_delay_exponent above 20; max_ack_delay of 2^14 (section 18.2).
    assert_eq!(replacing_parameter(0x03, Some(&[0x44, 0xaf])), Code::TRANSPORT_PARAMETER_ERROR);
    assert_eq!(replacing_parameter(0x0a, Some(&[21])), Code::TRANSPORT_PARAMETER_ERROR);
    assert_eq!(replacing_parameter(0x0b, Some(&[0x80, 0, 0x40, 0])), Code::TRANSPORT_PARAMETER_ERROR);
    // initial_max_streams above 2^60 (section 4.6); active_connection_id_limit below 2.
    let too_many: &[u8] = &[0xd0, 0, 0, 0, 0, 0, 0, 1];
    assert_eq!(replacing_parameter(0x08, Some(too_many)), Code::TRANSPORT_PARAMETER_ERROR);
    assert_eq!(replacing_parameter(0x09, Some(too_many)), Code::TRANSPORT_PARAMETER_ERROR);
    assert_eq!(replacing_parameter(0x0e, Some(&[1])), Code::TRANSPORT_PARAMETER_ERROR);
    // A value longer than what it holds, and one that is cut off (RUSTSEC-2026-0037).
    assert_eq!(replacing_parameter(0x01, Some(&[5, 5])), Code::TRANSPORT_PARAMETER_ERROR);
    assert_eq!(replacing_parameter(0x01, Some(&[0x80, 1])), Code::TRANSPORT_PARAMETER_ERROR);
    assert_eq!(parameters(|body| Some(body[..body.len() - 1].to_vec())), Code::TRANSPORT_PARAMETER_ERROR);
    // Extensions: reset_stream_at with a value, address discovery beyond 2, min_ack_delay above max_ack_delay.
    assert_eq!(replacing_parameter(0x1d, Some(&[1])), Code::TRANSPORT_PARAMETER_ERROR);
    assert_eq!(replacing_parameter(0x9f81_a176, Some(&[3])), Code::TRANSPORT_PARAMETER_ERROR);
    assert_eq!(replacing_parameter(0xff04_de1b, Some(&[0x80, 0x10, 0, 0])), Code::TRANSPORT_PARAMETER_ERROR);
}

#[test]
fn tls_alerts() {
    // RFC 9001 section 8.1: no_application_protocol.
    let mut test = Tampered::with_alpn(b"nobody speaks this");
    test.pair.connect();
    assert_eq!(test.server_error(), Code::crypto(120));
    // Section 8.2: without the extension missing_extension.
    assert_eq!(parameters(|_| None), Code::crypto(109));
    // Under the type that they had in the drafts they are not there.
    assert_eq!(extension(|body| Some((0xffa5, body.to_vec()))), Code::crypto(109));
    // Section 6: KeyUpdate messages, in the Handshake and after it; section 8.3: EndOfEarlyData: unexpected_message.
    let crypto = |message: &[u8]| [&frame(&[6, 0, message.len() as u64])[..], message].concat();
    let key_update = crypto(&[24, 0, 0, 1, 0]);
    let frames = key_update.clone();
    assert_eq!(during_handshake(Level::Handshake, move |c| c.replace(&frames)), Code::crypto(10));
    assert_eq!(one_rtt(&key_update), Code::crypto(10));
    let end_of_early_data = crypto(&[5, 0, 0, 0]);
    assert_eq!(during_handshake(Level::Handshake, move |c| c.replace(&end_of_early_data)), Code::crypto(10));
}

#[test]
fn frames_where_they_must_not_be() {
    let forbidden: [&[u8]; 14] = [
        &[0x04, 0, 0, 0],                // RESET_STREAM
        &[0x05, 0, 0],                   // STOP_SENDING
        &[0x07, 1, 1],                   // NEW_TOKEN
        &[0x0a, 0, 1, 1],                // STREAM
        &[0x10, 0],                      // MAX_DATA
        &[0x12, 0],                      // MAX_STREAMS
        &[0x14, 0],                      // DATA_BLOCKED
        &[0x19, 0],                      // RETIRE_CONNECTION_ID
        &[0x1a, 1, 2, 3, 4, 5, 6, 7, 8], // PATH_CHALLENGE
        &[0x1b, 1, 2, 3, 4, 5, 6, 7, 8], // PATH_RESPONSE
        &[0x1d, 0, 0],                   // CONNECTION_CLOSE of the application
        &[0x1e],                         // HANDSHAKE_DONE
        &[0x1f],                         // IMMEDIATE_ACK
        &[0x31, 1, 1],                   // DATAGRAM
    ];
    // Section 12.4 and 17.2.4.
    for frames in forbidden {
        for level in [Level::Initial, Level::Handshake] {
            let code = during_handshake(level, move |clear| clear.prepend(frames));
            assert_eq!(code, Code::PROTOCOL_VIOLATION, "{frames:x?} at {level:?}");
        }
    }
    // From a client at any time: NEW_TOKEN (19.7), HANDSHAKE_DONE (19.20).
    assert_eq!(one_rtt(&[0x07, 1, 1]), Code::PROTOCOL_VIOLATION);
    assert_eq!(one_rtt(&[0x1e]), Code::PROTOCOL_VIOLATION);
    // OBSERVED_ADDRESS that nobody asked for.
    assert_eq!(one_rtt(&[&frame(&[0x9f_81a6, 0])[..], &[1, 2, 3, 4, 5, 6]].concat()), Code::PROTOCOL_VIOLATION);
}

#[test]
fn frames_that_cannot_be_read() {
    for frames in [
        frame(&[0x21]),                // unknown type (12.4)
        vec![0x40, 0x01],              // a type not in its shortest form (12.4)
        vec![0x0a, 0, 60],             // cut off
        vec![0x02, 3, 0, 0, 5],        // an ACK range below 0 (19.3.1)
        frame(&[0x12, (1 << 60) + 1]), // MAX_STREAMS above 2^60 (19.11)
        frame(&[0x13, (1 << 60) + 1]),
        frame(&[0x16, (1 << 60) + 1]), // STREAMS_BLOCKED above 2^60 (19.14)
        frame(&[0x17, (1 << 60) + 1]),
        [&[0x18, 1, 2, 4, 1, 2, 3, 4][..], &[7; 16]].concat(), // NEW_CONNECTION_ID that retires itself (19.15)
        [&[0x18, 1, 0, 0][..], &[7; 16]].concat(),             // with an ID of no bytes
        [&[0x18, 1, 0, 21][..], &[7; 37]].concat(),            // and of 21
        [&[0x0e, 0][..], &frame(&[(1 << 62) - 1, 1]), &[9]].concat(), // STREAM beyond 2^62 (19.8)
        [&[0x06][..], &frame(&[(1 << 62) - 1, 1]), &[9]].concat(), // CRYPTO beyond 2^62 (19.6)
        vec![0x24, 0, 0, 3, 4],                                // RESET_STREAM_AT beyond the final size
    ] {
        assert_eq!(one_rtt(&frames), Code::FRAME_ENCODING_ERROR, "{frames:x?}");
    }
    // NEW_TOKEN without a token from a client is wrong in two ways; either code will do.
    assert!([Code::FRAME_ENCODING_ERROR, Code::PROTOCOL_VIOLATION].contains(&one_rtt(&[0x07, 0])));
}

#[test]
fn packets_that_are_wrong_as_a_whole() {
    // No frames at all (12.4).
    let code = during_handshake(Level::Handshake, |clear| clear.payload.clear());
    assert_eq!(code, Code::PROTOCOL_VIOLATION);
    assert_eq!(one_rtt_edit(|clear| clear.payload.clear()), Code::PROTOCOL_VIOLATION);
    // Reserved bits (17.2 and 17.3.1).
    for level in [Level::Initial, Level::Handshake] {
        let code = during_handshake(level, |clear| clear.first |= 0x0c);
        assert_eq!(code, Code::PROTOCOL_VIOLATION, "{level:?}");
    }
    assert_eq!(one_rtt_edit(|clear| clear.first |= 0x18), Code::PROTOCOL_VIOLATION);
}

#[test]
fn states_and_limits_of_streams() {
    for (frames, code) in [
        // A stream that only the server sends on: RESET_STREAM, STREAM, STREAM_DATA_BLOCKED (19.4, 19.8, 19.13).
        (frame(&[0x04, 3, 0, 0]), Code::STREAM_STATE_ERROR),
        (vec![0x0a, 3, 1, 1], Code::STREAM_STATE_ERROR),
        (frame(&[0x15, 3, 0]), Code::STREAM_STATE_ERROR),
        // A stream of the server's that it has not opened: STOP_SENDING, STREAM, MAX_STREAM_DATA (19.5, 19.8, 19.10).
        (frame(&[0x05, 1, 0]), Code::STREAM_STATE_ERROR),
        (vec![0x0a, 1, 1, 1], Code::STREAM_STATE_ERROR),
        (frame(&[0x11, 1, 9]), Code::STREAM_STATE_ERROR),
        (frame(&[0x24, 1, 0, 0, 0]), Code::STREAM_STATE_ERROR),
        // A stream that only the client sends on: STOP_SENDING, MAX_STREAM_DATA (19.5, 19.10).
        (frame(&[0x05, 2, 0]), Code::STREAM_STATE_ERROR),
        (frame(&[0x11, 2, 9]), Code::STREAM_STATE_ERROR),
        // More streams than allowed (4.6, 19.11).
        ([&frame(&[0x0a, 400, 1])[..], &[1]].concat(), Code::STREAM_LIMIT_ERROR),
        ([&frame(&[0x0a, 402, 1])[..], &[1]].concat(), Code::STREAM_LIMIT_ERROR),
        (frame(&[0x04, 400, 0, 0]), Code::STREAM_LIMIT_ERROR),
        // Windows: of a stream, and of the connection by streams that each keep to theirs (4.1).
        ([&frame(&[0x0e, 0, 1 << 20, 1])[..], &[1]].concat(), Code::FLOW_CONTROL_ERROR),
        (frame(&[0x04, 0, 0, (1 << 20) + 1]), Code::FLOW_CONTROL_ERROR),
        (frame(&[0x24, 0, 0, (1 << 20) + 1, 0]), Code::FLOW_CONTROL_ERROR),
        (
            [&frame(&[0x0e, 0, (1 << 20) - 1, 1])[..], &[1], &frame(&[0x0e, 4, (1 << 20) - 1, 1])[..], &[1]].concat(),
            Code::FLOW_CONTROL_ERROR,
        ),
        // Final sizes that change (4.5).
        (vec![0x0b, 0, 1, 1, 0x0b, 0, 2, 1, 1], Code::FINAL_SIZE_ERROR),
        (vec![0x0b, 0, 2, 1, 1, 0x04, 0, 0, 1], Code::FINAL_SIZE_ERROR),
        (vec![0x0b, 0, 1, 1, 0x0a, 0, 2, 1, 1], Code::FINAL_SIZE_ERROR),
        (vec![0x0a, 0, 2, 1, 1, 0x0b, 0, 1, 1], Code::FINAL_SIZE_ERROR),
        (vec![0x24, 0, 0, 5, 0, 0x24, 0, 0, 6, 0], Code::FINAL_SIZE_ERROR),
        (vec![0x24, 0, 0, 5, 1, 0x24, 0, 1, 5, 0], Code::STREAM_STATE_ERROR),
    ] {
        assert_eq!(one_rtt(&frames), code, "{frames:x?}");
    }
}

#[test]
fn connection_ids() {
    let new = |sequence: u8, retire: u8, id: [u8; 4], token: u8| {
        [&[0x18, sequence, retire, 4][..], &id, &[token; 16]].concat()
    };
    // More than active_connection_id_limit (5.1.1).
    let flood: Vec<u8> = (10..16).flat_map(|n| new(n, 0, [n; 4], n)).collect();
    assert_eq!(one_rtt(&flood), Code::CONNECTION_ID_LIMIT_ERROR);
    // The same number with another ID, the same ID with another number or token (19.15).
    for second in [new(20, 0, [2; 4], 1), new(21, 0, [1; 4], 1), new(20, 0, [1; 4], 2)] {
        let frames = [new(20, 0, [1; 4], 1), second].concat();
        assert_eq!(one_rtt(&frames), Code::PROTOCOL_VIOLATION, "{frames:x?}");
    }
    // Retiring what was never issued (19.16).
    assert_eq!(one_rtt(&[0x19, 40]), Code::PROTOCOL_VIOLATION);
}

#[test]
fn acknowledgements_of_what_was_never_sent() {
    // Section 13.1.
    assert_eq!(one_rtt(&frame(&[0x02, 5_000, 0, 0, 0])), Code::PROTOCOL_VIOLATION);
    let code = during_handshake(Level::Handshake, |c| c.prepend(&frame(&[0x02, 90, 0, 0, 0])));
    assert_eq!(code, Code::PROTOCOL_VIOLATION);
}

#[test]
fn crypto_data_that_is_too_much_or_too_late() {
    // Section 7.5.
    assert_eq!(one_rtt(&[&frame(&[0x06, 1 << 20, 1])[..], &[1]].concat()), Code::CRYPTO_BUFFER_EXCEEDED);
    let code = during_handshake(Level::Initial, |c| c.prepend(&[&frame(&[0x06, 1 << 20, 1])[..], &[1]].concat()));
    assert_eq!(code, Code::CRYPTO_BUFFER_EXCEEDED);
}

/// RFC 9001 section 8.3: TLS has nothing to say in 0-RTT packets.
#[test]
fn crypto_data_in_early_data() {
    let transport = TransportConfig::default();
    let mut test = Tampered::with_server(&transport, common::server_config(&transport).early_data(true).unwrap());
    test.pair.client_config.early_data = true;
    test.pair.visit();
    test.edit(Level::Early, |clear| clear.prepend(&[6, 0, 1, 1]));
    let client = test.pair.connect();
    let connection = test.pair.client.connection(client).unwrap();
    let stream = connection.open(warpline_proto::Dir::Bi).expect("the remembered limits allow streams");
    connection.write(stream, &mut warpline_frame::Chunk::from(vec![7; 500])).unwrap();
    assert_eq!(test.server_error(), Code::PROTOCOL_VIOLATION);
    assert_eq!(test.tamper.borrow().edited, 1);
}

#[test]
fn datagrams_and_acknowledgement_frequencies() {
    // RFC 9221 section 3: not announced; draft-ietf-quic-ack-frequency section 4: a delay out of range.
    let transport = TransportConfig { datagram_receive_buffer: None, ..TransportConfig::default() };
    let mut test = Tampered::new(&transport);
    let (client, _) = test.pair.established();
    test.send(client, &[0x31, 1, 1]);
    assert_eq!(test.server_error(), Code::PROTOCOL_VIOLATION);
    assert_eq!(one_rtt(&frame(&[0xaf, 0, 1, 10, 1])), Code::PROTOCOL_VIOLATION);
    assert_eq!(one_rtt(&frame(&[0xaf, 0, 1, 1 << 24, 1])), Code::PROTOCOL_VIOLATION);
    let mut plain = TransportConfig::default();
    plain.extensions.ack_frequency = false;
    plain.extensions.reset_stream_at = false;
    for frames in [frame(&[0xaf, 0, 1, 10_000, 1]), vec![0x1f], frame(&[0x24, 0, 0, 0, 0])] {
        let mut test = Tampered::new(&plain);
        let (client, _) = test.pair.established();
        test.send(client, &frames);
        assert_eq!(test.server_error(), Code::FRAME_ENCODING_ERROR, "{frames:x?}");
    }
}
