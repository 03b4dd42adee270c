//! Names and addresses: hosts, labels, links, search domains, kernel parameters, image tags.

use std::net::IpAddr;

/// `-a stdin|stdout|stderr`, in lower case.
pub(crate) fn attach(text: &str) -> Result<String, String> {
    let lower = text.to_lowercase();
    if ["stdin", "stdout", "stderr"].contains(&lower.as_str()) {
        Ok(lower)
    } else {
        Err("valid streams are STDIN, STDOUT and STDERR".into())
    }
}

/// An IP address in its canonical form.
pub(crate) fn ip(text: &str) -> Result<String, String> {
    match text.trim().parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
    }
}

/// `--add-host NAME:ADDRESS` (or `NAME=ADDRESS`, brackets allowed) in the form the engine takes.
pub(crate) fn extra_host(text: &str) -> Result<String, String> {
    let bad = || format!("bad format for add-host: {text:?}");
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(bad)?;
    if name.is_empty() || name.contains(':') {
        return Err(bad());
    }
    if address == "host-gateway" {
        return Ok(format!("{name}:{address}"));
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).filter(|a| !a.is_empty());
    let bare = bare.unwrap_or(address);
    ip(bare).map_err(|_| format!("invalid IP address in add-host: {bare:?}"))?;
    Ok(format!("{name}:{bare}"))
}

/// `key[=value]`, the key without blanks.
pub(crate) fn label(text: &str) -> Result<&str, String> {
    let key = text.split('=').next().unwrap_or_default().trim_start_matches([' ', '\t']);
    if key.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    if key.contains([' ', '\t']) {
        return Err(format!("label '{key}' contains whitespaces"));
    }
    Ok(text)
}

/// `CONTAINER[:ALIAS]`.
pub(crate) fn link(text: &str) -> Result<(String, String), String> {
    if text.is_empty() {
        return Err("empty string specified for links".into());
    }
    match text.split(':').collect::<Vec<_>>()[..] {
        [name] => Ok((name.to_owned(), name.to_owned())),
        [name, alias] => match name.strip_prefix('/') {
            // The form in which the engine itself reports links.
            Some(name) => Ok((name.to_owned(), alias.rsplit('/').next().unwrap_or_default().to_owned())),
            None => Ok((name.to_owned(), alias.to_owned())),
        },
        _ => Err(format!("bad format for links: {text}")),
    }
}

/// A domain for `--dns-search`; `.` is none.
pub(crate) fn dns_search(text: &str) -> Result<String, String> {
    let trimmed = text.trim_matches(' ');
    if trimmed == "." {
        return Ok(trimmed.to_owned());
    }
    let domain = trimmed.strip_suffix('.').unwrap_or(trimmed).trim_end();
    let part = |p: &str| {
        !p.is_empty()
            && p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !p.starts_with('-')
            && !p.ends_with('-')
    };
    if trimmed.bytes().any(|b| b.is_ascii_alphabetic()) && domain.len() < 255 && domain.split('.').all(part) {
        return Ok(domain.to_owned());
    }
    Err(format!("{trimmed} is not a valid domain"))
}

const SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// A kernel parameter that belongs to a namespace of the container.
pub(crate) fn sysctl(text: &str) -> Result<(&str, &str), String> {
    let denied = || format!("sysctl '{text}' is not allowed");
    let (key, value) = text.split_once('=').ok_or_else(denied)?;
    if SYSCTLS.contains(&key) || key.starts_with("net.") || key.starts_with("fs.mqueue.") {
        Ok((key, value))
    } else {
        Err(denied())
    }
}

/// A name for an image that is built; a digest is no such name.
pub(crate) fn image_tag(text: &str) -> Result<String, String> {
    match crate::reference::parse(text) {
        Ok(name) if name.digest().is_some() => Err("refusing to create a tag with a digest reference".into()),
        Ok(_) => Ok(text.to_owned()),
        Err(e) => Err(e.message),
    }
}

/// `aa:bb:cc:dd:ee:ff`.
pub(crate) fn mac_address(text: &str) -> Result<(), String> {
    let text = text.trim();
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let hex = |p: &&str| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit());
    if [6, 8, 20].contains(&parts.len()) && parts.iter().all(hex) {
        return Ok(());
    }
    Err(format!("{text} is not a valid mac address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_hosts_take_both_separators() {
        assert_eq!(extra_host("h:127.0.0.1").as_deref(), Ok("h:127.0.0.1"));
        assert_eq!(extra_host("h:::1").as_deref(), Ok("h:::1"));
        assert_eq!(extra_host("h=[::1]").as_deref(), Ok("h:::1"));
        assert_eq!(extra_host("h:host-gateway").as_deref(), Ok("h:host-gateway"));
        assert_eq!(extra_host("h").unwrap_err(), "bad format for add-host: \"h\"");
        assert_eq!(extra_host("h:nope").unwrap_err(), "invalid IP address in add-host: \"nope\"");
    }

    #[test]
    fn labels_links_and_domains() {
        assert!(label("a b=c").is_err());
        assert_eq!(label("=x").unwrap_err(), "invalid label '=x': empty name");
        assert_eq!(link("one"), Ok(("one".into(), "one".into())));
        assert_eq!(link("two:alias"), Ok(("two".into(), "alias".into())));
        assert_eq!(link("/two:/me/alias"), Ok(("two".into(), "alias".into())));
        assert_eq!(link("a:b:c").unwrap_err(), "bad format for links: a:b:c");
        assert_eq!(dns_search("example.com.").as_deref(), Ok("example.com"));
        assert_eq!(dns_search("1.2").unwrap_err(), "1.2 is not a valid domain");
        assert_eq!(sysctl("net.ipv4.ip_forward=1"), Ok(("net.ipv4.ip_forward", "1")));
        assert_eq!(sysctl("vm.swappiness=1").unwrap_err(), "sysctl 'vm.swappiness=1' is not allowed");
        assert_eq!(mac_address("92:d0:c6:0a:29:33"), Ok(()));
        assert_eq!(mac_address("92:d0").unwrap_err(), "92:d0 is not a valid mac address");
    }
}
