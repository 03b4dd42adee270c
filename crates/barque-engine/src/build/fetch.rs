//! Downloads of builds: `ADD URL`, contexts behind URLs, git repositories.

use std::path::Path;
use std::process::Stdio;

use barque_build::git::redacted;
use barque_build::worker::{FetchedGit, FetchedUrl, GitRequest, ProgressSink, Root, UrlRequest};
use barque_model::{Context, Digest, Error, Hasher, Id, Result};
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
    let mut fetched = FetchedUrl {
        root: Root::new(dir.clone()),
        file_name: request.file_name(),
        modified: download.modified(),
        digest: Digest::from_bytes([0; 32]),
    };
    let shown = redacted(&request.url);
    let mut file =
        tokio::fs::File::create(dir.join(fetched.stored_name())).await.context("cannot make the download")?;
    let mut hasher = Hasher::new();
    let (mut current, total) = (0u64, download.size().unwrap_or(0));
    while let Some(chunk) = download.next().await {
        let chunk = chunk.map_err(|e| Error::from(e).context(format!("download {shown}")))?;
        current += chunk.len() as u64;
        if current > DOWNLOAD_MAX {
            return Err(Error::invalid(format!("{shown} is larger than {DOWNLOAD_MAX} bytes")));
        }
        hasher.update(&chunk);
        file.write_all(&chunk).await.context("cannot write the download")?;
        let action = "Downloading".to_owned();
        let id = fetched.stored_name().to_owned();
        progress.report(barque_build::event::Progress { id, action, current, total });
    }
    file.flush().await.context("cannot write the download")?;
    let digest = hasher.finish();
    fetched.digest = digest;
    if let Some(wanted) = request.checksum
        && wanted != digest
    {
        return Err(Error::invalid(format!("digest mismatch {shown}: {digest} != {wanted}"))
            .with_hint("the file has changed: check it, then write its digest after --checksum"));
    }
    Ok(fetched)
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
    // Submodules may be named relative to it.
    run_git(&dir, &["remote", "add", "origin", &request.url], request).await?;
    check_out(&dir, wanted, request).await?;
    let commit = run_git(&dir, &["rev-parse", "HEAD"], request).await?.trim().to_owned();
    if let Some(checksum) = &request.checksum
        && !commit.starts_with(checksum.as_str())
    {
        return Err(Error::invalid(format!("expected checksum to match {checksum}, got {commit}")));
    }
    if request.submodules && dir.join(".gitmodules").exists() {
        let update = ["submodule", "update", "-q", "--init", "--recursive"];
        let shallow = [&update[..], &["--depth", "1"]].concat();
        match run_git(&dir, &shallow, request).await {
            Err(e) if is_dumb(&e) => run_git(&dir, &update, request).await?,
            other => other?,
        };
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

fn fetch<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["fetch", "-q"], arguments].concat()
}

/// Fetches `wanted` and puts its files into `dir`.
async fn check_out(dir: &Path, wanted: &str, request: &GitRequest) -> Result<()> {
    let head = ["checkout", "-q", "--detach", "FETCH_HEAD"];
    let failure = match run_git(dir, &fetch(&["--depth", "1", "--", &request.url, wanted]), request).await {
        Ok(_) => return run_git(dir, &head, request).await.map(drop),
        Err(e) => e,
    };
    // A server of plain files has no part of a history to give.
    if is_dumb(&failure) && run_git(dir, &fetch(&["--", &request.url, wanted]), request).await.is_ok() {
        return run_git(dir, &head, request).await.map(drop);
    }
    // Servers that give no single commits, and abbreviated ids, need the whole history.
    if request.reference.is_none() {
        return Err(failure);
    }
    let found = async {
        let all = "+refs/*:refs/remotes/origin/*";
        run_git(dir, &fetch(&["--tags", "--", &request.url, all]), request).await?;
        run_git(dir, &["checkout", "-q", "--detach", wanted], request).await.map(drop)
    };
    // What the first said names the reference.
    found.await.map_err(|_| failure)
}

/// Whether git said that the server cannot give a part of a history.
fn is_dumb(error: &Error) -> bool {
    error.message().contains("shallow")
}

/// Splits `scheme://user:password@host/…` into what stands before the path, with and without credentials; `None` for
/// addresses without, and for those whose user ssh needs.
fn credentials(url: &str) -> Option<(String, String)> {
    let (scheme, rest) = url.split_once("://").filter(|(s, _)| matches!(*s, "http" | "https"))?;
    let authority = rest.split('/').next().unwrap_or_default();
    let (_, host) = authority.rsplit_once('@')?;
    Some((format!("{scheme}://{authority}/"), format!("{scheme}://{host}/")))
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
    let mut command = Command::new("git");
    // Credentials are used in this host's addresses, its submodules' too, and are neither stored in the repository,
    // which may become part of an image, nor shown in the list of processes.
    let (url, secret) = (request.url.as_str(), credentials(&request.url));
    let plain =
        secret.as_ref().and_then(|(with, without)| Some(format!("{without}{}", url.strip_prefix(with.as_str())?)));
    let args = args.iter().map(|arg| plain.as_deref().filter(|_| *arg == url).unwrap_or(arg));
    if let Some((with, without)) = &secret {
        command.env("GIT_CONFIG_COUNT", "1");
        command.env("GIT_CONFIG_KEY_0", format!("url.{with}.insteadOf")).env("GIT_CONFIG_VALUE_0", without);
    }
    let output = command
        .args(args)
        .current_dir(dir)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("LC_ALL", "C")
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
    let why = redacted(String::from_utf8_lossy(&output.stderr).trim());
    Err(Error::invalid(format!("failed to fetch remote {}: {why}", redacted(&request.url)))
        .with_hint("check the address, the reference after '#', and that this machine reaches the server"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::AsyncReadExt;

    use super::*;

    /// Serves files as they are, which git calls a dumb server; gives its address.
    async fn serve(root: std::path::PathBuf, authorized: Arc<AtomicBool>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut head = vec![0; 16 << 10];
                let length = client.read(&mut head).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&head[..length]).into_owned();
                // As a server that wants to know who asks for this one.
                let knows = text.to_lowercase().contains("authorization: basic ");
                authorized.fetch_or(knows, Ordering::Relaxed);
                let path = text.split([' ', '?']).nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
                let (status, body) = match std::fs::read(root.join(&path)) {
                    _ if path.starts_with("main.git") && !knows => {
                        ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"", Vec::new())
                    }
                    Ok(bytes) => ("200 OK", bytes),
                    Err(_) => ("404 Not Found", Vec::new()),
                };
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _gone = client.write_all(&[head.as_bytes(), &body].concat()).await;
            }
        });
        format!("http://{address}")
    }

    fn sh(dir: &Path, script: &str) {
        let output = std::process::Command::new("sh").arg("-ec").arg(script).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn credentials_stand_before_the_path() {
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(credentials("https://me:p@h:1/r.git"), pair("https://me:p@h:1/", "https://h:1/"));
        assert_eq!(credentials("https://h/a@b.git"), None);
        assert_eq!(credentials("ssh://git@h/r.git"), None);
        assert_eq!(credentials("git@h:r.git"), None);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn plain_files_are_a_repository_too() {
        let dir = tempfile::tempdir().unwrap();
        let authorized = Arc::new(AtomicBool::new(false));
        let site = serve(dir.path().to_owned(), authorized.clone()).await;
        sh(
            dir.path(),
            &format!(
                "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
                 for name in sub main; do
                     git init -q -b trunk $name && cd $name && echo $name > file && git add . && git commit -qm one && cd ..
                 done
                 git clone -q --bare sub sub.git && git -C sub.git update-server-info
                 cd main
                 git -c protocol.file.allow=always submodule --quiet add -b trunk {site}/sub.git part
                 git config -f .gitmodules submodule.part.url ../sub.git && git add . && git commit -qm two
                 git checkout -qb other && echo other > file && git commit -qam three && git checkout -q trunk
                 cd .. && git clone -q --bare main main.git && git -C main.git update-server-info"
            ),
        );
        let request = |reference: Option<&str>, keep_git_dir| GitRequest {
            url: format!("{site}/main.git").replace("http://", "http://me:hunter2@"),
            reference: reference.map(str::to_owned),
            subdir: String::new(),
            keep_git_dir,
            submodules: true,
            checksum: None,
        };
        for (reference, content) in [(None, "main\n"), (Some("other"), "other\n"), (Some("refs/heads/trunk"), "main\n")]
        {
            let fetched = git(dir.path(), &request(reference, true)).await.unwrap();
            let read = |name: &str| std::fs::read_to_string(fetched.root.path().join(name)).unwrap();
            assert_eq!((read("file").as_str(), read("part/file").as_str()), (content, "sub\n"), "{reference:?}");
            assert!(read(".git/config").contains("/main.git"), "{}", read(".git/config"));
            sh(fetched.root.path(), "! grep -rq hunter2 .");
        }
        assert!(authorized.load(Ordering::Relaxed), "the server was told");
        let error = git(dir.path(), &request(Some("missing"), false)).await.unwrap_err();
        assert!(
            error.chain().contains("failed to fetch remote http://xxxxx:xxxxx@") && !error.chain().contains("hunter2")
        );
    }
}
