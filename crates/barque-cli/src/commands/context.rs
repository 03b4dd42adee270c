//! `context …`.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use barque_model::csv::csv;
use serde_json::{Value, json};

use super::Faults;
use crate::cli::Invocation;
use crate::contexts::{self, Context, DEFAULT, Store, TlsMaterial};
use crate::error::{CliResult, Failure, path_error};
use crate::opts;
use crate::output::inspect::{Inspector, Object};
use crate::output::listing;
use crate::output::rows::misc;
use crate::target::{Target, current_context};
use crate::{natural, term};

fn store(inv: &Invocation<'_>) -> Store {
    Store::new(&inv.cli.config().directory)
}

fn current(inv: &Invocation<'_>) -> CliResult<String> {
    current_context(&inv.cli.global, inv.cli.config())
}

/// The address that flags, variables and defaults name.
fn default_address(inv: &Invocation<'_>) -> String {
    let fallback = || format!("unix://{}", crate::target::DEFAULT_SOCKET);
    let mut config = inv.cli.config().clone();
    config.set("currentContext", None);
    match Target::resolve(&inv.cli.global, &config) {
        Ok(target) if target.context == DEFAULT => target.address,
        _ => fallback(),
    }
}

/// A stored context, or the default one.
fn find(inv: &Invocation<'_>, name: &str) -> CliResult<Context> {
    match name {
        DEFAULT => Ok(Context::new(DEFAULT, "", &default_address(inv), false)),
        name => store(inv).get(name),
    }
}

fn check_new(inv: &Invocation<'_>, name: &str) -> CliResult<()> {
    contexts::check_name(name)?;
    match store(inv).exists(name) {
        true => Err(Failure::new(format!("context \"{name}\" already exists"))),
        false => Ok(()),
    }
}

/// The endpoint that `--docker` describes, with its certificates.
fn endpoint(inv: &Invocation<'_>) -> CliResult<(String, bool, TlsMaterial)> {
    let fault = |why: String| Failure::new(format!("unable to create docker endpoint config: {why}"));
    let pairs: Vec<(String, String)> =
        inv.flags.all("docker").iter().flat_map(|v| csv(v)).map(|p| opts::key_value(&p)).collect();
    let (mut host, mut skip, mut material) = (String::new(), false, TlsMaterial::new());
    for (key, value) in pairs {
        let file = |name: &str| {
            let bytes = std::fs::read(&value).map_err(|e| fault(path_error("open", &value, &e).message))?;
            Ok::<_, Failure>((name.to_owned(), bytes))
        };
        match key.as_str() {
            "host" => host = value,
            "ca" => material.push(file("ca.pem")?),
            "cert" => material.push(file("cert.pem")?),
            "key" => material.push(file("key.pem")?),
            "skip-tls-verify" => skip = barque_model::strconv::parse_bool(&value).map_err(fault)?,
            "from" => {
                let other = find(inv, &value)?;
                (host, skip) = (other.host().to_owned(), other.skip_verify());
                material = store(inv).tls(&value)?;
            }
            key => return Err(fault(format!("unrecognized config key: {key}"))),
        }
    }
    if !host.is_empty() {
        barque_client::Host::parse(&host).map_err(|e| fault(e.to_string()))?;
    }
    Ok((host, skip, material))
}

pub(crate) async fn create(inv: &Invocation<'_>) -> CliResult<u8> {
    let (name, from) = (inv.operand(0), inv.flags.text("from"));
    check_new(inv, name)?;
    let description = inv.flags.text("description");
    if inv.flags.given("docker") && !from.is_empty() {
        return Err(Failure::new("cannot use --docker flag when --from is set"));
    }
    let (context, material) = if inv.flags.given("docker") {
        let (host, skip, material) = endpoint(inv)?;
        (Context::new(name, description, &host, skip), material)
    } else {
        let source = if from.is_empty() { current(inv)? } else { from.to_owned() };
        let mut context = find(inv, &source)?;
        context.meta.insert("Name".into(), name.into());
        if !description.is_empty() {
            context.set_description(description);
        }
        (context, store(inv).tls(&source)?)
    };
    store(inv).put(&context)?;
    store(inv).put_tls(name, &material)?;
    inv.cli.line(name)?;
    inv.cli.err(&format!("Successfully created context {name:?}"));
    Ok(0)
}

pub(crate) async fn update(inv: &Invocation<'_>) -> CliResult<u8> {
    let name = inv.operand(0);
    contexts::check_name(name)?;
    let mut context = store(inv).get(name)?;
    let description = inv.flags.text("description");
    if !description.is_empty() {
        context.set_description(description);
    }
    if inv.flags.given("docker") {
        let (host, skip, material) = endpoint(inv)?;
        let fresh = Context::new(name, context.description(), &host, skip);
        context.meta.insert("Endpoints".into(), fresh.meta.get("Endpoints").cloned().unwrap_or_default());
        store(inv).put_tls(name, &material)?;
    }
    store(inv).put(&context)?;
    inv.cli.line(name)?;
    inv.cli.err(&format!("Successfully updated context {name:?}"));
    Ok(0)
}

pub(crate) async fn ls(inv: &Invocation<'_>) -> CliResult<u8> {
    let current = current(inv)?;
    let mut rows = vec![(
        DEFAULT.to_owned(),
        misc::context_row(
            DEFAULT,
            current == DEFAULT,
            "Current DOCKER_HOST based configuration",
            &default_address(inv),
            "",
        ),
    )];
    for context in store(inv).list() {
        let name = context.name().to_owned();
        let row = misc::context_row(&name, name == current, context.description(), context.host(), "");
        rows.push((name, row));
    }
    if !rows.iter().any(|(name, _)| *name == current) {
        let why = store(inv).get(&current).err().map(|f| f.message).unwrap_or_default();
        rows.push((current.clone(), misc::context_row(&current, true, "", "", &why)));
    }
    rows.sort_by(|(a, _), (b, _)| natural::compare(a, b));
    let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
    let format = match (inv.flags.is("quiet"), listing::choose(inv.flags.text("format"), None, false)) {
        (true, _) => "{{.Name}}",
        (false, "table") => misc::CONTEXT_TABLE,
        (false, other) => other,
    };
    inv.cli.out(&listing::render(format, misc::CONTEXT_TITLES, &rows)?)?;
    if overriding_variable().is_some() {
        inv.cli.err(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the \
             global --context flag, or unset DOCKER_HOST environment variable.",
        );
    }
    Ok(0)
}

fn overriding_variable() -> Option<String> {
    std::env::var("DOCKER_HOST").ok().filter(|v| !v.is_empty())
}

pub(crate) async fn show(inv: &Invocation<'_>) -> CliResult<u8> {
    inv.cli.line(&current(inv)?)?;
    Ok(0)
}

pub(crate) async fn use_context(inv: &Invocation<'_>) -> CliResult<u8> {
    let name = inv.operand(0);
    let value = match name {
        DEFAULT => None,
        name => {
            contexts::check_name(name)?;
            store(inv).get(name)?;
            Some(Value::from(name))
        }
    };
    let mut config = inv.cli.config().clone();
    if config.values.get("currentContext") != value.as_ref() {
        config.set("currentContext", value);
        config.save()?;
    }
    inv.cli.line(name)?;
    inv.cli.err(&format!("Current context is now {name:?}"));
    if name != DEFAULT && overriding_variable().is_some() {
        inv.cli.err(&format!(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use {name:?}, either set the \
             global --context flag, or unset DOCKER_HOST environment variable."
        ));
    }
    Ok(0)
}

pub(crate) async fn rm(inv: &Invocation<'_>) -> CliResult<u8> {
    let (current, force) = (current(inv)?, inv.flags.is("force"));
    let mut faults = Faults::default();
    for name in &inv.operands {
        match remove(inv, name, *name == current, force) {
            Ok(()) => inv.cli.line(name)?,
            Err(failure) => faults.add(failure),
        }
    }
    faults.finish()
}

fn remove(inv: &Invocation<'_>, name: &str, is_current: bool, force: bool) -> CliResult<()> {
    if name == DEFAULT {
        return Err(Failure::new("context \"default\" cannot be removed"));
    }
    if is_current {
        if !force {
            return Err(Failure::new(format!("context {name:?} is in use, set -f flag to force remove")));
        }
        let mut config = inv.cli.config().clone();
        config.set("currentContext", None);
        config.save()?;
    }
    if !force && !store(inv).exists(name) {
        return Err(Failure::new(format!("context {name:?} does not exist")));
    }
    store(inv).remove(name)
}

pub(crate) async fn inspect(inv: &Invocation<'_>) -> CliResult<u8> {
    let names = if inv.operands.is_empty() { vec![current(inv)?] } else { inv.operands.clone() };
    let mut inspector = Inspector::new(inv.flags.text("format"))?;
    let mut faults = Faults::default();
    for name in &names {
        match document(inv, name).and_then(|value| Object::made(&value)) {
            Ok(object) => inspector.add(object)?,
            Err(failure) => faults.add(failure),
        }
    }
    inv.cli.out(&inspector.finish())?;
    faults.finish()
}

fn document(inv: &Invocation<'_>, name: &str) -> CliResult<Value> {
    let context = find(inv, name)?;
    let files: Vec<String> = store(inv).tls(name)?.into_iter().map(|(file, _)| file).collect();
    let (meta, tls) = match name {
        DEFAULT => ("<IN MEMORY>".into(), "<IN MEMORY>".into()),
        name => (store(inv).meta_dir(name).display().to_string(), store(inv).tls_dir(name).display().to_string()),
    };
    let mut value = Value::Object(context.meta);
    value["TLSMaterial"] = if files.is_empty() { json!({}) } else { json!({"docker": files}) };
    value["Storage"] = json!({"MetadataPath": meta, "TLSPath": tls});
    Ok(value)
}

pub(crate) async fn export(inv: &Invocation<'_>) -> CliResult<u8> {
    let name = inv.operand(0);
    if name != DEFAULT {
        contexts::check_name(name)?;
    }
    let context = find(inv, name)?;
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, bytes: &[u8], mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, path, bytes)
    };
    add("meta.json", serde_json::to_string(&context.meta).unwrap_or_default().as_bytes(), 0o644)?;
    for (file, bytes) in store(inv).tls(name)? {
        add(&format!("tls/docker/{file}"), &bytes, 0o600)?;
    }
    let bytes = archive.into_inner()?;
    let target = match inv.operand(1) {
        "" => format!("{name}.dockercontext"),
        target => target.to_owned(),
    };
    if target == "-" {
        if term::is_terminal_out() {
            return Err(Failure::new("cowardly refusing to export to a terminal, specify a file path"));
        }
        std::io::stdout().lock().write_all(&bytes)?;
        return Ok(0);
    }
    // There may be a private key in it.
    let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&target);
    file.and_then(|mut file| file.write_all(&bytes)).map_err(|e| path_error("open", &target, &e))?;
    inv.cli.err(&format!("Written file {target:?}"));
    Ok(0)
}

/// No context is larger.
const MAX_ARCHIVE: u64 = 10 << 20;

pub(crate) async fn import(inv: &Invocation<'_>) -> CliResult<u8> {
    let (name, source) = (inv.operand(0), inv.operand(1));
    check_new(inv, name)?;
    let mut bytes = Vec::new();
    match source {
        "-" => std::io::stdin().lock().take(MAX_ARCHIVE).read_to_end(&mut bytes)?,
        path => {
            let file = std::fs::File::open(path).map_err(|e| path_error("open", path, &e))?;
            file.take(MAX_ARCHIVE).read_to_end(&mut bytes)?
        }
    };
    let (mut context, mut material) = (None, TlsMaterial::new());
    // The library's own message holds what it took for a header: bytes of any file.
    let no_archive = |_: std::io::Error| {
        Failure::new(format!(
            "invalid context: {source} is no archive of a context\n\nhint: barque context export NAME writes one"
        ))
    };
    if bytes.starts_with(b"PK\x03\x04") {
        return Err(Failure::unbuilt(format!(
            "context import of a zip archive: unpack {source}, and pack it with tar"
        )));
    }
    // Docker's own export ends with the last byte of the last file.
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    for entry in tar::Archive::new(bytes.as_slice()).entries().map_err(no_archive)? {
        let mut entry = entry.map_err(no_archive)?;
        let path: PathBuf = entry.path().map_err(no_archive)?.into_owned();
        let mut content = Vec::new();
        if entry.header().entry_type().is_dir() {
            continue;
        }
        entry.read_to_end(&mut content)?;
        match path.to_str() {
            Some("meta.json") => {
                let meta = serde_json::from_slice(&content).map_err(|e| Failure::new(format!("meta.json: {e}")))?;
                context = Some(Context { meta });
            }
            Some(path) if path.starts_with("tls/docker/") => {
                material.push((path["tls/docker/".len()..].to_owned(), content));
            }
            _ => return Err(Failure::new(format!("unexpected context file: {}", path.display()))),
        }
    }
    let Some(mut context) = context else { return Err(Failure::new("invalid context: no meta.json in it")) };
    context.meta.insert("Name".into(), name.into());
    store(inv).put(&context)?;
    store(inv).put_tls(name, &material)?;
    inv.cli.line(name)?;
    inv.cli.err(&format!("Successfully imported context {name:?}"));
    Ok(0)
}
