//! Typed instructions, by example and on arbitrary input.

use proptest::prelude::*;

use super::run::Script;
use super::*;
use crate::options::NetworkMode;
use crate::worker::CacheSharing;

fn one(line: &str) -> Kind {
    let file = parse(format!("FROM a\n{line}\n").as_bytes(), "Dockerfile").map_err(|e| e.diagnostic.message);
    file.unwrap_or_else(|e| panic!("{line}: {e}")).stages.remove(0).instructions.remove(0).kind
}

fn error(text: &str) -> String {
    parse(text.as_bytes(), "Dockerfile").map(|f| format!("{:?}", f.stages)).unwrap_err().diagnostic.message
}

fn line_error(line: &str) -> String {
    error(&format!("FROM a\n{line}\n"))
}

#[test]
fn wrong_instructions_are_refused_in_dockers_words() {
    let cases = [
        ("FORM b", "unknown instruction: FORM (did you mean FROM?)"),
        ("xyzzy b", "unknown instruction: xyzzy"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a AS 1b", "invalid name for build stage: \"1b\", name can't start with a number or contain symbols"),
        ("FROM --plat=x a", "unknown flag: --plat"),
        ("ENV a", "ENV must have two arguments"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV a=b c", "Syntax error - can't find = in \"c\". Must be of the form: name=value"),
        ("ENV =b", "ENV names can not be blank"),
        ("LABEL a", "LABEL must have two arguments"),
        ("ARG =x", "ARG names can not be blank"),
        ("ARG", "ARG requires at least one argument"),
        (
            "COPY a",
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        (
            "ADD a",
            "ADD requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("COPY --form=x a b", "unknown flag: --form (did you mean from?)"),
        ("COPY --from a b", "missing a value on flag: --from"),
        ("COPY --link=x a b", "expecting boolean value for flag --link, not: x"),
        ("COPY --from=a --from=b a b", "duplicate flag specified: --from"),
        ("COPY a <<EOF\nEOF", "COPY cannot accept a heredoc as a destination"),
        ("USER", "USER requires exactly one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("VOLUME [\" \"]", "VOLUME specified can not be an empty string"),
        ("SHELL bash -c", "SHELL requires the arguments to be in JSON form"),
        ("CMD [1]", "when using JSON array syntax, arrays must be comprised of strings only"),
        ("HEALTHCHECK FOO", "Unknown type \"FOO\" in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK --interval=1us CMD x", "Interval \"interval\" cannot be less than 1ms"),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("RUN --network=foo x", "invalid network mode \"foo\""),
        ("RUN --security=foo x", "security \"foo\" is not valid"),
        ("RUN --mount=type=foo,target=/x y", "unsupported mount type \"foo\""),
        ("RUN --mount=type=bind,foo=/x y", "unexpected key 'foo' in 'foo=/x'"),
        ("RUN --mount=from=$x,target=/x y", "'from' doesn't support variable expansion, define alias stage instead"),
        ("RUN --mount=type=tmpfs,uid=1,target=/x y", "uid not allowed for \"tmpfs\" type mounts"),
        ("RUN --mount=type=secret y", "invalid secret mount. one of source, target required"),
        ("RUN --mount=type=cache,sharing=foo,target=/x y", "unsupported sharing value \"foo\""),
    ];
    for (line, expected) in cases {
        assert_eq!(line_error(line), expected, "{line}");
    }
    assert_eq!(error("RUN x"), "no build stage in current context");
    assert_eq!(error("ARG x"), "dockerfile contains no stages to build");
}

#[test]
fn the_error_marks_the_word() {
    let e = parse(b"FROM a\n\nRUN --mount=type=cache,targte=/x make\n", "Dockerfile").unwrap_err().to_error();
    assert_eq!(
        e.to_string(),
        "dockerfile parse error on line 3: unexpected key 'targte' in 'targte=/x' (did you mean target?)"
    );
    let expected = "\
Dockerfile:3
--------------------
   1 |     FROM a
   2 |
   3 | >>> RUN --mount=type=cache,targte=/x make
     |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
--------------------";
    assert_eq!(e.hint(), Some(expected));
}

#[test]
fn mounts_have_all_options() {
    let parse = |s: &str| parse_mount(s, &mut |v| Ok(v.replace("$HOME", "/root")));
    let cache = parse("type=cache,target=$HOME/.c,id=x,sharing=locked,from=base,src=/y,mode=0700,uid=1,gid=2").unwrap();
    assert_eq!((cache.target.as_str(), cache.id.as_deref(), cache.read_only), ("/root/.c", Some("x"), false));
    assert_eq!((cache.mode, cache.uid, cache.gid), (Some(0o700), Some(1), Some(2)));
    assert_eq!(cache.sharing, Some(CacheSharing::Locked));
    let bind = parse("target=/x,rw").unwrap();
    assert_eq!((bind.kind, bind.read_only), (MountKind::Bind, false));
    assert!(parse("target=/x").unwrap().read_only);
    assert_eq!(parse("type=tmpfs,target=/x,size=10m").unwrap().size, 10 << 20);
    let secret = parse("type=secret,source=s,env=TOKEN,required").unwrap();
    assert_eq!((secret.id.as_deref(), secret.env.as_deref(), secret.required), (Some("s"), Some("TOKEN"), true));
    assert_eq!(parse("\"target=/a,b\",type=bind").unwrap().target, "/a,b");
    assert!(parse("\"target=/a").is_err());
    assert_eq!(parse("type=bind").unwrap_err(), "a bind mount needs a target, such as target=/path");
}

#[test]
fn run_forms() {
    let Kind::Run(run) = one("RUN --network=none [\"a\", \"b\"]") else { panic!() };
    assert_eq!(run.command, Command::Exec(vec!["a".into(), "b".into()]));
    assert_eq!(run.network, Some(NetworkMode::None));
    let Kind::Run(run) = one("RUN <<EOF\n\techo 1\necho 2\nEOF") else { panic!() };
    assert_eq!(run.script(), Script::Shell("\techo 1\necho 2\n".into()));
    assert_eq!(run.summary(), " (echo 1...)");
    let Kind::Run(run) = one("RUN <<-EOF\n\t#!/bin/cat\n\tx\nEOF") else { panic!() };
    assert_eq!(run.script(), Script::File { name: "EOF".into(), body: "#!/bin/cat\nx\n".into() });
    let Kind::Run(run) = one("RUN cat <<A 3<<B > /x\n1\nA\n2\nB") else { panic!() };
    assert_eq!(run.script(), Script::Shell("cat <<A 3<<B > /x\n1\nA\n2\nB".into()));
}

#[test]
fn files_separate_heredocs_from_paths() {
    let Kind::Copy(files) = one("COPY --from=x --chown=1:2 a <<\"b.txt\" c /d/\n$x\nb.txt") else { panic!() };
    assert_eq!(files.sources.iter().map(|s| s.text.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(files.inline, [InlineFile { name: "b.txt".into(), content: "$x\n".into(), expand: false }]);
    assert_eq!(files.destination.text, "/d/");
    assert_eq!(files.flags.from.unwrap().text, "x");
}

#[test]
fn chmod_works_as_chmod_does() {
    let apply = |text: &str, mode, dir| parse_chmod(text).unwrap().apply(mode, dir);
    assert_eq!(apply("755", 0o644, false), 0o755);
    assert_eq!(apply("04755", 0o644, false), 0o4755);
    assert_eq!(apply("u+x", 0o644, false), 0o744);
    assert_eq!(apply("a=rX", 0o644, false), 0o444);
    assert_eq!(apply("a=rX", 0o644, true), 0o555);
    assert_eq!(apply("u=rwX,go=rX", 0o700, false), 0o755);
    assert_eq!(apply("go-rwx", 0o755, false), 0o700);
    assert_eq!(apply("g=u", 0o640, false), 0o660);
    assert_eq!(apply("+t", 0o755, true), 0o1755);
    assert_eq!(apply("ug+s", 0o755, false), 0o6755);
    assert_eq!(apply("u-x+w", 0o555, false), 0o655);
    for bad in ["8", "10000", "u", "z+x", "u+q", "", "u+x,"] {
        assert!(parse_chmod(bad).is_err(), "{bad}");
    }
}

#[test]
fn environment_forms() {
    let pairs = |line| match one(line) {
        Kind::Env(p) | Kind::Label(p) => {
            p.into_iter().map(|p| (p.name.text, p.value.text, p.legacy)).collect::<Vec<_>>()
        }
        _ => panic!(),
    };
    let own = |a: &str, b: &str, c| (a.to_owned(), b.to_owned(), c);
    assert_eq!(pairs("ENV a b c"), [own("a", "b c", true)]);
    assert_eq!(
        pairs("ENV a=b c=\"d e\" f=g\\ h"),
        [own("a", "b", false), own("c", "\"d e\"", false), own("f", "g\\ h", false)]
    );
    assert_eq!(pairs("LABEL \"a b\"=c"), [own("\"a b\"", "c", false)]);
}

#[test]
fn onbuild_keeps_its_text() {
    let Kind::OnBuild(text) = one("ONBUILD RUN <<EOF\nx\nEOF") else { panic!() };
    assert_eq!(text, "RUN <<EOF\nx\nEOF");
    let again = parse_trigger(&text, crate::span::Span::default()).unwrap();
    assert!(again.trigger && matches!(again.kind, Kind::Run(_)));
    assert!(parse_trigger("FOO x", crate::span::Span::default()).is_err());
}

proptest! {
    #[test]
    fn any_arguments_give_an_instruction_or_an_error(
        name in prop::sample::select(NAMES.to_vec()),
        rest in "[-a-z0-9 =,\"'\\\\\\[\\]<$:/+éX\t]{0,40}",
        flag in "(--(mount|chmod|from|interval|platform)=[-a-z,=\"0-9$]{0,20} )?",
    ) {
        if let Err(e) = parse(format!("FROM a\n{name} {flag}{rest}\n").as_bytes(), "D") {
            let _ = e.to_error();
        }
        let _ = parse_chmod(&rest).map(|c| c.apply(0o644, false));
        let _ = parse_mount(&rest, &mut |v| Ok(v.to_owned()));
    }
}
