//! Every directory of `tests/files` is a project: its files load to `project.json`, or fail with `error.txt`.
//!
//! `options.txt` holds the command line, one option a line. Where the directory has `hash-2.26.txt`, that is what
//! Docker Compose 2.26.1 printed for `config --hash '*'` with `tests/files` mounted at `/files`, and ours must be the
//! same. Where it has `explain.txt`, that is where each value came from.
//! `UPDATE_GOLDEN=1` rewrites the expectations.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use barque_compose::file::explain;
use barque_compose::file::hash::{self, Form};
use barque_compose::file::load::{Disk, Options};
use barque_compose::file::project::{self, Project};
use barque_compose::file::render::Style;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files")
}

fn options(dir: &Path) -> Options {
    let mut options = Options {
        cwd: dir.to_path_buf(),
        home: Some("/home/user".into()),
        environment: BTreeMap::from([("HOME".to_owned(), "/home/user".to_owned())]),
        ..Options::default()
    };
    let text = std::fs::read_to_string(dir.join("options.txt")).unwrap_or_default();
    for line in text.lines() {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        match key {
            "file" => options.files.push(value.to_owned()),
            "profile" => options.profiles.push(value.to_owned()),
            "service" => options.services.push(value.to_owned()),
            "no-deps" => options.no_deps = true,
            "no-interpolate" => options.no_interpolate = true,
            "no-path-resolution" => options.no_path_resolution = true,
            "env-file" => options.env_files.push(value.into()),
            "project-directory" => options.project_dir = Some(value.into()),
            "project-name" => options.name = Some(value.to_owned()),
            "env" => {
                let (name, value) = value.split_once('=').unwrap();
                options.environment.insert(name.to_owned(), value.to_owned());
            }
            other => panic!("{}: unknown option {other}", dir.display()),
        }
    }
    options
}

/// What the directory gives: the name of the file and its text.
fn outcome(dir: &Path) -> (&'static str, String, Option<Project>) {
    let place = dir.display().to_string();
    let (file, text, project) = match project::load(&options(dir), &Disk) {
        Ok(project) => {
            let mut text = String::new();
            for warning in &project.warnings {
                let _ = writeln!(text, "// warning: {warning}");
            }
            text.push_str(&serde_json::to_string_pretty(&project.render(Style::Json)).unwrap());
            ("project.json", text, Some(project))
        }
        Err(e) => ("error.txt", e.to_string(), None),
    };
    // What a path with `..` names lies beside the project.
    let parent = root().display().to_string();
    (file, text.replace(&place, "/project").replace(&parent, "/parent") + "\n", project)
}

/// The same service with its files below `/files`, since a hash counts paths.
fn elsewhere(service: &serde_json::Value) -> serde_json::Value {
    serde_json::from_str(&service.to_string().replace(&root().display().to_string(), "/files")).unwrap()
}

#[test]
fn every_project_loads_as_expected() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut failures = String::new();
    let mut count = 0;
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(root()).unwrap().map(|e| e.unwrap().path()).collect();
    dirs.sort();
    for dir in dirs {
        count += 1;
        let (file, text, project) = outcome(&dir);
        if update {
            let other = if file == "error.txt" { "project.json" } else { "error.txt" };
            let _ = std::fs::remove_file(dir.join(other));
            std::fs::write(dir.join(file), &text).unwrap();
        } else {
            let expected = std::fs::read_to_string(dir.join(file)).unwrap_or_else(|_| format!("no {file}"));
            if expected != text {
                let _ = writeln!(failures, "== {}\n-- expected {file}:\n{expected}\n-- got:\n{text}", dir.display());
            }
        }
        if let (Ok(expected), Some(project)) = (std::fs::read_to_string(dir.join("explain.txt")), &project) {
            let place = dir.display().to_string();
            let got = explain::explain(project).replace(&place, "/project");
            // the column of the places depends on the length of the paths
            let rows = got
                .lines()
                .map(|l| l.split_once("  # ").map_or(l.to_owned(), |(l, r)| format!("{}  # {r}\n", l.trim_end())));
            let got: String = rows.collect();
            if update {
                std::fs::write(dir.join("explain.txt"), got).unwrap();
            } else if got != expected {
                let _ = writeln!(failures, "== {}: explain.txt\n{expected}\n-- got:\n{got}", dir.display());
            }
        }
        let expected = std::fs::read_to_string(dir.join("hash-2.26.txt")).unwrap_or_default();
        for (line, project) in expected.lines().zip(std::iter::repeat(project.as_ref())) {
            let (service, wanted) = line.split_once(' ').unwrap();
            let found = project.and_then(|p| p.services.get(service).or_else(|| p.disabled.get(service)));
            let got = found.map(|s| hash::service(&elsewhere(&s.json), Form::V2_26)).unwrap_or_default();
            if got != wanted {
                let _ =
                    writeln!(failures, "== {}: hash of {service}: {got}, Docker Compose has {wanted}", dir.display());
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(count >= 100, "the corpus has only {count} projects");
}
