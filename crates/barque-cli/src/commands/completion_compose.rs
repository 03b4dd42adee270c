//! Completions of `compose …`: its commands, flags and the services of the project.

use std::ffi::OsString;

use crate::cli::Invocation;

/// What may follow the words after `compose`.
pub(super) fn candidates(inv: &Invocation<'_>, words: &[String], last: &str) -> Vec<(String, String)> {
    let tree = barque_compose::cli::command();
    let found = walk(&tree, words);
    let named = || {
        let host = super::compose::host(inv).ok()?;
        Some(barque_compose::cli::names(found.globals.iter().map(OsString::from).collect(), host))
    };
    let bare = |names: Vec<String>| names.into_iter().map(|name| (name, String::new())).collect();
    let about = |text: Option<&clap::builder::StyledStr>| {
        text.map(|t| t.to_string().lines().next().unwrap_or_default().to_owned()).unwrap_or_default()
    };
    if let Some(flag) = found.pending {
        // Where nothing is offered, the shell offers files.
        return match flag.get_id().as_str() {
            "profile" => bare(named().unwrap_or_default().profiles),
            _ => bare(flag.get_possible_values().iter().map(|v| v.get_name().to_owned()).collect()),
        };
    }
    let command = found.command;
    if last.starts_with('-') {
        let shown = command.get_arguments().filter(|a| !a.is_hide_set());
        return shown.filter_map(|a| Some((format!("--{}", a.get_long()?), about(a.get_help())))).collect();
    }
    if command.has_subcommands() {
        let shown = command.get_subcommands().filter(|c| !c.is_hide_set());
        return shown.map(|c| (c.get_name().to_owned(), about(c.get_about()))).collect();
    }
    let takes_service = command
        .get_positionals()
        .any(|p| p.get_value_names().is_some_and(|names| names.iter().any(|n| n.starts_with("SERVICE"))));
    if !takes_service {
        return Vec::new();
    }
    bare(named().unwrap_or_default().services)
}

/// What words mean.
struct Walk<'a> {
    command: &'a clap::Command,
    /// Flags before the command.
    globals: Vec<String>,
    /// A flag at the end whose value is still to come.
    pending: Option<&'a clap::Arg>,
}

/// Follows the words through the tree of commands.
fn walk<'a>(tree: &'a clap::Command, words: &[String]) -> Walk<'a> {
    let (mut command, mut globals, mut pending) = (tree, Vec::new(), None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix('-') else {
            if let Some(sub) = command.find_subcommand(word) {
                command = sub;
            }
            continue;
        };
        let is_it = |a: &&clap::Arg| {
            a.get_long() == Some(name.trim_start_matches('-'))
                || (name.len() == 1 && a.get_short().is_some_and(|s| name.starts_with(s)))
        };
        let flag = command.get_arguments().find(is_it).filter(|a| a.get_action().takes_values());
        let value = flag.and_then(|_| words.next().cloned());
        pending = flag.filter(|_| value.is_none());
        if std::ptr::eq(command, tree) {
            globals.push(word.clone());
            globals.extend(value);
        }
    }
    Walk { command, globals, pending }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_found_behind_flags() {
        let tree = barque_compose::cli::command();
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let found = walk(&tree, &words("-f a.yaml --profile x exec -u root"));
        assert_eq!((found.command.get_name(), found.pending.is_none()), ("exec", true));
        assert_eq!(found.globals, ["-f", "a.yaml", "--profile", "x"]);
        let found = walk(&tree, &words("-f a.yaml --profile"));
        assert_eq!(found.pending.map(|flag| flag.get_id().as_str()), Some("profile"));
        assert!(walk(&tree, &words("up --pull")).pending.is_some_and(|flag| !flag.get_possible_values().is_empty()));
        assert_eq!(walk(&tree, &[]).command.get_name(), tree.get_name());
    }
}
