//! `events` and `stats`.

use barque_api::container::{ContainerStats, StatsQuery};
use barque_api::event::{EventMessage, EventsQuery};
use barque_api::filters::Filters;
use futures_util::future::join_all;
use serde_json::json;

use super::args::{Events, Stats};
use super::context::{Context, Failure, Outcome};
use super::logs::moment;
use super::session::Session;
use super::table::table;
use super::template;
use crate::plan::labels;
use crate::plan::observed::Container;
use crate::plan::reconcile::short;

/// Runs `events`.
pub(super) async fn events(cx: &Context, args: Events) -> Outcome {
    let (_, name) = cx.project_or_name(&args.services)?;
    let client = cx.connect().await?;
    let query = EventsQuery {
        since: moment(args.since.as_deref())?,
        until: moment(args.until.as_deref())?,
        filters: Filters::new().with("type", "container").with("label", format!("{}={name}", labels::PROJECT)),
    };
    let mut stream = client.events(&query).await?;
    loop {
        tokio::select! {
            event = stream.next() => match event? {
                Some(event) => {
                    if let Some(line) = event_line(&event, &args) {
                        cx.print(&line);
                    }
                }
                None => return Ok(0),
            },
            _ = tokio::signal::ctrl_c() => return Ok(130),
        }
    }
}

fn event_line(event: &EventMessage, args: &Events) -> Option<String> {
    let all = &event.actor.attributes;
    let service = all.get(labels::SERVICE)?;
    let oneoff = all.get(labels::ONEOFF).is_some_and(|v| v == "True");
    if oneoff || (!args.services.is_empty() && !args.services.contains(service)) {
        return None;
    }
    let time = jiff::Timestamp::from_nanosecond(i128::from(event.time_nano)).unwrap_or_default();
    let time = time.to_zoned(jiff::tz::TimeZone::system());
    let own: Vec<(&String, &String)> =
        all.iter().filter(|(k, _)| !k.starts_with("com.docker.compose.") && !k.starts_with("io.barque.")).collect();
    if args.json {
        let attributes: serde_json::Map<String, serde_json::Value> =
            own.into_iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        let line = json!({
            "action": event.action, "attributes": attributes, "id": event.actor.id, "service": service,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string(), "type": "container",
        });
        return Some(format!("{line}\n"));
    }
    let list: Vec<String> = own.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
    let time = time.strftime("%Y-%m-%d %H:%M:%S.%6f");
    Some(format!("{time} container {} {} ({})\n", event.action, event.actor.id, list.join(", ")))
}

/// One container's numbers.
struct Row {
    id: String,
    name: String,
    stats: Option<ContainerStats>,
}

/// Runs `stats`.
pub(super) async fn stats(cx: &Context, args: Stats) -> Outcome {
    let session = Session::open(cx, "Running").await?;
    let found = session.containers(&args.services, args.all, false).await?;
    let mut first = true;
    loop {
        let rows = join_all(found.iter().map(|c| sample(&session, c, args.no_trunc))).await;
        let text = render(cx, &rows, &args)?;
        let screen = !args.no_stream && args.format.is_none() && cx.colour();
        if screen {
            cx.print(if first { "\u{1b}[2J\u{1b}[H" } else { "\u{1b}[H" });
            cx.print(&text.replace('\n', "\u{1b}[K\n"));
            cx.print("\u{1b}[J");
        } else {
            cx.print(&text);
        }
        first = false;
        if args.no_stream {
            return Ok(0);
        }
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_millis(500)) => {}
            _ = tokio::signal::ctrl_c() => return Ok(130),
        }
    }
}

async fn sample(session: &Session, container: &Container, whole: bool) -> Row {
    let client = session.engine.read().client();
    // one sample that the engine took twice, so that there is a rate
    let query = StatsQuery { stream: Some(false), ..StatsQuery::default() };
    let stats = match client.container_stats(&container.id, &query).await {
        Ok(mut stream) => stream.next().await.ok().flatten(),
        Err(_) => None,
    };
    let id = if whole { container.id.clone() } else { short(&container.id) };
    Row { id, name: container.name.clone(), stats }
}

fn render(cx: &Context, rows: &[Row], args: &Stats) -> Result<String, Failure> {
    let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let keys = ["Container", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];
    match args.format.as_deref() {
        None | Some("table" | "") => {
            let header =
                ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"];
            Ok(table(10, &header, &cells))
        }
        Some(format) => {
            let rows: Vec<serde_json::Value> = cells
                .into_iter()
                .zip(rows)
                .map(|(cells, row)| {
                    let cells = cells.into_iter().map(serde_json::Value::from);
                    let id = ("ID".to_owned(), row.id.clone().into());
                    serde_json::Value::Object(keys.iter().map(|k| (*k).to_owned()).zip(cells).chain([id]).collect())
                })
                .collect();
            if format == "json" {
                return Ok(rows.iter().map(|r| format!("{r}\n")).collect());
            }
            template::render(&cx.host, format, &rows)
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "percentages")]
fn cells(row: &Row) -> Vec<String> {
    let Some(stats) = &row.stats else {
        return [row.id.as_str(), &row.name, "--", "-- / --", "--", "-- / --", "-- / --", "--"]
            .map(str::to_owned)
            .to_vec();
    };
    let (cpu, pre) = (&stats.cpu_stats, &stats.precpu_stats);
    let used = cpu.cpu_usage.total_usage.saturating_sub(pre.cpu_usage.total_usage) as f64;
    let system = cpu.system_cpu_usage.saturating_sub(pre.system_cpu_usage) as f64;
    let cores = f64::from(cpu.online_cpus.max(1));
    let percent = if system > 0.0 { used / system * cores * 100.0 } else { 0.0 };
    let memory = &stats.memory_stats;
    let cache = ["total_inactive_file", "inactive_file"]
        .iter()
        .find_map(|k| memory.stats.as_ref()?.get(*k))
        .copied()
        .unwrap_or(0);
    let usage = memory.usage.saturating_sub(cache);
    let share = if memory.limit > 0 { usage as f64 / memory.limit as f64 * 100.0 } else { 0.0 };
    let networks =
        stats.networks.iter().flatten().fold((0u64, 0u64), |(rx, tx), (_, n)| (rx + n.rx_bytes, tx + n.tx_bytes));
    let blocks =
        stats.blkio_stats.io_service_bytes_recursive.iter().flatten().fold((0u64, 0u64), |(r, w), e| {
            match e.op.to_ascii_lowercase().as_str() {
                "read" => (r + e.value, w),
                "write" => (r, w + e.value),
                _ => (r, w),
            }
        });
    let binary = barque_model::size::binary;
    let human = |n| barque_model::size::human_precision(n, 3);
    vec![
        row.id.clone(),
        row.name.clone(),
        format!("{percent:.2}%"),
        format!("{} / {}", binary(usage), binary(memory.limit)),
        format!("{share:.2}%"),
        format!("{} / {}", human(networks.0), human(networks.1)),
        format!("{} / {}", human(blocks.0), human(blocks.1)),
        stats.pids_stats.current.to_string(),
    ]
}
