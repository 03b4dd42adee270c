//! Completion scripts, the completions they ask for, manual pages, and `help`.
//!
//! The scripts are thin: they hand the words to the hidden `__complete` command, so that names of containers,
//! images, networks and volumes are those of the engine.

use std::path::Path;

use barque_api::container::{ContainerListQuery, ContainerSummary};
use barque_api::image::ImageListQuery;
use barque_client::Client;

use super::completion_values as values;
use crate::cli::{Cli, Invocation, help_text};
use crate::cmdline::{self, Category, Cmd, Flag, Flags, Kind, Outcome};
use crate::contexts::Store;
use crate::error::{CliResult, Failure, path_error};
use crate::tables::ROOT;

/// `help [COMMAND…]`.
pub(crate) async fn help(inv: &Invocation<'_>) -> CliResult<u8> {
    let (mut cmd, mut path) = (&ROOT, inv.cli.program.clone());
    for word in &inv.operands {
        match cmd.find(word) {
            Some(sub) => (path, cmd) = (format!("{path} {}", sub.name), sub),
            None => return Err(Failure::new(format!("unknown help topic: {}", inv.operands.join(" ")))),
        }
    }
    inv.cli.out(&help_text(cmd, &path))?;
    Ok(0)
}

/// `completion SHELL`.
pub(crate) async fn script(inv: &Invocation<'_>) -> CliResult<u8> {
    let template = match inv.operand(0) {
        "bash" => BASH,
        "zsh" => ZSH,
        "fish" => FISH,
        "powershell" => {
            let mut command = clap_tree(&ROOT, &inv.cli.program);
            let mut out = Vec::new();
            let name = inv.cli.program.clone();
            clap_complete::generate(clap_complete::Shell::PowerShell, &mut command, name, &mut out);
            inv.cli.out(&String::from_utf8_lossy(&out))?;
            return Ok(0);
        }
        shell => return Err(Failure::new(format!("unknown shell {shell:?}: must be bash, zsh, fish or powershell"))),
    };
    inv.cli.out(&template.replace("PROGRAM", &inv.cli.program))?;
    Ok(0)
}

// Bash takes ':' and '=' for ends of words; names of images have the one, flags with values the other. The words are
// put together again as the line has them, and what is before the last such sign is cut off the answers.
const BASH: &str = r#"# bash completion for PROGRAM
_PROGRAM_complete() {
    local IFS=$'\n' line=${COMP_LINE:0:COMP_POINT} words=() word bare i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        bare=${line#"${line%%[![:blank:]]*}"}
        if [[ $i -gt 0 && $bare == "$line" ]]; then
            words[${#words[@]}-1]+=$word
        else
            words+=("$word")
        fi
        line=${bare#"$word"}
    done
    word=${words[${#words[@]}-1]}
    COMPREPLY=($(PROGRAM __complete "${words[@]:1}" 2>/dev/null | cut -f1))
    if [[ ${#COMPREPLY[@]} -eq 0 ]]; then
        compopt -o default
    else
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*[:=]}"}"}")
        # A path follows a colon, a value an equals sign.
        [[ ${COMPREPLY[0]} != *[:=] ]] || compopt -o nospace
    fi
}
complete -F _PROGRAM_complete PROGRAM
"#;

const ZSH: &str = r#"#compdef PROGRAM
_PROGRAM_complete() {
    local -a found
    local line
    while IFS=$'\t' read -r line text; do
        found+=("${line//:/\\:}${text:+:$text}")
    done < <(PROGRAM __complete "${words[@]:1:$((CURRENT - 1))}" 2>/dev/null)
    if (( ${#found} )); then
        _describe 'PROGRAM' found
    else
        _files
    fi
}
compdef _PROGRAM_complete PROGRAM
"#;

const FISH: &str = r#"# fish completion for PROGRAM
function __PROGRAM_complete
    set -l words (commandline -opc) (commandline -ct)
    PROGRAM __complete $words[2..-1] 2>/dev/null
end
complete -c PROGRAM -f -a '(__PROGRAM_complete)'
complete -c PROGRAM -n '__fish_seen_subcommand_from build cp load import' -F
"#;

/// `__complete WORD…`: the last word is the one to complete.
pub(crate) async fn complete(inv: &Invocation<'_>) -> CliResult<u8> {
    let Some((last, before)) = inv.operands.split_last() else { return Ok(0) };
    // The engine is the one that the words name.
    let global = match cmdline::parse(&ROOT, before) {
        Ok(Outcome::Run { flags, .. }) => flags,
        _ => Flags::default(),
    };
    let cli = Cli::new(&inv.cli.program, global);
    if let Some(role) = values::role(before).filter(|_| last.starts_with('-')) {
        return print(inv, &values::options_of_role(role), last);
    }
    let mut cmd: &Cmd = &ROOT;
    let mut operands = 0;
    let mut words = before.iter();
    let mut pending = None;
    while let Some(word) = words.next() {
        if let Some(name) = word.strip_prefix('-') {
            pending = flag_with_value(cmd, name);
            if pending.is_some() && words.next().is_some() {
                pending = None;
            }
            continue;
        }
        match cmd.find(word) {
            Some(sub) if operands == 0 && sub.name == "compose" => {
                let found = super::completion_compose::candidates(inv, words.as_slice(), last);
                return print(inv, &found, last);
            }
            Some(sub) if operands == 0 => cmd = sub,
            _ => operands += 1,
        }
    }
    let found = match (pending, last.split_once('=')) {
        (Some(flag), _) => value(&cli, cmd, flag.name, last).await,
        (None, Some((flag, started))) if flag.starts_with("--") => {
            let found = value(&cli, cmd, &flag[2..], started).await;
            found.into_iter().map(|(name, text)| (format!("{flag}={name}"), text)).collect()
        }
        _ => candidates(&cli, cmd, last, operands).await,
    };
    print(inv, &found, last)
}

/// What the value of a flag may be.
async fn value(cli: &Cli, cmd: &Cmd, flag: &str, started: &str) -> Vec<(String, String)> {
    let elsewhere = values::known_elsewhere(flag);
    match values::of_flag(cmd, flag, started) {
        [] if !elsewhere.is_empty() => elsewhere.into_iter().map(|word| (word, String::new())).collect(),
        [] => names(cli, value_of_flag(cmd, flag)).await,
        words => bare(words),
    }
}

fn bare(words: &[&str]) -> Vec<(String, String)> {
    words.iter().map(|word| ((*word).to_owned(), String::new())).collect()
}

/// The flag `name` (without its first dash) if the next word is its value.
fn flag_with_value(cmd: &Cmd, name: &str) -> Option<&'static Flag> {
    let long = name.strip_prefix('-');
    // Of letters that stand together the last one takes the value.
    let letter = name.chars().last().filter(|_| long.is_none());
    let named = |f: &&Flag| long == Some(f.name) || f.letter != '\0' && Some(f.letter) == letter;
    cmd.all_flags().find(|f| named(f) && !matches!(f.kind, Kind::Bool))
}

fn print(inv: &Invocation<'_>, found: &[(String, String)], last: &str) -> CliResult<u8> {
    let lines: String = found.iter().filter(|(name, _)| name.starts_with(last)).map(line).collect();
    inv.cli.out(&lines)?;
    Ok(0)
}

fn line((name, text): &(String, String)) -> String {
    if text.is_empty() { format!("{name}\n") } else { format!("{name}\t{text}\n") }
}

async fn candidates(cli: &Cli, cmd: &Cmd, last: &str, operands: usize) -> Vec<(String, String)> {
    if last.starts_with('-') {
        let shown = cmd.all_flags().filter(|f| !f.hidden);
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        return shown.map(|f| (format!("--{}", f.name), first(f.usage))).collect();
    }
    if !cmd.subs.is_empty() {
        let shown = cmd.subs.iter().filter(|c| c.category != Category::Hidden);
        return shown.map(|c| (c.name.to_owned(), c.short.to_owned())).collect();
    }
    match values::of_operand(cmd) {
        [] => names(cli, operand_kind(cmd, operands)).await,
        words if operands == 0 => bare(words),
        _ => Vec::new(),
    }
}

/// What the engine is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Nothing,
    Containers {
        all: bool,
    },
    /// Those that do not run.
    Stopped,
    /// Containers, each before a path in it.
    Places,
    /// Volumes, each before the path where it appears.
    Mounts,
    Images,
    Networks,
    Volumes,
    Contexts,
    /// What `inspect` takes.
    Objects,
}

fn value_of_flag(cmd: &Cmd, flag: &str) -> Names {
    match (cmd.name, flag) {
        (_, "network" | "net") => Names::Networks,
        (_, "volumes-from" | "link") => Names::Containers { all: true },
        ("run" | "create", "volume") => Names::Mounts,
        ("", "context") | ("create", "from") => Names::Contexts,
        _ => Names::Nothing,
    }
}

/// What the operands of a command are, by its usage line.
fn operand_kind(cmd: &Cmd, index: usize) -> Names {
    let operands: Vec<&str> = cmd.usage.split_whitespace().filter(|w| *w != "[OPTIONS]").collect();
    let Some(word) = operands.get(index).or(operands.last()) else { return Names::Nothing };
    match cmd.name {
        "cp" => return Names::Places,
        "start" => return Names::Stopped,
        _ => {}
    }
    let running = matches!(cmd.name, "attach" | "exec" | "kill" | "pause" | "stop" | "top" | "stats");
    match word.trim_matches(['[', ']', '.']) {
        w if w.starts_with("CONTAINER") => Names::Containers { all: !running },
        w if w.starts_with("IMAGE") || w.starts_with("SOURCE_IMAGE") || w.starts_with("REPOSITORY") => Names::Images,
        w if w.starts_with("NAME") && matches!(cmd.name, "pull" | "push") => Names::Images,
        w if w.starts_with("NAME|ID") => Names::Objects,
        w if w.starts_with("NETWORK") => Names::Networks,
        w if w.starts_with("VOLUME") || w == "SOURCE" => Names::Volumes,
        w if w.starts_with("CONTEXT") => Names::Contexts,
        _ => Names::Nothing,
    }
}

/// Names from the engine; none where it does not answer, since completion has nobody to complain to.
async fn names(cli: &Cli, kind: Names) -> Vec<(String, String)> {
    match kind {
        Names::Nothing => return Vec::new(),
        Names::Contexts => {
            let stored = Store::new(&cli.config().directory).list();
            let stored = stored.iter().map(|c| (c.name().to_owned(), c.description().to_owned()));
            return [(crate::contexts::DEFAULT.to_owned(), String::new())].into_iter().chain(stored).collect();
        }
        _ => {}
    }
    // The engine is not started for a completion.
    let running = cli.target().is_ok_and(|t| !t.is_default || Path::new(crate::target::DEFAULT_SOCKET).exists());
    if !running {
        return Vec::new();
    }
    let Ok(client) = cli.client().await else { return Vec::new() };
    let all = [Names::Containers { all: true }, Names::Images, Names::Networks, Names::Volumes];
    let (one, mut found) = ([kind], Vec::new());
    for kind in if kind == Names::Objects { &all[..] } else { &one[..] } {
        found.extend(list(client, *kind).await);
    }
    found
}

/// A container's name, its image and how it is.
fn described(container: ContainerSummary) -> Option<(String, String)> {
    let name = container.names.first()?.trim_start_matches('/').to_owned();
    Some((name, format!("{} ({})", container.image, container.status)))
}

async fn list(client: &Client, kind: Names) -> Vec<(String, String)> {
    let bare = |name: String| (name, String::new());
    match kind {
        Names::Containers { all } => {
            let query = ContainerListQuery { all, ..ContainerListQuery::default() };
            let found = client.container_list(&query).await.unwrap_or_default();
            found.into_iter().filter_map(described).collect()
        }
        Names::Stopped => {
            let query = ContainerListQuery { all: true, ..ContainerListQuery::default() };
            let found = client.container_list(&query).await.unwrap_or_default();
            let stopped =
                found.into_iter().filter(|c| !matches!(c.state.as_str(), "running" | "restarting" | "paused"));
            stopped.filter_map(described).collect()
        }
        Names::Places | Names::Mounts => {
            let of = if kind == Names::Mounts { Names::Volumes } else { Names::Containers { all: true } };
            let found = Box::pin(list(client, of)).await;
            found.into_iter().map(|(name, text)| (format!("{name}:"), text)).collect()
        }
        Names::Images => {
            let found = client.image_list(&ImageListQuery::default()).await.unwrap_or_default();
            found.into_iter().flat_map(|i| i.repo_tags).filter(|t| t != "<none>:<none>").map(bare).collect()
        }
        Names::Networks => {
            let found = client.network_list(&Default::default()).await.unwrap_or_default();
            found.into_iter().map(|n| (n.name, n.driver)).collect()
        }
        Names::Volumes => {
            let found = client.volume_list(&Default::default()).await.unwrap_or_default();
            found.volumes.into_iter().map(|v| bare(v.name)).collect()
        }
        Names::Contexts | Names::Objects | Names::Nothing => Vec::new(),
    }
}

/// `man DIRECTORY`: a page per command.
pub(crate) async fn man(inv: &Invocation<'_>) -> CliResult<u8> {
    let directory = Path::new(inv.operand(0));
    std::fs::create_dir_all(directory).map_err(|e| path_error("mkdir", inv.operand(0), &e))?;
    pages(&ROOT, &inv.cli.program, directory)?;
    Ok(0)
}

fn pages(cmd: &Cmd, path: &str, directory: &Path) -> CliResult<()> {
    let name = path.replace(' ', "-");
    let file = directory.join(format!("{name}.1"));
    let shown = file.display().to_string();
    let mut out = Vec::new();
    if cmd.name == "compose" {
        return compose_pages(&barque_compose::cli::command(), &name, directory);
    }
    let man = clap_mangen::Man::new(clap_tree(cmd, &name));
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    synopsis(&mut out, cmd, path);
    man.render_description_section(&mut out)?;
    if cmd.all_flags().any(|f| !f.hidden) {
        man.render_options_section(&mut out)?;
    }
    options_of_role(&mut out, path);
    // Commands that are listed and not built read no flags either.
    if cmd.raw && cmd.category == Category::Plain {
        out.extend_from_slice(b".SH STATUS\nNot implemented yet: the command says so and ends with status 125.\n");
    }
    if !cmd.subs.is_empty() {
        man.render_subcommands_section(&mut out)?;
    }
    std::fs::write(&file, out).map_err(|e| path_error("open", &shown, &e))?;
    for sub in cmd.subs.iter().filter(|c| c.category != Category::Hidden) {
        pages(sub, &format!("{path} {}", sub.name), directory)?;
    }
    Ok(())
}

/// The options of a role, as it lists them itself.
fn options_of_role(out: &mut Vec<u8>, path: &str) {
    let mut words: Vec<String> = path.split(' ').skip(1).map(str::to_owned).collect();
    if words == ["registry"] {
        words.push("serve".to_owned());
    }
    let help = values::role(&words).map(values::help_of_role).unwrap_or_default();
    let Some((_, options)) = help.split_once("Options:\n") else { return };
    out.extend_from_slice(b".SH OPTIONS\n.nf\n");
    for line in options.lines() {
        out.extend_from_slice(format!("\\&{}\n", roff(line)).as_bytes());
    }
    out.extend_from_slice(b".fi\n");
}

/// The text as a manual page shows it.
fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// The usage line: the tables' operands are text, which the generator does not know.
fn synopsis(out: &mut Vec<u8>, cmd: &Cmd, path: &str) {
    let line = match cmd.subs.is_empty() {
        true => crate::cmdline::usage_line(cmd, path),
        false => format!("{path} [OPTIONS] COMMAND"),
    };
    let (command, rest) = line.split_at(path.len().min(line.len()));
    out.extend_from_slice(format!(".SH SYNOPSIS\n\\fB{}\\fR{}\n", roff(command), roff(rest)).as_bytes());
}

/// The pages of `compose`, which has a command line of its own.
fn compose_pages(command: &clap::Command, name: &str, directory: &Path) -> CliResult<()> {
    let file = directory.join(format!("{name}.1"));
    let mut out = Vec::new();
    clap_mangen::Man::new(command.clone().name(name.to_owned())).render(&mut out)?;
    std::fs::write(&file, out).map_err(|e| path_error("open", &file.display().to_string(), &e))?;
    let everywhere: Vec<&clap::Arg> = command.get_arguments().filter(|arg| arg.is_global_set()).collect();
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        let sub = &sub.clone().args(everywhere.iter().copied());
        compose_pages(sub, &format!("{name}-{}", sub.get_name()), directory)?;
    }
    Ok(())
}

/// The tables as clap knows commands, for the generators made for it.
fn clap_tree(cmd: &Cmd, name: &str) -> clap::Command {
    let about = if cmd.long.is_empty() { cmd.short } else { cmd.long };
    let mut tree = clap::Command::new(name.to_owned())
        .about(about)
        .disable_help_subcommand(true)
        .disable_help_flag(cmd.all_flags().any(|f| f.letter == 'h' || f.name == "help"));
    for flag in cmd.all_flags().filter(|f| !f.hidden && f.name != "help") {
        let mut arg = clap::Arg::new(flag.name).long(flag.name).help(flag.usage);
        if flag.letter != '\0' {
            arg = arg.short(flag.letter);
        }
        arg = match flag.kind {
            Kind::Bool => arg.action(clap::ArgAction::SetTrue),
            kind => arg.action(clap::ArgAction::Append).value_name(kind.type_name()),
        };
        tree = tree.arg(arg);
    }
    for sub in cmd.subs.iter().filter(|c| c.category != Category::Hidden) {
        tree = tree.subcommand(clap_tree(sub, sub.name));
    }
    tree
}
