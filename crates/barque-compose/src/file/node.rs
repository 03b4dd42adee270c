//! The tree a Compose file is read into: values with the place they came from.

use std::collections::BTreeMap;

use super::diag::Span;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it stands.
    pub span: Span,
    /// `!reset` or `!override`, acted on by the merge.
    pub tag: Tag,
    /// How the value came about, if not simply written there.
    pub origin: Option<Box<Origin>>,
}

/// A tag that steers the merge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tag {
    /// None.
    #[default]
    None,
    /// `!reset`: removes the value of earlier files.
    Reset,
    /// `!override`: replaces the value of earlier files instead of merging.
    Override,
}

/// One value of the tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Str(String),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping, ordered by key.
    Map(Map),
}

/// How a value came about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// The variables it was interpolated from.
    pub variables: Vec<VariableUse>,
    /// The places whose values it replaced, oldest first.
    pub replaced: Vec<Span>,
    /// Sentences such as `from env_file x.env` or `default`.
    pub notes: Vec<String>,
}

/// A variable and where its value came from.
#[derive(Clone, Debug, PartialEq)]
pub struct VariableUse {
    /// Its name.
    pub name: String,
    /// Where the value came from: `environment`, the path of an env file, `default` or `unset`.
    pub source: String,
}

/// A mapping: key → (place of the key, value).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    entries: BTreeMap<String, Entry>,
}

/// One entry of a [`Map`].
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where the key stands.
    pub key: Span,
    /// The value.
    pub node: Node,
}

impl Map {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries.get(key).map(|e| &e.node)
    }

    /// The value of a key, unless it is null.
    pub fn get_some(&self, key: &str) -> Option<&Node> {
        self.get(key).filter(|n| !n.is_null())
    }

    /// The value of a key, to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries.get_mut(key).map(|e| &mut e.node)
    }

    /// Where the key stands.
    pub fn key_span(&self, key: &str) -> Option<Span> {
        self.entries.get(key).map(|e| e.key)
    }

    /// Sets a key; the place of the key is the value's.
    pub fn set(&mut self, key: impl Into<String>, node: Node) {
        let key_span = node.span;
        self.entries.insert(key.into(), Entry { key: key_span, node });
    }

    /// Sets a key with the place of the key.
    pub fn insert(&mut self, key: impl Into<String>, span: Span, node: Node) {
        self.entries.insert(key.into(), Entry { key: span, node });
    }

    /// Sets a key unless it is there.
    pub fn set_default(&mut self, key: &str, node: Node) {
        if !self.entries.contains_key(key) {
            self.set(key, node);
        }
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &str) -> Option<Node> {
        self.entries.remove(key).map(|e| e.node)
    }

    /// True if the key is there, even if null.
    pub fn contains(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Keys and values in order of key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.entries.iter().map(|(k, e)| (k.as_str(), &e.node))
    }

    /// Keys, their places and values in order of key.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Span, &Node)> {
        self.entries.iter().map(|(k, e)| (k.as_str(), e.key, &e.node))
    }

    /// Keys and values to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Node)> {
        self.entries.iter_mut().map(|(k, e)| (k.as_str(), &mut e.node))
    }

    /// Takes the mapping apart.
    pub fn into_entries(self) -> impl Iterator<Item = (String, Entry)> {
        self.entries.into_iter()
    }

    /// Keeps what `keep` says.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &Node) -> bool) {
        self.entries.retain(|k, e| keep(k, &e.node));
    }
}

impl Node {
    /// A value at a place.
    pub fn new(value: Value, span: Span) -> Self {
        Node { value, span, tag: Tag::None, origin: None }
    }

    /// Text at a place.
    pub fn str(text: impl Into<String>, span: Span) -> Self {
        Node::new(Value::Str(text.into()), span)
    }

    /// `true` or `false` at a place.
    pub fn bool(value: bool, span: Span) -> Self {
        Node::new(Value::Bool(value), span)
    }

    /// A number at a place.
    pub fn int(value: i64, span: Span) -> Self {
        Node::new(Value::Int(value), span)
    }

    /// A mapping at a place.
    pub fn map(map: Map, span: Span) -> Self {
        Node::new(Value::Map(map), span)
    }

    /// A list at a place.
    pub fn seq(items: Vec<Node>, span: Span) -> Self {
        Node::new(Value::Seq(items), span)
    }

    /// Null at a place.
    pub fn null(span: Span) -> Self {
        Node::new(Value::Null, span)
    }

    /// True if null.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Str(s) => Some(s),
            _ => None,
        }
    }

    /// The mapping, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(m) => Some(m),
            _ => None,
        }
    }

    /// The mapping to change, if it is one.
    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            Value::Map(m) => Some(m),
            _ => None,
        }
    }

    /// The list, if it is one.
    pub fn as_seq(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Seq(s) => Some(s),
            _ => None,
        }
    }

    /// The list to change, if it is one.
    pub fn as_seq_mut(&mut self) -> Option<&mut Vec<Node>> {
        match &mut self.value {
            Value::Seq(s) => Some(s),
            _ => None,
        }
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self.value {
            Value::Bool(b) => Some(b),
            _ => None,
        }
    }

    /// A scalar as text, written as Compose writes it (`1.10` becomes `1.1`, null nothing at all).
    pub fn scalar_text(&self) -> Option<String> {
        Some(match &self.value {
            Value::Null => String::new(),
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::Float(f) => super::scalar::format_float(*f),
            Value::Str(s) => s.clone(),
            Value::Seq(_) | Value::Map(_) => return None,
        })
    }

    /// What the value is, in words of the format.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Int(_) => "integer",
            Value::Float(_) => "number",
            Value::Str(_) => "string",
            Value::Seq(_) => "array",
            Value::Map(_) => "object",
        }
    }

    /// The note of how it came about, made if missing.
    pub fn origin_mut(&mut self) -> &mut Origin {
        self.origin.get_or_insert_with(Box::default)
    }

    /// A copy with another value, keeping place, tag and origin.
    #[must_use]
    pub fn with(&self, value: Value) -> Node {
        Node { value, span: self.span, tag: self.tag, origin: self.origin.clone() }
    }

    /// The node at a path of keys.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.as_map()?.get(key))
    }

    /// What a section of a file defines, without extensions. A service, unlike all else, may have a name that begins
    /// with `x-`.
    pub fn section(&self, name: &str) -> impl Iterator<Item = (&str, &Node)> + use<'_> {
        let entries = self.at(&[name]).and_then(Node::as_map).into_iter().flat_map(Map::iter);
        let all = name == "services";
        entries.filter(move |(key, _)| all || !key.starts_with("x-"))
    }
}
