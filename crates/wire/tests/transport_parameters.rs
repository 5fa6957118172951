//! Transport parameters: they come back as they were sent, and every rule of RFC 9000 section 18.2 and of the
//! extensions is enforced.

mod common;

use common::{cid, hex, number};
use proptest::prelude::*;
use std::net::{SocketAddrV4, SocketAddrV6};
use warpline_wire::{
    PreferredAddress, ResetToken, Side, TransportParameterError as Error, TransportParameters, Version,
    VersionInformation, varint,
};

fn encoded(params: &TransportParameters, from: Side) -> Vec<u8> {
    let mut out = Vec::new();
    params.encode(&mut out, from);
    out
}

/// One parameter as bytes: ID and value in hexadecimal.
fn param(id: u64, value: &str) -> Vec<u8> {
    let value = hex(value);
    let mut out = vec![0; 16];
    let mut len = varint::encode(id, &mut out);
    len += varint::encode(value.len() as u64, &mut out[len..]);
    out.truncate(len);
    out.extend(value);
    out
}

fn version() -> impl Strategy<Value = Version> {
    (1..=u32::MAX).prop_map(Version)
}

fn version_information() -> impl Strategy<Value = VersionInformation> {
    (proptest::collection::vec(version(), 1..12), any::<prop::sample::Index>())
        .prop_map(|(available, index)| VersionInformation { chosen: *index.get(&available), available })
}

fn preferred_address() -> impl Strategy<Value = PreferredAddress> {
    (any::<SocketAddrV4>(), any::<SocketAddrV6>(), cid(1..=20), any::<[u8; 16]>()).prop_map(|(v4, v6, cid, token)| {
        let v6 = SocketAddrV6::new(*v6.ip(), v6.port(), 0, 0);
        PreferredAddress { v4, v6, cid, reset_token: ResetToken(token) }
    })
}

fn any_params() -> impl Strategy<Value = TransportParameters> {
    let limits = (number(), number(), number(), number(), 0..=1u64 << 60, 0..=1u64 << 60);
    let others = (number(), 1200..=varint::MAX, 0u64..=20, 0u64..1 << 14, any::<bool>(), 2..=varint::MAX);
    let server = (
        proptest::option::of(cid(0..=20)),
        proptest::option::of(cid(0..=20)),
        proptest::option::of(any::<[u8; 16]>().prop_map(ResetToken)),
        proptest::option::of(preferred_address()),
    );
    let extensions = (
        proptest::option::of(number()),
        any::<bool>(),
        any::<bool>(),
        proptest::option::of(number()),
        proptest::option::of(0u64..=2),
        proptest::option::of(version_information()),
    );
    (limits, others, server, extensions, cid(1..=20)).prop_map(|(limits, others, server, extensions, scid)| {
        TransportParameters {
            initial_max_data: limits.0,
            initial_max_stream_data_bidi_local: limits.1,
            initial_max_stream_data_bidi_remote: limits.2,
            initial_max_stream_data_uni: limits.3,
            initial_max_streams_bidi: limits.4,
            initial_max_streams_uni: limits.5,
            max_idle_timeout: others.0,
            max_udp_payload_size: others.1,
            ack_delay_exponent: others.2,
            max_ack_delay: others.3,
            disable_active_migration: others.4,
            active_connection_id_limit: others.5,
            original_destination_connection_id: server.0,
            retry_source_connection_id: server.1,
            stateless_reset_token: server.2,
            preferred_address: server.3,
            max_datagram_frame_size: extensions.0,
            grease_quic_bit: extensions.1,
            reset_stream_at: extensions.2,
            min_ack_delay: extensions.3.map(|us| us.min(others.3 * 1000)),
            observed_address: extensions.4,
            version_information: extensions.5,
            initial_source_connection_id: Some(scid),
            grease: None,
        }
    })
}

proptest! {
    #[test]
    fn parameters_come_back(params in any_params(), seed in any::<u64>()) {
        let sent = TransportParameters { grease: Some(seed), ..params.clone() };
        prop_assert_eq!(TransportParameters::decode(&encoded(&sent, Side::Server), Side::Server), Ok(params.clone()));

        let of_client = TransportParameters {
            original_destination_connection_id: None,
            retry_source_connection_id: None,
            stateless_reset_token: None,
            preferred_address: None,
            ..params
        };
        prop_assert_eq!(TransportParameters::decode(&encoded(&sent, Side::Client), Side::Client), Ok(of_client));
    }

    /// Cut off at any byte they are an error or fewer parameters, and no panic.
    #[test]
    fn a_part_of_the_parameters_is_never_read_as_more(params in any_params()) {
        let bytes = encoded(&params, Side::Server);
        for cut in 0..bytes.len() {
            if let Ok(fewer) = TransportParameters::decode(&bytes[..cut], Side::Server) {
                prop_assert!(bytes.starts_with(&bytes[..cut]) && encoded(&fewer, Side::Server).len() <= cut);
            }
        }
    }

    #[test]
    fn any_bytes_are_parameters_or_are_not(bytes in proptest::collection::vec(any::<u8>(), 0..100), client: bool) {
        let from = if client { Side::Client } else { Side::Server };
        if let Ok(params) = TransportParameters::decode(&bytes, from) {
            prop_assert_eq!(TransportParameters::decode(&encoded(&params, from), from), Ok(params));
        }
    }

    /// RFC 9000 section 18.1: IDs of reserved parameters.
    #[test]
    fn the_reserved_parameter_is_of_the_reserved_form(seed in any::<u64>()) {
        let params = TransportParameters { grease: Some(seed), ..TransportParameters::default() };
        let bytes = encoded(&params, Side::Client);
        let (id, _) = varint::decode(&bytes).unwrap();
        prop_assert_eq!(id % 31, 27);
    }
}

/// The parameters in the ClientHello of RFC 9001 appendix A.2.
#[test]
fn the_parameters_of_the_example() {
    let bytes =
        hex("0408ffffffffffffffff05048000ffff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff");
    let params = TransportParameters::decode(&bytes, Side::Client).unwrap();
    assert_eq!(params.initial_max_data, varint::MAX);
    assert_eq!((params.initial_max_stream_data_bidi_local, params.initial_max_stream_data_uni), (65_535, 65_535));
    assert_eq!((params.initial_max_streams_bidi, params.initial_max_streams_uni), (16, 16));
    assert_eq!((params.max_idle_timeout, params.initial_max_stream_data_bidi_remote), (30_000, 65_535));
    assert_eq!(&*params.initial_source_connection_id.unwrap(), hex("8394c8f03e515708"));
}

#[test]
fn absent_parameters_have_their_defaults() {
    let params = TransportParameters::decode(&[], Side::Client).unwrap();
    assert_eq!(params, TransportParameters::default());
    assert_eq!((params.max_udp_payload_size, params.ack_delay_exponent, params.max_ack_delay), (65_527, 3, 25));
    assert_eq!(params.active_connection_id_limit, 2);
    assert!(encoded(&params, Side::Server).is_empty(), "and are not sent");
}

#[test]
fn only_servers_send_what_only_servers_have() {
    for id in [0x00, 0x02, 0x0d, 0x10] {
        let bytes = param(id, &"11".repeat(16));
        assert_eq!(TransportParameters::decode(&bytes, Side::Client), Err(Error::ServerOnly(id)));
    }
}

#[test]
fn no_parameter_is_there_twice() {
    for id in [0x01, 0x0c, 0x1d, 0x2ab2, 27, 0x3fff_ffff] {
        let value = if matches!(id, 0x0c | 0x1d | 0x2ab2) { "" } else { "05" };
        let bytes = [param(id, value), param(0x04, "05"), param(id, value)].concat();
        assert_eq!(TransportParameters::decode(&bytes, Side::Client), Err(Error::Duplicate(id)));
    }
}

/// Parameters are a list that a peer can make as long as it likes; it is read only so far.
#[test]
fn too_many_parameters_are_refused() {
    let many = |n: u64| (0..n).flat_map(|n| param(1000 + n, "")).collect::<Vec<u8>>();
    assert!(TransportParameters::decode(&many(64), Side::Client).is_ok());
    assert_eq!(TransportParameters::decode(&many(65), Side::Client), Err(Error::Malformed));
}

#[test]
fn values_out_of_range_are_refused() {
    for (id, good, bad) in [
        (0x03, "44b0", "44af"),                           // max_udp_payload_size: from 1200
        (0x08, "d000000000000000", "d000000000000001"),   // initial_max_streams_bidi: to 2^60
        (0x09, "d000000000000000", "d000000000000001"),   // initial_max_streams_uni
        (0x0a, "14", "15"),                               // ack_delay_exponent: to 20
        (0x0b, "7fff", "80004000"),                       // max_ack_delay: below 2^14
        (0x0e, "02", "01"),                               // active_connection_id_limit: from 2
        (0xff04_de1b, "800061a8", "800061a9"),            // min_ack_delay: to max_ack_delay, 25 ms
        (0x9f81_a176, "02", "03"),                        // address_discovery: 0, 1 or 2
        (0x11, "00000001 00000001", "00000001 6b3343cf"), // version_information: the chosen one is available
        (0x11, "00000001 00000001", "00000000 00000000"), // version 0 is none
        (0x11, "00000001 00000001", "00000001 00000001 00000000"),
    ] {
        assert!(TransportParameters::decode(&param(id, good), Side::Client).is_ok(), "{id:#x}: {good}");
        let result = TransportParameters::decode(&param(id, bad), Side::Client);
        assert_eq!(result, Err(Error::OutOfRange(id)), "{id:#x}: {bad}");
    }
}

#[test]
fn min_ack_delay_is_compared_whichever_comes_first() {
    let (min, max) = (param(0xff04_de1b, "800061a9"), param(0x0b, "1a"));
    for bytes in [[&min[..], &max].concat(), [&max[..], &min].concat()] {
        assert!(TransportParameters::decode(&bytes, Side::Client).is_ok());
    }
}

#[test]
fn values_of_the_wrong_form_are_refused() {
    for (id, bad) in [
        (0x01, ""),      // a number of no bytes
        (0x01, "40"),    // a number that is cut off
        (0x04, "05 05"), // a number and more
        (0x0c, "00"),    // a flag with a value
        (0x1d, "00"),
        (0x2ab2, "00"),
        (0x0f, "111111111111111111111111111111111111111111"), // a connection ID of 21 bytes
        (0x11, "000000"),                                     // no chosen version
        (0x11, "00000001 00000001 00"),                       // half a version
    ] {
        let result = TransportParameters::decode(&param(id, bad), Side::Client);
        assert_eq!(result, Err(Error::Malformed), "{id:#x}: {bad}");
    }
    for (id, bad) in [(0x02, "11".repeat(15)), (0x02, "11".repeat(17)), (0x0d, "11".repeat(24))] {
        assert_eq!(TransportParameters::decode(&param(id, &bad), Side::Server), Err(Error::Malformed), "{id:#x}");
    }
}

/// RFC 9368 section 3: a server's list need not have what it chose, and may be empty.
#[test]
fn a_server_may_be_giving_its_version_up() {
    let params = TransportParameters::decode(&param(0x11, "00000001"), Side::Server).unwrap();
    assert_eq!(params.version_information, Some(VersionInformation { chosen: Version::V1, available: vec![] }));
}

#[test]
fn a_preferred_address_needs_connection_ids() {
    let address = |len: &str, cid: &str| param(0x0d, &format!("{}{len}{cid}{}", "01".repeat(24), "22".repeat(16)));
    let scid = |value: &str| param(0x0f, value);
    let decode = |parts: [Vec<u8>; 2]| TransportParameters::decode(&parts.concat(), Side::Server);
    assert!(decode([address("01", "aa"), scid("bb")]).is_ok());
    assert_eq!(decode([address("00", ""), scid("bb")]), Err(Error::OutOfRange(0x0d)), "an empty ID to use there");
    assert_eq!(decode([address("15", &"aa".repeat(21)), scid("bb")]), Err(Error::OutOfRange(0x0d)), "21 bytes");
    assert_eq!(decode([address("01", "aa"), scid("")]), Err(Error::OutOfRange(0x0d)), "a server without IDs");
    assert_eq!(decode([address("01", "aabb"), scid("bb")]), Err(Error::Malformed), "a byte too many");
}
