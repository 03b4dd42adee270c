//! The default AppArmor profile: loaded into the kernel once, where the kernel has AppArmor.

use std::io::Write;
use std::process::{Command, Stdio};

use barque_model::{Context, Error, Result};

/// What unprivileged containers run under unless another profile is asked for.
const PROFILE: &str = barque_runtime::defaults::APPARMOR_PROFILE;

/// Second line behind namespaces, capabilities, masked paths and seccomp: what a container that gained more than it
/// was given still may not touch. Mounting is not for containers; the kernel's controls are not to be written.
const TEXT: &str = "\
profile barque-default flags=(attach_disconnected,mediate_deleted) {
  file,
  network,
  capability,
  umount,
  signal (receive) peer=unconfined,
  signal (send, receive) peer=barque-default,
  ptrace (trace, read, tracedby, readby) peer=barque-default,
  deny mount,
  deny /proc/{kcore,kmem,mem,sysrq-trigger,timer_list} rwklx,
  deny /proc/{acpi,bus,fs,irq,scsi}/** w,
  deny /proc/sys/{abi,debug,dev,fs,vm}/** w,
  deny /proc/sys/kernel/[^ms]** w,
  deny /proc/sys/kernel/modprobe w,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
  deny /sys/[^f]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
}
";

/// Makes sure that the default profile is loaded; its name, or nothing where there is no AppArmor.
pub fn load() -> Option<&'static str> {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if !enabled.starts_with('Y') {
        return None;
    }
    let loaded = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    if is_loaded(&loaded) {
        return Some(PROFILE);
    }
    match parse() {
        Ok(()) => Some(PROFILE),
        Err(why) => {
            tracing::warn!("containers run without an AppArmor profile: {}", why.chain());
            None
        }
    }
}

/// Whether the kernel's list names the profile: `NAME (MODE)`, one a line.
fn is_loaded(list: &str) -> bool {
    list.lines().any(|line| line.split(" (").next() == Some(PROFILE))
}

/// The kernel takes compiled profiles only, and the compiler is AppArmor's own.
fn parse() -> Result<()> {
    let hint = "install the package apparmor";
    let mut child = Command::new("apparmor_parser")
        .args(["--add", "--skip-cache", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Error::unavailable("cannot run apparmor_parser").with_source(e).with_hint(hint))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(TEXT.as_bytes()).context("cannot talk to apparmor_parser")?;
    }
    let output = child.wait_with_output().context("cannot wait for apparmor_parser")?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Error::internal(format!(
            "apparmor_parser refuses the profile: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaded_profiles_are_found_by_their_whole_name() {
        assert!(is_loaded("nvidia_modprobe (enforce)\nbarque-default (enforce)\n"));
        assert!(!is_loaded("barque-default-2 (enforce)\n/usr/bin/man (enforce)\n"));
        assert!(TEXT.starts_with(&format!("profile {PROFILE} ")));
    }
}
