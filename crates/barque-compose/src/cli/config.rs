//! `config` and `convert`: print the project, or parts of it.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::args::Config;
use super::context::{Context, Failure, Outcome};
use super::session::no_such_service;
use super::table::table;
use crate::file::diag::{Diag, SourceMap};
use crate::file::load::{Files, Options};
use crate::file::project::{self, Project};
use crate::file::render::Style;
use crate::file::{emit, explain, hash, interp, yaml};

/// Runs `config`.
///
/// # Errors
/// Whatever is wrong with the files, or an output that cannot be written.
pub(super) async fn run(cx: &Context, args: Config) -> Outcome {
    let mut options = cx.load_options(&args.named);
    options.no_consistency |= args.no_consistency;
    options.no_interpolate |= args.no_interpolate;
    options.no_normalize |= args.no_normalize;
    options.no_path_resolution |= args.no_path_resolution;
    options.no_env_resolution |= args.no_env_resolution;
    if args.variables {
        let mentions = variables(&options, &crate::file::load::Disk)?;
        cx.print(&mentioned(&mentions, args.format.as_deref()));
        return Ok(0);
    }
    if args.explain && args.format.as_deref() == Some("json") {
        return Err(Failure::new("--explain tells in lines, not in JSON").with_hint("leave out --format"));
    }
    let project = cx.load_with(&options)?;
    if args.quiet {
        return Ok(0);
    }
    let text = if args.resolve_image_digests || args.lock_image_digests {
        let digests = super::show::digests(cx, &project).await?;
        pinned(&project, &args, &digests)
    } else {
        output(&project, &args)?
    };
    match &args.output {
        Some(path) => std::fs::write(cx.host.cwd.join(path), text)
            .map_err(|e| Failure::new(format!("write {}: {e}", path.display())))?,
        None => cx.print(&text),
    }
    Ok(0)
}

/// The text of `config` with these flags.
fn output(project: &Project, args: &Config) -> Result<String, Failure> {
    let lines = |items: Vec<String>| items.into_iter().map(|i| i + "\n").collect::<String>();
    if args.services {
        return Ok(lines(in_dependency_order(project)));
    }
    if args.volumes {
        return Ok(lines(project.volumes.keys().cloned().collect()));
    }
    if args.networks {
        return Ok(lines(project.networks.keys().cloned().collect()));
    }
    if args.models {
        let models = project.tree.as_ref().and_then(|t| t.as_map()?.get("models")?.as_map());
        let named = models.into_iter().flat_map(|m| m.iter()).filter_map(|(_, m)| m.as_map()?.get("model")?.as_str());
        return Ok(lines(named.map(str::to_owned).collect()));
    }
    if args.profiles {
        return Ok(lines(project.all_profiles()));
    }
    if args.images {
        return Ok(lines(project.services.values().map(|s| s.image(&project.name)).collect()));
    }
    if args.environment {
        return Ok(lines(project.environment.iter().map(|(k, v)| format!("{k}={v}")).collect()));
    }
    if args.explain {
        return Ok(explain::explain(project));
    }
    if let Some(wanted) = &args.hash {
        return hashes(project, wanted);
    }
    Ok(document(project, args.format.as_deref(), !args.no_interpolate))
}

/// The whole project as YAML or JSON.
pub(super) fn document(project: &Project, format: Option<&str>, escape: bool) -> String {
    if format == Some("json") {
        let mut value = project.render(Style::Json);
        if escape {
            escape_dollars(&mut value);
        }
        let sorted: BTreeMap<String, Json> =
            value.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        return serde_json::to_string_pretty(&sorted).unwrap_or_default() + "\n";
    }
    emit::to_yaml(&project.render(Style::Yaml), escape)
}

fn escape_dollars(value: &mut Json) {
    match value {
        Json::String(s) => *s = s.replace('$', "$$"),
        Json::Array(items) => items.iter_mut().for_each(escape_dollars),
        Json::Object(map) => map.values_mut().for_each(escape_dollars),
        _ => {}
    }
}

fn hashes(project: &Project, wanted: &str) -> Result<String, Failure> {
    let names: Vec<&str> = wanted.split(',').filter(|n| *n != "*" && !n.is_empty()).collect();
    if let Some(unknown) = names.iter().find(|n| !project.services.contains_key(**n)) {
        return Err(no_such_service(unknown, project.services.keys()));
    }
    let mut out = String::new();
    for service in project.services.values().filter(|s| names.is_empty() || names.contains(&s.name.as_str())) {
        out.push_str(&format!("{} {}\n", service.name, hash::service(&service.json, hash::Form::WRITTEN)));
    }
    Ok(out)
}

/// Service names, those needed by others first.
fn in_dependency_order(project: &Project) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    while out.len() < project.services.len() {
        let next = project.services.values().find(|s| {
            !out.contains(&s.name)
                && s.spec.depends_on.keys().all(|d| out.contains(d) || !project.services.contains_key(d))
        });
        match next {
            Some(service) => out.push(service.name.clone()),
            None => return project.services.keys().cloned().collect(),
        }
    }
    out
}

/// The project with each image pinned to its digest, or an override file that pins them.
fn pinned(project: &Project, args: &Config, digests: &BTreeMap<String, String>) -> String {
    let mut value = project.render(if args.format.as_deref() == Some("json") { Style::Json } else { Style::Yaml });
    let mut lock = serde_json::Map::new();
    for (name, service) in value.get_mut("services").and_then(Json::as_object_mut).into_iter().flatten() {
        let Some(digest) = digests.get(name) else { continue };
        if let Some(map) = service.as_object_mut() {
            map.insert("image".to_owned(), Json::String(digest.clone()));
        }
        lock.insert(name.clone(), serde_json::json!({ "image": digest }));
    }
    if args.lock_image_digests {
        value = serde_json::json!({ "services": lock });
    }
    match args.format.as_deref() {
        Some("json") => serde_json::to_string_pretty(&value).unwrap_or_default() + "\n",
        _ => emit::to_yaml(&value, true),
    }
}

/// The variables the files mention, as a table or a document.
fn mentioned(found: &BTreeMap<String, interp::Mention>, format: Option<&str>) -> String {
    let document = |name: &dyn Fn(&str) -> String| {
        let fields = |m: &interp::Mention| {
            let fields = [
                ("Name", Json::from(m.name.as_str())),
                ("DefaultValue", m.default.as_str().into()),
                ("PresenceValue", m.alternate.as_str().into()),
                ("Required", m.required.into()),
            ];
            Json::Object(fields.into_iter().map(|(key, value)| (name(key), value)).collect())
        };
        Json::Object(found.iter().map(|(key, mention)| (key.clone(), fields(mention))).collect())
    };
    match format {
        Some("json") => serde_json::to_string_pretty(&document(&str::to_owned)).unwrap_or_default() + "\n",
        Some(_) => emit::to_yaml(&document(&str::to_lowercase), false),
        None => {
            let row = |m: &interp::Mention| {
                vec![m.name.clone(), m.required.to_string(), m.default.clone(), m.alternate.clone()]
            };
            let rows: Vec<_> = found.values().map(row).collect();
            table(0, &["NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE"], &rows)
        }
    }
}

fn variables(options: &Options, files: &dyn Files) -> Result<BTreeMap<String, interp::Mention>, Failure> {
    let mut warnings = Vec::new();
    let mut sources = SourceMap::default();
    let shown = |sources: &SourceMap, d: &Diag| Failure::new(sources.render(d)).with_code(d.kind().exit_status());
    let place = project::locate(options, files, &mut warnings, &mut sources).map_err(|d| shown(&sources, &d));
    let place = place?;
    let mut found: BTreeMap<String, interp::Mention> = BTreeMap::new();
    for file in &place.files {
        let text = match file.to_str() {
            Some("-") => options.stdin.clone().unwrap_or_default(),
            _ => files.read(file).map_err(|e| Failure::new(format!("read {}: {e}", file.display())))?,
        };
        let id = sources.add(file, text.as_str().into());
        for document in yaml::parse(&text, id).map_err(|d| shown(&sources, &d))? {
            let mut texts = Vec::new();
            collect(&document, &mut texts);
            for mention in texts.iter().flat_map(|t| interp::mentions(t)) {
                found.entry(mention.name.clone()).or_insert(mention);
            }
        }
    }
    Ok(found)
}

fn collect(node: &crate::file::node::Node, out: &mut Vec<String>) {
    use crate::file::node::Value;
    match &node.value {
        Value::Str(s) => out.push(s.clone()),
        Value::Seq(items) => items.iter().for_each(|n| collect(n, out)),
        Value::Map(map) => map.iter().for_each(|(_, n)| collect(n, out)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_come_in_every_format() {
        let found = interp::mentions("${A:-x} ${B:?no}").into_iter().map(|m| (m.name.clone(), m)).collect();
        let json: Json = serde_json::from_str(&mentioned(&found, Some("json"))).expect("a document");
        let of = |name: &str| ["DefaultValue", "Required"].map(|field| json[name][field].clone());
        assert_eq!((of("A"), of("B")), (["x".into(), false.into()], ["".into(), true.into()]));
        assert!(mentioned(&found, Some("yaml")).contains("A:\n  "));
        assert!(mentioned(&found, None).starts_with("NAME "));
    }
}
