//! Prints a command's help in the form of the `docker` client.

use std::fmt::Write as _;

use super::spec::{Category, Cmd, Flag, Kind};

/// `docker run [OPTIONS] IMAGE …`, where `path` is `docker run`.
pub(crate) fn usage_line(cmd: &Cmd, path: &str) -> String {
    if cmd.usage.is_empty() {
        return path.to_owned();
    }
    let program = path.split(' ').next().unwrap_or(path);
    format!("{path} {}", cmd.usage.replace("PROGRAM", program))
}

/// The whole help of a command reached as `path` (`docker image ls`), wrapped to `width` columns.
pub(crate) fn help(cmd: &Cmd, path: &str, width: usize) -> String {
    let program = path.split(' ').next().unwrap_or(path);
    let is_root = path == program;
    let mut out = String::from("Usage:  ");
    if cmd.subs.is_empty() {
        out.push_str(&usage_line(cmd, path));
    } else {
        let options = if cmd.all_flags().any(|f| !f.hidden) { " [OPTIONS]" } else { "" };
        let _ = write!(out, "{path}{options} COMMAND");
    }
    let text = if cmd.long.is_empty() { cmd.short } else { cmd.long };
    let _ = write!(out, "\n\n{}", text.trim());
    aliases(&mut out, cmd, path, program);
    if !is_root {
        options(&mut out, cmd, "Options", width);
    }
    subcommands(&mut out, cmd, is_root);
    if is_root {
        options(&mut out, cmd, "Global Options", width);
    }
    if !cmd.subs.is_empty() {
        let _ = write!(out, "\n\nRun '{path} COMMAND --help' for more information on a command.");
    }
    match (is_root, program) {
        (true, "docker") => {
            out.push_str("\n\nFor more help on how to use Docker, head to https://docs.docker.com/go/guides/");
        }
        (true, _) => out.push_str("\n\nIs something wrong? Run 'barque doctor'. Manual pages: 'barque man DIRECTORY'"),
        (false, _) => out.push_str(&under_dockers_name(cmd, path, program)),
    }
    out.push('\n');
    out
}

/// Docker's top-level commands, called as `barque`, also show how to call them under Docker's name: scripts and
/// people look for that line, and it is the same command.
fn under_dockers_name(cmd: &Cmd, path: &str, program: &str) -> String {
    let top_level = path.matches(' ').count() == 1;
    let dockers = !matches!(cmd.category, Category::Own | Category::Hidden);
    if program == "docker" || !top_level || !dockers {
        return String::new();
    }
    let path = format!("docker {}", cmd.name);
    let line = if cmd.subs.is_empty() { usage_line(cmd, &path) } else { format!("{path} COMMAND") };
    format!("\n\nUnder Docker's name it is the same command; usage:  {line}")
}

fn aliases(out: &mut String, cmd: &Cmd, path: &str, program: &str) {
    let names: Vec<String> = if !cmd.spellings.is_empty() {
        cmd.spellings.iter().map(|s| format!("{program} {s}")).collect()
    } else if !cmd.aliases.is_empty() {
        let parent = path.rsplit_once(' ').map_or(path, |(parent, _)| parent);
        std::iter::once(path.to_owned()).chain(cmd.aliases.iter().map(|a| format!("{parent} {a}"))).collect()
    } else {
        return;
    };
    let _ = write!(out, "\n\nAliases:\n  {}", names.join(", "));
}

fn subcommands(out: &mut String, cmd: &Cmd, is_root: bool) {
    let visible: Vec<&Cmd> = cmd.subs.iter().copied().filter(|c| c.category != Category::Hidden).collect();
    let longest = cmd.subs.iter().filter(|c| c.category != Category::Hidden).map(|c| c.name.len()).max();
    let pad = longest.unwrap_or(0).max(11);
    let mut section = |title: &str, wanted: &dyn Fn(&Cmd) -> bool| {
        let listed: Vec<&&Cmd> = visible.iter().filter(|c| wanted(c)).collect();
        if listed.is_empty() {
            return;
        }
        let _ = write!(out, "\n\n{title}:");
        for sub in listed {
            let _ = write!(out, "\n  {:<pad$} {}", sub.name, sub.short);
        }
    };
    if is_root {
        section("Common Commands", &|c| c.category == Category::Common);
        section("Management Commands", &|c| c.category == Category::Management);
        section("Swarm Commands", &|c| c.category == Category::Swarm);
        section("Barque Commands", &|c| c.category == Category::Own);
        section("Commands", &|c| c.category == Category::Plain);
    } else {
        section("Management Commands", &|c| !c.subs.is_empty());
        section("Commands", &|c| c.subs.is_empty());
    }
}

fn options(out: &mut String, cmd: &Cmd, title: &str, width: usize) {
    let mut flags: Vec<&Flag> = cmd.all_flags().filter(|f| !f.hidden).collect();
    if flags.is_empty() {
        return;
    }
    flags.sort_by_key(|f| f.name);
    let _ = write!(out, "\n\n{title}:");
    let heads: Vec<String> = flags.iter().map(|f| head(f)).collect();
    let column = heads.iter().map(String::len).max().unwrap_or(0) + 3;
    for (flag, head) in flags.iter().zip(&heads) {
        let text = wrap(column, width.saturating_sub(1), &body(flag));
        let line = format!("{head:<column$}{text}");
        let _ = write!(out, "\n{}", line.trim_end());
    }
}

/// `  -p, --publish list`.
fn head(flag: &Flag) -> String {
    let mut head = match flag.letter {
        '\0' => format!("      --{}", flag.name),
        letter => format!("  -{letter}, --{}", flag.name),
    };
    let type_name = flag.kind.type_name();
    if !type_name.is_empty() {
        let _ = write!(head, " {type_name}");
    }
    head
}

fn body(flag: &Flag) -> String {
    match (flag.default, flag.kind) {
        ("", _) => flag.usage.to_owned(),
        // Below the directory of the configuration.
        (default, Kind::Str) if default.starts_with('~') => {
            let directory = crate::config::default_directory().display().to_string();
            format!("{} (default {:?})", flag.usage, default.replacen('~', &directory, 1))
        }
        (default, Kind::Str) => format!("{} (default {default:?})", flag.usage),
        (default, _) => format!("{} (default {default})", flag.usage),
    }
}

/// The shortest line worth wrapping: below it, the text goes on unwrapped.
const MIN_TEXT: usize = 24;
/// How far beyond the width a line may run rather than leave one short word for the next.
const SLOP: usize = 5;

/// Wraps `text` so that it stands at column `indent`, in lines up to `width` columns. The rule is that of the
/// library behind Docker's client, so that help texts agree to the byte.
fn wrap(mut indent: usize, width: usize, text: &str) -> String {
    if width == 0 {
        return text.replace('\n', &format!("\n{}", " ".repeat(indent)));
    }
    let mut room = width.saturating_sub(indent);
    let mut out = String::new();
    if room < MIN_TEXT {
        // Too narrow beside the flag: the text goes under it.
        indent = 16;
        room = width.saturating_sub(indent);
        out.push('\n');
        out.push_str(&" ".repeat(indent));
    }
    if room < MIN_TEXT {
        return text.replace('\n', &format!("\n{}", " ".repeat(indent)));
    }
    let room = room - SLOP;
    let pad = format!("\n{}", " ".repeat(indent));
    let (first, mut rest) = cut(room, SLOP, text);
    out.push_str(&first.replace('\n', &pad));
    while !rest.is_empty() {
        let (line, after) = cut(room, SLOP, rest);
        out.push_str(&pad);
        out.push_str(&line.replace('\n', &pad));
        rest = after;
    }
    out
}

/// Splits off a line of about `room` bytes, at most `slop` more.
fn cut(room: usize, slop: usize, text: &str) -> (&str, &str) {
    if room + slop > text.len() {
        return (text, "");
    }
    let end = (0..=room).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    let blank = text[..end].rfind([' ', '\t', '\n']);
    let Some(at) = blank.filter(|&i| i > 0) else { return (text, "") };
    if let Some(newline) = text[..end].rfind('\n').filter(|&i| i > 0 && i < at) {
        return (&text[..newline], &text[newline + 1..]);
    }
    (&text[..at], &text[at + 1..])
}

/// Columns of the terminal on standard input, 80 where it is none.
pub(crate) fn width_of_terminal() -> usize {
    match rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
        Ok(size) => usize::from(size.ws_col),
        Err(_) => 80,
    }
}
