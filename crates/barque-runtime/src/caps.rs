//! Capabilities by name, and how `--cap-add` and `--cap-drop` change a set.

use barque_model::{Error, Result};

use crate::spec::Caps;

/// Names by number, without the `CAP_` prefix (`linux/capability.h`).
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Caps {
    pub const NONE: Caps = Caps(0);
    /// Every capability this crate knows. What the engine itself lacks is left out at launch.
    pub const ALL: Caps = Caps((1 << NAMES.len()) - 1);

    /// The set of these names, `CAP_` optional, any case.
    pub fn of<S: AsRef<str>>(names: &[S]) -> Result<Caps> {
        names.iter().try_fold(Caps::NONE, |set, name| Ok(Caps(set.0 | number_bit(name.as_ref())?)))
    }

    pub fn contains(self, number: u32) -> bool {
        number < 64 && self.0 & (1 << number) != 0
    }

    pub fn has(self, name: &str) -> bool {
        number_bit(name).is_ok_and(|bit| self.0 & bit != 0)
    }

    /// `CAP_…` names in numerical order.
    pub fn names(self) -> Vec<String> {
        (0..).zip(NAMES).filter(|(n, _)| self.contains(*n)).map(|(_, name)| format!("CAP_{name}")).collect()
    }

    /// Docker's rule: `ALL` in `add` is everything but `drop`; `ALL` in `drop` is `add` alone; otherwise
    /// `self` without `drop`, then with `add`. An unknown name is an error that says it.
    pub fn changed<S: AsRef<str>>(self, add: &[S], drop: &[S]) -> Result<Caps> {
        let named = |option: &'static str| {
            move |error: Error| {
                let hint = error.hint().unwrap_or_default().to_owned();
                Error::invalid(format!("invalid {option}: {}", error.message())).with_hint(hint)
            }
        };
        let (add_all, add) = split_all(add).map_err(named("CapAdd"))?;
        let (drop_all, drop) = split_all(drop).map_err(named("CapDrop"))?;
        Ok(match (add_all, drop_all) {
            (true, _) => Caps(Caps::ALL.0 & !drop.0),
            (false, true) => add,
            (false, false) => Caps(self.0 & !drop.0 | add.0),
        })
    }
}

fn number_bit(name: &str) -> Result<u64> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let number = NAMES.iter().position(|n| *n == bare).ok_or_else(|| {
        Error::invalid(format!("unknown capability: \"CAP_{bare}\""))
            .with_hint("capabilities(7) lists them; write NET_ADMIN or CAP_NET_ADMIN, or ALL")
    })?;
    Ok(1 << number)
}

fn split_all<S: AsRef<str>>(names: &[S]) -> Result<(bool, Caps)> {
    let is_all = |n: &S| n.as_ref().eq_ignore_ascii_case("ALL") || n.as_ref().eq_ignore_ascii_case("CAP_ALL");
    let rest: Vec<&str> = names.iter().filter(|n| !is_all(n)).map(AsRef::as_ref).collect();
    Ok((names.iter().any(is_all), Caps::of(&rest)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_rule_for_add_and_drop() {
        let base = Caps::of(&["CHOWN", "KILL"]).unwrap();
        let names = |c: Caps| c.names().join(" ");
        assert_eq!(names(base.changed(&["NET_ADMIN"], &["cap_kill"]).unwrap()), "CAP_CHOWN CAP_NET_ADMIN");
        assert_eq!(names(base.changed(&["sys_time"], &["ALL"]).unwrap()), "CAP_SYS_TIME");
        let all_but = base.changed(&["ALL"], &["MKNOD"]).unwrap();
        assert!(!all_but.has("MKNOD") && all_but.has("SYS_ADMIN"));
        assert_eq!(base.changed::<&str>(&[], &[]).unwrap(), base);
    }

    #[test]
    fn an_unknown_name_is_named() {
        let e = Caps::NONE.changed(&["cap_fly"], &[]).unwrap_err();
        assert_eq!(e.to_string(), "invalid CapAdd: unknown capability: \"CAP_FLY\"");
    }

    #[test]
    fn default_set_is_dockers() {
        assert_eq!(crate::defaults::caps().0, 0xa804_25fb);
    }
}
