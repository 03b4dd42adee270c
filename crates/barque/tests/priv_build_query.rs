//! Every parameter of `POST /build` (Engine API 1.56), asked of a running daemon; of Docker's, too, where it is here.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::path::Path;

use pair::{Engine, apart, installed, sh};

/// Asks an engine for builds.
struct Asker<'a> {
    engine: &'a Engine,
    dir: &'a Path,
}

impl Asker<'_> {
    /// An archive of one Dockerfile and one file, for the body.
    fn archive(&self, name: &str, dockerfile: &str) -> String {
        let dir = self.dir.join("ctx");
        let _none_yet = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::fs::write(dir.join(name), dockerfile).unwrap();
        std::fs::write(dir.join("f"), "content\n").unwrap();
        let tar = self.dir.join("ctx.tar").display().to_string();
        sh(&format!("tar -C {} -cf {tar} .", dir.display()));
        tar
    }

    /// The reply's status and its text.
    fn post(&self, query: &str, dockerfile: &str) -> (String, String) {
        let tar = self.archive("Dockerfile", dockerfile);
        self.send(query, &format!("--data-binary @{tar}"))
    }

    fn send(&self, query: &str, body: &str) -> (String, String) {
        let socket = self.engine.dir.join("sock").display().to_string();
        let url = format!("http://d/v1.41/build?networkmode=none&{query}");
        let curl =
            format!("curl -sg --unix-socket {socket} -H 'Content-Type: application/x-tar' -w '\\n%{{http_code}}'");
        let said = sh(&format!("{curl} -X POST {body} '{url}'"));
        let (text, status) = said.rsplit_once('\n').unwrap();
        (status.to_owned(), text.to_owned())
    }

    /// What the step `RUN` printed, of a build that has to succeed.
    fn printed(&self, query: &str, dockerfile: &str) -> String {
        let (status, text) = self.post(query, dockerfile);
        assert!(status == "200" && !text.contains("\"error\""), "{}: {query}: {status} {text}", self.engine.name);
        text
    }

    fn refused(&self, query: &str, status: &str, expected: &str) {
        let (found, text) = self.post(query, "FROM base:1\n");
        // The reference, 20.10, has other statuses for some.
        let fits = found == status || self.engine.name == "docker";
        assert!(fits && text.contains(expected), "{}: {query}: {found} {text}", self.engine.name);
    }
}

/// As they are written in the tutorials, quotes and all.
fn every_parameter(ask: &Asker<'_>) {
    let engine = ask.engine;
    let id = |name: &str| engine.ok(&["images", "-q", name]);
    let run = |command: &str| format!("FROM base:1\nRUN {command}\n");
    // t, nocache, q, rm, forcerm
    ask.printed("t=one:1&t=two", "FROM base:1\nLABEL a=b\n");
    assert!(!id("one:1").is_empty() && id("one:1") == id("two:latest"));
    let quiet = ask.printed("q=1", "FROM base:1\nLABEL a=b\n");
    assert!(quiet.contains("sha256:") && !quiet.contains("Step"), "{quiet}");
    assert!(ask.printed("", &run("echo cached")).contains("Step 2/2"));
    assert!(ask.printed("", &run("echo cached")).contains("Using cache"));
    assert!(!ask.printed("nocache=1", &run("echo cached")).contains("Using cache"));
    assert!(ask.printed("nocache=1&rm=1&forcerm=1", &run("echo x")).contains("Removing intermediate container"));
    assert!(!ask.printed("nocache=1&rm=0", &run("echo x")).contains("Removing intermediate container"));
    // dockerfile, target, buildargs, labels
    let tar = ask.archive("sub/Other", "FROM base:1 AS first\nARG A=0\nRUN echo got $A\nFROM base:1\nRUN exit 1\n");
    let query = r#"dockerfile=sub/Other&target=first&buildargs={"A":"7"}&labels={"own":"1"}&t=labelled"#;
    let (_, text) = ask.send(query, &format!("--data-binary @{tar}"));
    assert!(text.contains("got 7"), "{text}");
    assert_eq!(engine.ok(&["inspect", "-f", "{{.Config.Labels.own}}", "labelled"]), "1");
    // extrahosts, shmsize, ulimits, and the limits of memory and processors
    assert!(ask.printed("extrahosts=there:10.9.8.7", &run("cat /etc/hosts")).contains("10.9.8.7\\tthere"));
    assert!(ask.printed("shmsize=2097152", &run("df -k /dev/shm")).contains(" 2048 "));
    assert!(ask.printed(r#"ulimits=[{"Name":"nofile","Soft":77,"Hard":99}]"#, &run("ulimit -n")).contains("77\\n"));
    let limits =
        "memory=67108864&memswap=67108864&cpushares=512&cpuperiod=50000&cpuquota=25000&cpusetcpus=0&cpusetmems=0";
    let seen =
        ask.printed(limits, &run("cat /sys/fs/cgroup/memory*/memory.limit_in_bytes /sys/fs/cgroup/cpu*/cpu.shares"));
    assert!(seen.contains("67108864") && seen.contains("512\\n"), "{}: {seen}", engine.name);
    let killed =
        ask.post("nocache=1&memory=16777216&memswap=16777216", &run("dd if=/dev/zero of=/dev/null bs=99M count=1"));
    assert!(killed.1.contains("code: 137"), "{}: {}", engine.name, killed.1);
    // cachefrom, pull, platform, version, outputs, session, buildid
    ask.printed(r#"cachefrom=["one:1"]"#, "FROM base:1\nLABEL a=b\n");
    let pulled = ask.post("pull=1", "FROM localhost:1/none:1\n").1;
    assert!(pulled.contains("localhost:1"), "{pulled}");
    ask.printed("version=1&session=&buildid=b1&isolation=", "FROM base:1\n");
    // What cannot be: a sentence, not a build without it.
    ask.refused("version=3", "400", r#"invalid version \"3\""#);
    assert!(ask.post("nocache=1&memory=1", &run("true")).1.contains("Minimum memory limit"));
    ask.refused("t=UPPER", "400", "must be lowercase");
    ask.refused(r#"securityopt=["x"]"#, "400", "does not support setting security options on build");
    ask.refused("target=none", "400", "none");
    ask.refused("buildargs={", "400", "");
}

#[test]
fn priv_every_parameter_of_a_build_counts() {
    if !installed("curl") {
        return;
    }
    let body = |label: &str, dir: &Path| {
        let dir = &dir.join(label);
        std::fs::create_dir_all(dir).unwrap();
        let engine = match label {
            "barque" => Engine::barque(dir, &[]),
            _ => match Engine::docker(dir, &[]) {
                Some(engine) => engine,
                None => return,
            },
        };
        engine.import_busybox("base:1", &["ENV PATH=/bin"]);
        every_parameter(&Asker { engine: &engine, dir });
        // remote: an archive from a web server, here the context itself.
        let ask = Asker { engine: &engine, dir };
        ask.archive("Dockerfile", "FROM base:1\nCOPY f /f\nRUN cat /f\n");
        sh(&format!("cd {} && busybox httpd -p 127.0.0.1:8099", dir.display()));
        let (_, text) = ask.send("remote=http://127.0.0.1:8099/ctx.tar", "");
        assert!(text.contains("content\\n"), "{label}: {text}");
    };
    apart("priv_every_parameter_of_a_build_counts", &["barque", "docker"], body, |_| ());
}
