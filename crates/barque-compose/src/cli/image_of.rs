//! `commit` and `export`.

use std::io::Write;

use barque_api::container::CommitQuery;

use super::args::{Commit, Export};
use super::context::{Context, Failure, Outcome};
use super::session::Session;

/// Runs `commit`.
pub(super) async fn commit(cx: &Context, args: Commit) -> Outcome {
    let session = Session::open(cx, "Committing").await?;
    let container = session.one(&args.service, args.index).await?;
    let (repo, tag) = match &args.image {
        Some(image) => {
            let reference: barque_model::Reference = image.parse()?;
            (reference.familiar_name(), reference.tag().unwrap_or_default().to_owned())
        }
        None => (String::new(), String::new()),
    };
    if session.engine.is_dry_run() {
        return Ok(0);
    }
    let query = CommitQuery {
        container: container.id.clone(),
        repo,
        tag,
        comment: args.message.clone().unwrap_or_default(),
        author: args.author.clone().unwrap_or_default(),
        pause: Some(args.pause),
        changes: args.change.clone(),
    };
    let made = session.engine.writer()?.container_commit(&query, None).await?;
    cx.print(&format!("{}\n", made.id));
    Ok(0)
}

/// Runs `export`.
pub(super) async fn export(cx: &Context, args: Export) -> Outcome {
    let session = Session::open(cx, "Exporting").await?;
    let container = session.one(&args.service, args.index).await?;
    let mut stream = session.engine.read().client().container_export(&container.id).await?;
    let fail = |e: std::io::Error| Failure::new(format!("export: {e}"));
    let mut out: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(std::fs::File::create(cx.host.cwd.join(path)).map_err(fail)?),
        None if std::io::IsTerminal::is_terminal(&std::io::stdout()) => {
            return Err(Failure::new("output option is required when exporting to terminal").with_hint("add -o FILE"));
        }
        None => Box::new(std::io::stdout().lock()),
    };
    while let Some(piece) = stream.next().await? {
        out.write_all(&piece).map_err(fail)?;
    }
    out.flush().map_err(fail)?;
    Ok(0)
}
