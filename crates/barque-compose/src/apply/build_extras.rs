//! What Barque's engine takes beyond the classic build request: secrets, agents, named contexts.

use barque_api::build_extras::{BuildExtras, CONTEXTS};
use barque_client::build_cache::Exports;
use barque_client::ssh_agent::Agents;
use barque_model::{Digest, Error};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::context::{BuildContext, Dockerfile, More};
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
    } else if spec.privileged {
        Some("build.privileged")
    } else if !spec.entitlements.is_empty() {
        Some("build.entitlements")
    } else {
        None
    }
}

/// What no engine here can do.
pub fn unsupported(spec: &Build) -> Option<&'static str> {
    let wanted = |value: &Option<Value>| {
        value.as_ref().is_some_and(|v| !matches!(v.as_str(), Some("" | "false")) && *v != Value::Bool(false))
    };
    if wanted(&spec.provenance) {
        Some("build.provenance")
    } else if wanted(&spec.sbom) {
        Some("build.sbom")
    } else {
        None
    }
}

/// The options of a build, and the directories that have to be sent with its context. `nearby`: the engine sees the
/// same files.
///
/// # Errors
/// A secret, agent or context that cannot be had.
pub fn extras(
    project: &Project,
    spec: &Build,
    wish: &BuildWish,
    context: Option<&BuildContext>,
    nearby: bool,
    agents: &mut Agents,
) -> Result<(BuildExtras, More), Error> {
    let mut extras = BuildExtras {
        no_cache_filter: spec.no_cache_filter.clone(),
        allow: spec.entitlements.clone(),
        check: wish.check,
        // the warnings come that way
        status: wish.check,
        inline_cache: spec.cache_to.iter().any(|c| Exports::parse("cache_to", [c.as_str()]).is_ok_and(|e| e.inline)),
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
        let variable = |name: &str| project.environment.get(name).cloned();
        let (id, socket) = agents.parse(text, &project.working_dir, &variable).map_err(|e| e.context("build"))?;
        extras.ssh.insert(id, socket);
    }
    let mut more = More::new();
    for (name, value) in &spec.additional_contexts {
        extras.contexts.insert(name.clone(), named(project, name, value, nearby, &mut more)?);
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
    Ok((extras, more))
}

/// `service:NAME`, an image, an address, or a directory, which goes to `more` where the engine cannot see it.
fn named(project: &Project, name: &str, value: &str, nearby: bool, more: &mut More) -> Result<String, Error> {
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
        let place = std::path::Path::new(CONTEXTS).join(Digest::of(name.as_bytes()).hex());
        more.push((value.into(), place));
        return Ok("archive:".to_owned());
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
        let extras =
            extras(&project(), &spec, &BuildWish::default(), None, true, &mut Agents::default()).expect("extras").0;
        let value = STANDARD.encode("s3cret");
        assert_eq!(extras.secrets.get("token"), Some(&value));
        assert_eq!(extras.secrets.get("npm"), Some(&value));
        assert_eq!(extras.allow, ["security.insecure"]);
        assert_eq!(beyond_classic(&spec, &BuildWish::default()), Some("build secrets"));
        assert!(!extras.check && !extras.status);
        let wish = BuildWish { check: true, ..BuildWish::default() };
        let checked =
            super::extras(&project(), &Build::default(), &wish, None, true, &mut Agents::default()).expect("extras").0;
        assert!(checked.check && checked.status, "warnings come with the status");
    }

    #[test]
    fn what_is_not_built_is_refused() {
        let wish = BuildWish::default();
        let privileged = Build { privileged: true, ..Build::default() };
        assert_eq!(beyond_classic(&privileged, &wish), Some("build.privileged"));
        let entitled = Build { entitlements: vec!["network.host".into()], ..Build::default() };
        assert_eq!(beyond_classic(&entitled, &wish), Some("build.entitlements"));
        assert_eq!((unsupported(&privileged), unsupported(&entitled)), (None, None));
        let of = |text: &str| unsupported(&serde_json::from_str(text).expect("build"));
        assert_eq!(of(r#"{"provenance": "mode=max"}"#), Some("build.provenance"));
        assert_eq!(of(r#"{"provenance": true}"#), Some("build.provenance"));
        assert_eq!(of(r#"{"sbom": "true"}"#), Some("build.sbom"));
        assert_eq!(of(r#"{"sbom": false, "provenance": "false"}"#), None, "what is not wanted need not be built");
    }

    #[test]
    fn named_contexts() {
        let project = project();
        let mut more = More::new();
        assert_eq!(named(&project, "a", "docker-image://x:1", false, &mut more).expect("image"), "docker-image://x:1");
        assert_eq!(named(&project, "a", "/usr", true, &mut more).expect("directory"), "dir:/usr");
        assert_eq!(named(&project, "a", "/usr", false, &mut more).expect("sent"), "archive:");
        assert_eq!(more.len(), 1);
        assert!(
            named(&project, "a", "service:none", true, &mut more)
                .expect_err("no service")
                .message()
                .contains("no such service")
        );
        assert!(named(&project, "a", "/no/such/dir", true, &mut more).is_err());
    }
}
