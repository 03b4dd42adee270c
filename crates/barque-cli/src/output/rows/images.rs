//! `images` and `history`.

use barque_api::image::{HistoryItem, ImageSummary};
use barque_model::Reference;
use barque_template::{Data, Struct};

use crate::output::human;
use crate::output::listing::Titles;

pub(crate) const TITLES: Titles = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

const TABLE: &str =
    "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";
const TABLE_DIGEST: &str = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";
const RAW: &str = "repository: {{ .Repository }}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n";
const RAW_DIGEST: &str = "repository: {{ .Repository }}\ntag: {{.Tag}}\ndigest: {{.Digest}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n";

/// The template of a named format.
pub(crate) fn format(source: &str, quiet: bool, digests: bool) -> String {
    match (source, quiet, digests) {
        ("table", true, _) => "{{.ID}}".into(),
        ("table", _, true) => TABLE_DIGEST.into(),
        ("table", ..) => TABLE.into(),
        ("raw", true, _) => "image_id: {{.ID}}".into(),
        ("raw", _, true) => RAW_DIGEST.into(),
        ("raw", ..) => RAW.into(),
        (source, _, true) if source.starts_with("table") && !source.contains("{{.Digest}}") => {
            format!("{source}\t{{{{.Digest}}}}")
        }
        (source, ..) => source.into(),
    }
}

/// How images are shown.
#[derive(Clone, Copy)]
pub(crate) struct View {
    pub(crate) trunc: bool,
    /// Digests have been asked for: names that are only digests get a line each.
    pub(crate) digests: bool,
    /// The format uses the digest.
    pub(crate) needs_digest: bool,
}

/// The lines of one image: one per name.
pub(crate) fn rows(image: &ImageSummary, view: View) -> Vec<Data> {
    if is_dangling(image) {
        return vec![row(image, view.trunc, "<none>", "<none>", "<none>")];
    }
    let tags = names(&image.repo_tags, |r| r.tag().map(str::to_owned));
    let mut digests = names(&image.repo_digests, |r| r.digest().map(|d| d.to_string()));
    let mut rows = Vec::new();
    for (repository, tags) in tags {
        let own = match digests.iter().position(|(name, _)| *name == repository) {
            Some(at) => digests.remove(at).1,
            None => Vec::new(),
        };
        for tag in tags {
            if own.is_empty() || !view.needs_digest {
                rows.push(row(image, view.trunc, &repository, &tag, "<none>"));
                continue;
            }
            rows.extend(own.iter().map(|digest| row(image, view.trunc, &repository, &tag, digest)));
        }
    }
    for (repository, own) in digests {
        if view.digests {
            rows.extend(own.iter().map(|digest| row(image, view.trunc, &repository, "<none>", digest)));
        } else {
            rows.push(row(image, view.trunc, &repository, "<none>", ""));
        }
    }
    rows
}

/// Repositories in the order in which they come, with what `part` takes of each reference.
fn names(list: &[String], part: impl Fn(&Reference) -> Option<String>) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for text in list {
        let Ok(reference) = text.parse::<Reference>() else { continue };
        let Some(value) = part(&reference) else { continue };
        let name = reference.familiar_name();
        match found.iter_mut().find(|(n, _)| *n == name) {
            Some((_, values)) => values.push(value),
            None => found.push((name, vec![value])),
        }
    }
    found
}

/// Without any name.
pub(crate) fn is_dangling(image: &ImageSummary) -> bool {
    let none = |list: &[String], name: &str| list.is_empty() || (list.len() == 1 && list[0] == name);
    none(&image.repo_tags, "<none>:<none>") && none(&image.repo_digests, "<none>@<none>")
}

/// Go's zero time in Unix seconds: nobody knows when it was.
const ZERO_TIME: i64 = -62_135_596_800;

/// One image under one name.
pub(crate) fn row(image: &ImageSummary, trunc: bool, repository: &str, tag: &str, digest: &str) -> Data {
    let created = image.created;
    let known = |value: i64, text: String| if value == -1 { "N/A".to_owned() } else { text };
    let unique = if image.size == -1 || image.shared_size == -1 { -1 } else { image.size - image.shared_size };
    Struct::row(
        "*formatter.imageContext",
        vec![
            ("ID", Data::str(if trunc { human::short_id(&image.id) } else { &image.id })),
            ("Repository", Data::str(repository)),
            ("Tag", Data::str(tag)),
            ("Digest", Data::str(digest)),
            ("CreatedSince", Data::from(if created == ZERO_TIME { String::new() } else { human::ago(created) })),
            ("CreatedAt", Data::lazy(move || Data::from(human::local_time(created)))),
            ("Size", Data::from(human::size3(image.size))),
            ("Containers", Data::from(known(image.containers, image.containers.to_string()))),
            ("VirtualSize", Data::from(human::size(image.size))),
            ("SharedSize", Data::from(known(image.shared_size, human::size(image.shared_size)))),
            ("UniqueSize", Data::from(known(unique, human::size(unique)))),
        ],
    )
}

pub(crate) const HISTORY_TITLES: Titles = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// The template of a named format of `history`.
pub(crate) fn history_format(source: &str, quiet: bool, human: bool) -> &str {
    match (source, quiet, human) {
        ("table", true, _) => "{{.ID}}",
        ("table", _, true) => "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
        ("table", ..) => "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
        (source, ..) => source,
    }
}

/// Before this (the year 2000), a time of creation says nothing.
const EPOCH: i64 = 946_684_800;

/// One step of an image's history.
pub(crate) fn history_row(item: &HistoryItem, trunc: bool, human: bool) -> Data {
    let created = item.created;
    let at = move || {
        let time = jiff::Timestamp::from_second(created).unwrap_or_default();
        let zoned = time.to_zoned(jiff::tz::TimeZone::system());
        let text = zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        text.strip_suffix("+00:00").map(|t| format!("{t}Z")).unwrap_or(text)
    };
    let since = match (human, created <= EPOCH) {
        (false, _) => at(),
        (true, true) => "N/A".to_owned(),
        (true, false) => human::ago(created),
    };
    let by = item.created_by.replace('\t', " ");
    Struct::row(
        "*image.historyContext",
        vec![
            ("ID", Data::str(if trunc { human::short_id(&item.id) } else { &item.id })),
            ("CreatedSince", Data::from(since)),
            ("CreatedAt", Data::lazy(move || Data::from(at()))),
            ("CreatedBy", Data::from(if trunc { human::ellipsis(&by, 45) } else { by })),
            ("Size", Data::from(if human { human::size3(item.size) } else { item.size.to_string() })),
            ("Comment", Data::str(&item.comment)),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tags: &[&str], digests: &[&str]) -> ImageSummary {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        ImageSummary { repo_tags: own(tags), repo_digests: own(digests), ..ImageSummary::default() }
    }

    fn flat(image: &ImageSummary, digests: bool) -> Vec<String> {
        let view = View { trunc: true, digests, needs_digest: digests };
        let template = barque_template::Template::parse("{{.Repository}}:{{.Tag}}@{{.Digest}}").expect("parses");
        let run = |row: &Data| template.execute(row, barque_template::Missing::NoValue).expect("runs");
        rows(image, view).iter().map(run).collect()
    }

    #[test]
    fn names_get_a_line_each() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let by_digest = format!("alpine@{digest}");
        let both = image(&["alpine:3", "alpine:latest", "127.0.0.1:5000/x:1"], &[&by_digest]);
        assert_eq!(flat(&both, false), ["alpine:3@<none>", "alpine:latest@<none>", "127.0.0.1:5000/x:1@<none>"]);
        assert_eq!(flat(&both, true)[0], format!("alpine:3@{digest}"));
        assert_eq!(flat(&image(&[], &[&by_digest]), false), ["alpine:<none>@"]);
        assert_eq!(flat(&image(&[], &[]), false), ["<none>:<none>@<none>"]);
    }
}
