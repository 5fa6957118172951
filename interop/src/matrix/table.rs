//! All cases with all peers, and how they are printed.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::cases::{CASES, Case};
use super::net::Net;
use super::peers::{OURS, Program, Role, Stack};
use super::run::{Pair, run};

/// What to run.
#[derive(Debug)]
pub struct Plan {
    /// With whom.
    pub stacks: Vec<&'static Stack>,
    /// Which.
    pub cases: Vec<&'static Case>,
    /// Small files, few connections.
    pub quick: bool,
    /// Runs at the same time.
    pub jobs: usize,
    /// Our program uses AF_XDP, and, with us as the peer, its program, too.
    pub xdp: [bool; 2],
    /// Where everything that a run leaves is kept: files, key logs, what programs said.
    pub keep: Option<PathBuf>,
}

/// The cases called `names`; all of them if `names` is empty.
///
/// # Errors
///
/// Names the one that there is not.
pub fn select(names: &[String]) -> io::Result<Vec<&'static Case>> {
    if let Some(unknown) = names.iter().find(|name| CASES.iter().all(|case| case.name != name.as_str())) {
        let all: Vec<_> = CASES.iter().map(|case| case.name).collect();
        return Err(io::Error::other(format!("no case {unknown}; there are {}", all.join(", "))));
    }
    Ok(CASES.iter().filter(|case| names.is_empty() || names.iter().any(|name| name == case.name)).collect())
}

/// How a run ended.
#[derive(Debug, Clone)]
enum Outcome {
    Passed(String),
    Failed(String),
    /// Who lacks it, and how that is known.
    Lacking(&'static str, &'static str),
}

/// A cell of the table.
#[derive(Debug, Clone)]
struct Cell {
    case: &'static Case,
    stack: &'static Stack,
    /// Our part.
    ours: Role,
    outcome: Outcome,
}

/// The finished table.
#[derive(Debug)]
pub struct Table {
    quick: bool,
    xdp: [bool; 2],
    stacks: Vec<&'static Stack>,
    cases: Vec<&'static Case>,
    cells: Vec<Cell>,
}

/// Builds what is needed and runs everything.
///
/// # Errors
///
/// When a peer's program cannot be built, or the system refuses a directory.
pub fn matrix(plan: &Plan) -> io::Result<Table> {
    let [our_xdp, their_xdp] = plan.xdp;
    if let Some(stack) = plan.stacks.iter().find(|stack| their_xdp && stack.name != OURS.name) {
        return Err(io::Error::other(format!("{} has no AF_XDP", stack.name)));
    }
    if our_xdp || their_xdp {
        // Otherwise every cell would say what is missing.
        Net::new(1)?;
    }
    let ours = OURS.program()?.with_xdp(our_xdp);
    let theirs = |stack: &&Stack| stack.program().map(|program| program.with_xdp(their_xdp));
    let programs = plan.stacks.iter().map(theirs).collect::<io::Result<Vec<_>>>()?;
    let mut work = VecDeque::new();
    for &case in &plan.cases {
        for (&stack, program) in plan.stacks.iter().zip(&programs) {
            work.extend([Role::Client, Role::Server].map(|role| (case, stack, program, role)));
        }
    }
    let (work, cells) = (Mutex::new(work), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs.max(1) {
            scope.spawn(|| {
                let next = || work.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                while let Some((case, stack, program, role)) = next() {
                    let outcome = outcome(plan, case, stack, (&ours, program), role);
                    announce(case, stack, role, &outcome);
                    let cell = Cell { case, stack, ours: role, outcome };
                    cells.lock().unwrap_or_else(PoisonError::into_inner).push(cell);
                }
            });
        }
    });
    let cells = cells.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Table { quick: plan.quick, xdp: plan.xdp, stacks: plan.stacks.clone(), cases: plan.cases.clone(), cells })
}

fn outcome(
    plan: &Plan,
    case: &'static Case,
    stack: &'static Stack,
    (ours, theirs): (&Program, &Program),
    role: Role,
) -> Outcome {
    let (pair, their_role) = match role {
        Role::Client => (Pair { client: ours, server: theirs }, Role::Server),
        Role::Server => (Pair { client: theirs, server: ours }, Role::Client),
    };
    if let Some(why) = stack.lacks(case, their_role) {
        return Outcome::Lacking(stack.name, why);
    }
    if let Some(why) = OURS.lacks(case, role) {
        return Outcome::Lacking(OURS.name, why);
    }
    let name = format!("{}-{}-{}", case.name, stack.name, word(role));
    let result = match &plan.keep {
        Some(keep) => run_in(plan, case, pair, &keep.join(name)),
        None => match tempfile::tempdir() {
            Ok(directory) => run(case, plan.quick, pair, directory.path()),
            Err(error) => Err(error.to_string()),
        },
    };
    match result {
        Ok(shown) => Outcome::Passed(shown),
        Err(why) => Outcome::Failed(why),
    }
}

fn run_in(plan: &Plan, case: &Case, pair: Pair<'_>, directory: &Path) -> Result<String, String> {
    if directory.exists() {
        std::fs::remove_dir_all(directory).map_err(|error| error.to_string())?;
    }
    std::fs::create_dir_all(directory).map_err(|error| error.to_string())?;
    run(case, plan.quick, pair, directory)
}

fn word(ours: Role) -> &'static str {
    match ours {
        Role::Client => "client",
        Role::Server => "server",
    }
}

/// Progress, for people who wait.
fn announce(case: &Case, stack: &Stack, ours: Role, outcome: &Outcome) {
    let (sign, text) = match outcome {
        Outcome::Passed(shown) => ("ok", shown.clone()),
        Outcome::Failed(why) => ("FAILED", why.clone()),
        Outcome::Lacking(who, why) => ("-", format!("{who}: {why}")),
    };
    eprintln!("{:<20} {:<9} we are {:<7} {sign:<7} {text}", case.name, stack.name, word(ours));
}

impl Table {
    fn cell(&self, case: &Case, stack: &Stack, ours: Role) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.case.name == case.name && cell.stack.name == stack.name && cell.ours == ours)
    }

    /// Whether nothing failed that both sides have.
    pub fn passed(&self) -> bool {
        !self.cells.iter().any(|cell| matches!(cell.outcome, Outcome::Failed(_)))
    }

    /// The table as Markdown: for each peer a column as our server and one as our client.
    pub fn markdown(&self) -> String {
        let mut text = String::from("| case |");
        for stack in &self.stacks {
            text += &format!(" we → {} | {} → us |", stack.name, stack.name);
        }
        text += "\n|---|";
        text += &"---|---|".repeat(self.stacks.len());
        for case in &self.cases {
            text += &format!("\n| {} |", case.name);
            for stack in &self.stacks {
                for role in [Role::Client, Role::Server] {
                    let sign = match self.cell(case, stack, role).map(|cell| &cell.outcome) {
                        Some(Outcome::Passed(_)) => "yes",
                        Some(Outcome::Failed(_)) => "**no**",
                        Some(Outcome::Lacking(who, _)) if *who == OURS.name => "ours lacks it",
                        Some(Outcome::Lacking(..)) => "n/a",
                        None => "",
                    };
                    text += &format!(" {sign} |");
                }
            }
        }
        text + "\n"
    }

    /// What failed and what was not tried, with the reasons; each reason once.
    pub fn remarks(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for cell in &self.cells {
            let line = match &cell.outcome {
                Outcome::Passed(_) => continue,
                Outcome::Failed(why) => {
                    format!(
                        "failed: {} with {} (we are the {}): {why}",
                        cell.case.name,
                        cell.stack.name,
                        word(cell.ours)
                    )
                }
                Outcome::Lacking(who, why) => format!("not tried: {}: {who}: {why}", cell.case.name),
            };
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        lines.join("\n")
    }

    /// Everything, for machines.
    pub fn json(&self) -> Value {
        let cell = |cell: &Cell| {
            let (result, text) = match &cell.outcome {
                Outcome::Passed(shown) => ("passed", shown.clone()),
                Outcome::Failed(why) => ("failed", why.clone()),
                Outcome::Lacking(who, why) => ("not supported", format!("{who}: {why}")),
            };
            let (case, peer) = (cell.case.name, cell.stack.name);
            json!({"case": case, "peer": peer, "our_role": word(cell.ours), "result": result, "text": text})
        };
        let versions: serde_json::Map<String, Value> =
            self.stacks.iter().chain([&&OURS]).map(|stack| (stack.name.to_owned(), stack.version().into())).collect();
        let io = self.xdp.map(|xdp| if xdp { "xdp" } else { "sockets" });
        json!({"quick": self.quick, "our_io": io[0], "peer_io": io[1], "versions": versions, "cells": self.cells.iter().map(cell).collect::<Vec<_>>()})
    }
}
