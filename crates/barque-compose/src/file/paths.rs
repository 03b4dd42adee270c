//! Relative paths of a tree in long form → absolute ones.

use std::path::Path;

use super::node::{Node, Value};
use barque_model::path::clean;

/// Joins a path to a base and tidies it, without looking at the disk. `~` is the home directory.
pub fn absolute(path: &str, base: &Path, home: Option<&Path>) -> String {
    if let (Some(rest), Some(home)) = (path.strip_prefix('~'), home)
        && (rest.is_empty() || rest.starts_with('/'))
    {
        return clean(&format!("{}{rest}", home.display()));
    }
    if path.starts_with('/') {
        return clean(path);
    }
    if is_of_windows(path) {
        return path.to_owned();
    }
    clean(&format!("{}/{path}", base.display()))
}

/// `C:\DIRECTORY` and `\\SERVER\SHARE` are absolute, for an engine elsewhere.
pub fn is_of_windows(path: &str) -> bool {
    let bytes = path.as_bytes();
    path.starts_with(r"\\") || (bytes.len() > 2 && bytes[0].is_ascii_alphabetic() && bytes[1..3] == *br":\")
}

/// True if a build context is not a directory of this machine.
pub fn is_remote_context(context: &str) -> bool {
    let host_path = |s: &str| s.split_once(':').is_some_and(|(host, _)| host.contains('@') && !host.contains('/'));
    ["http://", "https://", "git://", "ssh://", "github.com/", "git@", "oci-layout://", "docker-image://", "target:"]
        .iter()
        .any(|p| context.starts_with(p))
        || host_path(context)
}

/// True if a Compose file is to be fetched: from a repository, or from a registry (`oci:`).
pub fn is_remote_file(path: &str) -> bool {
    is_remote_context(path) || path.starts_with("oci:")
}

/// Makes every path of the project relative to `base` absolute.
pub fn resolve(root: &mut Node, base: &Path, home: Option<&Path>) {
    let Some(map) = root.as_map_mut() else { return };
    if let Some(services) = map.get_mut("services").and_then(Node::as_map_mut) {
        for (_, service) in services.iter_mut() {
            if let Some(map) = service.as_map_mut() {
                super::normalize::default_context(map);
            }
            resolve_service(service, base, home);
        }
    }
    for section in ["configs", "secrets"] {
        let Some(items) = map.get_mut(section).and_then(Node::as_map_mut) else { continue };
        for (_, item) in items.iter_mut() {
            fix(item, &["file"], base, home);
        }
    }
    if let Some(volumes) = map.get_mut("volumes").and_then(Node::as_map_mut) {
        for (_, volume) in volumes.iter_mut() {
            resolve_driver_opts(volume, base, home);
        }
    }
}

/// Makes every path of one service absolute.
pub fn resolve_service(service: &mut Node, base: &Path, home: Option<&Path>) {
    let Some(map) = service.as_map_mut() else { return };
    if let Some(build) = map.get_mut("build").and_then(Node::as_map_mut) {
        if let Some(context) = build.get_mut("context") {
            fix_unless_remote(context, base, home);
        }
        if let Some(contexts) = build.get_mut("additional_contexts").and_then(Node::as_map_mut) {
            for (_, context) in contexts.iter_mut() {
                if !context.as_str().is_some_and(|c| c.starts_with("service:") || c.contains("://")) {
                    fix_unless_remote(context, base, home);
                }
            }
        }
        if let Some(keys) = build.get_mut("ssh").and_then(Node::as_map_mut) {
            for (_, key) in keys.iter_mut() {
                fix_text(key, base, home);
            }
        }
    }
    for key in ["env_file", "volumes"] {
        let Some(items) = map.get_mut(key).and_then(Node::as_seq_mut) else { continue };
        for item in items {
            match key {
                "env_file" => fix(item, &["path"], base, home),
                _ if item.at(&["type"]).and_then(Node::as_str) == Some("bind") => fix(item, &["source"], base, home),
                _ => {}
            }
        }
    }
    if let Some(files) = map.get_mut("label_file").and_then(Node::as_seq_mut) {
        for file in files {
            fix_text(file, base, home);
        }
    }
    fix(service, &["credential_spec", "file"], base, home);
    if let Some(watch) = service.as_map_mut().and_then(|m| m.get_mut("develop")?.as_map_mut()?.get_mut("watch")) {
        for item in watch.as_seq_mut().into_iter().flatten() {
            fix(item, &["path"], base, home);
        }
    }
}

fn resolve_driver_opts(volume: &mut Node, base: &Path, home: Option<&Path>) {
    let local = volume.at(&["driver"]).and_then(Node::as_str).is_none_or(|d| d == "local");
    let bind =
        volume.at(&["driver_opts", "o"]).and_then(Node::as_str).is_some_and(|o| o.split(',').any(|x| x == "bind"));
    let device = volume.as_map_mut().and_then(|m| m.get_mut("driver_opts")?.as_map_mut()?.get_mut("device"));
    if local
        && bind
        && let Some(Value::Str(text)) = device.map(|node| &mut node.value)
    {
        // An empty one is the project's directory.
        *text = absolute(text, base, home);
    }
}

fn fix(node: &mut Node, path: &[&str], base: &Path, home: Option<&Path>) {
    match path {
        [] => fix_text(node, base, home),
        [key, rest @ ..] => {
            if let Some(child) = node.as_map_mut().and_then(|m| m.get_mut(key)) {
                fix(child, rest, base, home);
            }
        }
    }
}

fn fix_unless_remote(node: &mut Node, base: &Path, home: Option<&Path>) {
    if !node.as_str().is_some_and(is_remote_context) {
        fix_text(node, base, home);
    }
}

fn fix_text(node: &mut Node, base: &Path, home: Option<&Path>) {
    if let Value::Str(text) = &mut node.value
        && !text.is_empty()
    {
        *text = absolute(text, base, home);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_and_tidies() {
        let home = Path::new("/home/u");
        let abs = |p: &str| absolute(p, Path::new("/p/q"), Some(home));
        assert_eq!(abs("."), "/p/q");
        assert_eq!(abs("./a/../b"), "/p/q/b");
        assert_eq!(abs("../x"), "/p/x");
        assert_eq!(abs("~/x"), "/home/u/x");
        assert_eq!(abs("~x"), "/p/q/~x");
        assert_eq!(abs("/a//b"), "/a/b");
    }

    #[test]
    fn remote_contexts_are_left_alone() {
        for remote in ["https://host/x.git", "git@host:a/b.git", "github.com/a/b"] {
            assert!(is_remote_context(remote), "{remote}");
        }
        for local in [".", "./a:b", "dir", "/x"] {
            assert!(!is_remote_context(local), "{local}");
        }
    }
}
