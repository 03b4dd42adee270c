//! Which changes concern which services, and what is to be done; pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use barque_client::archive::ignore::Patterns;

use crate::cli::context::Failure;
use crate::file::model::{Hook, WatchAction};
use crate::file::project::Project;

/// What editors and version control write beside the files themselves.
const EPHEMERAL: &str = "**/.git\n**/.idea\n**/.vscode\n**/*~\n**/.*.sw?\n**/.*.sw??\n**/.#*\n**/#*#\n**/4913\n\
                         **/*___jb_tmp___\n**/*___jb_old___\n**/.DS_Store";

/// One entry of `develop.watch`, ready to be asked.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) service: String,
    pub(super) path: PathBuf,
    pub(super) action: WatchAction,
    pub(super) target: String,
    pub(super) exec: Hook,
    pub(super) initial_sync: bool,
    ignore: Patterns,
    /// Empty: everything.
    include: Option<Patterns>,
    /// `.dockerignore` of the service's build context, with the context's directory.
    context: Option<(PathBuf, Patterns)>,
}

impl Rule {
    /// The path of a change below this rule's own (empty: the rule's path itself), if it concerns the rule.
    pub(super) fn relative(&self, changed: &Path) -> Option<String> {
        let relative = changed.strip_prefix(&self.path).ok()?.to_str()?.to_owned();
        let listed = self.include.as_ref().is_none_or(|i| i.ignores(&relative));
        // A directory is never listed itself, but what is in it may be.
        if self.ignore.ignores(&relative) || (!relative.is_empty() && !listed) {
            return None;
        }
        let unsent = self.context.as_ref().is_some_and(|(dir, ignore)| {
            changed.strip_prefix(dir).ok().and_then(Path::to_str).is_some_and(|p| !p.is_empty() && ignore.ignores(p))
        });
        (!unsent).then_some(relative)
    }

    /// Whether files in a directory, or deeper, may concern the rule.
    pub(super) fn may_hold(&self, directory: &Path) -> bool {
        let Ok(relative) = directory.strip_prefix(&self.path) else { return self.path.starts_with(directory) };
        let Some(relative) = relative.to_str() else { return false };
        let shut =
            |ignore: &Patterns, path: &str| !path.is_empty() && ignore.ignores(path) && !ignore.may_keep_below(path);
        let unsent = self.context.as_ref().is_some_and(|(dir, ignore)| {
            directory.strip_prefix(dir).ok().and_then(Path::to_str).is_some_and(|path| shut(ignore, path))
        });
        !unsent && !shut(&self.ignore, relative) && self.include.as_ref().is_none_or(|i| i.may_match_below(relative))
    }

    /// Where a changed file is in the container.
    fn target_of(&self, relative: &str) -> String {
        let base = self.target.trim_end_matches('/');
        match relative {
            "" if self.target.ends_with('/') => {
                let name = self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                format!("{base}/{name}")
            }
            "" => self.target.clone(),
            relative => format!("{base}/{relative}"),
        }
    }

    /// The same rule without what follows the copying.
    pub(super) fn only_sync(&self) -> Rule {
        Rule { action: WatchAction::Sync, ..self.clone() }
    }

    pub(super) fn copies(&self) -> bool {
        matches!(self.action, WatchAction::Sync | WatchAction::SyncRestart | WatchAction::SyncExec)
    }
}

/// The rules of the services that are named, or of all.
///
/// # Errors
/// Nothing is watched; a rule lacks what its action needs.
pub(super) fn collect(project: &Project, named: &[String]) -> Result<Vec<Rule>, Failure> {
    let mut rules = Vec::new();
    for service in project.services.values().filter(|s| named.is_empty() || named.contains(&s.name)) {
        let context = service.spec.build.as_ref().map(|b| PathBuf::from(&b.context)).filter(|dir| dir.is_dir());
        let context = context
            .map(|dir| {
                let text = std::fs::read_to_string(dir.join(".dockerignore")).unwrap_or_default();
                Ok::<_, Failure>((dir, Patterns::parse(&text).map_err(Failure::new)?))
            })
            .transpose()?;
        for rule in service.spec.develop.iter().flat_map(|d| &d.watch) {
            let name = &service.name;
            if rule.action == WatchAction::Rebuild && service.spec.build.is_none() {
                return Err(Failure::new(format!(
                    "can't watch service {name:?} with action rebuild without a build context"
                )));
            }
            let copies = !matches!(rule.action, WatchAction::Rebuild | WatchAction::Restart);
            if copies && !rule.target.starts_with('/') {
                let text = format!("services.{name}.develop.watch: target is required for sync, an absolute path");
                return Err(Failure::new(text).with_hint("name the place in the container: target: /app"));
            }
            if rule.action == WatchAction::SyncExec && rule.exec.command.as_ref().is_none_or(Vec::is_empty) {
                return Err(Failure::new(format!("services.{name}.develop.watch: sync+exec needs exec: command")));
            }
            rules.push(Rule {
                service: name.clone(),
                path: PathBuf::from(&rule.path),
                action: rule.action,
                target: rule.target.clone(),
                exec: rule.exec.clone(),
                initial_sync: rule.initial_sync,
                ignore: Patterns::parse(&format!("{EPHEMERAL}\n{}", rule.ignore.join("\n"))).map_err(Failure::new)?,
                include: (!rule.include.is_empty())
                    .then(|| Patterns::parse(&rule.include.join("\n")))
                    .transpose()
                    .map_err(Failure::new)?,
                context: context.clone(),
            });
        }
    }
    if rules.is_empty() {
        let text = "none of the selected services is configured for watch, consider setting a 'develop' section";
        return Err(Failure::new(text).with_hint("docs/compose.md has an example"));
    }
    Ok(rules)
}

/// What changes mean for one service.
#[derive(Clone, Debug, Default)]
pub(super) struct Work {
    /// Build the image anew and replace the containers; then all the rest is in it.
    pub(super) rebuild: bool,
    /// File of this machine → path in the container.
    pub(super) copy: BTreeMap<PathBuf, String>,
    pub(super) restart: bool,
    pub(super) exec: Vec<Hook>,
}

/// Sorts changed paths by service.
pub(super) fn plan(rules: &[Rule], changed: &BTreeSet<PathBuf>) -> BTreeMap<String, Work> {
    let mut out: BTreeMap<String, Work> = BTreeMap::new();
    for rule in rules {
        let hits: Vec<(&PathBuf, String)> =
            changed.iter().filter_map(|path| Some((path, rule.relative(path)?))).collect();
        if hits.is_empty() {
            continue;
        }
        let work = out.entry(rule.service.clone()).or_default();
        if rule.copies() {
            work.copy.extend(hits.iter().map(|(path, relative)| ((*path).clone(), rule.target_of(relative))));
        }
        match rule.action {
            WatchAction::Rebuild => work.rebuild = true,
            WatchAction::Restart | WatchAction::SyncRestart => work.restart = true,
            WatchAction::SyncExec => work.exec.push(rule.exec.clone()),
            WatchAction::Sync => {}
        }
    }
    for work in out.values_mut().filter(|w| w.rebuild) {
        *work = Work { rebuild: true, ..Work::default() };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(action: WatchAction, path: &str, target: &str, ignore: &str, include: &str) -> Rule {
        Rule {
            service: "web".into(),
            path: path.into(),
            action,
            target: target.into(),
            exec: Hook { command: Some(vec!["reload".into()]), ..Hook::default() },
            initial_sync: false,
            ignore: Patterns::parse(&format!("{EPHEMERAL}\n{ignore}")).expect("patterns"),
            include: (!include.is_empty()).then(|| Patterns::parse(include).expect("patterns")),
            context: None,
        }
    }

    fn changed(paths: &[&str]) -> BTreeSet<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn changes_find_their_place() {
        let rules = [rule(WatchAction::Sync, "/p/src", "/app/", "node_modules/\n*.log", "")];
        let paths =
            changed(&["/p/src/a.py", "/p/src/node_modules/x/y", "/p/src/b.log", "/p/other", "/p/src/.a.py.swp"]);
        let work = plan(&rules, &paths);
        let copy: Vec<_> = work["web"].copy.iter().map(|(p, t)| (p.to_str().unwrap_or(""), t.as_str())).collect();
        assert_eq!(copy, [("/p/src/a.py", "/app/a.py")]);
        assert!(!work["web"].restart && !work["web"].rebuild);
        assert!(plan(&rules, &changed(&["/p/other"])).is_empty());
    }

    #[test]
    fn a_single_file_may_be_watched() {
        let one = |target: &str| {
            let work = plan(&[rule(WatchAction::SyncRestart, "/p/conf", target, "", "")], &changed(&["/p/conf"]));
            assert!(work["web"].restart);
            work["web"].copy.values().next().cloned()
        };
        assert_eq!(one("/etc/app.conf").as_deref(), Some("/etc/app.conf"));
        assert_eq!(one("/etc/").as_deref(), Some("/etc/conf"));
    }

    #[test]
    fn directories_that_may_hold_what_is_watched() {
        let may = |include: &str, dir: &str| {
            rule(WatchAction::Sync, "/p", "/app", "node_modules/", include).may_hold(Path::new(dir))
        };
        for (include, dir) in [("**/*.py", "/p/src"), ("**/*.py", "/p/src/deep"), ("src/*.py", "/p/src"), ("", "/p/a")]
        {
            assert!(may(include, dir), "{include} {dir}");
        }
        for (include, dir) in [("src/*.py", "/p/doc"), ("*.py", "/p/src"), ("**/*.py", "/p/node_modules"), ("", "/q")] {
            assert!(!may(include, dir), "{include} {dir}");
        }
        assert!(may("*.py", "/p") && may("*.py", "/"), "on the way to the rule's own path");
        let mut excepted = rule(WatchAction::Sync, "/p", "/app", "lib\n!lib/own", "");
        assert!(excepted.may_hold(Path::new("/p/lib")), "an exception may bring something back");
        excepted.context = Some(("/p".into(), Patterns::parse("lib").expect("patterns")));
        assert!(!excepted.may_hold(Path::new("/p/lib/x")), "what the build does not see");
    }

    #[test]
    fn include_narrows_and_rebuild_covers_all() {
        let rules = [
            rule(WatchAction::Sync, "/p", "/app", "", "*.py"),
            rule(WatchAction::Rebuild, "/p/package.json", "", "", ""),
            rule(WatchAction::SyncExec, "/p/conf", "/conf", "", ""),
        ];
        let work = plan(&rules, &changed(&["/p/a.py", "/p/a.txt"]));
        assert_eq!(work["web"].copy.len(), 1);
        let work = plan(&rules, &changed(&["/p/a.py", "/p/package.json"]));
        assert!(work["web"].rebuild && work["web"].copy.is_empty());
        let work = plan(&rules, &changed(&["/p/conf/x"]));
        assert_eq!(work["web"].exec[0].command.as_deref(), Some(&["reload".to_owned()][..]));
    }
}
