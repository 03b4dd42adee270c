//! `COPY` and `ADD`.

use super::flags::{Flags, Takes};
use crate::parse::line::{json, words};
use crate::parse::{Heredoc, Node, Word};
use crate::span::Diagnostic;

/// `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Paths, globs or (for `ADD`) URLs, in order.
    pub sources: Vec<Word>,
    /// Heredocs among the sources.
    pub inline: Vec<InlineFile>,
    pub destination: Word,
    pub flags: CopyFlags,
}

/// A file whose bytes stand in the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    pub name: String,
    pub content: String,
    /// Variables in the content are expanded.
    pub expand: bool,
}

/// Flags of `COPY` and `ADD`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopyFlags {
    pub from: Option<Word>,
    pub chown: Option<Word>,
    pub chmod: Option<Word>,
    pub link: bool,
    pub parents: bool,
    pub exclude: Vec<Word>,
    pub keep_git_dir: Option<bool>,
    pub checksum: Option<Word>,
    pub unpack: Option<bool>,
}

pub(super) fn copy(node: &Node) -> Result<Files, Diagnostic> {
    let known = [
        ("from", Takes::Text),
        ("chown", Takes::Text),
        ("chmod", Takes::Text),
        ("link", Takes::Bool),
        ("parents", Takes::Bool),
        ("exclude", Takes::Many),
    ];
    files(node, &known)
}

pub(super) fn add(node: &Node) -> Result<Files, Diagnostic> {
    let known = [
        ("chown", Takes::Text),
        ("chmod", Takes::Text),
        ("link", Takes::Bool),
        ("exclude", Takes::Many),
        ("keep-git-dir", Takes::Bool),
        ("checksum", Takes::Text),
        ("unpack", Takes::Bool),
    ];
    files(node, &known)
}

fn files(node: &Node, known: &[(&'static str, Takes)]) -> Result<Files, Diagnostic> {
    let name = node.name();
    let mut args = match json(&node.rest)? {
        Some(strings) => strings.into_iter().map(|text| Word { text, span: node.rest.span() }).collect(),
        None => words(&node.rest),
    };
    let destination = match args.pop() {
        Some(last) if !args.is_empty() => last,
        _ => {
            let message = format!(
                "{name} requires at least two arguments, but only one was provided. Destination could not be determined"
            );
            return Err(Diagnostic::new(node.span, message).with_hint(format!("write {name} SOURCE... DESTINATION")));
        }
    };
    let flags = Flags::parse(node, known)?;
    if Heredoc::from_word(&destination.text).is_some() {
        return Err(Diagnostic::new(destination.span, format!("{name} cannot accept a heredoc as a destination")));
    }
    let mut files = Files {
        sources: Vec::new(),
        inline: Vec::new(),
        destination,
        flags: CopyFlags {
            from: flags.take("from"),
            chown: flags.take("chown"),
            chmod: flags.take("chmod"),
            link: flags.bool("link").unwrap_or(false),
            parents: flags.bool("parents").unwrap_or(false),
            exclude: flags.all("exclude"),
            keep_git_dir: flags.bool("keep-git-dir"),
            checksum: flags.take("checksum"),
            unpack: flags.bool("unpack"),
        },
    };
    for word in args {
        match Heredoc::from_word(&word.text) {
            None => files.sources.push(word),
            Some(opened) => files.inline.push(inline(node, &opened, &word)?),
        }
    }
    Ok(files)
}

fn inline(node: &Node, opened: &Heredoc, word: &Word) -> Result<InlineFile, Diagnostic> {
    let found = node.heredocs.iter().rev().find(|h| h.name == opened.name);
    let Some(heredoc) = found else {
        return Err(Diagnostic::new(word.span, format!("the heredoc {} has no content", opened.name)));
    };
    let bad =
        heredoc.name.is_empty() || matches!(heredoc.name.as_str(), "." | "..") || heredoc.name.contains(['/', '\0']);
    if bad {
        let message = format!("invalid heredoc file name {:?}", heredoc.name);
        return Err(Diagnostic::new(word.span, message).with_hint("a heredoc's name becomes the file's name"));
    }
    Ok(InlineFile { name: heredoc.name.clone(), content: heredoc.body(), expand: heredoc.expand })
}

/// `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// All mode bits, at most 0o7777.
    Octal(u32),
    /// `chmod(1)`'s clauses, such as `u=rwX,go=rX`.
    Symbolic(Vec<Clause>),
}

/// One clause of a symbolic mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Bits of the classes meant: 0o700, 0o070, 0o007 or sums of them.
    pub who: u32,
    pub actions: Vec<Action>,
}

/// `+`, `-` or `=` with what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    pub operator: char,
    pub perms: Perms,
}

/// The right side of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Perms {
    /// r=4, w=2, x=1.
    Bits { rwx: u32, conditional_x: bool, set_id: bool, sticky: bool },
    /// The permissions of another class: shift of its bits (6, 3 or 0).
    Copy(u32),
}

/// Reads `--chmod`'s value. Errors are Docker's sentences.
pub fn parse_chmod(text: &str) -> Result<Chmod, String> {
    let not_octal = || format!("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777");
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o7777 => Ok(Chmod::Octal(mode)),
            _ => Err(not_octal()),
        };
    }
    text.split(',')
        .map(|clause| parse_clause(clause).ok_or_else(not_octal))
        .collect::<Result<_, _>>()
        .map(Chmod::Symbolic)
}

fn parse_clause(text: &str) -> Option<Clause> {
    let start = text.find(['+', '-', '='])?;
    let mut who = 0;
    for c in text[..start].chars() {
        who |= match c {
            'u' => 0o700,
            'g' => 0o070,
            'o' => 0o007,
            'a' => 0o777,
            _ => return None,
        };
    }
    if who == 0 {
        who = 0o777;
    }
    let mut actions = Vec::new();
    let mut rest = &text[start..];
    while let Some(operator) = rest.chars().next() {
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |i| i + 1);
        actions.push(Action { operator, perms: parse_perms(&rest[1..end])? });
        rest = &rest[end..];
    }
    Some(Clause { who, actions })
}

fn parse_perms(text: &str) -> Option<Perms> {
    match text {
        "u" => return Some(Perms::Copy(6)),
        "g" => return Some(Perms::Copy(3)),
        "o" => return Some(Perms::Copy(0)),
        _ => {}
    }
    let (mut rwx, mut conditional_x, mut set_id, mut sticky) = (0, false, false, false);
    for c in text.chars() {
        match c {
            'r' => rwx |= 4,
            'w' => rwx |= 2,
            'x' => rwx |= 1,
            'X' => conditional_x = true,
            's' => set_id = true,
            't' => sticky = true,
            _ => return None,
        }
    }
    Some(Perms::Bits { rwx, conditional_x, set_id, sticky })
}

impl Chmod {
    /// The new mode bits of a file that has `mode` (bits within 0o7777).
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Chmod::Octal(octal) => *octal,
            Chmod::Symbolic(clauses) => clauses
                .iter()
                .flat_map(|c| c.actions.iter().map(move |a| (c.who, a)))
                .fold(mode, |mode, (who, action)| apply_action(mode, who, action, is_dir)),
        }
    }
}

fn apply_action(mode: u32, who: u32, action: &Action, is_dir: bool) -> u32 {
    let mut bits = match &action.perms {
        Perms::Copy(shift) => (((mode >> shift) & 7) * 0o111) & who,
        Perms::Bits { rwx, conditional_x, .. } => {
            let x = u32::from(*conditional_x && (is_dir || mode & 0o111 != 0));
            ((rwx | x) * 0o111) & who
        }
    };
    let mut cleared = who;
    if let Perms::Bits { set_id, sticky, .. } = &action.perms {
        if *set_id {
            bits |= if who & 0o700 != 0 { 0o4000 } else { 0 } | if who & 0o070 != 0 { 0o2000 } else { 0 };
        }
        if *sticky && who & 0o007 != 0 {
            bits |= 0o1000;
        }
    }
    // `=` on files also clears set-id bits of the classes it sets; on directories chmod(1) keeps them.
    if !is_dir {
        cleared |= if who & 0o700 != 0 { 0o4000 } else { 0 } | if who & 0o070 != 0 { 0o2000 } else { 0 };
    }
    match action.operator {
        '+' => mode | bits,
        '-' => mode & !bits,
        _ => (mode & !cleared) | bits,
    }
}
