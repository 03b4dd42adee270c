//! What Barque's engine takes beyond the classic build request: secrets, agents, named contexts.

use barque_api::build_extras::BuildExtras;
use barque_model::Error;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::context::{BuildContext, Dockerfile};
use super::files;
use super::images::BuildWish;
use crate::file::model::Build;
use crate::file::paths;
use crate::file::project::Project;

/// What a classic request cannot say; such a build needs Barque's engine.
pub(super) fn beyond_classic(spec: &Build, wish: &BuildWish) -> Option<&'static str> {
    if !spec.secrets.is_empty() {
        Some("build secrets")
    } else if !spec.ssh.is_empty() || !wish.ssh.is_empty() {
        Some("ssh in builds")
    } else if !spec.additional_contexts.is_empty() {
        Some("additional build contexts")
    } else if !spec.no_cache_filter.is_empty() {
        Some("no_cache_filter")
    } else if wish.check {
        Some("build --check")
    } else {
        None
    }
}

/// What no engine here can do.
pub(super) fn unsupported(spec: &Build) -> Option<&'static str> {
    (spec.platforms.len() > 1).then_some("images for several platforms")
}

/// The options of a build. `nearby`: the engine sees the same files.
pub(super) fn extras(
    project: &Project,
    spec: &Build,
    wish: &BuildWish,
    context: Option<&BuildContext>,
    nearby: bool,
) -> Result<BuildExtras, Error> {
    let mut extras = BuildExtras {
        no_cache_filter: spec.no_cache_filter.clone(),
        allow: spec.entitlements.clone(),
        check: wish.check,
        inline_cache: spec.cache_to.iter().any(|c| is_inline(c)),
        ..BuildExtras::default()
    };
    if spec.privileged {
        extras.allow.push("security.insecure".to_owned());
    }
    for reference in &spec.secrets {
        let Some(object) = project.secrets.get(&reference.source) else { continue };
        let id = if reference.target.is_empty() { &reference.source } else { &reference.target };
        extras.secrets.insert(id.clone(), STANDARD.encode(files::content(project, object, "secret")?));
    }
    for text in spec.ssh.iter().chain(&wish.ssh) {
        if !nearby {
            return Err(Error::not_implemented("ssh in builds with an engine on another machine"));
        }
        let (id, socket) = agent(project, text)?;
        extras.ssh.insert(id, socket);
    }
    for (name, value) in &spec.additional_contexts {
        extras.contexts.insert(name.clone(), named(project, name, value, nearby)?);
    }
    if let Some(context) = context.filter(|_| nearby)
        && let Some(dir) = context.dir.to_str()
    {
        dir.clone_into(&mut extras.context_dir);
        if let Dockerfile::Text(text) = &context.dockerfile {
            extras.dockerfile = Some(STANDARD.encode(text));
            "Dockerfile".clone_into(&mut extras.dockerfile_name);
        }
    }
    Ok(extras)
}

/// `type=inline`, the cache that travels in the image itself.
pub(super) fn is_inline(cache_to: &str) -> bool {
    cache_to.split(',').any(|part| part.trim() == "type=inline")
}

/// `default`, `ID=SOCKET`.
fn agent(project: &Project, text: &str) -> Result<(String, String), Error> {
    let (id, path) = text.split_once('=').unwrap_or((text, ""));
    let path = match path {
        "" => project.environment.get("SSH_AUTH_SOCK").filter(|p| !p.is_empty()).cloned().ok_or_else(|| {
            Error::invalid(format!("build.ssh {id}: no agent: SSH_AUTH_SOCK is not set"))
                .with_hint("start one: eval $(ssh-agent) && ssh-add")
        })?,
        path => path.to_owned(),
    };
    use std::os::unix::fs::FileTypeExt as _;
    let meta = std::fs::metadata(&path).map_err(|e| Error::from(e).context(format!("build.ssh {id}: stat {path}")))?;
    if !meta.file_type().is_socket() {
        return Err(Error::not_implemented(format!("build.ssh {id} with the key file {path}"))
            .with_hint("add the key to an agent with ssh-add, and write only the id"));
    }
    Ok((id.to_owned(), path))
}

/// `service:NAME`, an image, an address, or a directory.
fn named(project: &Project, name: &str, value: &str, nearby: bool) -> Result<String, Error> {
    if let Some(service) = value.strip_prefix("service:") {
        let service =
            project.services.get(service).or_else(|| project.disabled.get(service)).ok_or_else(|| {
                Error::invalid(format!("build.additional_contexts.{name}: no such service: {service}"))
            })?;
        return Ok(format!("docker-image://{}", service.image(&project.name)));
    }
    if value.starts_with("oci-layout://") {
        return Err(Error::not_implemented(format!("build.additional_contexts.{name}: {value}"))
            .with_hint("load the layout with `barque load`, and write docker-image://NAME"));
    }
    if paths::is_remote_context(value) {
        return Ok(value.to_owned());
    }
    if !std::path::Path::new(value).is_dir() {
        return Err(Error::not_found(format!("build.additional_contexts.{name}: {value} is not a directory")));
    }
    if !nearby {
        return Err(Error::not_implemented(format!(
            "build.additional_contexts.{name}: a directory with an engine on another machine"
        )));
    }
    Ok(format!("dir:{value}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::model::{FileMount, FileObject};

    fn project() -> Project {
        let mut project = Project { name: "p".into(), ..Project::default() };
        project.environment.insert("TOKEN".into(), "s3cret".into());
        let object = FileObject { name: "p_token".into(), environment: "TOKEN".into(), ..FileObject::default() };
        project.secrets.insert("token".into(), object);
        project
    }

    #[test]
    fn secrets_come_by_value_under_their_id() {
        let reference =
            |target: &str| FileMount { source: "token".into(), target: target.into(), ..Default::default() };
        let spec = Build { secrets: vec![reference(""), reference("npm")], privileged: true, ..Build::default() };
        let extras = extras(&project(), &spec, &BuildWish::default(), None, true).expect("extras");
        let value = STANDARD.encode("s3cret");
        assert_eq!(extras.secrets.get("token"), Some(&value));
        assert_eq!(extras.secrets.get("npm"), Some(&value));
        assert_eq!(extras.allow, ["security.insecure"]);
        assert_eq!(beyond_classic(&spec, &BuildWish::default()), Some("build secrets"));
    }

    #[test]
    fn named_contexts() {
        let project = project();
        assert_eq!(named(&project, "a", "docker-image://x:1", false).expect("image"), "docker-image://x:1");
        assert_eq!(named(&project, "a", "/usr", true).expect("directory"), "dir:/usr");
        assert!(named(&project, "a", "/usr", false).expect_err("far").to_string().contains("not implemented yet"));
        assert!(
            named(&project, "a", "service:none", true).expect_err("no service").message().contains("no such service")
        );
        assert!(named(&project, "a", "/no/such/dir", true).is_err());
    }
}
