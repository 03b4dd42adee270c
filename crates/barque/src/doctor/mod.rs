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

use barque_daemon::config::{Flags, Settings, Values, merge};
use barque_model::{Error, Result};

const HELP: &str = "\
Usage:  barque doctor [OPTIONS]

Check this machine and explain what is missing: kernel, cgroups, storage, disk, network, firewall, the engine and its
configuration, registry access. Nothing is changed. Exit status 1 if something must be mended.

Options:
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
    findings.extend(all(&settings, options.no_registry));
    let worst = findings.iter().map(|f| f.level).max().unwrap_or(Level::Ok);
    if options.quiet {
        findings.retain(|f| f.level > Level::Ok);
    }
    crate::say(if options.json { json(&findings) } else { text(&findings) }.trim_end());
    Ok(u8::from(worst == Level::Fault))
}

fn all(settings: &Settings, no_registry: bool) -> Vec<Finding> {
    let mut findings = kernel::check();
    findings.extend(storage::check(&settings.data_root, &settings.exec_root));
    findings.extend(network::check(settings));
    findings.extend(engine::check(settings));
    if !no_registry {
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
            word if word == "--format" || word.starts_with("--format=") => {
                let value = word.strip_prefix("--format=").map(str::to_owned).or_else(|| words.next().cloned());
                options.json = match value.as_deref() {
                    Some("json") => true,
                    Some("text" | "") => false,
                    _ => return Err(Error::invalid("--format takes text or json")),
                };
            }
            _ => options.daemon.push(word.clone()),
        }
    }
    Ok(Some(options))
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
        assert!(parse(&words("--help")).unwrap().is_none());
        assert!(parse(&words("--format yaml")).is_err());
    }
}
