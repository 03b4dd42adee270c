//! What else the program can be besides a command line is told by its first word alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::process::{Command, Stdio};

/// Status, standard output and standard error.
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_barque"))
        .args(args)
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("DOCKER_HOST", "unix:///nonexistent")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (done.status.code(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
}

#[test]
fn a_role_after_a_flag_is_an_error_that_says_so() {
    for (args, cure) in [
        (&["-D", "daemon"][..], "put daemon first: barque daemon [OPTIONS]"),
        (&["-D", "daemon", "--data-root", "/nonexistent"], "put daemon first: barque daemon [OPTIONS]"),
        (&["-H", "unix:///x", "doctor"], "put doctor first: barque doctor [OPTIONS]"),
        (&["-D", "registry", "serve"], "put registry first: barque registry serve [OPTIONS]"),
    ] {
        let (status, out, err) = run(args);
        assert_eq!((status, out.as_str()), (Some(125), ""), "{args:?}: {err}");
        assert!(err.contains(cure), "{args:?}: {err}");
    }
}

#[test]
fn words_that_no_role_has_are_errors() {
    let (status, out, err) = run(&["registry", "sevre"]);
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("barque: unknown command: barque registry sevre\n"), "{err}");
    let (status, _, err) = run(&["runtime", "create"]);
    assert_eq!((status, err.as_str()), (Some(125), "barque: not implemented yet: barque runtime\n"));
}

#[test]
fn an_error_that_nobody_reads_is_no_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut program = Command::new(env!("CARGO_BIN_EXE_barque"));
    program.args(["daemon", "--no-such-option"]).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    assert_eq!(program.stderr(writer).status().unwrap().code(), Some(1));
}

#[test]
fn each_role_has_its_help() {
    for args in [
        &["daemon", "--help"][..],
        &["-D", "daemon", "--help"],
        &["registry"],
        &["registry", "--help"],
        &["registry", "serve", "--help"],
        &["runtime", "--help"],
        &["doctor", "--help"],
        &["help", "daemon"],
    ] {
        let (status, out, err) = run(args);
        assert_eq!((status, err.as_str()), (Some(0), ""), "{args:?}");
        assert!(out.trim_start().starts_with("Usage:"), "{args:?}: {out}");
    }
}

#[test]
fn an_engine_that_is_named_and_silent_has_a_cure() {
    let (status, _, err) = run(&["ps"]);
    let mut lines = err.lines();
    let first = "Cannot connect to the Docker daemon at unix:///nonexistent. Is the docker daemon running?";
    assert_eq!((status, lines.next()), (Some(1), Some(first)));
    assert!(err.contains("\n\nhint: DOCKER_HOST names that engine: start it"), "{err}");
    let (_, _, err) = run(&["-H", "unix:///nonexistent/other", "ps"]);
    assert!(err.contains("hint: -H names that engine"), "{err}");
}

#[test]
fn a_file_that_is_no_context_is_not_echoed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "top secret ".repeat(100)).unwrap();
    let config = dir.path().display().to_string();
    let (status, _, err) = run(&["--config", &config, "context", "import", "copy", file.to_str().unwrap()]);
    assert_eq!(status, Some(1));
    assert!(err.starts_with("invalid context: ") && err.contains("hint: ") && !err.contains("top secret"), "{err}");
}
