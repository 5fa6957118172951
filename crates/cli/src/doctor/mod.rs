//! `warpline doctor`: what this machine has for moving packets fast, what costs speed, and how to change it.

mod interface;
mod machine;
mod quick_assist;
mod root;
mod topology;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use warpline::InterfaceName;

use crate::exit;
use crate::io::{Span, numbers};
use root::Root;

/// Arguments of `warpline doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Interfaces to look at; all that are up without it.
    #[arg(long, value_name = "NAME", value_parser = InterfaceName::new)]
    interface: Vec<InterfaceName>,
    /// Cores that the workers are to have, such as 0-3,8: interrupts are compared with them.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    cores: Vec<Span>,
    /// Apply what is safe to apply: kernel settings that last until the next boot and interrupt nothing.
    #[arg(long)]
    fix: bool,
    /// One JSON object for machines.
    #[arg(long)]
    json: bool,
}

/// How much something matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// As it should be.
    Good,
    /// It works, slower than it could.
    Costs,
    /// A feature cannot be used.
    Missing,
    /// Worth knowing.
    Note,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Good => "good",
            State::Costs => "costs speed",
            State::Missing => "missing",
            State::Note => "note",
        }
    }
}

/// How to change something.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Remedy {
    /// Writing a file of the kernel's: safe, and gone with the next boot.
    Write { path: PathBuf, value: String },
    /// A command that interrupts something or needs a decision.
    Command(String),
}

impl Remedy {
    /// The exact command.
    fn command(&self) -> String {
        match self {
            Remedy::Write { path, value } => match path.strip_prefix("/proc/sys") {
                Ok(key) => format!("sysctl -w {}={value:?}", key.display().to_string().replace('/', ".")),
                Err(_) => format!("echo {value} > {}", path.display()),
            },
            Remedy::Command(command) => command.clone(),
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    /// The machine, or an interface.
    area: String,
    what: &'static str,
    found: String,
    state: State,
    /// What it means.
    meaning: &'static str,
    remedy: Option<Remedy>,
}

impl Finding {
    fn new(area: &str, what: &'static str, found: impl Into<String>, state: State, meaning: &'static str) -> Finding {
        Finding { area: area.to_owned(), what, found: found.into(), state, meaning, remedy: None }
    }

    fn remedy(self, remedy: Remedy) -> Finding {
        Finding { remedy: Some(remedy), ..self }
    }

    fn to_json(&self, outcome: Option<&Result<(), String>>) -> Value {
        json!({
            "area": self.area,
            "what": self.what,
            "found": self.found,
            "state": self.state.name(),
            "meaning": self.meaning,
            "command": self.remedy.as_ref().map(Remedy::command),
            "safe": matches!(self.remedy, Some(Remedy::Write { .. })),
            "applied": outcome.map(Result::is_ok),
            "error": outcome.and_then(|outcome| outcome.as_ref().err()),
        })
    }
}

/// Runs it.
pub fn run(args: &DoctorArgs) -> ExitCode {
    let root = Root::real();
    if let Some(name) = args.interface.iter().find(|name| !interface::exists(&root, name)) {
        eprintln!("warpline: there is no interface {}", name.as_str());
        return ExitCode::from(exit::FAILED);
    }
    let mut findings = machine::look(&root);
    let interfaces = if args.interface.is_empty() { interface::all_up(&root) } else { args.interface.clone() };
    let workers: Vec<u32> = numbers(&args.cores).collect();
    for &name in &interfaces {
        findings.extend(interface::look(&root, name, &workers));
    }
    let outcomes: Vec<Option<Result<(), String>>> =
        findings.iter().map(|finding| args.fix.then(|| apply(finding)).flatten()).collect();
    if args.json {
        let all: Vec<Value> = findings.iter().zip(&outcomes).map(|(f, o)| f.to_json(o.as_ref())).collect();
        println!("{}", json!({ "findings": all }));
    } else {
        print(&findings, &outcomes, args.fix);
    }
    if outcomes.iter().flatten().any(Result::is_err) { ExitCode::from(exit::FAILED) } else { ExitCode::SUCCESS }
}

/// Applies the remedy if it is safe and needed.
fn apply(finding: &Finding) -> Option<Result<(), String>> {
    match &finding.remedy {
        Some(Remedy::Write { path, value }) if matches!(finding.state, State::Costs | State::Missing) => {
            Some(std::fs::write(path, value).map_err(|error| format!("{}: {error}", path.display())))
        }
        _ => None,
    }
}

fn print(findings: &[Finding], outcomes: &[Option<Result<(), String>>], fix: bool) {
    let width = findings.iter().map(|finding| finding.what.len()).max().unwrap_or(0);
    let mut area = "";
    for (finding, outcome) in findings.iter().zip(outcomes) {
        if finding.area != area {
            area = &finding.area;
            println!("{area}");
        }
        println!("  {:<11}  {:<width$}  {}", finding.state.name(), finding.what, finding.found);
        if finding.state != State::Good {
            println!("  {:<11}  {:<width$}  {}", "", "", finding.meaning);
        }
        if let Some(remedy) = finding.remedy.as_ref().filter(|_| finding.state != State::Good) {
            println!("  {:<11}  {:<width$}  $ {}", "", "", remedy.command());
        }
        match outcome {
            Some(Ok(())) => println!("  {:<11}  {:<width$}  applied", "", ""),
            Some(Err(error)) => println!("  {:<11}  {:<width$}  not applied: {error}", "", ""),
            None => (),
        }
    }
    let is_safe = |finding: &&Finding| {
        matches!(finding.remedy, Some(Remedy::Write { .. })) && matches!(finding.state, State::Costs | State::Missing)
    };
    let safe = findings.iter().filter(is_safe).count();
    if safe > 0 && !fix {
        println!("{safe} of these can be applied at once: warpline doctor --fix");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_are_commands_that_can_be_pasted() {
        let write = |path: &str, value: &str| Remedy::Write { path: path.into(), value: value.to_owned() }.command();
        assert_eq!(write("/proc/sys/net/core/rmem_max", "4194304"), "sysctl -w net.core.rmem_max=\"4194304\"");
        assert_eq!(write("/sys/x/governor", "performance"), "echo performance > /sys/x/governor");
    }

    #[test]
    fn only_safe_and_needed_remedies_are_applied() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let remedy = Remedy::Write { path: file.path().into(), value: "7".to_owned() };
        let finding = |state| Finding::new("x", "y", "z", state, "why").remedy(remedy.clone());
        assert!(apply(&finding(State::Good)).is_none() && apply(&finding(State::Note)).is_none());
        assert_eq!(apply(&finding(State::Costs)), Some(Ok(())));
        assert_eq!(std::fs::read_to_string(file.path()).expect("it was written"), "7");
        let command = Finding::new("x", "y", "z", State::Costs, "why").remedy(Remedy::Command("reboot".to_owned()));
        assert!(apply(&command).is_none());
        let nowhere = Remedy::Write { path: "/nowhere/at/all".into(), value: String::new() };
        let error = apply(&Finding::new("x", "y", "z", State::Costs, "why").remedy(nowhere));
        assert!(error.expect("it was tried").expect_err("it cannot be").contains("/nowhere/at/all"));
    }
}
