//! Copies between the terminal and a process in a container.

use std::io;

use barque_api::stdcopy::{Decoder, Stream};
use barque_client::{Hijacked, HijackedReader, HijackedWriter};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::detach::{Watcher, keys};
use super::stdio::{Input, Output};
use super::{Raw, restore};
use crate::error::{CliResult, Failure};

/// What is copied where.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan<'a> {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// The process has a terminal: its output is one stream, ours becomes raw.
    pub(crate) tty: bool,
    pub(crate) detach_keys: &'a str,
    /// Signals go to the container; without that, those that end this program are to leave the terminal sound.
    pub(crate) proxied: bool,
}

/// Why the copying ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The other side closed its output.
    Output,
    /// The detach keys were typed.
    Detached,
    /// This program is to end by a signal.
    Signal(u8),
}

/// Copies until the output ends or the user detaches. Input that ends is closed on the other side.
pub(crate) async fn stream(hijacked: Hijacked, plan: Plan<'_>) -> CliResult<End> {
    let raw = if plan.stdin && plan.tty {
        Raw::enter().map_err(|e| {
            Failure::new(format!("unable to set IO streams as raw terminal: {}", barque_client::archive::plain_io(&e)))
        })?
    } else {
        None
    };
    let (watched, warning) = keys(plan.detach_keys);
    if let (Some(warning), true) = (warning, plan.tty && plan.stdin) {
        barque_client::tell(&warning);
    }
    let Hijacked { reader, writer, .. } = hijacked;
    let watcher = (plan.tty && plan.stdin).then(|| Watcher::new(watched));
    let input = feed(writer, plan.stdin, watcher);
    let output = drain(reader, plan);
    tokio::pin!(input, output);
    let must_restore = raw.is_some() && !plan.proxied;
    let end = tokio::select! {
        number = super::signals::termination(), if must_restore => Ok(End::Signal(number)),
        done = &mut output => done.map(|()| End::Output),
        fed = &mut input => match fed {
            Ok(true) => Ok(End::Detached),
            // The input is over, or nobody reads it any more: the output decides.
            Ok(false) | Err(_) if plan.stdout || plan.stderr => output.await.map(|()| End::Output),
            Ok(false) => Ok(End::Output),
            Err(e) => Err(e),
        },
    };
    drop(raw);
    restore();
    end.map_err(Failure::from)
}

/// Sends input; true if the detach keys were typed.
async fn feed(mut writer: HijackedWriter, stdin: bool, mut watcher: Option<Watcher>) -> io::Result<bool> {
    if stdin {
        let input = Input::open()?;
        let mut buffer = vec![0; 32 << 10];
        loop {
            let count = input.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            let Some(watcher) = &mut watcher else {
                writer.write_all(&buffer[..count]).await?;
                continue;
            };
            let seen = watcher.see(&buffer[..count]);
            if !seen.forward.is_empty() {
                writer.write_all(&seen.forward).await?;
            }
            if seen.detached {
                return Ok(true);
            }
        }
    }
    writer.shutdown().await?;
    Ok(false)
}

/// Prints output until it ends.
async fn drain(mut reader: HijackedReader, plan: Plan<'_>) -> io::Result<()> {
    if !plan.stdout && !plan.stderr {
        // Nothing is shown, but the end must be seen.
        let mut buffer = vec![0; 4096];
        while reader.read(&mut buffer).await? > 0 {}
        return Ok(());
    }
    let sink = Sink::new(plan.stdout, plan.stderr)?;
    let mut buffer = vec![0; 64 << 10];
    let mut decoder = Decoder::new();
    loop {
        let count = match reader.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => count,
            // How a terminal's other end says that it is gone.
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => break,
            Err(e) => return Err(e),
        };
        if plan.tty {
            sink.stdout(&buffer[..count]).await?;
            continue;
        }
        decoder.push(&buffer[..count]);
        sink.pieces(&mut decoder).await?;
    }
    Ok(())
}

/// Where the two streams of a process go.
pub(crate) struct Sink {
    stdout: Option<Output>,
    stderr: Option<Output>,
}

impl Sink {
    pub(crate) fn new(stdout: bool, stderr: bool) -> io::Result<Sink> {
        Ok(Sink {
            stdout: if stdout { Some(Output::stdout()?) } else { None },
            stderr: if stderr { Some(Output::stderr()?) } else { None },
        })
    }

    pub(crate) async fn stdout(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.stdout {
            Some(stdout) => stdout.write_all(bytes).await,
            None => Ok(()),
        }
    }

    /// Prints every piece that is complete.
    pub(crate) async fn pieces(&self, decoder: &mut Decoder) -> io::Result<()> {
        while let Some((stream, piece)) = decoder.next_piece().map_err(io::Error::other)? {
            match stream {
                Stream::Stdin | Stream::Stdout => self.stdout(&piece).await?,
                Stream::Stderr => {
                    if let Some(stderr) = &self.stderr {
                        stderr.write_all(&piece).await?;
                    }
                }
                Stream::SystemError => {
                    let text = String::from_utf8_lossy(&piece).into_owned();
                    return Err(io::Error::other(format!("error from daemon in stream: {text}")));
                }
            }
        }
        Ok(())
    }
}
