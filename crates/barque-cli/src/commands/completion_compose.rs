//! Completions of `compose …`: its commands, flags and the services of the project.

use std::ffi::OsString;

use crate::cli::Invocation;

/// What may follow the words after `compose`.
pub(super) fn candidates(inv: &Invocation<'_>, words: &[String], last: &str) -> Vec<(String, String)> {
    let tree = barque_compose::cli::command();
    let (command, globals) = walk(&tree, words);
    let about = |text: Option<&clap::builder::StyledStr>| {
        text.map(|t| t.to_string().lines().next().unwrap_or_default().to_owned()).unwrap_or_default()
    };
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
    let Ok(host) = super::compose::host(inv) else { return Vec::new() };
    let names = barque_compose::cli::service_names(globals.iter().map(OsString::from).collect(), host);
    names.into_iter().map(|name| (name, String::new())).collect()
}

/// The command that the words name, and the flags before it.
fn walk<'a>(tree: &'a clap::Command, words: &[String]) -> (&'a clap::Command, Vec<String>) {
    let (mut command, mut globals) = (tree, Vec::new());
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
        let takes_value = command.get_arguments().find(is_it).is_some_and(|a| a.get_action().takes_values());
        let value = if takes_value { words.next().cloned() } else { None };
        if std::ptr::eq(command, tree) {
            globals.push(word.clone());
            globals.extend(value);
        }
    }
    (command, globals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_found_behind_flags() {
        let tree = barque_compose::cli::command();
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (command, globals) = walk(&tree, &words("-f a.yaml --profile x exec -u root"));
        assert_eq!(command.get_name(), "exec");
        assert_eq!(globals, ["-f", "a.yaml", "--profile", "x"]);
        assert_eq!(walk(&tree, &[]).0.get_name(), tree.get_name());
    }
}
