//! Agents that builds may ask to sign with keys (`--ssh`, `build.ssh`).

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use barque_model::{Error, Id, Result};
use rustix::process::{Pid, Signal, kill_process};

/// Agents started for the keys of one build; they end with this, or with the program, however it ends.
#[derive(Default)]
pub struct Agents(Vec<Agent>);

struct Agent {
    /// The agent looks every ten seconds whether this, its command, still runs.
    command: Child,
    pid: Option<Pid>,
    socket: PathBuf,
}

impl Agents {
    /// `default`, `ID`, `ID=SOCKET`, `ID=KEY[,KEY…]` → the id and the absolute path of the agent's socket. A path is
    /// relative to `base`; without one it is `SSH_AUTH_SOCK` of `variable`. Files of keys get an agent of their own,
    /// OpenSSH's, which may ask for a passphrase.
    ///
    /// # Errors
    /// No agent runs, the path is not there, a key is none, or OpenSSH is not installed.
    pub fn parse(
        &mut self,
        text: &str,
        base: &Path,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(String, String)> {
        let (id, paths) = text.split_once('=').unwrap_or((text, ""));
        let id = if id.is_empty() { "default" } else { id };
        let paths = match paths {
            "" => variable("SSH_AUTH_SOCK").filter(|p| !p.is_empty()).ok_or_else(|| {
                Error::invalid(format!("invalid empty ssh agent socket for {id}: SSH_AUTH_SOCK is not set"))
                    .with_hint("start an agent: eval $(ssh-agent) && ssh-add")
            })?,
            paths => paths.to_owned(),
        };
        let mut keys = Vec::new();
        for path in paths.split(',') {
            let whole = base.join(path);
            let meta =
                std::fs::metadata(&whole).map_err(|e| Error::from(e).context(format!("ssh {id}: stat {path}")))?;
            if meta.file_type().is_socket() {
                if paths != path {
                    return Err(Error::invalid(format!("ssh {id}: {path} is an agent's socket: only one can be used")));
                }
                return Ok((id.to_owned(), text_of(id, &whole)?));
            }
            keys.push(whole);
        }
        let socket = self.start(&keys)?;
        Ok((id.to_owned(), text_of(id, &socket)?))
    }

    /// An agent that knows these keys and no others.
    fn start(&mut self, keys: &[PathBuf]) -> Result<PathBuf> {
        let socket = std::env::temp_dir().join(format!("barque-agent-{}", Id::random().short()));
        // It lives as long as its command, which ends with its standard input: when this program does.
        let mut command = Command::new("ssh-agent");
        command.arg("-a").arg(&socket).args(["sh", "-c", "echo $SSH_AGENT_PID; exec cat > /dev/null"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut command = command.spawn().map_err(|e| missing(e, "ssh-agent"))?;
        let mut line = String::new();
        if let Some(out) = command.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        self.0.push(Agent { command, pid, socket: socket.clone() });
        if pid.is_none() {
            return Err(Error::unavailable("ssh-agent did not start"));
        }
        for key in keys {
            let mut add = Command::new("ssh-add");
            add.arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket).stdout(Stdio::null()).stderr(Stdio::piped());
            let output = add.output().map_err(|e| missing(e, "ssh-add"))?;
            if !output.status.success() {
                let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(Error::invalid(format!("failed to parse the key {}: {why}", key.display()))
                    .with_hint("a key with a passphrase: add it to an agent with ssh-add, and write no path"));
            }
        }
        Ok(socket)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            let _already_gone = kill_process(pid, Signal::TERM);
        }
        drop(self.command.stdin.take());
        let _ended = self.command.wait();
        let _already_gone = std::fs::remove_file(&self.socket);
    }
}

fn missing(error: std::io::Error, program: &str) -> Error {
    Error::from(error)
        .context(format!("start {program}"))
        .with_hint("a key's file needs OpenSSH's client (openssh-client); an agent's socket does not")
}

fn text_of(id: &str, path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::invalid(format!("ssh {id}: the path of {} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, base: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<(String, String)> {
        Agents::default().parse(text, base, variable)
    }

    #[test]
    fn sockets_by_variable_and_by_path() {
        let dir = tempfile::tempdir().expect("tempdir");
        let socket = dir.path().join("agent");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("binds");
        let path = socket.display().to_string();
        let (set, unset) = (|_: &str| Some(path.clone()), |_: &str| None);
        let root = Path::new("/");
        let pair = |id: &str| (id.to_owned(), path.clone());
        assert_eq!(parse("default", root, &set).expect("variable"), pair("default"));
        assert_eq!(parse("", root, &set).expect("no id"), pair("default"));
        assert_eq!(parse(&format!("x={path}"), root, &unset).expect("absolute"), pair("x"));
        assert_eq!(
            parse("x=agent", dir.path(), &unset).expect("relative"),
            pair("x"),
            "the engine's directory is another"
        );
        assert!(parse("default", root, &unset).expect_err("none").to_string().contains("SSH_AUTH_SOCK"));
        assert!(parse("x=none", dir.path(), &unset).is_err());
        let two = format!("x={path},{path}");
        assert!(parse(&two, root, &unset).expect_err("two sockets").to_string().contains("only one"));
    }

    #[test]
    fn keys_get_an_agent_that_ends_with_the_build() {
        let listed = |socket: &str| Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", socket).output();
        if listed("").is_err() {
            eprintln!("skipped: OpenSSH's client is not installed");
            return;
        }
        let dir = tempfile::tempdir().expect("tempdir");
        for name in ["one", "two"] {
            let mut make = Command::new("ssh-keygen");
            make.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(dir.path().join(name));
            assert!(make.status().expect("ssh-keygen").success());
        }
        let mut agents = Agents::default();
        let (id, socket) = agents.parse("git=one,two", dir.path(), &|_| None).expect("an agent");
        assert_eq!(id, "git");
        let keys = String::from_utf8(listed(&socket).expect("ssh-add").stdout).expect("text");
        assert!(keys.lines().count() == 2 && keys.contains(" one ") && keys.contains(" two "), "{keys}");
        drop(agents);
        assert!(!Path::new(&socket).exists() && !listed(&socket).expect("ssh-add").status.success());
        std::fs::write(dir.path().join("none"), "no key").expect("writes");
        let error = parse("none=none", dir.path(), &|_| None).expect_err("no key");
        assert!(error.to_string().contains("failed to parse the key"), "{error}");
    }
}
