//! The syntax tree, by example and on arbitrary input.

use proptest::prelude::*;

use super::*;

fn nodes(text: &str) -> Vec<Node> {
    parse(text.as_bytes(), "Dockerfile").map(|t| t.nodes).unwrap_or_else(|e| panic!("{}", e.diagnostic.message))
}

fn error(text: &str) -> String {
    parse(text.as_bytes(), "Dockerfile").map(|t| format!("{:?}", t.nodes)).unwrap_err().to_error().to_string()
}

#[test]
fn continuations_join_and_skip_comments() {
    let text = "FROM a\nRUN one \\\n  # comment\n\n  two \\   \n three\nRUN x \\\\\nCMD y";
    let tree = parse(text.as_bytes(), "Dockerfile").unwrap();
    assert_eq!(tree.nodes[1].rest.as_str(), "one   two  three");
    assert_eq!(tree.empty_continuations.len(), 1);
    assert_eq!(tree.nodes[2].rest.as_str(), "x \\\\");
    assert_eq!(tree.nodes.len(), 4);
    let two = tree.nodes[1].rest.as_str().find("two").unwrap();
    let span = tree.nodes[1].rest.span_of(two..two + 3);
    assert_eq!(tree.source.slice(span), "two");
    assert_eq!(tree.source.position(span.start), crate::span::Position { line: 5, column: 3 });
}

#[test]
fn flags_are_split_off() {
    let node = &nodes("COPY --from=a --chown='x y' \\\n  --chmod=\"0\\\"7\" -- --b c")[0];
    let flags: Vec<_> = node.flags.iter().map(|f| f.text.as_str()).collect();
    assert_eq!(flags, ["--from=a", "--chown=x y", "--chmod=0\"7"]);
    assert_eq!(node.rest.as_str(), "--b c");
}

#[test]
fn heredocs_take_the_lines_after() {
    let text = "FROM a\nRUN <<EOF\necho 1\n\\\n# no comment\nEOF\nCOPY <<a <<-\"b c\" /x/\nA\na\n\t\tB\n\tb c\nCMD x";
    let nodes = nodes(text);
    assert_eq!(nodes[1].heredocs[0].content, "echo 1\n\\\n# no comment\n");
    assert!(nodes[1].heredocs[0].expand);
    let [a, b] = &nodes[2].heredocs[..] else { panic!() };
    assert_eq!((a.name.as_str(), a.content.as_str()), ("a", "A\n"));
    assert_eq!((b.name.as_str(), b.body().as_str(), b.expand), ("b c", "B\n", false));
    assert_eq!(nodes[3].original, "CMD x");
}

#[test]
fn only_some_instructions_have_heredocs() {
    assert_eq!(nodes("FROM a\nCMD cat <<EOF\nENV a b").len(), 3);
    assert_eq!(nodes("FROM a\nRUN [\"x\", \"<<EOF\"]\nENV a b").len(), 3);
    let onbuild = nodes("FROM a\nONBUILD RUN <<EOF\nx\nEOF\n");
    assert_eq!(onbuild[1].heredocs[0].content, "x\n");
    assert_eq!(onbuild[1].inner('\\').keyword.text, "RUN");
    assert_eq!(nodes("FROM a\nRUN echo $((1<<2)) a <<< b\nENV a b").len(), 3);
}

#[test]
fn directives_come_first() {
    let tree =
        parse(b"# syntax = docker/dockerfile:1\n# escape=`\n# comment\n# check=skip=all\nFROM a `\n b", "D").unwrap();
    assert_eq!(tree.escape, '`');
    assert_eq!(tree.directives.len(), 2);
    assert_eq!(tree.nodes[0].rest.as_str(), "a  b");
    assert_eq!(tree.nodes[0].comments, ["comment", "check=skip=all"]);
    assert!(error("# escape=`\n# escape=`\nFROM a").contains("only one escape parser directive can be used"));
    assert!(error("# escape=x\nFROM a").contains("invalid escape token 'x' does not match ` or \\"));
}

#[test]
fn failures_say_what_and_where() {
    assert_eq!(error(""), "dockerfile parse error on line 1: file with no instructions");
    assert_eq!(error("FROM a\nRUN <<EOF\nx"), "dockerfile parse error on line 2: unterminated heredoc");
    let long = format!("FROM a\nRUN {}", "x".repeat(70_000));
    assert!(error(&long).contains("dockerfile line greater than max allowed size of 65535"));
    assert!(parse(&vec![b'\n'; MAX_DOCKERFILE + 1], "D").is_err());
    let latin = parse(b"# caf\xe9\nFROM a", "D");
    assert!(latin.is_ok(), "comments may be in any encoding");
    let e = parse(b"FROM a\nRUN caf\xe9", "D").unwrap_err();
    assert_eq!(
        e.to_error().to_string(),
        "dockerfile parse error on line 2: the instruction contains bytes that are not UTF-8"
    );
}

#[test]
fn json_needs_strings() {
    let parts = |s: &str| line::json(&nodes(&format!("CMD {s}"))[0].rest);
    assert_eq!(parts("[\"a\", \"b\"]").unwrap().unwrap(), ["a", "b"]);
    assert_eq!(parts("[]").unwrap().unwrap(), Vec::<String>::new());
    assert_eq!(parts("['a']").unwrap(), None);
    assert_eq!(parts("[\"a\"] b").unwrap(), None);
    assert!(parts("[\"a\", 1]").is_err());
}

#[test]
fn crlf_files_work() {
    let text = "FROM a\r\nRUN b \\\r\n  c\r\nRUN <<EOF\r\nx\r\nEOF\r\n";
    let nodes = nodes(text);
    assert_eq!(nodes[1].rest.as_str(), "b   c");
    assert_eq!(nodes[2].heredocs[0].content, "x\r\n");
}

proptest! {
    #[test]
    fn any_bytes_give_a_tree_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(e) = parse(&bytes, "D") {
            let _ = e.to_error();
        }
    }

    #[test]
    fn any_dockerfile_like_text_gives_a_tree_or_an_error(
        text in "((FROM|RUN|COPY|ONBUILD|ENV|#|\\# escape=`)?[-a-z<\" '=\\\\`$#\\[\\],é\r\n\t]{0,20}\n?){0,8}"
    ) {
        match parse(text.as_bytes(), "D") {
            Err(e) => drop(e.to_error()),
            Ok(tree) => for node in tree.nodes {
                prop_assert!(node.span.end as usize <= text.len());
                let _ = tree.source.excerpt(node.span);
                let _ = line::words(&node.rest);
                let _ = line::quoted_words(&node.rest, tree.escape);
                for flag in &node.flags {
                    let _ = tree.source.excerpt(flag.span);
                }
            }
        }
    }
}
