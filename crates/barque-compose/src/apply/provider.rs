//! Services that a program provides instead of containers (`provider:` in the file).
//!
//! `docker-TYPE` or `TYPE` is called as `TYPE compose --project-name=NAME up --KEY=VALUE… SERVICE`, later with `down`.
//! Before, `TYPE compose metadata` may tell as JSON which options each of the two takes and needs.
//! It writes lines of JSON, `{"type": "info" | "debug" | "error" | "setenv", "message": …}`; what it sets becomes
//! `SERVICE_KEY=VALUE` in the environment of the services that depend on it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use barque_model::Error;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

use super::progress::{Progress, Status};
use crate::file::model::Texts;
use crate::file::project::{Project, Service};
use crate::plan::labels;
use crate::plan::observed::Observed;

/// The longest line read, bytes.
const LINE_MAX: u64 = 1 << 20;

/// How long `compose metadata` may take.
const METADATA_TIME: Duration = Duration::from_secs(10);

/// One line of a provider.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    #[serde(rename = "type")]
    kind: String,
    message: String,
}

/// What `compose metadata` tells.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    up: Takes,
    down: Takes,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Takes {
    parameters: Vec<Parameter>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parameter {
    name: String,
    required: bool,
}

impl Takes {
    /// The options for this call: those it takes, or all if it told of none.
    ///
    /// # Errors
    /// One that it needs is not given.
    fn flags(&self, kind: &str, spec: &Value) -> Result<Vec<String>, Error> {
        let missing = |p: &&Parameter| p.required && spec["options"].get(&p.name).is_none();
        if let Some(parameter) = self.parameters.iter().find(missing) {
            let name = &parameter.name;
            return Err(Error::invalid(format!(
                "required parameter {name:?} is missing from provider {kind:?} definition"
            ))
            .with_hint(format!("write it below provider.options: {name}: …")));
        }
        let takes = |key: &str| self.parameters.is_empty() || self.parameters.iter().any(|p| p.name == key);
        Ok(flags(spec, takes))
    }
}

/// Calls the providers of a project that is about to come up, and hands on what they set.
///
/// # Errors
/// A program that is missing, that fails or that says nonsense.
pub async fn up(project: &mut Project, home: Option<&Path>, progress: &Progress) -> Result<(), Error> {
    let provided: Vec<Service> = project.services.values().filter(|s| s.spec.provider.is_some()).cloned().collect();
    for service in provided {
        let set = call(project, &service, "up", home, progress).await?;
        hand_on(project, &service.name, &set);
    }
    Ok(())
}

/// Tells the providers that the project goes down.
///
/// # Errors
/// As [`up`].
pub async fn down(
    project: &Project,
    services: &[String],
    home: Option<&Path>,
    progress: &Progress,
) -> Result<(), Error> {
    let wanted = |s: &&Service| s.spec.provider.is_some() && (services.is_empty() || services.contains(&s.name));
    for service in project.services.values().filter(wanted) {
        call(project, service, "down", home, progress).await?;
    }
    Ok(())
}

/// Gives the variables of containers that exist to services whose providers are not called this time: in a dry run or
/// a plan (`called` is false), and where they are not selected (`--no-deps`).
pub fn remember(project: &mut Project, observed: &Observed, called: bool) {
    let provided = std::mem::take(&mut project.provided);
    for (name, providers) in &provided {
        let Some(service) = project.services.get(name) else { continue };
        let containers = observed.of_service(name);
        let Some(old) = containers.iter().find_map(|c| c.labels.get(labels::CONFIG)) else { continue };
        let old: Value = serde_json::from_str(old).unwrap_or_default();
        let mut set = Texts::new();
        for provider in providers.iter().filter(|p| !called || !project.services.contains_key(*p)) {
            let prefix = prefix_of(provider);
            let kept = old["environment"]
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(key, _)| key.starts_with(&prefix) && !service.spec.environment.contains_key(*key));
            set.extend(kept.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))));
        }
        if let Some(service) = project.services.get_mut(name) {
            extend(service, &set);
        }
    }
    project.provided = provided;
}

fn prefix_of(provider: &str) -> String {
    format!("{}_", provider.to_uppercase())
}

/// `SERVICE_KEY=VALUE` for those that depend on the service.
fn hand_on(project: &mut Project, provider: &str, set: &Texts) {
    let prefix = prefix_of(provider);
    let set: Texts = set.iter().map(|(key, value)| (format!("{prefix}{key}"), value.clone())).collect();
    for service in project.services.values_mut().filter(|s| s.spec.depends_on.contains_key(provider)) {
        extend(service, &set);
    }
}

fn extend(service: &mut Service, set: &Texts) {
    for (name, value) in set {
        service.spec.environment.insert(name.clone(), Some(value.clone()));
        // The hash of the configuration is taken over the document: another value makes another container.
        if let Some(document) = service.json.as_object_mut() {
            let all = document.entry("environment").or_insert_with(|| Value::Object(Default::default()));
            if !all.is_object() {
                *all = Value::Object(Default::default());
            }
            if let Some(all) = all.as_object_mut() {
                all.insert(name.clone(), Value::String(value.clone()));
            }
        }
    }
}

async fn call(
    project: &Project,
    service: &Service,
    verb: &str,
    home: Option<&Path>,
    progress: &Progress,
) -> Result<Texts, Error> {
    let name = &service.name;
    let spec = service.spec.provider.as_ref().unwrap_or(&Value::Null);
    let kind = spec["type"].as_str().unwrap_or_default();
    let program = find(kind, project.environment.get("PATH").map(String::as_str), home)?;
    let (doing, done) = if verb == "up" { ("Creating", "Created") } else { ("Removing", "Removed") };
    progress.working(name, doing);
    let metadata = metadata(&program, project).await;
    let takes = if verb == "up" { metadata.up } else { metadata.down };
    let flags = takes.flags(kind, spec).inspect_err(|e| progress.failed(name, e.message()))?;
    let mut child = command(&program, project)
        .args(["compose", &format!("--project-name={}", project.name), verb])
        .args(flags)
        .arg(name)
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|e| Error::from(e).context(format!("cannot run the provider {}", program.display())))?;
    let mut set = Texts::new();
    if let Some(stdout) = child.stdout.take() {
        read(stdout, name, progress, &mut set).await?;
    }
    let status = child.wait().await?;
    if !status.success() {
        progress.failed(name, "the provider failed");
        return Err(Error::conflict(format!("the provider {kind} of service {name} failed: {status}")));
    }
    progress.done(name, done);
    Ok(set)
}

fn command(program: &Path, project: &Project) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(&project.environment)
        .current_dir(&project.working_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Many providers know no `metadata`: then it is that of one that takes everything.
async fn metadata(program: &Path, project: &Project) -> Metadata {
    let asked = command(program, project).args(["compose", "metadata"]).stderr(Stdio::null()).output();
    match tokio::time::timeout(METADATA_TIME, asked).await {
        Ok(Ok(output)) if output.status.success() => serde_json::from_slice(&output.stdout).unwrap_or_default(),
        _ => Metadata::default(),
    }
}

async fn read(
    stdout: impl tokio::io::AsyncRead + Unpin,
    name: &str,
    progress: &Progress,
    set: &mut Texts,
) -> Result<(), Error> {
    let mut reader = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        if (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let message: Message = serde_json::from_slice(&line).map_err(|_| {
            let text = String::from_utf8_lossy(&line[..line.len().min(200)]).trim().to_owned();
            Error::invalid(format!("invalid response from the provider of service {name}: {text}"))
        })?;
        match message.kind.as_str() {
            "info" => progress.event(name, &message.message, Status::Working),
            "error" => {
                progress.failed(name, &message.message);
                return Err(Error::conflict(format!("the provider of service {name}: {}", message.message)));
            }
            "setenv" => {
                let (key, value) = message.message.split_once('=').ok_or_else(|| {
                    Error::invalid(format!("invalid setenv from the provider of service {name}: {}", message.message))
                })?;
                set.insert(key.to_owned(), value.to_owned());
            }
            "debug" => {}
            other => {
                return Err(Error::invalid(format!("unknown message {other:?} of the provider of service {name}")));
            }
        }
    }
}

/// `--KEY=VALUE` for each value of the options that are taken.
fn flags(spec: &Value, takes: impl Fn(&str) -> bool) -> Vec<String> {
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let options = spec["options"].as_object();
    let all = options.into_iter().flatten().filter(|(key, _)| takes(key)).flat_map(|(key, value)| {
        let values: Vec<&Value> = value.as_array().map_or_else(|| vec![value], |list| list.iter().collect());
        values.into_iter().map(move |v| format!("--{key}={}", text(v)))
    });
    all.collect()
}

/// `docker-TYPE` among the user's plug-ins and on the path, then `TYPE` on the path.
fn find(kind: &str, path: Option<&str>, home: Option<&Path>) -> Result<PathBuf, Error> {
    if kind.is_empty() || kind.contains('/') {
        return Err(Error::invalid(format!("invalid provider type {kind:?}")));
    }
    let on_path: Vec<PathBuf> = path.unwrap_or_default().split(':').filter(|d| !d.is_empty()).map(Into::into).collect();
    let plugins = home.map(|h| h.join(".docker/cli-plugins"));
    let plugin = plugins.iter().chain(&on_path).map(|dir| dir.join(format!("docker-{kind}")));
    let runs = |p: &PathBuf| std::fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    plugin.chain(on_path.iter().map(|dir| dir.join(kind))).find(runs).ok_or_else(|| {
        Error::not_found(format!("no program for the provider {kind:?}"))
            .with_hint(format!("install docker-{kind} or {kind} in a directory of PATH"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::model::{Dependency, ServiceSpec};
    use crate::plan::observed::Container;

    fn service(name: &str, depends: &str) -> Service {
        let mut spec = ServiceSpec::default();
        if !depends.is_empty() {
            let dependency = Dependency { condition: Default::default(), restart: false, required: true };
            spec.depends_on.insert(depends.into(), dependency);
        }
        Service { name: name.into(), json: serde_json::json!({"environment": null}), spec }
    }

    #[tokio::test]
    async fn a_provider_sets_variables_of_those_that_depend_on_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let program = dir.path().join("docker-cloud");
        let script = "#!/bin/sh\necho \"$@\" >> calls\necho '{\"type\":\"info\",\"message\":\"working\"}'\n\
                      echo '{\"type\":\"setenv\",\"message\":\"URL=db://x=1\"}'\n";
        std::fs::write(&program, script).expect("write");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let mut project = Project { name: "p".into(), working_dir: dir.path().to_owned(), ..Project::default() };
        project.environment.insert("PATH".into(), format!("{}:/usr/bin:/bin", dir.path().display()));
        let mut db = service("db", "");
        db.spec.provider = Some(serde_json::json!({"type": "cloud", "options": {"size": [1, 2], "kind": "sql"}}));
        for s in [db, service("app", "db"), service("web", "")] {
            project.services.insert(s.name.clone(), s);
        }
        let progress = Progress::quiet();
        up(&mut project, None, &progress).await.expect("up");
        let value = |name: &str| project.services[name].spec.environment.get("DB_URL").cloned().flatten();
        assert_eq!((value("app").as_deref(), value("web")), (Some("db://x=1"), None));
        assert_eq!(project.services["app"].json["environment"]["DB_URL"], "db://x=1");
        down(&project, &[], None, &progress).await.expect("down");
        let calls = std::fs::read_to_string(dir.path().join("calls")).expect("calls");
        let mut lines = calls.lines();
        assert_eq!(lines.next(), Some("compose metadata"));
        let first = lines.next().expect("up");
        assert!(first.starts_with("compose --project-name=p up --") && first.ends_with(" db"), "{first}");
        assert!(first.contains("--size=1 --size=2") && first.contains("--kind=sql"), "{first}");
        assert!(lines.nth(1).expect("down").starts_with("compose --project-name=p down --"));
    }

    #[test]
    fn a_provider_gets_the_options_it_told_of() {
        let spec = serde_json::json!({"type": "cloud", "options": {"size": [1, 2], "kind": "sql"}});
        let told = |text: &str| serde_json::from_str::<Metadata>(text).expect("metadata").up;
        let takes = told(r#"{"description": "x", "up": {"parameters": [{"name": "kind", "required": true}]}}"#);
        assert_eq!(takes.flags("cloud", &spec).expect("flags"), ["--kind=sql"]);
        let needs = told(r#"{"up": {"parameters": [{"name": "zone", "required": true}]}}"#);
        let fault = needs.flags("cloud", &spec).expect_err("no zone");
        assert_eq!(fault.message(), "required parameter \"zone\" is missing from provider \"cloud\" definition");
        assert_eq!(Takes::default().flags("cloud", &spec).expect("flags").len(), 3);
    }

    #[test]
    fn variables_are_remembered_where_no_provider_is_called() {
        let file = "services:\n  db: {provider: {type: cloud}}\n  app: {image: x, depends_on: [db], environment: {DB_OWN: file}}\n\
                    \x20 web: {image: x}\n";
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::write(dir.path().join("compose.yaml"), file).expect("write");
        let environment_after = |named: &[&str], no_deps: bool, called: bool| {
            let options = crate::file::load::Options {
                cwd: dir.path().to_owned(),
                services: named.iter().map(|s| (*s).to_owned()).collect(),
                no_deps,
                ..Default::default()
            };
            let mut project = crate::file::project::load(&options, &crate::file::load::Disk).expect("loads");
            let old = r#"{"environment": {"DB_URL": "db://x", "DB_OWN": "old", "OTHER": "1"}}"#;
            let container = |service: &str| Container {
                service: service.into(),
                number: 1,
                labels: [(labels::CONFIG.to_owned(), old.to_owned())].into(),
                ..Container::default()
            };
            let containers = vec![container("app"), container("web")];
            remember(&mut project, &Observed { containers, ..Observed::default() }, called);
            let web = project.services.get("web").map(|s| s.spec.environment.len());
            assert_eq!(web.unwrap_or(0), 0, "it depends on none");
            project.services["app"].spec.environment.clone()
        };
        let text = |value: &str| Some(value.to_owned());
        let with = [("DB_OWN".to_owned(), text("file")), ("DB_URL".to_owned(), text("db://x"))].into();
        let without = [("DB_OWN".to_owned(), text("file"))].into();
        assert_eq!(environment_after(&[], false, false), with, "a dry run, a plan");
        assert_eq!(environment_after(&["app"], true, true), with, "--no-deps");
        assert_eq!(environment_after(&[], false, true), without, "what a provider says now is all");
    }

    #[test]
    fn a_missing_program_is_named() {
        let e = find("nowhere", Some("/nonexistent"), None).expect_err("none");
        assert!(e.hint().is_some_and(|h| h.contains("docker-nowhere")));
        assert!(find("../evil", Some("/bin"), None).is_err());
    }
}
