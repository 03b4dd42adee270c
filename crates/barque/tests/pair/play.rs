//! What an engine says in a scenario, without names and ids that differ by chance.

use super::Engine;

/// One engine's transcript of one scenario.
pub struct Play<'a> {
    pub engine: &'a Engine,
    /// A directory on the host, `{H}` in commands and transcripts.
    pub host: String,
    /// A volume, `{V}`.
    pub volume: String,
    pub said: String,
}

impl<'a> Play<'a> {
    pub fn new(engine: &'a Engine, host: &std::path::Path) -> Play<'a> {
        let volume = format!("vol-{}", engine.name);
        Play { engine, host: host.display().to_string(), volume, said: String::new() }
    }

    pub fn fill(&self, text: &str) -> String {
        text.replace("{H}", &self.host).replace("{V}", &self.volume)
    }

    /// Runs a command in the directory on the host and writes down how it ended and what it said.
    pub fn step(&mut self, what: &str, args: &[&str]) {
        let output = self.engine.command(args).current_dir(&self.host).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let text = self.neutral(&text);
        self.said.push_str(&format!("{what}: {}\n{text}\n", output.status.code().unwrap_or(-1)));
    }

    /// Without paths, ids and cures.
    pub fn neutral(&self, text: &str) -> String {
        let mut text = text.replace(&self.host, "{H}").replace(&self.volume, "{V}");
        for name in ["barque: ", "docker: "] {
            text = text.replace(name, "");
        }
        let mut lines = String::with_capacity(text.len());
        for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
            let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            let hex = bare.len() >= 12 && bare.bytes().all(|b| b.is_ascii_hexdigit());
            lines.push_str(if hex { "{ID}" } else { bare });
            lines.push_str(&word[bare.len()..]);
        }
        let kept = lines.lines().map(str::trim_end).filter(|l| {
            let help = ["hint: ", "See '", "Run '"].iter().any(|start| l.starts_with(start));
            // What is hashed while it comes is not hashed after that.
            !l.is_empty() && !help && !l.ends_with(": Verifying Checksum")
        });
        kept.map(|l| format!("{l}\n")).collect()
    }
}

/// Notes the lines that only one side has, unless `explained` knows why.
pub fn compare(what: &str, ours: &str, theirs: &str, explained: &dyn Fn(&str) -> bool, differ: &mut Vec<String>) {
    let (ours, theirs): (Vec<&str>, Vec<&str>) = (ours.lines().collect(), theirs.lines().collect());
    for line in theirs.iter().filter(|l| !ours.contains(l) && !explained(l)) {
        differ.push(format!("{what}: only Docker: {line}"));
    }
    for line in ours.iter().filter(|l| !theirs.contains(l) && !explained(l)) {
        differ.push(format!("{what}: only here: {line}"));
    }
}

/// Plays a list of commands; `~` is a space within a word.
pub fn script(engine: &Engine, host: &std::path::Path, list: &[String]) -> String {
    let mut play = Play::new(engine, host);
    for step in list {
        let words: Vec<String> = step.split_whitespace().map(|word| play.fill(&word.replace('~', " "))).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        play.said.push_str("> ");
        play.step(step, &words);
    }
    play.said
}

/// What one step said: compared with itself, so that an answer to another does not count.
fn steps(said: &str) -> Vec<(&str, &str)> {
    said.split("> ").filter_map(|part| part.split_once(": ")).collect()
}

/// Plays a list on both engines and fails with what only one of them said. To the steps in `known` Docker's says less,
/// or in words that later versions have changed: there the given words have to be said here, and the exit status is
/// the same. `ordered`: the lines come in the same order, too.
pub fn same(
    host: &std::path::Path,
    barque: &Engine,
    docker: Option<&Engine>,
    list: &[String],
    known: &[(&str, &str)],
    ordered: bool,
) {
    let ours = script(barque, host, list);
    let Some(docker) = docker else { return };
    let theirs = script(docker, host, list);
    let mut differ = Vec::new();
    for ((step, ours), (_, theirs)) in steps(&ours).into_iter().zip(steps(&theirs)) {
        match known.iter().find(|(known, _)| *known == step) {
            Some((_, words)) => assert!(ours.contains(words) && ours[..1] == theirs[..1], "{step}: {ours}{theirs}"),
            None if ordered && ours != theirs => differ.push(format!("{step}:\nDocker: {theirs}here: {ours}")),
            None => compare(step, ours, theirs, &|_| false, &mut differ),
        }
    }
    println!("{} steps compared", list.len());
    assert!(differ.is_empty(), "{} differences from Docker:\n{}", differ.len(), differ.join("\n"));
}
