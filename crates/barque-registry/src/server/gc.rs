//! Garbage collection while the registry serves.
//!
//! What is reachable is found without a lock. Only the removals take the gate, and each looks at the time stamp again:
//! a blob or link that somebody came to rely on meanwhile was made recent under the same gate, and recent ones stay.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use barque_model::Digest;

use super::storage::{Name, Storage, UploadId, names_in, remove};
use super::{GcReport, uploads::Sessions};
use crate::Document;

/// How a collection goes about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) grace: Duration,
    pub(super) untagged: bool,
    pub(super) dry_run: bool,
}

/// Collects a directory's garbage. Blocks.
pub(super) fn collect(storage: &Storage, sessions: Option<&Sessions>, plan: Plan) -> io::Result<GcReport> {
    let now = SystemTime::now();
    let mut report = GcReport::default();
    let mut kept: HashSet<Digest> = HashSet::new();
    for name in all_repositories(storage)? {
        collect_repository(storage, &name, plan, now, &mut kept, &mut report)?;
    }
    collect_blobs(storage, plan, now, &kept, &mut report)?;
    for id in names_in(&storage.uploads_dir())? {
        let Some(id) = UploadId::parse(&id) else { continue };
        let busy = sessions.is_some_and(|sessions| sessions.is_busy(&id));
        if !busy && is_old(&storage.uploads_dir().join(id.as_str()).join("data"), plan.grace, now)? {
            report.uploads += 1;
            if !plan.dry_run {
                storage.cancel(&id)?;
            }
        }
    }
    Ok(report)
}

/// Repositories with blobs only count too: a push may have been given up half way.
fn all_repositories(storage: &Storage) -> io::Result<Vec<Name>> {
    let mut found = Vec::new();
    let mut todo = vec![(storage.repositories_dir(), String::new())];
    while let Some((dir, prefix)) = todo.pop() {
        let mut is_repository = false;
        for entry in names_in(&dir)? {
            if entry.starts_with('_') {
                is_repository = true;
                continue;
            }
            let name = if prefix.is_empty() { entry.clone() } else { format!("{prefix}/{entry}") };
            todo.push((dir.join(&entry), name));
        }
        if is_repository {
            found.extend(Name::parse(&prefix));
        }
    }
    Ok(found)
}

fn collect_repository(
    storage: &Storage,
    name: &Name,
    plan: Plan,
    now: SystemTime,
    kept: &mut HashSet<Digest>,
    report: &mut GcReport,
) -> io::Result<()> {
    let manifests = storage.links(name, "_manifests")?;
    let mut wanted: HashSet<Digest> = manifests.iter().copied().collect();
    if plan.untagged {
        for digest in untagged_manifests(storage, name, &manifests)? {
            if remove_manifest(storage, name, digest, plan, now)? {
                report.manifests += 1;
                wanted.remove(&digest);
            }
        }
    }
    let mut blobs: HashSet<Digest> = HashSet::new();
    for digest in &wanted {
        blobs.extend(parts(storage, name, *digest)?);
    }
    kept.extend(&wanted);
    for digest in storage.links(name, "_blobs")? {
        let link = storage.blob_link(name, digest);
        if blobs.contains(&digest) || !is_old(&link, plan.grace, now)? {
            kept.insert(digest);
            continue;
        }
        if !plan.dry_run {
            let _gate = storage.gate.write();
            if is_old(&link, plan.grace, now)? {
                remove(&link)?;
            } else {
                kept.insert(digest);
            }
        }
    }
    Ok(())
}

/// Manifests that nothing leads to.
fn untagged_manifests(storage: &Storage, name: &Name, manifests: &[Digest]) -> io::Result<Vec<Digest>> {
    let reachable = reachable_manifests(storage, name, manifests)?;
    Ok(manifests.iter().copied().filter(|digest| !reachable.contains(digest)).collect())
}

/// Removes a manifest that nothing leads to, unless somebody pushed it or came to rely on it meanwhile. Whether it
/// went, or would have.
fn remove_manifest(storage: &Storage, name: &Name, digest: Digest, plan: Plan, now: SystemTime) -> io::Result<bool> {
    let link = storage.manifest_link(name, digest);
    if plan.dry_run || !is_old(&link, plan.grace, now)? {
        return is_old(&link, plan.grace, now);
    }
    let _gate = storage.gate.write();
    // Looked at again behind the gate.
    Ok(is_old(&link, plan.grace, now)? && storage.delete_manifest(name, digest)?)
}

/// Manifests that a tag names, and what those list, and what refers to any of these.
fn reachable_manifests(storage: &Storage, name: &Name, manifests: &[Digest]) -> io::Result<HashSet<Digest>> {
    let mut todo = Vec::new();
    for tag in storage.tags(name)? {
        todo.extend(storage.tag(name, &tag)?);
    }
    let mut subjects = Vec::new();
    for digest in manifests {
        if let Some(manifest) = storage.manifest(name, *digest)? {
            subjects.extend(super::manifests::subject_of(&manifest).map(|subject| (subject, *digest)));
        }
    }
    let mut reachable = HashSet::new();
    while let Some(digest) = todo.pop() {
        if reachable.insert(digest) {
            todo.extend(parts(storage, name, digest)?);
            todo.extend(subjects.iter().filter(|(subject, _)| *subject == digest).map(|(_, referrer)| *referrer));
        }
    }
    Ok(reachable)
}

/// What a manifest lists: configuration and layers, or other manifests.
fn parts(storage: &Storage, name: &Name, digest: Digest) -> io::Result<Vec<Digest>> {
    let document = storage.manifest(name, digest)?.and_then(|manifest| manifest.parse().ok());
    Ok(match document {
        None => Vec::new(),
        Some(Document::Image(image)) => {
            std::iter::once(&image.config).chain(&image.layers).map(|part| part.digest).collect()
        }
        Some(Document::Index(index)) => index.manifests.iter().map(|entry| entry.digest).collect(),
    })
}

fn collect_blobs(
    storage: &Storage,
    plan: Plan,
    now: SystemTime,
    kept: &HashSet<Digest>,
    report: &mut GcReport,
) -> io::Result<()> {
    for prefix in names_in(&storage.blobs_dir())? {
        for hex in names_in(&storage.blobs_dir().join(&prefix))? {
            let Ok(digest) = format!("sha256:{hex}").parse::<Digest>() else { continue };
            let path = storage.blob_path(digest);
            if kept.contains(&digest) || !is_old(&path, plan.grace, now)? {
                continue;
            }
            let _gate = (!plan.dry_run).then(|| storage.gate.write());
            // Looked at again behind the gate.
            if !is_old(&path, plan.grace, now)? {
                continue;
            }
            report.blobs += 1;
            report.bytes += std::fs::metadata(&path).map(|metadata| metadata.len()).unwrap_or(0);
            if !plan.dry_run {
                remove(&path)?;
            }
        }
    }
    Ok(())
}

/// Whether a file was last wanted longer than `grace` ago. What does not exist is not old.
fn is_old(path: &Path, grace: Duration, now: SystemTime) -> io::Result<bool> {
    let modified = match std::fs::metadata(path).and_then(|metadata| metadata.modified()) {
        Ok(modified) => modified,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // A clock that was set back makes files look as if they came from the future: they are recent.
    Ok(now.duration_since(modified).is_ok_and(|age| age >= grace))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::storage::Tag;
    use crate::{RawManifest, media};

    struct Fixture {
        _dir: tempfile::TempDir,
        storage: Storage,
        name: Name,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let storage = Storage::open(dir.path(), false).unwrap();
            Self { _dir: dir, storage, name: Name::parse("a/b").unwrap() }
        }

        fn blob(&self, text: &str) -> Digest {
            let mut session = self.storage.begin(&self.name).unwrap();
            session.append(&vec![bytes::Bytes::copy_from_slice(text.as_bytes())]).unwrap();
            let digest = Digest::of(text.as_bytes());
            self.storage.finish(session, digest).unwrap();
            digest
        }

        fn image(&self, layers: &[Digest], tag: Option<&str>) -> Digest {
            let config = self.blob("{}");
            let layers: Vec<_> = layers
                .iter()
                .map(|digest| serde_json::json!({"mediaType": media::OCI_LAYER, "digest": digest, "size": 1}))
                .collect();
            let text = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
                "config": {"mediaType": media::OCI_CONFIG, "digest": config, "size": 2}, "layers": layers});
            let manifest = RawManifest::new(media::OCI_MANIFEST, text.to_string());
            let tag = tag.map(|tag| Tag::parse(tag).unwrap());
            self.storage.put_manifest(&self.name, &manifest, None, tag.as_ref()).unwrap();
            manifest.digest
        }

        fn collect(&self, grace: u64, untagged: bool, dry_run: bool) -> GcReport {
            let plan = Plan { grace: Duration::from_secs(grace), untagged, dry_run };
            collect(&self.storage, None, plan).unwrap()
        }
    }

    #[test]
    fn unreferenced_blobs_go_and_referenced_ones_stay() {
        let fixture = Fixture::new();
        let (wanted, stray) = (fixture.blob("w"), fixture.blob("s"));
        let image = fixture.image(&[wanted], Some("t"));
        assert_eq!(fixture.collect(3600, false, false), GcReport::default(), "all of it is recent");
        let expected = GcReport { blobs: 1, bytes: 1, ..GcReport::default() };
        assert_eq!(fixture.collect(0, false, true), expected, "a dry run tells the same");
        assert!(fixture.storage.blob_size(&fixture.name, stray).unwrap().is_some(), "and removes nothing");
        assert_eq!(fixture.collect(0, false, false), expected);
        assert!(fixture.storage.blob_size(&fixture.name, stray).unwrap().is_none());
        assert!(fixture.storage.blob_size(&fixture.name, wanted).unwrap().is_some());
        assert!(fixture.storage.manifest(&fixture.name, image).unwrap().is_some());
    }

    #[test]
    fn untagged_manifests_go_only_when_asked_for() {
        let fixture = Fixture::new();
        let (old, new) = (fixture.blob("o"), fixture.blob("n"));
        let untagged = fixture.image(&[old], None);
        fixture.image(&[new], Some("t"));
        assert_eq!(fixture.collect(0, false, false).manifests, 0);
        let report = fixture.collect(0, true, false);
        assert_eq!((report.manifests, report.blobs), (1, 2), "the manifest's own bytes and its layer");
        assert!(fixture.storage.manifest(&fixture.name, untagged).unwrap().is_none());
        assert!(fixture.storage.blob_size(&fixture.name, old).unwrap().is_none());
        assert!(fixture.storage.blob_size(&fixture.name, new).unwrap().is_some());
    }

    #[test]
    fn what_is_made_recent_stays() {
        let fixture = Fixture::new();
        let stray = fixture.blob("s");
        let old = SystemTime::now() - Duration::from_secs(7200);
        for path in [fixture.storage.blob_path(stray), fixture.storage.blob_link(&fixture.name, stray)] {
            std::fs::File::options().append(true).open(path).unwrap().set_modified(old).unwrap();
        }
        // Somebody looks before pushing a manifest: the answer is a promise.
        assert!(fixture.storage.blob_size(&fixture.name, stray).unwrap().is_some());
        assert_eq!(fixture.collect(3600, false, false), GcReport::default());
        assert!(fixture.storage.blob_size(&fixture.name, stray).unwrap().is_some());
    }

    fn make_old(path: &Path) {
        let old = SystemTime::now() - Duration::from_secs(7200);
        std::fs::File::options().append(true).open(path).unwrap().set_modified(old).unwrap();
    }

    #[test]
    fn a_manifest_pushed_while_the_collector_looks_stays() {
        let fixture = Fixture::new();
        let Fixture { storage, name, .. } = &fixture;
        let plan = Plan { grace: Duration::from_secs(3600), untagged: true, dry_run: false };
        let now = SystemTime::now();
        let found = || untagged_manifests(storage, name, &storage.links(name, "_manifests").unwrap()).unwrap();
        // Pushed again, with a tag and without one.
        for tag in [None, Some("t")] {
            let layer = fixture.blob("l");
            let image = fixture.image(&[layer], None);
            make_old(&storage.manifest_link(name, image));
            assert_eq!(found(), [image]);
            fixture.image(&[layer], tag);
            assert!(!remove_manifest(storage, name, image, plan, now).unwrap());
            assert!(storage.manifest(name, image).unwrap().is_some());
            storage.delete_manifest(name, image).unwrap();
        }
        // Found by a client that is about to push an index of it.
        let image = fixture.image(&[], None);
        make_old(&storage.manifest_link(name, image));
        assert_eq!(found(), [image]);
        let target = super::super::route::Target::Digest(image);
        assert!(super::super::manifests::promised(storage, name, &target).unwrap().is_some());
        assert!(!remove_manifest(storage, name, image, plan, now).unwrap());
        // Listed by an index whose parts have been checked, and which is about to be stored.
        make_old(&storage.manifest_link(name, image));
        assert_eq!(found(), [image]);
        let text = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests":
            [{"mediaType": media::OCI_MANIFEST, "digest": image, "size": 1}]});
        let index = RawManifest::new(media::OCI_INDEX, text.to_string());
        let parsed = index.parse().unwrap();
        assert!(super::super::manifests::missing_part(storage, name, &parsed).unwrap().is_none());
        assert!(!remove_manifest(storage, name, image, plan, now).unwrap());
        storage.put_manifest(name, &index, None, Some(&Tag::parse("i").unwrap())).unwrap();
        assert_eq!(collect(storage, None, plan).unwrap().manifests, 0);
        assert!(storage.manifest(name, image).unwrap().is_some());
    }

    #[test]
    fn abandoned_uploads_go() {
        let fixture = Fixture::new();
        drop(fixture.storage.begin(&fixture.name).unwrap());
        assert_eq!(fixture.collect(3600, false, false).uploads, 0);
        assert_eq!(fixture.collect(0, false, false).uploads, 1);
        assert_eq!(fixture.collect(0, false, false).uploads, 0);
    }
}
