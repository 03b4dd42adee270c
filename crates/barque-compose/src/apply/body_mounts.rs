//! Volumes, binds, tmpfs, secrets and configs of a container request.

use std::collections::BTreeMap;

use barque_api::container::{BindOptions, ImageOptions, Mount, TmpfsOptions, VolumeOptions};
use barque_model::Error;

use super::body::Making;
use crate::file::model::{self, FileMount, FileObject};

/// Binds in the short form, and mounts that need the long one.
pub(super) fn mounts(making: &Making<'_>) -> Result<(Vec<String>, Vec<Mount>), Error> {
    let mut binds = Vec::new();
    let mut mounts: BTreeMap<String, Mount> = inherited(making);
    for mount in &making.service.spec.volumes {
        let takes_over = mount.kind == "volume" && mount.source.is_empty() && mounts.contains_key(&mount.target);
        if takes_over {
            continue;
        }
        mounts.remove(&mount.target);
        match short(making, mount) {
            Some(bind) => binds.push(bind),
            None => {
                mounts.insert(mount.target.clone(), long(making, mount)?);
            }
        }
    }
    for (objects, references, base) in [
        (&making.project.secrets, &making.service.spec.secrets, "/run/secrets/"),
        (&making.project.configs, &making.service.spec.configs, "/"),
    ] {
        for reference in references {
            let Some(object) = objects.get(&reference.source) else { continue };
            if let Some(mount) = file_mount(object, reference, base)? {
                mounts.entry(mount.target.clone()).or_insert(mount);
            }
        }
    }
    Ok((binds, mounts.into_values().collect()))
}

/// Anonymous volumes of the container that is replaced: those of the image, and those of the file without a source.
fn inherited(making: &Making<'_>) -> BTreeMap<String, Mount> {
    let mut out = BTreeMap::new();
    let Some(old) = making.inherit else { return out };
    for mount in old.mounts.iter().filter(|m| m.kind == "volume" && !m.name.is_empty()) {
        let of_image = making.image.is_some_and(|i| i.volumes.contains(&mount.destination));
        let of_file = making
            .service
            .spec
            .volumes
            .iter()
            .any(|v| v.target == mount.destination && v.source.is_empty() && v.kind == "volume");
        if of_image || of_file {
            out.insert(
                mount.destination.clone(),
                Mount {
                    kind: "volume".to_owned(),
                    source: mount.name.clone(),
                    target: mount.destination.clone(),
                    read_only: !mount.rw,
                    ..Mount::default()
                },
            );
        }
    }
    out
}

/// `source:target:options`, where that says everything.
fn short(making: &Making<'_>, mount: &model::Mount) -> Option<String> {
    let source = match mount.kind.as_str() {
        "bind" => {
            let bind = mount.bind.as_ref();
            if bind.is_none_or(|b| !b.create_host_path || !b.recursive.is_empty()) {
                return None;
            }
            mount.source.clone()
        }
        "volume" if !mount.source.is_empty() => {
            if mount.volume.as_ref().is_some_and(|v| !v.labels.is_empty() || !v.subpath.is_empty()) {
                return None;
            }
            making.project.volumes.get(&mount.source)?.spec.name.clone()
        }
        _ => return None,
    };
    let mut options = vec![if mount.read_only { "ro" } else { "rw" }];
    if let Some(bind) = &mount.bind {
        options.extend([bind.selinux.as_str(), bind.propagation.as_str()].into_iter().filter(|o| !o.is_empty()));
    }
    if mount.volume.as_ref().is_some_and(|v| v.nocopy) {
        options.push("nocopy");
    }
    Some(format!("{source}:{}:{}", mount.target, options.join(",")))
}

fn long(making: &Making<'_>, mount: &model::Mount) -> Result<Mount, Error> {
    if matches!(mount.kind.as_str(), "npipe" | "cluster") {
        return Err(Error::not_implemented(format!("mounts of the type {}", mount.kind)));
    }
    let source = match making.project.volumes.get(&mount.source) {
        Some(volume) if mount.kind == "volume" => volume.spec.name.clone(),
        _ => mount.source.clone(),
    };
    let bind = mount.bind.as_ref().filter(|_| mount.kind == "bind").map(|b| BindOptions {
        propagation: b.propagation.clone(),
        create_mountpoint: b.create_host_path,
        non_recursive: b.recursive == "disabled",
        read_only_non_recursive: b.recursive == "writable",
        read_only_force_recursive: b.recursive == "readonly",
        ..BindOptions::default()
    });
    let volume = mount.volume.as_ref().filter(|_| mount.kind == "volume").map(|v| VolumeOptions {
        no_copy: v.nocopy,
        labels: (!v.labels.is_empty()).then(|| v.labels.clone()),
        subpath: v.subpath.clone(),
        ..VolumeOptions::default()
    });
    let tmpfs = mount.tmpfs.as_ref().filter(|_| mount.kind == "tmpfs").map(|t| TmpfsOptions {
        size_bytes: t.size,
        mode: t.mode,
        ..TmpfsOptions::default()
    });
    let image = mount.image.as_ref().filter(|_| mount.kind == "image");
    Ok(Mount {
        kind: mount.kind.clone(),
        source,
        target: mount.target.clone(),
        read_only: mount.read_only,
        consistency: mount.consistency.clone(),
        bind_options: bind,
        volume_options: volume,
        tmpfs_options: tmpfs,
        image_options: image.map(|i| ImageOptions { subpath: i.subpath.clone() }),
        ..Mount::default()
    })
}

/// Where a secret or config goes.
pub(super) fn target_of(reference: &FileMount, base: &str) -> String {
    match reference.target.as_str() {
        "" => format!("{base}{}", reference.source),
        target if target.starts_with('/') => target.to_owned(),
        target => format!("{base}{target}"),
    }
}

/// True if a file of the host is simply mounted; with an owner or mode of its own its content is copied instead.
pub(super) fn is_mounted(object: &FileObject, reference: &FileMount) -> bool {
    let owned = !reference.uid.is_empty() || !reference.gid.is_empty() || reference.mode.is_some();
    !object.file.is_empty() && !owned
}

fn file_mount(object: &FileObject, reference: &FileMount, base: &str) -> Result<Option<Mount>, Error> {
    let kind = if base == "/" { "config" } else { "secret" };
    if object.external {
        return Err(Error::invalid(format!("unsupported external {kind} {}", object.name))
            .with_hint("one machine has no store of secrets and configs; use file, environment or content"));
    }
    if !object.driver.is_empty() || !object.template_driver.is_empty() {
        return Err(Error::not_implemented(format!("{kind}s with a driver ({})", object.name)));
    }
    if !is_mounted(object, reference) {
        return Ok(None);
    }
    Ok(Some(Mount {
        kind: "bind".to_owned(),
        source: object.file.clone(),
        target: target_of(reference, base),
        read_only: true,
        bind_options: Some(BindOptions::default()),
        ..Mount::default()
    }))
}
