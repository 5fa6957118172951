//! A peer that breaks HTTP/3, one rule after the other, on a raw connection: the code of the answer is the right one.
//! The first part follows the cases of the tool h3spec.

mod common;

use common::{Stage, fetch};
use h3::error::Code;
use warpline::{Connection, ConnectionError, ReadError, SendStream};

/// SETTINGS without any setting, behind the type of a control stream.
const CONTROL: &[u8] = &[0x00, 0x04, 0x00];
/// An encoded field section with the four pseudo-header fields of a request: GET, https, /, and an authority.
const FIELDS: &[u8] = &[0x00, 0x00, 0xd1, 0xd7, 0xc1, 0x50, 0x01, b'a'];

/// A raw client whose control stream is open.
struct Hostile {
    _stage: Stage,
    connection: Connection,
    control: SendStream,
}

impl Hostile {
    async fn new() -> Self {
        Self::with_control(CONTROL).await
    }

    async fn with_control(begin: &[u8]) -> Self {
        let stage = Stage::new();
        let connection = stage.raw().await;
        let control = uni(&connection, begin).await;
        Self { _stage: stage, connection, control }
    }

    /// The code that the server closes the connection with.
    async fn close_code(&self) -> Code {
        match self.connection.closed().await {
            ConnectionError::ApplicationClosed { code, .. } => Code::from(code),
            other => panic!("{other}"),
        }
    }

    /// The code that the server closes with when this comes on a request stream.
    async fn closes_for_request(&self, bytes: &[u8]) -> Code {
        let (mut send, recv) = self.connection.open_bi().await.expect("streams are allowed");
        send.write_all(bytes).await.expect("it is taken");
        let code = self.close_code().await;
        drop((send, recv));
        code
    }

    /// The code that the server resets the stream with when this request comes; the connection has to go on.
    async fn resets_for_fields(&self, fields: &[u8]) -> Code {
        self.resets_for(&headers(fields)).await
    }

    async fn resets_for(&self, request: &[u8]) -> Code {
        let (mut send, mut recv) = self.connection.open_bi().await.expect("streams are allowed");
        send.write_all(request).await.expect("it is taken");
        send.finish().expect("it is open");
        let code = loop {
            match recv.read_chunk(1_000).await {
                Ok(Some(_)) => {}
                Err(ReadError::Reset(code)) => break code,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(self.connection.close_reason(), None);
        Code::from(code)
    }
}

async fn uni(connection: &Connection, bytes: &[u8]) -> SendStream {
    let mut stream = connection.open_uni().await.expect("streams are allowed");
    stream.write_all(bytes).await.expect("it is taken");
    stream
}

/// A frame of a type and a length below 64.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, u8::try_from(payload.len()).expect("it is short")], payload].concat()
}

fn headers(fields: &[u8]) -> Vec<u8> {
    frame(0x01, fields)
}

#[tokio::test]
async fn the_requests_of_these_tests_are_fine_where_nothing_is_broken() {
    let hostile = Hostile::new().await;
    let (mut send, mut recv) = hostile.connection.open_bi().await.expect("streams are allowed");
    // A reserved frame is ignored (RFC 9114 section 7.2.8), and so is a reserved stream.
    let _reserved = uni(&hostile.connection, &[0x21, 1, 2, 3]).await;
    send.write_all(&[frame(0x21, b"ignored"), headers(FIELDS)].concat()).await.expect("it is taken");
    send.finish().expect("it is open");
    let answer = recv.read_to_end(1_000).await.expect("an answer");
    assert_eq!(answer.first(), Some(&0x01), "HEADERS come first: {answer:x?}");
    assert_eq!(hostile.connection.close_reason(), None);
}

#[tokio::test]
async fn data_before_headers() {
    let hostile = Hostile::new().await;
    assert_eq!(hostile.closes_for_request(&frame(0x00, b"body")).await, Code::H3_FRAME_UNEXPECTED);
}

#[tokio::test]
async fn frames_of_the_control_stream_on_a_request_stream() {
    for (kind, payload) in [(0x03, &[0][..]), (0x04, &[]), (0x07, &[0]), (0x0d, &[0]), (0x05, &[0, 0, 0])] {
        let hostile = Hostile::new().await;
        let code = hostile.closes_for_request(&frame(kind, payload)).await;
        assert_eq!(code, Code::H3_FRAME_UNEXPECTED, "type {kind:#x}");
    }
}

#[tokio::test]
async fn frames_of_http2() {
    for kind in [0x02, 0x06, 0x08, 0x09] {
        let hostile = Hostile::new().await;
        assert_eq!(hostile.closes_for_request(&frame(kind, &[])).await, Code::H3_FRAME_UNEXPECTED, "type {kind:#x}");
    }
}

#[tokio::test]
async fn settings_have_to_come_first_and_once() {
    let late = Hostile::with_control(&[&[0x00], &frame(0x07, &[0])[..]].concat()).await;
    assert_eq!(late.close_code().await, Code::H3_MISSING_SETTINGS);
    let mut twice = Hostile::new().await;
    twice.control.write_all(&frame(0x04, &[])).await.expect("it is taken");
    assert_eq!(twice.close_code().await, Code::H3_FRAME_UNEXPECTED);
}

#[tokio::test]
async fn settings_of_http2() {
    for setting in [0x02, 0x03, 0x04, 0x05] {
        let hostile = Hostile::with_control(&[&[0x00], &frame(0x04, &[setting, 0])[..]].concat()).await;
        assert_eq!(hostile.close_code().await, Code::H3_SETTINGS_ERROR, "setting {setting:#x}");
    }
}

#[tokio::test]
async fn frames_of_requests_on_the_control_stream() {
    for (kind, payload) in [(0x00, &b"body"[..]), (0x01, FIELDS)] {
        let mut hostile = Hostile::new().await;
        hostile.control.write_all(&frame(kind, payload)).await.expect("it is taken");
        assert_eq!(hostile.close_code().await, Code::H3_FRAME_UNEXPECTED, "type {kind:#x}");
    }
}

#[tokio::test]
async fn the_control_stream_is_never_closed_nor_opened_twice() {
    let mut finished = Hostile::new().await;
    finished.control.finish().expect("it is open");
    assert_eq!(finished.close_code().await, Code::H3_CLOSED_CRITICAL_STREAM);
    let mut reset = Hostile::new().await;
    // Behind its type: of a stream that is reset before, nobody knows that it was the control stream.
    reset.control.reset_at(0x10c, CONTROL.len() as u64).expect("it is open");
    assert_eq!(reset.close_code().await, Code::H3_CLOSED_CRITICAL_STREAM);
    let twice = Hostile::new().await;
    let _second = uni(&twice.connection, CONTROL).await;
    assert_eq!(twice.close_code().await, Code::H3_STREAM_CREATION_ERROR);
}

#[tokio::test]
async fn fields_that_cannot_be_decoded() {
    // The static table ends at 98; a dynamic entry was never sent; a field section that ends in a number.
    for fields in [&[0, 0, 0xff, 0x24][..], &[0, 0, 0x80], &[2, 0, 0x80], &[0, 0, 0xff]] {
        let hostile = Hostile::new().await;
        let code = hostile.closes_for_request(&headers(fields)).await;
        assert_eq!(code, Code::QPACK_DECOMPRESSION_FAILED, "{fields:x?}");
    }
}

#[tokio::test]
async fn instructions_for_a_dynamic_table_that_is_not_offered() {
    // A capacity of 4,096 bytes; a duplicate; an insertion; one with a name that the static table does not have.
    for instruction in
        [&[0x02, 0x3f, 0xe1, 0x1f][..], &[0x02, 0x00], &[0x02, 0xc0, 0x01, b'x'], &[0x02, 0xff, 0x24, 0x01, b'x']]
    {
        let hostile = Hostile::new().await;
        let _encoder = uni(&hostile.connection, instruction).await;
        assert_eq!(hostile.close_code().await, Code::QPACK_ENCODER_STREAM_ERROR, "{instruction:x?}");
    }
    // An increment of 0, one of 1, the acknowledgement of a section that had no dynamic entry.
    for instruction in [&[0x03, 0x00][..], &[0x03, 0x01], &[0x03, 0x80]] {
        let hostile = Hostile::new().await;
        let _decoder = uni(&hostile.connection, instruction).await;
        assert_eq!(hostile.close_code().await, Code::QPACK_DECODER_STREAM_ERROR, "{instruction:x?}");
    }
}

#[tokio::test]
async fn the_streams_of_qpack_are_never_closed_nor_opened_twice() {
    for kind in [0x02, 0x03] {
        let hostile = Hostile::new().await;
        uni(&hostile.connection, &[kind]).await.finish().expect("it is open");
        assert_eq!(hostile.close_code().await, Code::H3_CLOSED_CRITICAL_STREAM, "type {kind:#x}");
        let hostile = Hostile::new().await;
        let _both = (uni(&hostile.connection, &[kind]).await, uni(&hostile.connection, &[kind]).await);
        assert_eq!(hostile.close_code().await, Code::H3_STREAM_CREATION_ERROR, "type {kind:#x}");
    }
}

#[tokio::test]
async fn a_client_pushes_nothing() {
    let hostile = Hostile::new().await;
    let _push = uni(&hostile.connection, &[0x01, 0x00]).await;
    assert_eq!(hostile.close_code().await, Code::H3_STREAM_CREATION_ERROR);
}

#[tokio::test]
async fn streams_that_end_before_their_type_are_tolerated() {
    let stage = Stage::new();
    let connection = stage.raw().await;
    // The first byte of a type of two bytes, and the end.
    uni(&connection, &[0x40]).await.finish().expect("it is open");
    uni(&connection, &[0x40]).await.reset(7).expect("it is open");
    let (mut requests, _driver) = common::client(connection).await;
    assert_eq!(fetch(&mut requests, "/still").await.expect("an answer").1, b"/still");
}

#[tokio::test]
async fn requests_without_a_mandatory_pseudo_header_field() {
    let hostile = Hostile::new().await;
    // Without :method, without :authority, with one that HTTP/3 does not have, with one in capitals.
    for fields in [
        &[0, 0, 0xd7, 0xc1, 0x50, 0x01, b'a'][..],
        &[0, 0, 0xd1, 0xd7, 0xc1],
        &[0, 0, 0xd1, 0xd7, 0xc1, 0x50, 0x01, b'a', 0x22, b':', b'x', 0x01, b'1'],
        &[0, 0, 0xd1, 0xd7, 0xc1, 0x50, 0x01, b'a', 0x22, b'X', b'y', 0x01, b'1'],
    ] {
        assert_eq!(hostile.resets_for_fields(fields).await, Code::H3_MESSAGE_ERROR, "{fields:x?}");
    }
}

#[tokio::test]
async fn requests_with_pseudo_header_fields_twice_or_in_the_wrong_place() {
    let hostile = Hostile::new().await;
    // Behind GET, https, / and the authority: the path again, the method again with another value, a status. Behind a field.
    let wrong = [&[0xc1][..], &[0xd4], &[0xd9], &[0xdd, 0xc1]];
    for more in wrong {
        let code = hostile.resets_for_fields(&[FIELDS, more].concat()).await;
        assert_eq!(code, Code::H3_MESSAGE_ERROR, "{more:x?}");
    }
    // Neither scheme nor path; CONNECT with both.
    for fields in [&[0, 0, 0xd1, 0x50, 0x01, b'a'][..], &[0, 0, 0xcf, 0xd7, 0xc1, 0x50, 0x01, b'a']] {
        assert_eq!(hostile.resets_for_fields(fields).await, Code::H3_MESSAGE_ERROR, "{fields:x?}");
    }
}

#[tokio::test]
async fn pseudo_header_fields_in_trailers() {
    let hostile = Hostile::new().await;
    let (mut send, mut recv) = hostile.connection.open_bi().await.expect("streams are allowed");
    // POST to /echo, which answers before it has read the body.
    let echo = [&[0, 0, 0xd4, 0xd7, 0x50, 0x01, b'a', 0x51, 0x05][..], b"/echo"].concat();
    send.write_all(&[headers(&echo), frame(0x00, b"body")].concat()).await.expect("it is taken");
    assert!(recv.read_chunk(1_000).await.expect("an answer").is_some());
    send.write_all(&headers(&[0, 0, 0xdd, 0xc1])).await.expect("it is taken");
    let code = loop {
        match recv.read_chunk(1_000).await {
            Ok(Some(_)) => {}
            Err(ReadError::Reset(code)) => break code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(Code::from(code), Code::H3_MESSAGE_ERROR);
    assert_eq!(send.stopped().await, Ok(Some(Code::H3_MESSAGE_ERROR.value())));
    assert_eq!(hostile.connection.close_reason(), None);
}

#[tokio::test]
async fn requests_whose_content_is_not_as_long_as_they_say() {
    let hostile = Hostile::new().await;
    // `/echo`, which reads what comes, with `content-length: 5`.
    let echo = [&[0, 0, 0xd1, 0xd7, 0x50, 1, b'a', 0x51, 5][..], b"/echo"].concat();
    let announced = headers(&[&echo[..], &[0x54, 1, b'5']].concat());
    for content in [&[][..], &frame(0x00, b"1234"), &[frame(0x00, b"123"), frame(0x00, b"456")].concat()] {
        let code = hostile.resets_for(&[&announced, content].concat()).await;
        assert_eq!(code, Code::H3_MESSAGE_ERROR, "{content:x?}");
    }
    let no_number = headers(&[FIELDS, &[0x54, 1, b'x']].concat());
    assert_eq!(hostile.resets_for(&no_number).await, Code::H3_MESSAGE_ERROR);
}

#[tokio::test]
async fn responses_with_a_status_twice_or_fields_of_requests() {
    let (server_config, config) = common::configs();
    let server = common::loopback().server(server_config).start().expect("loopback is there");
    let client = common::loopback().start().expect("loopback is there");
    let (near, far) =
        tokio::join!(client.connect(server.local_addr(), "localhost", std::sync::Arc::new(config)), server.accept());
    let (near, far) = (near.expect("the server answers"), far.expect("the client connects"));
    let _control = uni(&far, CONTROL).await;
    let (mut requests, _driver) = common::client(near).await;
    // :status 200 twice, behind a field, and with a method.
    for fields in [&[0, 0, 0xd9, 0xd9][..], &[0, 0, 0xdd, 0xd9], &[0, 0, 0xd9, 0xd1]] {
        let answer = async {
            let (mut send, mut recv) = far.accept_bi().await.expect("a request");
            while let Ok(Some(_)) = recv.read_chunk(1_000).await {}
            send.write_all(&headers(fields)).await.expect("it is taken");
            send.stopped().await
        };
        let (fetched, stopped) = tokio::join!(fetch(&mut requests, "/"), answer);
        let error = fetched.expect_err("the response is malformed");
        assert!(error.to_string().contains("malformed"), "{error}");
        assert_eq!(stopped, Ok(Some(Code::H3_MESSAGE_ERROR.value())), "{fields:x?}");
    }
}

#[tokio::test]
async fn a_stream_without_a_request() {
    let hostile = Hostile::new().await;
    let (mut send, mut recv) = hostile.connection.open_bi().await.expect("streams are allowed");
    send.finish().expect("it is open");
    assert_eq!(recv.read_chunk(10).await, Err(ReadError::Reset(Code::H3_REQUEST_INCOMPLETE.value())));
    assert_eq!(hostile.connection.close_reason(), None);
}

#[tokio::test]
async fn a_frame_that_is_cut_off_by_the_end() {
    let hostile = Hostile::new().await;
    let (mut send, _recv) = hostile.connection.open_bi().await.expect("streams are allowed");
    send.write_all(&[0x01, 0x20, 0x00]).await.expect("it is taken");
    send.finish().expect("it is open");
    assert_eq!(hostile.close_code().await, Code::H3_FRAME_ERROR);
}

#[tokio::test]
async fn frames_that_nobody_should_hold_in_memory() {
    // HEADERS and a reserved frame of 2^40 bytes.
    for kind in [0x01, 0x21] {
        let hostile = Hostile::new().await;
        let code = hostile.closes_for_request(&[kind, 0xc0, 0, 1, 0, 0, 0, 0, 0]).await;
        assert_eq!(code, Code::H3_EXCESSIVE_LOAD, "type {kind:#x}");
    }
    let mut hostile = Hostile::new().await;
    hostile.control.write_all(&[0x21, 0xc0, 0, 1, 0, 0, 0, 0, 0]).await.expect("it is taken");
    assert_eq!(hostile.close_code().await, Code::H3_EXCESSIVE_LOAD);
}

#[tokio::test]
async fn a_server_that_opens_streams_of_its_own() {
    let (server_config, config) = common::configs();
    let server = common::loopback().server(server_config).start().expect("loopback is there");
    let client = common::loopback().start().expect("loopback is there");
    let config = std::sync::Arc::new(config);
    for (push, expected) in [(true, Code::H3_ID_ERROR), (false, Code::H3_STREAM_CREATION_ERROR)] {
        let (near, far) =
            tokio::join!(client.connect(server.local_addr(), "localhost", config.clone()), server.accept());
        let (near, far) = (near.expect("the server answers"), far.expect("the client connects"));
        let (_requests, _driver) = common::client(near).await;
        let _control = uni(&far, CONTROL).await;
        if push {
            let _push = uni(&far, &[0x01, 0x00]).await;
        } else {
            let (mut send, _recv) = far.open_bi().await.expect("streams are allowed");
            send.write_all(b"x").await.expect("it is taken");
        }
        match far.closed().await {
            ConnectionError::ApplicationClosed { code, .. } => assert_eq!(Code::from(code), expected),
            other => panic!("{other}"),
        }
    }
}
