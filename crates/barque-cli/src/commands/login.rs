//! `login` and `logout`.

use std::io::{Read as _, Write as _};

use barque_api::auth::AuthConfig;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::auth::{self, HUB, hostname};
use crate::cli::Invocation;
use crate::error::{CliResult, Failure};
use crate::term::stdio::Input;
use crate::term::{self, signals};

/// No more of a line than a terminal can give is read.
const LONGEST_LINE: usize = 4096;

pub(crate) async fn login(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    check_flags(inv)?;
    let (mut user, mut password) = (flags.text("username").to_owned(), flags.text("password").to_owned());
    if !password.is_empty() {
        inv.cli.err("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    if flags.is("password-stdin") {
        std::io::stdin().read_to_string(&mut password)?;
        let bare = password.strip_suffix('\n').unwrap_or(&password);
        password = bare.strip_suffix('\r').unwrap_or(bare).to_owned();
    }
    let server = match inv.operand(0) {
        "" | "docker.io" => HUB.to_owned(),
        server => hostname(server).to_owned(),
    };
    let mut stored_user = String::new();
    if user.is_empty() && password.is_empty() {
        let stored = auth::get(inv.cli.config(), &server)?.unwrap_or_default();
        stored_user = stored.username.clone();
        if !stored.username.is_empty() && !stored.password.is_empty() && with_stored(inv, &server, stored).await? {
            return Ok(0);
        }
    }
    if (user.is_empty() || password.is_empty()) && !term::is_terminal_in() {
        return Err(Failure::new("Error: Cannot perform an interactive login from a non TTY device"));
    }
    if user.trim().is_empty() {
        user = ask_user(inv, &server, &stored_user).await?;
    }
    if password.trim().is_empty() {
        password = ask_password().await?;
    }
    let credentials = AuthConfig {
        username: user.trim().to_owned(),
        password: password.trim().to_owned(),
        serveraddress: server,
        ..AuthConfig::default()
    };
    let status = check_and_store(inv, credentials).await?;
    if !status.is_empty() {
        inv.cli.line(&status)?;
    }
    Ok(0)
}

fn check_flags(inv: &Invocation<'_>) -> CliResult<()> {
    let flags = &inv.flags;
    if flags.given("password-stdin") {
        if flags.given("password") {
            return Err(Failure::new("conflicting options: cannot specify both --password and --password-stdin"));
        }
        if !flags.given("username") {
            return Err(Failure::new("the --password-stdin option requires --username to be set"));
        }
    }
    if flags.given("username") && flags.text("username").is_empty() {
        return Err(Failure::new("username is empty"));
    }
    if flags.given("password") && flags.text("password").is_empty() {
        return Err(Failure::new("password is empty"));
    }
    Ok(())
}

/// Tries what is stored; true if it still holds.
async fn with_stored(inv: &Invocation<'_>, server: &str, stored: AuthConfig) -> CliResult<bool> {
    let program = &inv.cli.program;
    inv.cli.err(&format!("Authenticating with existing credentials... [Username: {}]", stored.username));
    inv.cli.err(&format!(
        "\ni Info → To login with a different account, run '{program} logout' followed by '{program} login'\n"
    ));
    let credentials = AuthConfig { serveraddress: server.to_owned(), identitytoken: String::new(), ..stored };
    match check_and_store(inv, credentials).await {
        Ok(status) => {
            if !status.is_empty() {
                inv.cli.line(&status)?;
            }
            Ok(true)
        }
        Err(failure) if failure.kind == Some(barque_model::ErrorKind::Unauthorized) => {
            inv.cli.err("Stored credentials invalid or expired");
            Ok(false)
        }
        Err(failure) => {
            inv.cli.err(&format!("Login did not succeed, error: {}", failure.message));
            Ok(false)
        }
    }
}

/// Lets the engine try the credentials and keeps them; gives its word for success.
async fn check_and_store(inv: &Invocation<'_>, mut credentials: AuthConfig) -> CliResult<String> {
    let reply = inv.client().await?.auth(&credentials).await?;
    if !reply.identity_token.is_empty() {
        credentials.password.clear();
        credentials.identitytoken = reply.identity_token;
    }
    if let Some(warning) = auth::store(inv.cli.config(), &credentials)? {
        inv.cli.err(&warning);
    }
    Ok(reply.status)
}

async fn ask_user(inv: &Invocation<'_>, server: &str, stored: &str) -> CliResult<String> {
    if server == HUB {
        inv.cli.line(
            "Log in with your Docker ID or email address to push and pull images from Docker Hub. If you don't have a \
             Docker ID, head over to https://hub.docker.com/ to create one.",
        )?;
    }
    let prompt = if stored.is_empty() { "Username: ".to_owned() } else { format!("Username ({stored}): ") };
    let answer = ask(&prompt).await?;
    let answer = if answer.is_empty() { stored.to_owned() } else { answer };
    if answer.is_empty() {
        return Err(Failure::new("Error: Non-null Username Required"));
    }
    Ok(answer)
}

async fn ask_password() -> CliResult<String> {
    let quiet = NoEcho::enter()?;
    let answer = ask("Password: ").await?;
    drop(quiet);
    let _nobody_reads = writeln!(std::io::stdout());
    if answer.is_empty() {
        return Err(Failure::new("Error: Password Required"));
    }
    Ok(answer)
}

/// Asks for a line of the terminal. A signal ends the wait, and with it what hides the typing.
async fn ask(prompt: &str) -> CliResult<String> {
    let mut stdout = std::io::stdout();
    write!(stdout, "{prompt}").and_then(|()| stdout.flush())?;
    let stdin = Input::open()?;
    let line = async {
        let (mut answer, mut buffer) = (Vec::new(), [0; 1]);
        while answer.len() < LONGEST_LINE && stdin.read(&mut buffer).await? == 1 && buffer[0] != b'\n' {
            answer.push(buffer[0]);
        }
        Ok(String::from_utf8_lossy(&answer).trim().to_owned())
    };
    signals::unless_ended(line).await
}

/// What is typed is not shown, until dropped.
struct NoEcho(rustix::termios::Termios);

impl NoEcho {
    fn enter() -> CliResult<Option<NoEcho>> {
        if !term::is_terminal_in() {
            return Ok(None);
        }
        let before = tcgetattr(rustix::stdio::stdin()).map_err(std::io::Error::from)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &silent).map_err(std::io::Error::from)?;
        Ok(Some(NoEcho(before)))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

pub(crate) async fn logout(inv: &Invocation<'_>) -> CliResult<u8> {
    let server = inv.operand(0);
    let (shown, keys) = if server.is_empty() || server == "docker.io" {
        (HUB.to_owned(), vec![HUB.to_owned()])
    } else {
        let host = hostname(server);
        // Older clients kept some of these forms.
        let mut keys = vec![server.to_owned(), host.to_owned(), format!("http://{host}"), format!("https://{host}")];
        keys.dedup();
        (host.to_owned(), keys)
    };
    inv.cli.line(&format!("Removing login credentials for {shown}"))?;
    let mut config = inv.cli.config().clone();
    let faults: Vec<String> = keys
        .iter()
        .filter_map(|key| auth::erase(&mut config, key).err().map(|f| format!("{key}: {}", f.message)))
        .collect();
    if faults.len() == keys.len() {
        inv.cli.err(&format!("WARNING: could not erase credentials:\n{}", faults.join("\n")));
    }
    Ok(0)
}
