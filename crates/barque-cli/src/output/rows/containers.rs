//! `ps`.

use std::collections::BTreeMap;

use barque_api::container::{ContainerSummary, PortSummary};
use barque_model::Reference;
use barque_template::{Data, Struct};

use super::{label_method, labels};
use crate::output::human;
use crate::output::listing::Titles;

pub(crate) const TITLES: Titles = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

const TABLE: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n\
                   state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n\
                   labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n";

/// The template of a named format.
pub(crate) fn format(source: &str, quiet: bool, size: bool) -> String {
    match (source, quiet) {
        ("raw", true) => "container_id: {{.ID}}".into(),
        (_, true) => "{{.ID}}".into(),
        ("table" | "", _) if size => format!("{TABLE}\t{{{{.Size}}}}"),
        ("table" | "", _) => TABLE.into(),
        ("raw", _) if size => format!("{RAW}size: {{{{.Size}}}}\n"),
        ("raw", _) => RAW.into(),
        (source, _) => source.into(),
    }
}

/// One container. `trunc`: ids, names and commands are shortened.
pub(crate) fn row(c: &ContainerSummary, trunc: bool) -> Data {
    build(c, trunc, Data::from(size(c)))
}

/// One container, with a size of the caller's.
pub(crate) fn with_size(c: &ContainerSummary, size: Data) -> Data {
    build(c, true, size)
}

fn build(c: &ContainerSummary, trunc: bool, size: Data) -> Data {
    let created = c.created;
    let mounts = c.mounts.iter().map(|m| {
        let name = if m.name.is_empty() { &m.source } else { &m.name };
        if trunc { human::ellipsis(name, 15) } else { name.clone() }
    });
    let local = c.mounts.iter().filter(|m| m.driver == "local").count();
    let networks: Vec<&str> = c.network_settings.iter().flat_map(|n| n.networks.keys().map(String::as_str)).collect();
    let platform = c.image_manifest_descriptor.as_ref().and_then(|d| d.platform.as_ref());
    let platform = platform.map_or(Data::Nil, |p| {
        let parts = [&p.os, &p.architecture, &p.variant];
        let parts: Vec<&str> = parts.iter().map(|s| s.as_str()).filter(|s| !s.is_empty()).collect();
        Data::from(parts.join("/"))
    });
    let command = if trunc { human::ellipsis(&c.command, 20) } else { c.command.clone() };
    Struct::row(
        "*formatter.ContainerContext",
        vec![
            ("ID", Data::str(if trunc { human::short_id(&c.id) } else { &c.id })),
            ("Names", Data::from(names(&c.names, trunc))),
            ("Image", Data::from(image(c, trunc))),
            ("Command", Data::from(barque_model::strconv::quote(&command))),
            ("CreatedAt", Data::lazy(move || Data::from(human::local_time(created)))),
            ("RunningFor", Data::from(human::ago(created))),
            ("Ports", Data::from(ports(&c.ports))),
            ("State", Data::str(&c.state)),
            ("Status", Data::str(&c.status)),
            ("Size", size),
            ("Labels", Data::from(labels(&c.labels))),
            ("Label", label_method(c.labels.clone())),
            ("Mounts", Data::from(mounts.collect::<Vec<_>>().join(","))),
            ("LocalVolumes", Data::from(local.to_string())),
            ("Networks", Data::from(networks.join(","))),
            ("Platform", platform),
        ],
    )
}

fn size(c: &ContainerSummary) -> String {
    let own = human::size3(c.size_rw);
    if c.size_root_fs > 0 { format!("{own} (virtual {})", human::size3(c.size_root_fs)) } else { own }
}

/// Names without their slash; shortened, only the one that is no link of another container.
fn names(names: &[String], trunc: bool) -> String {
    let bare: Vec<&str> = names.iter().map(|n| n.strip_prefix('/').unwrap_or(n)).collect();
    match bare.iter().find(|n| !n.contains('/')) {
        Some(own) if trunc => (*own).to_owned(),
        _ => bare.join(","),
    }
}

/// The image as the user wrote it, shortened without its digest.
fn image(c: &ContainerSummary, trunc: bool) -> String {
    if c.image.is_empty() {
        return "<no image>".into();
    }
    if !trunc {
        return c.image.clone();
    }
    let id = human::short_id(&c.image_id);
    if !id.is_empty() && id == human::short_id(&c.image) {
        return id.to_owned();
    }
    match c.image.parse::<Reference>() {
        Ok(reference) => match reference.tag() {
            Some(tag) => format!("{}:{tag}", reference.familiar_name()),
            None => reference.familiar_name(),
        },
        Err(_) => c.image.clone(),
    }
}

/// `0.0.0.0:80->80/tcp, 9000-9001/tcp`: runs of ports that keep their number are joined.
pub(crate) fn ports(ports: &[PortSummary]) -> String {
    let mut sorted: Vec<&PortSummary> = ports.iter().collect();
    sorted.sort_by_key(|p| (p.private_port, p.ip.clone(), p.public_port, p.kind.clone()));
    let mut runs: BTreeMap<(String, String), (u16, u16)> = BTreeMap::new();
    let mut order: Vec<(String, String)> = Vec::new();
    let (mut done, mut mapped) = (Vec::new(), Vec::new());
    for port in sorted {
        let number = port.private_port;
        if !port.ip.is_empty() && port.public_port != number {
            mapped.push(format!("{}->{number}/{}", join_host(&port.ip, &port.public_port.to_string()), port.kind));
            continue;
        }
        let key = (port.ip.clone(), port.kind.clone());
        match runs.get_mut(&key) {
            None => {
                runs.insert(key.clone(), (number, number));
                order.push(key);
            }
            Some((_, last)) if number == last.saturating_add(1) => *last = number,
            Some(run) => {
                done.push(run_text(&key, *run));
                *run = (number, number);
            }
        }
    }
    done.extend(order.iter().filter_map(|key| runs.get(key).map(|run| run_text(key, *run))));
    done.extend(mapped);
    done.join(", ")
}

fn run_text((ip, kind): &(String, String), (first, last): (u16, u16)) -> String {
    let numbers = if first == last { first.to_string() } else { format!("{first}-{last}") };
    if ip.is_empty() { format!("{numbers}/{kind}") } else { format!("{}->{numbers}/{kind}", join_host(ip, &numbers)) }
}

/// `address:port`, an IPv6 address in brackets.
pub(crate) fn join_host(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, private_port: u16, public_port: u16, kind: &str) -> PortSummary {
        PortSummary { ip: ip.into(), private_port, public_port, kind: kind.into() }
    }

    #[test]
    fn ports_are_joined_where_they_run_on() {
        let list = [
            port("", 81, 0, "tcp"),
            port("", 80, 0, "tcp"),
            port("0.0.0.0", 443, 8443, "tcp"),
            port("::", 443, 8443, "tcp"),
            port("0.0.0.0", 90, 90, "udp"),
        ];
        assert_eq!(ports(&list), "80-81/tcp, 0.0.0.0:90->90/udp, 0.0.0.0:8443->443/tcp, [::]:8443->443/tcp");
        assert_eq!(ports(&[port("", 1, 0, "tcp"), port("", 5, 0, "tcp")]), "1/tcp, 5/tcp");
        assert_eq!(ports(&[]), "");
    }

    #[test]
    fn names_and_images() {
        assert_eq!(names(&["/other/alias".into(), "/own".into()], true), "own");
        assert_eq!(names(&["/other/alias".into(), "/own".into()], false), "other/alias,own");
        let mut c = ContainerSummary { image: "python:3.7".into(), ..ContainerSummary::default() };
        assert_eq!(image(&c, true), "python:3.7");
        c.image = format!("alpine@sha256:{}", "0".repeat(64));
        assert_eq!(image(&c, true), "alpine");
        c.image = format!("sha256:{}", "1".repeat(64));
        c.image_id = c.image.clone();
        assert_eq!(image(&c, true), "111111111111");
    }
}
