//! `system install` and `uninstall`: this program in its place, and systemd units that start the engine at need.
//!
//! Planned as a list of steps first: `--dry-run` prints it, `--root` moves it below another directory.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::handover;
use crate::cli::Invocation;
use crate::cmdline::Flags;
use crate::error::{CliResult, Failure, path_error};
use crate::target::DEFAULT_SOCKET;

/// One thing to do to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// This program itself, to be found by its name.
    Program(PathBuf),
    Write(PathBuf, String),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
    /// A link that is removed only if it leads to us.
    Unlink(PathBuf, PathBuf),
    /// Ends the engine that runs as this process without systemd.
    StopEngine(i32),
    /// systemctl with these words; nothing where systemd does not run.
    Systemctl(Vec<&'static str>),
}

const UNITS: &str = "etc/systemd/system";

/// Where things go.
struct Places {
    root: PathBuf,
    prefix: String,
}

impl Places {
    fn new(flags: &Flags) -> Places {
        let root = flags.get("root").unwrap_or("/").into();
        Places { root, prefix: flags.get("prefix").unwrap_or("/usr/local").trim_end_matches('/').to_owned() }
    }

    /// The program's path as the installed system sees it.
    fn program(&self) -> String {
        format!("{}/bin/barque", self.prefix)
    }

    fn below(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn unit(&self, name: &str) -> PathBuf {
        self.below(UNITS).join(name)
    }

    /// Whether the running system is meant.
    fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    fn socket_unit(&self, docker: bool) -> String {
        let also = if docker { "ListenStream=/run/docker.sock\n" } else { "" };
        format!(
            "[Unit]\nDescription=Barque engine socket\n\n[Socket]\nListenStream={DEFAULT_SOCKET}\n{also}SocketMode=0660\n\
             SocketUser=root\nSocketGroup={}\nDirectoryMode=0755\n\n[Install]\nWantedBy=sockets.target\n",
            self.socket_group()
        )
    }

    /// The group that may use the engine: `barque`, else `docker`, where the installed system has them.
    fn socket_group(&self) -> &'static str {
        let groups = std::fs::read_to_string(self.below("/etc/group")).unwrap_or_default();
        let exists = |name: &str| groups.lines().any(|line| line.split(':').next() == Some(name));
        ["barque", "docker"].into_iter().find(|name| exists(name)).unwrap_or("root")
    }
}

/// `by_hand` is the engine that runs without systemd, if any.
fn plan_install(flags: &Flags, places: &Places, by_hand: Option<i32>) -> Vec<Step> {
    let sockets = flags.is("docker-socket");
    let mut steps = vec![
        Step::Program(places.below(&places.program())),
        Step::Write(places.unit("barque.socket"), places.socket_unit(sockets)),
        Step::Write(places.unit("barque.service"), service_unit(&places.program())),
    ];
    if flags.is("docker-alias") {
        steps.push(Step::Link(places.below(&format!("{}/bin/docker", places.prefix)), "barque".into()));
    }
    if places.is_live() {
        steps.push(Step::Systemctl(vec!["daemon-reload"]));
        if flags.on("enable", true) {
            // The engine itself starts with the machine, for the containers that restart.
            steps.push(Step::Systemctl(vec!["enable", "barque.service"]));
            // Two engines cannot share the data: systemd's would fail for as long as the other runs.
            steps.extend(by_hand.map(Step::StopEngine));
            steps.push(Step::Systemctl(vec!["enable", "--now", "barque.socket"]));
            if by_hand.is_some() {
                // Where there was an engine there is one again, for containers with a restart policy.
                steps.push(Step::Systemctl(vec!["start", "barque.service"]));
            }
        }
    }
    steps
}

fn plan_uninstall(places: &Places) -> Vec<Step> {
    let mut steps = Vec::new();
    if places.is_live() {
        steps.push(Step::Systemctl(vec!["disable", "--now", "barque.socket", "barque.service"]));
    }
    steps.push(Step::Remove(places.unit("barque.socket")));
    steps.push(Step::Remove(places.unit("barque.service")));
    steps.push(Step::Unlink(places.below(&format!("{}/bin/docker", places.prefix)), "barque".into()));
    if places.is_live() {
        steps.push(Step::Systemctl(vec!["daemon-reload"]));
    }
    steps.push(Step::Remove(places.below(&places.program())));
    steps
}

fn service_unit(program: &str) -> String {
    // Containers outlive the engine: only its own process is stopped, and systemd leaves its cgroup tree alone.
    format!(
        "[Unit]\nDescription=Barque container engine\nAfter=network-online.target nss-lookup.target\n\
         Wants=network-online.target\nRequires=barque.socket\n\n[Service]\nType=notify\nExecStart={program} daemon -H fd://\n\
         ExecReload=/bin/kill -s HUP $MAINPID\nTimeoutStartSec=0\nRestart=always\nRestartSec=2\nLimitNOFILE=infinity\n\
         LimitNPROC=infinity\nLimitCORE=infinity\nTasksMax=infinity\nDelegate=yes\nKillMode=process\nOOMScoreAdjust=-500\n\n\
         [Install]\nWantedBy=multi-user.target\n"
    )
}

pub(crate) async fn install(inv: &Invocation<'_>) -> CliResult<u8> {
    let places = Places::new(&inv.flags);
    let by_hand = if has_systemd() { handover::engine_by_hand() } else { None };
    let status = carry_out(inv, &plan_install(&inv.flags, &places, by_hand))?;
    if places.is_live() && !has_systemd() {
        inv.cli.err("systemd does not run here: the units take effect where it does, and until then the first command of root starts the engine");
    }
    Ok(status)
}

pub(crate) async fn uninstall(inv: &Invocation<'_>) -> CliResult<u8> {
    let places = Places::new(&inv.flags);
    carry_out(inv, &plan_uninstall(&places))
}

fn carry_out(inv: &Invocation<'_>, steps: &[Step]) -> CliResult<u8> {
    let dry = inv.flags.is("dry-run");
    if !dry && !rustix::process::geteuid().is_root() && !inv.flags.given("root") {
        return Err(Failure::new(
            "only root may do this\n\nhint: run it with sudo, or see what it does with --dry-run",
        ));
    }
    // What is in the way is said before anything is done: half an installation is none.
    steps.iter().try_for_each(Step::check)?;
    for step in steps {
        let text = step.describe();
        if !dry {
            match step.apply()? {
                true => inv.cli.line(&text)?,
                false => continue,
            }
        } else if step.is_due() {
            inv.cli.line(&text)?;
            if let Step::Write(_, content) = step {
                content.lines().try_for_each(|line| inv.cli.line(&format!("    {line}")))?;
            }
        }
    }
    Ok(0)
}

impl Step {
    fn describe(&self) -> String {
        match self {
            Step::Program(path) => format!("install {}", path.display()),
            Step::Write(path, _) => format!("write {}", path.display()),
            Step::Link(path, target) => format!("link {} -> {}", path.display(), target.display()),
            Step::Remove(path) | Step::Unlink(path, _) => format!("remove {}", path.display()),
            Step::StopEngine(pid) => format!(
                "stop the engine that runs without systemd (pid {pid}); its containers go on, systemd's engine takes over"
            ),
            Step::Systemctl(words) => format!("systemctl {}", words.join(" ")),
        }
    }

    /// Whether it can be done as far as can be told beforehand.
    fn check(&self) -> CliResult<()> {
        match self {
            Step::Link(path, target) if std::fs::symlink_metadata(path).is_ok() && !leads_to(path, target) => {
                let shown = path.display();
                Err(Failure::new(format!(
                    "{shown} exists already: nothing was installed\n\nhint: move it away first, or leave out --docker-alias"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Whether there is something to do, as far as can be told beforehand.
    fn is_due(&self) -> bool {
        match self {
            Step::Remove(path) => std::fs::symlink_metadata(path).is_ok(),
            Step::Link(path, target) => !leads_to(path, target),
            Step::Unlink(path, target) => leads_to(path, target),
            Step::Systemctl(_) => has_systemd(),
            Step::Program(_) | Step::Write(..) | Step::StopEngine(_) => true,
        }
    }

    /// Does it; false if there was nothing to do.
    fn apply(&self) -> CliResult<bool> {
        match self {
            Step::Program(path) => copy_program(path),
            Step::Write(path, content) => {
                make_parent(path)?;
                std::fs::write(path, content).map_err(|e| path_error("write", &path.display().to_string(), &e))?;
                Ok(true)
            }
            Step::Link(path, target) if leads_to(path, target) => Ok(false),
            Step::Link(path, target) => {
                make_parent(path)?;
                std::os::unix::fs::symlink(target, path)
                    .map_err(|e| path_error("symlink", &path.display().to_string(), &e))?;
                Ok(true)
            }
            Step::Remove(path) => match std::fs::remove_file(path) {
                Ok(()) => Ok(true),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
                Err(e) => Err(path_error("remove", &path.display().to_string(), &e)),
            },
            Step::Unlink(path, target) if leads_to(path, target) => Step::Remove(path.clone()).apply(),
            Step::Unlink(..) => Ok(false),
            Step::StopEngine(pid) => handover::stop(*pid),
            Step::Systemctl(words) => systemctl(words),
        }
    }
}

/// Whether `path` is a link with these words in it.
fn leads_to(path: &Path, target: &Path) -> bool {
    std::fs::read_link(path).is_ok_and(|found| found == target)
}

fn make_parent(path: &Path) -> CliResult<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent).map_err(|e| path_error("mkdir", &parent.display().to_string(), &e))
}

/// Copies the running program to its place, over an older one that may be running.
fn copy_program(path: &Path) -> CliResult<bool> {
    let own = std::env::current_exe().map_err(|e| path_error("readlink", "/proc/self/exe", &e))?;
    if std::fs::canonicalize(path).is_ok_and(|there| there == own) {
        return Ok(false);
    }
    make_parent(path)?;
    let shown = path.display().to_string();
    let temporary = path.with_extension("new");
    let copied = std::fs::copy(&own, &temporary)
        .and_then(|_| std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o755)))
        .and_then(|()| std::fs::rename(&temporary, path));
    copied.map_err(|e| path_error("install", &shown, &e))?;
    Ok(true)
}

/// As systemd's own test for "booted with systemd".
fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn systemctl(words: &[&str]) -> CliResult<bool> {
    if !has_systemd() {
        return Ok(false);
    }
    let status = Command::new("systemctl").args(words).status().map_err(|e| path_error("exec", "systemctl", &e))?;
    // What is not enabled cannot be disabled: that is as wished.
    if status.success() || words.first() == Some(&"disable") {
        return Ok(true);
    }
    Err(Failure::new(format!("systemctl {} failed ({status})", words.join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(root: &Path) -> (Flags, Places) {
        let root: &'static str = Box::leak(root.display().to_string().into_boxed_str());
        let flags = Flags::from_pairs(&[("root", root), ("docker-alias", "true"), ("docker-socket", "true")]);
        let places = Places::new(&flags);
        (flags, places)
    }

    #[test]
    fn what_is_installed_is_uninstalled() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (flags, places) = places(dir.path());
        make_parent(&dir.path().join("etc/group")).expect("mkdir");
        std::fs::write(dir.path().join("etc/group"), "root:x:0:\ndocker:x:7:\nbarque:x:8:\n").expect("write");
        for step in plan_install(&flags, &places, None) {
            step.apply().unwrap_or_else(|f| panic!("{step:?}: {f}"));
        }
        let docker = dir.path().join("usr/local/bin/docker");
        assert_eq!(std::fs::read_link(&docker).expect("link"), Path::new("barque"));
        let unit = std::fs::read_to_string(dir.path().join(UNITS).join("barque.socket")).expect("unit");
        assert!(unit.contains("ListenStream=/run/barque/barque.sock\nListenStream=/run/docker.sock\n"), "{unit}");
        assert!(unit.contains("SocketGroup=barque\n"), "{unit}");
        let service = std::fs::read_to_string(dir.path().join(UNITS).join("barque.service")).expect("unit");
        assert!(service.contains("ExecStart=/usr/local/bin/barque daemon -H fd://\n"), "{service}");
        for step in plan_uninstall(&places) {
            step.apply().unwrap_or_else(|f| panic!("{step:?}: {f}"));
        }
        assert!(std::fs::symlink_metadata(&docker).is_err());
        assert_eq!(std::fs::read_dir(dir.path().join(UNITS)).expect("dir").count(), 0);
    }

    #[test]
    fn an_engine_without_systemd_makes_room_before_the_socket_is_taken() {
        let live = Places { root: "/".into(), prefix: "/usr/local".into() };
        let plan = |pairs: &[(&'static str, &str)], pid| plan_install(&Flags::from_pairs(pairs), &live, pid);
        let steps = plan(&[], Some(77));
        let at = |wanted: &Step| steps.iter().position(|s| s == wanted).unwrap_or_else(|| panic!("{wanted:?}"));
        let stop = at(&Step::StopEngine(77));
        assert!(at(&Step::Systemctl(vec!["daemon-reload"])) < stop);
        assert!(stop < at(&Step::Systemctl(vec!["enable", "--now", "barque.socket"])));
        assert_eq!(steps.last(), Some(&Step::Systemctl(vec!["start", "barque.service"])));
        let stops = |steps: Vec<Step>| steps.iter().any(|s| matches!(s, Step::StopEngine(_)));
        assert!(!stops(plan(&[], None)));
        assert!(!stops(plan(&[("enable", "false")], Some(77))), "nothing takes over");
        let (flags, elsewhere) = places(Path::new("/elsewhere"));
        assert!(!stops(plan_install(&flags, &elsewhere, Some(77))), "another system");
    }

    #[test]
    fn a_docker_that_is_not_ours_stays() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (_, places) = places(dir.path());
        let docker = dir.path().join("usr/local/bin/docker");
        make_parent(&docker).expect("mkdir");
        std::fs::write(&docker, "theirs").expect("write");
        assert!(Step::Link(docker.clone(), "barque".into()).check().is_err());
        for step in plan_uninstall(&places) {
            assert!(!step.is_due(), "nothing of ours is here: {step:?}");
            step.apply().expect("applies");
        }
        assert!(docker.exists());
    }
}
