//! Streams from the engine into a file or to standard output.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use barque_client::ByteStream;
use tokio::io::AsyncWriteExt as _;

use crate::error::{CliResult, Failure, path_error};
use crate::output::live::Live;
use crate::term::stdio::Output;
use crate::term::{self, signals};

/// Asks for an archive and writes it to `output`, unless that cannot be: then nothing is asked for. `what` is for
/// errors: `save image`.
pub(crate) async fn archive<F>(what: &str, output: &str, request: F) -> CliResult<u8>
where
    F: Future<Output = CliResult<ByteStream>>,
{
    if output.is_empty() && term::is_terminal_out() {
        return Err(Failure::new("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    let named = |f: Failure| if output.is_empty() { f } else { f.prefixed(&format!("failed to {what}: ")) };
    if !output.is_empty() {
        check_target(output).map_err(named)?;
    }
    stream(request.await?, output).await.map_err(named)?;
    Ok(0)
}

/// Writes the stream to the file `output`, or to standard output if that is empty. The file appears as a whole or
/// not at all.
pub(crate) async fn stream(stream: ByteStream, output: &str) -> CliResult<()> {
    signals::unless_ended(write(stream, output)).await
}

async fn write(mut stream: ByteStream, output: &str) -> CliResult<()> {
    if output.is_empty() {
        let stdout = Output::stdout()?;
        while let Some(piece) = stream.next().await? {
            stdout.write_all(&piece).await?;
        }
        return Ok(());
    }
    let target = check_target(output)?;
    // A device or a pipe is written to, not replaced.
    let special = std::fs::metadata(&target).is_ok_and(|m| !m.is_file());
    let temporary = if special { target.clone() } else { beside(&target) };
    let shown = temporary.display().to_string();
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(!special).truncate(!special).mode(0o600).open(&temporary);
    let file = file.map_err(|e| path_error("open", &shown, &e))?;
    let guard = Unfinished(if special { None } else { Some(temporary.clone()) });
    let mut file = tokio::fs::File::from_std(file);
    let live = Live::new(&format!("Writing {output}"), false);
    let count = live.count();
    while let Some(piece) = stream.next().await? {
        file.write_all(&piece).await.map_err(|e| path_error("write", &shown, &e))?;
        count.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
    drop(live);
    file.flush().await.map_err(|e| path_error("write", &shown, &e))?;
    drop(file);
    if !special {
        std::fs::rename(&temporary, &target).map_err(|e| path_error("rename", &shown, &e))?;
    }
    guard.done();
    Ok(())
}

/// The directory must be there, and the target must not be one.
fn check_target(output: &str) -> CliResult<PathBuf> {
    let target = Path::new(output);
    let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Err(Failure::new(format!("invalid output path: stat {}: no such file or directory", parent.display())));
    }
    if target.is_dir() {
        return Err(Failure::new("cannot write to a directory"));
    }
    Ok(target.to_owned())
}

fn beside(target: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    target.with_file_name(name)
}

/// A file that is removed unless it was finished.
struct Unfinished(Option<PathBuf>);

impl Unfinished {
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}
