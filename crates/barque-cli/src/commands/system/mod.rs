//! `system …`, `info` and `events`.

mod df;
mod events;
mod handover;
mod info;
mod prune;
mod units;

pub(crate) use df::{completed, df};
pub(crate) use events::events;
pub(crate) use info::info;
pub(crate) use prune::prune;
pub(crate) use units::{install, uninstall};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::cli::Invocation;
use crate::error::CliResult;
use crate::term::stdio::{Input, Output};

/// Joins standard input and output with the engine's socket: how another machine reaches this engine over ssh.
pub(crate) async fn dial_stdio(inv: &Invocation<'_>) -> CliResult<u8> {
    let connection = inv.client().await?.dial().await?;
    let (mut reader, mut writer) = tokio::io::split(connection);
    let (input, output) = (Input::open()?, Output::stdout()?);
    let send = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match input.read(&mut buffer).await? {
                0 => break,
                count => writer.write_all(&buffer[..count]).await?,
            }
        }
        writer.shutdown().await
    };
    let receive = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match reader.read(&mut buffer).await? {
                0 => return Ok(()),
                count => output.write_all(&buffer[..count]).await?,
            }
        }
    };
    tokio::pin!(send, receive);
    // What the engine says ends the session; that our side is silent does not.
    let result: std::io::Result<()> = tokio::select! {
        done = &mut receive => done,
        sent = &mut send => match sent {
            Ok(()) => receive.await,
            Err(e) => Err(e),
        },
    };
    result?;
    Ok(0)
}
