//! `--mount type=…,source=…,target=…`.

use barque_api::container::{
    BindOptions, IdMapping, IdRange, ImageOptions, Mount, MountDriver, TmpfsOptions, VolumeOptions,
};
use barque_model::IdMap;
use barque_model::csv::csv;

/// Checks a value; relative sources need not exist.
pub(crate) fn check(text: &str) -> Result<Mount, String> {
    parse(text, &|path| path.to_owned())
}

/// Reads one `--mount` value; `absolute` completes a source that begins with a dot.
pub(crate) fn parse(text: &str, absolute: &dyn Fn(&str) -> String) -> Result<Mount, String> {
    let mut mount = Mount { kind: "volume".into(), ..Mount::default() };
    for field in csv(text) {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match value {
            None => switch(&mut mount, &key, &field)?,
            Some(value) => set(&mut mount, &key, value, &field, absolute)?,
        }
    }
    validate(&mount)?;
    Ok(mount)
}

/// A key without a value.
fn switch(mount: &mut Mount, key: &str, field: &str) -> Result<(), String> {
    match key {
        "readonly" | "ro" => mount.read_only = true,
        "volume-nocopy" => volume(mount).no_copy = true,
        "bind-nonrecursive" => bind(mount).non_recursive = true,
        "bind-create-src" => bind(mount).create_mountpoint = true,
        "idmap" | "bind-idmap" => bind(mount).id_mapping = Some(id_mapping("")?),
        _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
    }
    Ok(())
}

fn set(
    mount: &mut Mount,
    key: &str,
    value: &str,
    field: &str,
    absolute: &dyn Fn(&str) -> String,
) -> Result<(), String> {
    let bad = || format!("invalid value for {key}: {value}");
    let flag = || barque_model::strconv::parse_bool(value).map_err(|_| bad());
    match key {
        "type" => mount.kind = value.to_lowercase(),
        "source" | "src" => {
            mount.source = if value.starts_with('.') { absolute(value) } else { value.to_owned() };
        }
        "target" | "dst" | "destination" => mount.target = value.to_owned(),
        "readonly" | "ro" => mount.read_only = flag()?,
        "consistency" => mount.consistency = value.to_lowercase(),
        "bind-propagation" => bind(mount).propagation = value.to_lowercase(),
        "bind-nonrecursive" => bind(mount).non_recursive = flag()?,
        "bind-create-src" => bind(mount).create_mountpoint = flag()?,
        "bind-recursive" => match value {
            "enabled" => {}
            "disabled" => bind(mount).non_recursive = true,
            "writable" => bind(mount).read_only_non_recursive = true,
            "readonly" => bind(mount).read_only_force_recursive = true,
            _ => return Err(bad() + r#" (must be "enabled", "disabled", "writable", or "readonly")"#),
        },
        "idmap" | "bind-idmap" => bind(mount).id_mapping = Some(id_mapping(value)?),
        "volume-subpath" => volume(mount).subpath = value.to_owned(),
        "volume-nocopy" => volume(mount).no_copy = flag()?,
        "volume-label" => insert(volume(mount).labels.get_or_insert_default(), value),
        "volume-driver" => driver(mount).name = value.to_owned(),
        "volume-opt" => insert(driver(mount).options.get_or_insert_default(), value),
        "image-subpath" => {
            mount.image_options.get_or_insert_with(ImageOptions::default).subpath = value.to_owned();
        }
        "tmpfs-size" => {
            let bytes = barque_model::size::parse_binary(value).map_err(|_| bad())?;
            tmpfs(mount).size_bytes = i64::try_from(bytes).map_err(|_| bad())?;
        }
        "tmpfs-mode" => tmpfs(mount).mode = u32::from_str_radix(value, 8).map_err(|_| bad())?,
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

/// Podman's `idmap=uids=…` and Docker's `bind-idmap=match-user`.
fn id_mapping(text: &str) -> Result<IdMapping, String> {
    let list = |ranges: Vec<barque_model::IdRange>| -> Vec<IdRange> {
        ranges.iter().map(|r| IdRange { stored: r.stored, shown: r.shown, count: r.count }).collect()
    };
    let with_hint = |e: barque_model::Error| e.hint().map_or(e.to_string(), |hint| format!("{e} ({hint})"));
    Ok(match text.parse().map_err(with_hint)? {
        IdMap::MatchUser(user) => IdMapping { source: "match-user".into(), user, ..IdMapping::default() },
        IdMap::Ranges { users, groups } => IdMapping {
            source: "ranges".into(),
            uids: Some(list(users)),
            gids: Some(list(groups)),
            ..IdMapping::default()
        },
    })
}

fn validate(mount: &Mount) -> Result<(), String> {
    if mount.kind.is_empty() {
        return Err("type is required".into());
    }
    if mount.target.is_empty() {
        return Err("target is required".into());
    }
    let options = [
        ("volume", mount.volume_options.is_some()),
        ("image", mount.image_options.is_some()),
        ("bind", mount.bind_options.is_some()),
        ("tmpfs", mount.tmpfs_options.is_some()),
    ];
    for (kind, given) in options {
        if given && mount.kind != kind {
            return Err(format!("cannot mix '{kind}-*' options with mount type '{}'", mount.kind));
        }
    }
    let Some(bind) = &mount.bind_options else { return Ok(()) };
    let requires = |option: &str, what: &str| {
        Err(format!("option 'bind-recursive={option}' requires '{what}' to be specified in conjunction"))
    };
    if bind.read_only_non_recursive && !mount.read_only {
        return requires("writable", "readonly");
    }
    if bind.read_only_force_recursive && !mount.read_only {
        return requires("readonly", "readonly");
    }
    if bind.read_only_force_recursive && bind.propagation != "rprivate" {
        return requires("readonly", "bind-propagation=rprivate");
    }
    Ok(())
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_with(BindOptions::default)
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    mount.volume_options.get_or_insert_with(VolumeOptions::default)
}

fn driver(mount: &mut Mount) -> &mut MountDriver {
    volume(mount).driver_config.get_or_insert_with(MountDriver::default)
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount.tmpfs_options.get_or_insert_with(TmpfsOptions::default)
}

fn insert(map: &mut std::collections::BTreeMap<String, String>, text: &str) {
    let (key, value) = super::key_value(text);
    if !key.is_empty() {
        map.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        let mount = parse(text, &|p| format!("/here/{}", p.trim_start_matches("./"))).expect(text);
        serde_json::to_string(&mount).expect("serialises")
    }

    #[test]
    fn kinds_of_mounts() {
        assert_eq!(
            json("type=bind,src=./a,dst=/b,ro"),
            r#"{"Type":"bind","Source":"/here/a","Target":"/b","ReadOnly":true}"#
        );
        assert_eq!(
            json("source=v,target=/d,volume-nocopy,volume-opt=o=x"),
            r#"{"Type":"volume","Source":"v","Target":"/d","VolumeOptions":{"NoCopy":true,"DriverConfig":{"Options":{"o":"x"}}}}"#
        );
        assert_eq!(
            json("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770"),
            r#"{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1048576,"Mode":1016}}"#
        );
    }

    #[test]
    fn owners() {
        let json = |text: &str| serde_json::to_string(&check(text).unwrap().bind_options.unwrap().id_mapping).unwrap();
        let of = |option: &str| json(&format!("type=bind,src=/a,target=/b,{option}"));
        for text in ["idmap", "bind-idmap", "bind-idmap=match-user"] {
            assert_eq!(of(text), r#"{"Source":"match-user"}"#);
        }
        assert_eq!(of("bind-idmap=match-user:1000:50"), r#"{"Source":"match-user","User":"1000:50"}"#);
        assert_eq!(
            of("idmap=uids=1000-0-1#2000-1-5"),
            r#"{"Source":"ranges","UIDs":[{"Stored":1000,"Shown":0,"Count":1},{"Stored":2000,"Shown":1,"Count":5}]}"#
        );
        let fault = |text| check(text).unwrap_err();
        assert!(fault("type=bind,src=/a,target=/b,idmap=0").starts_with("invalid id mapping '0' (match-user, "));
        assert!(fault("src=v,target=/b,idmap").contains("cannot mix 'bind-*' options"));
    }

    #[test]
    fn faults() {
        let fault = |text| check(text).unwrap_err();
        assert_eq!(fault("type=bind"), "target is required");
        assert_eq!(fault("type=bind,target=/x,foo"), "invalid field 'foo' must be a key=value pair");
        assert_eq!(fault("type=bind,target=/x,foo=1"), "unexpected key 'foo' in 'foo=1'");
        assert_eq!(fault("type=bind,target=/x,volume-nocopy"), "cannot mix 'volume-*' options with mount type 'bind'");
        assert_eq!(fault("target=/x,ro=maybe"), "invalid value for ro: maybe");
        assert!(fault("type=bind,target=/x,bind-recursive=readonly").contains("requires 'readonly'"));
    }
}
