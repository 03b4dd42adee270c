//! `events`.

use barque_api::event::{EventMessage, EventsQuery};
use barque_template::{Missing, Template, typed, typed_as};

use crate::cli::Invocation;
use crate::error::{CliResult, Failure};
use crate::opts::filter;
use crate::when;

pub(crate) async fn events(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    let template = parse(flags.text("format"))?;
    let query = EventsQuery {
        since: when::timestamp(flags.text("since"), "")?,
        until: when::timestamp(flags.text("until"), "")?,
        filters: filter::collect(flags.all("filter")),
    };
    let mut stream = inv.client().await?.events(&query).await?;
    while let Some(event) = stream.next().await? {
        let line = match &template {
            None => plain(&event),
            Some(template) => template.execute(&typed(&event), Missing::NoValue).map_err(Failure::new)?,
        };
        inv.cli.line(&line)?;
    }
    Ok(0)
}

/// The template, tried on an event without content so that a bad one is found at once.
fn parse(format: &str) -> CliResult<Option<Template>> {
    let text = match format {
        "" => return Ok(None),
        "json" => "{{json .}}",
        text => text,
    };
    let fault = |e: String| Failure::new(format!("Error parsing format: {e}")).code(64);
    let template = Template::parse(text).map_err(fault)?;
    template.execute(&typed_as(&EventMessage::default(), "*events.Message"), Missing::NoValue).map_err(fault)?;
    Ok(Some(template))
}

/// `2026-11-22T03:33:29.342105496Z container start ID (image=x, name=y)`.
fn plain(event: &EventMessage) -> String {
    let nanos = match event.time_nano {
        0 => event.time.saturating_mul(1_000_000_000),
        nanos => nanos,
    };
    let mut line = String::new();
    if nanos != 0 {
        line.push_str(&time(nanos));
        line.push(' ');
    }
    line.push_str(&format!("{} {} {}", event.kind, event.action, event.actor.id));
    if !event.actor.attributes.is_empty() {
        let pairs: Vec<String> = event.actor.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
        line.push_str(&format!(" ({})", pairs.join(", ")));
    }
    line
}

/// RFC 3339 in the zone of this machine, always with nine decimals.
fn time(nanos: i64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default();
    let zoned = time.to_zoned(jiff::tz::TimeZone::system());
    let text = zoned.strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string();
    text.strip_suffix("+00:00").map(|t| format!("{t}Z")).unwrap_or(text)
}
