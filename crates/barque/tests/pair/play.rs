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
        let words = text.split_inclusive([' ', '\n']).map(|word| {
            let bare = word.trim().trim_matches(['[', ']']);
            let hex = bare.len() >= 12 && bare.bytes().all(|b| b.is_ascii_hexdigit());
            if hex { word.replace(bare, "{ID}") } else { word.to_owned() }
        });
        let lines: String = words.collect();
        let kept = lines.lines().map(str::trim_end).filter(|l| {
            !l.is_empty() && !l.starts_with("hint: ") && !l.starts_with("See '") && !l.starts_with("Run '")
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
