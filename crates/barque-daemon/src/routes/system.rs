//! `/_ping`, `/version`, `/info`, `/system/df`, `/auth`.

use ::http::header::{CACHE_CONTROL, HeaderName, HeaderValue, PRAGMA};
use barque_api::ApiVersion;
use barque_api::auth::{AuthConfig, AuthResponse};
use barque_api::build::BuildCacheRecord;
use barque_api::container::ContainerSummary;
use barque_api::image::ImageSummary;
use barque_api::system::{DiskUsage, DiskUsageQuery, Usage};
use barque_api::volume::Volume;
use barque_engine::system::DiskUsage as EngineUsage;
use barque_model::{Error, Timestamp};

use super::Context;
use crate::convert;
use crate::http::{self, Outcome};
use crate::router::{Routed, inline};
use crate::wording;

/// Finds the route of the engine as a whole.
pub(crate) fn route(context: Context, method: &str, path: &[&str]) -> Option<Routed> {
    Some(match (method, path) {
        ("GET" | "HEAD", ["_ping"]) => inline(std::future::ready(ping())),
        ("GET", ["version"]) => inline(version(context)),
        ("GET", ["info"]) => inline(info(context)),
        ("GET", ["system", "df"]) => inline(disk_usage(context)),
        ("POST", ["auth"]) => inline(auth(context)),
        _ => return None,
    })
}

/// The builder is the classic one as far as clients are concerned: they send a tar archive to `/build`.
fn ping() -> Outcome {
    const BUILDER_VERSION: HeaderName = HeaderName::from_static("builder-version");
    const SWARM: HeaderName = HeaderName::from_static("swarm");
    let mut reply = http::text("OK");
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(BUILDER_VERSION, HeaderValue::from_static("1"));
    headers.insert(SWARM, HeaderValue::from_static("inactive"));
    Ok(reply)
}

async fn version(context: Context) -> Outcome {
    let info = context.state.engine.info().await?;
    let mut version = convert::system::version(&context.state, &info);
    let agent = context.call.headers.get(hyper::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if let Some(newest) = newest_known(agent) {
        version.api_version = newest.to_string();
    }
    http::json(&version)
}

/// Docker Compose 1 takes the newest version an engine offers, and then fails over what that no longer has
/// (`ContainerConfig` of images since 1.45, `id` of events since 1.52). It is offered the last one it knows.
fn newest_known(user_agent: &str) -> Option<ApiVersion> {
    user_agent.starts_with("docker-compose/1.").then_some(ApiVersion::new(1, 41))
}

async fn info(context: Context) -> Outcome {
    let Context { state, call } = context;
    let info = state.engine.info().await?;
    http::json(&convert::system::info(&state, &info, call.version))
}

/// Checks credentials with the registry.
async fn auth(context: Context) -> Outcome {
    let Context { state, mut call } = context;
    let wire: AuthConfig = match call.bytes().await? {
        empty if empty.is_empty() => AuthConfig::default(),
        bytes => http::decode(&bytes)?,
    };
    let server = wire.serveraddress.clone();
    let (_, identity_token) = state.engine.registry_login(&server, &convert::auth::credentials(wire)).await?;
    http::json(&AuthResponse { identity_token, status: wording::LOGIN_SUCCEEDED.into() })
}

/// Which kinds of objects were asked for.
struct Kinds {
    containers: bool,
    images: bool,
    volumes: bool,
    build_cache: bool,
}

impl Kinds {
    fn of(names: &[String], version: ApiVersion) -> barque_model::Result<Kinds> {
        let all = names.is_empty() || version.before(42);
        let mut kinds = Kinds { containers: all, images: all, volumes: all, build_cache: all };
        for name in names.iter().filter(|_| !all) {
            match name.as_str() {
                "container" => kinds.containers = true,
                "image" => kinds.images = true,
                "volume" => kinds.volumes = true,
                "build-cache" => kinds.build_cache = true,
                other => return Err(Error::invalid(format!("unknown object type: {other}"))),
            }
        }
        Ok(kinds)
    }
}

async fn disk_usage(context: Context) -> Outcome {
    let Context { state, call } = context;
    let query = call.query(DiskUsageQuery::from_params)?;
    let kinds = Kinds::of(&query.kinds, call.version)?;
    let usage = state.engine.disk_usage().await?;
    http::json(&document(&usage, &kinds, query.verbose, call.version))
}

/// The lists for clients up to 1.51 and those that name no version; the sums since 1.52.
fn document(usage: &EngineUsage, kinds: &Kinds, verbose: bool, version: ApiVersion) -> DiskUsage {
    let new = version.at_least(52);
    let lists = !new || !verbose;
    let rows = Rows::of(usage, version);
    let mut document = DiskUsage::default();
    if lists {
        document.layers_size = kinds.images.then(|| signed(usage.layers_size));
        document.images = kinds.images.then(|| rows.images.clone());
        document.containers = kinds.containers.then(|| rows.containers.clone());
        document.volumes = kinds.volumes.then(|| rows.volumes.clone());
        document.build_cache = kinds.build_cache.then(|| rows.build_cache.clone());
    }
    if new {
        document.image_usage = kinds.images.then(|| images(usage, &rows.images, verbose));
        document.container_usage = kinds.containers.then(|| containers(usage, &rows.containers, verbose));
        document.volume_usage = kinds.volumes.then(|| volumes(usage, &rows.volumes, verbose));
        document.build_cache_usage = kinds.build_cache.then(|| build_cache(&rows.build_cache, verbose));
    } else if version.before(42) {
        document.builder_size = kinds.build_cache.then(|| rows.build_cache.iter().map(|record| record.size).sum());
    }
    document
}

struct Rows {
    images: Vec<ImageSummary>,
    containers: Vec<ContainerSummary>,
    volumes: Vec<Volume>,
    build_cache: Vec<BuildCacheRecord>,
}

impl Rows {
    fn of(usage: &EngineUsage, version: ApiVersion) -> Rows {
        let now = Timestamp::now();
        let image = |view| {
            let mut row = convert::image::summary(view, version);
            row.containers = i64::try_from(view.containers).unwrap_or(-1);
            row.shared_size = row.shared_size.max(0);
            row
        };
        Rows {
            images: usage.images.iter().map(image).collect(),
            containers: usage
                .containers
                .iter()
                .map(|(view, rw, root)| {
                    convert::summary::row(view, view.spec.image_id, Some((*rw, *root)), now, version)
                })
                .collect(),
            volumes: usage.volumes.iter().map(|(view, size)| convert::volume::volume(view, Some(*size))).collect(),
            build_cache: usage.build_cache.iter().map(convert::build::record).collect(),
        }
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn items<T: Clone>(rows: &[T], verbose: bool) -> Option<Vec<T>> {
    verbose.then(|| rows.to_vec())
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn images(usage: &EngineUsage, rows: &[ImageSummary], verbose: bool) -> Usage<ImageSummary> {
    Usage {
        active_count: count(usage.images.iter().filter(|view| view.containers > 0).count()),
        items: items(rows, verbose),
        reclaimable: signed(usage.images_reclaimable),
        total_count: count(rows.len()),
        total_size: signed(usage.layers_size),
    }
}

fn containers(usage: &EngineUsage, rows: &[ContainerSummary], verbose: bool) -> Usage<ContainerSummary> {
    let size = |active: bool| -> i64 {
        let rows = usage.containers.iter().filter(|(view, ..)| view.state.is_running() == active);
        signed(rows.map(|(_, rw, _)| rw).sum())
    };
    Usage {
        active_count: count(usage.containers.iter().filter(|(view, ..)| view.state.is_running()).count()),
        items: items(rows, verbose),
        reclaimable: size(false),
        total_count: count(rows.len()),
        total_size: size(false).saturating_add(size(true)),
    }
}

fn volumes(usage: &EngineUsage, rows: &[Volume], verbose: bool) -> Usage<Volume> {
    let unused = usage.volumes.iter().filter(|(view, _)| view.used_by.is_empty());
    Usage {
        active_count: count(usage.volumes.len() - unused.clone().count()),
        items: items(rows, verbose),
        reclaimable: signed(unused.map(|(_, size)| size).sum()),
        total_count: count(rows.len()),
        total_size: signed(usage.volumes.iter().map(|(_, size)| size).sum()),
    }
}

fn build_cache(rows: &[BuildCacheRecord], verbose: bool) -> Usage<BuildCacheRecord> {
    Usage {
        active_count: count(rows.iter().filter(|record| record.in_use).count()),
        items: items(rows, verbose),
        reclaimable: rows.iter().filter(|record| !record.in_use && !record.shared).map(|record| record.size).sum(),
        total_count: count(rows.len()),
        total_size: rows.iter().filter(|record| !record.shared).map(|record| record.size).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_objects() {
        let kinds = Kinds::of(&["image".into(), "volume".into()], ApiVersion::MAX).unwrap();
        assert!(kinds.images && kinds.volumes && !kinds.containers && !kinds.build_cache);
        assert!(Kinds::of(&["image".into()], ApiVersion::new(1, 41)).unwrap().containers);
        let error = Kinds::of(&["foo".into()], ApiVersion::MAX).err().unwrap();
        assert_eq!(error.to_string(), "unknown object type: foo");
    }

    #[test]
    fn documents_by_version() {
        let usage = EngineUsage { layers_size: 7, ..EngineUsage::default() };
        let kinds = Kinds::of(&[], ApiVersion::MAX).unwrap();
        let keys = |minor, verbose| {
            let document = document(&usage, &kinds, verbose, ApiVersion::new(1, minor));
            let value = serde_json::to_value(&document).unwrap();
            value.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
        };
        let old = ["LayersSize", "Images", "Containers", "Volumes", "BuildCache"];
        let new = ["ImageUsage", "ContainerUsage", "VolumeUsage", "BuildCacheUsage"];
        assert_eq!(keys(43, false), old);
        assert_eq!(keys(56, true), new);
        assert_eq!(keys(56, false), [&old[..], &new[..]].concat());
        assert_eq!(keys(41, false), [&old[..], &["BuilderSize"]].concat());
    }

    #[test]
    fn compose_1_is_offered_what_it_knows() {
        let old = "docker-compose/1.29.2 docker-py/5.0.3 Linux/6.1.0";
        assert_eq!(newest_known(old), Some(ApiVersion::new(1, 41)));
        assert_eq!(newest_known("docker-sdk-python/7.1.0"), None);
        assert_eq!(newest_known("Docker-Client/28.2.2 (linux)"), None);
    }
}
