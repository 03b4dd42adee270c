//! `--use-api-socket`: the engine's socket and the user's logins inside the container, as Docker's client gives them.

use barque_api::container::{ContainerCreateRequest, CopyQuery, Mount};
use barque_client::{Client, Upload};

use crate::auth;
use crate::cli::Invocation;
use crate::error::{CliResult, Failure};

/// Where the logins go; its directory becomes `DOCKER_CONFIG`.
const DIRECTORY: &str = "run/secrets/docker";

/// Mounts the socket; the logins to copy in with [`copy`], if there are any and no variable names others.
pub(super) fn mount(inv: &Invocation<'_>, request: &mut ContainerCreateRequest) -> CliResult<Option<String>> {
    let address = &inv.cli.target()?.address;
    let Some(socket) = address.strip_prefix("unix://") else {
        return Err(Failure::new(format!(
            "flag --use-api-socket can only be used with unix sockets: docker endpoint {address} incompatible"
        )));
    };
    let mount = Mount {
        kind: "bind".into(),
        source: socket.to_owned(),
        target: "/var/run/docker.sock".into(),
        ..Default::default()
    };
    if let Some(host) = &mut request.host_config {
        host.mounts.get_or_insert_default().push(mount);
    }
    let environment = request.config.env.get_or_insert_default();
    let logins = auth::all(inv.cli.config());
    if logins.is_empty() || environment.iter().any(|e| e.starts_with("DOCKER_CONFIG=")) {
        return Ok(None);
    }
    environment.push(format!("DOCKER_CONFIG=/{DIRECTORY}"));
    Ok(Some(auth::as_file(&logins)))
}

/// Copies the logins into a container that is not started yet.
pub(super) async fn copy(client: &Client, id: &str, logins: &str) -> CliResult<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(logins.len() as u64);
    header.set_mode(0o600);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, format!("{DIRECTORY}/config.json"), logins.as_bytes())?;
    let query = CopyQuery { path: "/".into(), ..Default::default() };
    let content = Upload::bytes(archive.into_inner()?);
    client
        .container_archive_put(id, &query, content)
        .await
        .map_err(|e| Failure::from(e).prefixed("failed to copy the logins into the container: "))
}
