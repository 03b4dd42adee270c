//! Pulling and building images.

use std::collections::BTreeMap;
use std::path::Path;

use barque_api::build::BuildQuery;
use barque_api::build_extras::{BuildExtras, SolveStatus, VertexWarning};
use barque_api::image::{ImageCreateQuery, PushQuery};
use barque_api::progress::JsonMessage;
use barque_api::query::JsonParam;
use barque_client::build_cache::{Exports, Imports};
use barque_client::ssh_agent::Agents;
use barque_client::{BuildHeaders, Upload};
use barque_model::Error;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncReadExt as _;

use super::body::model_error;
use super::body_resources::ulimits;
use super::build_cache;
use super::build_extras;
pub use super::build_extras::{extras, unsupported};
use super::context::{BuildContext, More};
use super::engine::Engine;
use super::progress::{Progress, Status};
use crate::file::model::Build;
use crate::file::paths;
use crate::file::project::{Project, Service};

/// Flags of a build.
#[derive(Clone, Debug, Default)]
pub struct BuildWish {
    /// `--build-arg`.
    pub args: BTreeMap<String, Option<String>>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--pull`.
    pub pull: bool,
    /// `--quiet`.
    pub quiet: bool,
    /// `--memory`, bytes.
    pub memory: i64,
    /// Print the service's name before each line.
    pub prefix: bool,
    /// `--ssh`: `default`, `ID=SOCKET` or `ID=KEY`.
    pub ssh: Vec<String>,
    /// `--check`: lint only.
    pub check: bool,
    /// The image is to run here: of several platforms only one is built.
    pub to_run: bool,
}

/// Pulls an image. `id` is what progress calls it.
///
/// # Errors
/// The engine's refusal or what the registry answered.
pub async fn pull(engine: &Engine, progress: &Progress, id: &str, image: &str, platform: &str) -> Result<(), Error> {
    progress.working(id, "Pulling");
    if engine.is_dry_run() {
        progress.done(id, "Pulled");
        return Ok(());
    }
    let result = pull_stream(engine, progress, id, image, platform).await;
    match &result {
        Ok(()) => progress.done(id, "Pulled"),
        Err(e) => progress.failed(id, e.message()),
    }
    result
}

async fn pull_stream(engine: &Engine, progress: &Progress, id: &str, image: &str, platform: &str) -> Result<(), Error> {
    let (name, tag) = split_tag(image);
    let query = ImageCreateQuery { from_image: name, tag, platform: platform.to_owned(), ..Default::default() };
    let auth = engine.auth_for(image);
    let _turn = engine.turn().await;
    let mut stream = engine.writer()?.image_pull(&query, auth.as_ref()).await.map_err(|e| model_error(&e))?;
    let mut layers: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    while let Some(message) = stream.next().await.map_err(|e| model_error(&e))? {
        if let Some(text) = message.error_message() {
            return Err(Error::unavailable(text.to_owned()));
        }
        if let Some(detail) = message.progress_detail.as_ref().filter(|d| d.total > 0) {
            if message.status.starts_with("Downloading") {
                layers.insert(message.id.clone(), (detail.current, detail.total));
            }
            let (now, all) = layers.values().fold((0, 0), |(a, b), (x, y)| (a + x, b + y));
            if all > 0 && progress.mode() == super::progress::Mode::Tty {
                let size = |n: i64| barque_model::size::human(u64::try_from(n).unwrap_or(0));
                progress.detailed(id, "Pulling", &format!("{} / {}", size(now), size(all)), Status::Working);
            }
        }
    }
    Ok(())
}

/// Pushes an image under its name.
///
/// # Errors
/// The engine's refusal or what the registry answered.
pub async fn push(engine: &Engine, image: &str) -> Result<(), Error> {
    let reference: barque_model::Reference = image.parse()?;
    let reference = reference.with_default_tag();
    let query = PushQuery { tag: reference.tag().unwrap_or("latest").to_owned(), ..PushQuery::default() };
    let auth = engine.auth_for(image);
    let mut output = engine.writer()?.image_push(&reference.familiar_name(), &query, auth.as_ref()).await?;
    while let Some(message) = output.next().await? {
        if let Some(text) = message.error_message() {
            return Err(Error::unavailable(text.to_owned()));
        }
    }
    Ok(())
}

/// `name:tag` or `name@digest` → both parts; the tag is `latest` if none is given.
fn split_tag(image: &str) -> (String, String) {
    if let Some((name, digest)) = image.split_once('@') {
        let name = match name.rsplit_once(':') {
            Some((base, tag)) if !tag.contains('/') => base,
            _ => name,
        };
        return (name.to_owned(), digest.to_owned());
    }
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name.to_owned(), tag.to_owned()),
        _ => (image.to_owned(), "latest".to_owned()),
    }
}

/// Builds the image of a service; returns its id.
///
/// # Errors
/// A context that is missing, a step that fails, or what is not built yet.
pub async fn build(
    engine: &Engine,
    progress: &Progress,
    project: &Project,
    service: &Service,
    wish: &BuildWish,
) -> Result<(), Error> {
    let Some(spec) = &service.spec.build else { return Ok(()) };
    let id = format!("Service {}", service.name);
    progress.working(&id, "Building");
    if spec.secrets.iter().any(|s| !s.uid.is_empty() || !s.gid.is_empty() || s.mode.is_some()) {
        let text = "uid, gid and mode of build.secrets have no effect: only the step that asks for a secret sees it";
        progress.event(&id, text, Status::Warning);
    }
    if engine.is_dry_run() {
        progress.done(&id, "Built");
        return Ok(());
    }
    let job = Job { engine, progress, project, service, spec, wish, id: &id };
    let result = cached(&job).await;
    match &result {
        Ok(()) => progress.done(&id, "Built"),
        Err(e) => progress.failed(&id, e.message()),
    }
    result.map_err(|e| e.context(format!("failed to build service {}", service.name)))
}

/// One image that is built: of what, where, and who hears of it.
pub(super) struct Job<'a> {
    pub engine: &'a Engine,
    pub progress: &'a Progress,
    pub project: &'a Project,
    pub service: &'a Service,
    pub spec: &'a Build,
    pub wish: &'a BuildWish,
    /// What progress calls it.
    pub id: &'a str,
}

impl Job<'_> {
    /// Tells of what does not stop the build.
    pub(super) fn warn(&self, text: &str) {
        self.progress.event(self.id, text, Status::Warning);
    }
}

/// Builds with the caches that are named, and brings what was learnt to where they are kept.
async fn cached(job: &Job<'_>) -> Result<(), Error> {
    let client = job.engine.writer()?;
    let ours = client.is_barque().await.map_err(|e| model_error(&e))?;
    let caches =
        Caches { exports: build_cache::exports(job, ours)?, imports: build_cache::imports(job, client).await? };
    job.progress.suspend();
    let result = send(job, &caches).await;
    job.progress.resume();
    let result = match result {
        Ok(told) if !told.cache.is_empty() => build_cache::export(job, &caches.exports, &told.cache).await,
        other => other.map(drop),
    };
    // Only now: a cache to which nothing was added is the image that was imported.
    caches.imports.forget(client).await;
    result
}

/// Caches from and to elsewhere.
#[derive(Debug, Default)]
struct Caches {
    exports: Exports,
    imports: Imports,
}

/// Lints the Dockerfile of a service ([`BuildWish::check`]); returns the warnings, each a sentence.
///
/// # Errors
/// As [`build`]; an engine that is not Barque's.
pub async fn check(
    engine: &Engine,
    project: &Project,
    service: &Service,
    wish: &BuildWish,
) -> Result<Vec<String>, Error> {
    let Some(spec) = &service.spec.build else { return Ok(Vec::new()) };
    let job = Job { engine, progress: &Progress::lines_only(), project, service, spec, wish, id: &service.name };
    let told = send(&job, &Caches::default()).await;
    Ok(told.map_err(|e| e.context(format!("failed to check service {}", service.name)))?.warnings)
}

/// What the engine said of a build.
#[derive(Debug, Default)]
struct Told {
    /// Output not shown yet.
    text: String,
    /// Lints, each a sentence.
    warnings: Vec<String>,
    /// The image that holds what the cache learnt; empty if it goes nowhere.
    cache: String,
}

impl Told {
    /// Takes in one message.
    ///
    /// # Errors
    /// The message says that the build failed.
    fn push(&mut self, message: &JsonMessage) -> Result<(), Error> {
        if let Some(error) = message.error_message() {
            return Err(Error::conflict(error.to_owned()));
        }
        if let Some(aux) = message.aux.as_ref().filter(|_| message.id == barque_api::build_extras::STATUS) {
            let status: SolveStatus = serde_json::from_value(aux.clone()).unwrap_or_default();
            let sentence = |w: &VertexWarning| STANDARD.decode(&w.short).unwrap_or_default();
            self.warnings.extend(status.warnings.iter().map(|w| String::from_utf8_lossy(&sentence(w)).into_owned()));
        }
        if let Some(aux) = message.aux.as_ref().filter(|_| message.id == barque_api::build_extras::CACHE) {
            aux["ID"].as_str().unwrap_or_default().clone_into(&mut self.cache);
        }
        self.text.push_str(&message.stream);
        if !message.status.is_empty() && message.progress_detail.is_none() {
            self.text.push_str(&format!("{} {}\n", message.id, message.status));
        }
        Ok(())
    }
}

async fn send(job: &Job<'_>, caches: &Caches) -> Result<Told, Error> {
    let &Job { engine, progress, project, service, spec, wish, .. } = job;
    let _turn = engine.turn().await;
    // linting changes nothing
    let client = if wish.check { engine.read().client() } else { engine.writer()? };
    let ours = client.is_barque().await.map_err(|e| model_error(&e))?;
    let beyond = build_extras::beyond_classic(spec, wish).filter(|_| !ours);
    let platforms = platforms(project, service, spec, wish)?;
    let several = (platforms.len() > 1).then_some("images for several platforms");
    if let Some(what) = beyond.or(several).or_else(|| unsupported(spec)) {
        return Err(Error::not_implemented(what));
    }
    let mut agents = Agents::default();
    let mut query = BuildQuery {
        cache_from: JsonParam(caches.imports.names.clone()),
        ..query(project, service, spec, wish, &platforms)
    };
    let mut headers = BuildHeaders { auth: registry_auth(engine, service), ..BuildHeaders::default() };
    let context = if paths::is_remote_context(&spec.context) {
        query.remote.clone_from(&spec.context);
        None
    } else {
        let context = BuildContext::new(Path::new(&spec.context), &spec.dockerfile, &spec.dockerfile_inline)?;
        query.dockerfile = context.dockerfile_name();
        Some(context)
    };
    let upload = if ours {
        let (mut extras, more) = extras(project, spec, wish, context.as_ref(), engine.is_nearby(), &mut agents)?;
        extras.export_cache = !caches.exports.places.is_empty();
        extras.cache_all = caches.exports.all;
        if extras.dockerfile.is_some() {
            query.dockerfile.clear();
        }
        let archive = context.filter(|_| extras.context_dir.is_empty());
        announced(&mut headers, &extras, archive, more)?
    } else {
        context.map_or_else(Upload::empty, |context| Upload::reader(super::context::reader(Some(context), More::new())))
    };
    let mut output = client.build(&query, &headers, upload).await.map_err(|e| model_error(&e))?;
    let mut told = Told::default();
    while let Some(message) = output.next().await.map_err(|e| model_error(&e))? {
        told.push(&message)?;
        print_lines(progress, &mut told.text, service, wish);
    }
    told.text.push('\n');
    print_lines(progress, &mut told.text, service, wish);
    Ok(told)
}

/// The platforms an image is built for; none: the engine's own.
///
/// # Errors
/// The platform it shall run on, by the file or by DOCKER_DEFAULT_PLATFORM, is none of `build.platforms`.
pub fn platforms(project: &Project, service: &Service, spec: &Build, wish: &BuildWish) -> Result<Vec<String>, Error> {
    let own = project.platform_of(service);
    if !own.is_empty() && !spec.platforms.is_empty() && !spec.platforms.contains(&own) {
        let name = &service.name;
        return Err(Error::invalid(if service.spec.platform.is_empty() {
            format!("service {name:?} build.platforms does not support value set by DOCKER_DEFAULT_PLATFORM: {own}")
        } else {
            format!("service {name:?} build configuration does not support platform: {own}")
        }));
    }
    Ok(match spec.platforms.len() {
        _ if !own.is_empty() && wish.to_run => vec![own],
        0 if !own.is_empty() => vec![own],
        2.. if wish.to_run => Vec::new(),
        _ => spec.platforms.clone(),
    })
}

/// The classic request of a build, which is for the first of [`platforms`].
pub fn query(project: &Project, service: &Service, spec: &Build, wish: &BuildWish, platforms: &[String]) -> BuildQuery {
    let mut tags = vec![service.image(&project.name)];
    tags.extend(spec.tags.iter().filter(|t| **t != tags[0]).cloned().collect::<Vec<_>>());
    let mut args = spec.args.clone();
    args.extend(wish.args.clone());
    let mut labels = spec.labels.clone();
    labels.insert(crate::plan::labels::PROJECT.to_owned(), project.name.clone());
    labels.insert(crate::plan::labels::SERVICE.to_owned(), service.name.clone());
    labels.insert(crate::plan::labels::VERSION.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    BuildQuery {
        tags,
        dockerfile: spec.dockerfile.clone(),
        no_cache: spec.no_cache || wish.no_cache,
        pull: if spec.pull || wish.pull { "1".to_owned() } else { String::new() },
        rm: Some(true),
        force_rm: true,
        memory: wish.memory,
        build_args: JsonParam(args),
        labels: JsonParam(labels),
        cache_from: JsonParam(spec.cache_from.clone()),
        network_mode: spec.network.clone(),
        platform: platforms.first().cloned().unwrap_or_default(),
        target: spec.target.clone(),
        shm_size: spec.shm_size,
        extra_hosts: spec.extra_hosts.iter().map(|h| h.replacen('=', ":", 1)).collect(),
        ulimits: JsonParam(ulimits(&spec.ulimits).unwrap_or_default()),
        isolation: spec.isolation.clone(),
        ..BuildQuery::default()
    }
}

/// The body for a Barque: its options as JSON, then an archive of what it cannot read in place.
fn announced(
    headers: &mut BuildHeaders,
    extras: &BuildExtras,
    archive: Option<BuildContext>,
    more: More,
) -> Result<Upload, Error> {
    let head = headers.announce(extras)?;
    if archive.is_none() && more.is_empty() {
        return Ok(Upload::bytes(head));
    }
    Ok(Upload::reader(std::io::Cursor::new(head).chain(super::context::reader(archive, more))))
}

/// Credentials for Docker Hub and for the registry of the image that is built, whose base may well be there, too.
fn registry_auth(engine: &Engine, service: &Service) -> barque_api::auth::AuthConfigs {
    let own = service.spec.image.parse::<barque_model::Reference>().map(|r| r.domain().to_owned()).ok();
    ["docker.io".to_owned()]
        .into_iter()
        .chain(own)
        .filter_map(|host| Some((host.clone(), engine.auth()(&host)?)))
        .collect()
}

fn print_lines(progress: &Progress, text: &mut String, service: &Service, wish: &BuildWish) {
    while let Some(at) = text.find('\n') {
        let line: String = text.drain(..=at).collect();
        let line = line.trim_end_matches(['\r', '\n']);
        if wish.quiet || line.trim().is_empty() {
            continue;
        }
        let prefix = if wish.prefix { format!("{}  ", service.name) } else { String::new() };
        progress.line(&format!("Service {}", service.name), &format!("{prefix}{line}"), line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_taken_out_of_the_stream() {
        let mut told = Told::default();
        let warning = VertexWarning { short: STANDARD.encode("StageNameCasing: …"), ..VertexWarning::default() };
        let status = SolveStatus { warnings: vec![warning], ..SolveStatus::default() };
        let message = JsonMessage {
            id: barque_api::build_extras::STATUS.into(),
            aux: serde_json::to_value(status).ok(),
            ..JsonMessage::default()
        };
        told.push(&message).expect("a status");
        told.push(&JsonMessage { stream: "Step 1/2\n".into(), ..JsonMessage::default() }).expect("text");
        assert_eq!(
            (told.warnings.as_slice(), told.text.as_str()),
            (&["StageNameCasing: …".to_owned()][..], "Step 1/2\n")
        );
        let failed = JsonMessage { error: "no such stage".into(), ..JsonMessage::default() };
        assert!(told.push(&failed).is_err());
    }

    #[test]
    fn tags_are_split_off() {
        let split = |s: &str| split_tag(s);
        assert_eq!(split("a"), ("a".into(), "latest".into()));
        assert_eq!(split("h:5000/a:1"), ("h:5000/a".into(), "1".into()));
        assert_eq!(split("h:5000/a"), ("h:5000/a".into(), "latest".into()));
        assert_eq!(split("a:1@sha256:x"), ("a".into(), "sha256:x".into()));
    }
}
