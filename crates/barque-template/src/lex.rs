//! Splits a template into text and the tokens of its actions.

/// A token with the byte at which it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) at: usize,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Text(String),
    Open,
    Close,
    /// `.Name`.
    Field(String),
    Dot,
    /// `$` or `$name`.
    Variable(String),
    /// Keywords, functions.
    Name(String),
    Number(String),
    Char(char),
    /// The value, and how it was written.
    Str(String, String),
    Pipe,
    Declare,
    Assign,
    Comma,
    LeftParen,
    RightParen,
    Space,
    Eof,
}

impl Kind {
    /// The token as parse errors quote it.
    pub(crate) fn quoted(&self) -> String {
        match self {
            Kind::Eof => "EOF".into(),
            Kind::Text(text) => format!("{text:?}"),
            Kind::Close => "\"}}\"".into(),
            Kind::Open => "\"{{\"".into(),
            Kind::Dot => "<.>".into(),
            Kind::Name(name) if is_keyword(name) || name == "nil" => format!("<{name}>"),
            other => {
                let text = other.source();
                if text.len() > 10 {
                    let cut: String = text.chars().take(10).collect();
                    format!("{cut:?}...")
                } else {
                    format!("{text:?}")
                }
            }
        }
    }

    fn source(&self) -> String {
        match self {
            Kind::Field(name) => format!(".{name}"),
            Kind::Dot => ".".into(),
            Kind::Variable(name) | Kind::Name(name) | Kind::Number(name) => name.clone(),
            Kind::Char(c) => format!("{c:?}"),
            Kind::Str(_, written) => written.clone(),
            Kind::Pipe => "|".into(),
            Kind::Declare => ":=".into(),
            Kind::Assign => "=".into(),
            Kind::Comma => ",".into(),
            Kind::LeftParen => "(".into(),
            Kind::RightParen => ")".into(),
            Kind::Space => " ".into(),
            Kind::Text(text) => text.clone(),
            Kind::Open => "{{".into(),
            Kind::Close => "}}".into(),
            Kind::Eof => String::new(),
        }
    }
}

/// Words that cannot be function names.
pub(crate) fn is_keyword(name: &str) -> bool {
    matches!(name, "block" | "break" | "continue" | "define" | "else" | "end" | "if" | "range" | "template" | "with")
}

/// An error and the byte it is at.
pub(crate) type Fault = (usize, String);

/// All tokens of `text`, `Eof` last.
pub(crate) fn lex(text: &str) -> Result<Vec<Token>, Fault> {
    let mut lexer = Lexer { text, at: 0, tokens: Vec::new(), trim_next: false };
    while lexer.at < text.len() {
        lexer.text_part();
        if lexer.at < text.len() {
            lexer.action()?;
        }
    }
    lexer.push(text.len(), Kind::Eof);
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token>,
    trim_next: bool,
}

const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];

impl Lexer<'_> {
    fn push(&mut self, at: usize, kind: Kind) {
        self.tokens.push(Token { at, kind });
    }

    /// Text up to the next `{{`, without the blanks that trim markers on either side take.
    fn text_part(&mut self) {
        let rest = &self.text[self.at..];
        let end = rest.find("{{").unwrap_or(rest.len());
        let mut part = &rest[..end];
        let mut start = self.at;
        if self.trim_next {
            let trimmed = part.trim_start_matches(BLANK);
            start += part.len() - trimmed.len();
            part = trimmed;
        }
        self.trim_next = false;
        let after = &rest[end..];
        if after.starts_with("{{-") && after[3..].starts_with(BLANK) {
            part = part.trim_end_matches(BLANK);
        }
        if !part.is_empty() {
            self.push(start, Kind::Text(part.to_owned()));
        }
        self.at += end;
    }

    /// One action, `{{` to `}}`.
    fn action(&mut self) -> Result<(), Fault> {
        let open = self.at;
        self.at += 2;
        if self.rest().starts_with('-') && self.rest()[1..].starts_with(BLANK) {
            self.at += 1;
            self.skip_blank();
        }
        if self.rest().starts_with("/*") {
            return self.comment(open);
        }
        self.push(open, Kind::Open);
        let mut depth = 0usize;
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start_matches(BLANK).len();
            if blank > 0 && rest[blank..].starts_with("-}}") {
                self.at += blank;
                self.trim_next = true;
                return self.close(3, depth);
            }
            if rest.starts_with("}}") {
                return self.close(2, depth);
            }
            let Some(c) = rest.chars().next() else { return Err((self.at, "unclosed action".into())) };
            match c {
                '(' => depth += 1,
                ')' if depth == 0 => return Err((self.at, "unexpected right paren".into())),
                ')' => depth -= 1,
                _ => {}
            }
            self.token(c)?;
        }
    }

    fn close(&mut self, length: usize, depth: usize) -> Result<(), Fault> {
        if depth > 0 {
            return Err((self.at, "unclosed left paren".into()));
        }
        self.push(self.at, Kind::Close);
        self.at += length;
        Ok(())
    }

    fn comment(&mut self, open: usize) -> Result<(), Fault> {
        let Some(end) = self.rest().find("*/") else { return Err((open, "unclosed comment".into())) };
        self.at += end + 2;
        let rest = self.rest();
        let trimmed = rest.trim_start_matches(BLANK);
        if trimmed.len() < rest.len() && trimmed.starts_with("-}}") {
            self.at += rest.len() - trimmed.len() + 3;
            self.trim_next = true;
            return Ok(());
        }
        if rest.starts_with("}}") {
            self.at += 2;
            return Ok(());
        }
        Err((self.at, "comment ends before closing delimiter".into()))
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_blank(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(BLANK).len();
    }

    fn token(&mut self, c: char) -> Result<(), Fault> {
        let at = self.at;
        let simple = |kind| Some((kind, 1));
        let found = match c {
            c if BLANK.contains(&c) => {
                self.skip_blank();
                self.push(at, Kind::Space);
                return Ok(());
            }
            ':' if self.rest().starts_with(":=") => Some((Kind::Declare, 2)),
            '=' => simple(Kind::Assign),
            '|' => simple(Kind::Pipe),
            ',' => simple(Kind::Comma),
            '(' => simple(Kind::LeftParen),
            ')' => simple(Kind::RightParen),
            _ => None,
        };
        if let Some((kind, length)) = found {
            self.push(at, kind);
            self.at += length;
            return Ok(());
        }
        match c {
            '"' => self.quote(),
            '`' => self.raw(),
            '\'' => self.char(),
            '.' if !self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                self.at += 1;
                let name = self.word();
                self.push(at, if name.is_empty() { Kind::Dot } else { Kind::Field(name) });
                self.terminator()
            }
            '$' => {
                self.at += 1;
                let name = self.word();
                self.push(at, Kind::Variable(format!("${name}")));
                self.terminator()
            }
            '+' | '-' | '.' | '0'..='9' => self.number(),
            c if is_word(c) => {
                let name = self.word();
                self.push(at, Kind::Name(name));
                self.terminator()
            }
            c => Err((at, format!("unexpected {} in command", go_rune(c)))),
        }
    }

    /// What may follow a name: `{{.X{{` and `{{$x!}}` are errors.
    fn terminator(&self) -> Result<(), Fault> {
        match self.rest().chars().next() {
            None => Ok(()),
            Some(c) if BLANK.contains(&c) || ".,|:()=".contains(c) || self.rest().starts_with("}}") => Ok(()),
            Some(c) => Err((self.at, format!("bad character {}", go_rune(c)))),
        }
    }

    fn word(&mut self) -> String {
        let rest = self.rest();
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let word = rest[..end].to_owned();
        self.at += end;
        word
    }

    fn number(&mut self) -> Result<(), Fault> {
        let at = self.at;
        let rest = self.rest();
        let body = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        let end = body.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_')).unwrap_or(body.len());
        let text = rest[..rest.len() - body.len() + end].to_owned();
        if !text.ends_with(|c: char| c.is_ascii_hexdigit() || c == '.') || text.len() == rest.len() - body.len() {
            return Err((at, format!("bad number syntax: {text:?}")));
        }
        self.at += text.len();
        self.push(at, Kind::Number(text));
        Ok(())
    }

    fn quote(&mut self) -> Result<(), Fault> {
        let at = self.at;
        let mut value = String::new();
        let mut chars = self.text[at + 1..].char_indices();
        while let Some((index, c)) = chars.next() {
            match c {
                '"' => {
                    let end = at + 1 + index + 1;
                    self.at = end;
                    let written = self.text[at..end].to_owned();
                    self.push(at, Kind::Str(value, written));
                    return Ok(());
                }
                '\n' => break,
                '\\' => match escape(&mut chars) {
                    Some(c) => value.push(c),
                    None => return Err((at, "invalid syntax".into())),
                },
                c => value.push(c),
            }
        }
        Err((at, "unterminated quoted string".into()))
    }

    fn raw(&mut self) -> Result<(), Fault> {
        let at = self.at;
        let Some(end) = self.text[at + 1..].find('`') else {
            return Err((at, "unterminated raw quoted string".into()));
        };
        let value = self.text[at + 1..at + 1 + end].to_owned();
        self.at = at + end + 2;
        let written = self.text[at..self.at].to_owned();
        self.push(at, Kind::Str(value, written));
        Ok(())
    }

    fn char(&mut self) -> Result<(), Fault> {
        let at = self.at;
        let fault = (at, "unterminated character constant".to_owned());
        let mut chars = self.text[at + 1..].char_indices();
        let value = match chars.next() {
            Some((_, '\\')) => escape(&mut chars),
            Some((_, c)) if c != '\'' && c != '\n' => Some(c),
            _ => None,
        };
        match (value, chars.next()) {
            (Some(c), Some((index, '\''))) => {
                self.at = at + 1 + index + 1;
                self.push(at, Kind::Char(c));
                Ok(())
            }
            _ => Err(fault),
        }
    }
}

fn escape(chars: &mut std::str::CharIndices<'_>) -> Option<char> {
    let hex = |chars: &mut std::str::CharIndices<'_>, digits: usize| {
        let text: String = chars.take(digits).map(|(_, c)| c).collect();
        u32::from_str_radix(&text, 16).ok().and_then(char::from_u32)
    };
    match chars.next()?.1 {
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        'a' => Some('\x07'),
        'b' => Some('\x08'),
        'f' => Some('\x0c'),
        'v' => Some('\x0b'),
        'x' => hex(chars, 2),
        'u' => hex(chars, 4),
        'U' => hex(chars, 8),
        c @ ('\\' | '"' | '\'') => Some(c),
        _ => None,
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// `U+0021 '!'`.
fn go_rune(c: char) -> String {
    format!("U+{:04X} '{c}'", u32::from(c))
}
