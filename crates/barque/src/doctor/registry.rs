//! Registry access: Docker Hub and the configured mirrors, through the configured proxies.

use std::time::Duration;

use barque_daemon::config::Settings;
use barque_model::{Error, ErrorKind, Reference};
use barque_registry::{Client, ClientConfig, Credentials};

use super::Finding;

const REGISTRY: &str = "Registry";
/// An image every hub and mirror has.
const IMAGE: &str = "library/hello-world:latest";

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let mut findings = Vec::new();
    for mirror in &settings.registry_mirrors {
        findings.push(judge_mirror(mirror, runtime.block_on(ask(settings, mirror))));
    }
    findings.push(judge_hub(runtime.block_on(ask(settings, "docker.io")), findings.iter().any(|f| f.cure.is_empty())));
    findings
}

/// Asks a registry for the head of a manifest; the hub counts that as no pull.
async fn ask(settings: &Settings, registry: &str) -> Result<(), Error> {
    let host = registry.split_once("://").map_or(registry, |(_, rest)| rest).trim_end_matches('/');
    let mut wanted = settings.registry_settings();
    crate::daemon::proxies_from_environment(&mut wanted);
    // Each is asked itself.
    wanted.mirrors.clear();
    let mut config = ClientConfig {
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(10),
        retries: 0,
        ..wanted.client_config()
    };
    if registry.starts_with("http://") {
        config.insecure.push(host.to_owned());
    }
    let reference: Reference = format!("{host}/{IMAGE}").parse()?;
    let client = Client::new(config)?;
    match client.head(&reference, &Credentials::Anonymous).await {
        Ok(_) => Ok(()),
        // Whoever refuses is there.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Unauthorized | ErrorKind::Forbidden) => Ok(()),
        Err(e) => Err(e),
    }
}

fn judge_mirror(mirror: &str, answer: Result<(), Error>) -> Finding {
    match answer {
        Ok(()) => Finding::ok(REGISTRY, format!("the mirror {mirror} answers")),
        Err(e) => Finding::warning(
            REGISTRY,
            format!("the mirror {mirror} does not answer: {}", e.chain()),
            "start it, or take it out of registry-mirrors in /etc/barque/daemon.json; until then each pull waits for it",
        ),
    }
}

fn judge_hub(answer: Result<(), Error>, mirrored: bool) -> Finding {
    let Err(e) = answer else { return Finding::ok(REGISTRY, "Docker Hub answers") };
    let why = e.chain().to_string();
    if mirrored {
        return Finding::ok(REGISTRY, format!("Docker Hub does not answer, a mirror does ({why})"));
    }
    let cure = if why.contains("no such host") || why.contains("lookup") {
        "no connection, or names are not resolved: check /etc/resolv.conf"
    } else if why.contains("certificate") {
        "a proxy changes certificates: add its authority to the system's (/usr/local/share/ca-certificates, then \
         update-ca-certificates)"
    } else {
        "behind a proxy, set \"proxies\" in /etc/barque/daemon.json or HTTPS_PROXY for the engine"
    };
    Finding::warning(
        REGISTRY,
        format!("Docker Hub does not answer: {why}"),
        format!(
            "{cure}\nname a mirror in reach: \"registry-mirrors\" in /etc/barque/daemon.json\nwithout any: barque/host needs no registry, and `barque load` takes images from files"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn refusal(text: &str) -> Result<(), Error> {
        Err(Error::unavailable(text))
    }

    #[test]
    fn cures_follow_causes() {
        assert_eq!(judge_hub(Ok(()), false).level, Level::Ok);
        assert!(judge_hub(refusal("lookup h: no such host"), false).cure.contains("resolv.conf"));
        assert!(judge_hub(refusal("invalid peer certificate"), false).cure.contains("update-ca-certificates"));
        assert!(judge_hub(refusal("connection refused"), false).cure.contains("HTTPS_PROXY"));
        assert_eq!(judge_hub(refusal("x"), true).level, Level::Ok, "a mirror is enough");
        assert_eq!(judge_mirror("http://m", refusal("x")).level, Level::Warning);
    }
}
