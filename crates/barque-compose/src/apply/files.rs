//! Secrets and configs that are not files of the host: copied into the container before it starts.

use barque_api::network::{EndpointSettings, NetworkConnectRequest};
use barque_client::Upload;
use barque_model::Error;

use super::body::model_error;
use super::body_mounts::{is_mounted, target_of};
use super::engine::Engine;
use crate::file::model::{FileMount, FileObject};
use crate::file::project::{Project, Service};
use crate::plan::api_socket;

/// A file to copy, as an archive of it.
pub struct Packed {
    archive: Vec<u8>,
    /// Whether another content makes another container; logins come and go.
    counts: bool,
}

/// Reads what is to be copied into the containers of a service.
///
/// # Errors
/// A variable or file that is missing, a read-only container.
pub fn pack(project: &Project, service: &Service) -> Result<Vec<Packed>, Error> {
    let sets = [
        ("secret", &service.spec.secrets, &project.secrets, "/run/secrets/"),
        ("config", &service.spec.configs, &project.configs, "/"),
    ];
    let mut out = Vec::new();
    for (kind, references, objects, base) in sets {
        for reference in references {
            let Some(object) = objects.get(&reference.source) else { continue };
            if is_mounted(object, reference) {
                continue;
            }
            let content = content(project, object, kind)?;
            if service.spec.read_only {
                return Err(Error::invalid(format!(
                    "cannot create {kind} {:?} in read-only service {}: `file` is the sole supported option",
                    object.name, service.name
                ))
                .with_hint("give it as a file without uid, gid and mode, which is mounted instead of copied"));
            }
            let archive = archive(&content, reference, &target_of(reference, base), kind)?;
            out.push(Packed { archive, counts: reference.source != api_socket::CONFIG });
        }
    }
    Ok(out)
}

/// A hash of what is copied into the containers of a service; none if nothing is, or it cannot be read.
pub fn digest(project: &Project, service: &Service) -> Option<String> {
    let mut all = pack(project, service).ok()?;
    all.retain(|packed| packed.counts);
    if all.is_empty() {
        return None;
    }
    let hashes: String = all.iter().map(|p| barque_model::Digest::of(&p.archive).hex().to_owned()).collect();
    Some(barque_model::Digest::of(hashes.as_bytes()).hex().to_owned())
}

/// Copies the files of a service into one of its containers.
///
/// # Errors
/// As [`pack`], and the engine's refusal.
pub async fn inject(engine: &Engine, project: &Project, service: &Service, id: &str) -> Result<(), Error> {
    for Packed { archive, .. } in pack(project, service)? {
        // The archive says whose they are; else they would be the container's user's.
        engine.put_archive(id, "/", false, Upload::bytes(archive)).await.map_err(|e| model_error(&e))?;
    }
    Ok(())
}

/// Gives a new container the rest of what it needs: its other networks, and its files. One that does not get it is
/// removed, since it would be taken for whole.
///
/// # Errors
/// As [`inject`].
pub async fn complete(
    engine: &Engine,
    project: &Project,
    service: &Service,
    id: &str,
    later: Vec<(String, EndpointSettings)>,
) -> Result<(), Error> {
    let work = async {
        for (network, settings) in later {
            let request = NetworkConnectRequest { container: id.to_owned(), endpoint_config: Some(settings) };
            engine.connect(&network, &request).await.map_err(|e| model_error(&e))?;
        }
        inject(engine, project, service, id).await
    };
    let result = work.await;
    if result.is_err() {
        // what went wrong first is what the user shall see
        let _ = engine.remove(id, true).await;
    }
    result
}

pub(super) fn content(project: &Project, object: &FileObject, kind: &str) -> Result<Vec<u8>, Error> {
    if !object.content.is_empty() {
        return Ok(object.content.clone().into_bytes());
    }
    if !object.file.is_empty() {
        return std::fs::read(&object.file)
            .map_err(|e| Error::from(e).context(format!("read {kind} file {}", object.file)));
    }
    match project.environment.get(&object.environment) {
        Some(value) => Ok(value.clone().into_bytes()),
        None if object.environment.is_empty() => Ok(Vec::new()),
        None => Err(Error::invalid(format!(
            "environment variable {:?} required by {kind} {:?} is not set",
            object.environment, object.name
        ))),
    }
}

fn archive(content: &[u8], reference: &FileMount, target: &str, kind: &str) -> Result<Vec<u8>, Error> {
    let number = |text: &str, what: &str| match text {
        "" => Ok(0),
        text => text
            .parse::<u64>()
            .map_err(|_| Error::invalid(format!("{kind} {:?}: {what} {text:?} is not a number", reference.source))),
    };
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(reference.mode.unwrap_or(0o444));
    header.set_uid(number(&reference.uid, "uid")?);
    header.set_gid(number(&reference.gid, "gid")?);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append_data(&mut header, target.trim_start_matches('/'), content)
        .map_err(|e| Error::from(e).context(format!("{kind} {:?}", reference.source)))?;
    Ok(builder.into_inner()?)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn files_of_variables_and_text_are_copied_in() {
        let mut project = Project::default();
        project.environment.insert("E".into(), "value".into());
        let of = |environment: &str, text: &str| FileObject {
            environment: environment.into(),
            content: text.into(),
            ..FileObject::default()
        };
        let reference =
            FileMount { source: "s".into(), uid: "7".into(), gid: "8".into(), mode: Some(0o640), ..Default::default() };
        for (object, wanted) in [(of("E", ""), "value"), (of("", "text"), "text")] {
            assert!(!is_mounted(&object, &reference));
            let bytes = content(&project, &object, "secret").expect("content");
            let packed = archive(&bytes, &reference, &target_of(&reference, "/run/secrets/"), "secret").expect("tar");
            let mut archive = tar::Archive::new(&packed[..]);
            let mut entry = archive.entries().expect("entries").next().expect("one").expect("whole");
            let header = entry.header().clone();
            let owner = (header.uid().expect("uid"), header.gid().expect("gid"), header.mode().expect("mode"));
            assert_eq!(owner, (7, 8, 0o640));
            assert_eq!(entry.path().expect("path").to_string_lossy(), "run/secrets/s");
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("reads");
            assert_eq!(text, wanted);
        }
        let missing =
            content(&project, &FileObject { name: "s".into(), ..of("NONE", "") }, "secret").expect_err("unset");
        assert!(missing.message().contains("\"NONE\" required by secret \"s\" is not set"), "{missing}");
        let named = FileMount { uid: "root".into(), ..FileMount::default() };
        assert!(archive(b"", &named, "/x", "secret").is_err(), "an owner is a number");
    }
}
