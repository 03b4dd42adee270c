//! Git sources: `https://host/repo.git#ref:subdir`, `git@host:repo`, `git://…`, and their query form.

use barque_model::strconv::parse_bool;

use crate::worker::GitRequest;

/// A git source as written in `ADD` or given as a build context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRef {
    /// Without fragment and query.
    pub remote: String,
    /// The repository's name without `.git`.
    pub name: String,
    /// Branch, tag or commit.
    pub reference: Option<String>,
    pub subdir: String,
    /// Full commit id the reference must have.
    pub checksum: Option<String>,
    pub keep_git_dir: Option<bool>,
    pub submodules: Option<bool>,
    /// `github.com/owner/repo`: means git only as a build context.
    pub looks_local: bool,
}

impl GitRef {
    /// `None` if `text` is no git source; an error if it is one but badly written.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        if text.starts_with("./") || text.starts_with("../") {
            return None;
        }
        if text.starts_with("github.com/") {
            return Some(Self::build(&format!("https://{text}")).map(|mut git| {
                git.remote = git.remote.trim_start_matches("https://").to_owned();
                git.looks_local = true;
                git
            }));
        }
        let Some((scheme, _)) = text.split_once("://") else {
            return is_scp(text).then(|| Self::build(text));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "git" | "ssh" => Some(Self::build(text)),
            "http" | "https" => {
                let path = text.split(['#', '?']).next().unwrap_or("");
                path.ends_with(".git").then(|| Self::build(text))
            }
            _ => None,
        }
    }

    fn build(text: &str) -> Result<Self, String> {
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (remote, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        let tail = remote.rsplit(['/', ':']).next().unwrap_or("");
        let mut git = GitRef {
            remote: remote.to_owned(),
            name: tail.trim_end_matches(".git").to_owned(),
            reference: Some(reference.to_owned()).filter(|r| !r.is_empty()),
            subdir: barque_model::path::rooted(subdir).trim_start_matches('/').to_owned(),
            checksum: None,
            keep_git_dir: None,
            submodules: None,
            looks_local: false,
        };
        git.query(query)?;
        if git.reference.as_deref().is_some_and(|r| r.starts_with('-')) || git.remote.starts_with('-') {
            return Err("a git reference cannot start with '-'".into());
        }
        Ok(git)
    }

    fn query(&mut self, query: &str) -> Result<(), String> {
        let mut seen = std::collections::BTreeSet::new();
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let (key, value) = (key.as_ref(), value.as_ref());
            if !seen.insert(key.to_owned()) {
                return Err(format!("query {key:?} has multiple values"));
            }
            if value.is_empty() && !matches!(key, "submodules" | "keep-git-dir") {
                return Err(format!("query {key:?} has no value"));
            }
            match key {
                "ref" => self.set_reference(value.to_owned())?,
                "tag" => self.set_reference(prefixed("refs/tags/", value))?,
                "branch" if seen.contains("tag") => return Err("branch conflicts with tag".into()),
                "branch" => self.set_reference(prefixed("refs/heads/", value))?,
                "subdir" if !self.subdir.is_empty() && self.subdir != value => {
                    return Err(format!("subdir conflicts: {:?} vs {value:?}", self.subdir));
                }
                "subdir" => {
                    self.subdir = barque_model::path::rooted(value).trim_start_matches('/').to_owned();
                }
                "checksum" | "commit" => self.checksum = Some(value.to_owned()),
                "keep-git-dir" => self.keep_git_dir = Some(boolean(key, value)?),
                "submodules" => self.submodules = Some(boolean(key, value)?),
                _ => return Err(format!("unexpected query {key:?}")),
            }
        }
        Ok(())
    }

    fn set_reference(&mut self, reference: String) -> Result<(), String> {
        match &self.reference {
            Some(old) if *old != reference => Err(format!("ref conflicts: {old:?} vs {reference:?}")),
            _ => {
                self.reference = Some(reference);
                Ok(())
            }
        }
    }

    /// What the worker is asked for.
    pub fn request(&self) -> GitRequest {
        let scheme = if self.looks_local { "https://" } else { "" };
        GitRequest {
            url: format!("{scheme}{}", self.remote),
            reference: self.reference.clone(),
            subdir: self.subdir.clone(),
            keep_git_dir: self.keep_git_dir.unwrap_or(false),
            submodules: self.submodules.unwrap_or(true),
            checksum: self.checksum.clone(),
        }
    }
}

/// `text` with credentials in addresses made unreadable, for what is shown or stored. A user of `ssh://` is no
/// secret.
pub fn redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\''));
        let authority = &after[..end.unwrap_or(after.len())];
        rest = after;
        if let Some((user, _)) = authority.rsplit_once('@') {
            let name_only = !user.contains(':') && before.to_ascii_lowercase().ends_with("ssh://");
            out.push_str(if name_only { user } else { "xxxxx:xxxxx" });
            rest = &after[user.len()..];
        }
    }
    out.push_str(rest);
    out
}

/// `user@host:path`.
fn is_scp(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    let word =
        |s: &str, extra: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c));
    word(user, "-_.") && word(host, "-_.") && !path.is_empty()
}

fn prefixed(prefix: &str, value: &str) -> String {
    if value.starts_with(prefix) { value.to_owned() } else { format!("{prefix}{value}") }
}

fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "" => Ok(true),
        _ => parse_bool(value).map_err(|_| format!("invalid {key} value: {value:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(text: &str) -> GitRef {
        GitRef::parse(text).unwrap().unwrap()
    }

    #[test]
    fn forms_of_git_sources() {
        let a = git("https://host/foo/bar.git#baz/qux:quux/../quuz");
        assert_eq!((a.remote.as_str(), a.name.as_str()), ("https://host/foo/bar.git", "bar"));
        assert_eq!((a.reference.as_deref(), a.subdir.as_str()), (Some("baz/qux"), "quuz"));
        assert_eq!(git("git@host:foo/bar.git").name, "bar");
        assert_eq!(git("git://host/x#:sub").subdir, "sub");
        assert_eq!(git("ssh://git@host/x.git").request().url, "ssh://git@host/x.git");
        assert!(git("github.com/a/b").looks_local);
        assert_eq!(git("github.com/a/b").request().url, "https://github.com/a/b");
        let q = git("https://h/r.git?tag=v1&subdir=d&keep-git-dir&submodules=false&commit=abc");
        assert_eq!((q.reference.as_deref(), q.subdir.as_str()), (Some("refs/tags/v1"), "d"));
        assert_eq!((q.keep_git_dir, q.submodules, q.checksum.as_deref()), (Some(true), Some(false), Some("abc")));
    }

    #[test]
    fn credentials_are_not_shown() {
        for (text, shown) in [
            ("ADD https://me:word@h/r.git#x /d", "ADD https://xxxxx:xxxxx@h/r.git#x /d"),
            ("https://token@h/a@b", "https://xxxxx:xxxxx@h/a@b"),
            ("https://a:p@ss@h", "https://xxxxx:xxxxx@h"),
            ("ssh://git@h/r https://u:p@h/ end", "ssh://git@h/r https://xxxxx:xxxxx@h/ end"),
            ("ssh://git:word@h/r", "ssh://xxxxx:xxxxx@h/r"),
            ("git@h:r and http://h/x@y", "git@h:r and http://h/x@y"),
            ("://", "://"),
        ] {
            assert_eq!(redacted(text), shown);
        }
    }

    #[test]
    fn other_sources_are_not_git() {
        for text in ["https://host/file.tar.gz", "./a.git", "a/b", "ftp://h/x.git", "a@b", "file@v1.txt"] {
            assert_eq!(GitRef::parse(text), None, "{text}");
        }
    }

    #[test]
    fn bad_queries_are_named() {
        let error = |text: &str| GitRef::parse(text).unwrap().unwrap_err();
        assert_eq!(error("https://h/r.git?x=y"), "unexpected query \"x\"");
        assert_eq!(error("https://h/r.git?ref=a#b"), "ref conflicts: \"b\" vs \"a\"");
        assert_eq!(error("https://h/r.git?tag=a&branch=b"), "branch conflicts with tag");
        assert_eq!(error("https://h/r.git?ref"), "query \"ref\" has no value");
        assert_eq!(error("https://h/r.git#--upload-pack=x"), "a git reference cannot start with '-'");
    }
}
