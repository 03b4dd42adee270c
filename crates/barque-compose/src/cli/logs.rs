//! `logs`, and the lines with `service-1  | ` before them.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use barque_api::container::LogsQuery;
use barque_api::stdcopy::Decoder;
use barque_client::ByteStream;
use bytes::BytesMut;
use futures_util::future::try_join_all;
use unicode_width::UnicodeWidthStr;

use super::args::Logs;
use super::context::{Context, Failure, Outcome};
use super::session::Session;
use crate::apply::engine::Reader;
use crate::plan::observed::Container;

/// The colours of Docker Compose, in its order.
const COLOURS: [&str; 10] = ["36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1"];

/// Prints lines with their origin before them, aligned.
#[derive(Clone, Debug)]
pub(super) struct Printer(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    names: Vec<String>,
    width: usize,
    colour: bool,
    prefix: bool,
    printed: usize,
}

impl Inner {
    /// The colour of a name, which is remembered: the column grows with the longest.
    fn colour_of(&mut self, name: &str) -> &'static str {
        let index = self.names.iter().position(|n| n == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.width = self.width.max(name.width());
            self.names.len() - 1
        });
        COLOURS[index % COLOURS.len()]
    }

    fn paint(&self, text: &str, colour: &str) -> String {
        if self.colour { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// One line with its origin before it and a line break after it.
    fn render(&mut self, name: &str, line: &[u8]) -> Vec<u8> {
        let colour = self.colour_of(name);
        let mut out = Vec::with_capacity(line.len() + self.width + 16);
        if self.prefix {
            let gap = " ".repeat(self.width.saturating_sub(name.width()));
            out.extend_from_slice(self.paint(&format!("{name}{gap}  | "), colour).as_bytes());
        }
        out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        out.push(b'\n');
        self.printed += 1;
        out
    }
}

impl Printer {
    /// A printer that knows these names from the start.
    pub(super) fn new(names: impl IntoIterator<Item = String>, colour: bool, prefix: bool) -> Printer {
        let names: Vec<String> = names.into_iter().collect();
        let width = names.iter().map(|n| n.width()).max().unwrap_or(0);
        Printer(Arc::new(Mutex::new(Inner { names, width, colour, prefix, printed: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints one line, without its line break.
    pub(super) fn line(&self, name: &str, line: &[u8], to_stderr: bool) {
        // held while printing, so that lines do not mix
        let mut inner = self.lock();
        let out = inner.render(name, line);
        // a reader that went away is no reason to fail
        let _ = if to_stderr {
            std::io::stderr().lock().write_all(&out)
        } else {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&out).and_then(|()| stdout.flush())
        };
    }

    /// Prints what happened to a container: `web-1 exited with code 0`.
    pub(super) fn status(&self, name: &str, what: &str) {
        let mut inner = self.lock();
        let colour = inner.colour_of(name);
        let text = inner.paint(&format!("{name} {what}"), colour) + "\n";
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }

    /// How many lines were printed so far.
    pub(super) fn printed(&self) -> usize {
        self.lock().printed
    }
}

/// Splits what a container writes into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    decoder: Option<Decoder>,
    pending: [BytesMut; 2],
}

impl Lines {
    /// `raw`: the container has a terminal, so what it writes has no frames.
    pub(super) fn new(raw: bool) -> Lines {
        Lines { decoder: (!raw).then(Decoder::new), pending: [BytesMut::new(), BytesMut::new()] }
    }

    /// Takes in what was read and returns the lines that are complete, with true for stderr.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<(bool, Vec<u8>)> {
        let mut out = Vec::new();
        match &mut self.decoder {
            None => {
                self.pending[0].extend_from_slice(bytes);
                take_lines(&mut self.pending[0], false, &mut out);
            }
            Some(decoder) => {
                decoder.push(bytes);
                while let Ok(Some((stream, piece))) = decoder.next_piece() {
                    let err = matches!(stream, barque_api::stdcopy::Stream::Stderr);
                    let pending = &mut self.pending[usize::from(err)];
                    pending.extend_from_slice(&piece);
                    take_lines(pending, err, &mut out);
                }
            }
        }
        out
    }

    /// What is left without a line break at the end.
    pub(super) fn finish(&mut self) -> Vec<(bool, Vec<u8>)> {
        let rest = self.pending.iter_mut().enumerate().filter(|(_, p)| !p.is_empty());
        rest.map(|(i, p)| (i == 1, p.split().to_vec())).collect()
    }
}

fn take_lines(pending: &mut BytesMut, err: bool, out: &mut Vec<(bool, Vec<u8>)>) {
    while let Some(at) = pending.iter().position(|b| *b == b'\n') {
        let mut line = pending.split_to(at + 1);
        line.truncate(at);
        out.push((err, line.to_vec()));
    }
}

/// Copies a container's log to the printer until it ends.
pub(super) async fn follow(
    reader: &Reader,
    id: &str,
    name: &str,
    query: &LogsQuery,
    printer: &Printer,
) -> Result<(), Failure> {
    let raw = reader.inspect(id).await?.config.tty;
    let mut stream = reader.client().container_logs(id, query).await?;
    let mut lines = Lines::new(raw);
    while let Some(piece) = stream.next().await? {
        for (_, line) in lines.push(&piece) {
            printer.line(name, &line, false);
        }
    }
    for (_, line) in lines.finish() {
        printer.line(name, &line, false);
    }
    Ok(())
}

/// Runs `logs`.
pub(super) async fn logs(cx: &Context, args: Logs) -> Outcome {
    if args.tail != "all" && args.tail.parse::<i64>().is_err() {
        return Err(Failure::new(format!("invalid --tail {:?}", args.tail)).with_hint("give a number of lines, or all"));
    }
    let session = Session::open(cx, "Running").await?;
    // heard before the list is made, so that nothing falls between
    let events = if args.follow { Some(super::logs_follow::listen(&session).await?) } else { None };
    let mut found = session.containers(&args.services, true, false).await?;
    found.retain(|c| is_shown(&session, &args, c));
    let colour = cx.colour() && !args.no_color;
    let printer = Printer::new(found.iter().map(Container::log_name), colour, !args.no_log_prefix);
    let query = LogsQuery {
        follow: args.follow,
        stdout: true,
        stderr: true,
        since: moment(args.since.as_deref())?,
        until: moment(args.until.as_deref())?,
        timestamps: args.timestamps,
        tail: args.tail.clone(),
        ..LogsQuery::default()
    };
    let Some(events) = events else { return merged(&session, &found, query, &printer).await };
    let shown = |c: &Container| is_shown(&session, &args, c);
    tokio::select! {
        result = super::logs_follow::all(&session, events, found, &query, (&printer, &shown)) => result.map(|()| 0),
        _ = tokio::signal::ctrl_c() => Ok(130),
    }
}

/// Whether the flags ask for a container's log.
fn is_shown(session: &Session, args: &Logs, container: &Container) -> bool {
    let service = session.project.as_ref().and_then(|p| p.services.get(&container.service));
    // services that say so keep their logs to themselves, unless they are named
    let named = args.services.contains(&container.service);
    let unnamed = args.services.is_empty() && service.is_none_or(|s| s.spec.attach != Some(false));
    !container.oneoff && (named || unnamed) && (args.index == 0 || container.number == args.index)
}

/// `42m`, a time, or seconds since 1970 → what the API takes.
pub(super) fn moment(text: Option<&str>) -> Result<String, Failure> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(String::new()) };
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Ok(text.to_owned());
    }
    let render = |t: jiff::Timestamp| format!("{}.{:09}", t.as_second(), t.subsec_nanosecond());
    if let Ok(nanos) = crate::file::units::duration(text) {
        let ago = jiff::SignedDuration::from_nanos(nanos);
        return jiff::Timestamp::now()
            .checked_sub(ago)
            .map(render)
            .map_err(|_| Failure::new(format!("invalid time: {text}")));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(render(time));
    }
    let zoned = text
        .parse::<jiff::civil::DateTime>()
        .or_else(|_| text.parse::<jiff::civil::Date>().map(|d| d.at(0, 0, 0, 0)))
        .and_then(|d| d.to_zoned(jiff::tz::TimeZone::system()));
    zoned.map(|z| render(z.timestamp())).map_err(|_| {
        Failure::new(format!("invalid time: {text}")).with_hint("write 42m, 2013-01-02T13:23:37Z or seconds since 1970")
    })
}

/// A log read line by line, one line ahead.
struct Source {
    name: String,
    stream: ByteStream,
    lines: Lines,
    ready: std::collections::VecDeque<Vec<u8>>,
    ended: bool,
}

impl Source {
    async fn fill(&mut self) -> Result<(), Failure> {
        while self.ready.is_empty() && !self.ended {
            match self.stream.next().await? {
                Some(piece) => self.ready.extend(self.lines.push(&piece).into_iter().map(|(_, l)| l)),
                None => {
                    self.ended = true;
                    self.ready.extend(self.lines.finish().into_iter().map(|(_, l)| l));
                }
            }
        }
        Ok(())
    }
}

/// Prints logs that are not followed, merged by time.
async fn merged(session: &Session, found: &[Container], query: LogsQuery, printer: &Printer) -> Outcome {
    let shown = query.timestamps;
    let query = LogsQuery { timestamps: true, ..query };
    let reader = session.engine.read();
    let opened = try_join_all(found.iter().map(|c| {
        let query = &query;
        async move {
            let raw = reader.inspect(&c.id).await?.config.tty;
            let stream = reader.client().container_logs(&c.id, query).await?;
            let (lines, ready) = (Lines::new(raw), std::collections::VecDeque::new());
            Ok::<_, Failure>(Source { name: c.log_name(), stream, lines, ready, ended: false })
        }
    }))
    .await?;
    let mut sources: BTreeMap<usize, Source> = opened.into_iter().enumerate().collect();
    loop {
        for source in sources.values_mut() {
            source.fill().await?;
        }
        sources.retain(|_, s| !s.ready.is_empty());
        let stamp = |s: &Source| s.ready.front().map(|l| time_of(l).to_vec()).unwrap_or_default();
        let Some(next) = sources.iter().min_by_key(|(i, s)| (stamp(s), **i)).map(|(i, _)| *i) else { return Ok(0) };
        let Some(source) = sources.get_mut(&next) else { return Ok(0) };
        let Some(line) = source.ready.pop_front() else { continue };
        let text = if shown { &line[..] } else { line.get(time_of(&line).len() + 1..).unwrap_or_default() };
        printer.line(&source.name, text, false);
    }
}

/// The time a line starts with.
fn time_of(line: &[u8]) -> &[u8] {
    line.split(|b| *b == b' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_line_up_and_the_column_grows_as_they_come() {
        let printer = Printer::new(["web-1".to_owned(), "db-1".to_owned()], false, true);
        let line = |name: &str, text: &str| String::from_utf8(printer.lock().render(name, text.as_bytes())).unwrap();
        assert_eq!(line("db-1", "x"), "db-1   | x\n");
        assert_eq!(line("web-1", ""), "web-1  | \n");
        assert_eq!(line("worker-10", "made later\r"), "worker-10  | made later\n");
        assert_eq!(line("db-1", "x"), "db-1       | x\n");
        assert_eq!(printer.printed(), 4);
        let bare = Printer::new(["db-1".to_owned()], true, false);
        assert_eq!(bare.lock().render("db-1", b"as it is"), b"as it is\n");
    }

    #[test]
    fn each_container_has_its_colour() {
        let printer = Printer::new(["a".to_owned(), "b".to_owned()], true, true);
        let colour = |name: &str| {
            let text = String::from_utf8(printer.lock().render(name, b"x")).unwrap();
            assert!(text.ends_with("\u{1b}[0mx\n"), "what it wrote has its own: {text:?}");
            text.split_once('m').unwrap().0.to_owned()
        };
        assert_eq!((colour("a"), colour("b")), ("\u{1b}[36".to_owned(), "\u{1b}[33".to_owned()));
        let others: Vec<String> = (0..COLOURS.len()).map(|i| colour(&i.to_string())).collect();
        assert_eq!(others[COLOURS.len() - 2], colour("a"), "after the last comes the first");
        assert_eq!(colour("b"), "\u{1b}[33", "it keeps it");
    }

    #[test]
    fn lines_are_put_together() {
        let mut lines = Lines::new(true);
        assert_eq!(lines.push(b"one\ntw"), [(false, b"one".to_vec())]);
        assert_eq!(lines.push(b"o\n"), [(false, b"two".to_vec())]);
        assert!(lines.push(b"rest").is_empty());
        assert_eq!(lines.finish(), [(false, b"rest".to_vec())]);
    }

    #[test]
    fn frames_are_told_apart() {
        let mut wire = Vec::new();
        barque_api::stdcopy::encode(barque_api::stdcopy::Stream::Stdout, b"out\n", &mut wire);
        barque_api::stdcopy::encode(barque_api::stdcopy::Stream::Stderr, b"err\n", &mut wire);
        let mut lines = Lines::new(false);
        assert_eq!(lines.push(&wire), [(false, b"out".to_vec()), (true, b"err".to_vec())]);
    }

    #[test]
    fn moments() {
        assert_eq!(moment(Some("1136073845")).unwrap(), "1136073845");
        assert_eq!(moment(Some("2006-01-02T15:04:05Z")).unwrap(), "1136214245.000000000");
        assert!(moment(Some("1h30m")).unwrap().contains('.'));
        assert!(moment(Some("soon")).is_err());
    }
}
