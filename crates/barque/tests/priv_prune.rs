//! A dry run of every prune names exactly what the prune then removes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use std::collections::BTreeSet;

use common::{Machine, missing};

/// All names and ids that an engine has.
fn inventory(machine: &Machine) -> BTreeSet<String> {
    let lists: [&[&str]; 5] = [
        &["ps", "-aq", "--no-trunc"],
        &["images", "-aq", "--no-trunc"],
        &["network", "ls", "--format", "{{.Name}}"],
        &["volume", "ls", "-q"],
        &["system", "df", "-v", "--format", "{{range .BuildCache}}{{println .ID}}{{end}}"],
    ];
    let words = lists.iter().flat_map(|list| {
        let text = machine.barque(list);
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    });
    words.collect()
}

/// What a dry run names: the first word of each line that is no title.
fn named(text: &str) -> BTreeSet<String> {
    let titles =
        |l: &&str| l.is_empty() || l.ends_with(':') || l.starts_with("Would free: ") || *l == "Nothing to delete.";
    let lines = text.lines().filter(|l| !titles(l));
    lines.filter_map(|l| l.split(' ').next().map(str::to_owned)).collect()
}

/// Things of every kind: some in use, some not, some used by a stopped container alone.
fn fill(machine: &Machine) {
    let tar = machine.text("image.tar");
    let mut archive = tar::Builder::new(std::fs::File::create(&tar).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    archive.append_data(&mut header, "file", &b"x"[..]).unwrap();
    archive.finish().unwrap();
    for words in [
        &["import", &tar, "stopped"][..],
        &["import", "-m", "1", &tar, "loose"],
        &["import", "-m", "2", &tar, "loose"],
        &["import", "-m", "3", &tar, "unused"],
        &["create", "--name", "old", "-v", "/data", "-v", "kept:/kept", "stopped", "x"],
        &["volume", "create"],
        &["volume", "create", "spare"],
        &["network", "create", "lonely"],
        &["network", "create", "joined"],
        &["run", "-d", "--name", "busy", "--network", "joined", "-v", "/data", "barque/host", "sleep", "1000"],
    ] {
        machine.barque(words);
    }
    std::fs::create_dir_all(machine.path("context")).unwrap();
    std::fs::write(machine.path("context/Dockerfile"), "FROM unused\nCOPY Dockerfile /\n").unwrap();
    machine.barque(&["build", "-q", "-t", "made", &machine.text("context")]);
    machine.barque(&["rmi", "made"]);
    // An image that lost its name, and the records that go with it.
    for text in ["one", "another"] {
        std::fs::write(machine.path("context/more"), text.repeat(9000)).unwrap();
        std::fs::write(machine.path("context/Dockerfile"), "FROM unused\nCOPY more /\n").unwrap();
        machine.barque(&["build", "-q", "-t", "renamed", &machine.text("context")]);
    }
}

#[test]
fn a_dry_run_names_what_the_prune_removes() {
    if let Some(why) = missing(&[]) {
        println!("skipped: {why}");
        return;
    }
    let machine = Machine::start(&[]);
    for prune in [
        &["network", "prune"][..],
        &["builder", "prune", "-a"],
        &["volume", "prune"],
        &["volume", "prune", "-a"],
        &["image", "prune"],
        &["container", "prune"],
        &["image", "prune", "-a"],
        &["system", "prune"],
        &["system", "prune", "-a", "--volumes"],
    ] {
        fill(&machine);
        let before = inventory(&machine);
        let foretold = machine.barque(&[prune, &["--dry-run", "--force"]].concat());
        let dry = named(&foretold);
        assert_eq!(inventory(&machine), before, "{prune:?}: a dry run removes nothing");
        let begin = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let done = machine.barque(&[prune, &["--force"]].concat());
        let last = |text: &str, title: &str| text.lines().find_map(|l| Some(l.strip_prefix(title)?.to_owned()));
        assert_eq!(
            last(&foretold, "Would free: "),
            last(&done, "Total reclaimed space: ").or(last(&done, "Total:\t")),
            "{prune:?}: what it frees\n{foretold}\n{done}"
        );
        if let [kind @ ("network" | "builder" | "volume" | "image" | "container"), ..] = prune {
            let (since, filter) = (format!("{begin:.9}"), "event=prune");
            let format = "{{.Type}} {{with .Actor}}{{.Attributes.reclaimed}}{{end}}";
            let told =
                machine.barque(&["events", "--since", &since, "--until", "0s", "--filter", filter, "--format", format]);
            assert!(told.starts_with(kind) && told.trim().len() > kind.len(), "{kind}: {told:?}");
        }
        let gone: BTreeSet<String> = before.difference(&inventory(&machine)).cloned().collect();
        assert_eq!(dry, gone, "{prune:?}");
        assert!(!gone.is_empty(), "{prune:?} found nothing to remove");
        assert_eq!(named(&machine.barque(&[prune, &["--dry-run"]].concat())), BTreeSet::new(), "{prune:?}, again");
        // From the beginning.
        machine.barque(&["rm", "-f", "-v", "busy"]);
        machine.barque(&["system", "prune", "-af", "--volumes"]);
        machine.barque(&["volume", "prune", "-af"]);
    }
}
