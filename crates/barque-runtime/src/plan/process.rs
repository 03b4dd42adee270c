//! The process of a plan: identity, limits, program. The common end of containers and exec'd processes.

use std::ffi::CString;

use barque_model::{Error, Result};
use barque_sys::child::{Identity, NO_SLOT, Op, Pointers};

use super::{Builder, Facts, Slot, c};
use crate::spec::{Capabilities, Process};

/// `RLIMIT_*` by name, in numerical order.
pub(super) const RLIMITS: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// What is common to a container's first process and further ones.
pub(super) struct Tail<'a> {
    pub process: &'a Process,
    pub apparmor: Option<&'a str>,
    pub init: bool,
}

/// Everything from entering the working directory to `execve`.
pub(super) fn streams_and_limits(b: &mut Builder, tail: &Tail<'_>, facts: &Facts<'_>) -> Result<()> {
    let p = tail.process;
    // Always: the engine's own, which its unit sets low, is not for containers.
    let score = c(p.oom_score_adj.to_string(), "oom_score_adj")?;
    b.op(Op::ProcWrite { path: c"self/oom_score_adj", value: &score, optional: true });
    if let Some(profile) = tail.apparmor.filter(|_| facts.apparmor) {
        let value = c(format!("exec {profile}"), "AppArmor profile")?;
        // The default profile may not be loaded; one asked for by name must be.
        let optional = [crate::defaults::APPARMOR_PROFILE, "docker-default"].contains(&profile);
        b.op(Op::ProcWrite { path: c"self/attr/apparmor/exec", value: &value, optional });
    }
    // Closes the way to /proc, too.
    let extra = (0..p.extra_fds.len()).map(|n| b.slot(Slot::Extra(n))).collect();
    b.op(Op::Stdio { tty: p.tty, owner: facts.user.uid, extra });
    for limit in &p.rlimits {
        let resource = rlimit_number(&limit.name)?;
        if limit.soft > limit.hard {
            return Err(Error::invalid(format!(
                "ulimit {}: the soft limit {} is above the hard limit {}",
                limit.name, limit.soft, limit.hard
            )));
        }
        b.op(Op::Rlimit { resource, soft: limit.soft, hard: limit.hard });
    }
    b.op(Op::Umask(p.umask.unwrap_or(0o022) & 0o777));
    Ok(())
}

/// Identity, seccomp and the program. Without `no_new_privileges` the filter must go on while there still is
/// CAP_SYS_ADMIN; with it, as late as possible.
pub(super) fn become_and_exec(b: &mut Builder, tail: &Tail<'_>, facts: &Facts<'_>) -> Result<()> {
    let p = tail.process;
    let filter = facts.seccomp.as_ref().map(|f| Op::Seccomp(f.to_vec()));
    let (early, late) = if p.no_new_privileges { (None, filter) } else { (filter, None) };
    let (name, search) = (c(p.args.first().map_or("", String::as_str), "the command")?, search_path(&p.env)?);
    if let Some(filter) = early {
        b.op(filter);
    }
    b.op(Op::Identity(identity(&p.capabilities, facts)));
    b.op(Op::DieWithParent);
    b.op(Op::Lookup { name: &name, path: &search });
    if p.no_new_privileges {
        b.op(Op::NoNewPrivs);
    }
    if let Some(filter) = late {
        b.op(filter);
    }
    let args = p.args.iter().map(|a| c(a, "an argument")).collect::<Result<Vec<CString>>>()?;
    let env = environment(p, &facts.user.home)?;
    let argv = Pointers::new(args.iter().map(CString::as_c_str));
    let envp = Pointers::new(env.iter().map(CString::as_c_str));
    if tail.init {
        let exe = if facts.init_program { b.slot(Slot::Init) } else { NO_SLOT };
        let called = [barque_sys::init::PROGRAM, c"--"].into_iter().chain(args.iter().map(CString::as_c_str));
        b.op(Op::Init { exe, argv: Pointers::new(called) });
    }
    b.op(Op::Exec { argv, envp });
    Ok(())
}

/// # Errors
/// No limit of that name.
pub(crate) fn rlimit_number(name: &str) -> Result<u32> {
    let lower = name.to_ascii_lowercase();
    let bare = lower.strip_prefix("rlimit_").unwrap_or(&lower);
    let at = RLIMITS.iter().position(|n| *n == bare);
    at.map(|n| n as u32).ok_or_else(|| {
        Error::invalid(format!("invalid ulimit type: {name}")).with_hint(format!("one of {}", RLIMITS.join(", ")))
    })
}

/// What the process may be given of what it is to have: nobody can pass on rights he lacks.
fn identity(caps: &Capabilities, facts: &Facts<'_>) -> Identity {
    let have = facts.available_caps;
    let permitted = caps.permitted.0 & have;
    let inheritable = caps.inheritable.0 & have;
    Identity {
        uid: facts.user.uid,
        gid: facts.user.gid,
        groups: facts.user.groups.clone(),
        bounding: caps.bounding.0 & have,
        effective: caps.effective.0 & permitted,
        permitted,
        inheritable,
        ambient: caps.ambient.0 & permitted & inheritable,
    }
}

fn variable<'a>(env: &'a [String], name: &str) -> Option<&'a str> {
    env.iter().rev().find_map(|e| e.strip_prefix(name)?.strip_prefix('='))
}

fn search_path(env: &[String]) -> Result<CString> {
    let default = crate::defaults::PATH.trim_start_matches("PATH=");
    c(variable(env, "PATH").unwrap_or(default), "PATH")
}

fn environment(p: &Process, home: &str) -> Result<Vec<CString>> {
    let mut env = Vec::with_capacity(p.env.len() + 2);
    for entry in &p.env {
        env.push(c(entry, "an environment variable")?);
    }
    if p.tty && variable(&p.env, "TERM").is_none() {
        env.push(CString::from(c"TERM=xterm"));
    }
    if variable(&p.env, "HOME").is_none_or(str::is_empty) {
        env.retain(|e: &CString| e.as_c_str() != c"HOME=");
        let home = if home.is_empty() { "/" } else { home };
        env.push(c(format!("HOME={home}"), "HOME")?);
    }
    Ok(env)
}

pub(super) fn check(p: &Process) -> Result<()> {
    if p.args.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("no command specified").with_hint("name one after the image"));
    }
    if !p.cwd.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            p.cwd
        )));
    }
    Ok(())
}
