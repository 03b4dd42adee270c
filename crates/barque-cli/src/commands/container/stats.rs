//! `stats`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use barque_api::Filters;
use barque_api::container::{ContainerListQuery, StatsQuery};
use barque_api::event::EventsQuery;
use barque_client::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cli::Invocation;
use crate::commands::Faults;
use crate::error::{CliResult, Failure};
use crate::output::listing;
use crate::output::rows::stats::{self, Entry, sample};

/// How often the table is drawn anew.
const REFRESH: Duration = Duration::from_millis(500);

pub(crate) async fn stats(inv: &Invocation<'_>) -> CliResult<u8> {
    let client = inv.client().await?;
    let flags = &inv.flags;
    let once = flags.is("no-stream");
    let board = Board::default();
    if inv.operands.is_empty() {
        for id in listed(client, flags.is("all")).await? {
            board.add(client, &id, once);
        }
    } else {
        for name in &inv.operands {
            // A name that is wrong is an error at once.
            let container = client.container_inspect(name, false).await?;
            board.add(client, name, once);
            board.identify(name, &container.id, container.name.trim_start_matches('/'));
        }
    }
    let follow = (inv.operands.is_empty() && !once).then(|| follow(client.clone(), board.clone(), flags.is("all")));
    board.first_samples(once).await;
    let format = match listing::choose(flags.text("format"), Some(inv.cli.config().text("statsFormat")), false) {
        "table" => stats::TABLE.to_owned(),
        other => other.to_owned(),
    };
    let result = draw(inv, &board, &format, once).await;
    if let Some(follow) = follow {
        follow.abort();
    }
    result
}

async fn listed(client: &Client, all: bool) -> CliResult<Vec<String>> {
    let query = ContainerListQuery { all, ..ContainerListQuery::default() };
    Ok(client.container_list(&query).await?.into_iter().map(|c| c.id).collect())
}

async fn draw(inv: &Invocation<'_>, board: &Board, format: &str, once: bool) -> CliResult<u8> {
    let trunc = !inv.flags.is("no-trunc");
    if !once {
        inv.cli.out("\x1b[2J")?;
    }
    loop {
        let rows: Vec<_> = board.entries().iter().map(|entry| stats::row(entry, trunc)).collect();
        let text = listing::render(format, stats::TITLES, &rows)?;
        if once {
            inv.cli.out(&text)?;
            return board.faults();
        }
        let mut screen = String::from("\x1b[H");
        for line in text.split('\n') {
            // What stood there before may have been longer.
            screen.push_str(line);
            screen.push_str(" \x1b[K\n");
        }
        screen.push_str("\x1b[J");
        inv.cli.out(&screen)?;
        if !inv.operands.is_empty() && board.is_over() {
            return board.faults();
        }
        tokio::time::sleep(REFRESH).await;
    }
}

/// Adds containers that start and drops those that end.
fn follow(client: Client, board: Board, all: bool) -> JoinHandle<()> {
    tokio::spawn(async move {
        let query = EventsQuery { filters: Filters::new().with("type", "container"), ..EventsQuery::default() };
        let Ok(mut events) = client.events(&query).await else { return };
        while let Ok(Some(event)) = events.next().await {
            let id = &event.actor.id;
            match event.action.as_str() {
                "start" => board.add(&client, id, false),
                "create" if all => board.add(&client, id, false),
                "die" if !all => board.drop(id),
                "destroy" => board.drop(id),
                _ => {}
            }
        }
    })
}

/// The lines of the table, filled by a task each.
#[derive(Clone, Default)]
struct Board(Arc<Mutex<Vec<Line>>>);

struct Line {
    entry: Entry,
    fault: Option<String>,
    /// True once there is a sample, an error or an end.
    settled: watch::Receiver<bool>,
    over: bool,
    task: JoinHandle<()>,
}

impl Board {
    fn lines<T>(&self, work: impl FnOnce(&mut Vec<Line>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, client: &Client, name: &str, once: bool) {
        if self.lines(|lines| lines.iter().any(|l| l.entry.container == name && !l.over)) {
            return;
        }
        let (settle, settled) = watch::channel(false);
        let (board, client, key) = (self.clone(), client.clone(), name.to_owned());
        let task = tokio::spawn(async move {
            let fault = board.read(&client, &key, once, &settle).await.err();
            board.update(&key, |line| {
                line.over = true;
                line.fault = fault;
                if !once {
                    line.entry.sample = None;
                }
            });
            settle.send_replace(true);
        });
        let id = if name.len() == 64 { name.to_owned() } else { String::new() };
        let entry = Entry { container: name.to_owned(), id, ..Entry::default() };
        self.lines(|lines| {
            lines.retain(|l| l.entry.container != name);
            lines.push(Line { entry, fault: None, settled, over: false, task });
        });
    }

    /// Reads samples until the container ends.
    async fn read(&self, client: &Client, key: &str, once: bool, settle: &watch::Sender<bool>) -> Result<(), String> {
        let query = StatsQuery { stream: Some(!once), one_shot: false };
        let mut stream = client.container_stats(key, &query).await.map_err(|e| e.for_user())?;
        while let Some(reading) = stream.next().await.map_err(|e| e.for_user())? {
            self.update(key, |line| {
                line.entry.sample = Some(sample(&reading));
                if !reading.name.is_empty() {
                    line.entry.name = reading.name.trim_start_matches('/').to_owned();
                }
                if !reading.id.is_empty() {
                    line.entry.id = reading.id.clone();
                }
            });
            settle.send_replace(true);
            if once {
                break;
            }
        }
        Ok(())
    }

    fn update(&self, key: &str, change: impl FnOnce(&mut Line)) {
        self.lines(|lines| {
            if let Some(line) = lines.iter_mut().find(|l| l.entry.container == key) {
                change(line);
            }
        });
    }

    fn identify(&self, key: &str, id: &str, name: &str) {
        self.update(key, |line| {
            line.entry.id = id.to_owned();
            line.entry.name = name.to_owned();
        });
    }

    fn drop(&self, id: &str) {
        self.lines(|lines| {
            lines.iter().filter(|l| l.entry.container == id).for_each(|l| l.task.abort());
            lines.retain(|l| l.entry.container != id);
        });
    }

    /// Waits until every line has something to show; a stream that is slow does not hold up the others for long.
    async fn first_samples(&self, once: bool) {
        let settled: Vec<watch::Receiver<bool>> = self.lines(|lines| lines.iter().map(|l| l.settled.clone()).collect());
        let all = async {
            for mut one in settled {
                let _ = one.wait_for(|done| *done).await;
            }
        };
        match once {
            true => all.await,
            false => drop(tokio::time::timeout(Duration::from_millis(2500), all).await),
        }
    }

    fn entries(&self) -> Vec<Entry> {
        self.lines(|lines| lines.iter().map(|l| l.entry.clone()).collect())
    }

    fn is_over(&self) -> bool {
        self.lines(|lines| lines.iter().all(|l| l.over))
    }

    fn faults(&self) -> CliResult<u8> {
        let mut faults = Faults::default();
        self.lines(|lines| lines.iter().filter_map(|l| l.fault.clone()).for_each(|f| faults.add(Failure::new(f))));
        faults.finish()
    }
}
