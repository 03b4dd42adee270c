//! `pull`, `push`, `save`, `load`, `import`.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;

use barque_api::image::{ImageCreateQuery, LoadQuery, PushQuery, SaveQuery};
use barque_client::Upload;

use super::{platform_json, reference};
use crate::auth;
use crate::cli::Invocation;
use crate::cmdline::Flags;
use crate::commands::container::stdin;
use crate::error::{CliResult, Failure, path_error};
use crate::output::live::Live;
use crate::output::progress::{self, Sink};
use crate::{save as saving, term};

pub(crate) async fn pull(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    let (all, quiet) = (flags.is("all-tags"), flags.is("quiet"));
    let mut name = reference(inv.operand(0))?;
    let bare = name.tag().is_none() && name.digest().is_none();
    if all && !bare {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    if !all && bare {
        name = name.with_default_tag();
        if !quiet {
            inv.cli.line("Using default tag: latest")?;
        }
    }
    let tag = match (name.digest(), name.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.to_owned(),
        (None, None) => String::new(),
    };
    let auth = auth::for_image(inv.cli.config(), &name);
    let platform = inv.cli.platform(flags);
    let query = ImageCreateQuery { from_image: name.name(), tag, platform, ..ImageCreateQuery::default() };
    let stream = inv.client().await?.image_pull(&query, auth.as_ref()).await?;
    progress::show(stream, if quiet { Sink::Silent } else { Sink::Stdout }, |_| Ok(())).await?;
    inv.cli.line(&name.to_string())?;
    Ok(0)
}

pub(crate) async fn push(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    let (all, quiet) = (flags.is("all-tags"), flags.is("quiet"));
    let mut name = reference(inv.operand(0))?;
    let bare = name.tag().is_none() && name.digest().is_none();
    if all && !bare {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    if name.digest().is_some() {
        return Err(Failure::new("cannot push a digest reference"));
    }
    if !all && bare {
        name = name.with_default_tag();
        if !quiet {
            inv.cli.line("Using default tag: latest")?;
        }
    }
    let auth = auth::for_image(inv.cli.config(), &name);
    let tag = name.tag().unwrap_or_default().to_owned();
    let query = PushQuery { tag, platform: platform_json(flags.text("platform"))? };
    let stream = inv.client().await?.image_push(&name.name(), &query, auth.as_ref()).await?;
    progress::show(stream, if quiet { Sink::Silent } else { Sink::Stdout }, |_| Ok(())).await?;
    if quiet {
        inv.cli.line(&name.to_string())?;
    }
    Ok(0)
}

pub(crate) async fn save(inv: &Invocation<'_>) -> CliResult<u8> {
    let output = inv.flags.text("output");
    let platforms: CliResult<Vec<String>> = inv.flags.strings("platform").iter().map(|p| platform_json(p)).collect();
    let query = SaveQuery { names: inv.operands.clone(), platform: platforms? };
    saving::archive("save image", output, async { Ok(inv.client().await?.image_save(&query).await?) }).await
}

pub(crate) async fn load(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    let input = flags.text("input");
    if input.is_empty() && term::is_terminal_in() {
        return Err(Failure::new("requested load from stdin, but stdin is empty"));
    }
    let mut query = load_query(flags, term::is_terminal_out())?;
    let client = inv.client().await?;
    let given = match input {
        "" => std::io::stdin().as_fd().try_clone_to_owned().map(File::from),
        path => File::open(path),
    };
    let given = given.map_err(|e| path_error("open", input, &e))?;
    if client.is_barque().await? && super::shares_files(client.host()) {
        query.file = place(&given).unwrap_or_default();
    }
    // The engine may not be allowed to read what this user may: on a network file system, for one.
    let read = if query.file.is_empty() { None } else { client.image_load(&query, Upload::empty()).await.ok() };
    let stream = match read {
        Some(stream) => stream,
        None => {
            query.file.clear();
            let file = tokio::fs::File::from_std(given);
            client
                .image_load(&query, if input.is_empty() { Upload::reader(stdin()?) } else { Upload::reader(file) })
                .await?
        }
    };
    progress::show(stream, Sink::Stdout, |_| Ok(())).await?;
    Ok(0)
}

/// Where an ordinary file lies that is to be read from its beginning, for an engine that sees the same files.
fn place(file: &File) -> Option<String> {
    let open = file.metadata().ok()?;
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    let named = std::fs::metadata(&path).ok()?;
    let same = (open.dev(), open.ino()) == (named.dev(), named.ino());
    let whole = open.is_file() && rustix::fs::tell(file).ok()? == 0;
    path.into_os_string().into_string().ok().filter(|_| same && whole)
}

fn load_query(flags: &Flags, terminal: bool) -> CliResult<LoadQuery> {
    let platforms: CliResult<Vec<String>> = flags.strings("platform").iter().map(|p| platform_json(p)).collect();
    // An engine takes a missing word for yes, so the no is sent too.
    Ok(LoadQuery { quiet: Some(flags.is("quiet") || !terminal), platform: platforms?, ..LoadQuery::default() })
}

/// A local file to send; `live` follows it.
pub(crate) async fn file(path: &str, live: &Live) -> CliResult<Upload> {
    let file = tokio::fs::File::open(path).await.map_err(|e| path_error("open", path, &e))?;
    Ok(Upload::reader(live.reader(file)))
}

pub(crate) async fn import(inv: &Invocation<'_>) -> CliResult<u8> {
    let (source, name) = (inv.operand(0), inv.operand(1));
    let (repo, tag) = match name {
        "" => (String::new(), String::new()),
        name => {
            let name = reference(name)?;
            (name.familiar_name(), name.tag().unwrap_or_default().to_owned())
        }
    };
    let remote = source.starts_with("http://") || source.starts_with("https://");
    // what is fetched by the engine is followed by the engine
    let live = Live::new("Sending files to the engine", remote);
    let upload = match source {
        "-" => Upload::reader(live.reader(stdin()?)),
        _ if remote => Upload::empty(),
        path => file(path, &live).await?,
    };
    let query = ImageCreateQuery {
        from_src: if remote { source.to_owned() } else { "-".into() },
        repo,
        tag,
        message: inv.flags.text("message").to_owned(),
        changes: inv.flags.all("change").into_iter().map(str::to_owned).collect(),
        platform: inv.cli.platform(&inv.flags),
        ..ImageCreateQuery::default()
    };
    let stream = inv.client().await?.image_import(&query, upload).await?;
    drop(live);
    progress::show(stream, Sink::Stdout, |_| Ok(())).await?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_on_a_terminal_asks_for_progress() {
        let sent = |pairs: &[(&'static str, &'static str)], terminal| {
            load_query(&Flags::from_pairs(pairs), terminal).expect("query").encode()
        };
        assert_eq!(sent(&[], true), "quiet=0");
        assert_eq!(sent(&[], false), "quiet=1");
        assert_eq!(sent(&[("quiet", "true")], true), "quiet=1");
    }
}
