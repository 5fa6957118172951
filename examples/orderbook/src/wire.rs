//! The exchange's messages: JSON as large exchanges publish it, prices and amounts as decimal strings.

use crate::book::Level;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A message of a feed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message<'a> {
    /// `snapshot`, `depthUpdate` or `end`.
    #[serde(rename = "e")]
    pub event: Cow<'a, str>,
    /// The update's number, the one after the last update's; of a snapshot, the last update in it.
    #[serde(rename = "u")]
    pub sequence: u64,
    /// See [`Kind`](crate::book::Kind).
    #[serde(rename = "c")]
    pub checksum: u32,
    #[serde(rename = "b", default, borrow)]
    bids: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    #[serde(rename = "a", default, borrow)]
    asks: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl Message<'_> {
    /// A message to send.
    pub fn text(event: &str, sequence: u64, checksum: u32, bids: &[Level], asks: &[Level]) -> Result<String, String> {
        let levels =
            |levels: &[Level]| levels.iter().map(|&(price, amount)| (decimal(price, 2), decimal(amount, 3))).collect();
        let message = Message { event: event.into(), sequence, checksum, bids: levels(bids), asks: levels(asks) };
        serde_json::to_string(&message).map_err(|error| error.to_string())
    }

    /// Bids and asks. Fails on what is no decimal number.
    pub fn levels(&self) -> Result<(Vec<Level>, Vec<Level>), String> {
        let parse = |levels: &[(Cow<'_, str>, Cow<'_, str>)]| {
            levels
                .iter()
                .map(|(price, amount)| Ok((fixed(price, 2)?, fixed(amount, 3)?)))
                .collect::<Result<Vec<_>, String>>()
        };
        Ok((parse(&self.bids)?, parse(&self.asks)?))
    }
}

fn decimal(value: u64, places: u32) -> Cow<'static, str> {
    let unit = 10u64.pow(places);
    format!("{}.{:0width$}", value / unit, value % unit, width = places as usize).into()
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
        let text = Message::text("depthUpdate", 7, 9, &[(10_001, 2_500)], &[]).unwrap_or_default();
        assert_eq!(text, r#"{"e":"depthUpdate","u":7,"c":9,"b":[["100.01","2.500"]],"a":[]}"#);
        let message: Message<'_> = serde_json::from_str(&text).expect("it was written above");
        assert_eq!(message.levels(), Ok((vec![(10_001, 2_500)], vec![])));
    }
}
