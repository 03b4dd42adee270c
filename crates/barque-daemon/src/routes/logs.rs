//! `GET /containers/{id}/logs`.

use std::io;

use barque_api::container::LogsQuery;
use barque_api::stdcopy;
use barque_api::time::{parse_unix, rfc3339_fixed};
use barque_engine::container::request::{LogOptions, LogRecord};
use barque_model::{Error, Result, Timestamp};
use bytes::Bytes;
use futures_util::StreamExt;

use super::Context;
use crate::convert::log;
use crate::http::{self, Outcome};
use crate::wording;

pub(super) async fn logs(context: Context, id: String) -> Outcome {
    let Context { state, call } = context;
    let query = call.query(LogsQuery::from_params)?;
    if !query.stdout && !query.stderr {
        return Err(Error::invalid(wording::LOGS_NEED_A_STREAM));
    }
    let view = state.engine.container(&id)?;
    let options = LogOptions {
        stdout: query.stdout,
        stderr: query.stderr,
        follow: query.follow,
        // Docker takes everything that is no number for "all".
        tail: query.tail.parse().ok(),
        since: moment("since", &query.since)?,
        until: moment("until", &query.until)?,
    };
    let tty = view.spec.process.tty;
    let details = query.details.then(|| log::details(&view));
    let records = state.engine.container_logs(&id, options).await?;
    let pieces = records.map(move |record| match record {
        Ok(record) => Ok(Bytes::from(piece(&record, query.timestamps, details.as_deref(), tty))),
        Err(error) => Err(io::Error::other(error)),
    });
    let kind = match !tty && call.version.at_least(42) {
        true => stdcopy::MULTIPLEXED,
        false => stdcopy::RAW,
    };
    Ok(http::stream(kind, pieces))
}

/// `since` and `until` of a query.
pub(super) fn moment(name: &str, text: &str) -> Result<Option<Timestamp>> {
    let parsed = parse_unix(text).map_err(|why| Error::invalid(format!("invalid value for \"{name}\": {why}")))?;
    Ok(parsed.map(|(seconds, nanoseconds)| {
        Timestamp::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(nanoseconds)))
    }))
}

/// One record on the wire.
fn piece(record: &LogRecord, timestamps: bool, details: Option<&str>, tty: bool) -> Vec<u8> {
    let mut line = Vec::with_capacity(record.line.len() + 48);
    if timestamps {
        let nanoseconds = u32::try_from(record.time.nanos().rem_euclid(1_000_000_000)).unwrap_or(0);
        line.extend_from_slice(rfc3339_fixed(record.time.seconds(), nanoseconds).as_bytes());
        line.push(b' ');
    }
    if let Some(details) = details {
        line.extend_from_slice(details.as_bytes());
        line.push(b' ');
    }
    line.extend_from_slice(&record.line);
    if tty {
        return line;
    }
    let stream = if record.stderr { stdcopy::Stream::Stderr } else { stdcopy::Stream::Stdout };
    let mut framed = Vec::with_capacity(line.len() + stdcopy::HEADER);
    stdcopy::encode(stream, &line, &mut framed);
    framed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let record = LogRecord { time: Timestamp::from_nanos(5), stderr: true, line: Bytes::from_static(b"x\n") };
        assert_eq!(piece(&record, false, None, true), b"x\n");
        let framed = piece(&record, true, Some("a=1"), false);
        assert_eq!(&framed[..8], &[2, 0, 0, 0, 0, 0, 0, 37]);
        assert_eq!(&framed[8..], b"1970-01-01T00:00:00.000000005Z a=1 x\n");
    }

    #[test]
    fn moments() {
        assert_eq!(moment("since", "").unwrap(), None);
        assert_eq!(moment("since", "1.5").unwrap(), Some(Timestamp::from_nanos(1_500_000_000)));
        assert!(moment("until", "10m").unwrap_err().to_string().starts_with("invalid value for \"until\": "));
    }
}
