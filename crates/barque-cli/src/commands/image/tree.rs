//! `images --tree`: each image with its names and, below, the platforms it is for.

use barque_api::image::{ImageInspectQuery, ImageSummary, ManifestSummary, Platform};

use crate::cli::Invocation;
use crate::error::CliResult;
use crate::output::human;
use crate::output::rows::images::is_dangling;
use crate::term;

/// Width of what stands to the right of the names: id, two sizes, marks, and the gaps before them.
const RIGHT: usize = 12 + 10 + 12 + 5 + 4 * GAP.len();
const GAP: &str = "   ";
/// Columns of an output that is no terminal.
const PLAIN: usize = 80;
const WARNING: &str = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";
const LEGEND: &str = "Info ->  U In Use ";

/// What one line says to the right of its name.
struct Facts {
    id: String,
    /// Bytes on the disk.
    usage: i64,
    /// Bytes of what a registry would get.
    content: i64,
    used: bool,
}

struct Branch {
    platform: String,
    facts: Facts,
}

struct Tree {
    /// The longest first.
    names: Vec<String>,
    facts: Facts,
    branches: Vec<Branch>,
}

pub(super) async fn show(inv: &Invocation<'_>, found: &[ImageSummary]) -> CliResult<u8> {
    let mut trees = Vec::new();
    for image in found.iter().filter(|image| inv.flags.is("all") || !is_dangling(image)) {
        let mut tree = tree(image);
        if image.manifests.is_none() {
            // An engine whose images are of one platform each does not list it.
            let details = inv.client().await?.image_inspect(&image.id, &ImageInspectQuery::default()).await?;
            let (os, architecture, variant) = (details.os, details.architecture, details.variant);
            let platform = name_of(&Platform { os, architecture, variant, ..Platform::default() });
            let facts = Facts { id: image.id.clone(), content: 0, used: image.containers > 0, usage: image.size };
            tree.branches.push(Branch { platform, facts });
        }
        trees.push(tree);
    }
    let columns = match term::size_out().1 {
        0 => PLAIN,
        columns => usize::try_from(columns).unwrap_or(PLAIN),
    };
    inv.cli.out(&render(&trees, columns))?;
    Ok(0)
}

fn name_of(platform: &Platform) -> String {
    let variant = if platform.variant.is_empty() { String::new() } else { format!("/{}", platform.variant) };
    format!("{}/{}{variant}", platform.os, platform.architecture)
}

fn tree(image: &ImageSummary) -> Tree {
    let branch = |manifest: &ManifestSummary| {
        // What attests something about an image is for no platform.
        let data = manifest.image_data.as_ref().filter(|_| manifest.kind == "image")?;
        let ManifestSummary { id, size, .. } = manifest;
        let used = !data.containers.is_empty();
        let facts = Facts { id: id.clone(), usage: size.total, content: size.content, used };
        Some(Branch { platform: name_of(&data.platform), facts })
    };
    let branches: Vec<Branch> = image.manifests.iter().flatten().filter_map(branch).collect();
    let mut names: Vec<String> = image.repo_tags.iter().filter(|name| !name.starts_with('<')).cloned().collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    if names.is_empty() {
        names.push("<untagged>".into());
    }
    let facts = Facts {
        id: image.id.clone(),
        usage: image.size,
        content: branches.iter().map(|branch| branch.facts.content).sum(),
        used: image.containers > 0 || branches.iter().any(|branch| branch.facts.used),
    };
    Tree { names, facts, branches }
}

fn render(trees: &[Tree], columns: usize) -> String {
    let twig = |branch: usize, of: &Tree| if branch + 1 < of.branches.len() { "├─ " } else { "└─ " };
    // In bytes, as Docker counts: the twigs leave some room.
    let names = trees.iter().flat_map(|tree| {
        let twigs = tree.branches.iter().map(|branch| "└─ ".len() + branch.platform.len());
        tree.names.iter().map(String::len).chain(twigs)
    });
    let widest = names.max().unwrap_or(0).max("IMAGE".len());
    let width = widest.min(columns.saturating_sub(RIGHT)).max("IMAGE".len());
    let line = |name: &str, [id, usage, content, mark]: [&str; 4]| {
        let name = human::ellipsis(name, width);
        format!("{name:<width$}{GAP}{id:<12}{GAP}{usage:>10}{GAP}{content:>12}{GAP}{mark:<5}\n")
    };
    let row = |name: &str, facts: &Facts| {
        let (usage, content) = (human::size3(facts.usage), human::size3(facts.content));
        line(name, [human::short_id(&facts.id), &usage, &content, if facts.used { "U" } else { "" }])
    };
    let titles = line("IMAGE", ["ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"]);
    let mut text = format!("{WARNING}\n{LEGEND:>columns$}\n\n{titles}");
    let spaced = trees.iter().any(|tree| !tree.branches.is_empty());
    for tree in trees {
        let (last, others) = tree.names.split_last().map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
        for name in others {
            text.push_str(&format!("{}\n", human::ellipsis(name, columns)));
        }
        text.push_str(&row(last, &tree.facts));
        for (n, branch) in tree.branches.iter().enumerate() {
            text.push_str(&row(&format!("{}{}", twig(n, tree), branch.platform), &branch.facts));
        }
        if spaced {
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_cuts_names() {
        let facts = || Facts { id: "sha256:0123456789abcdef".into(), usage: 1, content: 0, used: false };
        let names = vec!["a.very/long/name/that/nobody/reads:1".to_owned(), "another/long/name/of/it:1".into()];
        let text = render(&[Tree { names, facts: facts(), branches: Vec::new() }], 70);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[4], "a.very/long/name/that/nobody/reads:1", "a line of its own has room");
        assert!(lines[5].starts_with("another/long/name/…   0123456789ab   "), "{text}");
        assert!(lines[3..].iter().all(|line| line.chars().count() <= 70));
    }
}
