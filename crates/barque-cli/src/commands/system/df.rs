//! `system df`.

use barque_api::ApiVersion;
use barque_api::container::ContainerSummary;
use barque_api::image::ImageSummary;
use barque_api::system::{DiskUsage, DiskUsageQuery};
use barque_model::Reference;
use barque_template::{Data, Struct};

use crate::cli::Invocation;
use crate::error::CliResult;
use crate::output::rows::{containers, disk_usage as rows, images, misc};
use crate::output::{human, listing};

pub(crate) async fn df(inv: &Invocation<'_>) -> CliResult<u8> {
    let verbose = inv.flags.is("verbose");
    let query = DiskUsageQuery { verbose: true, ..DiskUsageQuery::default() };
    let client = inv.client().await?;
    // Since this version engines tell what removing all unused images frees; before, it is reckoned from their sizes,
    // which is too much where the build cache keeps layers.
    let telling = ApiVersion::new(1, 52);
    let known = client.server().await?.api_version.parse().is_ok_and(|newest: ApiVersion| newest >= telling);
    let usage = match known && std::env::var_os("DOCKER_API_VERSION").is_none() {
        true => client.in_version(telling).disk_usage(&query).await?,
        false => client.disk_usage(&query).await?,
    };
    let usage = completed(usage);
    let format = listing::choose(inv.flags.text("format"), None, false);
    if verbose {
        return match format {
            "table" => tables(inv, &usage),
            format => template(inv, &usage, format),
        };
    }
    let format = match format {
        "table" => rows::TABLE,
        "raw" => rows::RAW,
        other => other,
    };
    let lines: Vec<Data> = rows::summary(&usage).iter().map(rows::row).collect();
    inv.cli.out(&listing::render(format, rows::TITLES, &lines)?)?;
    Ok(0)
}

/// The lists as engines before 1.52 send them. What newer ones say of images stays: only they know what is freed.
pub(crate) fn completed(mut usage: DiskUsage) -> DiskUsage {
    if let Some(images) = &mut usage.image_usage {
        usage.layers_size = Some(images.total_size);
        usage.images = images.items.take();
    }
    if let Some(containers) = usage.container_usage.take() {
        usage.containers = containers.items;
    }
    if let Some(volumes) = usage.volume_usage.take() {
        usage.volumes = volumes.items;
    }
    if let Some(cache) = usage.build_cache_usage.take() {
        usage.build_cache = cache.items;
    }
    if usage.builder_size == Some(0) {
        usage.builder_size = None;
    }
    let cache = usage.build_cache.get_or_insert_default();
    // What was used last stands last.
    cache.sort_by(|a, b| (&a.last_used_at, &a.id).cmp(&(&b.last_used_at, &b.id)));
    usage
}

fn image_row(image: &ImageSummary, trunc: bool) -> Data {
    let named = image.repo_tags.first().filter(|_| !images::is_dangling(image));
    let reference = named.and_then(|name| name.parse::<Reference>().ok());
    let (repository, tag) = match &reference {
        Some(r) => (r.familiar_name(), r.tag().unwrap_or("<none>").to_owned()),
        None => ("<none>".to_owned(), "<none>".to_owned()),
    };
    images::row(image, trunc, &repository, &tag, "")
}

fn container_row(container: &ContainerSummary, trunc: bool) -> Data {
    // The size of the image is not the container's.
    let own = ContainerSummary { size_root_fs: 0, ..container.clone() };
    containers::row(&own, trunc)
}

fn tables(inv: &Invocation<'_>, usage: &DiskUsage) -> CliResult<u8> {
    let mut out = String::from("Images space usage:\n\n");
    let lines: Vec<Data> = usage.images.iter().flatten().map(|i| image_row(i, true)).collect();
    out.push_str(&listing::render(rows::IMAGES, images::TITLES, &lines)?);
    out.push_str("\nContainers space usage:\n\n");
    let lines: Vec<Data> = usage.containers.iter().flatten().map(|c| container_row(c, true)).collect();
    out.push_str(&listing::render(rows::CONTAINERS, containers::TITLES, &lines)?);
    out.push_str("\nLocal Volumes space usage:\n\n");
    let lines: Vec<Data> = usage.volumes.iter().flatten().map(misc::volume_row).collect();
    out.push_str(&listing::render(rows::VOLUMES, misc::VOLUME_TITLES, &lines)?);
    let cache = usage.build_cache.iter().flatten();
    let size: i64 = cache.clone().filter(|r| !r.shared).map(|r| r.size).sum();
    out.push_str(&format!("\nBuild cache usage: {}\n\n", human::size(size)));
    let lines: Vec<Data> = cache.map(|r| rows::cache_row(r, true)).collect();
    out.push_str(&listing::render(rows::CACHE, rows::CACHE_TITLES, &lines)?);
    inv.cli.out(&out)?;
    Ok(0)
}

fn template(inv: &Invocation<'_>, usage: &DiskUsage, format: &str) -> CliResult<u8> {
    let list = |items: Vec<Data>| Data::List(std::rc::Rc::new(items));
    let all = Struct::shown(
        "*formatter.diskUsageContext",
        vec![
            ("Images", list(usage.images.iter().flatten().map(|i| image_row(i, false)).collect())),
            ("Containers", list(usage.containers.iter().flatten().map(|c| container_row(c, false)).collect())),
            ("Volumes", list(usage.volumes.iter().flatten().map(misc::volume_row).collect())),
            ("BuildCache", list(usage.build_cache.iter().flatten().map(|r| rows::cache_row(r, false)).collect())),
        ],
    );
    let text = if format == "json" { "{{json .}}" } else { format };
    let text = text.replace("\\t", "\t").replace("\\n", "\n");
    inv.cli.line(&listing::execute(&listing::parse(&text)?, &all)?)?;
    Ok(0)
}
