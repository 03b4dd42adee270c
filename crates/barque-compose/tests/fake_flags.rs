//! Flags of the commands against an engine in memory: each shows in what is asked for, or in what is printed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod fake;

use std::process::Stdio;
use std::time::{Duration, Instant};

use fake::{Fake, text};

/// Runs a command that shall end with a status; its standard output.
fn ends_with(fake: &Fake, words: &[&str], code: i32) -> String {
    let done = fake.run(words);
    assert_eq!(done.status.code(), Some(code), "{words:?}: {}", text(&done.stderr));
    text(&done.stdout).to_owned()
}

#[test]
fn up_ends_with_the_status_of_a_container() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {main: {image: x, command: [end, '7']}, side: {image: x, command: [sleep]}}");
    let shown = ends_with(&fake, &["up", "--exit-code-from", "main"], 7);
    assert!(shown.contains("main-1 exited with code 7\n"), "{shown}");
    assert_eq!(fake.names(), ["p-main-1 exited", "p-side-1 exited"]);
    assert_eq!(ends_with(&fake, &["up", "--exit-code-from", "side"], 143).matches("Aborting").count(), 1);
    ends_with(&fake, &["down"], 0);
    fake.file(
        "services:
  fine: {image: x, command: [end, '0']}
  main: {image: x, command: [end, '7'], depends_on: {fine: {condition: service_completed_successfully}}}
  side: {image: x, command: [sleep]}",
    );
    let shown = ends_with(&fake, &["up", "--abort-on-container-failure"], 7);
    assert!(
        shown.contains("Aborting on container exit...\n") && shown.contains("fine-1 exited with code 0"),
        "{shown}"
    );
    assert_eq!(fake.names(), ["p-fine-1 exited", "p-main-1 exited", "p-side-1 exited"]);
}

#[test]
fn up_aborts_when_a_container_ends() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [end, '0']}, b: {image: x, command: [sleep]}}");
    let shown = ends_with(&fake, &["up", "--abort-on-container-exit"], 0);
    assert!(
        shown.contains("Aborting on container exit...\n") && shown.contains("b-1 exited with code 143\n"),
        "{shown}"
    );
    fake.when("p-b-1/stop");
}

#[test]
fn up_shows_the_output_it_is_asked_for() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [flood, '2']}, b: {image: x, command: [flood, '2']}}");
    for words in [&["up", "--attach", "a"][..], &["up", "--no-attach", "b"]] {
        let shown = ends_with(&fake, words, 0);
        assert!(shown.contains("a-1  | line 0") && !shown.contains("b-1"), "{words:?}: {shown}");
    }
    fake.file(
        "services: {a: {image: x, command: [flood, '2']}, b: {image: x, command: [flood, '2'], depends_on: [a]}}",
    );
    assert!(!ends_with(&fake, &["up", "b"], 0).contains("a-1"));
    assert!(ends_with(&fake, &["up", "--attach-dependencies", "b"], 0).contains("a-1  | line 0"));
}

#[test]
fn a_network_that_cannot_be_changed_is_made_as_it_was() {
    let fake = Fake::new(Duration::ZERO);
    let file = "services: {a: {image: x, command: [sleep]}}\nnetworks: {default: {labels: {l: '1'}}}";
    fake.file(file);
    fake.ok(&["up", "-d"]);
    fake.file(&file.replace("{labels: {l: '1'}}", "{driver: wrong}"));
    fake.refuse(&[]);
    let done = fake.run(&["up", "-d"]);
    assert_eq!(done.status.code(), Some(1));
    let shown = text(&done.stderr);
    assert!(shown.contains("could not find plugin wrong"), "{shown}");
    assert!(shown.contains("hint: network p_default is as it was before"), "{shown}");
    assert!(fake.when("DELETE networks/") < fake.when("start"), "{:?}", fake.state().asked);
    assert_eq!(fake.names(), ["p-a-1 running"], "what ran goes on");
    assert_eq!(fake.state().networks["id-p_default"]["Labels"]["l"], "1");
    fake.file(file);
    assert_eq!(fake.run(&["plan"]).status.code(), Some(0), "nothing is left of it");
}

#[test]
fn up_renews_anonymous_volumes_and_starts_nothing_if_asked() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [sleep]}}");
    ends_with(&fake, &["up", "--no-start"], 0);
    assert_eq!(fake.names(), ["p-a-1 created"]);
    let removal = |words: &[&str]| {
        fake.refuse(&[]);
        ends_with(&fake, words, 0);
        let asked = fake.state().asked.clone();
        asked.into_iter().find(|a| a.starts_with("DELETE p-a-1")).unwrap()
    };
    assert!(!removal(&["up", "-d", "--force-recreate"]).contains("v="));
    assert!(removal(&["up", "-d", "--force-recreate", "-V"]).contains("v="));
}

#[test]
fn up_waits_no_longer_than_it_may() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [sick]}}");
    let begin = Instant::now();
    let done = fake.run(&["up", "--wait", "--wait-timeout", "1"]);
    assert!(text(&done.stderr).contains("application not healthy after 1s"), "{}", text(&done.stderr));
    assert_eq!((done.status.code(), begin.elapsed() < Duration::from_secs(20)), (Some(1), true));
}

#[test]
fn run_publishes_and_is_known_as_it_is_asked_to() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [sleep], ports: ['81:80'], networks: {default: {aliases: [other]}}}}");
    let body = |words: &[&str]| {
        fake.refuse(&[]);
        ends_with(&fake, words, 0);
        fake.body("containers/create")
    };
    let aliases = |body: &serde_json::Value| {
        let names = &body["NetworkingConfig"]["EndpointsConfig"]["p_default"]["Aliases"];
        names.as_array().unwrap().iter().any(|n| n == "a") && names.as_array().unwrap().iter().any(|n| n == "other")
    };
    let plain = body(&["run", "-d", "a"]);
    assert!(plain["HostConfig"]["PortBindings"].is_null() && !aliases(&plain), "{plain}");
    let published = body(&["run", "-d", "-p", "8080:80", "--use-aliases", "a"]);
    assert_eq!(published["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"], "8080");
    assert!(aliases(&published), "{published}");
    let all = body(&["run", "-d", "-P", "a"]);
    assert_eq!(all["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"], "81");
}

#[test]
fn pull_takes_what_its_flags_say() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: one}, b: {image: two, build: .}}");
    let pulled = |words: &[&str], code: i32| {
        fake.state().asked.clear();
        ends_with(&fake, words, code);
        let asked = fake.state().asked.clone();
        let of = |name: &str| asked.iter().any(|a| a.contains("images/create") && a.contains(name));
        (of("one"), of("two"))
    };
    assert_eq!(pulled(&["pull", "--policy", "missing"], 0), (false, false), "both are there");
    assert_eq!(pulled(&["pull", "--policy", "always"], 0), (true, true));
    assert_eq!(pulled(&["pull", "--ignore-buildable"], 0), (true, false));
    fake.refuse(&["images/create"]);
    assert_eq!(pulled(&["pull", "a"], 1), (true, false));
    assert_eq!(pulled(&["pull", "--ignore-pull-failures"], 0), (true, true));
}

#[test]
fn rm_stops_what_runs() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [sleep]}}");
    ends_with(&fake, &["up", "-d"], 0);
    ends_with(&fake, &["rm", "-f"], 0);
    assert_eq!(fake.names(), ["p-a-1 running"], "without -s it is left alone");
    fake.refuse(&[]);
    ends_with(&fake, &["rm", "-s", "-f"], 0);
    assert!(fake.when("p-a-1/stop") < fake.when("DELETE p-a-1/"));
    assert_eq!(fake.names(), [""; 0]);
}

#[test]
fn wait_takes_the_project_down() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [sleep]}, b: {image: x, command: [sleep]}}");
    ends_with(&fake, &["up", "-d"], 0);
    let child =
        fake.command(&["wait", "--down-project", "a"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    ends_with(&fake, &["kill", "a"], 0);
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(137));
    assert!(text(&done.stdout).ends_with("exited with status code 137\n"));
    assert!(fake.names().is_empty() && fake.state().networks.is_empty());
}

#[test]
fn resources_nobody_uses_are_made_if_asked() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [sleep]}}\nnetworks: {n: {}}\nvolumes: {v: {}}");
    let names = || {
        let state = fake.state();
        let networks: Vec<String> = state.networks.keys().cloned().collect();
        (networks, state.volumes.len())
    };
    ends_with(&fake, &["up", "-d"], 0);
    assert_eq!(names(), (vec!["id-p_default".to_owned()], 0));
    ends_with(&fake, &["--all-resources", "up", "-d"], 0);
    assert_eq!(names(), (vec!["id-p_default".to_owned(), "id-p_n".to_owned()], 1));
}

#[test]
fn config_names_models() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, models: [m]}}\nmodels: {m: {model: ai/one}}");
    assert_eq!(fake.ok(&["config", "--models"]), "ai/one\n");
}

#[test]
fn stats_shows_whole_ids_if_asked() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [sleep]}}");
    fake.ok(&["up", "-d"]);
    let id = fake.state().containers.keys().next().unwrap().clone();
    assert_eq!(id.len(), 64);
    let row = |words: &[&str]| fake.ok(&[&["stats", "--no-stream"], words].concat()).lines().nth(1).unwrap().to_owned();
    assert!(row(&[]).starts_with(&format!("{} ", &id[..12])), "{}", row(&[]));
    assert!(row(&["--no-trunc"]).starts_with(&format!("{id} ")), "{}", row(&["--no-trunc"]));
}

#[test]
fn a_dry_run_of_cp_says_so_before_each_line_and_copies_nothing() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [sleep], scale: 2}}");
    fake.ok(&["up", "-d"]);
    std::fs::write(fake.dir.path().join("f"), "text").unwrap();
    fake.refuse(&[]);
    let lines = |words: &[&str]| {
        let done = fake.run(words);
        assert!(done.status.success(), "{words:?}: {}", text(&done.stderr));
        text(&done.stderr).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let shown = lines(&["--dry-run", "cp", "f", "a:/f"]);
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(shown.iter().all(|l| l.starts_with(" DRY-RUN MODE -  p-a-") && l.ends_with("Copied")), "{shown:?}");
    assert!(fake.state().asked.is_empty(), "{:?}", fake.state().asked);
    let shown = lines(&["cp", "f", "a:/f"]);
    assert!(shown.iter().all(|l| l.starts_with(" p-a-")), "{shown:?}");
    assert_eq!(fake.state().asked.iter().filter(|a| a.contains("archive")).count(), 2);
}

#[test]
fn builds_are_printed_as_a_bake_file() {
    let fake = Fake::new(Duration::ZERO);
    fake.file(
        "services:
  a: {image: x}
  b: {build: {context: ., dockerfile: D, args: {K: v}, additional_contexts: {base: 'service:c'}, extra_hosts: [h=1.2.3.4],
      secrets: [{source: s, target: t}], ulimits: {nofile: 5}, cache_to: ['type=local,dest=d'], platforms: [linux/amd64]}}
  c: {image: r/c, build: {dockerfile_inline: FROM b, target: last, no_cache: true, tags: [r/c:2]}}
secrets: {s: {environment: E}}",
    );
    let done = fake.run(&["build", "--print", "--push", "--builder", "default", "--provenance=false"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(fake.state().asked.iter().all(|a| !a.contains("/build")));
    let bake: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(bake["group"]["default"]["targets"], serde_json::json!(["b", "c"]));
    let (b, c) = (&bake["target"]["b"], &bake["target"]["c"]);
    assert_eq!(b["dockerfile"], serde_json::json!(fake.dir.path().canonicalize().unwrap().join("D")));
    assert_eq!((&b["args"]["K"], &b["contexts"]["base"]), (&"v".into(), &"target:c".into()));
    assert_eq!((&b["secret"][0], &b["ulimits"][0]), (&"id=t,type=env,env=E".into(), &"nofile=5:5".into()));
    assert_eq!((&b["extra-hosts"]["h"], &b["cache-to"][0]), (&"1.2.3.4".into(), &"type=local,dest=d".into()));
    assert_eq!((&b["tags"][0], &b["platforms"][0]), (&"p-b".into(), &"linux/amd64".into()));
    assert_eq!(c["tags"], serde_json::json!(["r/c", "r/c:2"]));
    assert_eq!(
        (&c["dockerfile-inline"], &c["target"], &c["no-cache"]),
        (&"FROM b".into(), &"last".into(), &true.into())
    );
    assert_eq!(c["output"][0], "type=registry");
    let done = fake.run(&["build", "--builder", "other"]);
    assert!(!done.status.success() && text(&done.stderr).contains("no builder \"other\" found"));
}
