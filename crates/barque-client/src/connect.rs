//! Opening a connection to a [`Host`].

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_rustls::TlsConnector;

use crate::error::{Error, Result};
use crate::host::{Host, SshHost};

/// A two-way byte stream whose writing side can be shut down alone.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// An open connection.
pub type Connection = Box<dyn Io>;

/// Opens a connection.
///
/// # Errors
/// [`Error::is_connect`], with Docker's sentence and the cause.
pub(crate) async fn connect(host: &Host) -> Result<Connection> {
    let opened: io::Result<Connection> = match host {
        Host::Unix(path) => UnixStream::connect(path).await.map(|stream| Box::new(stream) as _),
        Host::Tcp { host, port, .. } => tcp(host, *port).await.map(|stream| Box::new(stream) as _),
        Host::Tls { host, port, config, .. } => tls(host, *port, config).await,
        Host::Ssh(ssh) => SshStream::spawn(ssh).map(|stream| Box::new(stream) as _),
    };
    opened.map_err(|why| {
        let address = host.display();
        let text = match why.kind() {
            io::ErrorKind::PermissionDenied => {
                format!("permission denied while trying to connect to the Docker daemon socket at {address}")
            }
            // The resolver's errors have no kind and no number.
            _ if why.raw_os_error().is_none() && why.to_string().starts_with("failed to lookup address") => {
                return Error::connect(format!("error during connect to {address}: no such host"));
            }
            io::ErrorKind::NotFound if matches!(host, Host::Ssh(_)) => {
                let text =
                    format!("error during connect to {address}: exec: \"ssh\": executable file not found in $PATH");
                return Error::connect(text);
            }
            io::ErrorKind::InvalidData => format!("error during connect to {address}"),
            _ => format!("Cannot connect to the Docker daemon at {address}. Is the docker daemon running?"),
        };
        Error::connect(text).with_source(why)
    })
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn tls(host: &str, port: u16, config: &std::sync::Arc<rustls::ClientConfig>) -> io::Result<Connection> {
    let name = ServerName::try_from(host.to_owned()).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
    let stream = tcp(host, port).await?;
    let stream = TlsConnector::from(config.clone()).connect(name, stream).await?;
    Ok(Box::new(stream))
}

/// The standard streams of `ssh … barque system dial-stdio`.
struct SshStream {
    // Kept so that the process is reaped; it ends when its input is closed.
    _child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

impl SshStream {
    fn spawn(ssh: &SshHost) -> io::Result<SshStream> {
        let mut child = Command::new("ssh")
            .args(ssh_arguments(ssh))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("ssh has no standard streams"));
        };
        Ok(SshStream { _child: child, input: Some(input), output })
    }
}

/// What to run: whichever of barque and docker the other machine has.
fn ssh_arguments(ssh: &SshHost) -> Vec<String> {
    let mut arguments = vec!["-o".to_owned(), "ConnectTimeout=30".to_owned(), "-T".to_owned()];
    if let Some(user) = &ssh.user {
        arguments.extend(["-l".to_owned(), user.clone()]);
    }
    if let Some(port) = ssh.port {
        arguments.extend(["-p".to_owned(), port.to_string()]);
    }
    let host = match &ssh.socket {
        Some(socket) => format!("--host {} ", quote(&format!("unix://{socket}"))),
        None => String::new(),
    };
    arguments.extend(["--".to_owned(), ssh.host.clone()]);
    arguments.push(format!(
        "if command -v barque >/dev/null 2>&1; then exec barque {host}system dial-stdio; \
         else exec docker {host}system dial-stdio; fi"
    ));
    arguments
}

/// Quotes one word for the remote shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl AsyncRead for SshStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buf)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Closing the pipe is the half-close of a process's streams.
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_command_line() {
        let ssh = SshHost { user: Some("me".into()), host: "box".into(), port: Some(2), socket: Some("/a b'c".into()) };
        let arguments = ssh_arguments(&ssh);
        assert_eq!(&arguments[2..9], ["-T", "-l", "me", "-p", "2", "--", "box"]);
        assert!(arguments[9].contains(r"barque --host 'unix:///a b'\''c' system dial-stdio"), "{}", arguments[9]);
    }
}
