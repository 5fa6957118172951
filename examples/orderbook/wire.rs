//! The exchange's messages: JSON as a large exchange publishes it (event type, event time, symbol, first and last update
//! number, bids and asks; prices and amounts as decimal strings). `c` is added: the checksum that proves a book.

use crate::book::Level;
use serde::{Deserialize, Serialize};

/// A price and an amount, in text.
type Pair<S> = (S, S);

/// An event of a feed: `depthUpdate`, or `end` after the last one. Written with `String`, read with `&str`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Event<S> {
    #[serde(rename = "e")]
    pub event: S,
    /// Milliseconds since 1970.
    #[serde(rename = "E")]
    pub time_ms: u64,
    #[serde(rename = "s")]
    pub symbol: S,
    /// The first and the last update in this event.
    #[serde(rename = "U")]
    pub first: u64,
    #[serde(rename = "u")]
    pub last: u64,
    /// Of an update that of the best levels afterwards, of the end that of all: see [`Kind`](crate::book::Kind).
    #[serde(rename = "c")]
    pub checksum: u32,
    #[serde(rename = "b")]
    pub bids: Vec<Pair<S>>,
    #[serde(rename = "a")]
    pub asks: Vec<Pair<S>>,
}

/// The answer to a request for a whole book.
#[derive(Debug, Serialize, Deserialize)]
pub struct Snapshot<S> {
    /// The last update in it.
    #[serde(rename = "lastUpdateId")]
    pub last: u64,
    /// Of all levels.
    #[serde(rename = "c")]
    pub checksum: u32,
    pub bids: Vec<Pair<S>>,
    pub asks: Vec<Pair<S>>,
}

/// Where a feed is found, and where its book.
pub fn stream_path(symbol: &str) -> String {
    format!("{STREAMS}{}{DEPTH}", symbol.to_lowercase())
}

/// See [`stream_path`].
pub fn snapshot_path(symbol: &str) -> String {
    format!("{SNAPSHOTS}{symbol}")
}

const STREAMS: &str = "/ws/";
const DEPTH: &str = "@depth";
const SNAPSHOTS: &str = "/api/v3/depth?symbol=";

/// What a request's path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The feed of a symbol.
    Stream(String),
    /// Its whole book.
    Snapshot(String),
}

impl Wanted {
    /// Reads a path; `None` if there is nothing at it.
    pub fn parse(path: &str) -> Option<Wanted> {
        if let Some(symbol) = path.strip_prefix(STREAMS).and_then(|path| path.strip_suffix(DEPTH)) {
            return Some(Wanted::Stream(symbol.to_uppercase()));
        }
        path.strip_prefix(SNAPSHOTS).map(|symbol| Wanted::Snapshot(symbol.to_owned()))
    }
}

/// Levels in text.
pub fn to_text<'a>(levels: impl IntoIterator<Item = (&'a u64, &'a u64)>) -> Vec<Pair<String>> {
    levels.into_iter().map(|(&price, &amount)| (decimal(price, 2), decimal(amount, 3))).collect()
}

/// Levels from text. Fails on what is no decimal number.
pub fn from_text(levels: &[Pair<&str>]) -> Result<Vec<Level>, String> {
    levels.iter().map(|(price, amount)| Ok((fixed(price, 2)?, fixed(amount, 3)?))).collect()
}

fn decimal(value: u64, places: u32) -> String {
    let unit = 10u64.pow(places);
    format!("{}.{:0width$}", value / unit, value % unit, width = places as usize)
}

fn fixed(text: &str, places: usize) -> Result<u64, String> {
    let bad = || format!("'{text}' is no number with {places} places");
    let (whole, part) = text.split_once('.').filter(|(_, part)| part.len() == places).ok_or_else(bad)?;
    let (whole, part): (u64, u64) = (whole.parse().map_err(|_| bad())?, part.parse().map_err(|_| bad())?);
    whole.checked_mul(10u64.pow(places as u32)).and_then(|whole| whole.checked_add(part)).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_and_anything_else_is_refused() {
        assert_eq!(decimal(123_405, 2), "1234.05");
        assert_eq!(fixed("1234.05", 2), Ok(123_405));
        for bad in ["", "1", "1.2", "1.234", "-1.00", "1.x0", "99999999999999999999.00"] {
            assert!(fixed(bad, 2).is_err(), "{bad}");
        }
    }

    #[test]
    fn messages_survive_the_way() {
        let event = Event::<String> {
            event: "depthUpdate".into(),
            time_ms: 123_456_789,
            symbol: "FEED7".into(),
            first: 157,
            last: 157,
            checksum: 9,
            bids: to_text([(&10_001, &2_500)]),
            asks: Vec::new(),
        };
        let text = serde_json::to_string(&event).expect("it has nothing that JSON lacks");
        let expected =
            r#"{"e":"depthUpdate","E":123456789,"s":"FEED7","U":157,"u":157,"c":9,"b":[["100.01","2.500"]],"a":[]}"#;
        assert_eq!(text, expected);
        let event: Event<&str> = serde_json::from_str(&text).expect("it was written above");
        assert_eq!((event.symbol, from_text(&event.bids)), ("FEED7", Ok(vec![(10_001, 2_500)])));
    }

    #[test]
    fn paths_say_what_is_wanted() {
        assert_eq!(Wanted::parse(&stream_path("FEED7")), Some(Wanted::Stream("FEED7".into())));
        assert_eq!(Wanted::parse(&snapshot_path("FEED7")), Some(Wanted::Snapshot("FEED7".into())));
        assert_eq!(Wanted::parse("/ws/feed7"), None);
    }
}
