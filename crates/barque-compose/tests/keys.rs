//! Every key of the Compose specification's schema has an effect that is seen in a request, or is refused or warned of
//! by name: nothing is left out silently. `keys.txt` is the table; a key that is missing there fails.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use barque_api::ApiVersion;
use barque_compose::apply::body::{self, Making};
use barque_compose::apply::images::{self, BuildWish};
use barque_compose::apply::resources;
use barque_compose::file::load::{Files, Options};
use barque_compose::file::project::{self, Project};
use barque_compose::file::render::Style;
use barque_compose::file::schema::{Kind, Obj, ROOT};
use barque_compose::plan::api_socket;
use barque_compose::plan::observed::{Container, Observed};
use barque_compose::plan::reconcile::{self, Wish};
use serde_json::Value;

struct Memory(BTreeMap<PathBuf, String>);

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn is_file(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    fn is_dir(&self, path: &Path) -> bool {
        path == Path::new("/p")
    }
}

struct Row<'a> {
    path: &'a str,
    yaml: &'a str,
    place: &'a str,
    expected: &'a str,
}

fn rows() -> impl Iterator<Item = Row<'static>> {
    include_str!("keys.txt").lines().filter(|l| !l.starts_with('#') && !l.is_empty()).map(|line| {
        let mut cells = line.splitn(4, " | ");
        let mut cell = || cells.next().unwrap_or_else(|| panic!("four cells: {line}"));
        Row { path: cell(), yaml: cell(), place: cell(), expected: cell() }
    })
}

/// The file a row means: its YAML at its place in a project that has one of everything.
fn file(row: &Row<'_>) -> String {
    let mut sections = BTreeMap::from([
        ("networks", "{n: {}, m: {}}".to_owned()),
        ("volumes", "{v: {}}".to_owned()),
        ("secrets", "{k: {file: ./k.txt}, e: {environment: E}}".to_owned()),
        ("configs", "{f: {file: ./f.txt}}".to_owned()),
    ]);
    let yaml = row.yaml;
    let mut service = "image: x".to_owned();
    let mut more = String::new();
    match row.path.split('.').next() {
        Some("services") if yaml.starts_with("image:") || yaml.starts_with("provider:") => service = yaml.to_owned(),
        Some("services") => service = format!("image: x, {yaml}"),
        Some("networks") => {
            sections.insert("networks", format!("{{n: {{{yaml}}}}}"));
            service.push_str(", networks: [n]");
        }
        Some("volumes") => {
            sections.insert("volumes", format!("{{v: {{{yaml}}}}}"));
            service.push_str(", volumes: ['v:/v']");
        }
        Some("secrets") => {
            sections.insert("secrets", format!("{{k: {{{yaml}}}}}"));
            service.push_str(", secrets: [k]");
        }
        Some("configs") => {
            sections.insert("configs", format!("{{c: {{{yaml}}}}}"));
            service.push_str(", configs: [c]");
        }
        Some("models") => return format!("{{{yaml}}}"),
        _ => more = format!(", {yaml}"),
    }
    if row.path.starts_with("services.models") {
        more.push_str(", models: {m: {model: x}}");
    }
    let sections: String = sections.into_iter().map(|(k, v)| format!(", {k}: {v}")).collect();
    format!("{{services: {{s: {{{service}}}, other: {{image: y, hostname: otherhost}}}}{sections}{more}}}")
}

fn load(row: &Row<'_>) -> Result<Project, String> {
    let files = [
        ("compose.yaml", file(row)),
        ("a.env", "A=1\n".into()),
        ("labels", "l=1\n".into()),
        ("base.yaml", "services: {base: {image: x, hostname: based}}".into()),
        ("inc.yaml", "services: {included: {image: x, hostname: '${A-}', build: .}}".into()),
    ];
    let files = Memory(files.into_iter().map(|(name, text)| (Path::new("/p").join(name), text)).collect());
    let environment = [("E".to_owned(), "value".to_owned())].into();
    let options = Options { cwd: "/p".into(), environment, ..Options::default() };
    let mut project = project::load(&options, &files).map_err(|e| e.to_string())?;
    if api_socket::is_asked(&project) {
        api_socket::give(&mut project, api_socket::SOCKET, String::new());
    }
    Ok(project)
}

fn observed() -> Observed {
    let other = Container {
        id: "id-other".into(),
        name: "p-other-1".into(),
        service: "other".into(),
        number: 1,
        ..Container::default()
    };
    Observed { containers: vec![other], ..Observed::default() }
}

/// The request that makes the container of `s`.
fn body(project: &Project) -> Result<Value, String> {
    let making = Making {
        project,
        service: &project.services["s"],
        observed: &observed(),
        image: None,
        number: 1,
        name: "p-s-1",
        inherit: None,
        aliases: true,
        version: "0",
        api: ApiVersion::new(1, 51),
    };
    let made = body::make(&making).map_err(|e| e.chain())?;
    Ok(serde_json::to_value(made.request).unwrap())
}

/// Everything that is refused, from loading to the requests.
fn refusal(row: &Row<'_>) -> String {
    let project = match load(row) {
        Ok(project) => project,
        Err(text) => return text,
    };
    let build = project.services["s"].spec.build.as_ref().and_then(images::unsupported);
    body(&project).err().unwrap_or_default() + build.unwrap_or_default()
}

/// What comes of a row instead of what is expected.
fn difference(row: &Row<'_>, tests: &BTreeSet<String>) -> Option<String> {
    let differs = |found: Option<&Value>| {
        let wanted: Value = serde_json::from_str(row.expected).unwrap_or_else(|e| panic!("{}: {e}", row.path));
        (found != Some(&wanted)).then(|| format!("{found:?}"))
    };
    let lacks = |text: String| (!text.contains(row.expected)).then_some(text);
    if row.place == "test" {
        load(row).unwrap_or_else(|e| panic!("{}: {e}", row.path));
        return (!tests.contains(row.expected)).then(|| "no such test".to_owned());
    }
    if row.place == "refused" {
        return lacks(refusal(row));
    }
    let project = match load(row) {
        Ok(project) => project,
        Err(text) => return Some(text),
    };
    match row.place.split_once(' ').unwrap_or((row.place, "")) {
        ("warn", _) => {
            let plan = reconcile::plan(&project, &Observed::default(), &Wish::default());
            lacks([project.warnings, plan.warnings].concat().join("\n"))
        }
        ("kept", "/services") => {
            (project.services.keys().collect::<Vec<_>>() != ["other"]).then(|| "it is on".to_owned())
        }
        ("kept", pointer) => differs(project.render(Style::Json).pointer(pointer)),
        ("net", pointer) => {
            let made = resources::network_request(&project, "n", &project.networks["n"], "0");
            differs(serde_json::to_value(made).unwrap().pointer(pointer))
        }
        ("vol", pointer) => {
            let made = resources::volume_request(&project, "v", &project.volumes["v"], "0");
            differs(serde_json::to_value(made).unwrap().pointer(pointer))
        }
        ("build" | "extras", _) => {
            let service = &project.services["s"];
            let (spec, wish) = (service.spec.build.as_ref().unwrap(), BuildWish::default());
            let platforms = images::platforms(&project, service, spec, &wish).unwrap();
            lacks(if row.place == "build" {
                format!("{:?}", images::query(&project, service, spec, &wish, &platforms))
            } else {
                match images::extras(
                    &project,
                    spec,
                    &wish,
                    None,
                    true,
                    &mut barque_client::ssh_agent::Agents::default(),
                ) {
                    Ok(made) => serde_json::to_string(&made).unwrap(),
                    Err(e) => e.chain(),
                }
            })
        }
        (pointer, _) => match body(&project) {
            Ok(made) => differs(made.pointer(pointer)),
            Err(text) => Some(text),
        },
    }
}

/// Names of the functions of all tests of the workspace.
fn tests() -> BTreeSet<String> {
    fn walk(dir: &Path, out: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let mut after_test = false;
                for line in text.lines().map(str::trim) {
                    if let Some(rest) = line.split_once("fn ").filter(|_| after_test).map(|(_, rest)| rest) {
                        out.insert(rest.split('(').next().unwrap_or_default().to_owned());
                        after_test = false;
                    }
                    after_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                }
            }
        }
    }
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut out = BTreeSet::new();
    for name in ["barque", "barque-compose"] {
        walk(&crates.join(name), &mut out);
    }
    out
}

#[test]
fn every_row_holds() {
    let tests = tests();
    let mut failures = String::new();
    for row in rows() {
        if let Some(found) = difference(&row, &tests) {
            let Row { path, yaml, place, expected } = row;
            let _ = writeln!(failures, "{path} ({yaml})\n  {place}: {expected}\n  found: {found}");
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

/// A key needs a row unless keys below it have theirs, or a key above it is refused or warned of as a whole.
fn assert_all_have_rows(keys: &BTreeSet<String>, of: &str) {
    let left_out: Vec<String> =
        rows().filter(|r| matches!(r.place, "warn" | "refused")).map(|r| format!("{}.", r.path)).collect();
    let rows: BTreeSet<&str> = rows().map(|r| r.path).collect();
    let covered = |key: &String| {
        if left_out.iter().any(|above| key.starts_with(above.as_str())) {
            return true;
        }
        let below = format!("{key}.");
        rows.contains(key.as_str()) || keys.range(below.clone()..).next().is_some_and(|k| k.starts_with(&below))
    };
    let missing: Vec<&String> = keys.iter().filter(|k| !covered(k)).collect();
    assert!(missing.is_empty(), "keys of {of} without a row in keys.txt: {missing:#?}");
}

#[test]
fn every_key_that_is_read_has_a_row() {
    fn object(path: &str, obj: &Obj, out: &mut BTreeSet<String>) {
        for field in obj.fields {
            let key = if path.is_empty() { field.key.to_owned() } else { format!("{path}.{}", field.key) };
            kind(&key, field.kind, out);
            out.insert(key);
        }
    }
    fn kind(path: &str, of: Kind, out: &mut BTreeSet<String>) {
        match of {
            Kind::Obj(obj)
            | Kind::Short(obj, _)
            | Kind::Null(obj)
            | Kind::Ports(obj)
            | Kind::Mount(obj)
            | Kind::Device(obj)
            | Kind::EnvFiles(obj) => object(path, obj, out),
            Kind::List(item) | Kind::Map(item) | Kind::Names(item) | Kind::Gpus(item) => kind(path, *item, out),
            _ => {}
        }
    }
    let mut keys = BTreeSet::new();
    object("", &ROOT, &mut keys);
    // newer than the schema, or of an object that is used in two places of which one gives them a meaning
    keys.retain(|k| {
        !k.starts_with("services.pre_start")
            && !(k.ends_with(".per_replica")
                || k.ends_with(".image") && k != "services.image" && !k.contains(".volumes."))
    });
    assert_all_have_rows(&keys, "the tables of this crate");
}

#[test]
fn every_key_of_the_specification_has_a_row() {
    // not part of this repository; it lies beside it where it is developed
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spec/compose-spec.schema.json");
    let Ok(text) = std::fs::read_to_string(path) else { return println!("skipped: no schema beside the repository") };
    let schema: Value = serde_json::from_str(&text).unwrap();
    fn walk(root: &Value, node: &Value, path: &str, depth: usize, out: &mut BTreeSet<String>) {
        if depth > 14 {
            return;
        }
        if let Some(reference) = node["$ref"].as_str() {
            let target = root.pointer(reference.trim_start_matches('#')).unwrap();
            return walk(root, target, path, depth + 1, out);
        }
        for word in ["oneOf", "anyOf", "allOf"] {
            node[word].as_array().into_iter().flatten().for_each(|n| walk(root, n, path, depth + 1, out));
        }
        for (key, child) in node["properties"].as_object().into_iter().flatten() {
            let key = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            walk(root, child, &key, depth + 1, out);
            out.insert(key);
        }
        let free = node["patternProperties"].as_object().into_iter().flatten().filter(|(k, _)| *k != "^x-");
        free.for_each(|(_, child)| walk(root, child, path, depth + 1, out));
        walk(root, &node["additionalProperties"], path, depth + 1, out);
        walk(root, &node["items"], path, depth + 1, out);
    }
    let mut keys = BTreeSet::new();
    walk(&schema, &schema, "", 0, &mut keys);
    assert!(keys.len() > 300, "{}", keys.len());
    assert_all_have_rows(&keys, "the schema");
}
