//! `version`.

use barque_api::system::{ComponentVersion, Version};
use barque_template::{Data, Missing, Template, typed};
use serde_json::{Value, json};

use crate::cli::Invocation;
use crate::error::{CliResult, Failure};
use crate::output::tabwriter::{self, Layout};

/// The release of the `docker` client whose behaviour this one has.
const DOCKER: &str = "28.2.2";
/// The API version of that client.
const DEFAULT_API: &str = "1.51";
/// Two columns: labels at least twenty wide, one blank.
const LAYOUT: Layout = Layout { min_width: 20, padding: 1 };

/// What `--version` says: under Docker's name as scripts read it.
pub(crate) fn short(program: &str) -> String {
    let own = env!("CARGO_PKG_VERSION");
    match program {
        "docker" => format!("Docker version {DOCKER}, build barque-{own}"),
        // The second line is for scripts that look for Docker's.
        _ => format!("Barque version {own}, build {}\nDocker version {DOCKER}, build barque-{own}", commit()),
    }
}

/// The source's commit, where the build knows it.
fn commit() -> &'static str {
    option_env!("BARQUE_COMMIT").unwrap_or("unknown")
}

/// What the client says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) version: String,
    pub(crate) api: String,
    pub(crate) default_api: &'static str,
    pub(crate) commit: String,
    pub(crate) os: &'static str,
    pub(crate) arch: &'static str,
    pub(crate) context: String,
}

/// The client, speaking `api` with the engine.
pub(crate) fn client(inv: &Invocation<'_>, api: Option<String>) -> CliResult<Client> {
    let own = env!("CARGO_PKG_VERSION");
    let (version, commit) = match inv.cli.program.as_str() {
        "docker" => (DOCKER.to_owned(), format!("barque-{own}")),
        _ => (own.to_owned(), commit().to_owned()),
    };
    Ok(Client {
        version,
        api: api.unwrap_or_else(|| DEFAULT_API.to_owned()),
        default_api: DEFAULT_API,
        commit,
        os: "linux",
        arch: go_arch(),
        context: inv.cli.target()?.context.clone(),
    })
}

/// The machine's architecture in Go's words.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub(crate) async fn version(inv: &Invocation<'_>) -> CliResult<u8> {
    let format = match inv.flags.text("format") {
        "json" => "{{json .}}",
        text => text,
    };
    let template = match format {
        "" => None,
        text => {
            let fault = |e: String| Failure::new(format!("template parsing error: {e}")).code(64);
            Some(Template::parse(text).map_err(|e| fault(e.replacen("template: :", "template: version:", 1)))?)
        }
    };
    let (server, fault) = match server(inv).await {
        Ok((server, api)) => (Some((server, api)), None),
        Err(failure) => (None, Some(failure)),
    };
    let client = client(inv, server.as_ref().map(|(_, api)| api.clone()))?;
    let server = server.map(|(server, _)| server);
    let text = match template {
        None => plain(&client, server.as_ref()),
        Some(template) => {
            let out = template.execute(&document(&client, server.as_ref()), Missing::NoValue);
            let named = |e: String| {
                let e = e.replacen("template: :", "template: version:", 1);
                Failure::new(e.replacen("executing \"\"", "executing \"version\"", 1))
            };
            let out = out.map_err(named);
            match (out, fault) {
                (Ok(out), fault) => {
                    inv.cli.out(&tabwriter::align(&format!("{out}\n"), LAYOUT))?;
                    return fault.map_or(Ok(0), Err);
                }
                (Err(_), Some(fault)) => return Err(fault),
                (Err(failure), None) => {
                    inv.cli.line("")?;
                    return Err(failure);
                }
            }
        }
    };
    inv.cli.out(&tabwriter::align(&text, LAYOUT))?;
    fault.map_or(Ok(0), Err)
}

/// The engine's version, with itself among its components, and the API version in use.
async fn server(inv: &Invocation<'_>) -> CliResult<(Version, String)> {
    let client = inv.client().await?;
    let mut version = client.version().await?;
    let components = version.components.get_or_insert_default();
    if !components.iter().any(|c| c.name == "Engine") {
        let details = [
            ("ApiVersion", version.api_version.clone()),
            ("MinAPIVersion", version.min_api_version.clone()),
            ("GitCommit", version.git_commit.clone()),
            ("GoVersion", version.go_version.clone()),
            ("Os", version.os.clone()),
            ("Arch", version.arch.clone()),
            ("BuildTime", version.build_time.clone()),
            ("Experimental", version.experimental.to_string()),
        ];
        let details = details.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let (name, own) = ("Engine".to_owned(), version.version.clone());
        components.push(ComponentVersion { name, version: own, details: Some(details) });
    }
    for component in components.iter_mut().filter(|c| c.name == "Engine") {
        if let Some(time) = component.details.as_mut().and_then(|d| d.get_mut("BuildTime")) {
            *time = ansi_c(time);
        }
    }
    Ok((version, client.version_used().await?.to_string()))
}

/// `Fri May 30 12:07:14 2025`; a time of another form stays as it is.
fn ansi_c(text: &str) -> String {
    let Ok(time) = text.parse::<jiff::Timestamp>() else { return text.to_owned() };
    time.to_zoned(jiff::tz::TimeZone::UTC).strftime("%a %b %e %H:%M:%S %Y").to_string()
}

fn plain(client: &Client, server: Option<&Version>) -> String {
    let mut out = String::from("Client:\n");
    let mut line = |indent: &str, label: &str, value: &str| out.push_str(&format!("{indent}{label}:\t{value}\n"));
    let downgraded = match client.api == client.default_api {
        true => client.api.clone(),
        false => format!("{} (downgraded from {})", client.api, client.default_api),
    };
    line(" ", "Version", &client.version);
    line(" ", "API version", &downgraded);
    line(" ", "Git commit", &client.commit);
    line(" ", "OS/Arch", &format!("{}/{}", client.os, client.arch));
    line(" ", "Context", &client.context);
    let Some(server) = server else { return out };
    let name = &server.platform.name;
    out.push_str(&if name.is_empty() { "\nServer:\n".to_owned() } else { format!("\nServer: {name}\n") });
    for component in server.components.iter().flatten() {
        out.push_str(&component_lines(component));
    }
    out
}

fn component_lines(component: &ComponentVersion) -> String {
    let mut out = format!(" {}:\n  Version:\t{}\n", component.name, component.version);
    let empty = std::collections::BTreeMap::new();
    let details = component.details.as_ref().unwrap_or(&empty);
    if component.name != "Engine" {
        details.iter().for_each(|(key, value)| out.push_str(&format!("  {key}:\t{value}\n")));
        return out;
    }
    let get = |key: &str| details.get(key).map(String::as_str).unwrap_or_default();
    let lines = [
        ("API version", format!("{} (minimum version {})", get("ApiVersion"), get("MinAPIVersion"))),
        ("Go version", get("GoVersion").to_owned()),
        ("Git commit", get("GitCommit").to_owned()),
        ("Built", get("BuildTime").to_owned()),
        ("OS/Arch", format!("{}/{}", get("Os"), get("Arch"))),
        ("Experimental", get("Experimental").to_owned()),
    ];
    lines.iter().for_each(|(label, value)| out.push_str(&format!("  {label}:\t{value}\n")));
    out
}

/// What a template sees.
fn document(client: &Client, server: Option<&Version>) -> Data {
    let client: Value = json!({
        "Version": client.version,
        "ApiVersion": client.api,
        "DefaultAPIVersion": client.default_api,
        "GitCommit": client.commit,
        "GoVersion": "",
        "Os": client.os,
        "Arch": client.arch,
        "BuildTime": "",
        "Context": client.context,
    });
    let Value::Object(fields) = &client else { return Data::Nil };
    let mut shown: Vec<(&str, Data)> = fields.iter().map(|(k, v)| (k.as_str(), Data::from_json(v))).collect();
    // Go's templates go by the names of fields, not of the document.
    if let Some(api) = fields.get("ApiVersion") {
        shown.push((
            "APIVersion",
            Data::lazy({
                let api = api.clone();
                move || Data::from_json(&api)
            }),
        ));
    }
    let client = barque_template::Struct::shown("system.clientVersion", shown);
    let server = server.map_or(Data::Nil, typed);
    barque_template::Struct::shown("system.versionInfo", vec![("Client", client), ("Server", server)])
}
