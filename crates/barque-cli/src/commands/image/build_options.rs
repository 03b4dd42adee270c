//! The flags of `build` as the engine's request.

use std::collections::BTreeMap;

use barque_api::build::BuildQuery;
use barque_api::query::JsonParam;
use barque_model::csv::csv;

use crate::cli::Invocation;
use crate::error::{CliResult, Failure};
use crate::opts::{self, env, limits, names};
use crate::output::progress::Sink;

/// Where the result goes besides the engine's images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Files in a directory.
    Local(String),
    /// A tar archive; `-` is standard output.
    Tar(String),
    /// An image archive, as `save` makes it, with names in it; empty is standard output.
    Archive(String, Vec<String>),
    /// The same, unpacked in a directory.
    Layout(String, Vec<String>),
    /// Names for the image.
    Tag(Vec<String>),
    /// Names to push.
    Push(Vec<String>),
    /// Nothing but the cache.
    Cache,
}

impl Output {
    /// Files, not an image.
    pub(super) fn is_files(&self) -> bool {
        matches!(self, Output::Local(_) | Output::Tar(_))
    }

    /// An image among the engine's own.
    pub(super) fn is_kept(&self) -> bool {
        matches!(self, Output::Tag(_) | Output::Push(_))
    }

    /// The names of an image, wherever it goes.
    pub(super) fn names(&self) -> &[String] {
        match self {
            Output::Archive(_, names) | Output::Layout(_, names) | Output::Tag(names) | Output::Push(names) => names,
            Output::Local(_) | Output::Tar(_) | Output::Cache => &[],
        }
    }

    /// Whether it is written to standard output.
    pub(super) fn is_stdout(&self) -> bool {
        matches!(self, Output::Tar(path) | Output::Archive(path, _) if matches!(path.as_str(), "-" | ""))
    }
}

/// The request for a build, without the context's part.
pub(super) fn query(inv: &Invocation<'_>, variable: &dyn Fn(&str) -> Option<String>) -> CliResult<BuildQuery> {
    let flags = &inv.flags;
    refuse(inv)?;
    let int = |name: &str| flags.int(name).unwrap_or(0);
    let bytes = |name: &str| flags.bytes(name).unwrap_or(0);
    let text = |name: &str| flags.text(name).to_owned();
    let hosts: Result<Vec<String>, String> = flags.all("add-host").into_iter().map(names::extra_host).collect();
    let mut arguments: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (key, value) in inv.cli.config().proxies(&inv.cli.target()?.address) {
        arguments.insert(key, Some(value));
    }
    for argument in flags.all("build-arg") {
        // Without a value, the Dockerfile's default or the caller's variable counts.
        let resolved = env::resolve(argument, variable);
        let (key, value) = match resolved.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (resolved, None),
        };
        arguments.insert(key, value);
    }
    Ok(BuildQuery {
        tags: flags.all("tag").into_iter().map(str::to_owned).collect(),
        extra_hosts: hosts?,
        quiet: is_quiet(inv),
        no_cache: flags.is("no-cache"),
        // Caches in directories are loaded first, see `build_cache`.
        cache_from: JsonParam(Vec::new()),
        pull: if flags.is("pull") { "1".into() } else { String::new() },
        rm: Some(flags.on("rm", true)),
        force_rm: flags.is("force-rm"),
        memory: bytes("memory"),
        memory_swap: bytes("memory-swap"),
        cpu_shares: int("cpu-shares"),
        cpuset_cpus: text("cpuset-cpus"),
        cpuset_mems: text("cpuset-mems"),
        cpu_period: int("cpu-period"),
        cpu_quota: int("cpu-quota"),
        cgroup_parent: text("cgroup-parent"),
        build_args: JsonParam(arguments),
        shm_size: bytes("shm-size"),
        squash: flags.is("squash"),
        labels: JsonParam(opts::map(flags.all("label"))),
        network_mode: flags.get("network").unwrap_or("default").to_owned(),
        platform: inv.cli.platform(flags),
        target: text("target"),
        ulimits: JsonParam(limits::ulimits(&flags.all("ulimit"))?),
        security_opt: JsonParam(flags.strings("security-opt")),
        isolation: text("isolation"),
        version: "1".into(),
        ..BuildQuery::default()
    })
}

pub(super) fn is_quiet(inv: &Invocation<'_>) -> bool {
    inv.flags.is("quiet") || matches!(inv.flags.text("progress"), "quiet" | "none")
}

/// Where transfers after the build are told.
pub(super) fn way(inv: &Invocation<'_>) -> Sink {
    if is_quiet(inv) { Sink::Silent } else { Sink::Stderr }
}

/// Flags that cannot be honoured are refused: a build without its attestation is another build.
fn refuse(inv: &Invocation<'_>) -> CliResult<()> {
    let flags = &inv.flags;
    if flags.given("annotation") {
        return Err(Failure::unbuilt("build --annotation"));
    }
    let call = flags.get("call").unwrap_or("build");
    if !matches!(call, "build" | "check" | "lint") {
        return Err(Failure::unbuilt(format!("build --call={call}")));
    }
    let off = |name: &str| matches!(flags.text(name), "" | "false" | "0");
    if !off("provenance") || !off("sbom") || flags.given("attest") {
        return Err(Failure::unbuilt("build attestations"));
    }
    if inv.cli.platform(flags).contains(',') {
        return Err(Failure::unbuilt("builds for several platforms at once"));
    }
    Ok(())
}

/// Only look at the Dockerfile.
pub(super) fn is_check(inv: &Invocation<'_>) -> bool {
    inv.flags.is("check") || matches!(inv.flags.text("call"), "check" | "lint")
}

/// The outputs of `-o`, `--push` and `--load`.
pub(super) fn outputs(inv: &Invocation<'_>) -> CliResult<Vec<Output>> {
    let tags: Vec<String> = inv.flags.all("tag").into_iter().map(str::to_owned).collect();
    let mut found = Vec::new();
    for text in inv.flags.all("output") {
        found.push(output(text, &tags)?);
    }
    if inv.flags.is("push") {
        found.push(pushed(tags.clone())?);
    }
    if inv.flags.is("load") && !found.is_empty() {
        found.push(Output::Tag(tags));
    }
    if found.iter().filter(|o| o.is_stdout()).count() > 1 {
        return Err(Failure::new("only one output can go to standard output"));
    }
    Ok(found)
}

fn output(text: &str, tags: &[String]) -> CliResult<Output> {
    if text == "-" {
        return Ok(Output::Tar("-".into()));
    }
    let parts = csv(text);
    if parts.len() == 1 && !text.contains('=') {
        return Ok(Output::Local(text.to_owned()));
    }
    let fields: BTreeMap<String, String> = parts.iter().map(|part| opts::key_value(part)).collect();
    let field = |key: &str| fields.get(key).map(String::as_str).unwrap_or_default();
    let destination = || match field("dest") {
        "" => Err(Failure::new(format!("dest is required for {} output", field("type")))),
        dest => Ok(dest.to_owned()),
    };
    for (key, value) in &fields {
        check_field(key, value)?;
    }
    let names = || names_of(field("name"), tags);
    match field("type") {
        "" => Err(Failure::new(format!("type is required for output {text:?}"))),
        "local" => Ok(Output::Local(destination()?)),
        "tar" => Ok(Output::Tar(destination().unwrap_or_else(|_| "-".into()))),
        "docker" if field("dest").is_empty() => Ok(Output::Tag(names())),
        "docker" | "oci" if field("tar") == "false" => Ok(Output::Layout(destination()?, names())),
        "docker" | "oci" => {
            let dest = field("dest");
            Ok(Output::Archive(if dest == "-" { String::new() } else { dest.to_owned() }, names()))
        }
        "cacheonly" => Ok(Output::Cache),
        "registry" => pushed(names()),
        "image" if field("push") == "true" => pushed(names()),
        "image" => Ok(Output::Tag(names())),
        other => Err(Failure::new(format!("unsupported output type {other:?}"))),
    }
}

fn pushed(names: Vec<String>) -> CliResult<Output> {
    match names.is_empty() {
        true => Err(Failure::new("tag is needed when pushing to registry: name the image with -t or name=")),
        false => Ok(Output::Push(names)),
    }
}

/// What an output is asked to be beyond its place: refused where it would be another result.
fn check_field(key: &str, value: &str) -> CliResult<()> {
    match (key, value) {
        ("type" | "dest" | "name" | "push" | "tar", _) => Ok(()),
        // What is done anyway: times are clamped wherever SOURCE_DATE_EPOCH is set, media types are the registry's.
        ("compression", "gzip") | ("store" | "unpack" | "rewrite-timestamp" | "oci-mediatypes", _) => Ok(()),
        ("force-compression" | "platform-split" | "push-by-digest", "false" | "0") => Ok(()),
        ("compression" | "compression-level" | "force-compression" | "push-by-digest" | "platform-split", _) => {
            Err(Failure::unbuilt(format!("build output with {key}={value}")))
        }
        (key, _) if key.starts_with("annotation") => Err(Failure::unbuilt(format!("build output with {key}"))),
        _ => Err(Failure::new(format!("unknown key '{key}' of a build output"))),
    }
}

fn names_of(name: &str, tags: &[String]) -> Vec<String> {
    if name.is_empty() { tags.to_vec() } else { name.split(',').map(str::to_owned).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_in_their_forms() {
        let tags = ["a:1".to_owned()];
        let ok = |text| output(text, &tags).expect(text);
        assert_eq!(ok("out"), Output::Local("out".into()));
        assert_eq!(ok("-"), Output::Tar("-".into()));
        assert_eq!(ok("type=tar,dest=x.tar"), Output::Tar("x.tar".into()));
        assert_eq!(ok("type=local,dest=d"), Output::Local("d".into()));
        assert_eq!(ok("type=docker"), Output::Tag(vec!["a:1".into()]));
        assert_eq!(ok("type=image,name=b"), Output::Tag(vec!["b".into()]));
        assert_eq!(ok("type=oci,dest=x.tar"), Output::Archive("x.tar".into(), tags.to_vec()));
        assert_eq!(ok("type=oci,name=b"), Output::Archive(String::new(), vec!["b".into()]));
        assert_eq!(ok("type=oci,tar=false,dest=d"), Output::Layout("d".into(), tags.to_vec()));
        assert_eq!(ok("type=registry"), Output::Push(vec!["a:1".into()]));
        assert_eq!(ok("type=cacheonly"), Output::Cache);
        assert!(output("type=local", &tags).is_err());
        assert!(output("dest=x", &tags).is_err());
        assert_eq!(output("type=registry", &[]).expect_err("no name").code, 1);
        assert_eq!(output("type=image,compression=zstd", &tags).expect_err("another image").code, 125);
        assert!(output("type=image,bogus=1", &tags).expect_err("unknown").message.contains("bogus"));
    }
}
