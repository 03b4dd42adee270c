//! Events.

use barque_api::ApiVersion;
use barque_api::event::{EventActor, EventMessage};
use barque_engine::events::Event;

/// An event as clients of `version` expect it: with the fields of before 1.22 up to 1.51.
pub(crate) fn message(event: &Event, version: ApiVersion) -> EventMessage {
    let mut message = EventMessage {
        kind: event.kind.to_owned(),
        action: event.action.clone(),
        actor: EventActor { id: event.actor.clone(), attributes: event.attributes.clone() },
        scope: "local".into(),
        time: event.time.seconds(),
        time_nano: event.time.nanos(),
        ..EventMessage::default()
    };
    if version.before(52) && matches!(event.kind, "container" | "image") {
        message.status.clone_from(&event.action);
        message.id.clone_from(&event.actor);
        if event.kind == "container" {
            message.from = event.attributes.get("image").cloned().unwrap_or_default();
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use barque_model::Timestamp;

    use super::*;

    #[test]
    fn old_clients_get_old_fields() {
        let event = Event {
            kind: "container",
            action: "start".into(),
            actor: "abc".into(),
            attributes: [("image".to_owned(), "tiny:1".to_owned())].into(),
            time: Timestamp::from_nanos(1_500_000_000),
        };
        let old = message(&event, ApiVersion::new(1, 51));
        assert_eq!((old.status.as_str(), old.id.as_str(), old.from.as_str()), ("start", "abc", "tiny:1"));
        let new = message(&event, ApiVersion::MAX);
        assert_eq!((new.status.as_str(), new.time, new.time_nano), ("", 1, 1_500_000_000));
    }
}
