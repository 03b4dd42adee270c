//! Downloads of builds: `ADD URL`, contexts behind URLs, git repositories.

use std::path::Path;
use std::process::Stdio;

use barque_build::worker::{FetchedGit, FetchedUrl, GitRequest, ProgressSink, Root, UrlRequest};
use barque_model::{Context, Error, Hasher, Id, Result};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::Engine;

/// Bytes of one download.
const DOWNLOAD_MAX: u64 = 16 << 30;

pub async fn url(engine: &Engine, scratch: &Path, request: &UrlRequest, progress: ProgressSink) -> Result<FetchedUrl> {
    let dir = scratch.join(format!("url-{}", Id::random().short()));
    tokio::fs::create_dir_all(&dir).await.context("cannot make the download's directory")?;
    let mut download = engine.registry().download(&request.url).await?;
    let name = download.file_name().unwrap_or_default().to_owned();
    let file_name = if name.is_empty() || name.contains('/') { "download".to_owned() } else { name.clone() };
    let mut file = tokio::fs::File::create(dir.join(&file_name)).await.context("cannot make the download")?;
    let mut hasher = Hasher::new();
    let (mut current, total) = (0u64, download.size().unwrap_or(0));
    while let Some(chunk) = download.next().await {
        let chunk = chunk.map_err(|e| Error::from(e).context(format!("download {}", request.url)))?;
        current += chunk.len() as u64;
        if current > DOWNLOAD_MAX {
            return Err(Error::invalid(format!("{} is larger than {DOWNLOAD_MAX} bytes", request.url)));
        }
        hasher.update(&chunk);
        file.write_all(&chunk).await.context("cannot write the download")?;
        let action = "Downloading".to_owned();
        progress.report(barque_build::event::Progress { id: file_name.clone(), action, current, total });
    }
    file.flush().await.context("cannot write the download")?;
    let digest = hasher.finish();
    if let Some(wanted) = request.checksum
        && wanted != digest
    {
        return Err(Error::invalid(format!("digest mismatch {}: {digest} != {wanted}", request.url))
            .with_hint("the file has changed: check it, then write its digest after --checksum"));
    }
    Ok(FetchedUrl { root: Root::new(dir), file_name, modified: download.modified(), digest })
}

/// Clones with the machine's `git`.
pub async fn git(scratch: &Path, request: &GitRequest) -> Result<FetchedGit> {
    let dir = scratch.join(format!("git-{}", Id::random().short()));
    tokio::fs::create_dir_all(&dir).await.context("cannot make the repository's directory")?;
    run_git(&dir, &["init", "-q"], request).await?;
    let wanted = request.reference.as_deref().unwrap_or("HEAD");
    if wanted.starts_with('-') || request.url.starts_with('-') {
        return Err(Error::invalid(format!("invalid git reference '{wanted}'")));
    }
    let shallow = run_git(&dir, &["fetch", "-q", "--depth", "1", "--", &request.url, wanted], request).await;
    if let Err(e) = shallow {
        // Servers that give no single commits, and abbreviated ids, need the whole history.
        if request.reference.is_none() {
            return Err(e);
        }
        let all = "+refs/*:refs/remotes/origin/*";
        let found = async {
            run_git(&dir, &["fetch", "-q", "--tags", "--", &request.url, all], request).await?;
            run_git(&dir, &["checkout", "-q", "--detach", wanted], request).await
        };
        // What the first said names the reference.
        found.await.map_err(|_| e)?;
    } else {
        run_git(&dir, &["checkout", "-q", "--detach", "FETCH_HEAD"], request).await?;
    }
    let commit = run_git(&dir, &["rev-parse", "HEAD"], request).await?.trim().to_owned();
    if let Some(checksum) = &request.checksum
        && !commit.starts_with(checksum.as_str())
    {
        return Err(Error::invalid(format!("expected checksum to match {checksum}, got {commit}")));
    }
    if request.submodules && dir.join(".gitmodules").exists() {
        run_git(&dir, &["submodule", "update", "-q", "--init", "--recursive", "--depth", "1"], request).await?;
    }
    if !request.keep_git_dir {
        tokio::fs::remove_dir_all(dir.join(".git")).await.context("cannot remove .git")?;
    }
    let root = match request.subdir.trim_matches('/') {
        "" => dir,
        subdir => inside(&dir, subdir)?,
    };
    Ok(FetchedGit { root: Root::new(root), commit })
}

/// A directory of the repository, wherever its links lead.
fn inside(dir: &Path, subdir: &str) -> Result<std::path::PathBuf> {
    let root = barque_store::RootDir::open(dir).context("cannot open the repository")?;
    let real = root
        .canonicalize(subdir)
        .map_err(|_| Error::invalid(format!("subdir '{subdir}' does not exist in the repository")))?;
    Ok(dir.join(real.strip_prefix("/").unwrap_or(&real)))
}

async fn run_git(dir: &Path, args: &[&str], request: &GitRequest) -> Result<String> {
    let output = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let output = output.map_err(|e| {
        Error::from(e)
            .with_kind(barque_model::ErrorKind::Unavailable)
            .context("unable to find 'git': it is needed for git sources")
            .with_hint("install git on the machine of the engine")
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(Error::invalid(format!("failed to fetch remote {}: {}", request.url, why.trim()))
        .with_hint("check the address, the reference after '#', and that this machine reaches the server"))
}
