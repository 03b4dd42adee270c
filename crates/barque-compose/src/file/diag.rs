//! Positions in Compose files and the errors that point at them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_model::{Error, ErrorKind};

/// A place in one of the files of a [`SourceMap`]. Lines and columns count from 1; line 0 means "made by the loader".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Index into the source map.
    pub file: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Length in characters on that line.
    pub length: u32,
}

impl Span {
    /// True if the loader made the node and no file holds it.
    pub fn is_synthetic(self) -> bool {
        self.line == 0
    }
}

/// One file that was read.
#[derive(Debug)]
struct SourceFile {
    path: PathBuf,
    text: Arc<str>,
}

/// Every file read for one project, so that a [`Span`] can be printed.
#[derive(Debug, Default)]
pub struct SourceMap {
    files: Vec<SourceFile>,
}

impl SourceMap {
    /// Adds a file and returns its index.
    pub fn add(&mut self, path: &Path, text: Arc<str>) -> u32 {
        self.files.push(SourceFile { path: path.to_path_buf(), text });
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    /// The path of the file a span lies in.
    pub fn path(&self, span: Span) -> Option<&Path> {
        self.files.get(span.file as usize).map(|f| f.path.as_path())
    }

    /// `path:line:column`, or the path alone for a synthetic span.
    pub fn locate(&self, span: Span) -> String {
        match self.path(span) {
            Some(path) if !span.is_synthetic() => format!("{}:{}:{}", path.display(), span.line, span.column),
            Some(path) => path.display().to_string(),
            None => String::new(),
        }
    }

    fn line(&self, span: Span) -> Option<&str> {
        if span.is_synthetic() {
            return None;
        }
        self.files.get(span.file as usize)?.text.lines().nth(span.line as usize - 1)
    }

    /// The message with its place, the line it is about, and the hint.
    pub fn render(&self, diag: &Diag) -> String {
        let mut out = String::new();
        match diag.0.span.filter(|s| !s.is_synthetic()) {
            Some(span) => {
                let _ = write!(out, "{}: {}", self.locate(span), diag.0.message);
                if let Some(line) = self.line(span) {
                    let number = span.line.to_string();
                    let gutter = " ".repeat(number.len());
                    let start = span.column.saturating_sub(1) as usize;
                    let line: String = line.chars().take(200).map(|c| if c == '\t' { ' ' } else { c }).collect();
                    let room = line.chars().count().saturating_sub(start).max(1);
                    let marks = "^".repeat((span.length.max(1) as usize).min(room));
                    let _ = write!(out, "\n {number} | {}\n {gutter} | {}{marks}", line.trim_end(), " ".repeat(start));
                }
            }
            None => out.push_str(&diag.0.message),
        }
        if let Some(hint) = &diag.0.hint {
            let _ = write!(out, "\nhint: {hint}");
        }
        out
    }
}

/// What kind of failure a [`Diag`] is; decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiagKind {
    /// The file is not valid.
    Invalid,
    /// A file that must exist does not.
    NotFound,
    /// The file asks for what is not built.
    Unsupported,
    /// The command line asks for what the file does not have.
    CommandLine,
}

impl DiagKind {
    /// The exit status of the command line.
    pub fn exit_status(self) -> i32 {
        match self {
            DiagKind::CommandLine => 1,
            DiagKind::NotFound => 14,
            DiagKind::Invalid => 15,
            DiagKind::Unsupported => 125,
        }
    }
}

/// An error in a Compose file, with the place it points at.
#[derive(Clone, Debug)]
pub struct Diag(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: DiagKind,
    message: String,
    span: Option<Span>,
    hint: Option<String>,
}

/// Result of the loading stages.
pub type Loaded<T> = Result<T, Diag>;

impl Diag {
    /// An error at `span`.
    pub fn at(span: Span, message: impl Into<String>) -> Self {
        Diag(Box::new(Inner { kind: DiagKind::Invalid, message: message.into(), span: Some(span), hint: None }))
    }

    /// An error that belongs to no place in a file.
    pub fn new(message: impl Into<String>) -> Self {
        Diag(Box::new(Inner { kind: DiagKind::Invalid, message: message.into(), span: None, hint: None }))
    }

    /// `not implemented yet: …` for what a file asks for and is not built.
    pub fn not_implemented(what: impl std::fmt::Display) -> Self {
        let mut diag = Diag::new(format!("not implemented yet: {what}"));
        diag.0.kind = DiagKind::Unsupported;
        diag
    }

    /// Marks the error as a missing file.
    #[must_use]
    pub fn not_found(mut self) -> Self {
        self.0.kind = DiagKind::NotFound;
        self
    }

    /// Marks the error as one of the command line.
    #[must_use]
    pub fn of_command_line(mut self) -> Self {
        self.0.kind = DiagKind::CommandLine;
        self
    }

    /// Adds the cure.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the place unless there is one.
    #[must_use]
    pub fn or_at(mut self, span: Span) -> Self {
        self.0.span.get_or_insert(span);
        self
    }

    /// The message alone.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The place, if any.
    pub fn span(&self) -> Option<Span> {
        self.0.span
    }

    /// The kind of failure.
    pub fn kind(&self) -> DiagKind {
        self.0.kind
    }

    /// The error as the other crates know it, with excerpt and place in its message.
    pub fn into_error(self, sources: &SourceMap) -> Error {
        let kind = match self.0.kind {
            DiagKind::Invalid | DiagKind::CommandLine => ErrorKind::InvalidArgument,
            DiagKind::NotFound => ErrorKind::NotFound,
            DiagKind::Unsupported => ErrorKind::Unsupported,
        };
        Error::new(kind, sources.render(&self))
    }
}

/// The candidate nearest to `word`, if near enough to be what was meant.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    let flat = |s: &str| s.to_lowercase().replace(['-', '_'], "");
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let distance = if flat(word) == flat(candidate) { 0 } else { edit_distance(word, candidate) };
        if distance <= limit && best.is_none_or(|(d, _)| distance < d) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance: a swap of neighbours counts once.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_only_what_is_near() {
        let keys = ["environment", "env_file", "ports", "depends_on", "healthcheck"];
        assert_eq!(suggest("enviroment", keys), Some("environment"));
        assert_eq!(suggest("dependsOn", keys), Some("depends_on"));
        assert_eq!(suggest("prots", keys), Some("ports"));
        assert_eq!(suggest("no_such_key", keys), None);
    }

    #[test]
    fn renders_the_line_and_the_mark() {
        let mut map = SourceMap::default();
        let file = map.add(Path::new("a.yaml"), "x:\n  prots: 1\n".into());
        let d = Diag::at(Span { file, line: 2, column: 3, length: 5 }, "bad").hint("did you mean ports?");
        assert_eq!(map.render(&d), "a.yaml:2:3: bad\n 2 |   prots: 1\n   |   ^^^^^\nhint: did you mean ports?");
    }
}
