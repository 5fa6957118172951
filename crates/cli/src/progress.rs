//! Progress on a terminal.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use warpline_share::{Bottleneck, Progress};

use crate::output;

/// How often the line is drawn.
const INTERVAL: Duration = Duration::from_millis(200);

/// A line that shows how a transfer goes; nothing where standard error is no terminal.
pub struct Display(Option<(mpsc::Sender<()>, JoinHandle<()>)>);

impl Display {
    /// Starts to show `progress`.
    pub fn start(progress: Arc<Progress>, quiet: bool) -> Self {
        if quiet || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || draw(&progress, &stopped));
        Self(Some((stop, thread)))
    }

    /// Takes the line away.
    pub fn stop(self) {
        if let Some((stop, thread)) = self.0 {
            drop(stop);
            // The line is gone either way.
            let _ = thread.join();
        }
    }
}

fn draw(progress: &Progress, stopped: &mpsc::Receiver<()>) {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}") {
        bar.set_style(style);
    }
    let mut rate =
        Rate { at: Instant::now(), fetched: 0, busy: 0, bytes_per_second: 0.0, bottleneck: Bottleneck::Network };
    while stopped.recv_timeout(INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
        let (done, total) = (progress.bytes_done.get(), progress.bytes_total.get());
        rate.update(progress);
        bar.set_length(total.max(1));
        bar.set_position(done.min(total));
        bar.set_message(line(progress, &rate));
    }
    bar.finish_and_clear();
}

/// The rate over the last moments, smoothed.
struct Rate {
    at: Instant,
    fetched: u64,
    busy: u64,
    bytes_per_second: f64,
    bottleneck: Bottleneck,
}

impl Rate {
    fn update(&mut self, progress: &Progress) {
        let (fetched, busy) = (progress.bytes_received.get(), progress.writing_nanos.get());
        let elapsed = self.at.elapsed();
        let now = (fetched - self.fetched) as f64 / elapsed.as_secs_f64().max(0.001);
        self.bytes_per_second = if self.fetched == 0 { now } else { self.bytes_per_second * 0.8 + now * 0.2 };
        self.bottleneck = Progress::bottleneck(Duration::from_nanos(busy - self.busy), elapsed);
        (self.at, self.fetched, self.busy) = (Instant::now(), fetched, busy);
    }
}

fn line(progress: &Progress, rate: &Rate) -> String {
    let (done, total) = (progress.bytes_done.get(), progress.bytes_total.get());
    // The total is not known before the list is complete, and then neither is the end.
    let listed = progress.listed.get();
    let more = if listed { "" } else { "+" };
    let eta = match (listed, rate.bytes_per_second > 0.0) {
        (true, true) => {
            let seconds = (total.saturating_sub(done) as f64 / rate.bytes_per_second).round() as u64;
            format!("{}:{:02}", seconds / 60, seconds % 60)
        }
        _ => "-:--".to_owned(),
    };
    let reused = progress.bytes_reused.get();
    let mut there = if reused > 0 { format!(", {} were there", output::bytes(reused)) } else { String::new() };
    let copied = progress.bytes_copied.get();
    if copied > 0 {
        there += &format!(", {} taken from older versions", output::bytes(copied));
    }
    let limit = match rate.bottleneck {
        Bottleneck::Disk => "disk",
        Bottleneck::Network => "network or host",
    };
    format!(
        "{}/{}{more} {}/{}{more} files {} ETA {eta} limited by {limit}{there}",
        output::bytes(done),
        output::bytes(total),
        progress.files_done.get(),
        progress.files_total.get(),
        output::rate(rate.bytes_per_second * 8.0),
    )
}
