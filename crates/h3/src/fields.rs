//! Which pseudo-header fields a field section has, and where (RFC 9114 section 4.3), and how long the content of a request is said to
//! be (section 4.1.2).
//!
//! `h3` takes the last of several, and takes them behind other fields and in trailers. Here the lines of a section are walked
//! without being decoded: without a dynamic table a line names an entry of the static table, or spells its name out.

use warpline::Side;

use crate::content::Content;
use crate::error::Malformed;

const REPEATED: Malformed = Malformed("a pseudo-header field comes twice");
const BEHIND: Malformed = Malformed("a pseudo-header field comes behind other fields");
const MISPLACED: Malformed = Malformed("a pseudo-header field does not belong where it is");
const MISSING: Malformed = Malformed("a pseudo-header field is missing");

/// What a field section is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Request,
    /// A response, or the trailers of one without a body.
    Response,
    Trailers,
}

/// A pseudo-header field (RFC 9114 sections 4.3.1 and 4.3.2, RFC 9220 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pseudo {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
    Unknown,
}

const NAMES: [(&[u8], Pseudo); 6] = [
    (b":method", Pseudo::Method),
    (b":scheme", Pseudo::Scheme),
    (b":authority", Pseudo::Authority),
    (b":path", Pseudo::Path),
    (b":protocol", Pseudo::Protocol),
    (b":status", Pseudo::Status),
];

/// The entry of the static table that is the whole line `:method: CONNECT` (RFC 9204 appendix A).
const CONNECT: u64 = 15;
/// The entry that is the whole line `content-length: 0`.
const CONTENT_LENGTH: u64 = 4;

/// The pseudo-header field whose name the entry of the static table has, if it has one; `None` for an entry that there is not.
fn in_static_table(index: u64) -> Option<Option<Pseudo>> {
    match index {
        0 => Some(Some(Pseudo::Authority)),
        1 => Some(Some(Pseudo::Path)),
        15..=21 => Some(Some(Pseudo::Method)),
        22 | 23 => Some(Some(Pseudo::Scheme)),
        24..=28 | 63..=71 => Some(Some(Pseudo::Status)),
        2..=98 => Some(None),
        _ => None,
    }
}

/// The letters of the words that are looked for, in the code of RFC 7541 appendix B: letter, bits, number of bits.
const LETTERS: [(u8, u8, u32); 25] = [
    (b':', 0b101_1100, 7),
    (b'C', 0b101_1110, 7),
    (b'E', 0b110_0000, 7),
    (b'N', 0b110_1001, 7),
    (b'O', 0b110_1010, 7),
    (b'T', 0b110_1111, 7),
    (b'a', 0b0_0011, 5),
    (b'c', 0b0_0100, 5),
    (b'd', 0b10_0100, 6),
    (b'e', 0b0_0101, 5),
    (b'h', 0b10_0111, 6),
    (b'i', 0b0_0110, 5),
    (b'l', 0b10_1000, 6),
    (b'm', 0b10_1001, 6),
    (b'o', 0b0_0111, 5),
    (b'p', 0b10_1011, 6),
    (b'r', 0b10_1100, 6),
    (b's', 0b0_1000, 5),
    (b't', 0b0_1001, 5),
    (b'u', 0b10_1101, 6),
    (b'y', 0b111_1010, 7),
    (b'n', 0b10_1010, 6),
    (b'f', 0b10_0101, 6),
    (b'g', 0b10_0110, 6),
    (b'-', 0b01_0110, 6),
];

/// A word in that code: its bits and how many. None for one with another letter.
fn coded(word: &[u8]) -> Option<(u128, u32)> {
    word.iter().try_fold((0, 0), |(code, len), letter| {
        let (_, bits, more) = LETTERS.iter().find(|(known, ..)| known == letter)?;
        Some((code << more | u128::from(*bits), len + more))
    })
}

/// A string literal.
#[derive(Clone, Copy)]
pub(crate) struct Literal<'a> {
    /// Not as it is, but in the Huffman code.
    pub(crate) is_coded: bool,
    pub(crate) bytes: &'a [u8],
}

impl Literal<'_> {
    fn is(self, word: &[u8]) -> bool {
        if !self.is_coded {
            return self.bytes == word;
        }
        let Some((code, len)) = coded(word) else { return false };
        let have = self.bytes.len() as u32 * 8;
        // What fills the last byte is less than a byte (RFC 7541 section 5.2).
        let fits = self.bytes.len() <= size_of::<u128>() && have.checked_sub(len).is_some_and(|padding| padding < 8);
        fits && self.bytes.iter().fold(0, |all, byte| all << 8 | u128::from(*byte)) >> (have - len) == code
    }

    /// The pseudo-header field of this name; whatever begins with a colon is one.
    fn pseudo(self) -> Option<Pseudo> {
        let first = self.bytes.first().map(|first| if self.is_coded { first >> 1 } else { *first });
        if first != Some(if self.is_coded { LETTERS[0].1 } else { b':' }) {
            return None;
        }
        Some(NAMES.iter().find(|(name, _)| self.is(name)).map_or(Pseudo::Unknown, |(_, pseudo)| *pseudo))
    }
}

/// A field line: its pseudo-header field, if it is one, and whether that is `:method: CONNECT`; the value of `Content-Length`.
struct Line<'a> {
    pseudo: Option<Pseudo>,
    is_connect: bool,
    length: Option<Literal<'a>>,
}

/// Walks an encoded field section (RFC 9204 section 4.5). `None` is for what `h3` will refuse: sections that are cut off, or that
/// refer to a dynamic table or past the static one.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    /// The next byte, and the integer that begins in its last `bits` bits (RFC 7541 section 5.1).
    fn integer(&mut self, bits: u32) -> Option<(u8, u64)> {
        let (&first, mut rest) = self.rest.split_first()?;
        let mask = u8::MAX >> (8 - bits);
        let mut value = u64::from(first & mask);
        if first & mask == mask {
            for shift in (0..).step_by(7) {
                let (&byte, after) = rest.split_first()?;
                rest = after;
                value = value.checked_add(u64::from(byte & 0x7f).checked_shl(shift).filter(|_| shift < 56)?)?;
                if byte & 0x80 == 0 {
                    break;
                }
            }
        }
        self.rest = rest;
        Some((first, value))
    }

    /// A string literal whose length begins in the last `bits` bits of the next byte, behind the bit that tells of the code.
    fn literal(&mut self, bits: u32) -> Option<Literal<'a>> {
        let (first, len) = self.integer(bits)?;
        let (bytes, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        Some(Literal { is_coded: first >> bits & 1 == 1, bytes })
    }

    fn line(&mut self) -> Option<Line<'a>> {
        let first = *self.rest.first()?;
        if first & 0x80 != 0 {
            let (_, index) = self.integer(6).filter(|(first, _)| first & 0x40 != 0)?;
            let length = (index == CONTENT_LENGTH).then_some(Literal { is_coded: false, bytes: b"0" });
            return Some(Line { pseudo: in_static_table(index)?, is_connect: index == CONNECT, length });
        }
        let (pseudo, is_length) = if first & 0x40 != 0 {
            let (_, index) = self.integer(4).filter(|(first, _)| first & 0x10 != 0)?;
            (in_static_table(index)?, index == CONTENT_LENGTH)
        } else if first & 0x20 != 0 {
            let name = self.literal(3)?;
            (name.pseudo(), name.is(b"content-length"))
        } else {
            return None;
        };
        let value = self.literal(7)?;
        let is_connect = pseudo == Some(Pseudo::Method) && value.is(b"CONNECT");
        Some(Line { pseudo, is_connect, length: is_length.then_some(value) })
    }
}

/// What a section has had so far.
#[derive(Default)]
struct Seen {
    /// A bit for each pseudo-header field.
    pseudo: u8,
    is_connect: bool,
    /// A field that is none.
    field: bool,
    /// Of a request.
    content: Content,
}

impl Seen {
    fn has(&self, pseudo: Pseudo) -> bool {
        self.pseudo & 1 << pseudo as u8 != 0
    }

    fn take(&mut self, line: &Line<'_>, section: Section) -> Result<(), Malformed> {
        let Some(pseudo) = line.pseudo else {
            self.field = true;
            let length = line.length.filter(|_| section == Section::Request);
            return length.map_or(Ok(()), |value| self.content.promise(value));
        };
        let belongs = match section {
            Section::Request => !matches!(pseudo, Pseudo::Status | Pseudo::Unknown),
            Section::Response => pseudo == Pseudo::Status,
            Section::Trailers => false,
        };
        let why = match (belongs, self.field, self.has(pseudo)) {
            (false, ..) => MISPLACED,
            (_, true, _) => BEHIND,
            (.., true) => REPEATED,
            _ => {
                self.pseudo |= 1 << pseudo as u8;
                self.is_connect |= line.is_connect;
                return Ok(());
            }
        };
        Err(why)
    }

    /// Whether a request has all that it must have (RFC 9114 sections 4.3.1 and 4.4, RFC 9220 section 3, RFC 8441 section 4). Whether
    /// it has an authority or `Host` is left to `h3`.
    fn is_whole_request(&self) -> Result<(), Malformed> {
        let target = (self.has(Pseudo::Scheme), self.has(Pseudo::Path));
        match (self.has(Pseudo::Method), self.is_connect, self.has(Pseudo::Protocol)) {
            (false, ..) => Err(MISSING),
            (_, false, true) => Err(MISPLACED),
            (_, true, false) if target != (false, false) => Err(MISPLACED),
            (_, true, false) if !self.has(Pseudo::Authority) => Err(MISSING),
            (_, true, false) => Ok(()),
            _ if target == (true, true) => Ok(()),
            _ => Err(MISSING),
        }
    }
}

/// Refuses an encoded field section with pseudo-header fields that may not be there, or without those that must be; the content
/// that it announces. What cannot be decoded is let through: `h3` closes the connection for it.
fn check(section: Section, encoded: &[u8]) -> Result<Content, Malformed> {
    let mut lines = Lines { rest: encoded };
    // Without a dynamic table, Required Insert Count and Base say nothing.
    if lines.integer(8).is_none() || lines.integer(7).is_none() {
        return Ok(Content::default());
    }
    let mut seen = Seen::default();
    while !lines.rest.is_empty() {
        let Some(line) = lines.line() else { return Ok(Content::default()) };
        seen.take(&line, section)?;
    }
    if section == Section::Request {
        seen.is_whole_request()?;
    }
    Ok(seen.content)
}

/// Follows the field sections of one message.
#[derive(Debug)]
pub(crate) struct Message {
    next: Section,
    /// The front of a section that comes in pieces; never more than a frame.
    front: Vec<u8>,
    content: Content,
}

impl Message {
    /// The message that comes to `side`.
    pub(crate) fn to(side: Side) -> Self {
        let next = if side == Side::Server { Section::Request } else { Section::Response };
        Self { next, front: Vec::new(), content: Content::default() }
    }

    /// A piece of a field section, the last one if `is_last`.
    pub(crate) fn fields(&mut self, piece: &[u8], is_last: bool) -> Result<(), Malformed> {
        if !is_last || !self.front.is_empty() {
            self.front.extend_from_slice(piece);
        }
        if !is_last {
            return Ok(());
        }
        let front = std::mem::take(&mut self.front);
        let content = check(self.next, if front.is_empty() { piece } else { &front })?;
        if self.next == Section::Request {
            self.content = content;
            self.next = Section::Trailers;
        }
        Ok(())
    }

    /// `len` bytes of the body: fields behind it are trailers.
    pub(crate) fn body(&mut self, len: usize) -> Result<(), Malformed> {
        self.next = Section::Trailers;
        self.content.take(len)
    }

    /// That was all of it.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        self.content.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `:method: GET`, `:scheme: https`, `:path: /`.
    const GET: [u8; 3] = [0xd1, 0xd7, 0xc1];
    /// `:authority: a`.
    const AUTHORITY: [u8; 3] = [0x50, 1, b'a'];
    const ACCEPT: u8 = 0xdd;
    const STATUS: u8 = 0xd9;

    fn request(lines: &[&[u8]]) -> Result<(), Malformed> {
        check(Section::Request, &[&[0, 0][..], &lines.concat()].concat()).map(|_| ())
    }

    #[test]
    fn requests_in_order_pass() {
        assert_eq!(request(&[&GET, &AUTHORITY]), Ok(()));
        assert_eq!(request(&[&AUTHORITY, &GET, &[ACCEPT, ACCEPT]]), Ok(()), "fields may come twice");
        let spelled = [&[0x25][..], b":path", &[2], b"/x"].concat();
        assert_eq!(request(&[&GET[..2], &spelled, &AUTHORITY]), Ok(()));
        // A value of 300 bytes: the length takes three bytes.
        let long = [&[0x51, 0x7f, 0xad, 0x01][..], &[b'x'; 300]].concat();
        assert_eq!(request(&[&GET[..2], &long, &AUTHORITY]), Ok(()));
    }

    #[test]
    fn names_are_known_however_they_are_written() {
        // A name by its entry, spelled out, and in the Huffman code (RFC 7541 appendix B).
        let referred: &[u8] = &[0x51, 1, b'/'];
        let spelled = [&[0x25][..], b":path", &[1, b'/']].concat();
        let coded: &[u8] = &[0x2c, 0xb9, 0x58, 0xd3, 0x3f, 1, b'/'];
        for again in [referred, &spelled, coded, &[0xc1]] {
            assert_eq!(request(&[&GET, &AUTHORITY, again]), Err(REPEATED), "{again:x?}");
            assert_eq!(request(&[&GET[..2], &AUTHORITY, &[ACCEPT], again]), Err(BEHIND), "{again:x?}");
        }
        // The length of `:authority` takes two bytes.
        let authority: &[u8] = &[0x2f, 0x01, 0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f, 1, b'a'];
        assert_eq!(request(&[&GET, authority]).err(), None);
        let padded = [0x2d, 0xb9, 0x58, 0xd3, 0x3f, 0xff, 1, b'/'];
        assert_eq!(request(&[&GET, &AUTHORITY, &padded]), Err(MISPLACED), "no padding is that long");
    }

    #[test]
    fn requests_have_what_they_need_and_nothing_of_responses() {
        assert_eq!(request(&[&GET[1..], &AUTHORITY]), Err(MISSING), "no method");
        assert_eq!(request(&[&GET[..1], &AUTHORITY]), Err(MISSING), "neither scheme nor path");
        assert_eq!(request(&[&GET[..2], &AUTHORITY]), Err(MISSING), "no path");
        assert_eq!(request(&[&GET, &AUTHORITY, &[STATUS]]), Err(MISPLACED));
        assert_eq!(request(&[&GET, &AUTHORITY, &[0x22, b':', b'x', 1, b'1']]), Err(MISPLACED));
    }

    #[test]
    fn the_length_is_known_however_it_is_written() {
        let spelled = [&[0x27, 0x07][..], b"content-length", &[1, b'7']].concat();
        let coded = [0x2f, 0x03, 0x21, 0xea, 0x49, 0x6a, 0x4a, 0xd4, 0x16, 0xa9, 0x93, 0x3f, 1, b'7'];
        let referred: &[u8] = &[0x54, 1, b'7'];
        let coded_value: &[u8] = &[0x54, 0x81, 0x77];
        for length in [&spelled[..], &coded, referred, coded_value] {
            let follow = |body: usize| {
                let mut message = Message::to(Side::Server);
                let headers = [&[0, 0][..], &GET, &AUTHORITY, length].concat();
                message.fields(&headers, true).and_then(|()| message.body(body)).and_then(|()| message.end())
            };
            assert_eq!(follow(7), Ok(()), "{length:x?}");
            assert!(follow(6).is_err() && follow(8).is_err(), "{length:x?}");
        }
        let nothing = [&[0, 0][..], &GET, &AUTHORITY, &[0xc4]].concat();
        let mut message = Message::to(Side::Server);
        assert_eq!((message.fields(&nothing, true), message.end()), (Ok(()), Ok(())));
        assert!(message.body(1).is_err());
        assert!(request(&[&GET, &AUTHORITY, &[0x54, 1, b'x']]).is_err());
        // What a response has is for the client to know.
        let mut response = Message::to(Side::Client);
        assert_eq!((response.fields(&[0, 0, STATUS, 0x54, 1, b'7'], true), response.end()), (Ok(()), Ok(())));
    }

    #[test]
    fn connect_has_no_target_but_its_authority() {
        let protocol = [&[0x27, 0x02][..], b":protocol", &[1, b'x']].concat();
        // By its entry, spelled out, and coded.
        let coded = [0x5f, 0x00, 0x87, 0xbd, 0xab, 0x4e, 0x9c, 0x17, 0xb7, 0xff];
        for method in [&[0xcf][..], b"\x5f\x00\x07CONNECT", &coded] {
            assert_eq!(request(&[method, &AUTHORITY]), Ok(()), "{method:x?}");
            assert_eq!(request(&[method]), Err(MISSING));
            assert_eq!(request(&[method, &GET[1..], &AUTHORITY]), Err(MISPLACED));
            assert_eq!(request(&[method, &GET[1..], &AUTHORITY, &protocol]), Ok(()), "extended CONNECT");
        }
        assert_eq!(request(&[&GET, &AUTHORITY, &protocol]), Err(MISPLACED));
    }

    #[test]
    fn what_is_cut_off_or_dynamic_is_left_to_the_decoder() {
        for cut in [&[0x51][..], &[0x51, 0x7f, 0xad], &[0x51, 5, b'/'], &[0x2c, 0xb9, 0x58], &[0x25, b':'], &[0xff]] {
            assert_eq!(request(&[&GET, &GET, cut]), Err(REPEATED), "what came before counts");
            assert_eq!(request(&[&GET[..2], cut]), Ok(()), "{cut:x?}");
        }
        let nothing = Ok(Content::default());
        assert_eq!((check(Section::Request, &[]), check(Section::Request, &[0])), (nothing, nothing));
        for dynamic in [&[0x80][..], &[0x10], &[0x40, 0], &[0x00, 0], &[0xff, 0x24]] {
            assert_eq!(request(&[dynamic, &GET, &GET]), Ok(()));
        }
        assert_eq!(request(&[&[0xff; 30]]), Ok(()), "a number without end");
    }

    #[test]
    fn sections_follow_one_another_in_pieces_of_any_size() {
        let headers = [&[0, 0][..], &GET, &AUTHORITY].concat();
        for piece in 1..=headers.len() {
            let follow = |message: &mut Message, section: &[u8]| {
                let count = section.len().div_ceil(piece);
                section.chunks(piece).enumerate().try_for_each(|(i, part)| message.fields(part, i + 1 == count))
            };
            let mut message = Message::to(Side::Server);
            assert_eq!(follow(&mut message, &headers), Ok(()));
            assert_eq!(message.body(1), Ok(()));
            assert_eq!(follow(&mut message, &[0, 0, ACCEPT]), Ok(()));
            assert_eq!(follow(&mut message, &[0, 0, ACCEPT, 0xc1]), Err(MISPLACED), "trailers have none");
            // Interim responses, the response, trailers.
            let mut message = Message::to(Side::Client);
            assert_eq!(follow(&mut message, &[0, 0, 0xd8]), Ok(()));
            assert_eq!(follow(&mut message, &[0, 0, STATUS, ACCEPT]), Ok(()));
            assert_eq!(follow(&mut message, &[0, 0, STATUS, STATUS]), Err(REPEATED));
            assert_eq!(follow(&mut message, &[0, 0, ACCEPT, STATUS]), Err(BEHIND));
            assert_eq!(follow(&mut message, &[0, 0, STATUS, 0xc1]), Err(MISPLACED));
            assert_eq!(message.body(1), Ok(()));
            assert_eq!(follow(&mut message, &[0, 0, STATUS]), Err(MISPLACED));
        }
    }
}
