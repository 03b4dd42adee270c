//! `logs`.

use barque_api::container::LogsQuery;
use barque_api::stdcopy::Decoder;

use crate::cli::Invocation;
use crate::error::CliResult;
use crate::term::hijack::Sink;
use crate::when;

pub(crate) async fn logs(inv: &Invocation<'_>) -> CliResult<u8> {
    let client = inv.client().await?;
    let flags = &inv.flags;
    let container = client.container_inspect(inv.operand(0), false).await?;
    let tty = container.config.tty;
    let query = LogsQuery {
        follow: flags.is("follow"),
        stdout: true,
        stderr: true,
        since: when::timestamp(flags.text("since"), "since")?,
        until: when::timestamp(flags.text("until"), "until")?,
        timestamps: flags.is("timestamps"),
        details: flags.is("details"),
        tail: flags.get("tail").unwrap_or("all").to_owned(),
    };
    let mut stream = client.container_logs(&container.id, &query).await?;
    let sink = Sink::new(true, true)?;
    let mut decoder = Decoder::new();
    while let Some(piece) = stream.next().await? {
        if tty {
            sink.stdout(&piece).await?;
        } else {
            decoder.push(&piece);
            sink.pieces(&mut decoder).await?;
        }
    }
    Ok(0)
}
