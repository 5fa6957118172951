//! The `warpline` command.
//!
//! Results go to standard output, everything else to standard error. Exit codes are in [`exit`]; `--json` gives one
//! object for machines.
#![forbid(unsafe_code)]

mod demo;
#[cfg(target_os = "linux")]
mod doctor;
mod get;
mod host;
mod io;
mod list;
mod net;
mod output;
mod perf;
mod progress;
mod state;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Exit codes of the command.
pub mod exit {
    /// Something failed; standard error says what and what to do.
    pub const FAILED: u8 = 1;
    /// The command line was wrong.
    pub const USAGE: u8 = 2;
    /// Everything that could be fetched is there, but some things could not be fetched or kept.
    pub const INCOMPLETE: u8 = 3;
    /// The connection was lost or the host was not reached; the same command goes on where it stopped.
    pub const DISCONNECTED: u8 = 4;
    /// The code was refused.
    pub const REFUSED: u8 = 5;
}

/// Move directories between machines over QUIC: verified, resumable, as fast as the machine allows.
#[derive(Debug, Parser)]
#[command(name = "warpline", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 done, but some things could not be kept; \
                          4 disconnected, run the same command again; 5 the code was refused.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Share a directory or a file and print its join code.
    Host(host::HostArgs),
    /// Fetch what a code stands for, or what is missing of it.
    Get(get::GetArgs),
    /// List what a code stands for.
    Ls(list::LsArgs),
    /// Prove in two minutes that it works here: share, fetch, compare, interrupt, resume.
    Demo(demo::DemoArgs),
    /// Say what this machine has for moving packets fast, what costs speed, and how to change it.
    #[cfg(target_os = "linux")]
    Doctor(doctor::DoctorArgs),
    /// Measure the transport by itself.
    #[command(subcommand)]
    Perf(perf::Perf),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("WARPLINE_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn")),
        )
        .with_writer(std::io::stderr)
        .init();
    match Cli::parse().command {
        Command::Host(args) => host::run(&args),
        Command::Get(args) => get::run(&args),
        Command::Ls(args) => list::run(&args),
        Command::Demo(args) => demo::run(&args),
        #[cfg(target_os = "linux")]
        Command::Doctor(args) => doctor::run(&args),
        Command::Perf(perf) => perf::run(perf),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "warpline", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Command::Man => match clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(exit::FAILED),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
