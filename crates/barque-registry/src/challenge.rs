//! `WWW-Authenticate` challenges (RFC 9110 section 11.6.1), read leniently enough for the registries in the field.

/// One challenge: a scheme and its parameters; names are lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) scheme: String,
    pub(crate) params: Vec<(String, String)>,
}

impl Challenge {
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A header larger than this is not a challenge anybody sends in good faith.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// All challenges of one header value; what cannot be read is skipped.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    if header.len() > HEADER_BYTES_MAX {
        return found;
    }
    let mut scan = Scan { rest: header };
    loop {
        scan.skip(|c| c.is_ascii_whitespace() || c == ',');
        let word = scan.token();
        if word.is_empty() {
            if scan.rest.is_empty() {
                return found;
            }
            scan.bump();
            continue;
        }
        let before = scan.rest;
        scan.skip(|c| c == ' ' || c == '\t');
        if scan.rest.starts_with('=') && !found.is_empty() {
            scan.bump();
            scan.skip(|c| c == ' ' || c == '\t');
            let value = scan.value();
            if let Some(last) = found.last_mut() {
                last.params.push((word.to_ascii_lowercase(), value));
            }
        } else {
            scan.rest = before;
            found.push(Challenge { scheme: word.to_ascii_lowercase(), params: Vec::new() });
        }
    }
}

struct Scan<'a> {
    rest: &'a str,
}

impl<'a> Scan<'a> {
    fn skip(&mut self, wanted: impl Fn(char) -> bool) {
        self.rest = self.rest.trim_start_matches(wanted);
    }

    fn bump(&mut self) {
        let mut chars = self.rest.chars();
        chars.next();
        self.rest = chars.as_str();
    }

    fn token(&mut self) -> &'a str {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn value(&mut self) -> String {
        if !self.rest.starts_with('"') {
            let end = self.rest.find([',', ' ', '\t']).unwrap_or(self.rest.len());
            let (word, rest) = self.rest.split_at(end);
            self.rest = rest;
            return word.to_owned();
        }
        self.bump();
        let mut value = String::new();
        let mut chars = self.rest.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => value.extend(chars.next()),
                other => value.push(other),
            }
        }
        self.rest = chars.as_str();
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_with_scope_containing_commas() {
        let found = parse(
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push",error="insufficient_scope""#,
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].scheme, "bearer");
        assert_eq!(found[0].param("realm"), Some("https://auth.example/token"));
        assert_eq!(found[0].param("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(found[0].param("error"), Some("insufficient_scope"));
    }

    #[test]
    fn several_challenges_in_one_header() {
        let found = parse(r#"Negotiate, Basic realm="a \"b\"", Bearer realm=x,  service = "y""#);
        let schemes: Vec<_> = found.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["negotiate", "basic", "bearer"]);
        assert_eq!(found[1].param("realm"), Some("a \"b\""));
        assert_eq!(found[2].param("realm"), Some("x"));
        assert_eq!(found[2].param("service"), Some("y"));
    }

    #[test]
    fn garbage_is_skipped() {
        assert!(parse("").is_empty());
        assert!(parse(&"x".repeat(HEADER_BYTES_MAX + 1)).is_empty());
        assert_eq!(parse("\u{1F600} Basic").len(), 1);
        assert_eq!(parse("Bearer realm=\"unterminated")[0].param("realm"), Some("unterminated"));
    }
}
