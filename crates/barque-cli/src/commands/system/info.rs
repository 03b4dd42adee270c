//! `info`.

use std::fmt::Write as _;

use barque_api::system::Info;
use barque_template::{Data, Missing, Struct, Template, typed};
use serde_json::{Value, json};

use crate::cli::Invocation;
use crate::commands::{inspect::fetch, version};
use crate::error::{CliResult, Failure};

pub(crate) async fn info(inv: &Invocation<'_>) -> CliResult<u8> {
    let format = inv.flags.text("format");
    if format.is_empty() {
        return pretty(inv).await;
    }
    let text = if format == "json" { "{{json .}}" } else { format };
    let template = Template::parse(text).map_err(|e| Failure::new(format!("template parsing error: {e}")).code(64))?;
    let raw = fetch(inv, "/info", "").await?;
    let server: Info = barque_api::json::from_str(raw.get()).map_err(|e| Failure::new(e.to_string()))?;
    let data = with_client(typed(&server), inv)?;
    let out = template.execute(&data, Missing::NoValue).or_else(|first| {
        // Fields that the types do not know.
        let mut value: Value = serde_json::from_str(raw.get()).map_err(|e| e.to_string())?;
        value["ClientInfo"] = client_info(inv).map_err(|f| f.message)?;
        template.execute(&Data::from_json(&value), Missing::Error).map_err(|_| first)
    });
    inv.cli.line(out.as_deref().unwrap_or_default())?;
    out.map_err(Failure::new)?;
    Ok(0)
}

fn client_info(inv: &Invocation<'_>) -> CliResult<Value> {
    let client = version::client(inv, None)?;
    Ok(json!({
        "Debug": inv.cli.global.is("debug"),
        "Version": client.version,
        "DefaultAPIVersion": client.default_api,
        "GitCommit": client.commit,
        "Os": client.os,
        "Arch": client.arch,
        "Context": client.context,
        "Plugins": built_in(&inv.cli.program),
        "Warnings": null,
    }))
}

/// What other clients have as plug-ins and this one has inside: programs look for them here and for their age.
fn built_in(program: &str) -> Value {
    let own = env!("CARGO_PKG_VERSION");
    let compose = if program == "docker" { barque_compose::cli::COMPOSE_RELEASE } else { own };
    let path = std::env::current_exe().unwrap_or_default().display().to_string();
    let entry = |name: &str, text: &str, version: &str| {
        json!({
            "SchemaVersion": "0.1.0", "Vendor": "Barque", "Version": format!("v{version}"),
            "ShortDescription": text, "Name": name, "Path": path,
        })
    };
    json!([entry("buildx", "Docker Buildx", own), entry("compose", "Docker Compose", compose),])
}

fn with_client(server: Data, inv: &Invocation<'_>) -> CliResult<Data> {
    let client = Data::from_json(&client_info(inv)?);
    let Data::Struct(fields) = &server else { return Ok(server) };
    let mut all: Vec<(&str, Data)> =
        fields.fields.iter().filter(|f| !f.omitted).map(|f| (f.name.as_str(), f.value.clone())).collect();
    all.push(("ClientInfo", client));
    Ok(Struct::shown("system.dockerInfo", all))
}

async fn pretty(inv: &Invocation<'_>) -> CliResult<u8> {
    let client = version::client(inv, None)?;
    let mut out = String::from("Client:\n");
    let _ = writeln!(out, " Version:    {}", client.version);
    let _ = writeln!(out, " Context:    {}", client.context);
    let _ = writeln!(out, " Debug Mode: {}", inv.cli.global.is("debug"));
    out.push_str(" Plugins:\n");
    for plugin in built_in(&inv.cli.program).as_array().into_iter().flatten() {
        let field = |name: &str| plugin[name].as_str().unwrap_or_default();
        let _ = writeln!(out, "  {}: {} ({})", field("Name"), field("ShortDescription"), field("Vendor"));
        let _ = writeln!(out, "    Version:  {}\n    Path:     {}", field("Version"), field("Path"));
    }
    out.push_str("\nServer:\n");
    let server = match inv.client().await {
        Ok(client) => client.info().await.map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    let info = match server {
        Ok(info) => info,
        Err(failure) => {
            inv.cli.out(&out)?;
            return Err(failure);
        }
    };
    server_lines(&info, &mut out);
    limits_lines(inv, &info, &mut out);
    inv.cli.out(&out)?;
    for warning in info.warnings.iter().flatten() {
        inv.cli.err(warning);
    }
    Ok(0)
}

/// `Label: value`, unless the value is empty.
fn some(out: &mut String, label: &str, value: &str) {
    if !value.is_empty() {
        let _ = writeln!(out, " {label}: {value}");
    }
}

fn server_lines(info: &Info, out: &mut String) {
    let _ = writeln!(out, " Containers: {}", info.containers);
    let _ = writeln!(out, "  Running: {}", info.containers_running);
    let _ = writeln!(out, "  Paused: {}", info.containers_paused);
    let _ = writeln!(out, "  Stopped: {}", info.containers_stopped);
    let _ = writeln!(out, " Images: {}", info.images);
    some(out, "Server Version", &info.server_version);
    some(out, "Storage Driver", &info.driver);
    for [key, value] in info.driver_status.iter().flatten() {
        let _ = writeln!(out, "  {key}: {value}");
    }
    some(out, "Logging Driver", &info.logging_driver);
    some(out, "Cgroup Driver", &info.cgroup_driver);
    some(out, "Cgroup Version", &info.cgroup_version);
    let names = |list: &Option<Vec<String>>| list.as_deref().unwrap_or_default().join(" ");
    let _ = writeln!(out, " Plugins:\n  Volume: {}", names(&info.plugins.volume));
    let _ = writeln!(out, "  Network: {}", names(&info.plugins.network));
    if info.plugins.authorization.as_ref().is_some_and(|a| !a.is_empty()) {
        let _ = writeln!(out, "  Authorization: {}", names(&info.plugins.authorization));
    }
    let _ = writeln!(out, "  Log: {}", names(&info.plugins.log));
    let directories = info.cdi_spec_dirs.as_deref().unwrap_or_default();
    if !directories.is_empty() {
        out.push_str(" CDI spec directories:\n");
        for d in directories {
            let _ = writeln!(out, "  {d}");
        }
    }
    let swarm = serde_json::to_value(&info.swarm).unwrap_or_default();
    let _ = writeln!(out, " Swarm: {}", swarm["LocalNodeState"].as_str().unwrap_or_default());
    if !info.runtimes.is_empty() {
        let names: Vec<&str> = info.runtimes.keys().map(String::as_str).collect();
        let _ = writeln!(out, " Runtimes: {}", names.join(" "));
        let _ = writeln!(out, " Default Runtime: {}", info.default_runtime);
    }
    if info.os_type == "linux" {
        let _ = writeln!(out, " Init Binary: {}", info.init_binary);
        let _ = writeln!(out, " containerd version: {}", info.containerd_commit.id);
        let _ = writeln!(out, " runc version: {}", info.runc_commit.id);
        let _ = writeln!(out, " init version: {}", info.init_commit.id);
        security_lines(&info.security_options, out);
    }
}

/// `name=seccomp,profile=builtin`, one option per line, its profile below it.
fn security_lines(options: &[String], out: &mut String) {
    if options.is_empty() {
        return;
    }
    out.push_str(" Security Options:\n");
    for option in options {
        // Very old engines say only the name.
        let mut name = if option.contains('=') { "" } else { option.as_str() };
        let mut profile = None;
        for part in option.split(',') {
            match part.split_once('=') {
                Some(("name", value)) => name = value,
                Some(("profile", value)) => profile = Some(value),
                _ => {}
            }
        }
        let _ = writeln!(out, "  {name}");
        if let Some(profile) = profile {
            let _ = writeln!(out, "   Profile: {profile}");
        }
    }
}

fn limits_lines(inv: &Invocation<'_>, info: &Info, out: &mut String) {
    some(out, "Kernel Version", &info.kernel_version);
    some(out, "Operating System", &info.operating_system);
    some(out, "OSType", &info.os_type);
    some(out, "Architecture", &info.architecture);
    let _ = writeln!(out, " CPUs: {}", info.ncpu);
    let memory = barque_model::size::binary(u64::try_from(info.mem_total).unwrap_or(0));
    let _ = writeln!(out, " Total Memory: {memory}");
    some(out, "Name", &info.name);
    some(out, "ID", &info.id);
    let _ = writeln!(out, " Docker Root Dir: {}", info.docker_root_dir);
    let _ = writeln!(out, " Debug Mode: {}", info.debug);
    if info.debug || inv.cli.global.is("debug") {
        let _ = writeln!(out, "  File Descriptors: {}", info.nfd);
        let _ = writeln!(out, "  Goroutines: {}", info.ngoroutines);
        let _ = writeln!(out, "  System Time: {}", info.system_time);
        let _ = writeln!(out, "  EventsListeners: {}", info.nevents_listener);
    }
    some(out, "HTTP Proxy", &info.http_proxy);
    some(out, "HTTPS Proxy", &info.https_proxy);
    some(out, "No Proxy", &info.no_proxy);
    let user = crate::auth::get(inv.cli.config(), crate::auth::HUB).ok().flatten().map(|a| a.username);
    some(out, "Username", &user.unwrap_or_default());
    if !info.labels.is_empty() {
        out.push_str(" Labels:\n");
        for l in info.labels.iter() {
            let _ = writeln!(out, "  {l}");
        }
    }
    let _ = writeln!(out, " Experimental: {}", info.experimental_build);
    registry_lines(info, out);
    let _ = writeln!(out, " Live Restore Enabled: {}", info.live_restore_enabled);
    some(out, "Product License", &info.product_license);
    let pools = info.default_address_pools.as_deref().unwrap_or_default();
    if !pools.is_empty() {
        out.push_str(" Default Address Pools:\n");
        for p in pools.iter() {
            let _ = writeln!(out, "   Base: {}, Size: {}", p.base, p.size);
        }
    }
    out.push('\n');
}

fn registry_lines(info: &Info, out: &mut String) {
    let Some(config) = &info.registry_config else { return };
    if !config.insecure_registry_cidrs.is_empty() || !config.index_configs.is_empty() {
        out.push_str(" Insecure Registries:\n");
        let insecure = config.index_configs.values().filter(|r| !r.secure).map(|r| &r.name);
        for r in insecure.chain(&config.insecure_registry_cidrs) {
            let _ = writeln!(out, "  {r}");
        }
    }
    let mirrors = config.mirrors.as_deref().unwrap_or_default();
    if !mirrors.is_empty() {
        out.push_str(" Registry Mirrors:\n");
        for m in mirrors.iter() {
            let _ = writeln!(out, "  {m}");
        }
    }
}
