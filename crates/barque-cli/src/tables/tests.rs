//! The tables beside a list of what the reference client has.

use super::ROOT;
use crate::cmdline::Cmd;

/// Made from the help of the client; facts alone.
const DOCKER: &str = include_str!("../../tests/docker-28-flags.txt");

/// Flags whose values are read in another way than the classic builder's: as Buildx does.
const BUILDX: [&str; 1] = ["cache-from"];

fn find(path: &str) -> Option<&'static Cmd> {
    let mut words = path.split(' ').filter(|word| *word != "docker");
    words.try_fold(&ROOT, |cmd, word| cmd.find(word))
}

/// What is wrong with our flag, if anything; `wanted` is `-f,--filter=filter`.
fn judge(cmd: &Cmd, wanted: &str) -> Option<String> {
    let (shown, wanted) = wanted.strip_prefix('~').map_or((true, wanted), |rest| (false, rest));
    let (letter, long) = wanted.split_once(',').unwrap_or(("", wanted));
    let (name, kind) = long.trim_start_matches("--").split_once('=').unwrap_or((long.trim_start_matches("--"), ""));
    let Some(ours) = cmd.all_flags().find(|f| f.name == name) else { return Some(format!("{name} is missing")) };
    if shown == ours.hidden {
        return Some(format!("{name} is hidden: {}", ours.hidden));
    }
    if !shown {
        return None;
    }
    if ours.letter != letter.chars().nth(1).unwrap_or('\0') {
        return Some(format!("{name} has the letter {:?}, not {letter}", ours.letter));
    }
    let type_name = ours.kind.type_name();
    (type_name != kind && !BUILDX.contains(&name)).then(|| format!("{name} is {type_name:?}, not {kind:?}"))
}

#[test]
fn all_commands_and_flags_of_docker_are_known() {
    let mut faults = Vec::new();
    let (mut commands, mut flags, mut unbuilt) = (0, 0, 0);
    for line in DOCKER.lines().filter(|line| !line.starts_with('#')) {
        let (path, wanted) = line.split_once(':').unwrap_or((line, ""));
        commands += 1;
        let Some(cmd) = find(path) else {
            faults.push(format!("{path} is missing"));
            continue;
        };
        if cmd.raw {
            // It takes every flag and says that it is not built.
            unbuilt += 1;
            continue;
        }
        flags += wanted.split_whitespace().count();
        faults.extend(wanted.split_whitespace().filter_map(|w| judge(cmd, w)).map(|why| format!("{path}: {why}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(commands > 210 && flags > 800, "the list was cut: {commands} commands, {flags} flags");
    assert!(unbuilt <= 80, "{unbuilt} names of commands are not built: there were 80");
}

#[test]
fn letters_and_names_are_unique() {
    fn check(cmd: &'static Cmd, path: &str) {
        let mut seen = std::collections::BTreeSet::new();
        for flag in cmd.all_flags() {
            assert!(seen.insert(flag.name.to_owned()), "{path}: --{} twice", flag.name);
            assert!(flag.letter == '\0' || seen.insert(format!("-{}", flag.letter)), "{path}: -{} twice", flag.letter);
        }
        let mut names = std::collections::BTreeSet::new();
        for sub in cmd.subs {
            for name in sub.aliases.iter().chain([&sub.name]) {
                assert!(names.insert(name), "{path} {name} twice");
            }
            check(sub, &format!("{path} {}", sub.name));
        }
    }
    check(&ROOT, "docker");
}
