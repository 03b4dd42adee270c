//! `--device` and `--device-cgroup-rule`.

use barque_api::container::DeviceMapping;

/// `HOST[:CONTAINER][:PERMISSIONS]`.
pub(crate) fn parse(text: &str) -> Result<DeviceMapping, String> {
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 || parts[0].is_empty() {
        return Err(format!("bad format for path: {text}"));
    }
    let host = parts[0];
    let (container, mode) = match parts[..] {
        [_] => (host, "rwm"),
        [_, mode] if is_mode(mode) => (host, mode),
        [_, container] => (container, "rwm"),
        [_, container, mode] if is_mode(mode) => (container, mode),
        _ => return Err(format!("bad mode specified: {}", parts[2])),
    };
    if !container.starts_with('/') {
        return Err(format!("{container} is not an absolute path"));
    }
    Ok(DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: container.to_owned(),
        cgroup_permissions: mode.to_owned(),
    })
}

/// A name of the Container Device Interface, `vendor.com/class=name`.
pub(crate) fn is_cdi(text: &str) -> bool {
    let Some((kind, name)) = text.split_once('=') else { return false };
    let Some((vendor, class)) = kind.split_once('/') else { return false };
    let word = |s: &str, extra: &[u8]| {
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = s.as_bytes();
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || extra.contains(b))
    };
    word(vendor, b"_-.") && word(class, b"_-.") && word(name, b"_-.:")
}

/// Letters of `rwm`, each at most once.
fn is_mode(text: &str) -> bool {
    let once = |c: char| text.matches(c).count() <= 1;
    !text.is_empty() && text.chars().all(|c| "rwm".contains(c) && once(c))
}

/// `TYPE MAJOR:MINOR MODE`.
pub(crate) fn cgroup_rule(text: &str) -> Result<&str, String> {
    let number = |s: &str| s == "*" || (!s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()));
    let valid = match text.split(' ').collect::<Vec<_>>()[..] {
        [kind, numbers, mode] => {
            ["a", "b", "c"].contains(&kind)
                && numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
                && (1..=3).contains(&mode.len())
                && mode.chars().all(|c| "rwm".contains(c))
        }
        _ => false,
    };
    if valid { Ok(text) } else { Err(format!("invalid device cgroup format '{text}'")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(text: &str) -> String {
        let d = parse(text).expect(text);
        format!("{} {} {}", d.path_on_host, d.path_in_container, d.cgroup_permissions)
    }

    #[test]
    fn devices() {
        assert_eq!(flat("/dev/fuse"), "/dev/fuse /dev/fuse rwm");
        assert_eq!(flat("/dev/fuse:r"), "/dev/fuse /dev/fuse r");
        assert_eq!(flat("/dev/fuse:/dev/x"), "/dev/fuse /dev/x rwm");
        assert_eq!(flat("/dev/fuse:/dev/x:rw"), "/dev/fuse /dev/x rw");
        assert_eq!(parse("/dev/a:/dev/b:xyz").unwrap_err(), "bad mode specified: xyz");
        assert_eq!(parse("dev").unwrap_err(), "dev is not an absolute path");
        assert_eq!(parse(":/x").unwrap_err(), "bad format for path: :/x");
        assert!(is_cdi("nvidia.com/gpu=0"));
        assert!(!is_cdi("/dev/x=y"));
    }

    #[test]
    fn rules() {
        assert!(cgroup_rule("c 1:3 mr").is_ok());
        assert!(cgroup_rule("a 7:* rmw").is_ok());
        assert_eq!(cgroup_rule("c 1 r").unwrap_err(), "invalid device cgroup format 'c 1 r'");
    }
}
