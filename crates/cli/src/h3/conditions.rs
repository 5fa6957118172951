//! What a request makes its answer depend on: conditions (RFC 9110 section 13) and ranges (section 14).

use std::fs::Metadata;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::{
    HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};

/// What identifies a file's content.
#[derive(Debug)]
pub struct Version {
    /// Bytes.
    pub length: u64,
    /// When it changed, in whole seconds: dates of HTTP have no fractions.
    pub modified: SystemTime,
    /// Changes with the length and the time of change, to the nanosecond.
    pub etag: String,
}

/// What of a file a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Only another version of it.
    Other,
    /// The client has it already.
    Known,
    /// The whole.
    All,
    /// These bytes; at least one.
    Part(Range<u64>),
    /// Bytes that it does not have.
    Unsatisfiable,
}

impl Version {
    /// Of an open file.
    pub fn of(metadata: &Metadata) -> Self {
        let since = metadata.modified().unwrap_or(UNIX_EPOCH).duration_since(UNIX_EPOCH).unwrap_or_default();
        let length = metadata.len();
        let etag = format!("\"{length:x}-{:x}-{:x}\"", since.as_secs(), since.subsec_nanos());
        Self { length, modified: UNIX_EPOCH + Duration::from_secs(since.as_secs()), etag }
    }

    /// In the order of RFC 9110 section 13.2.2. A range counts for GET alone (section 14.2).
    pub fn asked(&self, headers: &HeaderMap, is_get: bool, now: SystemTime) -> Asked {
        if !self.is_wanted(headers) {
            Asked::Other
        } else if self.is_known(headers) {
            Asked::Known
        } else if is_get && self.range_holds(headers, now) {
            self.range(headers)
        } else {
            Asked::All
        }
    }

    /// A tag counts before a date.
    fn is_wanted(&self, headers: &HeaderMap) -> bool {
        if headers.contains_key(IF_MATCH) {
            return tags(headers, IF_MATCH).any(|tag| tag == "*" || tag == self.etag);
        }
        headers.get(IF_UNMODIFIED_SINCE).and_then(date).is_none_or(|date| self.modified <= date)
    }

    /// As above.
    fn is_known(&self, headers: &HeaderMap) -> bool {
        if headers.contains_key(IF_NONE_MATCH) {
            return tags(headers, IF_NONE_MATCH).any(|tag| tag == "*" || tag.trim_start_matches("W/") == self.etag);
        }
        headers.get(IF_MODIFIED_SINCE).and_then(date).is_some_and(|date| self.modified <= date)
    }

    /// A date stands for one version only once its second is over (section 8.8.2.2).
    fn range_holds(&self, headers: &HeaderMap, now: SystemTime) -> bool {
        match headers.get(IF_RANGE) {
            None => true,
            Some(tag) if tag.as_bytes().starts_with(b"\"") => tag == self.etag.as_str(),
            Some(value) => date(value) == Some(self.modified) && self.modified + Duration::from_secs(1) < now,
        }
    }

    /// Of several ranges at once the whole is sent instead, as section 14.2 lets a server do.
    fn range(&self, headers: &HeaderMap) -> Asked {
        let value = headers.get(RANGE).and_then(|value| value.to_str().ok());
        let Some((unit, value)) = value.and_then(|value| value.split_once('=')) else { return Asked::All };
        let Some((first, last)) = value.trim().split_once('-').filter(|_| unit.eq_ignore_ascii_case("bytes")) else {
            return Asked::All;
        };
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(first) || !digits(last) {
            return Asked::All;
        }
        // Numbers beyond 64 bits are beyond every file, too.
        let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
        let length = self.length;
        let part = match (first, last) {
            ("", "") => return Asked::All,
            ("", last) => length.saturating_sub(number(last))..length,
            (first, "") => number(first)..length,
            (first, last) if number(last) < number(first) => return Asked::All,
            (first, last) => number(first)..number(last).saturating_add(1).min(length),
        };
        if part.start < part.end { Asked::Part(part) } else { Asked::Unsatisfiable }
    }
}

/// The tags of a list, which may stand in several lines. Those of this server have no comma.
fn tags(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

fn date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: Duration = Duration::from_secs(784_111_777);
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn version() -> Version {
        Version { length: 10, modified: UNIX_EPOCH + MODIFIED, etag: "\"tag\"".to_owned() }
    }

    fn asked_at(now: SystemTime, is_get: bool, headers: &[(&'static str, &'static str)]) -> Asked {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        version().asked(&map, is_get, now)
    }

    fn asked(headers: &[(&'static str, &'static str)]) -> Asked {
        asked_at(UNIX_EPOCH + MODIFIED + Duration::from_secs(60), true, headers)
    }

    #[test]
    fn ranges() {
        for (range, wanted) in [
            ("bytes=0-3", Asked::Part(0..4)),
            ("bytes=4-", Asked::Part(4..10)),
            ("Bytes=-3", Asked::Part(7..10)),
            ("bytes=-300", Asked::Part(0..10)),
            ("bytes=9-99999999999999999999", Asked::Part(9..10)),
            ("bytes=10-", Asked::Unsatisfiable),
            ("bytes=-0", Asked::Unsatisfiable),
            ("bytes=0-1,4-5", Asked::All),
            ("bytes=3-1", Asked::All),
            ("bytes=a-b", Asked::All),
            ("bytes=+1-2", Asked::All),
            ("lines=0-1", Asked::All),
            ("bytes=-", Asked::All),
            ("bytes", Asked::All),
        ] {
            assert_eq!(asked(&[("range", range)]), wanted, "{range}");
            assert_eq!(asked_at(SystemTime::now(), false, &[("range", range)]), Asked::All, "HEAD {range}");
        }
    }

    #[test]
    fn a_range_of_another_version_is_the_whole() {
        let range = ("range", "bytes=1-2");
        for same in ["\"tag\"", SAME] {
            assert_eq!(asked(&[range, ("if-range", same)]), Asked::Part(1..3), "{same}");
        }
        for other in ["\"other\"", "W/\"tag\"", BEFORE, "nonsense"] {
            assert_eq!(asked(&[range, ("if-range", other)]), Asked::All, "{other}");
        }
        // It may change once more within the second.
        let soon = UNIX_EPOCH + MODIFIED + Duration::from_millis(500);
        assert_eq!(asked_at(soon, true, &[range, ("if-range", SAME)]), Asked::All);
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        for known in [
            &[("if-none-match", "\"tag\"")][..],
            &[("if-none-match", "\"x\", W/\"tag\"")],
            &[("if-none-match", "\"x\""), ("if-none-match", "\"tag\"")],
            &[("if-none-match", "*")],
            &[("if-modified-since", SAME)],
            &[("if-none-match", "\"tag\""), ("range", "bytes=0-1")],
        ] {
            assert_eq!(asked(known), Asked::Known, "{known:?}");
        }
        for new in [
            &[("if-none-match", "\"x\"")][..],
            &[("if-none-match", "\"x\""), ("if-modified-since", SAME)],
            &[("if-modified-since", BEFORE)],
            &[("if-modified-since", "nonsense")],
        ] {
            assert_eq!(asked(new), Asked::All, "{new:?}");
        }
    }

    #[test]
    fn conditions_that_ask_for_a_certain_version() {
        for same in [("if-match", "\"x\", \"tag\""), ("if-match", "*"), ("if-unmodified-since", SAME)] {
            assert_eq!(asked(&[same]), Asked::All, "{same:?}");
        }
        // A weak tag does not say that the bytes are the same.
        for other in [("if-match", "\"x\""), ("if-match", "W/\"tag\""), ("if-unmodified-since", BEFORE)] {
            assert_eq!(asked(&[other, ("range", "bytes=0-1")]), Asked::Other, "{other:?}");
        }
    }
}
