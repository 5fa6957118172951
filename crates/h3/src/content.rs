//! How long the content of a request is said to be, and how long it is (RFC 9114 section 4.1.2).
//!
//! Of a response only its receiver knows whether it has content: that of a HEAD request has none, whatever its length is
//! said to be. Requests have what they say.

use crate::error::Malformed;
use crate::fields::Literal;

const NO_NUMBER: Malformed = Malformed("a Content-Length that is no number");
const TWO_LENGTHS: Malformed = Malformed("two Content-Lengths that differ");
const LONGER: Malformed = Malformed("the content is longer than its Content-Length");
const SHORTER: Malformed = Malformed("the content is shorter than its Content-Length");

/// The content of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    promised: Option<u64>,
    come: u64,
}

impl Content {
    /// A field `Content-Length` with this value.
    pub(crate) fn promise(&mut self, value: Literal<'_>) -> Result<(), Malformed> {
        let length = number(value).ok_or(NO_NUMBER)?;
        match self.promised.replace(length) {
            Some(other) if other != length => Err(TWO_LENGTHS),
            _ => Ok(()),
        }
    }

    /// More of it.
    pub(crate) fn take(&mut self, len: usize) -> Result<(), Malformed> {
        self.come += len as u64;
        if self.promised.is_some_and(|promised| self.come > promised) { Err(LONGER) } else { Ok(()) }
    }

    /// That was all.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.promised.is_some_and(|promised| self.come < promised) { Err(SHORTER) } else { Ok(()) }
    }
}

/// The number that a value spells in digits only (RFC 9110 section 8.6).
fn number(value: Literal<'_>) -> Option<u64> {
    if value.bytes.is_empty() {
        return None;
    }
    if value.is_coded {
        coded(value.bytes)
    } else {
        value.bytes.iter().try_fold(0, |sum, byte| digit(sum, byte.wrapping_sub(b'0')))
    }
}

fn digit(sum: u64, digit: u8) -> Option<u64> {
    if digit > 9 { None } else { sum.checked_mul(10)?.checked_add(u64::from(digit)) }
}

/// The same in the code of RFC 7541 appendix B, where 0, 1 and 2 have five bits, the other digits six, and what fills the last byte is
/// ones.
fn coded(bytes: &[u8]) -> Option<u64> {
    // As many digits as a number of 64 bits has, at most.
    if bytes.len() > size_of::<u128>() {
        return None;
    }
    let bits = bytes.iter().fold(0, |all, byte| all << 8 | u128::from(*byte));
    let mut left = bytes.len() as u32 * 8;
    let next = |left: u32, count: u32| left.checked_sub(count).map(|after| (bits >> after) as u8 & ((1 << count) - 1));
    let mut sum = 0;
    loop {
        match (next(left, 5), next(left, 6)) {
            (Some(code @ 0b0_0000..=0b0_0010), _) => (sum, left) = (digit(sum, code)?, left - 5),
            (_, Some(code @ 0b01_1001..=0b01_1111)) => (sum, left) = (digit(sum, code - 0b01_1001 + 3)?, left - 6),
            _ => break,
        }
    }
    if left >= 8 {
        return None;
    }
    let filling = (1u128 << left) - 1;
    (bits & filling == filling).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(bytes: &[u8]) -> Option<u64> {
        number(Literal { is_coded: false, bytes })
    }

    fn in_code(bytes: &[u8]) -> Option<u64> {
        number(Literal { is_coded: true, bytes })
    }

    #[test]
    fn numbers_are_digits_and_nothing_else() {
        assert_eq!((plain(b"0"), plain(b"0042"), plain(b"18446744073709551615")), (Some(0), Some(42), Some(u64::MAX)));
        for wrong in [&b""[..], b"+1", b"-1", b"1 ", b"1,1", b"0x1", b"18446744073709551616"] {
            assert_eq!(plain(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn numbers_in_code_are_the_same() {
        // 0; 302 (RFC 7541 appendix C.6.1: 307 is 640eff, 302 is 6402); 10 digits.
        assert_eq!(in_code(&[0x07]), Some(0));
        assert_eq!(in_code(&[0x64, 0x02]), Some(302));
        assert_eq!(in_code(&[0x64, 0x0e, 0xff]), Some(307));
        for wrong in [&[][..], &[0x64, 0x03, 0x00], &[0x64, 0x0e, 0xff, 0xff], &[0xff], &[0x1f], &[0x5a]] {
            assert_eq!(in_code(wrong), None, "{wrong:x?}");
        }
        assert_eq!((in_code(&[0xff; 16]), in_code(&[0; 17])), (None, None));
    }

    #[test]
    fn content_is_as_long_as_it_says() {
        let with = |length: &[u8]| {
            let mut content = Content::default();
            content.promise(Literal { is_coded: false, bytes: length }).map(|()| content)
        };
        let mut content = with(b"5").unwrap();
        assert_eq!((content.take(3), content.end()), (Ok(()), Err(SHORTER)));
        assert_eq!((content.take(2), content.end()), (Ok(()), Ok(())));
        assert_eq!(content.take(1), Err(LONGER));
        assert_eq!(with(b"five"), Err(NO_NUMBER));
        let twice = |length: &[u8]| with(b"5").unwrap().promise(Literal { is_coded: false, bytes: length });
        assert_eq!((twice(b"05"), twice(b"6")), (Ok(()), Err(TWO_LENGTHS)));
        let mut free = Content::default();
        assert_eq!((free.take(1_000), free.end()), (Ok(()), Ok(())));
    }
}
