//! Short forms: `8080:80/tcp`, `./src:/dst:ro`, `/dev/a:/dev/b:rwm`, and command lines.

use std::net::IpAddr;

use barque_model::path::clean;

use super::diag::Span;
use super::node::{Map, Node, Value};

/// A published port of one container port.
#[derive(Debug, PartialEq, Eq)]
pub struct Port {
    /// Address on the host; empty for all.
    pub host_ip: String,
    /// Port in the container.
    pub target: u16,
    /// Port or range on the host; empty for any.
    pub published: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

impl Port {
    /// The long form, standing where the short one stood.
    pub fn into_node(self, at: &Node) -> Node {
        let mut map = Map::default();
        map.set("mode", Node::str("ingress", made(at.span)));
        map.set("target", at.with(Value::Int(i64::from(self.target))));
        if !self.published.is_empty() {
            map.set("published", at.with(Value::Str(self.published)));
        }
        if !self.host_ip.is_empty() {
            map.set("host_ip", at.with(Value::Str(self.host_ip)));
        }
        map.set("protocol", at.with(Value::Str(self.protocol)));
        Node { tag: super::node::Tag::None, ..at.with(Value::Map(map)) }
    }
}

fn made(span: Span) -> Span {
    Span { line: 0, ..span }
}

/// `80`, `3000-3005` → first and last.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
        None => (text.parse().ok()?, text.parse().ok()?),
    };
    (first <= last).then_some((first, last))
}

/// `[IP:][HOST:]CONTAINER[/PROTOCOL]`, each port perhaps a range.
///
/// # Errors
/// What is wrong, in Docker's words.
pub fn ports(spec: &str) -> Result<Vec<Port>, String> {
    let (body, protocol) = match spec.rsplit_once('/') {
        Some((body, protocol)) => (body, protocol.to_ascii_lowercase()),
        None => (spec, "tcp".to_owned()),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    let (ip, host, container) = split_ports(body)?;
    if container.is_empty() {
        return Err(format!("no port specified: {spec}<empty>"));
    }
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {ip}"));
    }
    let (first, last) = range(&container)
        .filter(|(first, _)| *first > 0)
        .ok_or_else(|| format!("invalid containerPort: {container}"))?;
    let published: Vec<String> = if host.is_empty() {
        vec![String::new(); usize::from(last - first) + 1]
    } else {
        let (low, high) = range(&host).ok_or_else(|| format!("invalid hostPort: {host}"))?;
        if first == last && low != high {
            vec![format!("{low}-{high}")]
        } else if last - first == high - low {
            (low..=high).map(|p| p.to_string()).collect()
        } else {
            return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
        }
    };
    let mut out: Vec<Port> = (first..=last)
        .zip(published)
        .map(|(target, published)| Port { host_ip: ip.clone(), target, published, protocol: protocol.clone() })
        .collect();
    // Docker orders them by the text of the port
    out.sort_by_key(|p| p.target.to_string());
    Ok(out)
}

fn split_ports(body: &str) -> Result<(String, String, String), String> {
    if let Some(rest) = body.strip_prefix('[') {
        let (ip, rest) = rest.split_once(']').ok_or_else(|| format!("invalid IP address: {body}"))?;
        let rest = rest.strip_prefix(':').ok_or_else(|| format!("no port specified: {body}<empty>"))?;
        let (host, container) = rest.rsplit_once(':').unwrap_or(("", rest));
        return Ok((ip.to_owned(), host.to_owned(), container.to_owned()));
    }
    let mut parts = body.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host = parts.next().unwrap_or_default();
    let ip = parts.next().unwrap_or_default();
    Ok((ip.to_owned(), host.to_owned(), container.to_owned()))
}

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// True if a mount source is a path rather than the name of a volume.
pub fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~']) || super::paths::is_of_windows(source)
}

/// `[SOURCE:]TARGET[:OPTIONS]` → the long form.
///
/// # Errors
/// What is wrong with it.
pub fn mount(spec: &str, at: &Node) -> Result<Node, String> {
    let parts: Vec<&str> = split_outside_variables(spec);
    if spec.is_empty() {
        return Err("invalid empty volume spec".to_owned());
    }
    if parts.iter().any(|p| p.is_empty()) {
        return Err(format!("invalid spec: {spec}: empty section between colons"));
    }
    let (source, target, options) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(format!("invalid spec: {spec}: too many colons")),
    };
    let mut map = Map::default();
    let (mut bind, mut volume) = (None::<Map>, None::<Map>);
    let mut read_only = false;
    for option in options.split(',').filter(|o| !o.is_empty()) {
        let text = |value: &str| at.with(Value::Str(value.to_owned()));
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            "nocopy" => volume.get_or_insert_with(Map::default).set("nocopy", at.with(Value::Bool(true))),
            "z" | "Z" => bind.get_or_insert_with(Map::default).set("selinux", text(option)),
            _ if PROPAGATIONS.contains(&option) => {
                bind.get_or_insert_with(Map::default).set("propagation", text(option));
            }
            // Docker Compose ignores what it does not know (`cached`, `delegated`, …)
            _ => {}
        }
    }
    let path = is_path(source);
    if path {
        bind.get_or_insert_with(Map::default).set("create_host_path", Node::bool(true, made(at.span)));
    } else {
        volume.get_or_insert_with(Map::default);
    }
    map.set("type", Node::str(if path { "bind" } else { "volume" }, made(at.span)));
    if !source.is_empty() {
        map.set("source", at.with(Value::Str(source.to_owned())));
    }
    map.set("target", at.with(Value::Str(clean(target))));
    if read_only {
        map.set("read_only", at.with(Value::Bool(true)));
    }
    if let Some(bind) = bind {
        map.set("bind", Node::map(bind, made(at.span)));
    }
    if let Some(volume) = volume {
        map.set("volume", Node::map(volume, made(at.span)));
    }
    Ok(Node { tag: super::node::Tag::None, ..at.with(Value::Map(map)) })
}

/// Splits at `:` but not inside `${…}`, which `config --no-interpolate` leaves in place.
fn split_outside_variables(spec: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0usize);
    let bytes = spec.as_bytes();
    for (i, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if i > 0 && bytes[i - 1] == b'$' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            // `C:\…`; with a slash it is a volume of one letter.
            b':' if i == start + 1 && bytes[start].is_ascii_alphabetic() && bytes.get(i + 1) == Some(&b'\\') => {}
            b':' if depth == 0 => {
                parts.push(&spec[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&spec[start..]);
    parts
}

/// `SOURCE[:TARGET[:PERMISSIONS]]` → the long form.
///
/// # Errors
/// What is wrong with it.
pub fn device(spec: &str, at: &Node) -> Result<Node, String> {
    let parts: Vec<&str> = spec.split(':').collect();
    // a CDI name (vendor.com/class=name) has no colon and is its own target
    let (source, target, permissions) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        [source, target] => (*source, *target, "rwm"),
        [source, target, permissions] => (*source, *target, *permissions),
        _ => return Err(format!("confusing device mapping, please use long syntax: {spec}")),
    };
    let mut map = Map::default();
    for (key, value) in [("source", source), ("target", target), ("permissions", permissions)] {
        map.set(key, at.with(Value::Str(value.to_owned())));
    }
    Ok(Node { tag: super::node::Tag::None, ..at.with(Value::Map(map)) })
}

/// A command line split into words.
#[derive(Debug, PartialEq, Eq)]
pub struct Words {
    /// The words.
    pub words: Vec<String>,
    /// The shell operator the command was cut at, since no shell runs it.
    pub cut: Option<char>,
}

/// Splits a command line as Docker Compose does: quotes, backslashes, no expansion, an end at `;`, `&`, `|`, `<`, `>`.
///
/// # Errors
/// Quotes that are not closed.
pub fn words(text: &str) -> Result<Words, String> {
    let mut out = Words { words: Vec::new(), cut: None };
    let mut word: Option<String> = None;
    let (mut single, mut double, mut back, mut paren, mut escaped) = (false, false, false, false, false);
    for c in text.chars() {
        if escaped {
            let c = match c {
                't' => '\t',
                'n' => '\n',
                other => other,
            };
            word.get_or_insert_default().push(c);
            escaped = false;
            continue;
        }
        let quoted = single || double || back || paren;
        match c {
            '\\' if !single => escaped = true,
            ' ' | '\t' | '\r' | '\n' if !quoted => out.words.extend(word.take()),
            '`' if !(single || double || paren) => {
                back = !back;
                word.get_or_insert_default().push(c);
            }
            '(' if !quoted && word.as_ref().is_some_and(|w| w.ends_with('$')) => {
                paren = true;
                word.get_or_insert_default().push(c);
            }
            ')' if paren => {
                paren = false;
                word.get_or_insert_default().push(c);
            }
            '"' if !(single || back || paren) => {
                double = !double;
                word.get_or_insert_default();
            }
            '\'' if !(double || back || paren) => {
                single = !single;
                word.get_or_insert_default();
            }
            ';' | '&' | '|' | '<' | '>' if !quoted => {
                out.cut = Some(c);
                break;
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    if escaped || single || double || back || paren {
        return Err("invalid command line string".to_owned());
    }
    out.words.extend(word);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(spec: &str) -> Vec<(String, u16, String, String)> {
        ports(spec).unwrap().into_iter().map(|p| (p.host_ip, p.target, p.published, p.protocol)).collect()
    }

    #[test]
    fn port_forms() {
        let s = String::from;
        assert_eq!(port("80"), [(s(""), 80, s(""), s("tcp"))]);
        assert_eq!(port("8080:80/udp"), [(s(""), 80, s("8080"), s("udp"))]);
        assert_eq!(port("127.0.0.1::53"), [(s("127.0.0.1"), 53, s(""), s("tcp"))]);
        assert_eq!(port("[::1]:80:8080"), [(s("::1"), 8080, s("80"), s("tcp"))]);
        assert_eq!(port("9000-9001:80-81").len(), 2);
        assert_eq!(port("9000-9005:80")[0].2, "9000-9005");
        for bad in ["", "x", "80:y", "1-2:1-3", "1.2.3:1:2", "80/xyz", "0", "70000", "5-4", "a:b:c:d"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn command_lines() {
        let w = |t: &str| words(t).unwrap().words;
        assert_eq!(w("sh -c 'echo \"x y\"'"), ["sh", "-c", "echo \"x y\""]);
        assert_eq!(w("a  \"\" b\\ c"), ["a", "", "b c"]);
        assert_eq!(w("echo $(date +%s) x"), ["echo", "$(date +%s)", "x"]);
        assert_eq!(words("a && b").unwrap(), Words { words: vec!["a".into()], cut: Some('&') });
        assert!(words("a 'b").is_err());
    }

    #[test]
    fn mount_forms() {
        let at = Node::null(Span::default());
        let get = |spec: &str, key: &str| {
            mount(spec, &at).unwrap().as_map().unwrap().get(key).and_then(|n| n.scalar_text()).unwrap_or_default()
        };
        assert_eq!(get("/anon", "target"), "/anon");
        assert_eq!(get("data:/d", "type"), "volume");
        assert_eq!(get("d:/d", "source"), "d");
        assert_eq!(get("./x:/d/../e:ro", "type"), "bind");
        assert_eq!(get("./x:/d/../e:ro", "target"), "/e");
        assert_eq!(get("./x:/d:ro,z", "read_only"), "true");
        assert!(mount("a::b", &at).is_err());
        assert!(mount("a:b:c:d", &at).is_err());
    }
}
