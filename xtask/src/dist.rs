//! The release binary: built, checked to be static, run in a root that holds nothing but it and a busybox.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// As in development, and at a fixed address: relocated constants would be a copy of their own, near a megabyte, in
/// every daemon, monitor and command (docs/decisions/0003).
const RUSTFLAGS: &str = "-C target-feature=+crt-static -C relocation-model=static";

/// What runs in the bare root, by busybox's shell: an engine, and a container from the built-in image.
const ALONE: &str = "\
busybox umount -l /old
/barque daemon --data-root /d --exec-root /x --pidfile /p -H unix:///s 2> /log &
n=0
until DOCKER_HOST=unix:///s /barque version > /version 2>&1; do
  n=$((n + 1)); [ $n -lt 100 ] || { cat /version /log; exit 1; }; busybox sleep 0.1
done
DOCKER_HOST=unix:///s /barque run --rm barque/host busybox echo from a container
status=$?
kill $(busybox cat /p); wait
exit $status
";

/// Builds `barque` and puts it into `target/dist/`.
pub fn run(root: &Path) -> Result<PathBuf> {
    let built = Command::new("cargo")
        .current_dir(root)
        .args(["build", "--release", "--package", "barque", "--target", TARGET, "--locked"])
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", RUSTFLAGS)
        .status()?;
    if !built.success() {
        bail!("the release build failed");
    }
    let target = std::env::var("CARGO_TARGET_DIR").map_or_else(|_| root.join("target"), PathBuf::from);
    let binary = target.join(TARGET).join("release/barque");
    check_static(&binary)?;
    check_alone(&binary)?;
    let dist = target.join("dist");
    std::fs::create_dir_all(&dist)?;
    let out = dist.join("barque");
    // The one before may be running: it is replaced, not overwritten.
    let fresh = dist.join("barque.new");
    std::fs::copy(&binary, &fresh).with_context(|| binary.display().to_string())?;
    std::fs::rename(&fresh, &out)?;
    let size = std::fs::metadata(&out)?.len();
    println!("{}: {:.1} MB, statically linked", out.display(), size as f64 / 1e6);
    Ok(out)
}

/// An ELF file without an interpreter and without needed libraries.
fn check_static(binary: &Path) -> Result<()> {
    let bytes = std::fs::read(binary).with_context(|| binary.display().to_string())?;
    let word = |at: usize, n: usize| -> u64 {
        bytes.get(at..at + n).map_or(0, |b| b.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)))
    };
    let (table, size, count) = (word(32, 8), word(54, 2), word(56, 2));
    const INTERPRETER: u64 = 3;
    for header in 0..count {
        let at = usize::try_from(table + header * size)?;
        if word(at, 4) == INTERPRETER {
            bail!("{} asks for a dynamic loader: it is not static", binary.display());
        }
    }
    Ok(())
}

/// Runs the binary where there is nothing else: no loader, no libraries, no configuration, no other programs.
fn check_alone(binary: &Path) -> Result<()> {
    let busybox = Path::new("/bin/busybox");
    let as_root = Command::new("id").arg("-u").output()?.stdout == b"0\n";
    if !as_root || !busybox.exists() {
        println!("not run in a bare root: that takes root and /bin/busybox (busybox-static)");
        return Ok(());
    }
    let dir = std::env::temp_dir().join(format!("barque-alone-{}", std::process::id()));
    for name in ["bin", "proc", "sys", "dev", "tmp", "old"] {
        std::fs::create_dir_all(dir.join(name))?;
    }
    std::fs::copy(busybox, dir.join("bin/busybox"))?;
    std::os::unix::fs::symlink("busybox", dir.join("bin/sh"))?;
    std::fs::copy(binary, dir.join("barque"))?;
    // The file systems of the kernel are the only things of the machine; all is in namespaces that end with the check.
    let script = "mount --make-rprivate / && mount --bind $1 $1 && cd $1 && mount -t proc proc proc \
                  && mount --rbind /sys sys && mount --rbind /dev dev && ip link set lo up && pivot_root . old \
                  && exec /bin/busybox env -i PATH=/bin sh -c \"$2\"";
    let output = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh"])
        .arg(&dir)
        .arg(ALONE)
        .output()
        .context("unshare (util-linux) is needed")?;
    std::fs::remove_dir_all(&dir)?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !said.contains("from a container") {
        bail!("the binary does not run by itself: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
    println!("runs an engine and a container in a root that holds nothing but it and a busybox");
    Ok(())
}
