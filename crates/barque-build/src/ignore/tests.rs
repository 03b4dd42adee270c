//! Docker's matching, by table; walking never loses an included file.

use proptest::prelude::*;

use super::*;

fn ignore(patterns: &[&str]) -> Ignore {
    Ignore::new(patterns).unwrap()
}

#[test]
fn single_patterns() {
    let cases = [
        ("**", "file", true),
        ("**/", "dir/file", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/dir2/file", true),
        ("dir/**", "dir", false),
        ("**/dir", "dir", true),
        ("**/dir", "dir/file", true),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**file", "dir/file", true),
        ("**file", "dir/afile", true),
        ("**/file", "dir/afile", false),
        ("**/file*txt", "dir/dir/file.txt", true),
        ("**/**/*.txt", "file.txt", true),
        ("**/**/*.txt2", "dir/dir/file.txt", false),
        ("a**/*.txt", "a/dir/dir/file.txt", true),
        ("a/*.txt", "a/dir/file.txt", false),
        ("a/*.txt**", "a/file.txt", true),
        ("a[b-d]e", "ace", true),
        ("a[b-d]e", "aae", false),
        ("a[^b-d]e", "aze", true),
        (".*", ".foo", true),
        (".*", "foo", false),
        ("abc.def", "abcZdef", false),
        ("abc?def", "abcZdef", true),
        ("a\\\\", "a\\", true),
        ("a\\*b", "a*b", true),
        ("**/foo/bar", "dir/dir2/foo/bar", true),
        ("abc/**", "abc/def/ghi", true),
        ("**/.foo", "bar.foo", false),
        ("a(b)c/def", "a(b)c/def", true),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
        ("dist/*.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", true),
        ("docs/", "docs/x", true),
        ("./docs/../src", "src/x", true),
        ("a*", "ab/c", true),
        ("*/b", "a/b/c", true),
        ("*/b", "a/c/b", false),
        ("[z-a]", "m", false),
        ("кот*", "котик", true),
    ];
    for (pattern, path, expected) in cases {
        assert_eq!(ignore(&[pattern]).matches(path), expected, "{pattern} on {path}");
    }
}

#[test]
fn later_patterns_win() {
    assert!(!ignore(&["**", "!util/docker/web"]).matches("util/docker/web/foo"));
    assert!(ignore(&["**", "!util/docker/web", "util/docker/web/foo"]).matches("util/docker/web/foo"));
    assert!(!ignore(&["*.md", "!README.md"]).matches("README.md"));
    assert!(ignore(&["!README.md", "*.md"]).matches("README.md"));
    assert!(!ignore(&["docs", "!docs/README.md"]).matches("docs/README.md"));
    assert!(!ignore(&["*", "!**/keep"]).matches("a/b/keep"));
}

#[test]
fn files_are_read_as_docker_reads_them() {
    let file = b"\xef\xbb\xbf# comment\n  #not-a-comment\n\n /abs/x/ \n!  /abs/x/y\nlast\r\n";
    let ignore = Ignore::parse(file).unwrap();
    assert!(ignore.matches("abs/x/z") && !ignore.matches("abs/x/y") && ignore.matches("last"));
    assert!(ignore.matches("#not-a-comment") && ignore.has_exclusions());
    assert_eq!(Ignore::parse(b"!").unwrap_err().to_string(), "invalid pattern \"!\": illegal exclusion pattern: \"!\"");
    assert!(Ignore::parse(b"[").is_err() && Ignore::parse(b"a\\").is_err());
    assert!(Ignore::parse(&vec![b'a'; MAX_FILE + 1]).is_err());
}

#[test]
fn directories_are_walked_only_if_needed() {
    let plain = ignore(&["node_modules"]);
    assert!(!plain.may_include_below("node_modules"));
    let prefix = ignore(&["*", "!src/**", "!a/b"]);
    assert!(prefix.may_include_below("src") && prefix.may_include_below("a") && !prefix.may_include_below("c"));
    assert!(ignore(&["*", "!**/x"]).may_include_below("anything"));
    assert!(ignore(&["*"]).ignores_all() && !plain.ignores_all());
}

proptest! {
    #[test]
    fn walking_skips_only_what_is_ignored(
        patterns in prop::collection::vec("!?[ab*?/]{1,6}|!?\\*\\*/[ab]|[ab]/\\*\\*|[ab]\\[a-b\\]", 0..4),
        path in "[ab]{1,2}(/[ab]{1,2}){0,3}",
    ) {
        let Ok(ignore) = Ignore::new(&patterns) else { return Ok(()) };
        let mut state = DirMatch::default();
        let mut walked = false;
        let ends = path.match_indices('/').map(|(i, _)| i).chain([path.len()]);
        let mut skipped = false;
        for end in ends {
            let (ignored, next) = ignore.matches_in(&path[..end], &state);
            (walked, state) = (ignored, next);
            if end < path.len() && ignored && !ignore.may_include_below(&path[..end]) {
                skipped = true;
            }
        }
        // Skipping early may only lose what is ignored anyway.
        prop_assert!(!skipped || walked);
        // Without exclusions the two ways are the same.
        prop_assert!(ignore.has_exclusions() || walked == ignore.matches(&path));
    }

    #[test]
    fn any_file_gives_patterns_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80), path in ".{0,12}") {
        if let Ok(ignore) = Ignore::parse(&bytes) {
            let _ = ignore.matches(&path);
            let _ = ignore.may_include_below(&path);
        }
    }

    #[test]
    fn any_glob_gives_an_answer(pattern in "[-a-c*?\\[\\]^\\\\/é]{0,12}", path in "[-a-c/\\]é]{0,8}") {
        if let Ok(ignore) = Ignore::new([&pattern]) {
            let _ = ignore.matches(&path);
        }
        let _ = Glob::new(&pattern).map(|g| g.matches(&path));
    }
}
