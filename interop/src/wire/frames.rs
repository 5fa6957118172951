//! Frames (RFC 9000 section 19), as far as the matrix looks at them.

use super::packet::Reader;

/// What was found in a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// CRYPTO.
    Crypto { offset: u64, data: &'a [u8] },
    /// ACK with counts of ECN marks: ECT(0), ECT(1), CE.
    AckEcn([u64; 3]),
    /// ACK without.
    Ack,
    /// PATH_CHALLENGE.
    PathChallenge,
    /// PATH_RESPONSE.
    PathResponse,
    /// STREAM, by its stream.
    Stream(u64),
    /// Any other.
    Other,
}

/// The frames of a packet's payload. Stops at one of an extension that is not known here.
pub fn frames(payload: &[u8]) -> Vec<Frame<'_>> {
    let mut reader = Reader { bytes: payload, at: 0 };
    let mut frames = Vec::new();
    while reader.at < payload.len() {
        if payload[reader.at] == 0 {
            reader.at += 1;
            continue;
        }
        match frame(&mut reader) {
            Some(frame) => frames.push(frame),
            None => break,
        }
    }
    frames
}

fn frame<'a>(reader: &mut Reader<'a>) -> Option<Frame<'a>> {
    let kind = reader.varint()?;
    match kind {
        // 0x1f is IMMEDIATE_ACK, 0xaf ACK_FREQUENCY, 0x24 RESET_STREAM_AT, the last two OBSERVED_ADDRESS.
        0x01 | 0x1e | 0x1f => {}
        0x02 | 0x03 => return ack(reader, kind == 3),
        0x04 => skip(reader, 3)?,
        0x24 | 0xaf => skip(reader, 4)?,
        0x9f_81a6 | 0x9f_81a7 => {
            skip(reader, 1)?;
            reader.take(if kind & 1 == 0 { 4 + 2 } else { 16 + 2 })?;
        }
        0x05 | 0x11 | 0x15 => skip(reader, 2)?,
        0x06 => {
            let offset = reader.varint()?;
            let len = usize::try_from(reader.varint()?).ok()?;
            return Some(Frame::Crypto { offset, data: reader.take(len)? });
        }
        0x07 => data(reader)?,
        0x08..=0x0f => {
            let id = reader.varint()?;
            skip(reader, kind >> 2 & 1)?;
            if kind & 2 != 0 {
                data(reader)?
            } else {
                reader.at = reader.bytes.len()
            }
            return Some(Frame::Stream(id));
        }
        0x10 | 0x12..=0x14 | 0x16 | 0x17 | 0x19 => skip(reader, 1)?,
        0x18 => {
            skip(reader, 2)?;
            let len = reader.number(1)?;
            reader.take(len + 16)?;
        }
        0x1a | 0x1b => {
            reader.take(8)?;
            return Some(if kind == 0x1a { Frame::PathChallenge } else { Frame::PathResponse });
        }
        0x1c => {
            skip(reader, 2)?;
            data(reader)?;
        }
        0x1d => {
            skip(reader, 1)?;
            data(reader)?;
        }
        0x30 => reader.at = reader.bytes.len(),
        0x31 => data(reader)?,
        _ => return None,
    }
    Some(Frame::Other)
}

fn ack<'a>(reader: &mut Reader<'a>, has_counts: bool) -> Option<Frame<'a>> {
    skip(reader, 2)?;
    let ranges = reader.varint()?;
    skip(reader, 1)?;
    skip(reader, ranges.checked_mul(2)?)?;
    if !has_counts {
        return Some(Frame::Ack);
    }
    Some(Frame::AckEcn([reader.varint()?, reader.varint()?, reader.varint()?]))
}

fn skip(reader: &mut Reader<'_>, varints: u64) -> Option<()> {
    for _ in 0..varints {
        reader.varint()?;
    }
    Some(())
}

fn data(reader: &mut Reader<'_>) -> Option<()> {
    let len = usize::try_from(reader.varint()?).ok()?;
    reader.take(len).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart() {
        let payload = [&[0, 1, 3, 5, 0, 0, 5, 7, 0, 1][..], &[0x1a], &[9; 8], &[0x0a, 4, 2, 1, 1], &[6, 0, 1, 0xff]];
        let expected = [
            Frame::Other,
            Frame::AckEcn([7, 0, 1]),
            Frame::PathChallenge,
            Frame::Stream(4),
            Frame::Crypto { offset: 0, data: &[0xff] },
        ];
        assert_eq!(frames(&payload.concat()), expected);
    }
}
