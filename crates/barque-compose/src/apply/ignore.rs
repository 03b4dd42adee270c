//! `.dockerignore`: which files of a build context are sent.

use regex::Regex;

/// The patterns of an ignore file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ignore {
    patterns: Vec<(bool, Regex)>,
    /// The parts of each pattern without `!`.
    parts: Vec<Vec<Part>>,
    /// True if a `!` pattern could bring back something below an excluded directory.
    exceptions: bool,
}

/// What one part of a path has to be like.
#[derive(Clone, Debug)]
enum Part {
    /// `**`: any number of parts.
    Any,
    One(Regex),
}

impl Ignore {
    /// Reads an ignore file; lines that are no patterns are skipped.
    pub(crate) fn parse(text: &str) -> Ignore {
        let mut out = Ignore::default();
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (keep, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let pattern = crate::file::canon_short::clean_path(pattern.trim_start_matches('/'));
            if pattern == "." && !keep {
                continue;
            }
            if let Ok(regex) = Regex::new(&expression(&pattern)) {
                out.exceptions |= keep;
                if !keep {
                    out.parts.push(parts(&pattern));
                }
                out.patterns.push((keep, regex));
            }
        }
        out
    }

    /// True if the path (relative, with `/`) is not sent. A pattern that names a directory covers what is in it.
    pub(crate) fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for (keep, regex) in &self.patterns {
            if *keep != excluded {
                continue;
            }
            let hit = regex.is_match(path)
                || path.char_indices().filter(|(_, c)| *c == '/').any(|(at, _)| regex.is_match(&path[..at]));
            if hit {
                excluded = !*keep;
            }
        }
        excluded
    }

    /// True if a pattern could match the directory or something below it.
    pub(crate) fn may_match_below(&self, directory: &str) -> bool {
        let leads = |parts: &Vec<Part>| {
            let mut parts = parts.iter();
            // A pattern that ends before the directory's path covers all that is in there.
            directory.split('/').all(|name| match parts.next() {
                None => true,
                Some(Part::Any) => {
                    parts = [].iter();
                    true
                }
                Some(Part::One(regex)) => regex.is_match(name),
            })
        };
        directory.is_empty() || self.parts.iter().any(leads)
    }

    /// True if nothing below an excluded directory can be wanted.
    pub(crate) fn prunes(&self) -> bool {
        !self.exceptions
    }
}

fn parts(pattern: &str) -> Vec<Part> {
    let of = |text: &str| match Regex::new(&expression(text)) {
        Ok(regex) if !text.contains("**") => Part::One(regex),
        _ => Part::Any,
    };
    pattern.split('/').map(of).collect()
}

/// Go's `filepath.Match` with `**`, as a regular expression over the whole path.
fn expression(pattern: &str) -> String {
    let mut out = String::from("(?s)^");
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.peek() == Some(&'*') => {
                chars.next();
                if chars.peek() == Some(&'/') {
                    chars.next();
                    out.push_str("(.*/)?");
                } else {
                    out.push_str(".*");
                }
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '\\' => out.push_str(&regex::escape(&chars.next().unwrap_or('\\').to_string())),
            '[' => {
                out.push('[');
                if chars.peek() == Some(&'^') {
                    out.push('^');
                    chars.next();
                }
                for c in chars.by_ref() {
                    if c == '[' || c == '&' || c == '~' {
                        out.push('\\');
                    }
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            c => out.push_str(&regex::escape(&c.to_string())),
        }
    }
    out.push('$');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let ignore =
            Ignore::parse("# c\n*.log\nnode_modules\n/build/\n**/*.tmp\ndocs/**\n!docs/keep.md\na?c\n[xy].z\n");
        for path in
            ["a.log", "node_modules", "node_modules/x/y", "build/o", "deep/er/f.tmp", "f.tmp", "docs/a", "abc", "x.z"]
        {
            assert!(ignore.excludes(path), "{path}");
        }
        for path in ["src/a.log", "src/node_modules", "docs/keep.md", "main.rs", "abbc", "q.z"] {
            assert!(!ignore.excludes(path), "{path}");
        }
        assert!(!ignore.prunes());
    }

    #[test]
    fn directories_on_the_way() {
        let may = |patterns: &str, directory: &str| Ignore::parse(patterns).may_match_below(directory);
        assert!(may("**/*.py", "a") && may("**/*.py", "a/b/c") && may("*.py", ""));
        assert!(may("src/*.py", "src") && !may("src/*.py", "doc") && !may("src/*.py", "src/deep"));
        assert!(may("src/**/x.py", "src/a/b") && !may("src/**/x.py", "doc"));
        assert!(may("s*/lib", "src") && may("src", "src/all/of/it") && !may("*.py", "src"));
    }

    #[test]
    fn everything_but() {
        let ignore = Ignore::parse("*\n!src\n!Dockerfile\n");
        assert!(ignore.excludes("a") && ignore.excludes("b/c"));
        assert!(!ignore.excludes("src/x/y") && !ignore.excludes("Dockerfile"));
    }
}
