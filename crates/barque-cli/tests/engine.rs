//! The program against an engine made of answers: what it asks for, prints and ends with.

mod common;
mod scripted;

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use common::text;
use scripted::{Answer, Engine};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A piece of a multiplexed stream: 1 is standard output, 2 standard error.
fn frame(kind: u8, data: &str) -> Vec<u8> {
    let mut out = vec![kind, 0, 0, 0];
    out.extend_from_slice(&u32::try_from(data.len()).expect("short").to_be_bytes());
    out.extend_from_slice(data.as_bytes());
    out
}

/// An engine whose containers print `output` and end with `status`; `start` refuses with a message.
fn engine(output: Vec<u8>, status: i64, refusal: Option<&'static str>) -> Engine {
    Engine::new(move |line, _| {
        let path = line.split(['?', ' ']).nth(1).unwrap_or_default();
        match (path, refusal) {
            ("/containers/create", _) => Answer::Json(201, format!("{{\"Id\":\"{ID}\",\"Warnings\":[]}}")),
            (path, _) if path.ends_with("/attach") => Answer::Stream(output.clone()),
            (path, Some(why)) if path.ends_with("/start") => {
                Answer::Json(400, serde_json::json!({ "message": why }).to_string())
            }
            (path, None) if path.ends_with("/start") => Answer::Json(204, String::new()),
            (path, _) if path.ends_with("/wait") => Answer::Json(200, format!("{{\"StatusCode\":{status}}}")),
            (path, _) if path.ends_with("/json") => Answer::Json(
                200,
                format!("{{\"Id\":\"{ID}\",\"State\":{{\"Running\":false,\"ExitCode\":{status}}},\"Config\":{{}}}}"),
            ),
            _ => Answer::Json(404, "{\"message\":\"page not found\"}".into()),
        }
    })
}

#[test]
fn run_copies_both_streams_and_ends_like_the_container() {
    let engine = engine([frame(1, "out\n"), frame(2, "err\n"), frame(1, "more\n")].concat(), 7, None);
    let done = engine.run(&["run", "--rm", "-e", "A=1", "-v", "/x:/y:ro", "busybox", "sh", "-c", "exit 7"]);
    assert_eq!((text(&done.stdout), text(&done.stderr), done.status.code()), ("out\nmore\n", "err\n", Some(7)));
    let request = engine.body("/containers/create");
    assert_eq!(request["Image"], "busybox");
    assert_eq!(request["Cmd"], serde_json::json!(["sh", "-c", "exit 7"]));
    assert_eq!(request["Env"], serde_json::json!(["A=1"]));
    assert_eq!(request["HostConfig"]["Binds"], serde_json::json!(["/x:/y:ro"]));
    assert_eq!(request["HostConfig"]["AutoRemove"], true);
    let lines: Vec<String> = engine.seen().into_iter().map(|s| s.line).collect();
    let position =
        |part: &str| lines.iter().position(|l| l.contains(part)).unwrap_or_else(|| panic!("{part}: {lines:?}"));
    assert!(position("/attach") < position("/start"), "output of the first instant would be lost: {lines:?}");
}

#[test]
fn a_program_that_cannot_start_has_the_status_of_a_shell() {
    for (why, status) in [
        ("exec: \"nope\": executable file not found in $PATH", 127),
        ("exec /x: permission denied", 126),
        ("driver failed programming external connectivity", 125),
    ] {
        let engine = engine(Vec::new(), 0, Some(why));
        let done = engine.run(&["run", "busybox", "nope"]);
        let expected =
            format!("docker: Error response from daemon: {why}\n\nRun 'docker run --help' for more information\n");
        // A cure may stand below what Docker says.
        let (said, cure) = text(&done.stderr).split_once("\nhint: ").unwrap_or((text(&done.stderr), ""));
        assert_eq!((said.trim_end(), done.status.code()), (expected.trim_end(), Some(status)));
        assert_eq!(cure.is_empty(), status == 125, "{cure}");
    }
}

#[test]
fn a_detached_container_is_named_at_once() {
    let engine = engine(Vec::new(), 0, None);
    let done = engine.run(&["run", "-d", "--name", "web", "busybox"]);
    assert_eq!((text(&done.stdout), done.status.code()), (format!("{ID}\n").as_str(), Some(0)));
    assert!(engine.seen()[0].line.contains("name=web"));
    assert!(!engine.seen().iter().any(|s| s.line.contains("/attach")));
}

#[test]
fn usage_errors_name_the_way_out() {
    let engine = engine(Vec::new(), 0, None);
    let cases: [(&[&str], &str, i32); 9] = [
        (
            &["run", "--foo"],
            "unknown flag: --foo\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun 'docker run --help' for more information\n",
            125,
        ),
        (
            &["run"],
            "docker: 'docker run' requires at least 1 argument\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nSee 'docker run --help' for more information\n",
            1,
        ),
        (&["foo"], "docker: unknown command: docker foo\n\nRun 'docker --help' for more information\n", 1),
        (&["pz"], "", 1),
        (&["swarm", "init"], "not implemented yet: swarm init\n", 125),
        (&["swarm", "init", "--autolock", "--advertise-addr=1"], "not implemented yet: swarm init\n", 125),
        (&["manifest", "inspect", "-v", "busybox"], "not implemented yet: manifest inspect\n", 125),
        (&["buildx", "create", "--use", "--name", "x"], "not implemented yet: buildx create\n", 125),
        (&["buildx", "bake"], "not implemented yet: buildx bake\n", 125),
    ];
    for (args, expected, status) in cases {
        let done = engine.run(args);
        if !expected.is_empty() {
            assert_eq!(text(&done.stderr), expected, "{args:?}");
        }
        assert_eq!((text(&done.stdout), done.status.code()), ("", Some(status)), "{args:?}: {}", text(&done.stderr));
    }
    assert!(engine.seen().is_empty(), "a usage error needs no engine: {:?}", engine.seen());
}

#[test]
fn refusals_are_printed_as_the_engine_wrote_them() {
    let engine = Engine::new(|_, _| Answer::Json(404, "{\"message\":\"No such container: x\"}".into()));
    let done = engine.run(&["rm", "x", "y"]);
    let line = "Error response from daemon: No such container: x\n";
    let cure = "\nhint: docker ps -a lists every container there is\n";
    assert_eq!((text(&done.stderr), done.status.code()), (format!("{}{cure}", line.repeat(2)).as_str(), Some(1)));
}

#[test]
fn archives_with_nowhere_to_go_are_not_asked_for() {
    let engine = engine(Vec::new(), 0, None);
    for (args, what) in [
        (["export", "-o", "/nonexistent/x", "c"], "export container"),
        (["save", "-o", "/nonexistent/x", "i"], "save image"),
    ] {
        let done = engine.run(&args);
        let expected = format!(
            "failed to {what}: invalid output path: stat /nonexistent: no such file or directory\n\nhint: that directory has \
             to be there before: mkdir -p makes it\n"
        );
        assert_eq!((text(&done.stderr), done.status.code()), (expected.as_str(), Some(1)), "{args:?}");
    }
    assert!(engine.seen().is_empty(), "{:?}", engine.seen());
}

#[test]
fn templates_of_volumes_see_the_type_alone() {
    let engine = Engine::new(|_, _| Answer::Json(200, "{\"Name\":\"v\",\"Driver\":\"local\",\"New\":1}".into()));
    let done = engine.run(&["volume", "inspect", "-f", "{{.Driver}}", "v"]);
    assert_eq!(text(&done.stdout), "local\n");
    for field in ["Nope", "New"] {
        let done = engine.run(&["volume", "inspect", "-f", &format!("{{{{.{field}}}}}"), "v"]);
        let expected = format!(
            "template parsing error: template: :1:2: executing \"\" at <.{field}>: can't evaluate field {field} in type \
             volume.Volume\n\nhint: --format json shows the fields there are\n"
        );
        assert_eq!((text(&done.stderr), done.status.code()), (expected.as_str(), Some(1)));
    }
}

#[test]
fn tables_keep_their_columns() {
    let engine = Engine::new(|line, _| {
        assert!(line.starts_with("GET /volumes"), "{line}");
        Answer::Json(
            200,
            "{\"Volumes\":[{\"Name\":\"a-rather-long-name\",\"Driver\":\"local\",\"Mountpoint\":\"/m\",\"Scope\":\"local\"},\
             {\"Name\":\"b\",\"Driver\":\"nfs\",\"Mountpoint\":\"/n\",\"Scope\":\"local\",\"Labels\":{\"k\":\"v\"}}]}"
                .into(),
        )
    });
    let out = |args: &[&str]| {
        let done = engine.run(args);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        text(&done.stdout).to_owned()
    };
    let table = "DRIVER    VOLUME NAME\nlocal     a-rather-long-name\nnfs       b\n";
    assert_eq!(out(&["volume", "ls"]), table);
    assert_eq!(out(&["volume", "ls", "-q"]), "a-rather-long-name\nb\n");
    assert_eq!(out(&["volume", "ls", "--format", "{{upper .Driver}}:{{.Labels}}"]), "LOCAL:\nNFS:k=v\n");
    let json = out(&["volume", "ls", "--format", "json"]);
    let first: serde_json::Value = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["Name"], &first["Scope"]), (&"a-rather-long-name".into(), &"local".into()));
}

#[test]
fn a_reader_that_leaves_is_no_error_to_speak_of() {
    let long = frame(1, &"line\n".repeat(1000)).repeat(200);
    let engine = engine(long, 0, None);
    let mut child = engine
        .command(&["run", "busybox"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut stdout = child.stdout.take().expect("piped");
    stdout.read_exact(&mut [0; 4]).expect("some output");
    drop(stdout);
    let done = child.wait_with_output().expect("ends");
    assert_eq!(text(&done.stderr), "");
    assert_ne!(done.status.code(), Some(0));
}

#[test]
fn a_terminal_is_asked_for_before_the_engine() {
    let engine = engine(Vec::new(), 0, None);
    let mut child = engine
        .command(&["run", "-it", "busybox"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    child.stdin.take().expect("piped").write_all(b"x").ok();
    let done = child.wait_with_output().expect("ends");
    let expected = "the input device is not a TTY\n\nhint: ";
    assert!(text(&done.stderr).contains(expected), "{}", text(&done.stderr));
    assert_eq!((done.status.code(), engine.seen().len()), (Some(1), 0));
}

#[test]
fn credentials_are_kept_from_others() {
    let engine = Engine::new(|line, body| {
        assert!(line.starts_with("POST /auth") && body.contains("secret"), "{line} {body}");
        Answer::Json(200, "{\"Status\":\"Login Succeeded\",\"IdentityToken\":\"\"}".into())
    });
    let mut child = engine
        .command(&["login", "-u", "bob", "--password-stdin", "registry.test"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    child.stdin.take().expect("piped").write_all(b"secret\n").expect("writes");
    let done = child.wait_with_output().expect("ends");
    assert!(text(&done.stdout).ends_with("Login Succeeded\n"), "{}{}", text(&done.stdout), text(&done.stderr));
    let path = engine.dir().join(".docker/config.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("written").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).expect("reads")).expect("JSON");
    assert_eq!(config["auths"]["registry.test"]["auth"], "Ym9iOnNlY3JldA==");
    let gone = engine.run(&["logout", "registry.test"]);
    assert_eq!(text(&gone.stdout), "Removing login credentials for registry.test\n");
    assert!(!std::fs::read_to_string(&path).expect("reads").contains("Ym9i"));
}

#[test]
fn under_its_own_name_the_help_tells_dockers_too() {
    let help = |args: &[&str]| {
        let done = std::process::Command::new(common::program()).args(args).env_clear().output().expect("runs");
        assert_eq!(done.status.code(), Some(0), "{args:?}");
        text(&done.stdout).to_owned()
    };
    let run = help(&["run", "--help"]);
    assert!(run.starts_with("Usage:  barque"), "{run}");
    assert!(run.contains("; usage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]\n"), "{run}");
    assert!(help(&["volume", "--help"]).contains("; usage:  docker volume COMMAND\n"));
    // What Docker does not have is not said to be Docker's.
    assert!(!help(&["registry", "--help"]).contains("docker registry"));
    assert!(!help(&["volume", "clone", "--help"]).contains("docker"));
}

#[test]
fn variables_that_are_no_text_do_no_harm() {
    use std::os::unix::ffi::OsStrExt as _;
    let engine = engine(Vec::new(), 0, None);
    std::fs::write(engine.dir().join("compose.yaml"), "services:\n  web: {image: \"x:${TAG}\"}\n").expect("writes");
    for (args, wanted) in
        [(&["compose", "config", "--images"][..], "x:1\n"), (&["__complete", "compose", "up", ""], "web")]
    {
        let mut command = engine.command(args);
        command.current_dir(engine.dir()).env("TAG", "1").env("ODD", std::ffi::OsStr::from_bytes(b"\xff\xfe"));
        let done = command.output().expect("runs");
        assert!(done.status.success(), "{}", text(&done.stderr));
        assert!(text(&done.stdout).starts_with(wanted), "{}", text(&done.stdout));
    }
}

#[test]
fn images_that_are_to_be_verified_are_not_taken_unverified() {
    let engine = engine(Vec::new(), 0, None);
    for args in [&["pull"][..], &["run", "-d"], &["create"], &["push"]] {
        let asked = engine.run(&[args, &["--disable-content-trust=false", "app:1"]].concat());
        assert_eq!((asked.status.code(), text(&asked.stdout)), (Some(125), ""), "{args:?}");
        assert!(text(&asked.stderr).contains("not implemented yet: content trust"), "{}", text(&asked.stderr));
        let wished =
            engine.command(&[args, &["app:1"]].concat()).env("DOCKER_CONTENT_TRUST", "1").output().expect("runs");
        assert_eq!(wished.status.code(), Some(125), "{args:?}");
    }
    assert!(engine.seen().is_empty());
    let args = ["run", "-d", "--disable-content-trust", "app:1"];
    let waived = engine.command(&args).env("DOCKER_CONTENT_TRUST", "1").output().expect("runs");
    assert_eq!(waived.status.code(), Some(0), "{}", text(&waived.stderr));
}
