//! NewSessionTicket messages (RFC 8446 section 4.6.1) on their way to TLS.

use warpline_wire::Reader;

use crate::limits::TICKET_MESSAGE_MAX;

const NEW_SESSION_TICKET: u8 = 4;
const HEADER_LEN: usize = 4;

/// A NewSessionTicket message, taken apart as far as is needed to keep it and to give it out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NewTicket<'a> {
    /// Seconds that the ticket is good for.
    pub(crate) lifetime: u32,
    age_add: u32,
    /// The ticket itself and its extensions, as they came.
    rest: &'a [u8],
}

impl<'a> NewTicket<'a> {
    /// `None` when `message` is anything else than one whole message.
    pub(crate) fn parse(message: &'a [u8]) -> Option<Self> {
        let mut r = Reader::new(message);
        let head = r.u32().ok()?.to_be_bytes();
        if head[0] != NEW_SESSION_TICKET || body_len(head) != message.len() - HEADER_LEN {
            return None;
        }
        let (lifetime, age_add) = (r.u32().ok()?, r.u32().ok()?);
        let nonce_len = usize::from(r.u8().ok()?);
        r.bytes(nonce_len).ok()?;
        let rest = message.get(HEADER_LEN + 9 + nonce_len..)?;
        let ticket_len = usize::from(r.u16().ok()?);
        r.bytes(ticket_len).ok()?;
        let extensions_len = usize::from(r.u16().ok()?);
        r.bytes(extensions_len).ok()?;
        (ticket_len > 0 && r.is_empty()).then_some(Self { lifetime, age_add, rest })
    }

    /// The same message with another nonce. `None` for one that is too long.
    pub(super) fn with_nonce(&self, nonce: &[u8]) -> Option<Vec<u8>> {
        let len = u32::try_from(9 + nonce.len() + self.rest.len()).ok()?;
        let mut out = ((u32::from(NEW_SESSION_TICKET) << 24) | len).to_be_bytes().to_vec();
        out.extend_from_slice(&self.lifetime.to_be_bytes());
        out.extend_from_slice(&self.age_add.to_be_bytes());
        out.push(u8::try_from(nonce.len()).ok()?);
        out.extend_from_slice(nonce);
        out.extend_from_slice(self.rest);
        Some(out)
    }
}

fn body_len([_, a, b, c]: [u8; 4]) -> usize {
    u32::from_be_bytes([0, a, b, c]) as usize
}

/// Finds the messages in what a server says after the handshake.
#[derive(Default)]
pub(crate) struct Messages {
    /// The front of a message, while it may still be one to keep.
    front: Vec<u8>,
    /// Bytes to come of a message that is too long to be kept.
    passing: usize,
}

impl Messages {
    /// Takes bytes from the front of `bytes`, to the end of a message at most, and returns them; with the whole
    /// message if they end one of at most [`TICKET_MESSAGE_MAX`] bytes. `None` when there are no bytes.
    pub(crate) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<(&'a [u8], Option<Vec<u8>>)> {
        if bytes.is_empty() {
            return None;
        }
        let at = bytes.len().min(self.want());
        let (part, rest) = bytes.split_at(at);
        *bytes = rest;
        if self.passing > 0 {
            self.passing -= part.len();
            return Some((part, None));
        }
        self.front.extend_from_slice(part);
        let Some(head) = self.front.first_chunk::<HEADER_LEN>() else { return Some((part, None)) };
        let len = HEADER_LEN + body_len(*head);
        if len > TICKET_MESSAGE_MAX {
            self.passing = len - self.front.len();
            self.front.clear();
            return Some((part, None));
        }
        let whole = (self.front.len() == len).then(|| std::mem::take(&mut self.front));
        Some((part, whole))
    }

    /// Bytes that are missing of the message, or of its header.
    fn want(&self) -> usize {
        match self.front.first_chunk::<HEADER_LEN>() {
            _ if self.passing > 0 => self.passing,
            Some(head) => HEADER_LEN + body_len(*head) - self.front.len(),
            None => HEADER_LEN - self.front.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(nonce: &[u8], ticket: &[u8]) -> Vec<u8> {
        let mut rest = (ticket.len() as u16).to_be_bytes().to_vec();
        rest.extend_from_slice(ticket);
        rest.extend_from_slice(&[0, 8, 0, 42, 0, 4, 255, 255, 255, 255]);
        NewTicket { lifetime: 7200, age_add: 0x0102_0304, rest: &rest }.with_nonce(nonce).unwrap()
    }

    #[test]
    fn a_ticket_is_read_and_its_nonce_changed() {
        let old = message(&[0, 1], b"ticket");
        let ticket = NewTicket::parse(&old).unwrap();
        assert_eq!((ticket.lifetime, ticket.age_add), (7200, 0x0102_0304));
        let new = ticket.with_nonce(&[7; 80]).unwrap();
        assert_eq!(new, message(&[7; 80], b"ticket"));
        assert_eq!(NewTicket::parse(&new), Some(ticket), "the rest is the same");
        assert_eq!(ticket.with_nonce(&[7; 256]), None);
    }

    #[test]
    fn what_is_no_whole_ticket_is_not_taken_for_one() {
        let good = message(&[1], b"ticket");
        for len in 0..good.len() {
            assert_eq!(NewTicket::parse(&good[..len]), None, "cut to {len}");
        }
        assert_eq!(NewTicket::parse(&[&good[..], &[0]].concat()), None);
        assert_eq!(NewTicket::parse(&message(&[1], b"")), None, "an empty ticket");
        let mut other = good;
        other[0] = 24;
        assert_eq!(NewTicket::parse(&other), None, "a KeyUpdate");
    }

    #[test]
    fn messages_are_found_however_they_are_cut() {
        let long = message(&[9], &vec![5; TICKET_MESSAGE_MAX]);
        let kept = [message(&[1], b"one"), vec![24, 0, 0, 0], message(&[2; 200], &[3; 300])];
        let stream = [&kept[0], &kept[1], &long, &kept[2]].map(|m| &m[..]).concat();
        for step in (1..50).chain([1000, stream.len()]) {
            let (mut messages, mut found, mut passed) = (Messages::default(), Vec::new(), Vec::new());
            for mut bytes in stream.chunks(step) {
                while let Some((part, whole)) = messages.next(&mut bytes) {
                    passed.extend_from_slice(part);
                    found.extend(whole);
                }
            }
            assert_eq!(found, kept, "in pieces of {step}");
            assert_eq!(passed, stream, "all of it goes to TLS");
        }
    }
}
