//! YAML (and so JSON) text → [`Node`] trees, with anchors, aliases and merge keys resolved.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span as YamlSpan, Tag as YamlTag};

use super::diag::{Diag, Loaded, Span};
use super::node::{Map, Node, Tag, Value};
use super::scalar;

/// Most nodes a document may have once its aliases are expanded; stops "billion laughs" files.
const MAX_NODES: usize = 100_000;
/// Deepest nesting accepted.
const MAX_DEPTH: usize = 100;
/// Largest file accepted, in bytes.
pub const MAX_FILE: usize = 8 << 20;

/// Reads every document of `text`, which is file number `file` of the source map.
///
/// # Errors
/// Syntax errors, unknown tags, duplicate keys, keys that are not text, and files that are too big or too deep.
pub fn parse(text: &str, file: u32) -> Loaded<Vec<Node>> {
    if text.len() > MAX_FILE {
        return Err(Diag::new(format!("the file has {} bytes; at most {MAX_FILE} are read", text.len())));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut loader = Loader {
        parser: Parser::new_from_str(text),
        text,
        file,
        anchors: HashMap::new(),
        open: Vec::new(),
        starts: Vec::new(),
        nodes: 0,
    };
    loader.stream()
}

struct Loader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    text: &'a str,
    file: u32,
    /// Finished anchors with their number of nodes.
    anchors: HashMap<usize, (Node, usize)>,
    /// Anchors whose value is being read.
    open: Vec<usize>,
    /// Where the lists and mappings begin that are being read.
    starts: Vec<Span>,
    nodes: usize,
}

impl<'a> Loader<'a> {
    fn next(&mut self) -> Loaded<(Event<'a>, YamlSpan)> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(e)) => {
                let mark = *e.marker();
                let span = Span { file: self.file, line: cast(mark.line()), column: cast(mark.col() + 1), length: 1 };
                let info = e.info();
                // the end of the file shows nothing; what is not closed does
                let at_end = mark.line() > self.text.lines().count();
                match self.starts.last().filter(|_| at_end && info.contains("flow")) {
                    Some(start) => {
                        Err(Diag::at(*start, format!("yaml: {info}")).hint("it begins here and is never closed"))
                    }
                    None => Err(syntax_hint(Diag::at(span, format!("yaml: {info}")), info, self.text, mark.line())),
                }
            }
            None => Ok((Event::StreamEnd, YamlSpan::default())),
        }
    }

    fn stream(&mut self) -> Loaded<Vec<Node>> {
        let mut documents = Vec::new();
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(documents),
                Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
                Event::DocumentEnd => self.anchors.clear(),
                other => documents.push(self.node(other, span, 0)?),
            }
        }
    }

    fn span(&self, span: YamlSpan) -> Span {
        let length =
            if span.start.line() == span.end.line() { span.end.col().saturating_sub(span.start.col()) } else { 1 };
        Span {
            file: self.file,
            line: cast(span.start.line()),
            column: cast(span.start.col() + 1),
            length: cast(length.max(1)),
        }
    }

    fn count(&mut self, more: usize, span: Span) -> Loaded<()> {
        self.nodes += more;
        if self.nodes > MAX_NODES {
            return Err(Diag::at(span, format!("the document has more than {MAX_NODES} values"))
                .hint("an alias that repeats aliases multiplies what it names; write the values out"));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, span: YamlSpan, depth: usize) -> Loaded<Node> {
        let place = self.span(span);
        if depth > MAX_DEPTH {
            return Err(Diag::at(place, format!("values are nested deeper than {MAX_DEPTH} levels")));
        }
        let before = self.nodes;
        self.count(1, place)?;
        let (anchor, node) = match event {
            Event::Alias(id) => return self.alias(id, place),
            Event::Scalar(text, style, anchor, tag) => (anchor, scalar_node(&text, style, tag.as_deref(), place)?),
            Event::SequenceStart(anchor, tag) => {
                let tag = merge_tag(tag, place)?;
                self.open.push(anchor);
                self.starts.push(place);
                let items = self.items(depth)?;
                self.starts.pop();
                self.open.pop();
                (anchor, Node { tag, ..Node::seq(items, place) })
            }
            Event::MappingStart(anchor, tag) => {
                let tag = merge_tag(tag, place)?;
                self.open.push(anchor);
                self.starts.push(place);
                let map = self.pairs(depth)?;
                self.starts.pop();
                self.open.pop();
                (anchor, Node { tag, ..Node::map(map, place) })
            }
            _ => return Err(Diag::at(place, "yaml: a value was expected here")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, place: Span) -> Loaded<Node> {
        if self.open.contains(&id) {
            return Err(Diag::at(place, "the alias names a value that contains it"));
        }
        let Some((node, size)) = self.anchors.get(&id).cloned() else {
            return Err(Diag::at(place, "the alias names an anchor that is not defined before it"));
        };
        self.count(size, place)?;
        Ok(node)
    }

    fn items(&mut self, depth: usize) -> Loaded<Vec<Node>> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(items);
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn pairs(&mut self, depth: usize) -> Loaded<Map> {
        let mut map = Map::default();
        let mut merges = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key_node = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            if key_node.as_str() == Some("<<") {
                merges.push(value);
                continue;
            }
            let key = key_text(&key_node)?;
            if let Some(first) = map.key_span(&key) {
                return Err(Diag::at(
                    key_node.span,
                    format!("mapping key {key:?} already defined at line {}", first.line),
                )
                .hint("YAML keeps only one value per key; remove one of them"));
            }
            map.insert(key, key_node.span, value);
        }
        for merge in merges {
            merge_into(&mut map, merge)?;
        }
        Ok(map)
    }
}

/// `<<: *a` and `<<: [*a, *b]`: keys not set yet are taken over; the first of several wins.
fn merge_into(map: &mut Map, merge: Node) -> Loaded<()> {
    let span = merge.span;
    match merge.value {
        Value::Map(from) => {
            for (key, entry) in from.into_entries() {
                if !map.contains(&key) {
                    map.insert(key, entry.key, entry.node);
                }
            }
            Ok(())
        }
        Value::Seq(items) => items.into_iter().try_for_each(|item| match item.value {
            Value::Map(_) => merge_into(map, item),
            _ => Err(Diag::at(item.span, "map merge requires map or sequence of maps as the value")),
        }),
        Value::Null => Ok(()),
        _ => Err(Diag::at(span, "map merge requires map or sequence of maps as the value")),
    }
}

fn key_text(key: &Node) -> Loaded<String> {
    match &key.value {
        Value::Str(s) => Ok(s.clone()),
        Value::Seq(_) | Value::Map(_) => Err(Diag::at(key.span, "a key must be text")),
        _ => {
            let text = key.scalar_text().unwrap_or_default();
            Err(Diag::at(key.span, format!("non-string key: {text}")).hint(format!("quote it: \"{text}\"")))
        }
    }
}

fn merge_tag(tag: Option<Cow<'_, YamlTag>>, span: Span) -> Loaded<Tag> {
    let Some(tag) = tag else { return Ok(Tag::None) };
    match (tag.handle.as_str(), tag.suffix.as_str()) {
        ("!", "reset") => Ok(Tag::Reset),
        ("!", "override") => Ok(Tag::Override),
        ("tag:yaml.org,2002:", "map" | "seq") => Ok(Tag::None),
        _ => Err(unknown_tag(&tag, span)),
    }
}

fn unknown_tag(tag: &YamlTag, span: Span) -> Diag {
    Diag::at(span, format!("unknown tag {tag}")).hint("Compose knows !reset and !override")
}

fn scalar_node(text: &str, style: ScalarStyle, tag: Option<&YamlTag>, span: Span) -> Loaded<Node> {
    let mut node = Node::new(Value::Null, span);
    let plain = style == ScalarStyle::Plain;
    node.value = match tag {
        None if plain => scalar::resolve(text),
        None => Value::Str(text.to_owned()),
        Some(tag) => match (tag.handle.as_str(), tag.suffix.as_str()) {
            ("!", "reset" | "override") => {
                node.tag = if tag.suffix == "reset" { Tag::Reset } else { Tag::Override };
                if plain { scalar::resolve(text) } else { Value::Str(text.to_owned()) }
            }
            ("!", "") | ("tag:yaml.org,2002:", "str") => Value::Str(text.to_owned()),
            ("tag:yaml.org,2002:", "int" | "float" | "bool" | "null") => {
                let value = scalar::resolve(text);
                if matches!(value, Value::Str(_)) {
                    return Err(Diag::at(span, format!("{text:?} is not of the type !!{}", tag.suffix)));
                }
                value
            }
            _ => return Err(unknown_tag(tag, span)),
        },
    };
    Ok(node)
}

fn cast(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// True if a line is indented deeper than the one above it, which has a value already.
fn is_too_deep(text: &str, line: usize) -> bool {
    let depth = |l: &str| l.len() - l.trim_start_matches(' ').len();
    let above: Vec<&str> =
        text.lines().take(line).filter(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#')).collect();
    let [.., before, this] = above[..] else { return false };
    depth(this) > depth(before) && before.trim_end().split_once(": ").is_some_and(|(_, value)| !value.trim().is_empty())
}

fn syntax_hint(diag: Diag, info: &str, text: &str, line: usize) -> Diag {
    if info.contains("tab") {
        diag.hint("indent with spaces; YAML does not allow tabs")
    } else if info.contains("mapping values are not allowed") && is_too_deep(text, line) {
        diag.hint("this line is indented deeper than the one above it, which has a value already; align the two")
    } else if info.contains("mapping values are not allowed") {
        diag.hint("a space is missing before a value with \": \", or the line above lacks its \":\"; quote text that holds \": \"")
    } else if info.contains("did not find expected key") || info.contains("simple key") {
        diag.hint("check the indentation of this line against its neighbours, and that the key ends in \": \"")
    } else {
        diag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        parse(text, 0).unwrap().remove(0)
    }

    #[test]
    fn spans_point_at_the_value() {
        let root = one("services:\n  web:\n    image: nginx\n");
        let image = root.at(&["services", "web", "image"]).unwrap();
        assert_eq!((image.span.line, image.span.column, image.span.length), (3, 12, 5));
        let web = root.at(&["services"]).unwrap().as_map().unwrap().key_span("web").unwrap();
        assert_eq!((web.line, web.column), (2, 3));
    }

    #[test]
    fn merge_keys_lose_to_explicit_ones() {
        let root = one("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  <<: [*a, *b]\n  x: 9\n");
        let c = root.at(&["c"]).unwrap().as_map().unwrap();
        assert_eq!(c.get("x").unwrap().value, Value::Int(9));
        assert_eq!(c.get("y").unwrap().value, Value::Int(2));
        assert_eq!(c.get("z").unwrap().value, Value::Int(4));
    }

    #[test]
    fn alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..9 {
            let refs = vec![format!("*a{}", i - 1); 10].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        assert!(parse(&text, 0).unwrap_err().message().contains("more than"));
    }

    #[test]
    fn a_self_reference_is_refused() {
        assert!(parse("a: &a\n  b: *a\n", 0).is_err());
    }

    #[test]
    fn deep_nesting_is_refused() {
        let text = "[".repeat(5000);
        assert!(parse(&text, 0).is_err());
    }

    #[test]
    fn tags_steer_the_merge() {
        let root = one("a: !reset null\nb: !override [1]\n");
        assert_eq!(root.at(&["a"]).unwrap().tag, Tag::Reset);
        assert_eq!(root.at(&["b"]).unwrap().tag, Tag::Override);
        assert!(parse("a: !other 1\n", 0).is_err());
    }

    #[test]
    fn json_is_read_too() {
        let root = one("{\"a\": [1, \"two\", null, true, 1.5]}");
        assert_eq!(root.at(&["a"]).unwrap().as_seq().unwrap().len(), 5);
    }

    #[test]
    fn duplicate_and_foreign_keys_are_refused() {
        assert!(parse("a: 1\na: 2\n", 0).unwrap_err().message().contains("already defined at line 1"));
        assert!(parse("1: 2\n", 0).unwrap_err().message().contains("non-string key"));
    }
}
