//! Any sequence of cuts on frames and chunks against the same cuts on vectors.
#![cfg(not(loom))]

use proptest::prelude::*;
use warpline_frame::{Chunk, Frame, Pool, PoolConfig};

#[derive(Debug, Clone, Copy)]
enum Cut {
    SplitTo(usize),
    Advance(usize),
    Truncate(usize),
    Slice(usize, usize),
}

fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    let cut = prop_oneof![
        any::<usize>().prop_map(Cut::SplitTo),
        any::<usize>().prop_map(Cut::Advance),
        any::<usize>().prop_map(Cut::Truncate),
        any::<(usize, usize)>().prop_map(|(a, b)| Cut::Slice(a, b)),
    ];
    proptest::collection::vec(cut, 0..24)
}

fn on_chunk(chunk: &mut Chunk, model: &mut Vec<u8>, kept: &mut Vec<(Chunk, Vec<u8>)>, cut: Cut) {
    let room = model.len() + 1;
    match cut {
        Cut::SplitTo(n) => kept.push((chunk.split_to(n % room), model.drain(..n % room).collect())),
        Cut::Advance(n) => {
            chunk.advance(n % room);
            model.drain(..n % room);
        }
        Cut::Truncate(n) => {
            chunk.truncate(n % (room + 8));
            model.truncate(n % (room + 8));
        }
        Cut::Slice(a, b) => {
            let (a, b) = (a % room, b % room);
            let range = a.min(b)..a.max(b);
            kept.push((chunk.slice(range.clone()), model[range].to_vec()));
        }
    }
}

fn on_frame(frame: &mut Frame, model: &mut Vec<u8>, kept: &mut Vec<(Frame, Vec<u8>)>, cut: Cut) {
    let room = model.len() + 1;
    match cut {
        Cut::SplitTo(n) | Cut::Slice(n, _) => kept.push((frame.split_to(n % room), model.drain(..n % room).collect())),
        Cut::Advance(n) => {
            frame.advance(n % room);
            model.drain(..n % room);
        }
        Cut::Truncate(n) => {
            frame.truncate(n % (room + 8));
            model.truncate(n % (room + 8));
        }
    }
    // Writing to the rest must not show in what was cut off.
    frame.iter_mut().for_each(|b| *b = b.wrapping_add(1));
    model.iter_mut().for_each(|b| *b = b.wrapping_add(1));
}

proptest! {
    #[test]
    fn chunks_match_vectors(content in proptest::collection::vec(any::<u8>(), 0..200), cuts in cuts(), pooled: bool) {
        let mut pool = Pool::new(PoolConfig { frame_size: 256, frames: 1, huge_pages: false }).unwrap();
        let mut model = content.clone();
        let mut chunk = if pooled {
            let mut frame = pool.take().unwrap();
            frame.truncate(content.len());
            frame.copy_from_slice(&content);
            frame.freeze()
        } else {
            Chunk::from(content)
        };
        let mut kept = Vec::new();
        for cut in cuts {
            on_chunk(&mut chunk, &mut model, &mut kept, cut);
            prop_assert_eq!(&chunk, &model);
        }
        for (chunk, model) in &kept {
            prop_assert_eq!(chunk, model);
        }
        drop((chunk, kept));
        prop_assert_eq!(pool.available(), 1);
    }

    #[test]
    fn frames_match_vectors(content in proptest::collection::vec(any::<u8>(), 0..200), cuts in cuts()) {
        let mut pool = Pool::new(PoolConfig { frame_size: 256, frames: 1, huge_pages: false }).unwrap();
        let mut model = content.clone();
        let mut frame = pool.take().unwrap();
        frame.truncate(content.len());
        frame.copy_from_slice(&content);
        let mut kept = Vec::new();
        for cut in cuts {
            on_frame(&mut frame, &mut model, &mut kept, cut);
            prop_assert_eq!(&frame[..], &model[..]);
        }
        for (frame, model) in &kept {
            prop_assert_eq!(&frame[..], &model[..]);
        }
        drop((frame, kept));
        prop_assert_eq!(pool.available(), 1);
    }
}
