//! Expansion against a table, plus arbitrary input.

use proptest::prelude::*;

use super::*;

fn env() -> BTreeMap<String, String> {
    let pairs = [
        ("PWD", "/home"),
        ("SHELL", "bash"),
        ("EMPTY", ""),
        ("PATH2", "/usr/local/bin:/usr/bin"),
        ("FILE", "archive.tar.gz"),
        ("SPACES", "a b  c"),
        ("USER_NAME", "кот"),
        ("STARS", "a*b*c"),
    ];
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn expand(word: &str) -> String {
    match Lexer::new('\\').expand(word, &env()) {
        Ok(done) => done.text,
        Err(e) => {
            let (_, why) = e.split_once("\": ").unwrap_or(("", &e));
            format!("error: {why}")
        }
    }
}

#[test]
fn words_expand_as_in_docker() {
    let cases = [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        ("he'llo", "error: unexpected end of statement while looking for matching single-quote"),
        ("\"he'llo\"", "he'llo"),
        ("\"hello", "error: unexpected end of statement while looking for matching double-quote"),
        ("he\\'llo", "he'llo"),
        ("he\\\\'llo", "error: unexpected end of statement while looking for matching single-quote"),
        ("abc\\tdef", "abctdef"),
        ("\"abc\\tdef\"", "abc\\tdef"),
        ("'abc\\tdef'", "abc\\tdef"),
        ("hello\\", "hello"),
        ("'hello\\there'", "hello\\there"),
        ("\"''\"", "''"),
        ("$.", "$."),
        ("he$1x", "hex"),
        ("he$.x", "he$.x"),
        ("he$pwd.", "he."),
        ("he$PWD", "he/home"),
        ("he\\$PWD", "he$PWD"),
        ("\"he\\$PWD\"", "he$PWD"),
        ("'he\\$PWD'", "he\\$PWD"),
        ("${PWD}x", "/homex"),
        ("${PWD", "error: syntax error: missing '}'"),
        ("${}", "error: syntax error: bad substitution"),
        ("${{aaa}", "error: syntax error: bad substitution"),
        ("${:}", "error: syntax error: bad substitution"),
        ("${", "error: syntax error: missing '}'"),
        ("he${hi}", "he"),
        ("he${hi:-there}", "hethere"),
        ("he${EMPTY:-there}", "hethere"),
        ("he${EMPTY-there}", "he"),
        ("he${hi-there}", "hethere"),
        ("he${PWD:+x}", "hex"),
        ("he${EMPTY:+x}", "he"),
        ("he${EMPTY+x}", "hex"),
        ("${hi:-'$PWD'}", "$PWD"),
        ("${hi:-\"$PWD ${SHELL}\"}", "/home bash"),
        ("${hi:-${hi2:-\\}}}", "}"),
        ("${hi:?}", "error: hi: is not allowed to be unset"),
        ("${EMPTY:?}", "error: EMPTY: is not allowed to be empty"),
        ("${EMPTY?}", ""),
        ("${hi:?please set}", "error: hi: please set"),
        ("${hi:=x}", "error: unsupported modifier (:=) in substitution"),
        ("${PWD=x}", "error: unsupported modifier (=) in substitution"),
        ("${PWD:#x}", "error: unsupported modifier (:#) in substitution"),
        ("${PATH2#*/}", "usr/local/bin:/usr/bin"),
        ("${PATH2##*/}", "bin"),
        ("${PATH2%/*}", "/usr/local/bin:/usr"),
        ("${PATH2%%/*}", ""),
        ("${FILE%.*}", "archive.tar"),
        ("${FILE%%.*}", "archive"),
        ("${FILE#x}", "archive.tar.gz"),
        ("${FILE#a???}", "ive.tar.gz"),
        ("${FILE/a/A}", "Archive.tar.gz"),
        ("${FILE//a/A}", "Archive.tAr.gz"),
        ("${FILE//.*/$SHELL}", "archivebash"),
        ("${PWD/\\//x}", "xhome"),
        ("${STARS//\\*/-}", "a-b-c"),
        ("${STARS#a\\*}", "b*c"),
        ("${STARS/\\n/x}", "error: invalid pattern (\\n) in substitution: invalid escape '\\n'"),
        ("${FILE/x", "error: syntax error: missing '/' in ${}"),
        ("${FILE/x/y", "error: syntax error: missing '}'"),
        ("${USER_NAME%т}", "ко"),
        ("a<b", "a<b"),
        ("$$", ""),
        ("$", "$"),
    ];
    for (word, expected) in cases {
        assert_eq!(expand(word), expected, "{word}");
    }
}

#[test]
fn words_split_after_expansion() {
    let split = |word| Lexer::new('\\').expand(word, &env()).unwrap().words;
    assert_eq!(split("$SPACES"), ["a", "b", "c"]);
    assert_eq!(split("\"$SPACES\" x"), ["a b  c", "x"]);
    assert_eq!(split(" 80  ${hi:-81}/tcp "), ["80", "81/tcp"]);
    assert_eq!(split("RUN <<  EOF x"), ["RUN", "<<  EOF", "x"]);
}

#[test]
fn backtick_escapes_when_told_so() {
    let done = Lexer::new('`').expand("`$PWD \\$PWD", &env()).unwrap();
    assert_eq!(done.text, "$PWD \\/home");
}

#[test]
fn names_can_keep_unset_variables() {
    let lexer = Lexer { keep_unset: true, raw_quotes: true, ..Lexer::new('\\') };
    let done = lexer.expand("echo \"$HI\" ${HI:-x} $PWD ${HI#a} ${HI/a/b}", &env()).unwrap();
    assert_eq!(done.text, "echo \"$HI\" ${HI:-x} /home ${HI#a} ${HI/a/b}");
    assert_eq!(done.unset.into_iter().collect::<Vec<_>>(), ["HI"]);
}

#[test]
fn depth_and_size_are_bounded() {
    let deep = "${a:-".repeat(10_000);
    assert!(Lexer::new('\\').expand(&deep, &NoEnv).is_err());
    let big: BTreeMap<String, String> = [("a".to_owned(), "x".repeat(MAX_EXPANDED / 2))].into();
    assert!(Lexer::new('\\').expand("$a$a$a$a", &big).is_err());
    assert!(Lexer::new('\\').expand("\"$a$a$a$a\"", &big).is_err());
}

proptest! {
    #[test]
    fn any_input_gives_a_value_or_an_error(word in "[-a-z$ {}:+?#%/\\\\'\"<*`а\n]{0,60}", tick in any::<bool>()) {
        let lexer = Lexer::new(if tick { '`' } else { '\\' });
        let a: BTreeMap<String, String> = [("a".to_owned(), "v w".to_owned())].into();
        let _ = lexer.expand(&word, &a);
        let _ = Lexer { raw_quotes: true, raw_escapes: true, keep_unset: true, ..lexer }.expand(&word, &a);
    }
}
