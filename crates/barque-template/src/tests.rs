//! Templates as users write them.

use serde_json::json;

use super::*;

fn data() -> Data {
    Data::from_json(&json!({
        "Name": "/one",
        "State": {"Status": "running", "Pid": 42, "Health": null},
        "Args": ["-c", "echo hi"],
        "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "81/tcp": null},
        "Labels": {"a.b": "1", "c": "2"},
        "Html": "<a&b>",
    }))
}

fn run(text: &str) -> Result<String, String> {
    Template::parse(text)?.execute(&data(), Missing::NoValue)
}

fn ok(text: &str) -> String {
    run(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn fault(text: &str) -> String {
    run(text).err().unwrap_or_else(|| panic!("{text}: no error"))
}

#[test]
fn fields_and_printing() {
    assert_eq!(ok("{{.Name}} {{.State.Pid}}"), "/one 42");
    assert_eq!(ok("{{.Args}} {{.Labels}}"), "[-c echo hi] map[a.b:1 c:2]");
    assert_eq!(ok("{{.State.Health}}"), "<nil>");
    assert_eq!(ok("{{.Nope}}"), "<no value>");
    assert_eq!(ok("{{json .State}} {{json .Html}}"), r#"{"Health":null,"Pid":42,"Status":"running"} "<a&b>""#);
    assert_eq!(ok("a{{/* c */}}b{{- \" x \" -}}  c"), "ab x c");
    assert_eq!(ok("x  {{- /* c */ -}}  y"), "xy");
}

#[test]
fn index_and_chains() {
    assert_eq!(ok(r#"{{index .Labels "a.b"}}"#), "1");
    assert_eq!(ok(r#"{{(index (index .Ports "80/tcp") 0).HostPort}}"#), "8080");
    assert_eq!(ok(r#"{{index .Ports "80/tcp" 0 "HostPort"}}"#), "8080");
    assert_eq!(ok(r#"{{index .Labels "none"}}|"#), "|");
    assert_eq!(ok("{{len .Args}} {{slice .Name 1}}"), "2 one");
}

#[test]
fn control_flow() {
    assert_eq!(ok("{{if .State.Health}}h{{else if eq .State.Pid 42}}p{{else}}n{{end}}"), "p");
    assert_eq!(ok("{{range $i, $a := .Args}}{{if $i}},{{end}}{{$a}}{{end}}"), "-c,echo hi");
    assert_eq!(
        ok("{{range $p, $c := .Ports}}{{$p}}->{{if $c}}{{(index $c 0).HostPort}}{{else}}none{{end}} {{end}}"),
        "80/tcp->8080 81/tcp->none "
    );
    assert_eq!(ok("{{range .None}}x{{else}}empty{{end}}"), "empty");
    assert_eq!(ok("{{with .State}}{{.Pid}} {{$.Name}}{{end}}"), "42 /one");
    assert_eq!(ok("{{range .Args}}{{.}}{{break}}{{end}}"), "-c");
    assert_eq!(ok("{{$x := 1}}{{range .Args}}{{$x = 2}}{{end}}{{$x}}"), "2");
    assert_eq!(ok(r#"{{define "t"}}<{{.}}>{{end}}{{template "t" .Name}}"#), "</one>");
}

#[test]
fn functions_and_pipelines() {
    assert_eq!(ok(r#"{{.Name | printf "%-6s|" | upper}}"#), "/ONE  |");
    assert_eq!(ok(r#"{{join .Args ","}} {{split "a:b" ":"}} {{title "hello world"}}"#), "-c,echo hi [a b] Hello World");
    assert_eq!(ok(r#"{{pad "x" 1 2}}|{{truncate "abcdef" 3}}|{{lower "ABC"}}"#), " x  |abc|abc");
    assert_eq!(ok("{{and 1 0}} {{or 0 \"x\"}} {{not true}}"), "0 x false");
    assert_eq!(ok("{{and .None .None.Field}}"), "<no value>");
    assert_eq!(ok(r#"{{if and (eq .State.Status "running") (gt .State.Pid 1)}}y{{end}}"#), "y");
    assert_eq!(ok("{{eq 1 2 1}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{ge 1 2}}"), "true true true true false");
    assert_eq!(ok("{{println 1 \"a\"}}{{print 1 2}}{{print \"a\" \"b\"}}"), "1 a\n1 2ab");
    assert_eq!(ok("{{'a'}} {{0x10}} {{1.5}} {{`raw\\n`}}"), "97 16 1.5 raw\\n");
}

#[test]
fn faults_are_gos() {
    assert_eq!(fault("{{.Name"), "template: :1: unclosed action");
    assert_eq!(fault("{{foo}}"), "template: :1: function \"foo\" not defined");
    assert_eq!(fault("{{if .Name}}x"), "template: :1: unexpected EOF");
    assert_eq!(fault("a\n{{end}}"), "template: :2: unexpected {{end}}");
    assert_eq!(fault("{{}}"), "template: :1: missing value for command");
    assert_eq!(fault("{{$x}}"), "template: :1: undefined variable \"$x\"");
    assert_eq!(
        fault("{{.Name.First}}"),
        "template: :1:7: executing \"\" at <.Name.First>: can't evaluate field First in type string"
    );
    assert_eq!(
        fault("{{.State.Health.Status}}"),
        "template: :1:8: executing \"\" at <.State.Health.Status>: nil pointer evaluating interface {}.Status"
    );
    assert!(fault("{{index .Args 5}}").contains("error calling index: "));
    assert!(fault("{{lower .State.Pid}}").contains("wrong type for value; expected string; got int"));
    assert!(fault(&"{{if 1}}".repeat(300)).contains("max expression depth"));
}

#[test]
fn missing_keys_can_be_errors() {
    let template = Template::parse("{{.State.Foo}}").expect("parses");
    assert_eq!(
        template.execute(&data(), Missing::Error).unwrap_err(),
        "template: :1:8: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\""
    );
}

#[test]
fn structs_know_their_fields() {
    let row = Struct::shown("*formatter.ContainerContext", vec![("ID", Data::str("abc"))]);
    let template = Template::parse("{{.ID}}{{.Foo}}").expect("parses");
    assert_eq!(
        template.execute(&row, Missing::NoValue).unwrap_err(),
        "template: :1:9: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext"
    );
}

#[test]
fn typed_data_have_what_the_document_left_out() {
    #[derive(Default, serde::Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Config {
        hostname: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        healthcheck: Option<Vec<String>>,
        env: Option<Vec<String>>,
        labels: Option<BTreeMap<String, String>>,
        cmd: Option<Vec<String>>,
    }
    let state = Config::default();
    let data = typed(&state);
    let template = Template::parse("{{.Hostname}}|{{.Healthcheck}}|{{.Env}}|{{.Labels}}|{{len .Cmd}}").expect("parses");
    assert_eq!(template.execute(&data, Missing::NoValue).as_deref(), Ok("|<nil>|[]|map[]|0"));
    let text = Template::parse("{{json .}}").expect("parses").execute(&data, Missing::NoValue).expect("runs");
    assert_eq!(text, serde_json::to_string(&state).expect("serialises"));
}

#[test]
fn hostile_templates_end_in_errors_on_a_small_stack() {
    // As of a worker of the daemon, which runs tags of logs.
    let run = |text: String| {
        let run = move || Template::parse(&text).and_then(|t| t.execute(&Data::Nil, Missing::NoValue)).err();
        std::thread::Builder::new().stack_size(2 << 20).spawn(run).expect("thread").join().expect("no panic")
    };
    let endless = r#"{{define "a"}}{{template "a"}}{{end}}{{template "a"}}"#;
    assert_eq!(run(endless.into()).as_deref(), Some("template: : exceeded maximum template depth (250)"));
    let blocks = format!(
        r#"{{{{define "a"}}}}{}{{{{template "a"}}}}{}{{{{end}}}}{{{{template "a"}}}}"#,
        "{{if 1}}".repeat(90),
        "{{end}}".repeat(90)
    );
    assert!(run(blocks).is_some());
    assert!(run("{{if 1}}".repeat(100_000)).is_some());
    assert!(run(format!("{{{{{}1{}}}}}", "(".repeat(100_000), ")".repeat(100_000))).is_some());
    let twice =
        r#"{{define "a"}}{{if slice . 1}}{{template "a" (slice . 1)}}{{template "a" (slice . 1)}}{{end}}{{end}}"#;
    assert!(run(format!(r#"{twice}{{{{template "a" "{}"}}}}"#, "x".repeat(60))).is_some());
    let doubling: String = (0..40).map(|_| "{{$x = print $x $x}}").collect();
    assert!(run(format!(r#"{{{{$x := printf "%1000d" 1}}}}{doubling}{{{{$x}}}}"#)).is_some());
}
