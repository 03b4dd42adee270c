//! The flags of `build` as the engine's request.

use std::collections::BTreeMap;

use barque_api::build::BuildQuery;
use barque_api::query::JsonParam;

use crate::cli::Invocation;
use crate::cmdline::csv;
use crate::error::{CliResult, Failure};
use crate::opts::{self, env, limits, names};

/// Where the result goes besides the engine's images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Files in a directory.
    Local(String),
    /// A tar archive; `-` is standard output.
    Tar(String),
    /// An image archive, as `save` makes it.
    Archive(String),
    /// Names to push.
    Push(Vec<String>),
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
        extra_hosts: hosts?.join(","),
        quiet: is_quiet(inv),
        no_cache: flags.is("no-cache"),
        cache_from: JsonParam(flags.strings("cache-from").iter().map(|s| cache_source(s)).collect()),
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

/// `type=registry,ref=NAME` or just the name.
fn cache_source(text: &str) -> String {
    csv(text).iter().find_map(|part| part.strip_prefix("ref=")).unwrap_or(text).to_owned()
}

pub(super) fn is_quiet(inv: &Invocation<'_>) -> bool {
    inv.flags.is("quiet") || matches!(inv.flags.text("progress"), "quiet" | "none")
}

/// Flags that cannot be honoured are refused: a build without its secret is another build.
fn refuse(inv: &Invocation<'_>) -> CliResult<()> {
    let flags = &inv.flags;
    for name in ["secret", "ssh", "build-context", "annotation", "no-cache-filter"] {
        if flags.given(name) {
            return Err(Failure::unbuilt(format!("build --{name}")));
        }
    }
    let call = flags.get("call").unwrap_or("build");
    if flags.is("check") || call != "build" {
        return Err(Failure::unbuilt("build --check and --call"));
    }
    let off = |name: &str| matches!(flags.text(name), "" | "false" | "0");
    if !off("provenance") || !off("sbom") || flags.given("attest") {
        return Err(Failure::unbuilt("build attestations"));
    }
    if flags.all("cache-to").iter().any(|to| *to != "type=inline") {
        return Err(Failure::unbuilt("build --cache-to"));
    }
    if inv.cli.platform(flags).contains(',') {
        return Err(Failure::unbuilt("builds for several platforms at once"));
    }
    Ok(())
}

/// The outputs of `-o`, `--push` and `--load`.
pub(super) fn outputs(inv: &Invocation<'_>) -> CliResult<Vec<Output>> {
    let tags: Vec<String> = inv.flags.all("tag").into_iter().map(str::to_owned).collect();
    let mut found = Vec::new();
    for text in inv.flags.all("output") {
        found.extend(output(text, &tags)?);
    }
    if inv.flags.is("push") {
        found.push(Output::Push(tags));
    }
    Ok(found)
}

fn output(text: &str, tags: &[String]) -> CliResult<Option<Output>> {
    if text == "-" {
        return Ok(Some(Output::Tar("-".into())));
    }
    let parts = csv(text);
    if parts.len() == 1 && !text.contains('=') {
        return Ok(Some(Output::Local(text.to_owned())));
    }
    let fields: BTreeMap<String, String> = parts.iter().map(|part| opts::key_value(part)).collect();
    let field = |key: &str| fields.get(key).map(String::as_str).unwrap_or_default();
    let destination = || match field("dest") {
        "" => Err(Failure::new(format!("dest is required for {} output", field("type")))),
        dest => Ok(dest.to_owned()),
    };
    match field("type") {
        "" => Err(Failure::new(format!("type is required for output {text:?}"))),
        "local" => Ok(Some(Output::Local(destination()?))),
        "tar" => Ok(Some(Output::Tar(destination().unwrap_or_else(|_| "-".into())))),
        "docker" if field("dest").is_empty() => Ok(None),
        "docker" => Ok(Some(Output::Archive(destination()?))),
        "oci" => Err(Failure::unbuilt("build --output type=oci")),
        "cacheonly" => Ok(None),
        "registry" => Ok(Some(Output::Push(names_of(field("name"), tags)))),
        "image" if field("push") == "true" => Ok(Some(Output::Push(names_of(field("name"), tags)))),
        "image" => Ok(None),
        other => Err(Failure::new(format!("unsupported output type {other:?}"))),
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
        assert_eq!(ok("out"), Some(Output::Local("out".into())));
        assert_eq!(ok("-"), Some(Output::Tar("-".into())));
        assert_eq!(ok("type=tar,dest=x.tar"), Some(Output::Tar("x.tar".into())));
        assert_eq!(ok("type=local,dest=d"), Some(Output::Local("d".into())));
        assert_eq!(ok("type=docker"), None);
        assert_eq!(ok("type=registry"), Some(Output::Push(vec!["a:1".into()])));
        assert!(output("type=local", &tags).is_err());
        assert!(output("dest=x", &tags).is_err());
    }

    #[test]
    fn cache_sources() {
        assert_eq!(cache_source("user/app:cache"), "user/app:cache");
        assert_eq!(cache_source("type=registry,ref=user/app"), "user/app");
    }
}
