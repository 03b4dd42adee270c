//! `barque doctor`: looks at everything an engine needs on this machine and says in plain words what is wrong and
//! how to mend it. Nothing is changed.
//!
//! Each area gathers facts and hands them to a pure judgement, so that the sentences are tested without breaking a
//! machine.

mod engine;
mod kernel;
mod network;
mod registry;
mod storage;

use std::fmt::Write as _;
use std::path::PathBuf;

use barque_daemon::config::{Flags, Settings, Values, merge};
use barque_model::{Error, Result};

const HELP: &str = "\
Usage:  barque doctor [OPTIONS]

Check this machine and explain what is missing: kernel, cgroups, storage, disk, network, firewall, the engine and its
configuration, registry access. Nothing is changed. Exit status 1 if something must be mended.
Where -H, DOCKER_HOST or the current context names an engine, that one is asked; if it runs on another machine, this
machine is not checked.

Options:
  -c, --context string       The context whose engine to ask
      --config-file string   The engine's configuration file (default \"/etc/barque/daemon.json\")
      --data-root string     The engine's data directory (default \"/var/lib/barque\")
      --format string        Output format: text or json (default \"text\")
  -H, --host list            Address of the engine (default unix:///run/barque/barque.sock)
      --no-registry          Do not ask any registry
  -q, --quiet                Only what is wrong

The engine's own options (barque daemon --help) are taken too, to check a machine for a certain configuration.
";

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ok,
    /// Works, but something will be missed.
    Warning,
    /// Must be mended.
    Fault,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Fault => "fault",
        }
    }
}

/// One sentence about this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    area: &'static str,
    text: String,
    /// What to do about it; empty where all is well.
    cure: String,
}

impl Finding {
    fn ok(area: &'static str, text: impl Into<String>) -> Finding {
        Finding { level: Level::Ok, area, text: text.into(), cure: String::new() }
    }

    fn warning(area: &'static str, text: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding { level: Level::Warning, area, text: text.into(), cure: cure.into() }
    }

    fn fault(area: &'static str, text: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding { level: Level::Fault, area, text: text.into(), cure: cure.into() }
    }
}

/// What the user asked for.
#[derive(Debug, Default)]
struct Options {
    json: bool,
    quiet: bool,
    no_registry: bool,
    /// The engine to ask.
    host: Option<String>,
    context: Option<String>,
    /// The rest: options of the engine.
    daemon: Vec<String>,
}

/// Runs the checks; the exit status.
pub fn run(words: &[String]) -> Result<u8> {
    let Some(options) = parse(words)? else {
        crate::say(HELP.trim_end());
        return Ok(0);
    };
    let flags = Flags::parse(&options.daemon)?;
    let (settings, mut findings) = match crate::daemon::settings(&flags) {
        Ok(settings) => (settings, Vec::new()),
        Err(e) => {
            let cure = e.hint().unwrap_or("correct the file; `barque daemon --validate` checks it").to_owned();
            let fault = Finding::fault("Configuration", e.chain().to_string(), cure);
            (merge(&Values::default(), None, &crate::daemon::defaults())?, vec![fault])
        }
    };
    findings.extend(all(&settings, &options));
    let worst = findings.iter().map(|f| f.level).max().unwrap_or(Level::Ok);
    if options.quiet {
        findings.retain(|f| f.level > Level::Ok);
    }
    crate::say(if options.json { json(&findings) } else { text(&findings) }.trim_end());
    Ok(u8::from(worst == Level::Fault))
}

fn all(settings: &Settings, options: &Options) -> Vec<Finding> {
    let named = barque_cli::probe(options.host.as_deref(), options.context.as_deref());
    let elsewhere = matches!(&named, Ok(Some(probe)) if !probe.is_local);
    if elsewhere {
        return engine::check_named(named);
    }
    let mut findings = kernel::check();
    // An engine that is named has its data where it says; its run directory it does not tell.
    let root = named.as_ref().ok().and_then(|probe| Some(PathBuf::from(probe.as_ref()?.data_root.as_ref()?)));
    findings.extend(storage::check(root.as_deref().unwrap_or(&settings.data_root), &settings.exec_root));
    findings.extend(network::check(settings));
    findings.extend(engine::check(settings));
    findings.extend(match named {
        Ok(None) => engine::check_own(settings),
        named => engine::check_named(named),
    });
    if !options.no_registry {
        findings.extend(registry::check(settings));
    }
    findings
}

/// `None` where help is asked for.
fn parse(words: &[String]) -> Result<Option<Options>> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" => return Ok(None),
            "--no-registry" => options.no_registry = true,
            "-q" | "--quiet" => options.quiet = true,
            word if is(word, "--format") => {
                let value = value(word, &mut words);
                options.json = match value.as_deref() {
                    Some("json") => true,
                    Some("text" | "") => false,
                    _ => return Err(Error::invalid("--format takes text or json")),
                };
            }
            word if word == "-c" || is(word, "--context") => options.context = value(word, &mut words),
            word if word == "-H" || is(word, "--host") => {
                // An engine with that address is meant: one that runs, and the configuration it would get.
                options.host = value(word, &mut words);
                options.daemon.extend(options.host.iter().map(|host| format!("--host={host}")));
            }
            _ => options.daemon.push(word.clone()),
        }
    }
    if options.host.is_some() && options.context.is_some() {
        return Err(Error::invalid("conflicting options: cannot specify both --host and --context"));
    }
    Ok(Some(options))
}

/// Whether `word` is this flag, with its value or before it.
fn is(word: &str, flag: &str) -> bool {
    word.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

/// The value of the flag `word`: behind its `=`, or the next word.
fn value(word: &str, next: &mut std::slice::Iter<'_, String>) -> Option<String> {
    word.split_once('=').map(|(_, value)| value.to_owned()).or_else(|| next.next().cloned())
}

fn text(findings: &[Finding]) -> String {
    let (mut out, mut area) = (String::new(), "");
    for finding in findings {
        if finding.area != area {
            let _ = writeln!(out, "{}{}", if area.is_empty() { "" } else { "\n" }, finding.area);
            area = finding.area;
        }
        let _ = writeln!(out, "  {:<8} {}", finding.level.word(), finding.text);
        for line in finding.cure.lines() {
            let _ = writeln!(out, "           → {line}");
        }
    }
    let count = |level: Level| findings.iter().filter(|f| f.level == level).count();
    let verdict = match (count(Level::Fault), count(Level::Warning)) {
        (0, 0) => "All is well.".to_owned(),
        (0, w) => format!("Nothing must be mended; warnings: {w}."),
        (f, w) => format!("Must be mended: {f}; warnings: {w}."),
    };
    let _ = writeln!(out, "{}{verdict}", if findings.is_empty() { "" } else { "\n" });
    out
}

fn json(findings: &[Finding]) -> String {
    let rows: Vec<_> = findings
        .iter()
        .map(|f| serde_json::json!({"area": f.area, "level": f.level.word(), "text": f.text, "cure": f.cure}))
        .collect();
    serde_json::Value::Array(rows).to_string()
}

/// The text of a file of `/proc`, `/sys` or `/etc`; empty where there is none.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_grouped_and_summed_up() {
        let findings = [
            Finding::ok("Kernel", "Linux 6.1"),
            Finding::fault("Disk", "full", "free some\nor more"),
            Finding::ok("Disk", "x"),
        ];
        assert_eq!(
            text(&findings),
            "Kernel\n  ok       Linux 6.1\n\nDisk\n  fault    full\n           → free some\n           → or more\n  \
             ok       x\n\nMust be mended: 1; warnings: 0.\n"
        );
        assert_eq!(text(&[]), "All is well.\n");
        let rows: serde_json::Value = serde_json::from_str(&json(&findings)).expect("JSON");
        assert_eq!((rows[1]["level"].as_str(), rows[1]["cure"].as_str()), (Some("fault"), Some("free some\nor more")));
    }

    #[test]
    fn own_options_are_told_from_the_engines() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let o = parse(&words("--format json -q --data-root /x --no-registry")).unwrap().unwrap();
        assert!(o.json && o.quiet && o.no_registry);
        assert_eq!(o.daemon, ["--data-root", "/x"]);
        let o = parse(&words("-H tcp://x:1 --debug")).unwrap().unwrap();
        assert_eq!((o.host.as_deref(), o.daemon), (Some("tcp://x:1"), words("--host=tcp://x:1 --debug")));
        assert_eq!(parse(&words("--context=far")).unwrap().unwrap().context.as_deref(), Some("far"));
        assert!(parse(&words("-H x -c y")).is_err());
        assert!(parse(&words("--help")).unwrap().is_none());
        assert!(parse(&words("--format yaml")).is_err());
    }
}
