//! Nanoseconds per packet, one at a time and in batches, of packets that lie beside each other: `batches`. The best of many short
//! rounds taken in turn, so that interruptions do not count.

use std::hint::black_box;
use std::time::Instant;

use warpline_gcm::{AeadKey, Job, TAG_LEN};

const ROUNDS: u32 = 2_000;
const HEADER: usize = 11;

fn time(best: &mut f64, packets: usize, operation: impl FnOnce()) {
    let start = Instant::now();
    operation();
    *best = best.min(start.elapsed().as_secs_f64() * 1e9 / packets as f64);
}

fn jobs(len: usize, train: &mut [u8]) -> Vec<Job<'_>> {
    train.chunks_exact_mut(len).enumerate().map(|(number, packet)| Job::new(packet, HEADER, number as u64)).collect()
}

fn single(key: &AeadKey, jobs: &mut [Job<'_>], seal: bool) {
    for job in jobs {
        let (header, rest) = job.packet.split_at_mut(HEADER);
        let (text, tag) = rest.split_last_chunk_mut::<TAG_LEN>().expect("packets have a tag");
        if seal {
            *tag = key.seal(job.number, header, text);
        } else {
            black_box(key.open(job.number, header, text, tag));
        }
    }
}

fn main() {
    let Some(key) = AeadKey::new(&[7; 16], &[1; 12]) else { return println!("not on this processor") };
    println!("{:>6} {:>6} {:>12} {:>12} {:>12} {:>12}", "bytes", "batch", "seal", "in batch", "open", "in batch");
    for len in [40, 64, 128, 240, 300, 1200, 1452, 8972] {
        for batch in [1, 4, 16, 64] {
            let mut train = vec![0x5a; len * batch];
            let mut best = [f64::MAX; 4];
            for _ in 0..ROUNDS {
                let mut jobs = jobs(len, &mut train);
                time(&mut best[0], batch, || single(&key, &mut jobs, true));
                time(&mut best[2], batch, || single(&key, &mut jobs, false));
                time(&mut best[1], batch, || key.seal_batch(&mut jobs));
                time(&mut best[3], batch, || key.open_batch(&mut jobs));
            }
            let [seal, sealed, open, opened] = best;
            println!("{len:>6} {batch:>6} {seal:>12.1} {sealed:>12.1} {open:>12.1} {opened:>12.1}");
        }
    }
}
