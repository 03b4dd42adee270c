//! The loaded project: typed, with profiles applied and env files read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map as JsonMap, Value as Json};

use super::diag::{Diag, Loaded, SourceMap, Span};
use super::dotenv::Env;
use super::load::{EnvSet, Files, Loader, Options, variables};
use super::model::{FileObject, Network, ServiceSpec, Volume};
use super::node::{Map, Node};
use super::render::{self, Style};
use super::{check, interp, merge, normalize, paths, schema};

/// File names looked for, in order.
const NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
/// Override files looked for beside them, in order.
const OVERRIDES: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];

/// A service.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// Its key.
    pub name: String,
    /// Its long form as JSON, in Docker Compose's order.
    pub json: Json,
    /// The same, typed.
    pub spec: ServiceSpec,
}

impl Service {
    /// How many containers the file asks for.
    pub fn replicas(&self) -> usize {
        let deploy = self.spec.deploy.as_ref().and_then(|d| d.replicas);
        usize::try_from(self.spec.scale.or(deploy).unwrap_or(1)).unwrap_or(0)
    }

    /// The image it runs: `image`, else what `build` makes.
    pub fn image(&self, project: &str) -> String {
        if self.spec.image.is_empty() { format!("{project}-{}", self.name) } else { self.spec.image.clone() }
    }
}

/// A network or volume with the JSON its hash is taken over.
#[derive(Clone, Debug, Default)]
pub struct Resource<T> {
    /// As JSON, in Docker Compose's order.
    pub json: Json,
    /// The same, typed.
    pub spec: T,
}

/// A project.
#[derive(Debug, Default)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Where relative paths start.
    pub working_dir: PathBuf,
    /// The files given or found, absolute.
    pub files: Vec<PathBuf>,
    /// The files of `--env-file`, absolute.
    pub env_files: Vec<PathBuf>,
    /// The variables interpolation used.
    pub environment: Env,
    /// Services that are on and selected.
    pub services: BTreeMap<String, Service>,
    /// Services that are off or not selected.
    pub disabled: BTreeMap<String, Service>,
    /// Service → those it depends on in the files that a program provides, also where they are not selected.
    pub provided: BTreeMap<String, BTreeSet<String>>,
    /// Networks in use.
    pub networks: BTreeMap<String, Resource<Network>>,
    /// Volumes in use.
    pub volumes: BTreeMap<String, Resource<Volume>>,
    /// Secrets in use.
    pub secrets: BTreeMap<String, FileObject>,
    /// Configs in use.
    pub configs: BTreeMap<String, FileObject>,
    /// Profiles that are on.
    pub profiles: Vec<String>,
    /// The tree in long form.
    pub tree: Option<Node>,
    /// The texts the tree came from.
    pub sources: SourceMap,
    /// Sentences to show the user.
    pub warnings: Vec<String>,
}

/// An error with the texts to show its place in.
#[derive(Debug)]
pub struct LoadError {
    /// The error.
    pub diag: Diag,
    /// The texts.
    pub sources: SourceMap,
    /// Warnings that came before it.
    pub warnings: Vec<String>,
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sources.render(&self.diag))
    }
}

/// What the command line, the environment and the disk say about where the project is.
#[derive(Clone, Debug)]
pub struct Location {
    /// The files, absolute, or `-`.
    pub files: Vec<PathBuf>,
    /// Where relative paths start.
    pub working_dir: PathBuf,
    /// The variables and where those from files came from.
    pub(super) vars: EnvSet,
    /// Files of `--env-file`.
    pub env_files: Vec<PathBuf>,
}

impl Location {
    /// The variables of the environment and the env files.
    pub fn environment(&self) -> &Env {
        &self.vars.env
    }
}

/// Finds the project's files and variables.
///
/// # Errors
/// No Compose file, or an env file that cannot be read.
pub fn locate(
    options: &Options,
    files: &dyn Files,
    warnings: &mut Vec<String>,
    sources: &mut SourceMap,
) -> Loaded<Location> {
    let home = options.home.as_deref();
    let at = |text: &str| PathBuf::from(paths::absolute(text, &options.cwd, home));
    let mut vars = EnvSet { env: options.environment.clone(), ..EnvSet::default() };
    let mut env_files: Vec<PathBuf> = options.env_files.iter().map(|p| at(&p.to_string_lossy())).collect();
    if env_files.is_empty() {
        let listed = vars.env.get("COMPOSE_ENV_FILES").cloned().unwrap_or_default();
        env_files = listed.split(',').filter(|p| !p.is_empty()).map(at).collect();
    }
    let project_dir = options.project_dir.as_ref().map(|p| at(&p.to_string_lossy()));
    // .env may itself say where the files are, so it is read first, from where we know it to be
    let guess = match (&project_dir, options.files.first().filter(|f| *f != "-")) {
        (Some(dir), _) => Some(dir.clone()),
        (None, Some(file)) => at(file).parent().map(Path::to_path_buf),
        (None, None) => None,
    };
    let disabled = vars.env.get("COMPOSE_DISABLE_ENV_FILE").is_some_and(|v| matches!(v.as_str(), "1" | "true"));
    if !env_files.is_empty() {
        vars.add_files(files, &env_files, sources)?;
    } else if let Some(dir) = guess.as_ref().filter(|_| !disabled) {
        add_dotenv(&mut vars, files, dir, sources)?;
    } else if !disabled {
        add_dotenv(&mut vars, files, &options.cwd, sources)?;
    }
    let found = find_files(options, &vars.env, files, project_dir.as_deref(), warnings)?;
    let working_dir = match (project_dir, found.iter().find(|f| f.as_os_str() != "-")) {
        (Some(dir), _) => dir,
        (None, Some(first)) => first.parent().unwrap_or(Path::new("/")).to_path_buf(),
        (None, None) => options.cwd.clone(),
    };
    if env_files.is_empty() && !disabled {
        add_dotenv(&mut vars, files, &working_dir, sources)?;
    }
    Ok(Location { files: found, working_dir, vars, env_files })
}

fn add_dotenv(vars: &mut EnvSet, files: &dyn Files, dir: &Path, sources: &mut SourceMap) -> Loaded<()> {
    let path = dir.join(".env");
    if files.is_file(&path) { vars.add_files(files, &[path], sources) } else { Ok(()) }
}

fn find_files(
    options: &Options,
    env: &Env,
    files: &dyn Files,
    project_dir: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Loaded<Vec<PathBuf>> {
    let at = |text: &str| match text {
        "-" => PathBuf::from("-"),
        text => PathBuf::from(paths::absolute(text, &options.cwd, options.home.as_deref())),
    };
    let listed: Vec<String> = if options.files.is_empty() {
        let separator = env.get("COMPOSE_PATH_SEPARATOR").filter(|s| !s.is_empty()).map_or(":", String::as_str);
        let listed = env.get("COMPOSE_FILE").map(String::as_str).unwrap_or_default();
        listed.split(separator).filter(|p| !p.is_empty()).map(str::to_owned).collect()
    } else {
        options.files.clone()
    };
    let given: Vec<PathBuf> = listed.iter().map(|f| at(f)).collect();
    if !given.is_empty() {
        for (file, text) in given.iter().zip(&listed).filter(|(f, _)| f.as_os_str() != "-") {
            if files.is_dir(file) {
                return Err(Diag::new(format!("read {}: is a directory", file.display())));
            }
            if !files.is_file(file) {
                if paths::is_remote_file(text) {
                    return Err(Diag::not_implemented(format!("the remote Compose file {text}")));
                }
                return Err(Diag::new(format!("open {}: no such file or directory", file.display())).not_found());
            }
        }
        return Ok(given);
    }
    let start = project_dir.unwrap_or(&options.cwd);
    for dir in start.ancestors() {
        let candidates: Vec<PathBuf> = NAMES.iter().map(|n| dir.join(n)).filter(|p| files.is_file(p)).collect();
        let Some(winner) = candidates.first().cloned() else { continue };
        if candidates.len() > 1 {
            let list = candidates.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
            warnings.push(format!("Found multiple config files with supported names: {list}"));
            warnings.push(format!("Using {}", winner.display()));
        }
        let overrides: Vec<PathBuf> = OVERRIDES.iter().map(|n| dir.join(n)).filter(|p| files.is_file(p)).collect();
        if overrides.len() > 1 {
            let list = overrides.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
            warnings.push(format!("Found multiple override files with supported names: {list}"));
            warnings.push(format!("Using {}", overrides[0].display()));
        }
        return Ok([vec![winner], overrides.into_iter().take(1).collect()].concat());
    }
    Err(Diag::new("no configuration file provided: not found")
        .not_found()
        .hint("write a compose.yaml here, or name one with -f"))
}

/// The name Compose makes of any text: lower case letters, digits, `-` and `_`.
pub fn normalize_name(text: &str) -> String {
    let kept: String = text
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'))
        .collect();
    kept.trim_start_matches(['-', '_']).to_owned()
}

fn checked_name(name: &str) -> Loaded<String> {
    if normalize_name(name) == name && !name.is_empty() {
        return Ok(name.to_owned());
    }
    Err(Diag::new(format!(
        "invalid project name {name:?}: must consist only of lowercase alphanumeric characters, hyphens, and underscores as well as start with a letter or number"
    ))
    .of_command_line())
}

/// The project's name without loading it, if the command line or the environment say it.
///
/// # Errors
/// A name that is not valid.
pub fn given_name(options: &Options, env: &Env) -> Loaded<Option<String>> {
    match options.name.as_ref().or_else(|| env.get("COMPOSE_PROJECT_NAME")).filter(|n| !n.is_empty()) {
        Some(name) => checked_name(name).map(Some),
        None => Ok(None),
    }
}

/// Loads a project.
///
/// # Errors
/// Whatever is wrong with its files, with the place.
pub fn load(options: &Options, files: &dyn Files) -> Result<Project, Box<LoadError>> {
    let mut loader = Loader::new(files, options);
    let result = assemble(&mut loader);
    let mut warnings = std::mem::take(&mut loader.warnings);
    let unset = loader.unset.borrow();
    let mut all: Vec<String> =
        unset.iter().map(|name| format!("The {name:?} variable is not set. Defaulting to a blank string.")).collect();
    drop(unset);
    all.append(&mut warnings);
    let sources = std::mem::take(&mut loader.sources);
    match result {
        Ok(mut project) => {
            project.sources = sources;
            all.append(&mut project.warnings);
            project.warnings = all;
            Ok(project)
        }
        Err(diag) => Err(Box::new(LoadError { diag, sources, warnings: all })),
    }
}

fn assemble(loader: &mut Loader<'_>) -> Loaded<Project> {
    let (options, files) = (loader.options, loader.files);
    let mut place = locate(options, files, &mut loader.warnings, &mut loader.sources)?;
    let mut name = given_name(options, &place.vars.env)?;
    if name.is_none() {
        name = name_in_files(loader, &place)?;
    }
    let base = place.working_dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.unwrap_or_else(|| normalize_name(&base));
    place.vars.env.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
    place.vars.from.insert("COMPOSE_PROJECT_NAME".to_owned(), "the project's name".to_owned());
    let map = loader.model(&place.files, &place.working_dir, &place.vars, &[])?;
    if map.is_empty() {
        return Err(Diag::new("empty compose file").hint("a Compose file has at least the key \"services\""));
    }
    if name.is_empty() {
        return Err(Diag::new("project name must not be empty").hint("give one with -p or with \"name:\" in the file"));
    }
    let mut tree = merge::untagged(Node::map(map, Span { file: 0, line: 0, column: 0, length: 0 }));
    finish(&mut tree, &place, &name, options)?;
    typed(loader, tree, place, name)
}

/// The last `name:` of the files.
fn name_in_files(loader: &Loader<'_>, place: &Location) -> Loaded<Option<String>> {
    let mut found = None;
    for file in &place.files {
        let text = if file.as_os_str() == "-" {
            loader.options.stdin.clone().unwrap_or_default()
        } else {
            loader.files.read(file).unwrap_or_default()
        };
        // what is wrong with the file is reported when it is loaded
        for document in super::yaml::parse(&text, u32::MAX).unwrap_or_default() {
            if let Some(name) = document.at(&["name"]).and_then(Node::as_str).filter(|n| !n.is_empty()) {
                let lookup = |name: &str| place.vars.env.get(name).cloned();
                let name = interp::substitute(name, &lookup).map_err(|e| Diag::new(format!("name: {e}")))?;
                found = Some(normalize_name(&name)).filter(|n| !n.is_empty());
            }
        }
    }
    Ok(found)
}

fn finish(tree: &mut Node, place: &Location, name: &str, options: &Options) -> Loaded<()> {
    normalize::defaults(tree);
    check::required(tree)?;
    check::values(tree)?;
    if !options.no_path_resolution {
        paths::resolve(tree, &place.working_dir, options.home.as_deref());
    }
    if !options.no_normalize {
        normalize::normalize(tree, name, &place.vars);
    }
    Ok(())
}

fn typed(loader: &mut Loader<'_>, mut tree: Node, place: Location, name: String) -> Loaded<Project> {
    let options = loader.options;
    let mut profiles = options.profiles.clone();
    if let Some(listed) = place.vars.env.get("COMPOSE_PROFILES") {
        profiles.extend(listed.split(',').filter(|p| !p.is_empty()).map(str::to_owned));
    }
    let empty = Map::default();
    let services = tree.at(&["services"]).and_then(Node::as_map).unwrap_or(&empty);
    let selection = super::select::select(services, &profiles, &options.services, options.no_deps)?;
    if !options.no_consistency {
        check::consistency(&tree, &|name| selection.enabled.contains(name))?;
    }
    let provided = super::select::provided(services);
    if !options.services.is_empty() {
        super::select::drop_dependencies(&mut tree, &selection);
    }
    if !options.no_env_resolution {
        let from = FilesFrom { files: loader.files, dir: &place.working_dir };
        resolve_files(&mut tree, &selection.kept, &place.vars.env, &from, &mut loader.sources)?;
    }
    let mut project = Project {
        name,
        working_dir: place.working_dir,
        files: place.files,
        env_files: place.env_files,
        environment: place.vars.env,
        profiles,
        provided,
        ..Project::default()
    };
    fill(&mut project, &tree, &selection.kept, options.no_interpolate)?;
    if !options.all_resources && !options.no_interpolate {
        project.prune();
    }
    project.tree = Some(tree);
    Ok(project)
}

fn fill(project: &mut Project, tree: &Node, kept: &BTreeSet<String>, lenient: bool) -> Loaded<()> {
    for (name, node) in tree.section("services") {
        let json = render::object(node, &schema::SERVICE, Style::Json);
        // with variables left in place the values have no types yet
        let spec = if lenient { ServiceSpec::default() } else { read(&json, node, &format!("services.{name}"))? };
        let service = Service { name: name.to_owned(), json, spec };
        let group = if kept.contains(name) { &mut project.services } else { &mut project.disabled };
        group.insert(name.to_owned(), service);
    }
    for (name, node) in tree.section("networks") {
        let json = render::object(node, &schema::NETWORK, Style::Json);
        let spec = read(&json, node, &format!("networks.{name}"))?;
        project.networks.insert(name.to_owned(), Resource { json, spec });
    }
    for (name, node) in tree.section("volumes") {
        let json = render::object(node, &schema::VOLUME, Style::Json);
        let spec = read(&json, node, &format!("volumes.{name}"))?;
        project.volumes.insert(name.to_owned(), Resource { json, spec });
    }
    for (name, node) in tree.section("secrets") {
        let json = render::object(node, &schema::SECRET, Style::Json);
        project.secrets.insert(name.to_owned(), read(&json, node, &format!("secrets.{name}"))?);
    }
    for (name, node) in tree.section("configs") {
        let json = render::object(node, &schema::CONFIG, Style::Json);
        project.configs.insert(name.to_owned(), read(&json, node, &format!("configs.{name}"))?);
    }
    Ok(())
}

fn read<T: DeserializeOwned>(json: &Json, node: &Node, path: &str) -> Loaded<T> {
    T::deserialize(json).map_err(|e| Diag::at(node.span, format!("{path}: {e}")))
}

/// Files by paths that may be relative (`--no-path-resolution`).
struct FilesFrom<'a> {
    files: &'a dyn Files,
    dir: &'a Path,
}

impl FilesFrom<'_> {
    fn read(&self, path: &str) -> std::io::Result<String> {
        self.files.read(&self.dir.join(path))
    }
}

/// Reads `env_file` and `label_file` into `environment` and `labels`.
fn resolve_files(
    tree: &mut Node,
    kept: &BTreeSet<String>,
    env: &Env,
    files: &FilesFrom<'_>,
    sources: &mut SourceMap,
) -> Loaded<()> {
    let services = tree.as_map_mut().and_then(|m| m.get_mut("services")).and_then(Node::as_map_mut);
    for (name, node) in services.into_iter().flat_map(Map::iter_mut) {
        if !kept.contains(name) {
            continue;
        }
        let span = node.span;
        let Some(service) = node.as_map_mut() else { continue };
        if let Some(list) = service.remove("env_file") {
            let own = service.get("environment").and_then(Node::as_map).cloned().unwrap_or_default();
            let merged = env_files(&list, own, env, files, sources)?;
            service.set("environment", Node::map(merged, span));
        }
        if let Some(list) = service.remove("label_file") {
            let own = service.get("labels").and_then(Node::as_map).cloned().unwrap_or_default();
            let merged = label_files(&list, own, files, sources)?;
            service.set("labels", Node::map(merged, span));
        }
    }
    Ok(())
}

fn env_files(list: &Node, own: Map, env: &Env, files: &FilesFrom<'_>, sources: &mut SourceMap) -> Loaded<Map> {
    let mut read = Env::new();
    let mut out = Map::default();
    for item in list.as_seq().unwrap_or_default() {
        let path = item.at(&["path"]).and_then(Node::scalar_text).unwrap_or_default();
        let required = item.at(&["required"]).and_then(Node::as_bool).unwrap_or(true);
        let text = match files.read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => continue,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Diag::at(item.span, format!("env file {path} not found"))
                    .not_found()
                    .hint("write it, or add \"required: false\""));
            }
            Err(e) => return Err(Diag::at(item.span, format!("env file {path}: {e}"))),
        };
        let lookup = |name: &str| {
            let own = || own.get(name).and_then(|n| n.as_str().map(str::to_owned));
            env.get(name).cloned().or_else(own).or_else(|| read.get(name).cloned())
        };
        let raw = match item.at(&["format"]).and_then(Node::as_str) {
            None | Some("") => false,
            Some("raw") => true,
            Some(other) => {
                return Err(
                    Diag::at(item.span, format!("unsupported env_file format {other:?}")).hint("Compose knows \"raw\"")
                );
            }
        };
        let found = variables(Path::new(&path), &text, raw, &lookup, sources)?;
        for (name, (value, span)) in found {
            let mut node = Node::str(value.clone(), span);
            node.origin_mut().notes.push("env_file".to_owned());
            out.set(name.clone(), node);
            read.insert(name, value);
        }
    }
    for (name, entry) in own.into_entries() {
        out.insert(name, entry.key, entry.node);
    }
    Ok(out)
}

fn label_files(list: &Node, own: Map, files: &FilesFrom<'_>, sources: &mut SourceMap) -> Loaded<Map> {
    let mut out = Map::default();
    for item in list.as_seq().unwrap_or_default() {
        let path = item.as_str().unwrap_or_default();
        let text =
            files.read(path).map_err(|_| Diag::at(item.span, format!("label file {path} not found")).not_found())?;
        let known: Env =
            out.iter().map(|(k, n): (&str, &Node)| (k.to_owned(), n.scalar_text().unwrap_or_default())).collect();
        let found = variables(Path::new(path), &text, false, &|name| known.get(name).cloned(), sources)?;
        for (name, (value, span)) in found {
            let mut node = Node::str(value, span);
            node.origin_mut().notes.push("label_file".to_owned());
            out.set(name, node);
        }
    }
    for (name, entry) in own.into_entries() {
        out.insert(name, entry.key, entry.node);
    }
    Ok(out)
}

impl Project {
    /// The platform a service runs on: its own, else that of `DOCKER_DEFAULT_PLATFORM`; empty: the engine's.
    pub fn platform_of(&self, service: &Service) -> String {
        let default = || self.environment.get("DOCKER_DEFAULT_PLATFORM").cloned().unwrap_or_default();
        if service.spec.platform.is_empty() { default() } else { service.spec.platform.clone() }
    }

    /// The profiles of all services, switched on or not.
    pub fn all_profiles(&self) -> Vec<String> {
        let all = self.services.values().chain(self.disabled.values());
        all.flat_map(|s| s.spec.profiles.iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Forgets resources no service uses.
    fn prune(&mut self) {
        let all = self.services.values();
        let networks: BTreeSet<String> = all.clone().flat_map(|s| s.spec.networks.keys().cloned()).collect();
        let volumes: BTreeSet<String> = all
            .clone()
            .flat_map(|s| s.spec.volumes.iter().filter(|v| v.kind == "volume").map(|v| v.source.clone()))
            .collect();
        let build = |s: &Service| s.spec.build.iter().flat_map(|b| b.secrets.clone()).collect::<Vec<_>>();
        let secrets: BTreeSet<String> =
            all.clone().flat_map(|s| s.spec.secrets.iter().cloned().chain(build(s))).map(|m| m.source).collect();
        let configs: BTreeSet<String> = all.flat_map(|s| s.spec.configs.iter().map(|m| m.source.clone())).collect();
        self.networks.retain(|k, _| networks.contains(k));
        self.volumes.retain(|k, _| volumes.contains(k));
        self.secrets.retain(|k, _| secrets.contains(k));
        self.configs.retain(|k, _| configs.contains(k));
    }

    /// The whole project in its long form, as `config` prints it.
    pub fn render(&self, style: Style) -> Json {
        let mut out = JsonMap::new();
        let Some(tree) = &self.tree else { return Json::Object(out) };
        out.insert("name".to_owned(), Json::String(self.name.clone()));
        let kept = |section: &str, key: &str| match section {
            "services" => self.services.contains_key(key),
            "networks" => self.networks.contains_key(key),
            "volumes" => self.volumes.contains_key(key),
            "secrets" => self.secrets.contains_key(key),
            _ => self.configs.contains_key(key),
        };
        let sections = [
            ("services", &schema::SERVICE),
            ("networks", &schema::NETWORK),
            ("volumes", &schema::VOLUME),
            ("secrets", &schema::SECRET),
            ("configs", &schema::CONFIG),
        ];
        for (name, obj) in sections {
            let items: JsonMap<String, Json> = tree
                .section(name)
                .filter(|(key, _)| kept(name, key))
                .map(|(key, node)| (key.to_owned(), render::object(node, obj, style)))
                .collect();
            if !items.is_empty() || name == "services" {
                out.insert(name.to_owned(), Json::Object(items));
            }
        }
        for (key, node) in tree.as_map().into_iter().flat_map(Map::iter).filter(|(key, _)| key.starts_with("x-")) {
            out.insert(key.to_owned(), render::any(node));
        }
        Json::Object(out)
    }
}
