//! The long forms of mappings that may be written as lists, and of command lines.

use super::canon::{Canon, wrong};
use super::canon_short;
use super::diag::Loaded;
use super::node::{Map, Node, Value};
use super::schema::Kind;

impl Canon {
    /// `K: v` or `- K=v` → a mapping of text; with [`Kind::Env`] a missing value stays null.
    pub(super) fn dict(&mut self, node: Node, kind: Kind) -> Loaded<Node> {
        let env = matches!(kind, Kind::Env);
        let empty = |node: &Node| node.with(if env { Value::Null } else { Value::Str(String::new()) });
        let mut out = Map::default();
        match node.value {
            Value::Map(map) => {
                for (key, entry) in map.into_entries() {
                    let value = match &entry.node.value {
                        Value::Null => empty(&entry.node),
                        Value::Seq(_) | Value::Map(_) => {
                            let path = format!("{}.{key}", self.path());
                            return Err(super::diag::Diag::at(
                                entry.node.span,
                                format!("{path} must be a string, number, boolean or null"),
                            ));
                        }
                        _ => entry.node.with(Value::Str(entry.node.scalar_text().unwrap_or_default())),
                    };
                    out.insert(key, entry.key, value);
                }
            }
            Value::Seq(items) if !matches!(kind, Kind::Options) => {
                for item in items {
                    let Some(text) = item.scalar_text().filter(|_| !item.is_null()) else {
                        return Err(wrong(self, &item, "string"));
                    };
                    let (key, value) = match text.split_once('=') {
                        Some((key, value)) => (key.to_owned(), item.with(Value::Str(value.to_owned()))),
                        None => (text.clone(), empty(&item)),
                    };
                    if env && key.ends_with(char::is_whitespace) {
                        let name = key.trim_end();
                        return Err(self
                            .error(item.span, format!("environment variable {name} is declared with a trailing space"))
                            .hint("remove the space before the \"=\""));
                    }
                    out.insert(key, item.span, value);
                }
            }
            _ => return Err(wrong(self, &node, "object or an array")),
        }
        Ok(Node { value: Value::Map(out), ..node })
    }

    /// `K: v` or `K: [v, …]` → a mapping of lists.
    pub(super) fn multi_options(&mut self, node: Node) -> Loaded<Node> {
        let Value::Map(map) = node.value else { return Err(wrong(self, &node, "object")) };
        let mut out = Map::default();
        for (key, entry) in map.into_entries() {
            let items = match &entry.node.value {
                Value::Seq(items) => items.clone(),
                _ => vec![entry.node.clone()],
            };
            let mut texts = Vec::new();
            for item in items {
                let Some(text) = item.scalar_text() else { return Err(wrong(self, &item, "string")) };
                texts.push(item.with(Value::Str(text)));
            }
            out.insert(key, entry.key, entry.node.with(Value::Seq(texts)));
        }
        Ok(Node { value: Value::Map(out), ..node })
    }

    /// Text is split as go-shellwords splits it; a list is taken as it is.
    pub(super) fn command(&mut self, node: Node) -> Loaded<Node> {
        match &node.value {
            Value::Str(text) => {
                let words = match canon_short::words(text) {
                    Ok(words) => words,
                    Err(_) if self.lenient => return Ok(node),
                    Err(why) => return Err(self.error(node.span, why).hint("check the quotes, or write it as a list")),
                };
                if let Some(cut) = words.cut {
                    self.warnings.push(format!(
                        "{}: the command ends at {cut:?}, since it is not run by a shell; use [\"sh\", \"-c\", \"…\"]",
                        self.path()
                    ));
                }
                let items = words.words.into_iter().map(|w| Node::str(w, node.span)).collect();
                Ok(node.with(Value::Seq(items)))
            }
            Value::Seq(items) => {
                if let Some(bad) = items.iter().find(|i| i.as_str().is_none()) {
                    return Err(wrong(self, bad, "string"));
                }
                Ok(node)
            }
            _ => Err(wrong(self, &node, "string or an array")),
        }
    }

    /// Hosts → a sorted list of `host=ip`.
    pub(super) fn extra_hosts(&mut self, node: Node) -> Loaded<Node> {
        let mut pairs: Vec<(String, Node)> = Vec::new();
        match &node.value {
            Value::Map(map) => {
                for (host, value) in map.iter() {
                    match &value.value {
                        Value::Seq(items) => {
                            for item in items {
                                let Some(ip) = item.as_str() else { return Err(wrong(self, item, "string")) };
                                pairs.push((host.to_owned(), item.with(Value::Str(ip.to_owned()))));
                            }
                        }
                        _ => {
                            let ip = value.scalar_text().unwrap_or_default();
                            pairs.push((host.to_owned(), value.with(Value::Str(ip))));
                        }
                    }
                }
            }
            Value::Seq(items) => {
                for item in items {
                    let Some(text) = item.as_str() else { return Err(wrong(self, item, "string")) };
                    let Some((host, ips)) = text.split_once('=').or_else(|| text.split_once(':')) else {
                        return Err(self
                            .error(item.span, format!("invalid additional host, missing IP: {text}"))
                            .hint("write \"host=ip\""));
                    };
                    for ip in ips.split(',') {
                        pairs.push((host.to_owned(), item.with(Value::Str(ip.to_owned()))));
                    }
                }
            }
            _ => return Err(wrong(self, &node, "object or an array")),
        }
        let mut out = Vec::new();
        for (host, ip) in pairs {
            if host.is_empty() || host.contains([':', '=']) {
                return Err(self.error(ip.span, format!("bad host name '{host}'")));
            }
            let text = ip.as_str().unwrap_or_default();
            let text = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
            out.push(ip.with(Value::Str(format!("{host}={text}"))));
        }
        out.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        out.dedup_by(|a, b| a.as_str() == b.as_str());
        Ok(node.with(Value::Seq(out)))
    }

    /// `default`, `id=path` → a mapping of id to path or null.
    pub(super) fn ssh(&mut self, node: Node) -> Loaded<Node> {
        match &node.value {
            Value::Map(_) => self.dict(node, Kind::Env),
            Value::Seq(items) => {
                for item in items {
                    let text = item.as_str().unwrap_or_default();
                    if !text.contains('=') && text != "default" {
                        return Err(self
                            .error(item.span, format!("invalid ssh key {text:?}"))
                            .hint("write \"default\" or \"id=/path/of/key\""));
                    }
                }
                self.dict(node, Kind::Env)
            }
            _ => Err(wrong(self, &node, "object or an array")),
        }
    }

    pub(super) fn ulimit(&mut self, node: Node) -> Loaded<Node> {
        let number = |canon: &Self, node: &Node| match node.scalar_text().map(|t| t.parse::<i64>()) {
            Some(Ok(n)) => Ok(node.with(Value::Int(n))),
            _ => Err(wrong(canon, node, "integer")),
        };
        let Value::Map(map) = &node.value else { return number(self, &node) };
        let mut out = Map::default();
        for (key, span, value) in map.entries() {
            if key.starts_with("x-") {
                continue;
            }
            if !matches!(key, "soft" | "hard") {
                return Err(super::diag::Diag::at(
                    span,
                    format!("{} Additional property {key} is not allowed", self.path()),
                )
                .hint("a limit has \"soft\" and \"hard\""));
            }
            out.insert(key, span, number(self, value)?);
        }
        for key in ["soft", "hard"] {
            if !out.contains(key) {
                return Err(super::diag::Diag::at(node.span, format!("{}: {key} is required", self.path())));
            }
        }
        Ok(Node { value: Value::Map(out), ..node })
    }
}
