//! What Barque's engine takes beyond Docker's classic request: secrets, agents, named contexts, explanations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use barque_api::build_extras::{self, BuildExtras};
use barque_client::build_cache::Exports;
use barque_client::ssh_agent::Agents;
use barque_model::csv::csv;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::build_options::is_check;
use super::context::Context;
use crate::cli::Invocation;
use crate::error::{CliResult, Failure, path_error};
use crate::opts;

/// The longest secret, bytes (as BuildKit's).
const SECRET_MAX: usize = 500 << 10;

/// Whether something was asked for that only Barque's engine can do.
pub(super) fn needed(inv: &Invocation<'_>) -> Option<&'static str> {
    ["secret", "ssh", "build-context", "no-cache-filter", "allow", "why", "debug", "check"]
        .into_iter()
        .find(|name| inv.flags.given(name))
}

/// Directories for the archive, with their names in it.
pub(super) type More = Vec<(PathBuf, PathBuf)>;

/// The options, and the directories that have to be sent with the context. `nearby`: the engine sees the same
/// files as this program. `agents` have to live as long as the build.
pub(super) fn extras(
    inv: &Invocation<'_>,
    context: &Context,
    exports: &Exports,
    nearby: bool,
    agents: &mut Agents,
    variable: &dyn Fn(&str) -> Option<String>,
) -> CliResult<(BuildExtras, More)> {
    let flags = &inv.flags;
    let mut extras = BuildExtras {
        no_cache_filter: flags.all("no-cache-filter").iter().flat_map(|t| csv(t)).collect(),
        allow: flags.all("allow").iter().flat_map(|t| csv(t)).collect(),
        explain: flags.is("why"),
        keep_failed: flags.is("debug"),
        check: is_check(inv),
        status: true,
        inline_cache: exports.inline,
        export_cache: !exports.places.is_empty(),
        cache_all: exports.all,
        ..BuildExtras::default()
    };
    if let Some(epoch) = variable("SOURCE_DATE_EPOCH").filter(|t| !t.is_empty()) {
        let number = epoch.parse().map_err(|_| Failure::new(format!("invalid SOURCE_DATE_EPOCH: {epoch}")))?;
        extras.source_date_epoch = Some(number);
    }
    if let Some(apart) = &context.apart {
        extras.dockerfile = Some(STANDARD.encode(&apart.text));
        extras.dockerfile_name.clone_from(&apart.name);
        extras.ignore.clone_from(&apart.ignore);
    }
    for text in flags.all("secret") {
        let (id, value) = secret(text, variable)?;
        extras.secrets.insert(id, STANDARD.encode(value));
    }
    for text in flags.all("ssh") {
        if !nearby {
            return Err(Failure::unbuilt("build --ssh with an engine on another machine"));
        }
        let (id, socket) = agents.parse(text, &std::env::current_dir()?, variable)?;
        extras.ssh.insert(id, socket);
    }
    let mut more = Vec::new();
    for text in flags.all("build-context") {
        let (name, value) = named_context(text, nearby, &mut more)?;
        extras.contexts.insert(name, value);
    }
    extras.no_context = context.is_dockerfile_only();
    if let Some(dir) = context.directory().filter(|_| nearby) {
        match dir.to_str() {
            Some(path) => path.clone_into(&mut extras.context_dir),
            // A path that is no text is sent as an archive.
            None => return Ok((extras, more)),
        }
    }
    Ok((extras, more))
}

/// `id=ID[,src=FILE]`, `id=ID,env=VARIABLE`, or a file's name that is also the id.
fn secret(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> CliResult<(String, Vec<u8>)> {
    let fields: BTreeMap<String, String> = csv(text).iter().map(|part| opts::key_value(part)).collect();
    let field = |names: &[&str]| names.iter().find_map(|n| fields.get(*n)).map(String::as_str).unwrap_or_default();
    for key in fields.keys() {
        if !matches!(key.as_str(), "id" | "src" | "source" | "env" | "type") {
            return Err(Failure::new(format!("unexpected key '{key}' in '{text}'")));
        }
    }
    let (id, file, env, kind) = (field(&["id"]), field(&["src", "source"]), field(&["env"]), field(&["type"]));
    if id.is_empty() {
        return Err(Failure::new(format!("secret {text:?} has no id: write id=NAME,src=FILE")));
    }
    let from = |name: &str| variable(name).map(String::into_bytes);
    // As in BuildKit: without a word about where from, a variable of that name comes before a file.
    let named = match (kind, file, env) {
        ("env", name, "") if !name.is_empty() => Some(name),
        (_, "", name) if !name.is_empty() => Some(name),
        ("env", "", "") => Some(id),
        ("", "", "") if from(id).is_some() => Some(id),
        _ => None,
    };
    let value = match named {
        Some(name) => from(name).ok_or_else(|| Failure::new(format!("secret {id}: the variable {name} is not set")))?,
        None => {
            let path = if file.is_empty() { id } else { file };
            std::fs::read(path).map_err(|e| path_error("open", path, &e).prefixed(&format!("secret {id}: ")))?
        }
    };
    if value.len() > SECRET_MAX {
        return Err(Failure::new(format!("secret {id} is longer than {SECRET_MAX} bytes")));
    }
    Ok((id.to_owned(), value))
}

/// `NAME=docker-image://REF`, `NAME=ADDRESS`, `NAME=DIRECTORY`.
fn named_context(text: &str, nearby: bool, more: &mut More) -> CliResult<(String, String)> {
    let Some((name, value)) = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty()) else {
        return Err(Failure::new(format!("invalid context value: {text}, expected key=value")));
    };
    if value.starts_with("docker-image://") || super::context::is_remote(value) {
        return Ok((name.to_owned(), value.to_owned()));
    }
    if value.starts_with("oci-layout://") {
        return Err(Failure::unbuilt(format!(
            "build --build-context {name}=oci-layout://; load the layout, and write docker-image://NAME"
        )));
    }
    let path = std::fs::canonicalize(value)
        .map_err(|e| path_error("stat", value, &e).prefixed(&format!("failed to get build context {name}: ")))?;
    if !path.is_dir() {
        return Err(Failure::new(format!("failed to get build context {name}: {value} is not a directory")));
    }
    match path.to_str().filter(|_| nearby) {
        Some(path) => Ok((name.to_owned(), format!("dir:{path}"))),
        None => {
            let place = Path::new(build_extras::CONTEXTS).join(barque_model::Digest::of(name.as_bytes()).hex());
            more.push((path, place));
            Ok((name.to_owned(), "archive:".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("s");
        std::fs::write(&file, "text").expect("writes");
        let variable = |name: &str| (name == "TOKEN").then(|| "value".to_owned());
        let ok = |text: &str| secret(text, &variable).map(|(id, v)| (id, String::from_utf8(v).expect("text")));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let path = file.display();
        assert_eq!(ok(&format!("id=a,src={path}")).expect("file"), pair("a", "text"));
        assert_eq!(ok(&format!("id=a,type=file,source={path}")).expect("file"), pair("a", "text"));
        assert_eq!(ok("id=TOKEN").expect("variable"), pair("TOKEN", "value"));
        assert_eq!(ok("id=a,env=TOKEN").expect("variable"), pair("a", "value"));
        assert_eq!(ok("type=env,id=TOKEN").expect("variable"), pair("TOKEN", "value"));
        assert!(ok("id=a,env=OTHER").expect_err("unset").message.contains("OTHER is not set"));
        assert!(ok("src=x").is_err() && ok("id=a,src=/missing").is_err() && ok("id=a,mode=1").is_err());
    }

    #[test]
    fn contexts_of_every_kind() {
        let mut more = Vec::new();
        let mut of = |text: &str, nearby| named_context(text, nearby, &mut more).map(|(_, value)| value);
        assert_eq!(of("a=docker-image://x", true).expect("image"), "docker-image://x");
        assert_eq!(of("a=https://h/r.git#x", true).expect("git"), "https://h/r.git#x");
        assert_eq!(of("a=/", true).expect("directory"), "dir:/");
        assert_eq!(of("a=/", false).expect("directory"), "archive:");
        assert!(of("a", true).is_err() && of("a=/missing", true).is_err() && of("a=/dev/null", true).is_err());
        assert_eq!(more.len(), 1);
    }
}
