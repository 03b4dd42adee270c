//! `Binds`, `Volumes`, `Tmpfs` and `Mounts`, and mounts in force.

use std::collections::BTreeMap;
use std::path::PathBuf;

use barque_api::container::{self as wire, ContainerConfig, HostConfig, IdMapping, Mount, MountPoint};
use barque_engine::container::spec::{MountSource, MountSpec};
use barque_engine::container::view::MountView;
use barque_model::path::rooted;
use barque_model::{Error, IdMap, IdRange, Result, idmap};

const PROPAGATIONS: &[&str] = &["private", "rprivate", "slave", "rslave", "shared", "rshared"];

/// Every mount a request asks for.
///
/// # Errors
/// Docker's sentences for malformed ones.
pub(crate) fn wanted(config: &ContainerConfig, host: &HostConfig) -> Result<Vec<MountSpec>> {
    let mut mounts = Vec::new();
    for bind in host.binds.iter().flatten() {
        mounts.push(parse_bind(bind, &host.volume_driver)?);
    }
    for mount in host.mounts.iter().flatten() {
        mounts.push(long_form(mount)?);
    }
    for (target, options) in host.tmpfs.iter().flatten() {
        mounts.push(MountSpec { target: target.clone(), source: tmpfs(options)?, ..bare() });
    }
    for target in config.volumes.iter().flat_map(BTreeMap::keys) {
        if !target.starts_with('/') {
            return Err(Error::invalid(format!("invalid volume specification: '{target}'")));
        }
        if !mounts.iter().any(|mount| rooted(&mount.target) == rooted(target)) {
            mounts.push(MountSpec { target: target.clone(), source: volume(None, &host.volume_driver), ..bare() });
        }
    }
    Ok(mounts)
}

fn bare() -> MountSpec {
    MountSpec {
        target: String::new(),
        source: MountSource::Tmpfs { size: None, mode: None, options: Vec::new() },
        read_only: false,
        recursive_read_only: false,
        top_read_only: false,
        propagation: None,
        mode: String::new(),
    }
}

fn volume(name: Option<&str>, driver: &str) -> MountSource {
    MountSource::Volume {
        name: name.map(str::to_owned),
        anonymous: name.is_none(),
        driver: if driver.is_empty() { "local".into() } else { driver.to_owned() },
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        no_copy: false,
        subpath: None,
    }
}

/// `[source:]target[:options]`.
fn parse_bind(text: &str, driver: &str) -> Result<MountSpec> {
    let invalid = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, words) = match parts[..] {
        [target] => (None, target, ""),
        // `/data:ro` is a target with a mode only if it cannot be a source with a target.
        [source, target] if target.starts_with('/') => (Some(source), target, ""),
        [target, words] if target.starts_with('/') && words.split(',').all(known_word) => (None, target, words),
        [source, target] => (Some(source), target, ""),
        [source, target, words] => (Some(source), target, words),
        _ => return Err(invalid()),
    };
    if target.is_empty() || source == Some("") {
        return Err(invalid());
    }
    if !target.starts_with('/') {
        let kind = if source.is_some_and(|s| s.starts_with('/')) { "bind" } else { "volume" };
        return Err(Error::invalid(format!(
            "invalid volume specification: '{text}': invalid mount config for type \"{kind}\": \
             invalid mount path: '{target}' mount path must be absolute"
        )));
    }
    if rooted(target) == "/" {
        let kind = if source.is_some_and(|source| source.starts_with('/')) { "bind" } else { "volume" };
        return Err(Error::invalid(format!(
            "invalid volume specification: '{text}': invalid mount config for type {kind:?}: invalid specification: \
             destination can't be '/'"
        )));
    }
    let mut mount = MountSpec { target: target.to_owned(), mode: words.to_owned(), ..bare() };
    mount.source = match source {
        Some(path) if path.starts_with('/') => {
            MountSource::Bind { path: PathBuf::from(path), create_missing: true, non_recursive: false, owners: None }
        }
        name => {
            if let Some(name) = name {
                check_volume_name(name)?;
            }
            // Docker marks named volumes so, whether SELinux is there or not.
            if words.is_empty() && name.is_some() {
                mount.mode = "z".into();
            }
            volume(name, driver)
        }
    };
    apply_words(&mut mount, words)?;
    Ok(mount)
}

fn known_word(word: &str) -> bool {
    matches!(word, "ro" | "rw" | "z" | "Z" | "nocopy" | "cached" | "delegated" | "consistent")
        || PROPAGATIONS.contains(&word)
        || id_map_word(word).is_some()
}

/// Podman's `idmap` and `idmap=…`.
fn id_map_word(word: &str) -> Option<&str> {
    word.strip_prefix("idmap=").or((word == "idmap").then_some(""))
}

fn apply_words(mount: &mut MountSpec, words: &str) -> Result<()> {
    let invalid = || Error::invalid(format!("invalid mode: {words}"));
    for word in words.split(',').filter(|word| !word.is_empty()) {
        match (word, &mut mount.source) {
            ("ro", _) => mount.read_only = true,
            ("rw" | "z" | "Z" | "cached" | "delegated" | "consistent", _) => {}
            ("nocopy", MountSource::Volume { no_copy, .. }) => *no_copy = true,
            (word, MountSource::Bind { .. }) if PROPAGATIONS.contains(&word) => {
                mount.propagation = Some(word.to_owned());
            }
            (word, MountSource::Bind { owners, .. }) if id_map_word(word).is_some() => {
                *owners = id_map_word(word).map(str::parse).transpose()?;
            }
            _ => return Err(invalid()),
        }
    }
    let both = ["ro", "rw"].iter().all(|word| words.split(',').any(|have| have == *word));
    if both { Err(invalid()) } else { Ok(()) }
}

fn check_volume_name(name: &str) -> Result<()> {
    if name.len() == 1 {
        return Err(Error::invalid("volume name is too short, names should be at least two alphanumeric characters"));
    }
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let good =
        name.len() >= 2 && name.bytes().all(word) && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if good {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "create {name}: {name:?} includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

/// An entry of `Mounts`.
fn long_form(mount: &Mount) -> Result<MountSpec> {
    let invalid = |why: &str| Error::invalid(format!("invalid mount config for type {:?}: {why}", mount.kind));
    if mount.target.is_empty() {
        return Err(invalid("field Target must not be empty"));
    }
    let mut spec = MountSpec { target: mount.target.clone(), read_only: mount.read_only, ..bare() };
    spec.source = match mount.kind.as_str() {
        "bind" => {
            if mount.source.is_empty() {
                return Err(invalid("field Source must not be empty"));
            }
            let options = mount.bind_options.clone().unwrap_or_default();
            let owners = options.id_mapping.as_ref().map(owners).transpose()?;
            if !options.propagation.is_empty() {
                if !PROPAGATIONS.contains(&options.propagation.as_str()) {
                    return Err(invalid(&format!("invalid propagation mode: {}", options.propagation)));
                }
                spec.propagation = Some(options.propagation);
            }
            let (force, top) = (options.read_only_force_recursive, options.read_only_non_recursive);
            if let Some(what) = read_only_conflict(mount.read_only, force, top, options.non_recursive) {
                return Err(invalid(&format!("mount options conflict: {what}")));
            }
            (spec.recursive_read_only, spec.top_read_only) = (force, top);
            MountSource::Bind {
                path: PathBuf::from(&mount.source),
                create_missing: options.create_mountpoint,
                non_recursive: options.non_recursive,
                owners,
            }
        }
        "volume" => {
            // As with -v.
            spec.mode = if mount.source.is_empty() { "" } else { "z" }.into();
            volume_of(mount)?
        }
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(invalid("field Source must not be specified"));
            }
            let options = mount.tmpfs_options.clone().unwrap_or_default();
            let words = options.options.unwrap_or_default();
            MountSource::Tmpfs {
                size: u64::try_from(options.size_bytes).ok().filter(|size| *size > 0),
                mode: Some(options.mode).filter(|mode| *mode != 0),
                options: words.iter().map(|pair| pair.join("=")).collect(),
            }
        }
        "image" => {
            if mount.source.is_empty() {
                return Err(invalid("field Source must not be empty"));
            }
            let subpath = mount.image_options.clone().unwrap_or_default().subpath;
            if !is_local(&subpath) {
                return Err(invalid("subpath must be a relative path within the image"));
            }
            MountSource::Image {
                reference: mount.source.clone(),
                subpath: Some(subpath).filter(|path| !path.is_empty()),
                image: None,
            }
        }
        "cluster" | "npipe" => return Err(Error::not_implemented(format!("mounts of type {:?}", mount.kind))),
        _ => return Err(invalid("mount type unknown")),
    };
    Ok(spec)
}

/// What contradicts itself about how far a bind is read-only: `force`d below the top, the `top` alone, nothing below.
fn read_only_conflict(read_only: bool, force: bool, top: bool, non_recursive: bool) -> Option<&'static str> {
    match (read_only, force, top) {
        (false, true, _) => Some("!ReadOnly && BindOptions.ReadOnlyForceRecursive"),
        (false, _, true) => Some("!ReadOnly && BindOptions.ReadOnlyNonRecursive"),
        (_, true, true) => Some("ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive"),
        (_, true, _) if non_recursive => Some("NonRecursive && BindOptions.ReadOnlyForceRecursive"),
        _ => None,
    }
}

/// Whether a path (or none) stays below where it begins, whatever is there.
fn is_local(path: &str) -> bool {
    let mut depth = 0i32;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return false;
        }
    }
    !path.starts_with('/')
}

fn owners(wire: &IdMapping) -> Result<IdMap> {
    let list = |ranges: &Option<Vec<wire::IdRange>>| -> Vec<IdRange> {
        let one = |r: &wire::IdRange| IdRange { stored: r.stored, shown: r.shown, count: r.count };
        ranges.iter().flatten().map(one).collect()
    };
    match wire.source.as_str() {
        "match-user" => Ok(IdMap::MatchUser(wire.user.clone())),
        "ranges" => IdMap::ranges(list(&wire.uids), list(&wire.gids)),
        "userns" => Err(idmap::own_namespace()),
        other => Err(Error::invalid(format!("invalid id mapping source: '{other}'"))),
    }
}

fn volume_of(mount: &Mount) -> Result<MountSource> {
    if !mount.source.is_empty() {
        check_volume_name(&mount.source)?;
    }
    let options = mount.volume_options.clone().unwrap_or_default();
    if !is_local(&options.subpath) {
        return Err(Error::invalid(
            "invalid mount config for type \"volume\": subpath must be a relative path within the volume",
        ));
    }
    let driver = options.driver_config.unwrap_or_default();
    Ok(MountSource::Volume {
        name: Some(mount.source.clone()).filter(|name| !name.is_empty()),
        anonymous: mount.source.is_empty(),
        driver: if driver.name.is_empty() { "local".into() } else { driver.name },
        labels: options.labels.unwrap_or_default(),
        options: driver.options.unwrap_or_default(),
        no_copy: options.no_copy,
        subpath: Some(options.subpath).filter(|path| !path.is_empty()),
    })
}

/// The options of `--tmpfs`.
fn tmpfs(text: &str) -> Result<MountSource> {
    let (mut size, mut mode, mut rest) = (None, None, Vec::new());
    for word in text.split(',').filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            Some(("size", value)) if !value.ends_with('%') => {
                let bytes = barque_model::size::parse_binary(value)
                    .map_err(|_| Error::invalid(format!("Invalid tmpfs option {word:?}")))?;
                size = Some(bytes);
            }
            Some(("mode", value)) => {
                let bits = u32::from_str_radix(value, 8)
                    .map_err(|_| Error::invalid(format!("Invalid tmpfs option {word:?}")))?;
                mode = Some(bits);
            }
            _ => rest.push(word.to_owned()),
        }
    }
    Ok(MountSource::Tmpfs { size, mode, options: rest })
}

/// Mounts in force as `inspect` and lists show them; those of `--tmpfs` are not among them.
pub(crate) fn points(mounts: &[MountView], host: &HostConfig) -> Vec<MountPoint> {
    let of_tmpfs = |mount: &&MountView| {
        let mut targets = host.tmpfs.iter().flatten().map(|(target, _)| rooted(target));
        mount.kind == "tmpfs" && targets.any(|target| target == mount.target)
    };
    let point = |mount: &MountView| MountPoint {
        kind: mount.kind.clone(),
        name: mount.name.clone().unwrap_or_default(),
        source: mount.source.to_string_lossy().into_owned(),
        destination: mount.target.clone(),
        driver: mount.driver.clone().unwrap_or_default(),
        mode: mount.mode.clone(),
        rw: mount.read_write,
        propagation: mount.propagation.clone(),
    };
    mounts.iter().filter(|mount| !of_tmpfs(mount)).map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(text: &str) -> Result<MountSpec> {
        parse_bind(text, "")
    }

    #[test]
    fn binds() {
        let mount = bind("/a:/b:ro,rslave").unwrap();
        assert!(mount.read_only && mount.propagation.as_deref() == Some("rslave"));
        assert!(matches!(mount.source, MountSource::Bind { create_missing: true, .. }));
        let mount = bind("vol:/b").unwrap();
        assert_eq!(mount.mode, "z");
        assert!(
            matches!(mount.source, MountSource::Volume { name: Some(ref name), anonymous: false, .. } if name == "vol")
        );
        let mount = bind("/b").unwrap();
        assert!(matches!(mount.source, MountSource::Volume { name: None, anonymous: true, .. }));
        assert!(bind("/b:ro").unwrap().read_only);
        assert!(matches!(bind("vol:/b:nocopy").unwrap().source, MountSource::Volume { no_copy: true, .. }));
    }

    #[test]
    fn malformed_binds() {
        for (text, wanted) in [
            ("", "invalid volume specification: ''"),
            ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
            ("/a:/b:foo", "invalid mode: foo"),
            ("/a:/b:ro,rw", "invalid mode: ro,rw"),
            ("vol:/b:shared", "invalid mode: shared"),
            ("/a:b", "mount path must be absolute"),
            (":/b", "invalid volume specification"),
            ("/a:/b/..", "destination can't be '/'"),
            ("v:/b", "volume name is too short"),
            ("./x:/b", "includes invalid characters for a local volume name"),
        ] {
            let error = bind(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn long_forms() {
        let of = |json: &str| long_form(&barque_api::json::from_str(json).unwrap());
        let mount = of(r#"{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":5,"Mode":511}}"#).unwrap();
        assert_eq!(mount.source, MountSource::Tmpfs { size: Some(5), mode: Some(0o777), options: vec![] });
        for (json, wanted) in [
            (
                r#"{"Type":"bind","Source":"/a"}"#,
                "invalid mount config for type \"bind\": field Target must not be empty",
            ),
            (
                r#"{"Type":"bind","Target":"/a"}"#,
                "invalid mount config for type \"bind\": field Source must not be empty",
            ),
            (r#"{"Type":"x","Target":"/a"}"#, "invalid mount config for type \"x\": mount type unknown"),
            (r#"{"Type":"tmpfs","Source":"a","Target":"/a"}"#, "field Source must not be specified"),
        ] {
            let error = of(json).unwrap_err().to_string();
            assert!(error.contains(wanted), "{json}: {error}");
        }
    }

    #[test]
    fn owners_are_mapped_in_binds_only() {
        let of = |mount: MountSpec| match mount.source {
            MountSource::Bind { owners, .. } => owners,
            _ => None,
        };
        let ranges = Some("uids=1000-0-1;gids=5-6-7".parse().unwrap());
        assert_eq!(of(bind("/a:/b:ro,idmap=uids=1000-0-1;gids=5-6-7").unwrap()), ranges);
        assert_eq!(of(bind("/a:/b:idmap").unwrap()), Some(IdMap::MatchUser(String::new())));
        for (text, wanted) in [("vol:/b:idmap", "invalid mode"), ("/a:/b:idmap=x", "invalid id mapping 'x'")] {
            assert!(bind(text).unwrap_err().to_string().contains(wanted), "{text}");
        }
        let long = |mapping: &str| {
            let text =
                format!(r#"{{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{{"IDMapping":{mapping}}}}}"#);
            long_form(&barque_api::json::from_str(&text).unwrap()).map(of)
        };
        let given = r#"{"Source":"ranges","UIDs":[{"Stored":1000,"Shown":0,"Count":1}],
            "GIDs":[{"Stored":5,"Shown":6,"Count":7}]}"#;
        assert_eq!(long(given).unwrap(), ranges);
        let user = Some(IdMap::MatchUser("app".into()));
        assert_eq!(long(r#"{"Source":"match-user","User":"app"}"#).unwrap(), user);
        assert!(long(r#"{"Source":"ranges"}"#).unwrap_err().to_string().contains("needs a range"));
        assert!(long(r#"{"Source":"userns"}"#).unwrap_err().to_string().contains("not implemented yet"));
        assert!(long("{}").unwrap_err().to_string().contains("invalid id mapping source: ''"));
    }

    #[test]
    fn parts_of_volumes_and_images_stay_inside() {
        let of = |json: &str| long_form(&barque_api::json::from_str(json).unwrap());
        let volume = |path: &str| {
            of(&format!(r#"{{"Type":"volume","Source":"vol","Target":"/t","VolumeOptions":{{"Subpath":"{path}"}}}}"#))
        };
        assert_eq!(volume("a/../b").unwrap().mode, "z");
        for bad in ["../..", "/a", "a/../../b"] {
            assert!(volume(bad).unwrap_err().to_string().ends_with("a relative path within the volume"), "{bad}");
        }
        let image = r#"{"Type":"image","Source":"i","Target":"/t","ImageOptions":{"Subpath":"../x"}}"#;
        assert!(of(image).unwrap_err().to_string().ends_with("a relative path within the image"));
    }

    #[test]
    fn how_far_read_only_goes() {
        let of = |read_only: bool, options: &str| {
            long_form(
                &barque_api::json::from_str(&format!(
                    r#"{{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":{read_only},"BindOptions":{{{options}}}}}"#
                ))
                .unwrap(),
            )
        };
        let (top, force) = (r#""ReadOnlyNonRecursive":true"#, r#""ReadOnlyForceRecursive":true"#);
        assert!(of(true, top).unwrap().top_read_only && of(true, force).unwrap().recursive_read_only);
        for (read_only, options) in
            [(false, top), (false, force), (true, r#""ReadOnlyNonRecursive":true,"ReadOnlyForceRecursive":true"#)]
        {
            assert!(of(read_only, options).unwrap_err().to_string().contains("mount options conflict"), "{options}");
        }
    }

    #[test]
    fn tmpfs_options() {
        let source = tmpfs("rw,noexec,size=64m,mode=1770").unwrap();
        let wanted = MountSource::Tmpfs {
            size: Some(64 << 20),
            mode: Some(0o1770),
            options: vec!["rw".into(), "noexec".into()],
        };
        assert_eq!(source, wanted);
        assert!(tmpfs("mode=9").is_err());
    }

    #[test]
    fn image_volumes_do_not_hide_binds() {
        let config = ContainerConfig { volumes: Some(barque_api::json::set(["/a/", "/b"])), ..Default::default() };
        let host = HostConfig { binds: Some(vec!["/x:/a".into()]), ..Default::default() };
        assert_eq!(wanted(&config, &host).unwrap().len(), 2);
    }
}
