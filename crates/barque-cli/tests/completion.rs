//! Names of the engine's objects in real shells.

mod common;
mod scripted;
#[path = "../../barque-registry/tests/common/tools.rs"]
mod tools;

use std::path::Path;

use common::text;
use scripted::{Answer, Engine};

/// An engine with a few objects of each kind.
fn engine() -> Engine {
    let engine = Engine::new(|line, _| {
        let document = match line {
            "GET /containers/json?all=1" => {
                r#"[{"Id":"1","Names":["/web"],"Image":"nginx","State":"running","Status":"Up"},{"Id":"2","Names":["/worker"],"Image":"b","State":"exited","Status":"Exited"}]"#
            }
            "GET /containers/json" => r#"[{"Id":"1","Names":["/web"],"Image":"nginx","Status":"Up"}]"#,
            "GET /images/json" => {
                r#"[{"Id":"sha256:1","RepoTags":["nginx:1.27","nginx:1.9","r:5000/x:a"]},{"Id":"sha256:2","RepoTags":[]}]"#
            }
            "GET /networks" => r#"[{"Name":"backend","Driver":"bridge"},{"Name":"web-net","Driver":"bridge"}]"#,
            "GET /volumes" => r#"{"Volumes":[{"Name":"web-data","Driver":"local"},{"Name":"db","Driver":"local"}]}"#,
            _ => return Answer::Json(500, format!("{{\"message\":\"not asked for: {line}\"}}")),
        };
        Answer::Json(200, document.to_owned())
    });
    let meta = engine.dir().join(".docker/contexts/meta/c1");
    std::fs::create_dir_all(&meta).expect("made");
    let context =
        r#"{"Name":"staging","Metadata":{"Description":"the test machine"},"Endpoints":{"docker":{"Host":"ssh://x"}}}"#;
    std::fs::write(meta.join("meta.json"), context).expect("written");
    engine
}

/// What a shell prints that has the program on its path as `docker`; `None` if the shell is not installed.
fn shell(engine: &Engine, name: &str, args: &[&str], script: &str) -> Option<String> {
    let Some(path) = ["/usr/bin", "/bin"].iter().map(|d| Path::new(d).join(name)).find(|p| p.exists()) else {
        tools::installed(name);
        return None;
    };
    // Makes the link, too.
    let own = engine.command(&[]);
    let mut command = std::process::Command::new(path);
    command.args(args).arg(script).env_clear();
    command.envs(own.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.env("PATH", format!("{}:/usr/bin:/bin", engine.dir().display())).env("TERM", "dumb");
    let done = command.output().expect("runs");
    assert!(done.status.success(), "{name}: {}", text(&done.stderr));
    Some(text(&done.stdout).to_owned())
}

/// Words of a line, the last one to be completed, and what they become.
const CASES: [(&str, &str); 30] = [
    ("docker rm w", "web worker"),
    ("docker stop w", "web"),
    ("docker exec -it w", "web"),
    ("docker exec web s", ""),
    ("docker container inspect wo", "worker"),
    ("docker rmi ng", "nginx:1.27 nginx:1.9"),
    ("docker run --rm -p 80:80 --name x ng", "nginx:1.27 nginx:1.9"),
    ("docker rmi nginx:1.2", "nginx:1.27"),
    ("docker rmi nginx:1.9 r:5000/x:", "r:5000/x:a"),
    ("docker run --network b", "backend"),
    ("docker run --network=w", "--network=web-net"),
    ("docker run --volumes-from w", "web worker"),
    ("docker network connect b", "backend"),
    ("docker network connect backend w", "web worker"),
    ("docker volume rm w", "web-data"),
    ("docker inspect web", "web web-net web-data"),
    ("docker context use s", "staging"),
    ("docker --context st", "staging"),
    ("docker start w", "worker"),
    ("docker cp we", "web:"),
    ("docker cp x wo", "worker:"),
    ("docker run -v w", "web-data:"),
    ("docker run --volume=d", "--volume=db:"),
    ("docker run --restart un", "unless-stopped"),
    ("docker create --pull=n", "--pull=never"),
    ("docker run --log-driver l", "local"),
    ("docker run --cap-add NET_", "NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW"),
    ("docker network create -d m", "macvlan"),
    ("docker ps --filter sta", "status="),
    ("docker container ls -f status=ex", "status=exited"),
];

#[test]
fn the_program_answers_for_the_scripts() {
    let engine = engine();
    for (line, expected) in CASES {
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        let done = engine.run(&[&["__complete"], &words[..]].concat());
        let names: Vec<&str> = text(&done.stdout).lines().filter_map(|l| l.split('\t').next()).collect();
        assert_eq!(names.join(" "), expected, "{line}: {}", text(&done.stderr));
    }
    let strange: Vec<String> = engine.seen().into_iter().map(|s| s.line).filter(|l| !l.starts_with("GET ")).collect();
    assert!(strange.is_empty(), "a completion only reads: {strange:?}");
}

#[test]
fn the_words_say_which_engine() {
    let (engine, other) =
        (engine(), Engine::new(|_, _| Answer::Json(200, r#"{"Volumes":[{"Name":"theirs"}]}"#.into())));
    let socket = format!("unix://{}/engine.sock", other.dir().display());
    let done = engine.run(&["__complete", "-H", &socket, "volume", "rm", ""]);
    assert_eq!(text(&done.stdout), "theirs\n", "{}", text(&done.stderr));
    assert!(engine.seen().is_empty());
}

#[test]
fn bash_completes_names() {
    let engine = engine();
    // As readline does: ':' and '=' are words of their own.
    let mut script = r#"source <(docker completion bash)
        try() {
            local spaced=${1//:/ : }; spaced=${spaced//=/ = }
            COMP_LINE=$1 COMP_POINT=${#1} COMPREPLY=()
            read -ra COMP_WORDS <<< "$spaced"
            [[ $1 != *: ]] || COMP_WORDS+=("")
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _docker_complete 2> /dev/null
            echo "${COMPREPLY[*]}"
        }
        "#
    .to_owned();
    let expected: Vec<String> = CASES
        .iter()
        .map(|(line, expected)| {
            script.push_str(&format!("try '{line}'\n"));
            // Only what comes after the sign is put into the line.
            let last = line.rsplit(' ').next().unwrap_or_default();
            let before = last.rfind([':', '=']).map_or("", |at| &last[..=at]);
            let cut = |name: &str| name.strip_prefix(before).unwrap_or(name).to_owned();
            expected.split(' ').map(cut).collect::<Vec<_>>().join(" ")
        })
        .collect();
    let Some(out) = shell(&engine, "bash", &["--norc", "-c"], &script) else { return };
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn zsh_completes_names() {
    let engine = engine();
    let mut script = r#"autoload -U compinit; compinit -D -u; source <(docker completion zsh)
        _describe() { local -a plain; local one
            for one in $found; do one=${one//\\:/$'\1'}; one=${one%%:*}; plain+=(${one//$'\1'/:}); done; print -- "$plain" }
        _files() { print }
        try() { words=("$@"); CURRENT=$#; _docker_complete }
        "#
    .to_owned();
    for (line, _) in CASES {
        script.push_str(&format!("try {}\n", line.split(' ').map(|w| format!("'{w}'")).collect::<Vec<_>>().join(" ")));
    }
    let Some(out) = shell(&engine, "zsh", &["-f", "-c"], &script) else { return };
    assert_eq!(out.lines().collect::<Vec<_>>(), CASES.map(|(_, expected)| expected));
}

#[test]
fn fish_completes_names() {
    let engine = engine();
    let mut script = "docker completion fish | source\n".to_owned();
    for (line, _) in CASES {
        script.push_str(&format!("echo (complete -C '{line}' | string replace -r '\\t.*' '')\n"));
    }
    let Some(out) = shell(&engine, "fish", &["--no-config", "-c"], &script) else { return };
    // Fish sorts; that is no concern of ours.
    let sorted = |names: &str| {
        let mut names: Vec<String> = names.split(' ').map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    let expected: Vec<String> = CASES.iter().map(|(_, expected)| sorted(expected)).collect();
    assert_eq!(out.lines().map(sorted).collect::<Vec<_>>(), expected);
}
