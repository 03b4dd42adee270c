//! Builds by the command line: where results and caches go, and what the options of a build mean for its commands.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use pair::build::{context, engine};
use pair::{Engine, barque_program, in_namespaces, sh};

#[test]
fn priv_several_outputs_are_all_made() {
    in_namespaces("priv_several_outputs_are_all_made", |dir| {
        let engine = engine(dir);
        let context = context(dir, "FROM base:1\nRUN echo made > /made\n");
        let path = |name: &str| dir.join(name).display().to_string();
        let images = || engine.ok(&["images", "-aq"]).lines().count();
        let (files, tar, oci, metadata) = (path("files"), path("t.tar"), path("o.tar"), path("metadata"));
        let outputs = [files.clone(), format!("type=tar,dest={tar}"), format!("type=oci,dest={oci}")];
        let mut build = vec!["build", "-q", "-t", "x:1", "--metadata-file", &metadata];
        build.extend(outputs.iter().flat_map(|o| ["-o", o]));
        engine.ok(&[build.as_slice(), &[&context]].concat());
        assert_eq!(std::fs::read_to_string(format!("{files}/made")).unwrap(), "made\n");
        assert_eq!(sh(&format!("tar -xOf {tar} made")), "made");
        assert!(sh(&format!("tar -xOf {oci} index.json")).contains("docker.io/library/x:1"));
        assert!(sh(&format!("cat {metadata}")).contains("\"image.name\": \"docker.io/library/x:1\""));
        assert_eq!((engine.ok(&["images", "-q", "x:1"]).as_str(), images()), ("", 1), "nobody asked for an image here");
        // With an output that is an image, there is one.
        build.extend(["-o", "type=docker"]);
        engine.ok(&[build.as_slice(), &[&context]].concat());
        assert_eq!((engine.ok(&["images", "-q", "x:1"]).lines().count(), images()), (1, 2));
        engine.ok(&["rmi", "x:1"]);
        assert_eq!(engine.ok(&["build", "-q", "-t", "x:1", "-o", "type=cacheonly", &context]), "");
        assert_eq!((engine.ok(&["images", "-q", "x:1"]).as_str(), images()), ("", 1), "the cache alone was asked for");
        engine.ok(&["build", "-q", "-t", "x:1", "-o", &files, "--load", &context]);
        assert_eq!(images(), 2);
        engine.fails(&["build", "-o", "-", "-o", "type=tar", &context], "only one output");
    });
}

#[test]
fn priv_exported_files_are_no_younger_than_the_epoch() {
    in_namespaces("priv_exported_files_are_no_younger_than_the_epoch", |dir| {
        let engine = engine(dir);
        let context = context(dir, "FROM base:1\nRUN echo made > /made\n");
        let tar = |name: &str| {
            let path = dir.join(name).display().to_string();
            let build = ["build", "-q", "--build-arg", "SOURCE_DATE_EPOCH=86400", "-o"];
            engine.ok(&[&build[..], &[&format!("type=tar,dest={path}"), &context]].concat());
            path
        };
        let (one, two) = (tar("one.tar"), tar("two.tar"));
        let times = sh(&format!("TZ=UTC tar -tvf {one}"));
        assert!(times.lines().all(|l| l.contains("1970-01-02 00:00")), "the base's files, too: {times}");
        sh(&format!("cmp {one} {two}"));
    });
}

/// A registry that ends with the test.
struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _status = self.0.wait();
    }
}

fn registry(dir: &Path) -> Registry {
    let root = dir.join("registry").display().to_string();
    let mut serve = Command::new(barque_program());
    serve.args(["registry", "serve", "--listen", "127.0.0.1:5000", "--root", &root]);
    let child = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    sh("for i in $(seq 100); do wget -q -O - http://127.0.0.1:5000/v2/ > /dev/null 2>&1 && exit 0; \
        busybox wget -q -O - http://127.0.0.1:5000/v2/ > /dev/null 2>&1 && exit 0; sleep 0.1; done; exit 1");
    Registry(child)
}

#[test]
fn priv_a_cache_in_a_registry_saves_the_work_of_another_engine() {
    in_namespaces("priv_a_cache_in_a_registry_saves_the_work_of_another_engine", |dir| {
        let _registry = registry(dir);
        let text = "FROM base:1 AS tool\nRUN head -c 9 /dev/urandom | base64 > /tool\nFROM base:1\n\
                    COPY --from=tool /tool /tool\nRUN cat /tool > /made\n";
        let context = context(dir, text);
        let archive = dir.join("base.tar").display().to_string();
        let made = |engine: &Engine, more: &[&str]| {
            let build = ["build", "-q", "--network", "none", "-t", "made:1"];
            engine.ok(&[&build[..], more, &[&context]].concat());
            engine.ok(&["run", "--rm", "--network", "none", "made:1", "cat", "/made"])
        };
        let plain = "127.0.0.1:5000/c:plain";
        let inline = "127.0.0.1:5000/c:inline";
        let first = {
            let engine = engine(dir);
            engine.ok(&["save", "-o", &archive, "base:1"]);
            // A name that is in use stays what it was.
            engine.ok(&["tag", "base:1", plain]);
            let first = made(&engine, &["--cache-to", &format!("type=registry,ref={plain}")]);
            let id = |name: &str| engine.ok(&["inspect", "-f", "{{.Id}}", name]);
            assert_eq!(id(plain), id("base:1"));
            assert_eq!(
                made(&engine, &["--cache-to", "type=inline", "-o", &format!("type=registry,name={inline}")]),
                first
            );
            // A cache that does not get there fails the build, unless it was said that it need not.
            let lost = ["build", "-q", "--cache-to", "type=registry,ref=127.0.0.1:1/c", &context];
            engine.fails(&lost, "127.0.0.1:1");
            let lost = ["build", "-q", "--cache-to", "type=registry,ref=127.0.0.1:1/c,ignore-error=true", &context];
            assert!(engine.run(&lost).unwrap().contains("WARNING: "));
            first
        };
        for (number, from) in [plain, inline].iter().enumerate() {
            let engine = Engine::barque(&dir.join(number.to_string()), &[]);
            engine.ok(&["load", "-q", "-i", &archive]);
            let flags = ["--cache-from", from];
            assert_eq!(made(&engine, &flags), first, "random bytes are the same only if nothing ran: {from}");
        }
    });
}

#[test]
fn priv_options_of_a_build_reach_its_commands() {
    in_namespaces("priv_options_of_a_build_reach_its_commands", |dir| {
        let engine = engine(dir);
        let text = "FROM base:1\nRUN hostname > /seen; ulimit -n >> /seen; df -k /dev/shm | tail -1 >> /seen; \
                    cat /etc/hosts /proc/self/cgroup >> /seen; cat /sys/fs/cgroup/memory*/memory.limit_in_bytes \
                    /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu*/cpu.shares /sys/fs/cgroup/cpu*/cpu.cfs_quota_us \
                    /sys/fs/cgroup/cpuset/cpuset.cpus /sys/fs/cgroup/cpuset.cpus >> /seen 2>/dev/null; true\n";
        let context = context(dir, text);
        let seen = |more: &[&str]| {
            engine.ok(&[&["build", "-q", "-t", "seen"], more, &[&context]].concat());
            engine.ok(&["run", "--rm", "--network", "none", "seen", "cat", "/seen"])
        };
        let limits = ["--memory", "64m", "--cpu-shares", "512", "--cpu-period", "50000", "--cpu-quota", "25000"];
        let more =
            ["--ulimit", "nofile=77:99", "--shm-size", "2m", "--add-host", "there:10.9.8.7", "--cpuset-cpus", "0"];
        let label = ["--label", "own=1", "--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=box"];
        let told = seen(&[&limits[..], &more, &label].concat());
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[..2], ["box", "77"], "{told}");
        assert!(lines[2].split_whitespace().any(|word| word == "2048"), "{told}");
        assert!(told.contains("10.9.8.7\tthere") && told.contains("67108864"), "{told}");
        assert!(lines.contains(&"512") && lines.contains(&"25000") && lines.contains(&"0"), "{told}");
        assert_eq!(engine.ok(&["inspect", "-f", "{{.Config.Labels.own}}", "seen"]), "1");
        assert_eq!(seen(&[]).lines().next(), Some("buildkitsandbox"), "what was asked for is a part of the step");
        // A command that needs more memory than it may have is ended.
        std::fs::write(
            format!("{context}/Dockerfile"),
            "FROM base:1\nRUN dd if=/dev/zero of=/dev/null bs=99M count=1\n",
        )
        .unwrap();
        engine.ok(&["build", "-q", &context]);
        engine.fails(&["build", "-q", "--no-cache", "--memory", "16m", "--memory-swap", "16m", &context], "code: 137");
    });
}

#[test]
fn priv_pull_asks_for_a_newer_base() {
    in_namespaces("priv_pull_asks_for_a_newer_base", |dir| {
        let _registry = registry(dir);
        let engine = engine(dir);
        let base = "127.0.0.1:5000/base:1";
        let context = context(dir, &format!("FROM {base}\n"));
        let age = || engine.ok(&["inspect", "-f", "{{.Config.Labels.age}}", "made"]);
        engine.import_busybox(base, &["LABEL age=new"]);
        engine.ok(&["push", "-q", base]);
        engine.import_busybox(base, &["LABEL age=old"]);
        engine.ok(&["build", "-q", "-t", "made", &context]);
        assert_eq!(age(), "old", "what is here is enough");
        engine.ok(&["build", "-q", "-t", "made", "--pull", &context]);
        assert_eq!(age(), "new");
    });
}
