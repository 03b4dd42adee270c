//! Merging an image's configuration into a container's definition (the rules of `docker create`). Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use barque_model::path::rooted;
use barque_model::{Error, Result};

use super::spec::{ContainerSpec, HealthSpec, HealthTest, MountSource, MountSpec, PortProto};
use crate::image::types::{ImageHealth, RunConfig};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Fills in what the user left open. Anonymous volumes for the image's `VOLUME`s are added where
/// nothing else is mounted; their names are chosen later.
pub fn merge_image(spec: &mut ContainerSpec, image: &RunConfig) -> Result<()> {
    merge_command(spec, image);
    merge_env(&mut spec.process.env, image.env.as_deref().unwrap_or_default());
    if spec.process.user.is_empty() {
        spec.process.user = image.user.clone().unwrap_or_default();
    }
    if spec.process.working_dir.is_empty() {
        spec.process.working_dir = image.working_dir.clone().unwrap_or_default();
    }
    for (key, value) in image.labels.iter().flatten() {
        spec.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    for port in image.exposed_ports.iter().flat_map(BTreeMap::keys) {
        for p in parse_ports(port)? {
            if !spec.exposed_ports.contains(&p) {
                spec.exposed_ports.push(p);
            }
        }
    }
    if spec.stop_signal.is_none() {
        spec.stop_signal = match image.stop_signal.as_deref() {
            None | Some("") => None,
            Some(name) => Some(name.parse()?),
        };
    }
    if spec.process.shell.is_none() {
        spec.process.shell.clone_from(&image.shell);
    }
    merge_health(&mut spec.healthcheck, image.healthcheck.as_ref());
    spec.image_volumes = image.volumes.iter().flat_map(BTreeMap::keys).cloned().collect();
    for target in image.volumes.iter().flat_map(BTreeMap::keys) {
        add_anonymous_volume(spec, target);
    }
    if spec.process.argv().is_empty() {
        return Err(Error::invalid("no command specified")
            .with_hint("give a command after the image's name, or build the image with CMD or ENTRYPOINT"));
    }
    Ok(())
}

/// An entry point given by the user drops the image's command along with its entry point.
fn merge_command(spec: &mut ContainerSpec, image: &RunConfig) {
    let process = &mut spec.process;
    let given = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    if process.entrypoint.is_none() {
        if !given(&process.cmd) {
            process.cmd.clone_from(&image.cmd);
        }
        process.entrypoint.clone_from(&image.entrypoint);
    }
}

/// The image's variables first, those given later win; `PATH` is always there.
fn merge_env(env: &mut Vec<String>, image: &[String]) {
    let key = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut merged: Vec<String> = Vec::with_capacity(env.len() + image.len() + 1);
    for entry in image {
        if !env.iter().any(|e| key(e) == key(entry)) {
            merged.push(entry.clone());
        }
    }
    let mut own: Vec<String> = Vec::with_capacity(env.len());
    for entry in env.drain(..) {
        own.retain(|e: &String| key(e) != key(&entry));
        own.push(entry);
    }
    own.append(&mut merged);
    // `NAME` without a value takes the variable away.
    own.retain(|e| e.contains('='));
    if !own.iter().any(|e| e.starts_with("PATH=")) {
        own.push(DEFAULT_PATH.to_owned());
    }
    *env = own;
}

fn merge_health(own: &mut Option<HealthSpec>, image: Option<&ImageHealth>) {
    let Some(image) = image else { return };
    let Some(inherited) = health_of(image) else { return };
    match own {
        None => *own = Some(inherited),
        Some(health) => {
            if health.test == HealthTest::Inherit {
                health.test = inherited.test;
            }
            health.interval = health.interval.or(inherited.interval);
            health.timeout = health.timeout.or(inherited.timeout);
            health.start_period = health.start_period.or(inherited.start_period);
            health.start_interval = health.start_interval.or(inherited.start_interval);
            health.retries = health.retries.or(inherited.retries);
        }
    }
}

/// The image's check as a container's.
pub fn health_of(image: &ImageHealth) -> Option<HealthSpec> {
    let test = match image.test.split_first() {
        None => return None,
        Some((word, rest)) => match word.as_str() {
            "NONE" => HealthTest::None,
            "CMD" => HealthTest::Exec(rest.to_vec()),
            "CMD-SHELL" => HealthTest::Shell(rest.join(" ")),
            _ => return None,
        },
    };
    let time = |nanos: i64| u64::try_from(nanos).ok().filter(|n| *n > 0).map(Duration::from_nanos);
    Some(HealthSpec {
        test,
        interval: time(image.interval),
        timeout: time(image.timeout),
        start_period: time(image.start_period),
        start_interval: time(image.start_interval),
        retries: u32::try_from(image.retries).ok().filter(|n| *n > 0),
    })
}

fn add_anonymous_volume(spec: &mut ContainerSpec, target: &str) {
    let clean = rooted(target);
    if spec.mounts.iter().any(|m| rooted(&m.target) == clean) {
        return;
    }
    spec.mounts.push(MountSpec {
        target: clean,
        source: MountSource::Volume {
            name: None,
            anonymous: true,
            driver: "local".into(),
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            no_copy: false,
            subpath: None,
        },
        read_only: false,
        recursive_read_only: false,
        top_read_only: false,
        propagation: None,
        mode: String::new(),
    });
}

/// `80`, `80/udp`, `8000-8010/tcp`.
pub fn parse_ports(text: &str) -> Result<Vec<PortProto>> {
    let invalid =
        || Error::invalid(format!("invalid exposed port '{text}'")).with_hint("write PORT, PORT/udp or FIRST-LAST/tcp");
    let (range, proto) = text.split_once('/').unwrap_or((text, "tcp"));
    let proto = proto.to_ascii_lowercase();
    if !matches!(proto.as_str(), "tcp" | "udp" | "sctp") {
        return Err(invalid());
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let first: u16 = first.parse().map_err(|_| invalid())?;
    let last: u16 = last.parse().map_err(|_| invalid())?;
    if first == 0 || last < first {
        return Err(invalid());
    }
    Ok((first..=last).map(|port| PortProto { port, proto: proto.clone() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    fn image() -> RunConfig {
        RunConfig {
            env: Some(strings(&["PATH=/bin", "A=image", "B=image"])),
            entrypoint: Some(strings(&["/entry"])),
            cmd: Some(strings(&["default"])),
            exposed_ports: Some([("80/tcp".to_owned(), serde_json::json!({}))].into()),
            volumes: Some([("/data/".to_owned(), serde_json::json!({}))].into()),
            ..RunConfig::default()
        }
    }

    #[test]
    fn own_command_keeps_the_images_entry_point() {
        let mut spec = ContainerSpec::default();
        spec.process.cmd = Some(strings(&["mine"]));
        merge_image(&mut spec, &image()).unwrap();
        assert_eq!(spec.process.argv(), ["/entry", "mine"]);
    }

    #[test]
    fn own_entry_point_drops_the_images_command() {
        let mut spec = ContainerSpec::default();
        spec.process.entrypoint = Some(strings(&["/mine"]));
        merge_image(&mut spec, &image()).unwrap();
        assert_eq!(spec.process.argv(), ["/mine"]);
        let mut spec = ContainerSpec::default();
        spec.process.entrypoint = Some(strings(&[""]));
        let error = merge_image(&mut spec, &image()).unwrap_err();
        assert_eq!(error.to_string(), "no command specified");
    }

    #[test]
    fn later_variables_win_and_path_is_always_there() {
        let mut env = strings(&["A=mine", "B", "A=last"]);
        merge_env(&mut env, &strings(&["A=image", "B=image"]));
        assert_eq!(env, [&strings(&["A=last"])[..], &[DEFAULT_PATH.to_owned()]].concat());
    }

    #[test]
    fn image_volumes_become_anonymous_unless_mounted() {
        let mut spec = ContainerSpec::default();
        merge_image(&mut spec, &image()).unwrap();
        assert_eq!(spec.mounts.len(), 1);
        assert_eq!(spec.mounts[0].target, "/data");
        let mut again = ContainerSpec { mounts: spec.mounts.clone(), ..ContainerSpec::default() };
        merge_image(&mut again, &image()).unwrap();
        assert_eq!(again.mounts.len(), 1);
    }

    #[test]
    fn ports_are_read() {
        assert_eq!(parse_ports("8000-8002/udp").unwrap().len(), 3);
        assert!(parse_ports("0").is_err() && parse_ports("5-4").is_err() && parse_ports("80/foo").is_err());
    }
}
