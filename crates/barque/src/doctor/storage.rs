//! Storage and disk: whether overlay mounts work where the data are, and how much room there is.

use std::path::{Path, PathBuf};

use barque_engine::system::backing_filesystem;
use barque_model::size::binary;
use rustix::fs::StatVfs;
use rustix::mount::{MountFlags, mount};

use super::Finding;

const STORAGE: &str = "Storage";
const DISK: &str = "Disk";
/// Free space below which pulls and builds soon fail: bytes, and a share of the file system in percent.
const LITTLE: (u64, u64) = (1 << 30, 5);
const TOO_LITTLE: u64 = 64 << 20;

pub(super) fn check(data_root: &Path, exec_root: &Path) -> Vec<Finding> {
    let data = existing(data_root);
    let mut findings = vec![file_system(&backing_filesystem(&data), data_root)];
    if rustix::process::geteuid().is_root() {
        findings.push(overlay(probe(&data).err().map(|e| e.to_string()), &data));
    }
    for (what, path) in [("data", &data), ("run-time state", &existing(exec_root))] {
        if let Ok(space) = rustix::fs::statvfs(path.as_path()) {
            findings.extend(room(what, path, &space));
        }
    }
    findings
}

/// The path, or the nearest directory above it that exists.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn file_system(kind: &str, data_root: &Path) -> Finding {
    let at = data_root.display();
    let elsewhere = "put the data on ext4, xfs or btrfs: barque daemon --data-root DIRECTORY, or data-root in \
                     /etc/barque/daemon.json";
    match kind {
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "virtiofs" | "vboxsf" | "ceph" => {
            Finding::fault(STORAGE, format!("{at} is on {kind}, a file system of another machine"), elsewhere)
        }
        "vfat" | "exfat" | "ntfs" | "ntfs3" | "fuseblk" => {
            Finding::fault(STORAGE, format!("{at} is on {kind}, which keeps neither owners nor modes"), elsewhere)
        }
        "overlay" => Finding::fault(
            STORAGE,
            format!("{at} is on an overlay: overlays cannot be stacked on it"),
            "inside a container, mount a volume there",
        ),
        "tmpfs" | "ramfs" => {
            Finding::warning(STORAGE, format!("{at} is on {kind}: all data are lost with the next boot"), elsewhere)
        }
        kind => Finding::ok(STORAGE, format!("{at} is on {kind}")),
    }
}

/// Makes an overlay mount as a container needs it, where nobody sees it.
fn probe(data: &Path) -> std::io::Result<()> {
    let scratch = data.join(format!(".doctor-{}", std::process::id()));
    let result = (|| {
        for name in ["lower", "upper", "work", "merged"] {
            std::fs::create_dir_all(scratch.join(name))?;
        }
        std::fs::write(scratch.join("lower/file"), "x")?;
        barque_sys::mount::in_private_mounts(|| {
            std::env::set_current_dir(&scratch)?;
            let options = c"lowerdir=lower,upperdir=upper,workdir=work";
            mount("overlay", "merged", "overlay", MountFlags::empty(), options)?;
            std::fs::remove_file("merged/file")?;
            std::fs::write("merged/file", "y")
        })
    })();
    let _gone = std::fs::remove_dir_all(&scratch);
    result
}

fn overlay(fault: Option<String>, data: &Path) -> Finding {
    let Some(why) = fault else { return Finding::ok(STORAGE, "overlay mounts work there") };
    let cure = if why.contains("No such device") {
        "load the module: modprobe overlay (and write it into /etc/modules-load.d/overlay.conf)"
    } else if why.contains("No space left") {
        "free some space first: barque system df tells what takes it"
    } else if why.contains("Read-only") {
        "make the file system writable, or choose another data root"
    } else {
        "choose a data root on ext4, xfs (with ftype=1) or btrfs"
    };
    Finding::fault(STORAGE, format!("an overlay mount below {} fails: {why}", data.display()), cure)
}

fn room(what: &str, path: &Path, space: &StatVfs) -> Vec<Finding> {
    let (free, total) = (space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize);
    let share = |part: u64, whole: u64| (part * 100).checked_div(whole).unwrap_or(100);
    let text = format!("{} free of {} for {what} ({})", binary(free), binary(total), path.display());
    let cure = "see what takes it: barque system df; what could go: barque system prune --dry-run";
    // State is small; images and volumes are not.
    let little = free < LITTLE.0 || share(free, total) < LITTLE.1;
    let mut findings = vec![match what {
        _ if free < TOO_LITTLE => Finding::fault(DISK, text, cure),
        "data" if little => Finding::warning(DISK, text, cure),
        _ => Finding::ok(DISK, text),
    }];
    if space.f_files > 0 && share(space.f_favail, space.f_files) < LITTLE.1 {
        let text = format!("only {} more files fit on {} (inodes)", space.f_favail, path.display());
        findings.push(Finding::warning(DISK, text, cure));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn file_systems_that_do_not_fit() {
        let level = |kind| file_system(kind, Path::new("/d")).level;
        assert_eq!((level("ext4"), level("tmpfs"), level("nfs4")), (Level::Ok, Level::Warning, Level::Fault));
        assert_eq!((level("overlay"), level("vfat")), (Level::Fault, Level::Fault));
        let finding = overlay(Some("No such device (os error 19)".into()), Path::new("/d"));
        assert!(finding.cure.contains("modprobe overlay"));
    }

    #[test]
    fn little_room_is_said() {
        let space = |free: u64, inodes: u64| {
            let mut s = rustix::fs::statvfs("/proc").expect("statvfs");
            (s.f_frsize, s.f_blocks, s.f_bavail, s.f_files, s.f_favail) = (1 << 20, 100 << 10, free, 1000, inodes);
            s
        };
        let levels = |s: &StatVfs| room("data", Path::new("/d"), s).iter().map(|f| f.level).collect::<Vec<_>>();
        assert_eq!(levels(&space(50 << 10, 500)), [Level::Ok]);
        assert_eq!(levels(&space(500, 500)), [Level::Warning]);
        assert_eq!(levels(&space(10, 10)), [Level::Fault, Level::Warning]);
    }
}
