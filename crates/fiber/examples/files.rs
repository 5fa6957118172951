//! What files cost by plain calls and by the ring, with registered buffers and several under way: `cargo run --release -p
//! warpline-fiber --example files -- [PATH] [MIB]`. The file is made, written, and read from the page cache; every byte that is
//! read is looked at. Prints seconds of processor time (the kernel's threads included) and of the clock for a GiB.
#![expect(clippy::unwrap_used, reason = "a measurement ends with the first failure")]

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("io_uring is Linux's");
}

#[cfg(target_os = "linux")]
fn main() {
    ring::main();
}

#[cfg(target_os = "linux")]
mod ring {
    use std::cell::Cell;
    use std::fs::OpenOptions;
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};
    use std::rc::Rc;
    use std::time::{Duration, Instant};
    use warpline_fiber::reactor::{File, ReactorConfig, RegisteredBuffer, UringConfig};
    use warpline_fiber::{Config, Scheduler, spawn};

    const PIECE: usize = 256 << 10;
    const IN_FLIGHT: u16 = 8;
    const ROUNDS: usize = 5;

    pub fn main() {
        let mut args = std::env::args().skip(1);
        let path: PathBuf = args.next().map_or_else(|| std::env::temp_dir().join("warpline-files"), PathBuf::from);
        let len = args.next().map_or(512, |text| text.parse::<u64>().unwrap()) << 20;
        let uring = UringConfig { buffers: (IN_FLIGHT, PIECE), ..UringConfig::default() };
        let scheduler = Scheduler::new(Config { reactor: ReactorConfig::Uring(uring), ..Config::default() }).unwrap();
        println!("{len} bytes in pieces of {PIECE}, by the ring {IN_FLIGHT} at a time, {ROUNDS} rounds\n");
        println!("| | CPU s a GiB (lowest, median) | s a GiB (lowest, median) |\n|---|---|---|");
        type Way<'a> = (&'a str, &'a dyn Fn() -> u64);
        let ways: [Way<'_>; 4] = [
            ("writing, plain", &|| write_plain(&path, len)),
            ("writing, ring", &|| {
                scheduler.run({
                    let path = path.clone();
                    move || write_ring(&path, len)
                })
            }),
            ("reading, plain", &|| read_plain(&path, len)),
            ("reading, ring", &|| {
                scheduler.run({
                    let path = path.clone();
                    move || read_ring(&path, len)
                })
            }),
        ];
        let mut costs = vec![Vec::new(); ways.len()];
        for _ in 0..ROUNDS {
            // In turn, so that an hour of the machine is everybody's.
            for ((_, way), costs) in ways.iter().zip(&mut costs) {
                let (cpu, clock) = (cpu_time(), Instant::now());
                assert_eq!(way(), sum_of(len));
                costs.push(((cpu_time() - cpu).as_secs_f64(), clock.elapsed().as_secs_f64()));
            }
        }
        for ((name, _), costs) in ways.iter().zip(costs) {
            let gib = len as f64 / f64::from(1 << 30);
            let figures = |of: fn(&(f64, f64)) -> f64| {
                let mut all: Vec<f64> = costs.iter().map(|cost| of(cost) / gib).collect();
                all.sort_by(f64::total_cmp);
                format!("{:.3} ({:.3})", all[0], all[ROUNDS / 2])
            };
            println!("| {name} | {} | {} |", figures(|cost| cost.0), figures(|cost| cost.1));
        }
        std::fs::remove_file(&path).unwrap();
    }

    /// Processor time of all threads of this process.
    fn cpu_time() -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the structure is writable.
        assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) }, 0);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    fn fill(at: u64) -> u8 {
        (at / PIECE as u64 % 251) as u8
    }

    fn sum_of(len: u64) -> u64 {
        (0..len).step_by(PIECE).map(|at| u64::from(fill(at)) * (len - at).min(PIECE as u64)).sum()
    }

    fn sum(bytes: &[u8]) -> u64 {
        bytes.iter().map(|byte| u64::from(*byte)).sum()
    }

    fn write_plain(path: &Path, len: u64) -> u64 {
        let (file, mut piece, mut total) = (std::fs::File::create(path).unwrap(), vec![0; PIECE], 0);
        for at in (0..len).step_by(PIECE) {
            piece.fill(fill(at));
            file.write_all_at(&piece, at).unwrap();
            total += sum(&piece);
        }
        total
    }

    fn read_plain(path: &Path, len: u64) -> u64 {
        let (file, mut piece, mut total) = (std::fs::File::open(path).unwrap(), vec![0; PIECE], 0);
        for at in (0..len).step_by(PIECE) {
            file.read_exact_at(&mut piece, at).unwrap();
            total += sum(&piece);
        }
        total
    }

    /// As many fibers as there are buffers, each with every so manieth piece.
    fn shared(file: File, len: u64, piece: impl FnMut(&File, u64) -> u64 + Clone + 'static) -> u64 {
        let (file, total) = (Rc::new(file), Rc::new(Cell::new(0)));
        let fibers: Vec<_> = (0..u64::from(IN_FLIGHT))
            .map(|first| {
                let (file, total, mut piece) = (file.clone(), total.clone(), piece.clone());
                spawn(move || {
                    let starts = (first * PIECE as u64..len).step_by(PIECE * usize::from(IN_FLIGHT));
                    starts.for_each(|at| {
                        // Others run while it waits, so the sum is looked at afterwards.
                        let seen = piece(&file, at);
                        total.set(total.get() + seen);
                    });
                })
            })
            .collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        total.get()
    }

    fn write_ring(path: &Path, len: u64) -> u64 {
        let file = File::open(path, OpenOptions::new().create(true).truncate(true).write(true)).unwrap();
        let mut piece = vec![0; PIECE];
        shared(file, len, move |file, at| {
            piece.fill(fill(at));
            let mut done = 0;
            while done < PIECE {
                done += file.write_at(&piece[done..], at + done as u64).unwrap();
            }
            sum(&piece)
        })
    }

    fn read_ring(path: &Path, len: u64) -> u64 {
        let file = File::open(path, OpenOptions::new().read(true)).unwrap();
        shared(file, len, |file, at| {
            let mut buffer = RegisteredBuffer::take().unwrap();
            assert_eq!(file.read_fixed(&mut buffer, 0..PIECE, at).unwrap(), PIECE);
            sum(buffer.as_ref())
        })
    }
}
