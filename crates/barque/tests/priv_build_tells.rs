//! Builds by the command line: what they tell of themselves, what they take from elsewhere, what stands beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::io::Write as _;
use std::process::Stdio;

use pair::build::{context, engine};
use pair::{Engine, in_namespaces, installed, sh};
use serde_json::Value;

/// Builds; standard output and error, one after the other, and the exit status.
fn build(engine: &Engine, args: &[&str], input: &str) -> (String, String, Option<i32>) {
    let mut command = engine.command(&[&["build", "--network", "none"], args].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

#[test]
fn priv_a_step_says_why_it_ran_again() {
    in_namespaces("priv_a_step_says_why_it_ran_again", |dir| {
        let engine = engine(dir);
        let text = "FROM base:1\nARG A=1\nRUN echo $A > /a\nCOPY f /f\nRUN cat /f > /g\n";
        let context = context(dir, text);
        std::fs::write(format!("{context}/f"), "one").unwrap();
        let why = |more: &[&str]| -> Vec<String> {
            let (_, told, code) = build(&engine, &[&["--why", "--progress", "plain"], more, &[&context]].concat(), "");
            assert_eq!(code, Some(0), "{told}");
            told.lines().filter_map(|l| l.split_once(" why: ")).map(|(_, why)| why.to_owned()).collect()
        };
        why(&[]);
        assert!(why(&[]).is_empty(), "everything is cached");
        std::fs::write(format!("{context}/f"), "two").unwrap();
        let file = why(&[]);
        assert!(file[0].starts_with("file f changed from "), "{file:?}");
        assert!(file[1].contains("the step before it gave another result: COPY f /f"), "{file:?}");
        let argument = why(&["--build-arg", "A=2"]);
        assert_eq!(argument[0], "variable A changed from \"1\" to \"2\"");
        let all = why(&["--no-cache"]);
        assert!(all.len() >= 3 && all.iter().all(|w| w.contains("cache")), "{all:?}");
    });
}

#[test]
fn priv_a_failed_step_can_be_looked_into() {
    in_namespaces("priv_a_failed_step_can_be_looked_into", |dir| {
        let engine = engine(dir);
        let context = context(dir, "FROM base:1\nENV COLOUR=red\nWORKDIR /w\nRUN touch before; exit 7\n");
        let before = engine.stored();
        let (shell, told, code) = build(&engine, &["--debug", &context], "pwd; ls; echo $COLOUR\n");
        assert_eq!((shell.as_str(), code), ("/w\nbefore\nred\n", Some(7)), "{told}");
        assert!(told.contains(">>> RUN touch before; exit 7"), "{told}");
        assert_eq!(engine.ok(&["ps", "-aq"]), "", "the shell's container is gone");
        engine.ok(&["builder", "prune", "-af"]);
        assert_eq!(engine.stored(), before, "what was kept of the step is gone");
    });
}

#[test]
fn priv_progress_comes_in_buildkits_form() {
    in_namespaces("priv_progress_comes_in_buildkits_form", |dir| {
        let engine = engine(dir);
        let context = context(dir, "FROM base:1\nRUN echo said; echo complained >&2\n");
        let (out, told, code) = build(&engine, &["--progress", "rawjson", &context], "");
        assert_eq!((out.as_str(), code), ("", Some(0)));
        let all: Vec<Value> = told.lines().map(|l| serde_json::from_str(l).expect("a document a line")).collect();
        let each = |key: &'static str| all.iter().flat_map(move |d| d[key].as_array().into_iter().flatten());
        let step = each("vertexes").find(|v| v["name"].as_str().is_some_and(|n| n.contains("RUN echo said"))).unwrap();
        let of_step = |v: &&Value| v["digest"] == step["digest"];
        assert!(each("vertexes").filter(of_step).any(|v| v["started"].is_string() && v["completed"].is_string()));
        let logs: Vec<(i64, String)> = each("logs")
            .filter(|l| l["vertex"] == step["digest"])
            .map(|l| (l["stream"].as_i64().unwrap(), decoded(l["data"].as_str().unwrap())))
            .collect();
        for (stream, text) in [(1, "said\n"), (2, "complained\n")] {
            assert!(logs.contains(&(stream, text.into())), "{logs:?}");
        }
        // A tag and quiet progress give nothing but the id.
        let (out, told, _) = build(&engine, &["-q", "-t", "made:1", &context], "");
        assert_eq!((out.trim(), told.as_str()), (engine.ok(&["inspect", "-f", "{{.Id}}", "made:1"]).as_str(), ""));
    });
}

#[test]
fn priv_progress_on_a_terminal_is_drawn_over() {
    if !installed("script") {
        return;
    }
    in_namespaces("priv_progress_on_a_terminal_is_drawn_over", |dir| {
        let engine = engine(dir);
        let text = "FROM base:1 AS a\nRUN echo from-a; sleep 1\nFROM base:1\nRUN echo from-b; sleep 1\nCOPY --from=a /etc /a\n";
        let context = context(dir, text);
        let drawn = |flags: &str| {
            let program = pair::barque_program();
            let command = format!("{} build --network none --no-cache {flags} {context}", program.display());
            let mut script = std::process::Command::new("script");
            script
                .args(["-qec", &command, "/dev/null"])
                .env("DOCKER_HOST", format!("unix://{}/sock", engine.dir.display()));
            let output = script.env("TERM", "xterm").stdin(Stdio::null()).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let told = drawn("");
        assert!(told.contains("\x1b[") && told.contains("[+] Building"), "a picture with cursor movements: {told:?}");
        assert!(told.contains("=> [a 2/2] RUN echo from-a"), "{told:?}");
        assert!(
            told.contains("FINISHED") && told.matches("[+] Building").count() > 2,
            "drawn again and again: {told:?}"
        );
        assert_eq!(drawn("--progress tty").matches("FINISHED").count(), 1);
        let plain = drawn("--progress plain");
        assert!(!plain.contains("[+] Building") && plain.contains(" from-a\r\n"), "{plain:?}");
    });
}

fn decoded(base64: &str) -> String {
    sh(&format!("printf %s {base64} | base64 -d; echo .")).trim_end_matches('.').to_owned()
}

#[test]
fn priv_a_cache_in_a_directory_saves_the_work_of_another_engine() {
    in_namespaces("priv_a_cache_in_a_directory_saves_the_work_of_another_engine", |dir| {
        let text = "FROM base:1 AS tool\nRUN head -c 9 /dev/urandom | base64 > /tool\nFROM base:1\n\
                    COPY --from=tool /tool /tool\nRUN cat /tool > /made\n";
        let context = context(dir, text);
        let cache = dir.join("cache").display().to_string();
        let (to, from) = (format!("type=local,dest={cache},mode=max"), format!("type=local,src={cache}"));
        let made = |engine: &Engine, flag: &str, value: &str| {
            let (_, told, code) = build(engine, &["-t", "made:1", "--progress", "plain", flag, value, &context], "");
            assert_eq!(code, Some(0), "{told}");
            (engine.ok(&["run", "--rm", "--network", "none", "made:1", "cat", "/made"]), told)
        };
        let archive = dir.join("base.tar").display().to_string();
        let first = {
            let engine = engine(dir);
            engine.ok(&["save", "-o", &archive, "base:1"]);
            made(&engine, "--cache-to", &to).0
        };
        let engine = Engine::barque(&dir.join("other"), &[]);
        engine.ok(&["load", "-i", &archive]);
        let (second, told) = made(&engine, "--cache-from", &from);
        assert_eq!(first, second, "random bytes are the same only if nothing ran: {told}");
        assert!(told.matches(" CACHED").count() >= 3, "{told}");
        // From and to the same directory, and nothing new to keep.
        for _ in 0..2 {
            let mut words = vec!["--cache-from", &from, "--cache-to", &to];
            words.extend(["-t", "made:1", "--progress", "plain", &context]);
            let (_, told, code) = build(&engine, &words, "");
            assert_eq!(code, Some(0), "{told}");
            engine.ok(&["rmi", "made:1"]);
            engine.ok(&["builder", "prune", "-af"]);
        }
        assert_eq!(made(&engine, "--cache-from", &from).0, first);
    });
}

#[test]
fn priv_the_file_of_a_key_is_an_agent_to_the_step() {
    in_namespaces("priv_the_file_of_a_key_is_an_agent_to_the_step", |dir| {
        if !installed("ssh-keygen") {
            return;
        }
        let engine = engine(dir);
        let key = dir.join("key").display().to_string();
        sh(&format!("ssh-keygen -q -t ed25519 -N '' -f {key}"));
        let context =
            context(dir, "FROM base:1\nRUN --mount=type=ssh,id=git test -S $SSH_AUTH_SOCK && echo agent > /x\n");
        let (_, told, code) = build(&engine, &["-t", "made:1", "--ssh", &format!("git={key}"), &context], "");
        assert_eq!(code, Some(0), "{told}");
        let (_, told, code) = build(&engine, &["--ssh", &format!("git={context}/Dockerfile"), &context], "");
        assert!(code != Some(0) && told.contains("failed to parse the key"), "{told}");
        assert_eq!(sh("ls ${TMPDIR:-/tmp} | grep -c ^barque-agent- || true"), "0", "no agent stays");
    });
}

/// Each overlay has a device of its own: a stage's files are listed on one and copied from another.
#[test]
fn priv_stages_are_copied_whatever_else_is_mounted() {
    in_namespaces("priv_stages_are_copied_whatever_else_is_mounted", |dir| {
        let engine = engine(dir);
        let text =
            "FROM base:1 AS a\nRUN echo 1 > /f\nFROM base:1\nCOPY --from=a f /f\nCOPY --from=base:1 /bin/busybox /b\n";
        let context = context(dir, text);
        let script = format!(
            "cd {}; mkdir -p l1 l2 m1 m2; while [ ! -e stop ]; do for m in m1 m2; do \
             mount -t overlay -o lowerdir=l1:l2 none $m; [ $m = m1 ] || umount m1; done; umount m2; done",
            dir.display()
        );
        let mut beside = std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap();
        let built: Vec<_> = (0..12).map(|_| build(&engine, &["-q", "--no-cache", &context], "")).collect();
        std::fs::write(dir.join("stop"), "").unwrap();
        beside.wait().unwrap();
        for (_, told, code) in built {
            assert_eq!(code, Some(0), "{told}");
        }
    });
}

/// Docker's client sends a Dockerfile from elsewhere as the last member, without what fills its block.
#[test]
fn priv_archives_may_end_with_their_last_byte() {
    in_namespaces("priv_archives_may_end_with_their_last_byte", |dir| {
        let engine = engine(dir);
        let context = context(dir, "FROM base:1\nRUN echo made > /made\n");
        let socket = engine.dir.join("sock").display().to_string();
        let post = |archive: &str| {
            sh(&format!(
                "curl -s --unix-socket {socket} -X POST -H 'Content-Type: application/x-tar' --data-binary @{archive} \
                 'http://d/v1.50/build?t=made:1&networkmode=none'"
            ))
        };
        let tar = dir.join("context.tar").display().to_string();
        let length = std::fs::metadata(format!("{context}/Dockerfile")).unwrap().len();
        sh(&format!("tar -C {context} -cf {tar} Dockerfile && truncate -s {} {tar}", 512 + length));
        let said = post(&tar);
        assert!(said.contains("Successfully tagged made:1"), "{said}");
        sh(&format!("truncate -s {} {tar}", 512 + length - 1));
        let said = post(&tar);
        assert!(said.contains("cannot be unpacked"), "a byte of the content is missing: {said}");
        // A layer that ends so, too.
        let root = dir.join("root.tar").display().to_string();
        sh(&format!(
            "mkdir {0}/r && echo text > {0}/r/f && tar -C {0}/r -cf {root} f && truncate -s 517 {root}",
            dir.display()
        ));
        engine.ok(&["import", &root, "root:1"]);
        sh(&format!("truncate -s 516 {root}"));
        engine.fails(&["import", &root, "root:2"], "truncated");
        if installed("docker") {
            let host = format!("unix://{socket}");
            let script = format!(
                "printf 'FROM base:1\\nRUN echo x > /x\\n' | DOCKER_BUILDKIT=0 DOCKER_HOST={host} docker build -t by:1 -f - {context} 2>&1"
            );
            assert!(sh(&script).contains("Successfully tagged by:1"));
        }
        // What every container has, and no image.
        engine.ok(&["run", "--name", "one", "--network", "none", "base:1", "test", "-e", "/.dockerenv"]);
        let mtab = ["run", "--rm", "--network", "none", "base:1", "readlink", "/etc/mtab"];
        assert_eq!(engine.ok(&mtab), "/proc/mounts");
        assert_eq!(engine.ok(&["diff", "one"]), "");
        // What is missing is said once.
        std::fs::write(format!("{context}/Dockerfile"), "FROM base:1\nCOPY nowhere /\n").unwrap();
        let (_, told, code) = build(&engine, &[&context], "");
        assert!(code != Some(0) && told.matches(">>> COPY nowhere /").count() == 1, "{told}");
    });
}
