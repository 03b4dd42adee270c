//! What `docs/coming-from-docker.md` says of commands and options is what the program says: what it names as there is in
//! the help, and what it names as missing answers `not implemented yet`, with exit status 125.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// Status and everything that was written, without an engine within reach.
fn run(dir: &Path, words: &[&str]) -> (Option<i32>, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_barque"))
        .args(words)
        .current_dir(dir)
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("DOCKER_HOST", "unix:///nonexistent")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (done.status.code(), format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)))
}

/// The text between a heading and the next.
fn section(heading: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/coming-from-docker.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    rest.split("\n## ").next().unwrap().to_owned()
}

/// The pieces of code in a text, in groups that `;` or the end of a cell parts. In a group the first piece's first word
/// holds for those after it: `volume export`, `import` are two commands of `volume`.
fn groups(text: &str) -> Vec<Vec<String>> {
    let mut out = Vec::new();
    for group in text.split([';', '\n']).flat_map(|line| line.split(" | ")) {
        let mut prefix = None;
        let mut pieces = Vec::new();
        for piece in group.split('`').skip(1).step_by(2) {
            let prefixed = match &prefix {
                Some(prefix) if !piece.contains(' ') => format!("{prefix} {piece}"),
                _ => piece.to_owned(),
            };
            if prefix.is_none() {
                prefix =
                    Some(piece.split_once(' ').filter(|_| pieces.is_empty()).map_or(String::new(), |p| p.0.into()));
            }
            pieces.push(prefixed.trim().trim_start_matches("barque ").to_owned());
        }
        if !pieces.is_empty() {
            out.push(pieces);
        }
    }
    out
}

/// The commands a help lists.
fn commands(help: &str) -> Vec<String> {
    let rows = help.lines().skip_while(|l| !l.contains("Commands:"));
    let words = rows.filter(|l| l.starts_with("  ") && !l.starts_with("   "));
    words.filter_map(|l| l.split_whitespace().next()).map(|w| w.trim_end_matches('*').to_owned()).collect()
}

#[test]
fn missing_commands_say_so_and_stand_in_the_help() {
    let dir = tempfile::tempdir().unwrap();
    let text = section("Missing");
    let bullets: String = text.lines().filter(|l| l.starts_with("- ")).collect::<Vec<_>>().join("\n");
    let named: Vec<String> = groups(&bullets).concat();
    assert!(named.len() > 15, "{named:?}");
    let (_, top) = run(dir.path(), &["--help"]);
    for command in named {
        let words: Vec<&str> = command.split(' ').collect();
        assert!(commands(&top).iter().any(|c| c == words[0]), "{command} is not in the help");
        answer_not_implemented(dir.path(), &words);
    }
}

/// The command, or each one below it, is in the help and not implemented.
fn answer_not_implemented(dir: &Path, words: &[&str]) {
    let (status, help) = run(dir, &[words, &["--help"]].concat());
    assert_eq!(status, Some(0), "{words:?} --help: {help}");
    let below = commands(&help);
    for command in &below {
        answer_not_implemented(dir, &[words, &[command.as_str()]].concat());
    }
    if below.is_empty() {
        let (status, answer) = run(dir, &[words, &["x"]].concat());
        assert!(status == Some(125) && answer.contains("not implemented yet: "), "{words:?}: {status:?} {answer}");
    }
}

/// Missing options that need no engine to be refused: area → piece of code → words that ask for it.
const ASKED: &[(&str, &str, &[&str])] = &[
    ("build", "--annotation", &["build", "--annotation", "a=b", "."]),
    ("build", "--call", &["build", "--call", "outline", "."]),
    ("build", "check", &[]),
    ("build", "--squash", &[]),
    ("build", "--sbom", &["build", "--sbom", "true", "."]),
    ("build", "--provenance", &["build", "--provenance", "true", "."]),
    ("build", "--ssh", &[]),
    ("images", "--disable-content-trust=false", &["pull", "--disable-content-trust=false", "x"]),
    ("images", "DOCKER_CONTENT_TRUST=1", &[]),
    ("Compose", "models", &[]),
    ("Compose", "include", &[]),
    ("Compose", "publish", &["compose", "publish", "x"]),
    ("Compose", "bridge", &["compose", "bridge", "convert"]),
    ("daemon", "userns-remap", &["daemon", "--userns-remap", "default"]),
    ("daemon", "rootless", &["daemon", "--rootless"]),
    ("daemon", "selinux-enabled", &["daemon", "--selinux-enabled"]),
    ("daemon", "authorization-plugins", &["daemon", "--authorization-plugin", "x"]),
    ("daemon", "metrics-addr", &["daemon", "--metrics-addr", "127.0.0.1:1"]),
    ("daemon", "cdi-spec-dirs", &["daemon", "--cdi-spec-dir", "/x"]),
    ("daemon", "bip6", &["daemon", "--bip6", "fd00::1/64"]),
    ("daemon", "default-gateway-v6", &["daemon", "--default-gateway-v6", "fd00::2"]),
    ("daemon", "default-network-opts", &["daemon", "--default-network-opt", "bridge=a=b"]),
    ("daemon", "default-stop-timeout", &["daemon", "--default-stop-timeout", "3"]),
    ("daemon", "resolv-conf", &["daemon", "--resolv-conf", "/x"]),
    ("daemon", "api-cors-header", &["daemon", "--api-cors-header", "x"]),
    ("daemon", "allow-direct-routing", &["daemon", "--allow-direct-routing"]),
    ("daemon", "bridge-accept-fwmark", &["daemon", "--bridge-accept-fwmark", "1"]),
    ("daemon", "log-format json", &["daemon", "--log-format", "json"]),
    ("daemon", "iptables", &["daemon", "--firewall-backend", "iptables"]),
];

#[test]
fn missing_options_say_so() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    let text = section("Missing");
    let rows: BTreeMap<&str, &str> =
        text.lines().filter_map(|l| l.strip_prefix("| ")?.trim_end_matches(" |").split_once(" | ")).collect();
    for area in ["build", "images", "Compose", "daemon"] {
        let named: Vec<&str> = rows[area].split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "{area}");
        for piece in named {
            let known = ASKED.iter().find(|(of, name, _)| (*of, *name) == (area, piece));
            let (_, _, words) = known.unwrap_or_else(|| panic!("{area}: {piece} has no row in ASKED"));
            if words.is_empty() {
                continue; // said in other tests: it is there, or what is asked for needs an engine
            }
            let place = dir.path().join("data").display().to_string();
            let words = match words[0] {
                "daemon" => words.iter().copied().chain(["--validate", "--data-root", &place]).collect(),
                _ => words.to_vec(),
            };
            let (status, answer) = run(dir.path(), &words);
            assert!(status == Some(125) && answer.contains("not implemented yet: "), "{words:?}: {status:?} {answer}");
        }
    }
}

#[test]
fn commands_that_are_promised_are_in_the_help() {
    let dir = tempfile::tempdir().unwrap();
    let (_, top) = run(dir.path(), &["--help"]);
    let known = commands(&top);
    let mut seen = 0;
    for command in ["The same", "Better"].iter().flat_map(|s| groups(&section(s))).flatten() {
        let words: Vec<&str> = command.split(' ').take_while(|w| !w.starts_with('-')).collect();
        if !words.first().is_some_and(|w| known.iter().any(|k| k == w)) {
            continue;
        }
        let (status, help) = run(dir.path(), &[&words[..], &["--help"]].concat());
        assert!(status == Some(0) && help.contains("Usage:"), "{command}: {status:?} {help}");
        for flag in command.split(' ').filter(|w| w.starts_with('-')) {
            assert!(help.contains(flag), "{command}: {flag} is not in its help");
        }
        seen += 1;
    }
    assert!(seen > 15, "only {seen} commands were found in the text");
}
