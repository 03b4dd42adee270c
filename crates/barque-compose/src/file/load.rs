//! Files → one merged tree: reading, interpolation, `include`, `extends`, merge.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::canon::Canon;
use super::diag::{Diag, DiagKind, Loaded, SourceMap, Span};
use super::dotenv::{self, Env};
use super::interp::{self, Variables};
use super::merge;
use super::node::{Map, Node, Value};
use super::paths;
use super::schema;
use super::yaml;

/// Most files one project may consist of.
const MAX_FILES: usize = 500;

/// Reads files; the only contact of the loader with the world.
pub trait Files {
    /// The text of a file.
    ///
    /// # Errors
    /// As the disk reports them; text that is not UTF-8 is `InvalidData`.
    fn read(&self, path: &Path) -> io::Result<String>;
    /// True if the path is a file (or anything else that can be read).
    fn is_file(&self, path: &Path) -> bool;
    /// True if the path is a directory.
    fn is_dir(&self, path: &Path) -> bool;
}

/// The disk.
#[derive(Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        let meta = std::fs::metadata(path)?;
        if meta.len() > yaml::MAX_FILE as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the file has {} bytes", meta.len())));
        }
        std::fs::read_to_string(path)
    }

    fn is_file(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|m| !m.is_dir())
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }
}

/// What to load and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `-f`, in order; `-` is [`Options::stdin`]. Empty: look for the usual names.
    pub files: Vec<String>,
    /// The text for `-f -`.
    pub stdin: Option<String>,
    /// `--project-directory`.
    pub project_dir: Option<PathBuf>,
    /// `-p`.
    pub name: Option<String>,
    /// `--env-file`, in order.
    pub env_files: Vec<PathBuf>,
    /// `--profile`, in order.
    pub profiles: Vec<String>,
    /// Services named on the command line; they and what they need are kept, all if empty.
    pub services: Vec<String>,
    /// With `services`: do not keep what they need.
    pub no_deps: bool,
    /// The environment of the process.
    pub environment: Env,
    /// The current directory, absolute.
    pub cwd: PathBuf,
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// Leave `${…}` as it is.
    pub no_interpolate: bool,
    /// Leave relative paths as they are.
    pub no_path_resolution: bool,
    /// Leave out the defaults.
    pub no_normalize: bool,
    /// Do not check references between parts.
    pub no_consistency: bool,
    /// Do not read `env_file` and `label_file`.
    pub no_env_resolution: bool,
    /// Keep networks, volumes, secrets and configs no service uses.
    pub all_resources: bool,
}

/// Where the variables of one file come from.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) vars: &'a EnvSet,
    pub(super) unset: &'a RefCell<BTreeSet<String>>,
    /// The text of the file.
    pub(super) text: &'a str,
}

impl Variables for Scope<'_> {
    fn get(&self, name: &str) -> Option<(String, String)> {
        let value = self.vars.env.get(name)?.clone();
        Some((value, self.vars.source(name).to_owned()))
    }

    fn unset(&self, name: &str) {
        self.unset.borrow_mut().insert(name.to_owned());
    }

    /// Block texts begin lines above the piece that matters.
    fn place_of(&self, piece: &str, span: Span) -> Span {
        let text = self.text.strip_prefix('\u{feff}').unwrap_or(self.text);
        let first = span.line.saturating_sub(1) as usize;
        for (index, line) in text.lines().enumerate().skip(first).filter(|_| !piece.is_empty()) {
            let skip = if index == first { span.column.saturating_sub(1) as usize } else { 0 };
            let from = line.char_indices().nth(skip).map_or(line.len(), |(at, _)| at);
            if let Some(at) = line[from..].find(piece) {
                let cast = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                let column = cast(line[..from + at].chars().count() + 1);
                return Span { line: cast(index + 1), column, length: cast(piece.chars().count()), ..span };
            }
        }
        span
    }
}

/// Variables and where those that did not come from the environment came from.
#[derive(Clone, Debug, Default)]
pub(super) struct EnvSet {
    pub(super) env: Env,
    /// The file and line of those that did not.
    pub(super) from: BTreeMap<String, String>,
}

impl EnvSet {
    /// Adds the variables of env files; what is set already stays.
    pub(super) fn add_files(&mut self, files: &dyn Files, paths: &[PathBuf], sources: &mut SourceMap) -> Loaded<()> {
        let outer = self.env.clone();
        let mut read: BTreeMap<String, (String, String)> = BTreeMap::new();
        for path in paths {
            let text = files.read(path).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => Diag::new(format!("couldn't find env file: {}", path.display())).not_found(),
                _ => Diag::new(format!("failed to read {}: {e}", path.display())),
            })?;
            let known = read.clone();
            let lookup = |name: &str| outer.get(name).or_else(|| known.get(name).map(|(value, _)| value)).cloned();
            for (name, (value, span)) in variables(path, &text, false, &lookup, sources)? {
                read.insert(name, (value, format!("{}:{}", path.display(), span.line)));
            }
        }
        for (name, (value, from)) in read {
            if !outer.contains_key(&name) {
                self.env.insert(name.clone(), value);
                self.from.insert(name, from);
            }
        }
        Ok(())
    }

    /// Where the value of a variable came from: `environment`, or a file and its line.
    pub(super) fn source(&self, name: &str) -> &str {
        self.from.get(name).map_or("environment", String::as_str)
    }
}

/// The variables of an env file, each with its place.
pub(super) fn variables(
    path: &Path,
    text: &str,
    raw: bool,
    lookup: &dyn Fn(&str) -> Option<String>,
    sources: &mut SourceMap,
) -> Loaded<BTreeMap<String, (String, Span)>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let file = sources.add(path, text.into());
    let cast = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let at = |line, column, length| Span { file, line: cast(line), column: cast(column), length: cast(length) };
    let found = if raw { dotenv::located_raw(text, lookup) } else { dotenv::located(text, lookup) };
    let found = found.map_err(|e| Diag::at(at(e.line, e.column, e.length), e.why))?;
    Ok(found.into_iter().map(|(name, a)| (name, (a.value, at(a.line, a.column, a.length)))).collect())
}

/// The state of one load.
pub(super) struct Loader<'a> {
    pub(super) files: &'a dyn Files,
    pub(super) options: &'a Options,
    pub(super) sources: SourceMap,
    pub(super) warnings: Vec<String>,
    pub(super) unset: RefCell<BTreeSet<String>>,
    /// Files read for `extends`: their services, in long form.
    extended: BTreeMap<PathBuf, Map>,
    reads: usize,
}

impl<'a> Loader<'a> {
    pub(super) fn new(files: &'a dyn Files, options: &'a Options) -> Self {
        Loader {
            files,
            options,
            sources: SourceMap::default(),
            warnings: Vec::new(),
            unset: RefCell::default(),
            extended: BTreeMap::new(),
            reads: 0,
        }
    }

    /// Loads and merges `files`, whose relative paths start at `dir`. `chain` are the files that include this one.
    pub(super) fn model(&mut self, files: &[PathBuf], dir: &Path, vars: &EnvSet, chain: &[PathBuf]) -> Loaded<Map> {
        let mut merged = Map::default();
        for file in files {
            for document in self.documents(file, vars, false)? {
                let document = self.document(document, file, dir, vars, chain)?;
                merged = merge::mappings(merged, document, &mut Vec::new())?;
                let mut node = Node::map(merged, Span::default());
                merge::unique(&mut node, &mut Vec::new());
                merged = match node.value {
                    Value::Map(map) => map,
                    _ => Map::default(),
                };
            }
        }
        Ok(merged)
    }

    /// The documents of a file, interpolated and in long form. Of one that is `extended`, services without a word in
    /// them do not count.
    fn documents(&mut self, file: &Path, vars: &EnvSet, extended: bool) -> Loaded<Vec<Map>> {
        self.reads += 1;
        if self.reads > MAX_FILES {
            return Err(Diag::new(format!("the project consists of more than {MAX_FILES} files")));
        }
        let text = self.text(file)?;
        let id = self.sources.add(file, Arc::clone(&text));
        let mut out = Vec::new();
        for mut document in yaml::parse(&text, id)? {
            if document.is_null() {
                continue;
            }
            if !self.options.no_interpolate {
                let scope = Scope { vars, unset: &self.unset, text: &text };
                interp::tree(&mut document, &scope, &mut Vec::new())?;
            }
            for place in merge::without_reset_items(&mut document) {
                self.warnings.push(format!(
                    "{}: !reset before an item of a list leaves out that item, and removes nothing of earlier files: \
                     replace the list, KEY: !override [...]",
                    self.sources.locate(place)
                ));
            }
            let span = document.span;
            let Value::Map(mut map) = document.value else {
                return Err(Diag::at(span, "top-level object must be a mapping"));
            };
            if map.remove("version").is_some() {
                self.warnings.push(format!(
                    "{}: the attribute `version` is obsolete, it will be ignored, please remove it to avoid potential confusion",
                    file.display()
                ));
            }
            if let Some(services) = map.get_mut("services").and_then(Node::as_map_mut).filter(|_| extended) {
                services.retain(|_, service| !service.is_null());
            }
            let mut canon = Canon::default();
            canon.lenient = self.options.no_interpolate;
            let node = canon.object(Node::map(map, span), &schema::ROOT);
            self.warnings.append(&mut canon.warnings);
            if let Value::Map(map) = node?.value {
                out.push(map);
            }
        }
        Ok(out)
    }

    fn text(&self, file: &Path) -> Loaded<Arc<str>> {
        if file.as_os_str() == "-" {
            return Ok(self.options.stdin.clone().unwrap_or_default().into());
        }
        match self.files.read(file) {
            Ok(text) => Ok(text.into()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(Diag::new(format!("open {}: no such file or directory", file.display())).not_found())
            }
            Err(e) => Err(Diag::new(format!("read {}: {e}", file.display()))),
        }
    }

    /// One document with its includes and extends resolved.
    fn document(&mut self, mut map: Map, file: &Path, dir: &Path, vars: &EnvSet, chain: &[PathBuf]) -> Loaded<Map> {
        let mut chain = chain.to_vec();
        chain.push(file.to_path_buf());
        if let Some(includes) = map.remove("include") {
            for include in includes.as_seq().unwrap_or_default() {
                self.include(&mut map, include, dir, vars, &chain)?;
            }
        }
        let Some(services) = map.get("services").and_then(Node::as_map).cloned() else { return Ok(map) };
        let mut out = Map::default();
        for (name, span, _) in services.entries() {
            let at = Origin { name, file, services: &services };
            let service = self.extend(&at, vars, &mut Vec::new())?;
            out.insert(name, span, service);
        }
        if let Some(node) = map.get_mut("services") {
            node.value = Value::Map(out);
        }
        Ok(map)
    }

    fn include(&mut self, map: &mut Map, include: &Node, dir: &Path, vars: &EnvSet, chain: &[PathBuf]) -> Loaded<()> {
        let home = self.options.home.as_deref();
        let texts = |key: &str| -> Vec<String> {
            let items = include.at(&[key]).and_then(Node::as_seq).unwrap_or_default();
            items.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect()
        };
        let files: Vec<PathBuf> = texts("path").iter().map(|p| PathBuf::from(paths::absolute(p, dir, home))).collect();
        let Some(first) = files.first() else {
            return Err(Diag::at(include.span, "include: path is required"));
        };
        if let Some(remote) = texts("path").iter().find(|p| paths::is_remote_file(p)) {
            let what = format!("include of the remote resource {remote}");
            return Err(Diag::not_implemented(what).or_at(include.span));
        }
        if chain.contains(first) {
            let list = chain.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join("\n include ");
            return Err(Diag::at(
                include.span,
                format!("include cycle detected:\n{list}\n include {}", first.display()),
            ));
        }
        let own_dir = match include.at(&["project_directory"]).and_then(Node::as_str) {
            Some(text) => PathBuf::from(paths::absolute(text, dir, home)),
            None => first.parent().unwrap_or(Path::new("/")).to_path_buf(),
        };
        let mut env_files: Vec<PathBuf> = texts("env_file")
            .iter()
            .filter(|p| *p != "/dev/null")
            .map(|p| PathBuf::from(paths::absolute(p, dir, home)))
            .collect();
        if include.at(&["env_file"]).is_none() {
            env_files.extend(Some(own_dir.join(".env")).filter(|p| self.files.is_file(p)));
        }
        let mut inner = vars.clone();
        inner.add_files(self.files, &env_files, &mut self.sources).map_err(|d| d.or_at(include.span))?;
        let model = self.model(&files, &own_dir, &inner, chain).map_err(|d| d.or_at(include.span))?;
        let mut model = merge::untagged(Node::map(model, include.span));
        if self.options.no_path_resolution {
            let own = include.at(&["project_directory"]).and_then(Node::as_str).map(PathBuf::from);
            let own = own.unwrap_or_else(|| texts("path").first().map(|p| directory_of(p)).unwrap_or_default());
            paths::resolve(&mut model, &own, None);
        } else {
            paths::resolve(&mut model, &own_dir, home);
        }
        super::normalize::resolve_environment(&mut model, &inner);
        import(map, model)
    }

    /// A service with what it extends merged in. `trail` are the services that led here.
    fn extend(&mut self, at: &Origin<'_>, vars: &EnvSet, trail: &mut Vec<(PathBuf, String)>) -> Loaded<Node> {
        let Some(service) = at.services.get(at.name).cloned() else {
            return Err(Diag::new(format!("service {:?} not found", at.name)));
        };
        let Some(extends) = service.as_map().and_then(|m| m.get_some("extends")).cloned() else {
            return Ok(service);
        };
        let here = (at.file.to_path_buf(), at.name.to_owned());
        if trail.contains(&here) {
            let list: Vec<String> =
                trail.iter().chain([&here]).map(|(file, name)| format!("{name} in {}", file.display())).collect();
            return Err(Diag::at(extends.span, format!("Circular reference:\n  {}", list.join("\n  extends "))));
        }
        trail.push(here);
        let Some(target) = extends.at(&["service"]).and_then(Node::as_str).map(str::to_owned) else {
            return Err(Diag::at(extends.span, format!("extends.{}.service is required", at.name)));
        };
        let base = match extends.at(&["file"]).and_then(Node::as_str) {
            None => {
                self.known(at.services, &target, at, &extends)?;
                let origin = Origin { name: &target, ..*at };
                self.extend(&origin, vars, trail)?
            }
            Some(text) => {
                let dir = at.file.parent().filter(|_| at.file.as_os_str() != "-").unwrap_or(&self.options.cwd);
                let file = PathBuf::from(paths::absolute(text, dir, self.options.home.as_deref()));
                let missing = |diag: Diag| match diag.kind() {
                    DiagKind::NotFound if paths::is_remote_file(text) => {
                        Diag::not_implemented(format!("extends of the remote file {text}"))
                    }
                    _ => diag,
                };
                let place = extends.at(&["file"]).map_or(extends.span, |n| n.span);
                let services = self.extended_file(&file, vars).map_err(|d| missing(d).or_at(place))?;
                self.known(&services, &target, at, &extends)?;
                let origin = Origin { name: &target, file: &file, services: &services };
                let mut base = self.extend(&origin, vars, trail)?;
                if self.options.no_path_resolution {
                    paths::resolve_service(&mut base, &directory_of(text), None);
                } else {
                    let dir = file.parent().unwrap_or(Path::new("/"));
                    paths::resolve_service(&mut base, dir, self.options.home.as_deref());
                }
                base
            }
        };
        trail.pop();
        let mut path = vec!["services".to_owned(), at.name.to_owned()];
        let base = merge::untagged(base);
        let mut over = service;
        if let Some(map) = over.as_map_mut() {
            map.remove("extends");
        }
        let mut merged = merge::merge(base, over, &mut path)?;
        merge::unique(&mut merged, &mut path);
        Ok(merged)
    }

    fn known(&self, services: &Map, target: &str, at: &Origin<'_>, extends: &Node) -> Loaded<()> {
        if services.contains(target) {
            return Ok(());
        }
        let span = extends.at(&["service"]).map_or(extends.span, |n| n.span);
        let message =
            format!("cannot extend service {:?} in {}: service {target:?} not found", at.name, at.file.display());
        let diag = Diag::at(span, message);
        // nothing extends itself
        let own = std::ptr::eq(services, at.services);
        let others = services.keys().filter(|name| !own || *name != at.name);
        Err(match super::diag::suggest(target, others) {
            Some(near) => diag.hint(format!("did you mean {near:?}?")),
            None => diag,
        })
    }

    fn extended_file(&mut self, file: &Path, vars: &EnvSet) -> Loaded<Map> {
        if let Some(services) = self.extended.get(file) {
            return Ok(services.clone());
        }
        // The first is taken as it is: what it marks (`!reset`, `!override`) concerns what its services extend.
        let mut documents = self.documents(file, vars, true)?.into_iter();
        let mut merged = documents.next().unwrap_or_default();
        for document in documents {
            merged = merge::mappings(merged, document, &mut Vec::new())?;
        }
        let services = merged.get("services").and_then(Node::as_map).cloned().unwrap_or_default();
        self.extended.insert(file.to_path_buf(), services.clone());
        Ok(services)
    }
}

/// A service and where it stands.
#[derive(Clone, Copy)]
struct Origin<'a> {
    name: &'a str,
    file: &'a Path,
    services: &'a Map,
}

/// Adds what an included model defines; where both define a name, the including file has the last word.
fn import(map: &mut Map, model: Node) -> Loaded<()> {
    let Value::Map(model) = model.value else { return Ok(()) };
    for (section, entry) in model.into_entries() {
        if !matches!(section.as_str(), "services" | "networks" | "volumes" | "secrets" | "configs" | "models") {
            continue;
        }
        match map.remove(&section) {
            None => map.insert(section, entry.key, entry.node),
            Some(own) => {
                let mut path = vec![section.clone()];
                let merged = merge::merge(entry.node, own, &mut path)?;
                map.insert(section, entry.key, merged);
            }
        }
    }
    Ok(())
}

/// The directory of a file named in another one, as written: what is relative to it is told from the other's.
fn directory_of(path: &str) -> PathBuf {
    match Path::new(path).parent() {
        Some(parent) if parent.as_os_str() != "" => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
