//! Barque's own options of a build.

use barque_api::build_extras::BuildExtras;
use barque_build::options::{BuildOptions, Secret, SshAgent};
use barque_engine::build::{DockerfileSource, NamedSource};
use barque_model::{Error, ErrorKind, Result, Timestamp};

use crate::http::decode_base64;

/// What names files of this machine is for clients that are on it.
pub(crate) fn only_here(local: bool) -> Result<()> {
    if local {
        return Ok(());
    }
    let text = "files and sockets of this machine can be named over its unix socket only";
    Err(Error::new(ErrorKind::Forbidden, text))
}

fn decoded(what: &str, text: &str) -> Result<Vec<u8>> {
    decode_base64(text).ok_or_else(|| Error::invalid(format!("{what} is no base64")))
}

/// Adds what the classic API has no words for.
pub(crate) fn apply(options: &mut BuildOptions, extras: &BuildExtras, local: bool) -> Result<()> {
    options.explain = extras.explain;
    options.keep_failed = extras.keep_failed;
    options.check_only = extras.check;
    options.make_image = !extras.export;
    options.inline_cache |= extras.inline_cache;
    options.export_cache = extras.export_cache;
    options.cache_all = extras.cache_all;
    options.no_cache_filter.clone_from(&extras.no_cache_filter);
    options.source_date_epoch = extras.source_date_epoch.map(Timestamp::from_secs);
    for entitlement in &extras.allow {
        match entitlement.as_str() {
            "security.insecure" => options.allow_insecure = true,
            // Docker's engine allows it to everyone; so does this one.
            "network.host" => {}
            other => return Err(Error::invalid(format!("invalid entitlement: {other}"))),
        }
    }
    for (id, value) in &extras.secrets {
        options.secrets.insert(id.clone(), Secret(decoded("a secret", value)?.into()));
    }
    for (id, socket) in &extras.ssh {
        only_here(local)?;
        options.ssh.insert(id.clone(), SshAgent { socket: socket.into() });
    }
    Ok(())
}

pub(crate) fn dockerfile(path: &str, extras: &BuildExtras) -> Result<DockerfileSource> {
    Ok(match &extras.dockerfile {
        Some(text) => DockerfileSource::Inline(decoded("the Dockerfile", text)?, extras.dockerfile_name.clone()),
        None => DockerfileSource::Path(path.to_owned()),
    })
}

/// `--build-context`.
pub(crate) fn contexts(extras: &BuildExtras, local: bool) -> Result<Vec<(String, NamedSource)>> {
    let mut out = Vec::new();
    for (name, value) in &extras.contexts {
        let source = if let Some(reference) = value.strip_prefix("docker-image://") {
            NamedSource::Image(reference.to_owned())
        } else if let Some(dir) = value.strip_prefix("dir:") {
            only_here(local)?;
            NamedSource::Directory(dir.into())
        } else if value == "archive:" {
            NamedSource::Archive
        } else {
            NamedSource::Remote(value.clone())
        };
        out.push((name.clone(), source));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_machine_are_for_its_own_clients() {
        let mut extras = BuildExtras::default();
        extras.contexts.insert("x".into(), "dir:/etc".into());
        assert!(contexts(&extras, true).is_ok());
        assert_eq!(contexts(&extras, false).err().unwrap().kind(), ErrorKind::Forbidden);
        let mut options = BuildOptions::new(std::path::PathBuf::new());
        extras.ssh.insert("default".into(), "/agent".into());
        assert_eq!(apply(&mut options, &extras, false).unwrap_err().kind(), ErrorKind::Forbidden);
        apply(&mut options, &extras, true).unwrap();
        extras.secrets.insert("s".into(), "aGk=".into());
        apply(&mut options, &extras, true).unwrap();
        assert_eq!(&*options.secrets["s"].0, b"hi");
    }
}
