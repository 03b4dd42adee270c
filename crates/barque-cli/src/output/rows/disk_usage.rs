//! `system df`.

use barque_api::build::BuildCacheRecord;
use barque_api::container::ContainerSummary;
use barque_api::image::ImageSummary;
use barque_api::system::DiskUsage;
use barque_api::volume::Volume;
use barque_model::time::Timestamp;
use barque_template::{Data, Struct};

use crate::output::human;
use crate::output::listing::Titles;

pub(crate) const TITLES: Titles = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];
pub(crate) const TABLE: &str = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
pub(crate) const RAW: &str =
    "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n";

pub(crate) const IMAGES: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
pub(crate) const CONTAINERS: &str =
    "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
pub(crate) const VOLUMES: &str = "table {{.Name}}\t{{.Links}}\t{{.Size}}";
pub(crate) const CACHE: &str =
    "table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}";

pub(crate) const CACHE_TITLES: Titles = &[
    ("ID", "CACHE ID"),
    ("Parent", "PARENT"),
    ("CacheType", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("InUse", "IN USE"),
    ("Shared", "SHARED"),
    ("Description", "DESCRIPTION"),
];

/// The figures of one kind of object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) kind: &'static str,
    pub(crate) total: usize,
    pub(crate) active: usize,
    /// Bytes.
    pub(crate) size: i64,
    /// Bytes.
    pub(crate) reclaimable: i64,
}

/// The four lines of the short form.
pub(crate) fn summary(usage: &DiskUsage) -> [Usage; 4] {
    let mut of_images = images(usage.images.as_deref().unwrap_or_default(), usage.layers_size.unwrap_or_default());
    if let Some(said) = &usage.image_usage {
        of_images.reclaimable = said.reclaimable;
    }
    [
        of_images,
        containers(usage.containers.as_deref().unwrap_or_default()),
        volumes(usage.volumes.as_deref().unwrap_or_default()),
        cache(usage.build_cache.as_deref().unwrap_or_default(), usage.builder_size),
    ]
}

fn images(list: &[ImageSummary], layers: i64) -> Usage {
    let in_use = list.iter().filter(|i| i.containers != 0 && i.size != -1 && i.shared_size != -1);
    let used: i64 = in_use.map(|i| i.size - i.shared_size).sum();
    Usage {
        kind: "Images",
        total: list.len(),
        active: list.iter().filter(|i| i.containers > 0).count(),
        size: layers,
        reclaimable: layers - used,
    }
}

fn containers(list: &[ContainerSummary]) -> Usage {
    let active = |c: &&ContainerSummary| matches!(c.state.as_str(), "running" | "paused" | "restarting");
    Usage {
        kind: "Containers",
        total: list.len(),
        active: list.iter().filter(active).count(),
        size: list.iter().map(|c| c.size_rw).sum(),
        reclaimable: list.iter().filter(|c| !active(c)).map(|c| c.size_rw).sum(),
    }
}

fn volumes(list: &[Volume]) -> Usage {
    let known = || list.iter().filter_map(|v| v.usage_data.as_ref()).filter(|u| u.size != -1);
    Usage {
        kind: "Local Volumes",
        total: list.len(),
        active: list.iter().filter_map(|v| v.usage_data.as_ref()).filter(|u| u.ref_count > 0).count(),
        size: known().map(|u| u.size).sum(),
        reclaimable: known().filter(|u| u.ref_count == 0).map(|u| u.size).sum(),
    }
}

fn cache(list: &[BuildCacheRecord], size: Option<i64>) -> Usage {
    let total: i64 = list.iter().filter(|r| !r.shared).map(|r| r.size).sum();
    let in_use: i64 = list.iter().filter(|r| r.in_use && !r.shared).map(|r| r.size).sum();
    let size = size.unwrap_or(total);
    Usage {
        kind: "Build Cache",
        total: list.len(),
        active: list.iter().filter(|r| r.in_use).count(),
        size,
        reclaimable: size - in_use,
    }
}

/// One kind of object.
pub(crate) fn row(usage: &Usage) -> Data {
    let reclaimable = human::size(usage.reclaimable);
    // The build cache has no percentage in Docker's table.
    let share = match usage.size {
        size if size > 0 && usage.kind != "Build Cache" => {
            format!("{reclaimable} ({}%)", usage.reclaimable * 100 / size)
        }
        _ => reclaimable,
    };
    Struct::row(
        "*formatter.diskUsageContext",
        vec![
            ("Type", Data::str(usage.kind)),
            ("TotalCount", Data::from(usage.total.to_string())),
            ("Active", Data::from(usage.active.to_string())),
            ("Size", Data::from(human::size(usage.size))),
            ("Reclaimable", Data::from(share)),
        ],
    )
}

/// One record of the build cache.
pub(crate) fn cache_row(record: &BuildCacheRecord, trunc: bool) -> Data {
    let short = |id: &str| if trunc { human::short_id(id).to_owned() } else { id.to_owned() };
    let since = |time: &str| time.parse::<Timestamp>().map(human::since).unwrap_or_default();
    let last = record.last_used_at.as_deref().unwrap_or_default();
    let parent = match (&record.parents, &record.parent) {
        (Some(parents), _) if !parents.is_empty() => parents.join(", "),
        (_, parent) => parent.clone().unwrap_or_default(),
    };
    let id = short(&record.id);
    Struct::row(
        "*formatter.buildCacheContext",
        vec![
            ("ID", Data::from(if record.in_use { id + "*" } else { id })),
            ("Parent", Data::from(short(&parent))),
            ("CacheType", Data::str(&record.kind)),
            ("Description", Data::str(&record.description)),
            ("Size", Data::from(human::size3(record.size))),
            ("CreatedAt", Data::from(human::go_time(&record.created_at))),
            ("CreatedSince", Data::from(since(&record.created_at))),
            ("LastUsedAt", Data::from(if last.is_empty() { String::new() } else { human::go_time(last) })),
            ("LastUsedSince", Data::from(if last.is_empty() { String::new() } else { since(last) })),
            ("UsageCount", Data::from(record.usage_count.to_string())),
            ("InUse", Data::from(record.in_use.to_string())),
            ("Shared", Data::from(record.shared.to_string())),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_is_not_reclaimable() {
        let usage: DiskUsage = barque_api::json::from_str(
            r#"{"LayersSize":1000,
                "Images":[{"Containers":1,"Size":600,"SharedSize":100},{"Containers":0,"Size":400,"SharedSize":0}],
                "Containers":[{"State":"running","SizeRw":10},{"State":"exited","SizeRw":30}],
                "Volumes":[{"Name":"a","UsageData":{"RefCount":1,"Size":5}},{"Name":"b","UsageData":{"RefCount":0,"Size":15}}],
                "BuildCache":[{"ID":"x","InUse":true,"Size":7},{"ID":"y","Size":3}]}"#,
        )
        .expect("parses");
        let flat = |u: &Usage| (u.total, u.active, u.size, u.reclaimable);
        let lines = summary(&usage);
        assert_eq!(flat(&lines[0]), (2, 1, 1000, 500));
        assert_eq!(flat(&lines[1]), (2, 1, 40, 30));
        assert_eq!(flat(&lines[2]), (2, 1, 20, 15));
        assert_eq!(flat(&lines[3]), (2, 1, 10, 3));
        let text =
            crate::output::listing::render("{{.Reclaimable}}", TITLES, &lines.iter().map(row).collect::<Vec<_>>());
        assert_eq!(text.expect("renders"), "500B (50%)\n30B (75%)\n15B (75%)\n3B\n");
        // An engine that says what would be freed is believed.
        let image_usage = Some(barque_api::system::Usage { reclaimable: 300, ..Default::default() });
        assert_eq!(flat(&summary(&DiskUsage { image_usage, ..usage })[0]), (2, 1, 1000, 300));
    }
}
