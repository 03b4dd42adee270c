//! Completion in real shells, and manual pages read by `man`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "../../barque-registry/tests/common/tools.rs"]
mod tools;

use std::path::Path;
use std::process::Command;

const BARQUE: &str = env!("CARGO_BIN_EXE_barque");

/// A shell with the program on its path and no engine in reach; `None` if it is not installed.
fn shell(name: &str, args: &[&str], script: &str) -> Option<String> {
    let path = ["/usr/bin", "/bin"].iter().map(|d| Path::new(d).join(name)).find(|p| p.exists());
    let Some(path) = path else {
        tools::installed(name);
        return None;
    };
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(BARQUE, home.path().join("barque")).unwrap();
    let done = Command::new(path)
        .args(args)
        .arg(script)
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", home.path().display()))
        .env("HOME", home.path())
        .env("DOCKER_HOST", format!("unix://{}/none", home.path().display()))
        .env("TERM", "dumb")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{name}: {error}");
    Some(String::from_utf8(done.stdout).unwrap())
}

#[test]
fn bash_completes_commands_and_flags() {
    let script = r#"source <(barque completion bash)
        try() { COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _barque_complete 2>/dev/null; echo "${COMPREPLY[*]}"; }
        try barque vol; try barque volume pr; try barque run --inter; try barque compose conv; try barque -D ima
        printf 'services: {shop: {image: a}, store: {image: b}, web: {image: c}}' > "$HOME/compose.yaml"
        try barque compose -f "$HOME/compose.yaml" logs s"#;
    let Some(out) = shell("bash", &["--norc", "-c"], script) else { return };
    assert_eq!(out, "volume\nprune\n--interactive\nconvert\nimages image\nshop store\n");
}

#[test]
fn options_of_the_roles_are_completed() {
    for (words, wanted) in [
        (&["doctor", "--no"][..], "--no-registry"),
        (&["daemon", "--data-r"], "--data-root"),
        (&["registry", "serve", "--lis"], "--listen"),
    ] {
        let done = Command::new(BARQUE).arg("__complete").args(words).output().unwrap();
        let out = String::from_utf8(done.stdout).unwrap();
        assert_eq!(out.split_whitespace().next(), Some(wanted), "{words:?}: {out}");
    }
}

#[test]
fn zsh_and_fish_take_their_scripts() {
    if let Some(out) = shell(
        "zsh",
        &["-f", "-c"],
        "autoload -U compinit; compinit -D -u; source <(barque completion zsh); print $_comps[barque]",
    ) {
        assert_eq!(out, "_barque_complete\n");
    }
    if let Some(out) =
        shell("fish", &["--no-config", "-c"], "barque completion fish | source; complete -C 'barque volume pr'")
    {
        assert!(out.starts_with("prune\t"), "{out}");
    }
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    let done = Command::new(BARQUE).args(["man", pages.to_str().unwrap()]).env_clear().output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let names: Vec<String> =
        std::fs::read_dir(&pages).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    for name in ["barque.1", "barque-run.1", "barque-volume-prune.1", "barque-compose.1", "barque-compose-up.1"] {
        assert!(names.contains(&name.to_owned()), "no {name}");
    }
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap();
    for name in &names {
        let text = page(name);
        for section in [".TH ", ".SH NAME\n", ".SH SYNOPSIS\n"] {
            assert!(text.contains(section), "{name} has no {section:?}: {text}");
        }
        // Whatever takes options lists them. Docker's usage of this command names some that it has not.
        let none = text.contains("SH SUBCOMMANDS") || name == "barque-context-export.1";
        let options = text.contains(" [OPTIONS]") && !none;
        assert!(
            !options || text.contains("ot implemented yet") || text.contains(".SH OPTIONS\n"),
            "{name} has no options: {text}"
        );
    }
    for (name, option) in [
        ("barque-daemon.1", "\\-\\-data\\-root"),
        ("barque-registry.1", "\\-\\-mirror\\-of"),
        ("barque-doctor.1", "\\-\\-no\\-registry"),
    ] {
        assert!(page(name).contains(option), "{name}: {}", page(name));
    }
    let run = page("barque-run.1");
    assert!(run.contains(".TH") && run.contains("\\-\\-publish"), "{run}");
    assert!(run.contains("\\fBbarque run\\fR [OPTIONS] IMAGE [COMMAND] [ARG...]"), "{run}");
}
