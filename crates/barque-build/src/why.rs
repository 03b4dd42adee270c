//! `--why`: what is different from the last time a step ran.

use std::collections::BTreeMap;

use crate::cache::{CacheRecord, KeyInput};

/// Files named for one source; the rest is counted.
const MAX_FILES: usize = 10;

/// Longest value shown.
const MAX_VALUE: usize = 80;

/// A step that ran.
pub(crate) struct Step<'a> {
    pub(crate) inputs: &'a [KeyInput],
    /// The record it is compared with.
    pub(crate) before: Option<&'a CacheRecord>,
    /// `--no-cache` applied.
    pub(crate) forced: bool,
    /// The instruction before it in the same stage.
    pub(crate) previous: Option<&'a str>,
}

/// Why the cache did not hold; never empty. `manifest` gives the file list of a content digest.
pub(crate) fn reasons(step: &Step<'_>, manifest: &dyn Fn(&str) -> Option<Vec<u8>>) -> Vec<String> {
    if step.forced {
        return vec!["--no-cache was given".to_owned()];
    }
    let Some(before) = step.before else { return vec!["this step never ran here before".to_owned()] };
    let mut reasons = Vec::new();
    let old = index(&before.inputs);
    let new = index(step.inputs);
    for (name, value) in &new {
        match old.get(name) {
            Some(was) if was == value => {}
            Some(was) => changed(name, was, value, step.previous, manifest, &mut reasons),
            None => reasons.push(format!("{} is new: {}", subject(name), short(value))),
        }
    }
    for (name, was) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
        reasons.push(format!("{} is gone, it was {}", subject(name), short(was)));
    }
    if reasons.is_empty() {
        reasons.push("its cached result was removed".to_owned());
    }
    // What came before explains least: say it last.
    reasons.sort_by_key(|r| r.starts_with("the step before"));
    reasons
}

fn index(inputs: &[KeyInput]) -> BTreeMap<&str, &str> {
    inputs.iter().map(|i| (i.name.as_str(), i.value.as_str())).collect()
}

fn changed(
    name: &str,
    was: &str,
    is: &str,
    previous: Option<&str>,
    manifest: &dyn Fn(&str) -> Option<Vec<u8>>,
    reasons: &mut Vec<String>,
) {
    if name == "parent" {
        let which = previous.map_or_else(|| "the base image".to_owned(), short_line);
        let what = if previous.is_some() { "the step before it gave another result" } else { "the base image changed" };
        reasons.push(if previous.is_some() { format!("{what}: {which}") } else { what.to_owned() });
        return;
    }
    if let Some(files) = name.strip_prefix("files of ") {
        match (manifest(was), manifest(is)) {
            (Some(was), Some(is)) => differing_files(files, &was, &is, reasons),
            _ => reasons.push(format!("files of {files} changed")),
        }
        return;
    }
    let show = |value: &str| if name == "command" { short(&command(value)) } else { short(value) };
    reasons.push(format!("{} changed from {} to {}", subject(name), show(was), show(is)));
}

/// What the user wrote, without the shell around it.
fn command(json: &str) -> String {
    match serde_json::from_str::<Vec<String>>(json) {
        Ok(args) => match args.as_slice() {
            [_, flag, text] if flag == "-c" => text.clone(),
            args => args.join(" "),
        },
        Err(_) => json.to_owned(),
    }
}

fn subject(name: &str) -> String {
    match name {
        "command" | "destination" | "user" | "owner" | "mode" | "network" | "path" | "options"
        | "working directory" => {
            format!("the {name}")
        }
        _ => name.to_owned(),
    }
}

fn short(value: &str) -> String {
    if value.is_empty() {
        return "nothing".to_owned();
    }
    let clean: String = value.chars().take(MAX_VALUE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let more = if value.chars().nth(MAX_VALUE).is_some() { "…" } else { "" };
    format!("{clean:?}{more}")
}

fn short_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or("");
    let cut: String = line.chars().take(MAX_VALUE).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

/// `(path, (kind and mode, digest))` of a manifest.
fn files(manifest: &[u8]) -> BTreeMap<&[u8], (&[u8], &[u8])> {
    let entry = |line: &'_ [u8]| -> Option<(usize, usize)> {
        let first = line.iter().position(|b| *b == b' ')?;
        let second = first + 1 + line.get(first + 1..)?.iter().position(|b| *b == b' ')?;
        Some((first, second))
    };
    let lines = manifest.split(|b| *b == 0).filter(|l| !l.is_empty());
    lines
        .filter_map(|line| {
            let (first, second) = entry(line)?;
            Some((&line[second + 1..], (&line[..first], &line[first + 1..second])))
        })
        .collect()
}

fn differing_files(source: &str, was: &[u8], is: &[u8], reasons: &mut Vec<String>) {
    let (old, new) = (files(was), files(is));
    let show = |path: &[u8]| String::from_utf8_lossy(path).replace(char::is_control, "\u{fffd}");
    let mut found = Vec::new();
    for (path, (mode, content)) in &new {
        match old.get(path) {
            None => found.push(format!("file {} is new", show(path))),
            Some((_, was)) if was != content => found.push(format!(
                "file {} changed from {} to {}",
                show(path),
                String::from_utf8_lossy(was),
                String::from_utf8_lossy(content)
            )),
            Some((was, _)) if was != mode => {
                let octal = |m: &[u8]| String::from_utf8_lossy(m.get(1..).unwrap_or_default()).into_owned();
                found.push(format!("the mode of {} changed from {} to {}", show(path), octal(was), octal(mode)));
            }
            Some(_) => {}
        }
    }
    found.extend(old.keys().filter(|p| !new.contains_key(*p)).map(|p| format!("file {} is gone", show(p))));
    let rest = found.len().saturating_sub(MAX_FILES);
    found.truncate(MAX_FILES);
    if rest > 0 {
        found.push(format!("and {rest} more files"));
    }
    if found.is_empty() {
        found.push(format!("owners or names of {source} changed"));
    }
    reasons.extend(found);
}

#[cfg(test)]
mod tests {
    use barque_model::{Digest, Timestamp};

    use super::*;
    use crate::cache::{LayerRecord, StepIdentity};

    fn inputs(pairs: &[(&str, &str)]) -> Vec<KeyInput> {
        pairs.iter().map(|(n, v)| KeyInput { name: (*n).into(), value: (*v).into() }).collect()
    }

    fn why(before: Option<&[(&str, &str)]>, now: &[(&str, &str)]) -> Vec<String> {
        let step = StepIdentity { scope: String::new(), stage: "0".into(), ordinal: 1, instruction: "RUN x".into() };
        let record = before.map(|b| CacheRecord {
            key: Digest::of(b""),
            step,
            inputs: inputs(b),
            layer: LayerRecord { snapshot: "s".into(), diff_id: None, size: 0, empty: false },
            parts: Vec::new(),
            created: Timestamp::from_secs(0),
            definition: None,
        });
        let now = inputs(now);
        let step = Step { inputs: &now, before: record.as_ref(), forced: false, previous: Some("RUN make") };
        let manifest = |digest: &str| match digest {
            "d1" => Some(b"0644 aaaa same\x000644 bbbb changed\x000644 cccc gone\x000644 dddd mode\0".to_vec()),
            "d2" => Some(b"0644 aaaa same\x000644 b2b2 changed\x000755 dddd mode\x000644 eeee new\0".to_vec()),
            _ => None,
        };
        reasons(&step, &manifest)
    }

    #[test]
    fn every_kind_of_change_is_named() {
        assert_eq!(why(None, &[]), ["this step never ran here before"]);
        assert_eq!(why(Some(&[("a", "b")]), &[("a", "b")]), ["its cached result was removed"]);
        let before = [("parent", "p1"), ("variable V", "1"), ("variable OLD", "x"), ("command", "make")];
        let now = [("parent", "p2"), ("variable V", "2"), ("variable NEW", ""), ("command", "make all")];
        assert_eq!(
            why(Some(&before), &now),
            [
                "the command changed from \"make\" to \"make all\"",
                "variable NEW is new: nothing",
                "variable V changed from \"1\" to \"2\"",
                "variable OLD is gone, it was \"x\"",
                "the step before it gave another result: RUN make",
            ]
        );
    }

    #[test]
    fn files_are_named() {
        assert_eq!(
            why(Some(&[("files of .", "d1")]), &[("files of .", "d2")]),
            [
                "file changed changed from bbbb to b2b2",
                "the mode of mode changed from 644 to 755",
                "file new is new",
                "file gone is gone",
            ]
        );
        assert_eq!(why(Some(&[("files of .", "d1")]), &[("files of .", "?")]), ["files of . changed"]);
    }
}
