//! HTTP/3 for stacks with the transport traits of the `h3` crate.

use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use h3::quic::{BidiStream, Connection, OpenStreams, RecvStream, SendStream};
use h3::server::RequestStream;
use http::{Request, Response, StatusCode};

use crate::Result;
use crate::hq::{self, Answer};

/// Answers the requests of one connection with the files right in `root`.
///
/// # Errors
///
/// When the connection ends otherwise than with code H3_NO_ERROR.
pub async fn serve<C>(transport: C, root: &Path) -> Result<()>
where
    C: Connection<Bytes> + 'static,
    C::BidiStream: BidiStream<Bytes> + Send + 'static,
    <C::BidiStream as BidiStream<Bytes>>::SendStream: Send,
    <C::BidiStream as BidiStream<Bytes>>::RecvStream: Send,
{
    let root: Arc<Path> = root.into();
    let mut connection = h3::server::builder().build::<_, Bytes>(transport).await?;
    while let Some(request) = connection.accept().await? {
        let root = Arc::clone(&root);
        // A stream that fails is missed by the client, which says so.
        tokio::spawn(async move {
            let (request, stream) = request.resolve_request().await?;
            answer(request.uri().path(), stream, &root).await
        });
    }
    Ok(())
}

async fn answer<S>(path: &str, mut stream: RequestStream<S, Bytes>, root: &Path) -> Result<()>
where
    S: SendStream<Bytes> + RecvStream,
{
    let (status, content) = match hq::answer(&hq::request(path), root) {
        Answer::File(content) => (StatusCode::OK, content),
        Answer::Close(_) | Answer::Reset => (StatusCode::NOT_FOUND, Vec::new()),
    };
    stream.send_response(Response::builder().status(status).body(())?).await?;
    stream.send_data(content.into()).await?;
    Ok(stream.finish().await?)
}

/// The client's side of a connection.
pub struct Requests<T: OpenStreams<Bytes>>(SendRequest<T, Bytes>);

impl<T: OpenStreams<Bytes>> Clone for Requests<T>
where
    SendRequest<T, Bytes>: Clone,
{
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Requests<T>
where
    T: OpenStreams<Bytes> + Clone + Send + 'static,
{
    /// Begins with HTTP/3 on `transport`.
    ///
    /// # Errors
    ///
    /// When the connection does not allow for the control streams.
    pub async fn begin<C>(transport: C) -> Result<Self>
    where
        C: Connection<Bytes, OpenStreams = T> + Send + 'static,
        C::SendStream: Send,
        C::RecvStream: Send,
    {
        let (mut driver, requests) = h3::client::new(transport).await?;
        // Its end says nothing that the requests do not.
        tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
        Ok(Self(requests))
    }

    /// Fetches `path`.
    ///
    /// # Errors
    ///
    /// When the answer is not 200, or does not end.
    pub async fn get(&mut self, path: &str) -> Result<Vec<u8>>
    where
        T::BidiStream: RecvStream,
    {
        let request = Request::get(format!("https://localhost{path}")).body(())?;
        let mut stream = self.0.send_request(request).await?;
        stream.finish().await?;
        let status = stream.recv_response().await?.status();
        if status != StatusCode::OK {
            return Err(format!("{path}: {status}").into());
        }
        let mut content = Vec::new();
        while let Some(mut data) = stream.recv_data().await? {
            while data.has_remaining() {
                let len = data.chunk().len();
                content.extend_from_slice(data.chunk());
                data.advance(len);
            }
        }
        Ok(content)
    }
}
