//! Tags, repositories and referrers (distribution-spec 1.1, "Content discovery"), and the search of Docker's index.

use barque_model::Digest;
use http::StatusCode;
use http::header::{CONTENT_TYPE, LINK};

use super::app::{App, block};
use super::respond::{OCI_FILTERS_APPLIED, Problem, Reply, json, set};
use super::route::query as parameter;
use super::storage::Name;
use crate::wire::code;
use crate::{Index, media};

/// Entries of a page when the client does not say how many.
const PAGE_DEFAULT: usize = 10_000;

/// Results of a search: when the client does not say how many, and at most.
const FOUND_DEFAULT: usize = 25;
const FOUND_MAX: usize = 100;

/// The part of a sorted list a client wants.
struct Page<T> {
    entries: Vec<T>,
    /// `Link` header when there is more.
    next: Option<String>,
}

impl App {
    pub(super) async fn tags(&self, name: Name, query: Option<&str>) -> Result<Reply, Problem> {
        let (storage, wanted) = (self.storage.clone(), name.clone());
        let tags =
            block(move || if storage.knows(&wanted) { storage.tags(&wanted).map(Some) } else { Ok(None) }).await?;
        let tags = match (tags, &self.mirror) {
            (_, Some(mirror)) => mirror.tags(&name).await?,
            (Some(tags), None) => tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
            (None, None) => return Err(Problem::name_unknown()),
        };
        let page = page(tags, query, &format!("/v2/{}/tags/list", name.as_str()), String::as_str)?;
        let document = serde_json::json!({ "name": name.as_str(), "tags": page.entries });
        Ok(paged(document, page.next))
    }

    pub(super) async fn catalog(&self, query: Option<&str>) -> Result<Reply, Problem> {
        let storage = self.storage.clone();
        let names = block(move || storage.repositories()).await?;
        let page = page(names, query, "/v2/_catalog", Name::as_str)?;
        let names: Vec<&str> = page.entries.iter().map(Name::as_str).collect();
        Ok(paged(serde_json::json!({ "repositories": names }), page.next))
    }

    /// Repositories whose name contains the words (`q`), those that begin with them first.
    pub(super) async fn search(&self, query: Option<&str>) -> Result<Reply, Problem> {
        let words = parameter(query, "q").unwrap_or_default();
        let count = parameter(query, "n").and_then(|n| n.parse().ok()).unwrap_or(FOUND_DEFAULT).min(FOUND_MAX);
        let storage = self.storage.clone();
        let names = block(move || storage.repositories()).await?;
        let wanted = words.to_lowercase();
        let mut found: Vec<&str> = names.iter().map(Name::as_str).filter(|name| name.contains(&wanted)).collect();
        found.sort_by_key(|name| !name.starts_with(&wanted));
        found.truncate(count);
        let result = |name: &&str| {
            serde_json::json!({
                "name": name, "description": "", "star_count": 0, "is_official": false, "is_automated": false,
            })
        };
        let results: Vec<_> = found.iter().map(result).collect();
        let document = serde_json::json!({ "query": words, "num_results": results.len(), "results": results });
        Ok(json(StatusCode::OK, document.to_string()))
    }

    pub(super) async fn referrers(&self, name: Name, subject: Digest, query: Option<&str>) -> Result<Reply, Problem> {
        let wanted = parameter(query, "artifactType").filter(|wanted| !wanted.is_empty());
        let storage = self.storage.clone();
        let mut found = match &self.mirror {
            Some(mirror) => mirror.referrers(&name, subject).await?,
            None => block(move || storage.referrers(&name, subject)).await?,
        };
        if let Some(wanted) = &wanted {
            found.retain(|entry| entry.artifact_type.as_ref() == Some(wanted));
        }
        let index = Index { manifests: found, ..Index::empty() };
        let text = serde_json::to_vec(&index).map_err(|error| Problem::from(std::io::Error::other(error)))?;
        let mut reply = json(StatusCode::OK, text);
        set(&mut reply, CONTENT_TYPE, media::OCI_INDEX);
        if wanted.is_some() {
            set(&mut reply, OCI_FILTERS_APPLIED, "artifactType");
        }
        Ok(reply)
    }
}

fn paged(document: serde_json::Value, next: Option<String>) -> Reply {
    let mut reply = json(StatusCode::OK, document.to_string());
    if let Some(next) = next {
        set(&mut reply, LINK, &next);
    }
    reply
}

/// Cuts a sorted list by the parameters `n` and `last`.
fn page<T>(mut all: Vec<T>, query: Option<&str>, path: &str, text: impl Fn(&T) -> &str) -> Result<Page<T>, Problem> {
    let count = match parameter(query, "n") {
        None => PAGE_DEFAULT,
        Some(count) => count.parse::<usize>().map_err(|_| {
            let message = format!("invalid number of results requested: {}", crate::wire::printable(&count));
            Problem::new(StatusCode::BAD_REQUEST, code::PAGINATION_NUMBER_INVALID, message)
        })?,
    };
    if let Some(last) = parameter(query, "last") {
        all.retain(|entry| text(entry) > last.as_str());
    }
    let more = all.len() > count;
    all.truncate(count);
    let next = all.last().filter(|_| more).map(|last| {
        let prefix = format!("{path}?");
        let start = prefix.len();
        let mut target = url::form_urlencoded::Serializer::for_suffix(prefix, start);
        target.append_pair("last", text(last)).append_pair("n", &count.to_string());
        format!("<{}>; rel=\"next\"", target.finish())
    });
    Ok(Page { entries: all, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(query: &str) -> (Vec<&'static str>, Option<String>) {
        let page = page(vec!["a", "b", "c"], Some(query), "/p", |entry| entry).unwrap();
        (page.entries, page.next)
    }

    #[test]
    fn pages() {
        assert_eq!(cut(""), (vec!["a", "b", "c"], None));
        assert_eq!(cut("n=2"), (vec!["a", "b"], Some("</p?last=b&n=2>; rel=\"next\"".into())));
        assert_eq!(cut("n=2&last=b"), (vec!["c"], None));
        assert_eq!(cut("n=3"), (vec!["a", "b", "c"], None));
        assert_eq!(cut("n=0"), (vec![], None));
        assert_eq!(cut("last=aa"), (vec!["b", "c"], None));
        assert!(page(vec!["a"], Some("n=-1"), "/p", |entry| entry).is_err());
    }
}
