//! Where settings come from besides the command line: environment variables and a TOML file.
//!
//! Every `--flag` can be set by `WARPLINE_FLAG` and by `flag = value` in the file. A key at the top of the file is for
//! all commands that have the flag; one in a table such as `[host]` or `[perf.server]` is for that command. The command
//! line comes before the environment, the environment before the file. What no command has is an error.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use toml::{Table, Value};

/// The flag and the variable that name the file.
const FLAG: &str = "config";
const VARIABLE: &str = "WARPLINE_CONFIG";

/// What the names of all variables begin with.
const PREFIX: &str = "WARPLINE_";
/// Variables that are no flag's: the log's, and those of the project's tests, which may be set while they run the command.
const OTHERS: [&str; 2] = ["WARPLINE_LOG", "WARPLINE_SOAK_SECONDS"];
const TESTS: &str = "WARPLINE_TEST_";
/// How alike (Jaro) the name of a variable is to the one that it is taken for: what clap asks of flags and values.
const ALIKE_MIN: f64 = 0.7;

/// `command` with what environment and file give.
///
/// # Errors
/// The file cannot be read or is not TOML, or the file or the environment has a setting that no command has; the text
/// says which.
pub fn apply(command: Command, args: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let command = with_variables(command);
    check_variables(&command, std::env::vars_os().map(|(name, _)| name))?;
    let named = named(args).or_else(|| std::env::var_os(VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from));
    let Some(path) = named.or_else(|| usual_places().into_iter().find(|path| path.exists())) else {
        return Ok(command);
    };
    let at = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let text = std::fs::read_to_string(&path).map_err(|error| at(&error))?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| at(&error))?;
    with_table(command, &table).map_err(|error| at(&error))
}

/// Where a file is looked for when none is named.
fn usual_places() -> Vec<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    home.map(|home| home.join("warpline/config.toml"))
        .into_iter()
        .chain([Path::new("/etc/warpline.toml").into()])
        .collect()
}

/// The file that the command line names. It has to be known before the command line can be understood.
fn named(mut args: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--") => return None,
            Some("--config") => return args.next().map(PathBuf::from),
            Some(arg) => {
                if let Some(path) = arg.strip_prefix("--config=") {
                    return Some(path.into());
                }
            }
            None => {}
        }
    }
    None
}

fn is_setting(arg: &Arg) -> bool {
    arg.get_long().is_some_and(|long| !matches!(long, "help" | "version") && long != FLAG)
}

fn with_variables(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_long() {
        Some(long) if is_setting(&arg) => {
            let variable = format!("{PREFIX}{}", long.to_uppercase().replace('-', "_"));
            arg.env(variable).hide_env(true)
        }
        _ => arg,
    });
    command.mut_subcommands(with_variables)
}

/// Refuses the first variable, by name, that only looks like a setting.
fn check_variables(command: &Command, set: impl Iterator<Item = OsString>) -> Result<(), String> {
    let mut known: BTreeSet<String> = OTHERS.map(str::to_owned).into();
    collect_variables(command, &mut known);
    let ours = set.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.starts_with(PREFIX));
    let Some(unknown) = ours.filter(|name| !name.starts_with(TESTS) && !known.contains(name)).min() else {
        return Ok(());
    };
    let likeness = |name: &String| strsim::jaro(&name[PREFIX.len()..], &unknown[PREFIX.len()..]);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let hint = nearest.filter(|name| likeness(name) > ALIKE_MIN).map(|name| format!("; did you mean {name}?"));
    Err(format!("the variable {unknown} is no setting of any command{}", hint.unwrap_or_default()))
}

/// The variables of `command` and of all below it.
fn collect_variables(command: &Command, known: &mut BTreeSet<String>) {
    known.extend(command.get_arguments().filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned())));
    command.get_subcommands().for_each(|sub| collect_variables(sub, known));
}

fn with_table(mut command: Command, table: &Table) -> Result<Command, String> {
    for (key, value) in table {
        if let Value::Table(inner) = value {
            let sub = command.find_subcommand(key).cloned().ok_or_else(|| format!("[{key}] is no command"))?;
            let sub = with_table(sub, inner).map_err(|error| format!("[{key}]: {error}"))?;
            command = command.mut_subcommand(key, |_| sub);
            continue;
        }
        let values = texts(key, value)?;
        let found;
        (command, found) = with_value(command, key, &values);
        if !found {
            return Err(format!("`{key}` is no setting here"));
        }
    }
    Ok(command)
}

/// The values as they would stand on the command line.
fn texts(key: &str, value: &Value) -> Result<Vec<String>, String> {
    Ok(match value {
        Value::String(text) => vec![text.clone()],
        Value::Integer(number) => vec![number.to_string()],
        Value::Float(number) => vec![number.to_string()],
        Value::Boolean(yes) => vec![yes.to_string()],
        Value::Array(values) => {
            let nested: Result<Vec<_>, _> = values.iter().map(|value| texts(key, value)).collect();
            nested?.concat()
        }
        Value::Datetime(_) | Value::Table(_) => return Err(format!("`{key}` takes no such value")),
    })
}

/// Gives the flag `key` of `command` and of all below it the default `values`; whether there was any.
fn with_value(command: Command, key: &str, values: &[String]) -> (Command, bool) {
    let is_it = |arg: &Arg| is_setting(arg) && arg.get_long() == Some(key.replace('_', "-").as_str());
    let mut found = command.get_arguments().any(is_it);
    let command = command.mut_args(|arg| if is_it(&arg) { arg.default_values(values.to_vec()) } else { arg });
    let command = command.mut_subcommands(|sub| {
        let (sub, there) = with_value(sub, key, values);
        found |= there;
        sub
    });
    (command, found)
}

#[cfg(test)]
mod tests {
    use clap::{ArgAction, value_parser};

    use super::*;

    fn command() -> Command {
        let io = || Arg::new("io").long("io").default_value("auto");
        let port = Arg::new("port").long("busy-poll").value_parser(value_parser!(u16)).default_value("0");
        let json = Arg::new("json").long("json").action(ArgAction::SetTrue);
        let server = Command::new("server").arg(io()).arg(port);
        Command::new("warpline")
            .subcommand(Command::new("host").arg(io()).arg(json))
            .subcommand(Command::new("perf").subcommand(server))
    }

    fn with(file: &str) -> Result<Command, String> {
        with_table(command(), &file.parse().expect("the test's TOML"))
    }

    #[test]
    fn a_key_is_for_every_command_that_has_it_and_the_command_line_comes_first() {
        let matches = with("io = \"udp\"\njson = true").expect("both are known").get_matches_from(["warpline", "host"]);
        let (_, host) = matches.subcommand().expect("host");
        assert_eq!(host.get_one::<String>("io").map(String::as_str), Some("udp"));
        assert!(host.get_flag("json"));
        let matches = with("io = \"udp\"").expect("known").get_matches_from(["warpline", "host", "--io", "xdp"]);
        let (_, host) = matches.subcommand().expect("host");
        assert_eq!(host.get_one::<String>("io").map(String::as_str), Some("xdp"));
    }

    #[test]
    fn a_table_is_for_its_command() {
        let command = with("[perf.server]\nio = \"uring\"\nbusy_poll = 64").expect("both are known");
        let matches = command.clone().get_matches_from(["warpline", "perf", "server"]);
        let (_, perf) = matches.subcommand().expect("perf");
        let (_, server) = perf.subcommand().expect("server");
        assert_eq!(server.get_one::<String>("io").map(String::as_str), Some("uring"));
        assert_eq!(server.get_one::<u16>("port"), Some(&64));
        let matches = command.get_matches_from(["warpline", "host"]);
        let (_, host) = matches.subcommand().expect("host");
        assert_eq!(host.get_one::<String>("io").map(String::as_str), Some("auto"));
    }

    #[test]
    fn what_nobody_has_is_refused() {
        for (file, what) in
            [("oi = 1", "`oi`"), ("[hots]\nio = \"udp\"", "[hots]"), ("[host]\nbusy-poll = 1", "[host]")]
        {
            let error = with(file).expect_err(file);
            assert!(error.contains(what), "{error}");
        }
        let error = with("[perf.server]\nbusy_poll = \"much\"").expect("the type is the flag's business");
        error.try_get_matches_from(["warpline", "perf", "server"]).expect_err("not a number");
    }

    #[test]
    fn a_variable_that_no_command_has_is_refused() {
        let check = |names: &[&str]| check_variables(&with_variables(command()), names.iter().map(OsString::from));
        let known =
            ["WARPLINE_IO", "WARPLINE_BUSY_POLL", "WARPLINE_LOG", "WARPLINE_TEST_KILL", "PATH", "MY_WARPLINE_X"];
        assert_eq!(check(&known), Ok(()));
        let refused = |names: &[&str]| check(names).expect_err("there is no such setting");
        let near = refused(&["WARPLINE_IO", "WARPLINE_BUSYPOLL"]);
        assert!(near.contains("WARPLINE_BUSYPOLL ") && near.contains("WARPLINE_BUSY_POLL?"), "{near}");
        let far = refused(&["WARPLINE_QQQ"]);
        assert!(far.contains("WARPLINE_QQQ ") && !far.contains("did you mean"), "{far}");
        // What every command has is no setting.
        refused(&["WARPLINE_HELP"]);
    }

    #[test]
    fn the_file_may_be_named_before_or_after_the_command() {
        let args = |line: &str| named(line.split(' ').map(OsString::from));
        assert_eq!(args("host --config a.toml x"), Some("a.toml".into()));
        assert_eq!(args("--config=b.toml host x"), Some("b.toml".into()));
        assert_eq!(args("host -- --config c.toml"), None);
    }
}
