//! One file's tree → its long form, checked against the tables of [`schema`](super::schema) on the way.

use super::canon_short;
use super::diag::{Diag, Loaded, Span, suggest};
use super::node::{Map, Node, Value};
use super::schema::{Kind, Obj};
use super::units;

/// State of one conversion.
#[derive(Debug, Default)]
pub struct Canon {
    path: Vec<String>,
    /// Sentences to show the user.
    pub warnings: Vec<String>,
    /// Keep texts that do not parse (they hold variables that are not to be interpolated).
    pub lenient: bool,
}

impl Canon {
    /// The path of the value at hand, such as `services.web.ports[0]`.
    pub fn path(&self) -> String {
        if self.path.is_empty() {
            return "(root)".to_owned();
        }
        self.path.join(".").replace(".[", "[")
    }

    /// An error at `span` that starts with the path.
    pub fn error(&self, span: Span, what: impl std::fmt::Display) -> Diag {
        Diag::at(span, format!("{}: {what}", self.path()))
    }

    fn wrong_type(&self, node: &Node, wanted: &str) -> Diag {
        let diag = Diag::at(node.span, format!("{} must be a {wanted}", self.path()));
        match (&node.value, wanted) {
            (Value::Int(_) | Value::Float(_) | Value::Bool(_), "string") => {
                diag.hint(format!("quote it: \"{}\"", node.scalar_text().unwrap_or_default()))
            }
            (Value::Map(_), "array") => diag.hint("start every item with \"- \""),
            (Value::Str(s), "array") => diag.hint(format!("write it as a list: [{s:?}]")),
            (Value::Int(_), "array") => {
                diag.hint(format!("write it as a list: [{:?}]", node.scalar_text().unwrap_or_default()))
            }
            (Value::Map(map), "string") => match map.iter().next().map(|(k, v)| (k, v.scalar_text())) {
                Some((key, Some(value))) => {
                    diag.hint(format!("write \"{key}={value}\", or leave the \"- \" before it away"))
                }
                _ => diag,
            },
            _ => diag,
        }
    }

    fn inside<T>(&mut self, key: impl Into<String>, work: impl FnOnce(&mut Self) -> Loaded<T>) -> Loaded<T> {
        self.path.push(key.into());
        let result = work(self);
        self.path.pop();
        result
    }

    /// Converts a value of the given kind.
    ///
    /// # Errors
    /// A value of the wrong type, an unknown key, a text that does not parse.
    pub fn value(&mut self, node: Node, kind: Kind) -> Loaded<Node> {
        // a value that is to be removed or is not there needs no type
        if node.tag == super::node::Tag::Reset || (node.is_null() && !matches!(kind, Kind::Map(_))) {
            return self.null(node, kind);
        }
        if self.lenient && node.as_str().is_some_and(|s| s.contains("${")) && !matches!(kind, Kind::Short(..)) {
            return Ok(node);
        }
        match kind {
            Kind::Any => Ok(node),
            Kind::Obj(obj) | Kind::Null(obj) => self.object(node, obj),
            Kind::Short(obj, key) => self.short(node, obj, key),
            Kind::List(item) => self.list(node, *item),
            Kind::Map(item) => self.free_map(node, *item),
            Kind::Names(item) => self.names(node, *item),
            Kind::Ports(obj) => self.ports(node, obj),
            Kind::Mount(obj) => self.mount(node, obj),
            Kind::Device(obj) => self.device(node, obj),
            Kind::Gpus(item) => self.gpus(node, *item),
            Kind::EnvFiles(obj) => self.env_files(node, obj),
            Kind::External => self.external(node),
            _ => self.leaf(node, kind),
        }
    }

    fn null(&self, node: Node, kind: Kind) -> Loaded<Node> {
        match kind {
            Kind::Obj(obj) if !obj.required.is_empty() => Err(self.wrong_type(&node, "object")),
            _ => Ok(node),
        }
    }

    fn leaf(&mut self, node: Node, kind: Kind) -> Loaded<Node> {
        match kind {
            Kind::Str => match node.value {
                Value::Str(_) => Ok(node),
                _ => Err(self.wrong_type(&node, "string")),
            },
            Kind::StrNum | Kind::StrBool => match node.scalar_text() {
                Some(text) => Ok(node.with(Value::Str(text))),
                None => Err(self.wrong_type(&node, "string")),
            },
            Kind::Enum(allowed) => self.one_of(node, allowed),
            Kind::Bool => self.boolean(node),
            Kind::Int => self.integer(node),
            Kind::Float => self.float(node),
            Kind::Bytes | Kind::Duration | Kind::Mode | Kind::Count => self.measure(node, kind),
            Kind::StrList | Kind::StrNumList | Kind::StrOrList | Kind::HealthTest => self.texts(node, kind),
            Kind::Env | Kind::Dict | Kind::Options => self.dict(node, kind),
            Kind::MultiOptions => self.multi_options(node),
            Kind::Command => self.command(node),
            Kind::ExtraHosts => self.extra_hosts(node),
            Kind::Ssh => self.ssh(node),
            Kind::Ulimit => self.ulimit(node),
            _ => Ok(node),
        }
    }

    /// A mapping of fixed keys.
    pub fn object(&mut self, node: Node, obj: &'static Obj) -> Loaded<Node> {
        let Value::Map(map) = node.value else { return Err(self.wrong_type(&node, "object")) };
        let mut out = Map::default();
        for (key, entry) in map.into_entries() {
            if let Some(field) = obj.field(&key) {
                let value = self.inside(key.clone(), |c| c.value(entry.node, field.kind))?;
                out.insert(key, entry.key, value);
            } else if key.starts_with("x-") && obj.extensions {
                out.insert(key, entry.key, entry.node);
            } else {
                return Err(self.unknown_key(&key, entry.key, obj));
            }
        }
        self.old_external(&mut out)?;
        Ok(Node { value: Value::Map(out), ..node })
    }

    /// `external: {name: x}` → `external: true` and `name: x`.
    fn old_external(&self, map: &mut Map) -> Loaded<()> {
        let Some(external) = map.get("external").cloned() else { return Ok(()) };
        let Some(inner) = external.as_map() else { return Ok(()) };
        if let Some(name) = inner.get_some("name") {
            if map.get_some("name").is_some_and(|own| own.as_str() != name.as_str()) {
                return Err(self.error(name.span, "name and external.name conflict; only use name"));
            }
            map.set_default("name", name.clone());
        }
        map.set("external", Node { origin: None, ..external.with(Value::Bool(true)) });
        Ok(())
    }

    fn unknown_key(&self, key: &str, span: Span, obj: &'static Obj) -> Diag {
        let diag = Diag::at(span, format!("{} Additional property {key} is not allowed", self.path()));
        let service = self.path.len() == 2 && self.path[0] == "services";
        if service && super::schema::ROOT.field(key).is_some() {
            return diag.hint(format!("{key:?} stands at the top level; check the indentation"));
        }
        if let Some(near) = suggest(key, obj.fields.iter().map(|f| f.key)) {
            return diag.hint(format!("did you mean {near:?}?"));
        }
        if self.path.is_empty() && self.looks_like_service(key) {
            return diag.hint("services stand one level deeper, below the key \"services\"");
        }
        if !service && super::schema::SERVICE.field(key).is_some() {
            return diag.hint(format!("{key:?} is a key of a service; check the indentation"));
        }
        if !obj.extensions {
            return diag;
        }
        diag.hint(format!("keys of your own start with \"x-\": \"x-{key}\""))
    }

    fn looks_like_service(&self, key: &str) -> bool {
        !key.starts_with('.') && !key.contains(' ')
    }

    fn short(&mut self, node: Node, obj: &'static Obj, key: &'static str) -> Loaded<Node> {
        match &node.value {
            Value::Str(_) => {
                let mut map = Map::default();
                let mut inner = node.clone();
                inner.tag = super::node::Tag::None;
                let inner = self.value(inner, obj.field(key).map_or(Kind::Str, |f| f.kind))?;
                map.set(key, inner);
                Ok(Node { value: Value::Map(map), origin: None, ..node })
            }
            Value::Map(_) => self.object(node, obj),
            _ => Err(self.wrong_type(&node, "string or an object")),
        }
    }

    fn list(&mut self, node: Node, item: Kind) -> Loaded<Node> {
        let Value::Seq(items) = node.value else { return Err(self.wrong_type(&node, "array")) };
        let mut out = Vec::with_capacity(items.len());
        for (i, entry) in items.into_iter().enumerate() {
            out.push(self.inside(format!("[{i}]"), |c| c.value(entry, item))?);
        }
        Ok(Node { value: Value::Seq(out), ..node })
    }

    fn free_map(&mut self, node: Node, item: Kind) -> Loaded<Node> {
        if node.is_null() {
            return Ok(node.with(Value::Map(Map::default())));
        }
        let Value::Map(map) = node.value else { return Err(self.wrong_type(&node, "object")) };
        let mut out = Map::default();
        let top_level = self.path.len() == 1;
        for (key, entry) in map.into_entries() {
            let valid = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            if top_level && !valid {
                return Err(Diag::at(entry.key, format!("{} Additional property {key} is not allowed", self.path()))
                    .hint("names consist of letters, digits, '.', '_' and '-'"));
            }
            if top_level && key.starts_with("x-") && !matches!(entry.node.value, Value::Map(_)) {
                out.insert(key, entry.key, entry.node);
                continue;
            }
            let value = self.inside(key.clone(), |c| {
                if matches!(item, Kind::Obj(_)) && entry.node.is_null() && entry.node.tag == super::node::Tag::None {
                    return Err(c.wrong_type(&entry.node, "object"));
                }
                c.value(entry.node, item)
            })?;
            out.insert(key, entry.key, value);
        }
        Ok(Node { value: Value::Map(out), ..node })
    }

    /// `[a, b]` or a mapping of names.
    fn names(&mut self, node: Node, item: Kind) -> Loaded<Node> {
        let Value::Seq(items) = node.value else { return self.free_map(node, item) };
        let mut out = Map::default();
        let dependency = self.path.last().is_some_and(|p| p == "depends_on");
        for entry in items {
            let Value::Str(name) = &entry.value else { return Err(self.wrong_type(&entry, "string")) };
            let value = if dependency {
                let mut map = Map::default();
                map.set("condition", Node::str("service_started", Span { line: 0, ..entry.span }));
                map.set("required", Node::bool(true, Span { line: 0, ..entry.span }));
                Value::Map(map)
            } else {
                Value::Null
            };
            out.insert(name.clone(), entry.span, entry.with(value));
        }
        Ok(Node { value: Value::Map(out), ..node })
    }

    fn ports(&mut self, node: Node, obj: &'static Obj) -> Loaded<Node> {
        let Value::Seq(items) = node.value else { return Err(self.wrong_type(&node, "array")) };
        let mut out = Vec::new();
        for (i, entry) in items.into_iter().enumerate() {
            self.path.push(format!("[{i}]"));
            match &entry.value {
                Value::Map(_) => out.push(self.object(entry, obj)?),
                Value::Seq(_) | Value::Null | Value::Bool(_) => {
                    return Err(self.wrong_type(&entry, "string or an object"));
                }
                _ => {
                    let text = entry.scalar_text().unwrap_or_default();
                    match canon_short::ports(&text) {
                        Ok(ports) => out.extend(ports.into_iter().map(|p| p.into_node(&entry))),
                        Err(_) if self.lenient => out.push(entry),
                        Err(why) => {
                            return Err(self
                                .error(entry.span, why)
                                .hint("write [IP:][HOST:]CONTAINER[/PROTOCOL], quoted"));
                        }
                    }
                }
            }
            self.path.pop();
        }
        Ok(Node { value: Value::Seq(out), ..node })
    }

    fn mount(&mut self, node: Node, obj: &'static Obj) -> Loaded<Node> {
        match &node.value {
            Value::Map(_) => self.object(node, obj),
            Value::Str(text) => match canon_short::mount(text, &node) {
                Ok(mount) => Ok(mount),
                Err(_) if self.lenient => Ok(node),
                Err(why) => Err(self.error(node.span, why).hint("write [SOURCE:]TARGET[:MODE]")),
            },
            _ => Err(self.wrong_type(&node, "string or an object")),
        }
    }

    fn device(&mut self, node: Node, obj: &'static Obj) -> Loaded<Node> {
        match &node.value {
            Value::Map(_) => self.object(node, obj),
            Value::Str(text) => canon_short::device(text, &node).map_err(|why| self.error(node.span, why)),
            _ => Err(self.wrong_type(&node, "string or an object")),
        }
    }

    fn gpus(&mut self, node: Node, item: Kind) -> Loaded<Node> {
        match &node.value {
            Value::Str(s) if s == "all" => {
                let mut map = Map::default();
                map.set("count", node.with(Value::Int(-1)));
                let entry = node.with(Value::Map(map));
                Ok(node.with(Value::Seq(vec![entry])))
            }
            Value::Str(_) => Err(self.error(node.span, "must be \"all\" or a list of devices")),
            _ => self.list(node, item),
        }
    }

    fn env_files(&mut self, node: Node, obj: &'static Obj) -> Loaded<Node> {
        let items = match node.value {
            Value::Seq(items) => items,
            Value::Str(_) | Value::Map(_) => vec![node.clone()],
            _ => return Err(self.wrong_type(&node, "string or an array")),
        };
        let mut out = Vec::with_capacity(items.len());
        for (i, entry) in items.into_iter().enumerate() {
            out.push(self.inside(format!("[{i}]"), |c| c.short(entry, obj, "path"))?);
        }
        Ok(Node { value: Value::Seq(out), span: node.span, tag: node.tag, origin: None })
    }

    fn external(&mut self, node: Node) -> Loaded<Node> {
        match &node.value {
            Value::Map(map) => {
                if let Some(name) = map.get_some("name") {
                    let path = self.path[..self.path.len() - 1].join(".");
                    self.warnings
                        .push(format!("{path}: external.name is deprecated. Please set name and external: true"));
                    if name.as_str().is_none() {
                        return Err(self.wrong_type(name, "string"));
                    }
                }
                Ok(node)
            }
            _ => self.boolean(node),
        }
    }

    fn one_of(&self, node: Node, allowed: &'static [&'static str]) -> Loaded<Node> {
        let Some(text) = node.as_str() else { return Err(self.wrong_type(&node, "string")) };
        if allowed.contains(&text) {
            return Ok(node);
        }
        let list = allowed.iter().map(|a| format!("{a:?}")).collect::<Vec<_>>().join(", ");
        let diag = Diag::at(node.span, format!("{} must be one of the following: {list}", self.path()));
        let ends = format!("_{text}");
        let near = suggest(text, allowed.iter().copied());
        Err(match near.or_else(|| allowed.iter().copied().find(|a| a.ends_with(&ends))) {
            Some(near) => diag.hint(format!("did you mean {near:?}?")),
            None => diag,
        })
    }

    fn boolean(&mut self, node: Node) -> Loaded<Node> {
        let Value::Str(text) = &node.value else {
            return if node.as_bool().is_some() { Ok(node) } else { Err(self.wrong_type(&node, "boolean")) };
        };
        let value = match text.to_lowercase().as_str() {
            "true" => true,
            "false" => false,
            "y" | "yes" | "on" | "n" | "no" | "off" => {
                let value = matches!(text.to_lowercase().as_str(), "y" | "yes" | "on");
                self.warnings
                    .push(format!("\"{text}\" for boolean is not supported by YAML 1.2, please use `{value}`"));
                value
            }
            _ => return Err(self.error(node.span, format!("invalid boolean: {text}")).hint("write true or false")),
        };
        Ok(node.with(Value::Bool(value)))
    }

    fn integer(&self, node: Node) -> Loaded<Node> {
        match &node.value {
            Value::Int(_) => Ok(node),
            Value::Float(f) if f.fract() == 0.0 && f.abs() < 9e15 => {
                #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small just above")]
                let value = *f as i64;
                Ok(node.with(Value::Int(value)))
            }
            Value::Str(s) => match s.trim().parse::<i64>() {
                Ok(n) => Ok(node.with(Value::Int(n))),
                Err(_) => Err(self.error(node.span, format!("{s:?} is not a whole number"))),
            },
            _ => Err(self.wrong_type(&node, "integer")),
        }
    }

    fn float(&self, node: Node) -> Loaded<Node> {
        match &node.value {
            #[expect(clippy::cast_precision_loss, reason = "counts of processors are small")]
            Value::Int(n) => Ok(node.with(Value::Float(*n as f64))),
            Value::Float(_) => Ok(node),
            Value::Str(s) => match s.trim().parse::<f64>() {
                Ok(n) if n.is_finite() => Ok(node.with(Value::Float(n))),
                _ => Err(self.error(node.span, format!("{s:?} is not a number"))),
            },
            _ => Err(self.wrong_type(&node, "number")),
        }
    }

    fn measure(&self, node: Node, kind: Kind) -> Loaded<Node> {
        let Some(text) = node.scalar_text() else { return Err(self.wrong_type(&node, "string")) };
        let result = match kind {
            Kind::Bytes => units::bytes(&text).map(|n| Value::Str(n.to_string())),
            Kind::Duration => units::duration(&text).map(|n| Value::Str(units::go_duration(n))),
            Kind::Count if text.eq_ignore_ascii_case("all") => Ok(Value::Int(-1)),
            Kind::Count => match text.parse::<i64>() {
                Ok(n) => Ok(Value::Int(n)),
                Err(_) => Err(format!("invalid value {text:?}, the only value allowed is 'all' or a number")),
            },
            _ => match &node.value {
                Value::Str(s) => units::octal(s).map(|n| Value::Str(format!("0{n:o}"))),
                Value::Int(n) => Ok(Value::Str(format!("0{n:o}"))),
                _ => Err(format!("{text:?} is not a mode")),
            },
        };
        match result {
            Ok(value) => Ok(node.with(value)),
            Err(why) => {
                let diag = self.error(node.span, why);
                let unitless = matches!(kind, Kind::Duration) && text.parse::<f64>().is_ok();
                Err(match kind {
                    _ if unitless => diag.hint(format!("add the unit: \"{text}s\"")),
                    Kind::Bytes => diag.hint("write a number and a unit: 512m, 1g"),
                    Kind::Duration => diag.hint("write numbers with units: 90s, 1m30s, 2h"),
                    _ => diag,
                })
            }
        }
    }

    fn texts(&mut self, node: Node, kind: Kind) -> Loaded<Node> {
        let numbers = matches!(kind, Kind::StrNumList);
        let items = match node.value {
            Value::Str(ref s) if matches!(kind, Kind::HealthTest) => {
                let shell = Node::str("CMD-SHELL", node.span);
                let script = Node::str(s.clone(), node.span);
                return Ok(node.with(Value::Seq(vec![shell, script])));
            }
            Value::Str(_) if matches!(kind, Kind::StrOrList) => {
                vec![Node { tag: super::node::Tag::None, ..node.clone() }]
            }
            Value::Seq(items) => items,
            _ => return Err(self.wrong_type(&node, "array")),
        };
        let mut out = Vec::with_capacity(items.len());
        for (i, item) in items.into_iter().enumerate() {
            let item = self.inside(format!("[{i}]"), |c| match &item.value {
                Value::Str(_) => Ok(item),
                Value::Int(_) | Value::Float(_) if numbers => {
                    let text = item.scalar_text().unwrap_or_default();
                    Ok(item.with(Value::Str(text)))
                }
                _ => Err(c.wrong_type(&item, "string")),
            })?;
            out.push(item);
        }
        Ok(Node { value: Value::Seq(out), span: node.span, tag: node.tag, origin: node.origin })
    }
}

pub(super) fn wrong(canon: &Canon, node: &Node, wanted: &str) -> Diag {
    canon.wrong_type(node, wanted)
}
