//! Volumes of the local driver that are mounts: `-o type=… -o device=… -o o=…` (binds, tmpfs, NFS, any file system).
//!
//! Such a volume is mounted on its directory while containers use it, and unmounted after the last of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use barque_model::{Error, ErrorKind, Id, Result};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::Engine;

/// A mount as the options describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceMount {
    /// File system type; `none` and empty are for binds.
    pub kind: String,
    /// A device, directory or `host:/path`.
    pub device: String,
    pub flags: MountFlags,
    /// A bind, with what is mounted below it or without.
    pub bind: Option<Recursive>,
    pub propagation: Option<MountPropagationFlags>,
    /// What the file system itself understands, joined by commas.
    pub data: String,
}

/// Whether a bind takes along what is mounted below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recursive {
    No,
    Yes,
}

/// Who uses which mounted volume.
#[derive(Debug, Default)]
pub struct VolumeMounts(Mutex<HashMap<String, BTreeSet<Id>>>);

/// Reads the options of a local volume; `None`: an ordinary directory. Pure.
///
/// Errors: InvalidArgument in Docker's words for options that are unknown or incomplete.
pub fn parse(name: &str, options: &BTreeMap<String, String>) -> Result<Option<DeviceMount>> {
    let invalid = |why: String| Error::invalid(format!("create {name}: {why}"));
    if let Some(unknown) = options.keys().find(|k| !matches!(k.as_str(), "type" | "device" | "o" | "size")) {
        return Err(invalid(format!("invalid option: \"{unknown}\""))
            .with_hint("the local driver knows type, device and o: -o type=tmpfs -o device=tmpfs -o o=size=100m"));
    }
    let get = |key: &str| options.get(key).map(String::as_str).filter(|v| !v.is_empty());
    if get("size").is_some() {
        return Err(invalid("quota size requested but no quota support".into())
            .with_hint("a volume of limited size is a tmpfs: -o type=tmpfs -o device=tmpfs -o o=size=100m"));
    }
    let needs: &[(&str, &[&str])] = &[("device", &["type"]), ("type", &["device"]), ("o", &["device", "type"])];
    for (key, wanted) in needs {
        if options.contains_key(*key)
            && let Some(missing) = wanted.iter().find(|w| !options.contains_key(**w))
        {
            return Err(invalid(format!("missing required option: \"{missing}\"")));
        }
    }
    let (Some(device), Some(kind)) = (get("device"), options.get("type")) else { return Ok(None) };
    let mut mount = DeviceMount {
        kind: kind.clone(),
        device: device.to_owned(),
        flags: MountFlags::empty(),
        bind: None,
        propagation: None,
        data: String::new(),
    };
    for word in get("o").unwrap_or_default().split(',').filter(|w| !w.is_empty()) {
        mount.apply(word);
    }
    Ok(Some(mount))
}

impl DeviceMount {
    /// One word of `o=`, as mount(8) understands it.
    fn apply(&mut self, word: &str) {
        let (set, flag) = match word {
            "defaults" => return,
            "bind" => return self.bind = Some(Recursive::No),
            "rbind" => return self.bind = Some(Recursive::Yes),
            "private" => return self.propagation = Some(MountPropagationFlags::PRIVATE),
            "rprivate" => return self.propagation = Some(MountPropagationFlags::PRIVATE | MountPropagationFlags::REC),
            "shared" => return self.propagation = Some(MountPropagationFlags::SHARED),
            "rshared" => return self.propagation = Some(MountPropagationFlags::SHARED | MountPropagationFlags::REC),
            "slave" => return self.propagation = Some(MountPropagationFlags::DOWNSTREAM),
            "rslave" => return self.propagation = Some(MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC),
            "unbindable" => return self.propagation = Some(MountPropagationFlags::UNBINDABLE),
            "ro" => (true, MountFlags::RDONLY),
            "rw" => (false, MountFlags::RDONLY),
            "nosuid" => (true, MountFlags::NOSUID),
            "suid" => (false, MountFlags::NOSUID),
            "nodev" => (true, MountFlags::NODEV),
            "dev" => (false, MountFlags::NODEV),
            "noexec" => (true, MountFlags::NOEXEC),
            "exec" => (false, MountFlags::NOEXEC),
            "sync" => (true, MountFlags::SYNCHRONOUS),
            "async" => (false, MountFlags::SYNCHRONOUS),
            "dirsync" => (true, MountFlags::DIRSYNC),
            "mand" => (true, MountFlags::PERMIT_MANDATORY_FILE_LOCKING),
            "nomand" => (false, MountFlags::PERMIT_MANDATORY_FILE_LOCKING),
            "noatime" => (true, MountFlags::NOATIME),
            "atime" => (false, MountFlags::NOATIME),
            "nodiratime" => (true, MountFlags::NODIRATIME),
            "diratime" => (false, MountFlags::NODIRATIME),
            "relatime" => (true, MountFlags::RELATIME),
            "norelatime" => (false, MountFlags::RELATIME),
            "strictatime" => (true, MountFlags::STRICTATIME),
            "nostrictatime" => (false, MountFlags::STRICTATIME),
            own => {
                let comma = if self.data.is_empty() { "" } else { "," };
                return self.data = format!("{}{comma}{own}", self.data);
            }
        };
        self.flags.set(flag, set);
    }

    /// The host after `addr=`, which the kernel takes as an address only (`nfs`, `cifs`).
    fn named_server(&self) -> Option<&str> {
        if !matches!(self.kind.as_str(), "nfs" | "nfs4" | "cifs") {
            return None;
        }
        let key = if self.kind == "cifs" { "ip=" } else { "addr=" };
        let host = self.data.split(',').find_map(|w| w.strip_prefix(key).or_else(|| w.strip_prefix("addr=")))?;
        host.parse::<std::net::IpAddr>().is_err().then_some(host)
    }

    /// Mounts it on `target`.
    fn mount(&self, target: &Path) -> Result<()> {
        let failed = |e: rustix::io::Errno| {
            let why = std::io::Error::from(e);
            let hint = match e {
                rustix::io::Errno::NOENT => "the device or directory does not exist on the engine's machine",
                rustix::io::Errno::NODEV => "this kernel does not know the file system: load its module",
                rustix::io::Errno::INVAL => "the file system does not know one of the options after o=",
                _ => "look at the engine's machine: dmesg may say more",
            };
            Error::from(why)
                .with_kind(ErrorKind::Unavailable)
                .context(format!(
                    "error while mounting volume '{}': failed to mount local volume: mount {}:{}, flags: {:#x}, data: {}",
                    target.display(),
                    self.device,
                    target.display(),
                    self.flags.bits(),
                    self.data
                ))
                .with_hint(hint)
        };
        match self.bind {
            Some(recursive) => {
                let done = match recursive {
                    Recursive::Yes => rustix::mount::mount_bind_recursive(&self.device, target),
                    Recursive::No => rustix::mount::mount_bind(&self.device, target),
                };
                done.map_err(failed)?;
                if !self.flags.is_empty() {
                    // The flags of a bind are set by a second call only (mount(2)).
                    let again = rustix::mount::mount_remount(target, self.flags | MountFlags::BIND, "");
                    if let Err(e) = again {
                        unmount(target)?;
                        return Err(failed(e));
                    }
                }
            }
            None => {
                let data = std::ffi::CString::new(self.data.as_str())
                    .map_err(|_| Error::invalid("the volume's options hold a NUL byte"))?;
                rustix::mount::mount(&self.device, target, &self.kind, self.flags, Some(data.as_c_str()))
                    .map_err(failed)?;
            }
        }
        if let Some(propagation) = self.propagation {
            rustix::mount::mount_change(target, propagation).map_err(failed)?;
        }
        Ok(())
    }
}

/// Whether something is mounted on `path`.
fn is_mounted(path: &Path) -> bool {
    statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS).is_ok_and(|found| {
        let root = StatxAttributes::MOUNT_ROOT;
        found.stx_attributes_mask.contains(root) && found.stx_attributes.contains(root)
    })
}

/// Takes off everything that is mounted on `path`.
fn unmount(path: &Path) -> Result<()> {
    while is_mounted(path) {
        rustix::mount::unmount(path, UnmountFlags::DETACH)
            .map_err(|e| Error::from(std::io::Error::from(e)).context(format!("cannot unmount {}", path.display())))?;
    }
    Ok(())
}

/// A volume mounted for one operation; unmounted with it unless somebody else uses it.
#[derive(Debug)]
pub struct MountGuard {
    engine: Engine,
    user: Id,
}

impl Drop for MountGuard {
    fn drop(&mut self) {
        self.engine.unmount_volumes(&self.user);
    }
}

impl Engine {
    /// Has a volume mounted for `user` (a container or an operation) if it is a mount. Blocking.
    pub(crate) fn mount_volume(&self, row: &barque_store::Volume, user: Id) -> Result<()> {
        let options: BTreeMap<String, String> = serde_json::from_str(&row.options).unwrap_or_default();
        let Some(mut mount) = parse(&row.name, &options)? else { return Ok(()) };
        if let Some(host) = mount.named_server().map(str::to_owned) {
            let address = self.address_of(&host)?;
            mount.data = mount.data.replace(&host, &address.to_string());
        }
        let mut used = self.volume_mounts().0.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_mounted(&row.mountpoint) {
            mount.mount(&row.mountpoint)?;
        }
        used.entry(row.name.clone()).or_default().insert(user);
        Ok(())
    }

    /// As [`Engine::mount_volume`], for as long as the guard lives. `None` for volumes that are directories.
    pub(crate) fn mount_volume_for_now(&self, name: &str) -> Result<Option<MountGuard>> {
        let Some(row) = self.store().read(|r| r.volume(name))?.filter(|row| row.options != "{}") else {
            return Ok(None);
        };
        let guard = MountGuard { engine: self.clone(), user: Id::random() };
        self.mount_volume(&row, guard.user)?;
        Ok(Some(guard))
    }

    /// Unmounts the volumes that only `user` had in use. Never fails: what is busy is detached.
    pub(crate) fn unmount_volumes(&self, user: &Id) {
        let mut used = self.volume_mounts().0.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|name, users| {
            if !users.remove(user) || !users.is_empty() {
                return !users.is_empty();
            }
            if let Err(e) = unmount(&self.volume_dir(name)) {
                tracing::warn!("volume {name}: {}", e.chain());
            }
            false
        });
    }

    /// After a start of the engine: running containers go on using their volumes, and what nobody uses is unmounted.
    pub(crate) fn settle_volume_mounts(&self) -> Result<()> {
        let rows: Vec<_> = self.store().read(|r| r.volumes())?.into_iter().filter(|row| row.options != "{}").collect();
        if rows.is_empty() {
            return Ok(());
        }
        for view in self.containers().iter().filter(|v| v.state.is_running()) {
            for row in rows.iter().filter(|row| view.mounts.iter().any(|m| m.name.as_ref() == Some(&row.name))) {
                if let Err(e) = self.mount_volume(row, view.id) {
                    tracing::warn!("volume {}: {}", row.name, e.chain());
                }
            }
        }
        let used = self.volume_mounts().0.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows.iter().filter(|row| !used.contains_key(&row.name)) {
            if let Err(e) = unmount(&row.mountpoint) {
                tracing::warn!("volume {}: {}", row.name, e.chain());
            }
        }
        Ok(())
    }

    /// Nothing may be mounted where files are about to be moved or deleted: they are not the volume's own.
    ///
    /// Errors: Unavailable where it cannot be unmounted.
    pub(crate) fn unmount_for_good(&self, name: &str) -> Result<()> {
        let mut used = self.volume_mounts().0.lock().unwrap_or_else(PoisonError::into_inner);
        used.remove(name);
        unmount(&self.volume_dir(name)).map_err(|e| e.with_kind(ErrorKind::Unavailable))
    }

    fn address_of(&self, host: &str) -> Result<std::net::IpAddr> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|e| Error::internal(e.to_string()))?;
        let found = runtime.block_on(barque_registry::lookup_host(host));
        let found = found
            .map_err(|e| Error::from(e).context(format!("error resolving passed in network volume address: {host}")))?;
        let v4 = found.iter().find(|a| a.is_ipv4()).or(found.first());
        v4.copied().ok_or_else(|| Error::unavailable(format!("lookup {host}: no such host")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[(&str, &str)]) -> Result<Option<DeviceMount>> {
        parse("v", &options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn flags_and_data_are_told_apart() {
        let mount = of(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=100m,uid=1000,noexec,ro,rw")]);
        let mount = mount.unwrap().unwrap();
        assert_eq!((mount.kind.as_str(), mount.data.as_str()), ("tmpfs", "size=100m,uid=1000"));
        assert_eq!((mount.flags, mount.bind), (MountFlags::NOEXEC, None));
        let bind = of(&[("type", "none"), ("device", "/srv"), ("o", "bind,ro")]).unwrap().unwrap();
        assert_eq!((bind.bind, bind.flags), (Some(Recursive::No), MountFlags::RDONLY));
        assert_eq!(of(&[]).unwrap(), None);
    }

    #[test]
    fn servers_by_name_are_looked_up() {
        let nfs = |o: &str| of(&[("type", "nfs"), ("device", ":/export"), ("o", o)]).unwrap().unwrap();
        assert_eq!(nfs("addr=files.example,rw").named_server(), Some("files.example"));
        assert_eq!(nfs("addr=10.0.0.1,rw").named_server(), None);
    }

    #[test]
    fn incomplete_and_unknown_options_are_refused() {
        let text = |options: &[(&str, &str)]| of(options).unwrap_err().to_string();
        assert_eq!(text(&[("foo", "1")]), "create v: invalid option: \"foo\"");
        assert_eq!(text(&[("type", "tmpfs")]), "create v: missing required option: \"device\"");
        assert_eq!(text(&[("device", "/x")]), "create v: missing required option: \"type\"");
        assert_eq!(text(&[("o", "bind")]), "create v: missing required option: \"device\"");
        assert!(text(&[("size", "1g")]).contains("no quota support"));
    }
}
