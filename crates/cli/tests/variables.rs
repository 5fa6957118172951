//! Settings by variables of the environment.

use std::process::{Command, Output};

fn completions(variable: &str, value: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warpline"));
    command.args(["completions", "bash"]).env(variable, value).output().expect("it starts")
}

#[test]
fn a_variable_that_no_command_has_is_wrong_usage() {
    let refused = completions("WARPLINE_XDP_QUEUE", "0");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("WARPLINE_XDP_QUEUE ") && said.contains("WARPLINE_XDP_QUEUES?"), "{said}");
}

#[test]
fn the_variables_of_other_commands_of_the_log_and_of_the_tests_are_none_of_its_business() {
    for (variable, value) in [
        ("WARPLINE_XDP_QUEUES", "0"),
        ("WARPLINE_LOG", "info"),
        ("WARPLINE_SOAK_SECONDS", "9"),
        ("WARPLINE_TEST_X", ""),
    ] {
        let output = completions(variable, value);
        assert!(output.status.success(), "{variable}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
