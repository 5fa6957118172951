//! What is answered to a request, whatever version of HTTP it came by (RFC 9110).

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, HeaderMap,
    HeaderValue, LAST_MODIFIED, LOCATION, SERVER, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Response, StatusCode, request};

use super::conditions::{Asked, Version};
use super::files::{Found, Missing, Root};

/// What identifies this server.
const NAME: &str = concat!("warpline/", env!("CARGO_PKG_VERSION"));

/// The body of a response.
#[derive(Debug)]
pub enum Body {
    /// Words for people.
    Text(String),
    /// A part of a file.
    Part(File, Range<u64>),
    /// None: the answer to HEAD, or one that has none.
    None,
}

/// The answer to a request. Looking for files may take the disk's time, which is spent on a thread for such things.
pub async fn respond(root: &Arc<Root>, request: request::Parts) -> Response<Body> {
    let root = Arc::clone(root);
    let answered = tokio::task::spawn_blocking(move || answer(&root, &request)).await;
    // A panic was printed.
    answered.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR))
}

fn answer(root: &Root, request: &request::Parts) -> Response<Body> {
    let is_get = request.method == Method::GET;
    if !is_get && request.method != Method::HEAD {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED);
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let path = request.uri.path();
    let mut response = match root.find(path) {
        Ok(Found::File(file, name)) => file_response(file, &name, &request.headers, is_get),
        Ok(Found::Listing(page)) => with_text(StatusCode::OK, "text/html; charset=utf-8", page),
        Err(Missing::NotFound) => text(StatusCode::NOT_FOUND),
        Err(Missing::TooLong) => text(StatusCode::URI_TOO_LONG),
        Err(Missing::Failed) => text(StatusCode::INTERNAL_SERVER_ERROR),
        Err(Missing::Directory) => redirect(path, request.uri.query()),
    };
    if !is_get {
        *response.body_mut() = Body::None;
    }
    response
}

/// A response that only says its status.
pub fn text(status: StatusCode) -> Response<Body> {
    with_text(status, "text/plain; charset=utf-8", format!("{status}\n"))
}

fn with_text(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = empty(status);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, text.len().into());
    *response.body_mut() = Body::Text(text);
    response
}

/// With what every response says.
fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::None);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static(NAME));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    set(headers, DATE, httpdate::fmt_http_date(SystemTime::now()));
    response
}

/// Sets a header that was made here, of characters that headers take.
fn set(headers: &mut HeaderMap, name: http::HeaderName, value: String) {
    headers.insert(name, HeaderValue::try_from(value).expect("it is made of visible ASCII"));
}

/// To the same path with a slash. Two slashes in front would name another host.
fn redirect(path: &str, query: Option<&str>) -> Response<Body> {
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    let Ok(location) = HeaderValue::try_from(format!("/{}/{query}", path.trim_start_matches('/'))) else {
        return text(StatusCode::NOT_FOUND);
    };
    let mut response = text(StatusCode::MOVED_PERMANENTLY);
    response.headers_mut().insert(LOCATION, location);
    response
}

fn file_response(file: File, name: &str, asked: &HeaderMap, is_get: bool) -> Response<Body> {
    let Ok(metadata) = file.metadata() else { return text(StatusCode::INTERNAL_SERVER_ERROR) };
    let version = Version::of(&metadata);
    let length = version.length;
    let (status, range) = match version.asked(asked, is_get, SystemTime::now()) {
        Asked::Other => (StatusCode::PRECONDITION_FAILED, 0..0),
        Asked::Known => (StatusCode::NOT_MODIFIED, 0..0),
        Asked::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0),
        Asked::All => (StatusCode::OK, 0..length),
        Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
    };
    let mut response = match status {
        StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE => text(status),
        _ => empty(status),
    };
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // Files change while they are looked at; asking costs a round trip and no body.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    set(headers, LAST_MODIFIED, httpdate::fmt_http_date(version.modified));
    match status {
        StatusCode::RANGE_NOT_SATISFIABLE => set(headers, CONTENT_RANGE, format!("bytes */{length}")),
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
            set(headers, CONTENT_TYPE, content_type(name));
            set(headers, CONTENT_LENGTH, (range.end - range.start).to_string());
            if status == StatusCode::PARTIAL_CONTENT {
                set(headers, CONTENT_RANGE, format!("bytes {}-{}/{length}", range.start, range.end - 1));
            }
            *response.body_mut() = Body::Part(file, range);
        }
        _ => {}
    }
    set(response.headers_mut(), ETAG, version.etag);
    response
}

/// By the extension; text is taken to be UTF-8, as nearly all is.
fn content_type(name: &str) -> String {
    let kind = mime_guess::from_path(name).first_or_octet_stream();
    if kind.type_() == mime_guess::mime::TEXT { format!("{kind}; charset=utf-8") } else { kind.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    impl Body {
        fn len(&self) -> u64 {
            match self {
                Self::Text(text) => text.len() as u64,
                Self::Part(_, range) => range.end - range.start,
                Self::None => 0,
            }
        }
    }

    fn ask(root: &Root, method: Method, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(root, &request.body(()).expect("the request is fine").into_parts().0)
    }

    fn stage() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("page.html"), b"0123456789").expect("a file");
        std::fs::create_dir(dir.path().join("sub")).expect("a directory");
        let root = Root::open(dir.path(), false).expect("it is there");
        (dir, root)
    }

    #[test]
    fn parts_say_where_they_belong() {
        let (_dir, root) = stage();
        for (asked, status, content_range, length) in [
            ("bytes=-3", 206, Some("bytes 7-9/10"), "3"),
            ("bytes=10-", 416, Some("bytes */10"), "26"),
            ("bytes=0-1,4-5", 200, None, "10"),
        ] {
            let response = ask(&root, Method::GET, "/page.html", &[("range", asked)]);
            assert_eq!(response.status(), status, "{asked}");
            let given = response.headers().get(CONTENT_RANGE).map(|value| value.to_str().expect("it is text"));
            assert_eq!(given, content_range, "{asked}");
            assert_eq!(response.headers()[CONTENT_LENGTH], length, "{asked}");
            assert_eq!(response.body().len().to_string(), length, "{asked}");
        }
    }

    #[test]
    fn a_version_is_known_until_it_changes() {
        let (dir, root) = stage();
        let first = ask(&root, Method::GET, "/page.html", &[]);
        let header = |name| first.headers()[name].to_str().expect("it is text").to_owned();
        let (tag, date) = (header(ETAG), header(LAST_MODIFIED));
        assert_eq!(header(CONTENT_TYPE), "text/html; charset=utf-8");
        for (name, value) in [("if-none-match", &tag), ("if-modified-since", &date)] {
            let second = ask(&root, Method::GET, "/page.html", &[(name, value)]);
            assert_eq!((second.status(), second.body().len()), (StatusCode::NOT_MODIFIED, 0), "{name}");
            assert_eq!(second.headers()[ETAG], tag.as_str());
        }
        std::fs::write(dir.path().join("page.html"), b"changed").expect("a file");
        let third = ask(&root, Method::GET, "/page.html", &[("if-none-match", &tag)]);
        assert_eq!((third.status(), third.body().len()), (StatusCode::OK, 7));
        let fourth = ask(&root, Method::GET, "/page.html", &[("if-match", &tag)]);
        assert_eq!(fourth.status(), StatusCode::PRECONDITION_FAILED);
    }

    #[test]
    fn methods_directories_and_what_is_not_there() {
        let (_dir, root) = stage();
        let head = ask(&root, Method::HEAD, "/page.html", &[]);
        assert_eq!((head.status(), head.headers()[CONTENT_LENGTH].as_bytes()), (StatusCode::OK, &b"10"[..]));
        assert!(matches!(head.body(), Body::None));
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::CONNECT, Method::OPTIONS] {
            let refused = ask(&root, method.clone(), "/page.html", &[]);
            assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(refused.headers()[ALLOW], "GET, HEAD");
        }
        for none in ["/none", "/", "/sub/"] {
            assert_eq!(ask(&root, Method::GET, none, &[]).status(), StatusCode::NOT_FOUND, "{none}");
        }
        let moved = ask(&root, Method::GET, "//sub?a=b", &[]);
        assert_eq!(moved.status(), StatusCode::MOVED_PERMANENTLY);
        assert_eq!(moved.headers()[LOCATION], "/sub/?a=b");
    }

    #[test]
    fn directories_are_listed_if_that_is_wanted() {
        let (dir, _) = stage();
        std::fs::write(dir.path().join("a&b c.txt"), b"").expect("a file");
        std::fs::write(dir.path().join(".hidden"), b"").expect("a file");
        let root = Root::open(dir.path(), true).expect("it is there");
        let listed = ask(&root, Method::GET, "/", &[]);
        assert_eq!(
            (listed.status(), listed.headers()[CONTENT_TYPE].as_bytes()),
            (StatusCode::OK, &b"text/html; charset=utf-8"[..])
        );
        let Body::Text(page) = listed.body() else { panic!("a page") };
        for part in [r#"<a href="./a%26b%20c.txt">a&amp;b c.txt</a>"#, r#"<a href="./sub/">sub/</a>"#] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("hidden"));
        std::fs::write(dir.path().join("index.html"), b"index").expect("a file");
        assert!(matches!(ask(&root, Method::GET, "/", &[]).body(), Body::Part(_, range) if *range == (0..5)));
    }
}
