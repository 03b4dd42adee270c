//! Filters of images.

use barque_api::Filters;
use barque_engine::image::types::ImageView;
use barque_model::{Error, Result, Timestamp};

/// Keys of `GET /images/json`.
pub(crate) const LIST_KEYS: &[&str] = &["before", "dangling", "label", "reference", "since", "until"];

/// Keys of `POST /images/prune`.
pub(crate) const PRUNE_KEYS: &[&str] = &["dangling", "label", "label!", "until"];

/// The filters of a list, checked and ready.
pub(crate) struct ListFilter {
    filters: Filters,
    dangling: Option<bool>,
    until: Option<Timestamp>,
    /// Creation times of the images that `before` and `since` name.
    pub(crate) before: Option<Timestamp>,
    pub(crate) since: Option<Timestamp>,
}

impl ListFilter {
    /// # Errors
    /// Unknown keys and malformed values.
    pub(crate) fn new(filters: Filters, now: Timestamp) -> Result<ListFilter> {
        super::check(&filters, LIST_KEYS)?;
        if !filters.get("reference").all(is_pattern) {
            return Err(Error::invalid("syntax error in pattern"));
        }
        let dangling = super::boolean(&filters, "dangling")?;
        let until = super::until(&filters, now)?;
        Ok(ListFilter { filters, dangling, until, before: None, since: None })
    }

    /// The image as the list shows it: only the names that `reference` matches; `None` if it is left out.
    pub(crate) fn apply(&self, mut view: ImageView) -> Option<ImageView> {
        let created = created(&view);
        let labels = view.config.config.labels.clone().unwrap_or_default();
        let kept = super::labels(&self.filters, &labels)
            && self.dangling.is_none_or(|wanted| view.tags.is_empty() == wanted)
            && self.until.is_none_or(|until| created.is_none_or(|created| created < until))
            && self.before.is_none_or(|before| created.is_some_and(|created| created < before))
            && self.since.is_none_or(|since| created.is_some_and(|created| created > since));
        if !kept {
            return None;
        }
        if self.filters.contains("reference") {
            let matches = |name: &String| self.filters.get("reference").any(|pattern| reference_matches(pattern, name));
            view.tags.retain(matches);
            view.digests.retain(matches);
            if view.tags.is_empty() && view.digests.is_empty() {
                return None;
            }
        }
        Some(view)
    }
}

pub(crate) fn created(view: &ImageView) -> Option<Timestamp> {
    view.config.created.as_deref().and_then(|text| text.parse().ok())
}

/// Docker's match of a name or a pattern against `repo:tag`: whole, or the repository alone.
fn reference_matches(pattern: &str, name: &str) -> bool {
    let repository = match name.split_once('@') {
        Some((repository, _)) => repository,
        None => name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |(repository, _)| repository),
    };
    glob(pattern, name) || glob(pattern, repository)
}

/// Go's `path.Match`: `*` and `?` do not match a slash, `[a-z]` a letter of a class.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    fn go(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                let reach = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
                (0..=reach).any(|skip| go(rest, &text[skip..]))
            }
            (Some((b'?', rest)), Some((byte, tail))) => *byte != b'/' && go(rest, tail),
            (Some((b'[', rest)), Some((byte, tail))) => match class(rest, *byte) {
                Some((true, rest)) => go(rest, tail),
                _ => false,
            },
            (Some((b'\\', rest)), Some((byte, tail))) => {
                rest.split_first().is_some_and(|(wanted, rest)| wanted == byte && go(rest, tail))
            }
            (Some((wanted, rest)), Some((byte, tail))) => wanted == byte && go(rest, tail),
            _ => false,
        }
    }
    // Each star may try every place: more than a few make the work explode.
    pattern.bytes().filter(|b| *b == b'*').count() <= 8 && go(pattern.as_bytes(), text.as_bytes())
}

/// Whether every class of a pattern ends, and every backslash has something to quote.
fn is_pattern(pattern: &str) -> bool {
    let mut bytes = pattern.bytes();
    while let Some(byte) = bytes.next() {
        let whole = match byte {
            b'\\' => bytes.next().is_some(),
            // An empty class has no end: its first byte is a member.
            b'[' => bytes.next().is_some() && bytes.any(|b| b == b']'),
            _ => true,
        };
        if !whole {
            return false;
        }
    }
    true
}

/// Whether a byte is in the class, and the pattern behind it.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let end = pattern.iter().skip(1).position(|b| *b == b']')? + 1;
    let (mut members, rest) = (&pattern[..end], &pattern[end + 1..]);
    let negated = members.first() == Some(&b'^');
    if negated {
        members = &members[1..];
    }
    let mut inside = false;
    while let Some((first, tail)) = members.split_first() {
        match tail {
            [b'-', last, tail @ ..] => {
                inside |= (*first..=*last).contains(&byte);
                members = tail;
            }
            _ => {
                inside |= *first == byte;
                members = tail;
            }
        }
    }
    Some((inside != negated, rest))
}

/// Which images a prune removes, and whether named ones are among them.
///
/// # Errors
/// Unknown keys and malformed values.
pub(crate) fn prune(
    filters: Filters,
    now: Timestamp,
) -> Result<(bool, impl Fn(&ImageView) -> bool + Send + Sync + 'static)> {
    super::check(&filters, PRUNE_KEYS)?;
    let all = super::boolean(&filters, "dangling")? == Some(false);
    let until = super::until(&filters, now)?;
    Ok((all, move |view: &ImageView| {
        let labels = view.config.config.labels.clone().unwrap_or_default();
        super::labels(&filters, &labels)
            && until.is_none_or(|until| created(view).is_none_or(|created| created < until))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_do_not_end_are_refused() {
        for pattern in ["[", "a[b", "a\\", "[]"] {
            assert!(!is_pattern(pattern), "{pattern}");
        }
        for pattern in ["a[bc]*", "a\\[", "*", "[^a-c]x"] {
            assert!(is_pattern(pattern), "{pattern}");
        }
    }

    #[test]
    fn globs() {
        for (pattern, text, wanted) in [
            ("a*", "abc", true),
            ("a*", "a/b", false),
            ("*/*", "a/b", true),
            ("b?sybox", "busybox", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("a[", "a[", false),
            ("", "", true),
        ] {
            assert_eq!(glob(pattern, text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn references() {
        assert!(reference_matches("busybox", "busybox:1"));
        assert!(reference_matches("busybox:1", "busybox:1"));
        assert!(reference_matches("busy*:1", "busybox:1"));
        assert!(reference_matches("localhost:5000/a", "localhost:5000/a:latest"));
        assert!(!reference_matches("busybox:2", "busybox:1"));
        assert!(!reference_matches("box", "busybox:1"));
    }
}
