//! Rules between the parts of a project, checked on the merged tree so that errors can point at their place.

use super::diag::{Diag, Loaded, Span, suggest};
use super::node::{Map, Node};
use super::schema::{Kind, Obj, ROOT};

/// Keys that must be there once everything is merged.
///
/// # Errors
/// The first missing one.
pub fn required(root: &Node) -> Loaded<()> {
    object(root, &ROOT, &mut Vec::new())
}

fn object(node: &Node, obj: &Obj, path: &mut Vec<String>) -> Loaded<()> {
    let Some(map) = node.as_map() else { return Ok(()) };
    for key in obj.required {
        if map.get_some(key).is_none() {
            let place = path.join(".").replace(".[", "[");
            return Err(Diag::at(node.span, format!("{place} {key} is required")));
        }
    }
    for (key, child) in map.iter() {
        if let Some(field) = obj.field(key) {
            path.push(key.to_owned());
            kind(child, field.kind, path)?;
            path.pop();
        }
    }
    Ok(())
}

fn kind(node: &Node, of: Kind, path: &mut Vec<String>) -> Loaded<()> {
    match of {
        Kind::Obj(obj) | Kind::Null(obj) | Kind::Short(obj, _) | Kind::Mount(obj) | Kind::Device(obj) => {
            object(node, obj, path)
        }
        Kind::List(item) | Kind::Gpus(item) => each(node, *item, path),
        Kind::Ports(obj) | Kind::EnvFiles(obj) => {
            for (i, item) in node.as_seq().unwrap_or_default().iter().enumerate() {
                path.push(format!("[{i}]"));
                object(item, obj, path)?;
                path.pop();
            }
            Ok(())
        }
        Kind::Map(item) | Kind::Names(item) => {
            for (key, child) in node.as_map().into_iter().flat_map(Map::iter) {
                path.push(key.to_owned());
                kind(child, *item, path)?;
                path.pop();
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn each(node: &Node, item: Kind, path: &mut Vec<String>) -> Loaded<()> {
    for (i, child) in node.as_seq().unwrap_or_default().iter().enumerate() {
        path.push(format!("[{i}]"));
        kind(child, item, path)?;
        path.pop();
    }
    Ok(())
}

/// Rules within one value, of all services, also those of profiles that are off.
///
/// # Errors
/// The first that does not hold.
pub fn values(root: &Node) -> Loaded<()> {
    let file_objects =
        [("configs", &["file", "environment", "content"][..]), ("secrets", &["file", "environment"][..])];
    for (section, keys) in file_objects {
        for (name, item) in root.section(section) {
            file_object(item, keys, &format!("{section}.{name}"))?;
        }
    }
    for section in ["networks", "volumes"] {
        for (name, item) in root.section(section) {
            external(item, &format!("{section}.{name}"))?;
        }
    }
    for (name, service) in root.section("services") {
        service_values(name, service)?;
    }
    Ok(())
}

fn file_object(item: &Node, keys: &[&str], path: &str) -> Loaded<()> {
    let Some(map) = item.as_map() else { return Ok(()) };
    let set: Vec<&&str> = keys.iter().filter(|k| map.get_some(k).is_some()).collect();
    let list = keys.join("|");
    if set.len() > 1 {
        return Err(Diag::at(
            map.key_span(set[1]).unwrap_or(item.span),
            format!("{path}: {list} attributes are mutually exclusive"),
        ));
    }
    let external = map.get("external").and_then(Node::as_bool).unwrap_or(false);
    if set.is_empty() && !external && map.get_some("driver").is_none() {
        return Err(Diag::at(item.span, format!("{path}: one of {list} must be set")));
    }
    Ok(())
}

/// An external resource has a name and nothing else, since Compose does not make it.
fn external(item: &Node, path: &str) -> Loaded<()> {
    let Some(map) = item.as_map() else { return Ok(()) };
    if map.get("external").and_then(Node::as_bool) != Some(true) {
        return Ok(());
    }
    match map
        .entries()
        .find(|(key, _, node)| !(matches!(*key, "external" | "name") || key.starts_with("x-") || node.is_null()))
    {
        Some((key, span, _)) if path.starts_with("volumes.") || key != "driver" => {
            Err(Diag::at(span, format!("{path}: conflicting parameters \"external\" and {key:?} specified")))
        }
        _ => Ok(()),
    }
}

fn text<'a>(node: &'a Node, path: &[&str]) -> Option<&'a str> {
    node.at(path).and_then(Node::as_str)
}

fn items<'a>(node: &'a Node, key: &str) -> &'a [Node] {
    node.at(&[key]).and_then(Node::as_seq).unwrap_or_default()
}

fn service_values(name: &str, service: &Node) -> Loaded<()> {
    for (i, port) in items(service, "ports").iter().enumerate() {
        if let Some(ip) = port.at(&["host_ip"]) {
            let text = ip.as_str().unwrap_or_default();
            if text.parse::<std::net::IpAddr>().is_err() && !text.contains('$') {
                return Err(Diag::at(ip.span, format!("services.{name}.ports[{i}]: invalid ip address: {text}")));
            }
        }
        if port.as_map().is_some() && port.at(&["target"]).is_none() {
            return Err(Diag::at(
                port.span,
                format!("services.{name}.ports[{i}]: service ports is missing a target port"),
            ));
        }
    }
    for (i, volume) in items(service, "volumes").iter().enumerate() {
        if volume.as_map().is_none() {
            continue;
        }
        let at = format!("services.{name}.volumes[{i}]");
        if text(volume, &["target"]).is_none_or(str::is_empty) {
            return Err(Diag::at(volume.span, format!("{at}: service volume is missing a mount target")));
        }
        if text(volume, &["type"]) == Some("bind") && text(volume, &["source"]).is_none_or(str::is_empty) {
            return Err(Diag::at(
                volume.span,
                format!("{at}: invalid mount config for type \"bind\": field Source must not be empty"),
            ));
        }
    }
    if let Some(first) = items_of_test(service)
        && !matches!(first.as_str(), Some("CMD" | "CMD-SHELL" | "NONE"))
    {
        return Err(Diag::at(first.span, "healthcheck.test must start either by \"CMD\", \"CMD-SHELL\" or \"NONE\"")
            .hint("put \"CMD\" before the program, or write the test as one text for the shell"));
    }
    if let (Some(a), Some(_)) = (service.at(&["build", "dockerfile"]), service.at(&["build", "dockerfile_inline"])) {
        return Err(Diag::at(
            a.span,
            format!("service {name:?} declares mutually exclusive dockerfile and dockerfile_inline"),
        ));
    }
    words(name, service)?;
    mounted_twice(name, service)
}

/// Words that the engine, or nobody, would refuse later.
fn words(name: &str, service: &Node) -> Loaded<()> {
    let policy: fn(&str) -> bool =
        |text| text.strip_prefix("every_").is_some_and(|t| super::units::duration(t).is_ok());
    let restart: fn(&str) -> bool = |text| {
        // the words of `deploy.restart_policy` mean the same here
        matches!(text, "none" | "any") || text.strip_prefix("on-failure:").is_some_and(|n| n.parse::<u32>().is_ok())
    };
    let checks = [
        (
            "pull_policy",
            &["always", "never", "build", "if_not_present", "missing", "refresh", "daily", "weekly"][..],
            policy,
        ),
        ("restart", &["no", "always", "on-failure", "unless-stopped"][..], restart),
    ];
    for (key, known, other) in checks {
        let Some(node) = service.at(&[key]) else { continue };
        let Some(text) = node.as_str().filter(|t| !t.is_empty() && !t.contains('$')) else { continue };
        if known.contains(&text) || other(text) {
            continue;
        }
        let diag = Diag::at(node.span, format!("services.{name}.{key}: {text:?} is none of {}", known.join(", ")));
        return Err(match suggest(text, known.iter().copied()) {
            Some(near) => diag.hint(format!("did you mean {near:?}?")),
            None => diag,
        });
    }
    Ok(())
}

fn items_of_test(service: &Node) -> Option<&Node> {
    service.at(&["healthcheck", "test"])?.as_seq()?.first()
}

fn mounted_twice(name: &str, service: &Node) -> Loaded<()> {
    let mut seen: Vec<(&str, String)> = Vec::new();
    let first_volume = items(service, "tmpfs").len();
    let tmpfs = items(service, "tmpfs").iter().map(|n| (n.as_str().unwrap_or_default().split(':').next(), "tmpfs", n));
    let volumes = items(service, "volumes").iter().map(|n| (text(n, &["target"]), "volumes", n));
    for (i, (target, key, node)) in tmpfs.chain(volumes).enumerate() {
        let Some(target) = target else { continue };
        let index = if key == "volumes" { i - first_volume } else { i };
        let place = format!("services.{name}.{key}[{index}]");
        if let Some((_, first)) = seen.iter().find(|(t, _)| *t == target) {
            return Err(Diag::at(node.span, format!("{place}: target {target} already mounted as {first}")));
        }
        seen.push((target, place));
    }
    Ok(())
}

/// References between parts, for the services that are on.
///
/// # Errors
/// The first that does not hold.
pub fn consistency(root: &Node, enabled: &dyn Fn(&str) -> bool) -> Loaded<()> {
    for (name, service) in root.section("services").filter(|(name, _)| enabled(name)) {
        let check = Check { root, name, service };
        check.image()?;
        check.dependencies(enabled)?;
        check.references()?;
        check.limits()?;
        check.scale()?;
    }
    container_names(root, enabled)?;
    cycle(root, enabled)
}

struct Check<'a> {
    root: &'a Node,
    name: &'a str,
    service: &'a Node,
}

impl Check<'_> {
    fn has(&self, key: &str) -> bool {
        self.service.at(&[key]).is_some_and(|n| !n.is_null() && n.as_str() != Some(""))
    }

    fn image(&self) -> Loaded<()> {
        if !self.has("image") && !self.has("build") && !self.has("provider") {
            return Err(Diag::at(
                self.service.span,
                format!("service {:?} has neither an image nor a build context specified", self.name),
            )
            .hint("add \"image: NAME\" or \"build: DIRECTORY\""));
        }
        if self.has("network_mode")
            && self.service.at(&["networks"]).and_then(Node::as_map).is_some_and(|m| !m.is_empty())
        {
            let span = self.service.at(&["network_mode"]).map_or(self.service.span, |n| n.span);
            return Err(Diag::at(
                span,
                format!("service {} declares mutually exclusive `network_mode` and `networks`", self.name),
            ));
        }
        let platforms = self.service.at(&["build"]).map_or(&[][..], |b| items(b, "platforms"));
        if let (Some(platform), false) = (text(self.service, &["platform"]), platforms.is_empty())
            && !platforms.iter().any(|p| p.as_str() == Some(platform))
        {
            return Err(Diag::at(
                platforms[0].span,
                format!("service.build.platforms MUST include service.platform {platform:?}"),
            ));
        }
        Ok(())
    }

    fn undefined(&self, span: Span, what: &str, of: &str, name: &str, known: &[&str]) -> Diag {
        let diag = Diag::at(span, format!("service {:?} {what} undefined {of} {name}", self.name));
        match suggest(name, known.iter().copied()) {
            Some(near) => diag.hint(format!("did you mean {near:?}?")),
            None if of != "service" => {
                let section = of.strip_prefix("build ").unwrap_or(of);
                diag.hint(format!("declare it at the top level: \"{section}s:\" with the key \"{name}:\""))
            }
            None => diag,
        }
    }

    fn dependencies(&self, enabled: &dyn Fn(&str) -> bool) -> Loaded<()> {
        let Some(depends) = self.service.at(&["depends_on"]).and_then(Node::as_map) else { return Ok(()) };
        for (name, span, dependency) in depends.entries() {
            let declared = self.root.at(&["services", name]).is_some();
            if declared && enabled(name) {
                continue;
            }
            let wanted = dependency.at(&["required"]).and_then(Node::as_bool).unwrap_or(true);
            if !wanted {
                continue;
            }
            let others = self.root.section("services").map(|(n, _)| n).filter(|n| *n != self.name);
            let known: Vec<&str> = others.collect();
            let diag = self.undefined(span, "depends on", "service", &format!("{name:?}"), &[]);
            return Err(if declared {
                diag.hint(format!(
                    "{name:?} belongs to a profile that is off; switch it on, or set \"required: false\""
                ))
            } else {
                match suggest(name, known) {
                    Some(near) => diag.hint(format!("did you mean {near:?}?")),
                    None => diag,
                }
            });
        }
        Ok(())
    }

    fn references(&self) -> Loaded<()> {
        let known = |section: &str| -> Vec<&str> { self.root.section(section).map(|(n, _)| n).collect() };
        if let Some(networks) = self.service.at(&["networks"]).and_then(Node::as_map) {
            let names = known("networks");
            if let Some((name, span, _)) = networks.entries().find(|(name, _, _)| !names.contains(name)) {
                return Err(self.undefined(span, "refers to", "network", name, &names));
            }
        }
        let volumes = known("volumes");
        for volume in items(self.service, "volumes") {
            let source = text(volume, &["source"]).unwrap_or_default();
            if text(volume, &["type"]) == Some("volume") && !source.is_empty() && !volumes.contains(&source) {
                let diag = self.undefined(volume.span, "refers to", "volume", source, &volumes);
                let slash = source.contains('/');
                return Err(if slash {
                    diag.hint(format!("a directory of the host is written \"./{source}\""))
                } else {
                    diag
                });
            }
        }
        let build = self.service.at(&["build"]).map_or(&[][..], |b| items(b, "secrets"));
        for (list, section, what) in [
            (items(self.service, "configs"), "configs", "config"),
            (items(self.service, "secrets"), "secrets", "secret"),
            (build, "secrets", "build secret"),
        ] {
            let names = known(section);
            for item in list {
                let source = text(item, &["source"]).unwrap_or_default();
                if !names.contains(&source) {
                    return Err(self.undefined(item.span, "refers to", what, source, &names));
                }
            }
        }
        Ok(())
    }

    fn limits(&self) -> Loaded<()> {
        let pairs = [
            ("cpus", ["deploy", "resources", "limits", "cpus"]),
            ("mem_limit", ["deploy", "resources", "limits", "memory"]),
            ("mem_reservation", ["deploy", "resources", "reservations", "memory"]),
            ("pids_limit", ["deploy", "resources", "limits", "pids"]),
        ];
        for (key, path) in pairs {
            let (Some(a), Some(b)) = (self.service.at(&[key]), self.service.at(&path)) else { continue };
            if a.scalar_text() != b.scalar_text() {
                return Err(Diag::at(
                    a.span,
                    format!("services.{}: can't set distinct values on '{key}' and '{}'", self.name, path.join(".")),
                ));
            }
        }
        Ok(())
    }

    fn scale(&self) -> Loaded<()> {
        let number = |path: &[&str]| {
            let node = self.service.at(path)?;
            Some((node.scalar_text()?.parse::<i64>().ok()?, node.span))
        };
        let (scale, replicas) = (number(&["scale"]), number(&["deploy", "replicas"]));
        for (value, key) in [(scale, "scale"), (replicas, "deploy.replicas")] {
            if let Some((n, span)) = value.filter(|(n, _)| *n < 0 || *n > 10_000) {
                let bound = if n < 0 { "greater than or equal to 0" } else { "at most 10000" };
                return Err(Diag::at(span, format!("services.{}.{key}: must be {bound}", self.name)));
            }
        }
        if let (Some((a, span)), Some((b, _))) = (scale, replicas)
            && a != b
        {
            return Err(Diag::at(
                span,
                format!("services.{}: can't set distinct values on 'scale' and 'deploy.replicas'", self.name),
            ));
        }
        if let (Some((n, span)), true) = (scale.or(replicas), self.has("container_name"))
            && n > 1
        {
            let key = if scale.is_some() { "scale" } else { "deploy.replicas" };
            return Err(Diag::at(
                span,
                format!("services.{}: can't set container_name and {key} as container name must be unique", self.name),
            ));
        }
        Ok(())
    }
}

fn container_names(root: &Node, enabled: &dyn Fn(&str) -> bool) -> Loaded<()> {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (name, service) in root.section("services").filter(|(n, _)| enabled(n)) {
        let Some(node) = service.at(&["container_name"]) else { continue };
        let wanted = node.as_str().unwrap_or_default();
        if let Some((_, other)) = seen.iter().find(|(n, _)| *n == wanted) {
            return Err(Diag::at(
                node.span,
                format!(
                    "services.{name}.container_name: container name {wanted:?} is already in use by service {other:?}"
                ),
            ));
        }
        seen.push((wanted, name));
    }
    Ok(())
}

fn cycle(root: &Node, enabled: &dyn Fn(&str) -> bool) -> Loaded<()> {
    // 0 unseen, 1 on the trail, 2 done
    let mut state: std::collections::BTreeMap<&str, u8> = std::collections::BTreeMap::new();
    for (start, _) in root.section("services").filter(|(n, _)| enabled(n)) {
        let mut stack: Vec<(&str, Vec<&str>)> = vec![(start, needs(root, start))];
        if state.contains_key(start) {
            continue;
        }
        state.insert(start, 1);
        while let Some((name, rest)) = stack.last_mut() {
            let name = *name;
            let Some(next) = rest.pop() else {
                state.insert(name, 2);
                stack.pop();
                continue;
            };
            match state.get(next).copied().unwrap_or(0) {
                0 => {
                    state.insert(next, 1);
                    stack.push((next, needs(root, next)));
                }
                1 => {
                    let trail: Vec<&str> = stack.iter().map(|(n, _)| *n).skip_while(|n| *n != next).collect();
                    let span = root
                        .at(&["services", name, "depends_on"])
                        .and_then(|d| d.as_map()?.key_span(next))
                        .unwrap_or_default();
                    return Err(Diag::at(span, format!("dependency cycle detected: {} -> {next}", trail.join(" -> "))));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn needs<'a>(root: &'a Node, name: &str) -> Vec<&'a str> {
    let depends = root.at(&["services", name, "depends_on"]).and_then(Node::as_map);
    depends.into_iter().flat_map(Map::keys).filter(|n| root.at(&["services", n]).is_some()).collect()
}
