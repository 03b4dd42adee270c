//! The course in `docs/course`: every command of it is run, in both languages, and its output compared.
//!
//! In a block ```` ```console ```` a line after `$ ` is a command, lines after `> ` go on with it, the rest is what it
//! prints, standard error included. `…` stands for any text; alone on a line, for any number of lines.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use std::path::{Path, PathBuf};

use common::{Machine, missing};

/// One command and what it prints.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// File and line, for messages.
    place: String,
    command: String,
    output: Vec<String>,
}

fn course(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/course").join(language)
}

fn pages(language: &str) -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = std::fs::read_dir(course(language)).unwrap().map(|e| e.unwrap().path()).collect();
    pages.sort();
    pages
}

/// The steps of a page; a block of shell that is not `console` would escape the test, so there may be none.
fn steps(name: &str, text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", number + 1);
        match line {
            "```console" if !inside => inside = true,
            "```" if inside => inside = false,
            _ if line.starts_with("```") => panic!("{place}: only console blocks may be in the course"),
            _ if !inside => {}
            _ => match (line.strip_prefix("$ "), line.strip_prefix("> "), steps.last_mut()) {
                (Some(command), ..) => steps.push(Step { place, command: command.to_owned(), output: Vec::new() }),
                (None, Some(more), Some(step)) if step.output.is_empty() => {
                    step.command.push('\n');
                    step.command.push_str(more);
                }
                (_, _, Some(step)) => step.output.push(line.to_owned()),
                (_, _, None) => panic!("{place}: output before the first command"),
            },
        }
    }
    steps
}

/// Whether a line is as expected; `…` stands for any text.
fn line_matches(expected: &str, actual: &str) -> bool {
    let parts: Vec<&str> = expected.split('…').collect();
    let [first, middle @ .., last] = parts.as_slice() else { return expected == actual };
    let Some(mut rest) = actual.strip_prefix(first) else { return false };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

fn matches(expected: &[String], actual: &[&str]) -> bool {
    match (expected, actual) {
        ([], []) => true,
        ([wild, rest @ ..], _) if wild == "…" => (0..=actual.len()).any(|skip| matches(rest, &actual[skip..])),
        ([line, rest @ ..], [found, others @ ..]) => line_matches(line, found) && matches(rest, others),
        _ => false,
    }
}

/// Whether the output says by itself that the command did what the course promises; else its status has to.
fn tells(expected: &[String]) -> bool {
    expected.iter().any(|line| line.split('…').any(|part| !part.trim().is_empty()))
}

/// Runs a step in the directory the last one left, and notes where it ended.
fn run(machine: &Machine, step: &Step) -> Result<(), String> {
    let script = format!(
        "cd \"$(cat \"$HOME/.where\")\"\n{{\n{}\n}} 2>&1\nstatus=$?\npwd > \"$HOME/.where\"\nexit $status",
        step.command
    );
    let done = machine.command("bash", &["-c", &script]).env("TERM", "dumb").output().unwrap();
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
    let expected: Vec<String> = step.output.iter().map(|l| l.trim_end().to_owned()).collect();
    if matches(&expected, &lines) {
        return match done.status.success() || tells(&expected) {
            true => Ok(()),
            false => Err(format!("{}: {}\n--- {}\n{printed}", step.place, step.command, done.status)),
        };
    }
    Err(format!("{}: {}\n--- expected\n{}\n--- printed\n{printed}", step.place, step.command, expected.join("\n")))
}

fn play(language: &str) {
    if let Some(why) = missing(&["busybox", "curl", "bash"]) {
        return println!("skipped: {why}");
    }
    let machine = Machine::start(&[]);
    std::fs::create_dir(machine.path("work")).unwrap();
    std::fs::write(machine.path(".where"), machine.text("work")).unwrap();
    let mut faults = Vec::new();
    let mut count = 0;
    for page in pages(language) {
        let name = format!("{language}/{}", page.file_name().unwrap().display());
        for step in steps(&name, &std::fs::read_to_string(&page).unwrap()) {
            count += 1;
            faults.extend(run(&machine, &step).err());
        }
    }
    println!("{language}: {count} commands, {} with another output", faults.len());
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    assert!(count > 50, "only {count} commands were found");
}

#[test]
fn the_course_in_english() {
    play("en");
}

#[test]
fn the_course_in_russian() {
    play("ru");
}

#[test]
fn both_languages_teach_the_same() {
    let all = |language: &str| -> Vec<(String, Vec<(String, Vec<String>)>)> {
        pages(language)
            .iter()
            .map(|page| {
                let name = page.file_name().unwrap().to_string_lossy().into_owned();
                let found = steps(&name, &std::fs::read_to_string(page).unwrap());
                (name, found.into_iter().map(|s| (s.command, s.output)).collect())
            })
            .collect()
    };
    assert_eq!(all("en"), all("ru"));
}

#[test]
fn placeholders_stand_for_text_and_lines() {
    let expected = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(matches(&expected("a … c\n…\nend"), &["a bb c", "x", "y", "end"]));
    assert!(matches(&expected("…\nend"), &["end"]));
    assert!(!matches(&expected("a … c"), &["a bb d"]));
    assert!(!matches(&expected("a"), &["a", "b"]));
    assert!(!line_matches("a…a", "a"));
    assert!(line_matches("…port… 8081…", "the port 8081 is free"));
}

#[test]
fn output_of_placeholders_alone_tells_nothing() {
    let expected = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(!tells(&expected("")));
    assert!(!tells(&expected("…\n… …")));
    assert!(tells(&expected("…\nstatus 2")));
}

#[test]
fn pages_are_read_into_steps() {
    let text = "words\n```console\n$ cat > x <<'END'\n> body\n> END\n$ cat x\nbody\n```\n";
    let found = steps("p", text);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].command, "cat > x <<'END'\nbody\nEND");
    assert_eq!((found[1].command.as_str(), found[1].output.as_slice()), ("cat x", &["body".to_owned()][..]));
}
