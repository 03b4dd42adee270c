//! Filters of events.

use barque_api::Filters;
use barque_engine::events::Event;

/// Unknown keys are passed over, as in Docker.
pub(crate) fn events(filters: Filters) -> impl Fn(&Event) -> bool + Send {
    move |event: &Event| {
        let any = |key: &str, test: &dyn Fn(&str) -> bool| !filters.contains(key) || filters.get(key).any(test);
        any("event", &|wanted| action_matches(&event.action, wanted))
            && any("type", &|wanted| wanted == event.kind)
            && any("scope", &|wanted| wanted == "local")
            && super::labels(&filters, &event.attributes)
            && ["container", "daemon", "network", "plugin", "volume"]
                .into_iter()
                .all(|key| any(key, &|wanted| event.kind == key && names(event, wanted)))
            && any("image", &|wanted| image_matches(event, wanted))
            && ["config", "node", "secret", "service"].into_iter().all(|key| !filters.contains(key))
    }
}

/// `exec_create` stands for `exec_create: ls`, `health_status` for `health_status: healthy`.
fn action_matches(action: &str, wanted: &str) -> bool {
    action == wanted || action.strip_prefix(wanted).is_some_and(|rest| rest.starts_with(':'))
}

/// By id, its beginning, or name.
fn names(event: &Event, wanted: &str) -> bool {
    let name = event.attributes.get("name").map(|name| name.trim_start_matches('/'));
    event.actor == wanted || name == Some(wanted) || (!wanted.is_empty() && event.actor.starts_with(wanted))
}

/// Events of an image, and of containers made from it; with or without the tag.
fn image_matches(event: &Event, wanted: &str) -> bool {
    let without_tag = |name: &str| match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository.to_owned(),
        _ => name.to_owned(),
    };
    let name = match event.kind {
        "image" => event.attributes.get("name"),
        "container" => event.attributes.get("image"),
        _ => return false,
    };
    let actor = event.kind == "image" && event.actor == wanted;
    actor || name.is_some_and(|name| name == wanted || without_tag(name) == wanted)
}

#[cfg(test)]
mod tests {
    use barque_model::Timestamp;

    use super::*;

    fn event(kind: &'static str, action: &str) -> Event {
        let attributes = [("name", "web"), ("image", "tiny:1"), ("x", "y")];
        Event {
            kind,
            action: action.into(),
            actor: "abcdef".into(),
            attributes: attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            time: Timestamp::from_secs(1),
        }
    }

    #[test]
    fn by_every_key() {
        let matches = |key: &str, value: &str, event: &Event| events(Filters::new().with(key, value))(event);
        let exec = event("container", "exec_create: ls");
        for (key, value) in [
            ("event", "exec_create"),
            ("event", "exec_create: ls"),
            ("type", "container"),
            ("container", "web"),
            ("container", "abc"),
            ("image", "tiny"),
            ("image", "tiny:1"),
            ("label", "x=y"),
            ("scope", "local"),
        ] {
            assert!(matches(key, value, &exec), "{key}={value}");
        }
        for (key, value) in [
            ("event", "exec"),
            ("type", "image"),
            ("container", "other"),
            ("image", "tin"),
            ("label", "x=z"),
            ("network", "web"),
            ("service", "web"),
        ] {
            assert!(!matches(key, value, &exec), "{key}={value}");
        }
        assert!(matches("foo", "x", &exec));
    }
}
