//! The `warpline` command.
//!
//! Results go to standard output, everything else to standard error. Exit codes are in [`exit`]; `--json` gives one
//! object for machines.
#![forbid(unsafe_code)]

mod crypto;
mod demo;
#[cfg(target_os = "linux")]
mod doctor;
mod get;
mod h3;
mod host;
mod io;
mod list;
mod net;
mod output;
mod perf;
mod progress;
mod settings;
mod signals;
mod state;
mod trace;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

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
#[command(name = "warpline", version, after_help = AFTER_HELP)]
struct Cli {
    /// Take settings from this TOML file; by default ~/.config/warpline/config.toml or /etc/warpline.toml, if there is one.
    #[arg(long, env = "WARPLINE_CONFIG", global = true, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "Every --flag can also be set by WARPLINE_FLAG in the environment, and by `flag = value` in the file \
                          of settings.\n\nExit codes: 0 done; 1 failed; 2 wrong usage; 3 done, but some things could not be kept; \
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
    /// Serve files over HTTP/3, and fetch them.
    #[command(subcommand)]
    H3(h3::H3),
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

impl Command {
    /// How this command moves packets, if it does.
    fn io(&self) -> Option<&io::IoArgs> {
        match self {
            Self::Host(args) => Some(&args.net.io),
            Self::Get(args) => Some(&args.net.io),
            Self::Ls(args) => Some(&args.net.io),
            Self::H3(command) => Some(command.io()),
            Self::Perf(perf) => Some(perf.io()),
            _ => None,
        }
    }
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("WARPLINE_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn")),
        )
        .with_writer(std::io::stderr)
        .init();
    let cli = match settings::apply(Cli::command(), std::env::args_os().skip(1)) {
        Ok(command) => Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit()),
        Err(error) => {
            eprintln!("warpline: {error}");
            return ExitCode::from(exit::USAGE);
        }
    };
    if let Err(error) = cli.command.io().map_or(Ok(()), io::IoArgs::check) {
        Cli::command().error(clap::error::ErrorKind::MissingRequiredArgument, error).exit();
    }
    match cli.command {
        Command::Host(args) => host::run(&args),
        Command::Get(args) => get::run(&args),
        Command::Ls(args) => list::run(&args),
        Command::Demo(args) => demo::run(&args),
        #[cfg(target_os = "linux")]
        Command::Doctor(args) => doctor::run(&args),
        Command::H3(command) => h3::run(&command),
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
        let command = settings::apply(Cli::command(), std::iter::empty()).expect("no file is named");
        command.debug_assert();
    }
}
