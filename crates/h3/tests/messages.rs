//! Requests and responses between two of ours, over loopback.

mod common;

use bytes::{Buf, Bytes};
use common::{LARGE, Stage, fetch, get, loopback, pattern};
use h3::error::{Code, ConnectionError, StreamError};
use http::{Request, StatusCode};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_and_a_large_response() {
    let stage = Stage::new();
    let (mut requests, _driver) = stage.h3().await;
    assert_eq!(fetch(&mut requests, "/a/b").await.expect("an answer"), (StatusCode::OK, b"/a/b".to_vec()));
    let (status, body) = fetch(&mut requests, "/large").await.expect("an answer");
    assert_eq!(status, StatusCode::OK);
    assert!(body == pattern(LARGE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_request_comes_back_with_bodies_in_both_directions() {
    let stage = Stage::new();
    let (mut requests, _driver) = stage.h3().await;
    let request = Request::post("https://localhost/echo").body(()).expect("the path is fine");
    let (mut send, mut recv) = requests.send_request(request).await.expect("it is sent").split();
    let body = pattern(3_000_000);
    let sent = Bytes::from(body.clone());
    let writer = tokio::spawn(async move {
        send.send_data(sent).await?;
        send.finish().await
    });
    assert_eq!(recv.recv_response().await.expect("an answer").status(), StatusCode::OK);
    let mut echoed = Vec::new();
    while let Some(mut data) = recv.recv_data().await.expect("the body comes") {
        echoed.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    assert!(echoed == body);
    writer.await.expect("no panic").expect("all of it was sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_requests_at_once_than_the_server_allows_all_get_their_turn() {
    let stage = Stage::new();
    let (requests, _driver) = stage.h3().await;
    let tasks: Vec<_> = (0..3 * warpline_h3::limits::REQUESTS_MAX)
        .map(|number| {
            let mut requests = requests.clone();
            tokio::spawn(async move { (number, fetch(&mut requests, &format!("/{number}")).await) })
        })
        .collect();
    for task in tasks {
        let (number, fetched) = task.await.expect("no panic");
        assert_eq!(fetched.expect("an answer").1, format!("/{number}").into_bytes());
    }
}

#[tokio::test]
async fn codes_of_resets_reach_the_client() {
    let stage = Stage::new();
    let (mut requests, _driver) = stage.h3().await;
    let refused = fetch(&mut requests, "/refused").await.expect_err("it is refused");
    assert!(matches!(refused, StreamError::RemoteTerminate { code: Code::H3_REQUEST_REJECTED, .. }), "{refused}");
    // A part of a body is never taken for the whole.
    let broken = fetch(&mut requests, "/broken").await.expect_err("it ends in the middle");
    assert!(matches!(broken, StreamError::RemoteTerminate { code: Code::H3_INTERNAL_ERROR, .. }), "{broken}");
    // The connection goes on.
    assert_eq!(fetch(&mut requests, "/after").await.expect("an answer").1, b"/after");
}

#[tokio::test]
async fn a_client_that_has_enough_cancels_and_goes_on() {
    let stage = Stage::new();
    let (mut requests, _driver) = stage.h3().await;
    let mut stream = requests.send_request(get("/endless")).await.expect("it is sent");
    stream.finish().await.expect("it is sent");
    stream.recv_response().await.expect("an answer");
    stream.recv_data().await.expect("the body begins").expect("and is not over");
    drop(stream);
    let mut stream = requests.send_request(get("/endless")).await.expect("it is sent");
    stream.finish().await.expect("it is sent");
    stream.recv_response().await.expect("an answer");
    stream.stop_sending(Code::H3_REQUEST_CANCELLED);
    assert_eq!(fetch(&mut requests, "/after").await.expect("an answer").1, b"/after");
}

#[tokio::test]
async fn dropping_a_request_and_a_response_says_how_in_http3_codes() {
    let stage = Stage::new();
    let raw = stage.raw().await;
    let (requests, _driver) = common::client(raw.clone()).await;
    // A raw server of one request, to see what the client does with its stream.
    let (server_config, config) = common::configs();
    let server = loopback().server(server_config).start().expect("loopback is there");
    let (near, far) = tokio::join!(stage.client.connect(server.local_addr(), "localhost", config), server.accept());
    let (near, far) = (near.expect("the server answers"), far.expect("the client connects"));
    let (mut client, _driver) = common::client(near).await;
    let stream = client.send_request(get("/")).await.expect("it is sent");
    let (mut send, mut recv) = far.accept_bi().await.expect("the request comes");
    drop(stream);
    assert_eq!(send.stopped().await, Ok(Some(Code::H3_REQUEST_CANCELLED.value())));
    let code = loop {
        match recv.read_chunk(1_000).await {
            Ok(Some(_)) => {}
            Err(warpline::ReadError::Reset(code)) => break code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, Code::H3_REQUEST_CANCELLED.value());
    drop(requests);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_shutdown_delivers_what_was_begun_and_refuses_the_rest() {
    let stage = Stage::new();
    let (mut requests, driver) = stage.h3().await;
    let mut begun = requests.send_request(get("/large")).await.expect("it is sent");
    begun.finish().await.expect("it is sent");
    begun.recv_response().await.expect("an answer");
    stage.shutdown.send_replace(true);
    // The GOAWAY arrives while the body is still under way; until then requests may pass.
    loop {
        match requests.send_request(get("/late")).await {
            Err(StreamError::RemoteClosing { .. }) => break,
            Err(other) => panic!("{other}"),
            Ok(mut late) => {
                let rejected = late.recv_response().await;
                if let Err(error) = rejected {
                    let is_rejected =
                        matches!(error, StreamError::RemoteTerminate { code: Code::H3_REQUEST_REJECTED, .. });
                    assert!(is_rejected || error.is_h3_no_error(), "{error}");
                }
            }
        }
    }
    let mut body = Vec::new();
    while let Some(mut data) = begun.recv_data().await.expect("what was begun is delivered") {
        body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    assert!(body == pattern(LARGE));
    let end = driver.await.expect("no panic");
    assert!(end.is_h3_no_error(), "{end}");
}

#[tokio::test]
async fn a_transport_that_closes_without_a_word_is_no_error() {
    let stage = Stage::new();
    let (mut requests, driver) = stage.h3().await;
    // Before the server's handshake is complete its close could not have the application's code (RFC 9000 section 10.2.3).
    fetch(&mut requests, "/first").await.expect("an answer");
    stage.server.shutdown(0, b"").await;
    let end = driver.await.expect("no panic");
    assert!(end.is_h3_no_error() && matches!(end, ConnectionError::Remote { .. }), "{end}");
}

#[tokio::test]
async fn headers_that_are_too_long_are_answered_so() {
    let stage = Stage::new();
    let (mut requests, _driver) = stage.h3().await;
    // The server announces its limit; before its SETTINGS arrive a client may send more.
    let mut request = get("/");
    let long = "x".repeat(warpline_h3::limits::FIELD_SECTION_MAX as usize);
    request.headers_mut().insert("x-long", long.parse().expect("the value is fine"));
    match requests.send_request(request).await {
        Err(StreamError::HeaderTooBig { .. }) => {}
        Err(other) => panic!("{other}"),
        Ok(mut stream) => {
            stream.finish().await.expect("it is sent");
            let status = stream.recv_response().await.expect("an answer").status();
            assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
    }
}

#[tokio::test]
async fn handles_inside_workers_speak_it_too() {
    let (server_config, config) = common::configs();
    let server = loopback().server(server_config).serve_local(|connection| async move {
        let Ok(transport) = warpline_h3::Connection::new(connection) else { return };
        let Ok(mut connection) = h3::server::builder().build::<_, Bytes>(transport).await else { return };
        while let Ok(Some(request)) = connection.accept().await {
            let Ok((request, mut stream)) = request.resolve_request().await else { continue };
            // Not `Send`, on purpose.
            let path = std::rc::Rc::new(request.uri().path().to_owned());
            let answered = async {
                stream.send_response(http::Response::new(())).await?;
                stream.send_data(path.as_bytes().repeat(100_000).into()).await?;
                stream.finish().await
            };
            let Ok(()) = answered.await else { return };
        }
    });
    let server = server.expect("loopback is there");
    let address = server.local_addr();
    let client = loopback().start().expect("loopback is there");
    let body = client
        .run_local(move |worker| async move {
            let connection = worker.connect(Arc::new(config), address, "localhost").await.expect("an answer");
            let transport = warpline_h3::Connection::new(connection).expect("it lives");
            let (mut driver, mut requests) = h3::client::new(transport).await.expect("the server speaks HTTP/3");
            let driver = warpline::local::spawn(async move { driver.wait_idle().await }).expect("on the worker");
            let mut stream = requests.send_request(get("/local")).await.expect("it is sent");
            stream.finish().await.expect("it is sent");
            stream.recv_response().await.expect("an answer");
            let mut body = Vec::new();
            while let Some(mut data) = stream.recv_data().await.expect("the body comes") {
                body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
            }
            drop((stream, requests));
            assert!(driver.await.expect("no panic").is_h3_no_error());
            body
        })
        .await
        .expect("the worker lives");
    assert!(body == b"/local".repeat(100_000));
}
