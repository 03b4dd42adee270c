//! Paths as text, resolved without a look at any file system.

/// Go's `path.Clean`: no `.`, no doubled or trailing slash, `..` resolved lexically; the empty path is `.`.
#[must_use]
pub fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => drop(parts.pop()),
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// The same below a root: always absolute, and `..` never leads above it.
#[must_use]
pub fn rooted(path: &str) -> String {
    clean(&format!("/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, expected) in [
            ("", "."),
            ("a//b/./c/", "a/b/c"),
            ("/a/../../b/./c", "/b/c"),
            ("a/..", "."),
            ("../a/../..", "../.."),
            ("../x", "../x"),
            ("/..", "/"),
            ("!a/./b", "!a/b"),
            ("a/../..", ".."),
            ("//", "/"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    #[test]
    fn nothing_is_above_the_root() {
        for (path, expected) in [("", "/"), ("../..", "/"), ("a//b/../c/", "/a/c"), ("/../x", "/x")] {
            assert_eq!(rooted(path), expected, "{path}");
        }
    }
}
