//! `/images`.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Arc, Weak};

use barque_api::container::PruneQuery;
use barque_api::image::{
    ImageCreateQuery, ImageInspectQuery, ImageListQuery, ImageRemoveQuery, ImagesPruned, LoadQuery, PushQuery,
    SaveQuery, SearchQuery, TagQuery,
};
use barque_api::progress::JsonMessage;
use barque_engine::image::types::{ArchiveInput, PullOptions, ReadAt};
use barque_model::{Error, ErrorKind, Reference, Result, Timestamp};

use rustix::fs::OFlags;

use super::{Context, transfer};
use crate::convert;
use crate::filter::{self, image::ListFilter};
use crate::http::{self, Call, Outcome};
use crate::router::{Routed, inline, keep};
use crate::wording;

/// Finds the route below `/images`. Names may have slashes.
pub(crate) fn route(context: Context, method: &str, path: &[&str]) -> Option<Routed> {
    Some(match (method, path) {
        ("GET", ["json"]) => inline(list(context)),
        ("GET", ["search"]) => inline(search(context)),
        ("GET", ["get"]) => inline(save(context, None)),
        ("POST", ["create"]) => inline(create(context)),
        ("POST", ["load"]) => inline(load(context)),
        ("POST", ["prune"]) => keep(prune(context)),
        ("GET", [name @ .., "json"]) => inline(inspect(context, name.join("/"))),
        ("GET", [name @ .., "history"]) => inline(history(context, name.join("/"))),
        ("GET", [name @ .., "get"]) => inline(save(context, Some(name.join("/")))),
        ("GET", [_, .., "attestations"]) => inline(async { Err(Error::not_implemented("attestations of images")) }),
        ("POST", [name @ .., "push"]) => inline(push(context, name.join("/"))),
        ("POST", [name @ .., "tag"]) => keep(tag(context, name.join("/"))),
        ("DELETE", name) => keep(remove(context, name.join("/"))),
        _ => return None,
    })
}

async fn list(context: Context) -> Outcome {
    let Context { state, call } = context;
    let mut query = call.query(ImageListQuery::from_params)?;
    if !query.filter.is_empty() && call.version.before(25) {
        query.filters.add("reference", query.filter.clone());
    }
    let (before, since) =
        (query.filters.get("before").next().map(str::to_owned), query.filters.get("since").next().map(str::to_owned));
    let mut filter = ListFilter::new(query.filters.clone(), Timestamp::now())?;
    if let Some(name) = before {
        filter.before = filter::image::created(&state.engine.image(&name).await?);
    }
    if let Some(name) = since {
        filter.since = filter::image::created(&state.engine.image(&name).await?);
    }
    let images = match query.shared_size {
        true => state.engine.images_with_unique().await?,
        false => state.engine.images().await?,
    };
    let parents: std::collections::HashSet<_> = images.iter().filter_map(|image| image.parent).collect();
    let mut rows = Vec::new();
    for view in images {
        // Images without a name that others are built on are intermediate.
        let intermediate = view.tags.is_empty() && view.digests.is_empty() && parents.contains(&view.id);
        if intermediate && !query.all {
            continue;
        }
        if let Some(view) = filter.apply(view) {
            rows.push(convert::image::summary(&view, call.version));
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.created));
    http::json(&rows)
}

async fn inspect(context: Context, name: String) -> Outcome {
    let Context { state, call } = context;
    let query = call.query(ImageInspectQuery::from_params)?;
    let view = state.engine.image(&name).await?;
    if let Some(platform) = convert::image::platform(&query.platform)?
        && call.version.at_least(49)
        && (platform.os != view.config.os || platform.architecture != view.config.architecture)
    {
        return Err(Error::not_found(format!(
            "image with reference {name} was found but does not provide the specified platform ({platform})"
        )));
    }
    http::json(&convert::image::inspect(&view, call.version)?)
}

async fn history(context: Context, name: String) -> Outcome {
    let Context { state, call } = context;
    let query = call.query(ImageInspectQuery::from_params)?;
    let rows = state.engine.image_history(&name, convert::image::platform(&query.platform)?).await?;
    http::json(&rows.iter().map(convert::image::history).collect::<Vec<_>>())
}

/// `name`, `name:tag` or `name@digest` from the two parameters clients send.
fn reference(name: &str, tag: &str) -> Result<Reference> {
    let joined = match tag {
        "" => name.to_owned(),
        tag if tag.contains(':') => format!("{name}@{tag}"),
        tag => {
            // A tag given apart replaces the one in the name.
            let bare = match name.rsplit_once(':') {
                Some((bare, old)) if !old.contains('/') => bare,
                _ => name,
            };
            format!("{bare}:{tag}")
        }
    };
    joined.parse()
}

/// A pull, or an import.
async fn create(context: Context) -> Outcome {
    let query = context.call.query(ImageCreateQuery::from_params)?;
    if query.from_image.is_empty() {
        return import(context, query).await;
    }
    let Context { state, call } = context;
    let platform = match call.version.at_least(32) {
        true => convert::create::platform(&query.platform)?,
        false => None,
    };
    let name = query.from_image.trim_end_matches(':');
    let reference = reference(name, &query.tag)?;
    let all_tags = query.tag.is_empty() && reference.tag().is_none() && reference.digest().is_none();
    let auth = convert::auth::credentials(call.registry_auth());
    let options = PullOptions { reference, all_tags, platform, auth };
    let engine = state.engine.clone();
    transfer::stream(call.version, |sink| async move {
        engine.image_pull(options, sink).await?;
        Ok(Vec::new())
    })
    .await
    .map_err(not_a_login)
}

/// The registry wants a password: as in Docker's engine no matter between it and its client, which would ask for one
/// on the terminal, also where nobody sits at it.
fn not_a_login(error: Error) -> Error {
    if error.kind() != ErrorKind::Unauthorized {
        return error;
    }
    let hint = error.hint().map(str::to_owned);
    let plain = Error::internal(wording::sentence(&error));
    match hint.filter(|hint| !plain.message().contains(hint)) {
        Some(hint) => plain.with_hint(hint),
        None => plain,
    }
}

async fn import(context: Context, query: ImageCreateQuery) -> Outcome {
    let Context { state, mut call } = context;
    let platform = convert::create::platform(&query.platform)?;
    let name = match query.repo.as_str() {
        "" => None,
        repo => Some(reference(repo, &query.tag)?),
    };
    let message = match query.message.as_str() {
        "" => format!("Imported from {}", query.from_src),
        message => message.to_owned(),
    };
    let content = call.reader();
    let engine = state.engine.clone();
    let changes = query.changes.iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
    transfer::stream(call.version, |sink| async move {
        let id = match query.from_src.as_str() {
            "-" => engine.image_import(content, name, message, changes, platform).await?,
            url => engine.image_import_url(url, name, message, changes, platform, sink).await?,
        };
        Ok(vec![JsonMessage::status("", id.to_string())])
    })
    .await
}

/// `GET /distribution/{name}/json`.
pub(crate) fn distribution(context: Context, name: String) -> Routed {
    inline(async move {
        let Context { state, call } = context;
        let reference = barque_engine::image::fetch::distribution_reference(&name)?;
        let auth = convert::auth::credentials(call.registry_auth());
        let found = state.engine.image_distribution(&reference, &auth).await?;
        http::json(&convert::image::distribution(&found))
    })
}

async fn push(context: Context, name: String) -> Outcome {
    let Context { state, call } = context;
    let query = call.query(PushQuery::from_params)?;
    let reference = reference(&name, &query.tag)?;
    let all_tags = query.tag.is_empty() && reference.tag().is_none();
    let platform = match call.version.at_least(46) {
        true => convert::image::platform(&query.platform)?,
        false => None,
    };
    let auth = convert::auth::credentials(call.registry_auth());
    let engine = state.engine.clone();
    transfer::stream(call.version, |sink| async move {
        engine.image_push(reference, all_tags, platform, auth, sink).await?;
        Ok(Vec::new())
    })
    .await
}

async fn tag(context: Context, name: String) -> Outcome {
    let query = context.call.query(TagQuery::from_params)?;
    let new = reference(&query.repo, &query.tag)?.with_default_tag();
    context.state.engine.image_tag(&name, &new).await?;
    Ok(http::status(::http::StatusCode::CREATED))
}

async fn remove(context: Context, name: String) -> Outcome {
    let query = context.call.query(ImageRemoveQuery::from_params)?;
    if name.trim().is_empty() {
        return Err(Error::invalid(wording::BLANK_IMAGE_NAME));
    }
    context.state.engine.image_has_platforms(&name, &platforms(&query.platforms)?)?;
    let removed = context.state.engine.image_remove(&name, query.force, query.noprune).await?;
    http::json(&removed.iter().map(convert::image::removal).collect::<Vec<_>>())
}

async fn prune(context: Context) -> Outcome {
    let query = context.call.query(PruneQuery::from_params)?;
    let (all, filter) = filter::image::prune(query.filters, Timestamp::now())?;
    let (removed, bytes) =
        context.state.engine.images_prune(all, filter, super::dry(query.dry_run, &query.without)?).await?;
    super::pruned(&context, "image", bytes, query.dry_run);
    let removed: Vec<_> = removed.iter().map(convert::image::removal).collect();
    http::json(&ImagesPruned { images_deleted: convert::listed(removed), space_reclaimed: bytes })
}

async fn search(context: Context) -> Outcome {
    let Context { state, call } = context;
    let query = call.query(SearchQuery::from_params)?;
    let filters = &query.filters;
    filter::check(filters, &["is-automated", "is-official", "stars"])?;
    let limit = match query.limit {
        0 => 25,
        limit => u32::try_from(limit)
            .ok()
            .filter(|limit| *limit <= 100)
            .ok_or_else(|| Error::invalid(format!("limit {limit} is outside the range of [1, 100]")))?,
    };
    let official = filter::boolean(filters, "is-official")?;
    let automated = filter::boolean(filters, "is-automated")?;
    let mut stars = 0;
    for text in filters.get("stars") {
        stars = text.parse::<i64>().map_err(|_| wording::invalid_filter_value("stars", text))?.max(stars);
    }
    let auth = convert::auth::credentials(call.registry_auth());
    let hits = state.engine.image_search(&query.term, limit, &auth).await?;
    let kept = hits.iter().filter(|hit| {
        hit.stars >= stars
            && official.is_none_or(|wanted| hit.official == wanted)
            && automated.is_none_or(|wanted| hit.automated == wanted)
    });
    http::json(&kept.map(convert::image::search_hit).collect::<Vec<_>>())
}

async fn save(context: Context, name: Option<String>) -> Outcome {
    let Context { state, call } = context;
    let query = call.query(SaveQuery::from_params)?;
    let names = match name {
        Some(name) => vec![name],
        None => query.names,
    };
    if names.is_empty() {
        return Err(Error::invalid("no image name was given"));
    }
    let content = state.engine.image_save(&names, platforms(&query.platform)?).await?;
    Ok(http::reader("application/x-tar", content))
}

fn platforms(list: &[String]) -> Result<Vec<barque_model::Platform>> {
    list.iter().filter_map(|one| convert::image::platform(one).transpose()).collect()
}

async fn load(context: Context) -> Outcome {
    let Context { state, mut call } = context;
    let query = call.query(LoadQuery::from_params)?;
    let platforms = platforms(&query.platform)?;
    let quiet = query.quiet.unwrap_or(true);
    let (archive, wanted) = archive(&mut call, &query)?;
    let engine = state.engine.clone();
    let outcome = transfer::stream(call.version, |sink| async move {
        let _wanted = wanted;
        let sink = if quiet { tokio::sync::mpsc::unbounded_channel().0 } else { sink };
        let lines = engine.image_load(archive, sink, platforms).await?;
        Ok(lines.into_iter().map(|line| JsonMessage::stream(format!("{line}\n"))).collect())
    })
    .await;
    match outcome {
        // Docker begins the stream before it reads the archive.
        Err(error) if error.kind() != ErrorKind::Canceled => {
            let mut document = serde_json::to_vec(&JsonMessage::error(wording::sentence(&error)))
                .map_err(|why| Error::internal("cannot encode the error").with_source(why))?;
            document.extend_from_slice(b"\r\n");
            Ok(http::bytes("application/json", document.into()))
        }
        outcome => outcome,
    }
}

/// The archive of a load, and what has to live as long as somebody waits for it.
fn archive(call: &mut Call, query: &LoadQuery) -> Result<(ArchiveInput, Arc<()>)> {
    let wanted = Arc::new(());
    if query.file.is_empty() {
        return Ok((ArchiveInput::Stream(call.reader()), wanted));
    }
    convert::build_extras::only_here(call.local)?;
    // Not to wait for somebody who writes into a pipe.
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(&query.file);
    let file = file.map_err(|e| Error::from(e).context(format!("open {}", query.file)))?;
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        return Err(Error::invalid(format!("{} is no ordinary file", query.file)));
    }
    Ok((ArchiveInput::File(Box::new(Awaited { file, wanted: Arc::downgrade(&wanted) })), wanted))
}

/// A file that fails when nobody waits for it any more, as a body does whose client has gone.
struct Awaited {
    file: File,
    wanted: Weak<()>,
}

impl ReadAt for Awaited {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.wanted.strong_count() == 0 {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client has gone"));
        }
        self.file.read_at(buffer, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let of = |name: &str, tag: &str| reference(name, tag).unwrap().familiar();
        assert_eq!(of("busybox", ""), "busybox");
        assert_eq!(of("busybox", "1"), "busybox:1");
        assert_eq!(of("localhost:5000/a", "2"), "localhost:5000/a:2");
        assert_eq!(of("a:1", "2"), "a:2");
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(of("a", &digest), format!("a@{digest}"));
        assert!(reference("UPPER", "").is_err());
    }
}
