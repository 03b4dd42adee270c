//! `.dockerignore`: which files of a build context are left out.
//!
//! Patterns are matched against whole paths, the last one that matches decides, `!` takes back, `**` spans
//! directories, and a pattern that matches a directory matches all below it.

/// The patterns of one file, in order.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    list: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    exclusion: bool,
}

impl Patterns {
    /// Reads the text of an ignore file.
    ///
    /// # Errors
    /// A pattern that is none, in Docker's words.
    pub fn parse(text: &str) -> Result<Patterns, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut list = Vec::new();
        for line in text.lines() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let (exclusion, body) = match line.strip_prefix('!') {
                Some(body) => (true, body.trim()),
                None => (false, line),
            };
            if body.is_empty() {
                return Err(format!("illegal exclusion pattern: {line:?}"));
            }
            let cleaned = clean(body);
            if !cleaned.is_empty() {
                check(&cleaned)?;
                list.push(Pattern { text: cleaned, exclusion });
            }
        }
        Ok(Patterns { list })
    }

    /// Adds a pattern that takes `path` back in, whatever was said before.
    pub fn keep(&mut self, path: &str) {
        self.list.push(Pattern { text: escape(&clean(path)), exclusion: true });
    }

    /// Whether `path` (relative, with slashes) is left out, by its own name or by a directory above it.
    pub fn ignores(&self, path: &str) -> bool {
        let mut ignored = false;
        for pattern in &self.list {
            // A pattern that would change nothing need not be looked at.
            if pattern.exclusion == ignored && matches_or_parent(&pattern.text, path) {
                ignored = !pattern.exclusion;
            }
        }
        ignored
    }

    /// Whether an ignored directory must be entered all the same: something in it may be taken back.
    pub fn may_keep_below(&self, directory: &str) -> bool {
        self.list.iter().any(|p| p.exclusion && leads_below(&p.text, directory))
    }

    /// Whether a pattern without `!` may match something in a directory; `""` is the root.
    pub fn may_match_below(&self, directory: &str) -> bool {
        self.list.iter().any(|p| !p.exclusion && (directory.is_empty() || leads_below(&p.text, directory)))
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// Whether a pattern goes on below a directory, or covers all of it since it ends above.
fn leads_below(pattern: &str, directory: &str) -> bool {
    let mut parts = pattern.split('/');
    for name in directory.split('/') {
        match parts.next() {
            None => return true,
            Some(part) if part.contains("**") => return true,
            Some(part) if !glob(&chars(part), &chars(name)) => return false,
            Some(_) => {}
        }
    }
    true
}

fn chars(text: &str) -> Vec<char> {
    text.chars().collect()
}

/// Slashes at the ends, `.` and `..` resolved as text.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    // Above the context there is nothing.
    parts.retain(|p| *p != "..");
    parts.join("/")
}

fn escape(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A bracket must be closed, a backslash must have something to escape.
fn check(pattern: &str) -> Result<(), String> {
    let bad = || format!("error checking context: syntax error in pattern: {pattern:?}");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next().ok_or_else(bad)?),
            '[' if !chars.as_str().contains(']') => return Err(bad()),
            _ => {}
        }
    }
    Ok(())
}

fn matches_or_parent(pattern: &str, path: &str) -> bool {
    let pattern = chars(pattern);
    let mut end = Some(path.len());
    while let Some(at) = end {
        if glob(&pattern, &chars(&path[..at])) {
            return true;
        }
        end = path[..at].rfind('/');
    }
    false
}

/// Whether the whole of `text` matches.
fn glob(pattern: &[char], text: &[char]) -> bool {
    let Some(&first) = pattern.first() else { return text.is_empty() };
    match first {
        '*' if pattern.get(1) == Some(&'*') => {
            // `**/` stands for any directories, also for none; `**` at the end for everything.
            let rest = match pattern.get(2) {
                Some('/') => &pattern[3..],
                _ => &pattern[2..],
            };
            if rest.is_empty() && pattern.get(2) != Some(&'/') {
                return true;
            }
            let at_start = pattern.get(2) == Some(&'/');
            (0..=text.len()).any(|i| {
                let boundary = !at_start || i == 0 || text[i - 1] == '/';
                boundary && glob(rest, &text[i..])
            })
        }
        '*' => {
            let limit = text.iter().position(|c| *c == '/').unwrap_or(text.len());
            (0..=limit).any(|i| glob(&pattern[1..], &text[i..]))
        }
        '?' => text.first().is_some_and(|c| *c != '/') && glob(&pattern[1..], &text[1..]),
        '[' => match class(pattern, text.first()) {
            Some(length) => glob(&pattern[length..], &text[1..]),
            None => false,
        },
        '\\' => pattern.get(1).is_some_and(|p| text.first() == Some(p)) && glob(&pattern[2..], &text[1..]),
        c => text.first() == Some(&c) && glob(&pattern[1..], &text[1..]),
    }
}

/// The length of a bracket expression that matches `c`.
fn class(pattern: &[char], c: Option<&char>) -> Option<usize> {
    let c = *c.filter(|c| **c != '/')?;
    let negated = pattern.get(1) == Some(&'^');
    let mut at = if negated { 2 } else { 1 };
    let start = at;
    let mut found = false;
    loop {
        let mut low = *pattern.get(at)?;
        if low == ']' && at > start {
            break;
        }
        if low == '\\' {
            at += 1;
            low = *pattern.get(at)?;
        }
        let mut high = low;
        if pattern.get(at + 1) == Some(&'-') && pattern.get(at + 2).is_some_and(|h| *h != ']') {
            high = *pattern.get(at + 2)?;
            at += 2;
        }
        found |= (low..=high).contains(&c);
        at += 1;
    }
    (found != negated).then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(patterns: &str, path: &str) -> bool {
        Patterns::parse(patterns).expect("parses").ignores(path)
    }

    #[test]
    fn patterns_match_as_dockers_do() {
        let cases = [
            ("**", "file", true),
            ("**/", "file", true),
            ("**/file", "file", true),
            ("**/file", "dir/file", true),
            ("**/file", "dir/dir/file", true),
            ("**/file", "dir/filex", false),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("*.md", "README.md", true),
            ("*.md", "docs/README.md", false),
            ("**/*.md", "docs/a/README.md", true),
            ("*/temp*", "somedir/temporary.txt", true),
            ("*/*/temp*", "somedir/subdir/temporary.txt", true),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("dir", "dir/deep/file", true),
            ("/dir/", "dir/file", true),
            ("./dir", "dir", true),
            ("a/../b", "b", true),
            ("a**/b", "axx/y/b", true),
            ("node_modules", "src/node_modules", false),
            ("**/node_modules", "src/node_modules/x", true),
        ];
        for (pattern, path, want) in cases {
            assert_eq!(ignored(pattern, path), want, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_match_decides() {
        let text = "# comment\n*.md\n!README.md\n";
        assert!(ignored(text, "other.md"));
        assert!(!ignored(text, "README.md"));
        assert!(ignored("!README.md\n*.md", "README.md"));
        assert!(!ignored("dir\n!dir/keep", "dir/keep"));
        assert!(ignored("dir\n!dir/keep", "dir/other"));
        assert!(ignored("*\n!src", "x") && !ignored("*\n!src", "src/a/b"));
    }

    #[test]
    fn only_directories_that_may_hold_something_are_entered() {
        let patterns = Patterns::parse("dir\nother\n!dir/keep\n!**/*.txt").expect("parses");
        assert!(patterns.may_keep_below("dir"));
        assert!(patterns.may_keep_below("other"));
        let patterns = Patterns::parse("dir\nother\n!dir/keep").expect("parses");
        assert!(!patterns.may_keep_below("other"));
        assert!(patterns.may_keep_below("dir/keep"));
    }

    #[test]
    fn bad_patterns_are_named() {
        assert!(Patterns::parse("[").expect_err("open").contains("syntax error in pattern"));
        assert!(Patterns::parse("!").expect_err("empty").contains("illegal exclusion pattern"));
    }

    #[test]
    fn directories_on_the_way() {
        let may =
            |patterns: &str, directory: &str| Patterns::parse(patterns).expect("parses").may_match_below(directory);
        assert!(may("**/*.py", "a") && may("**/*.py", "a/b/c") && may("*.py", ""));
        assert!(may("src/*.py", "src") && !may("src/*.py", "doc") && !may("src/*.py", "src/deep"));
        assert!(may("src/**/x.py", "src/a/b") && !may("src/**/x.py", "doc"));
        assert!(may("s*/lib", "src") && may("src", "src/all/of/it") && !may("*.py", "src"));
    }
}
