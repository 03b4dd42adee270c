//! Warnings about Dockerfiles that build but should not be written so, under BuildKit's rule names.

use std::collections::BTreeSet;

use barque_model::strconv::parse_bool;

use crate::parse::Directive;
use crate::span::{Source, Span};

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// BuildKit's rule name, such as `JSONArgsRecommended`.
    pub rule: &'static str,
    /// What was found.
    pub message: String,
    /// Why it matters.
    pub detail: &'static str,
    pub span: Span,
    /// Line of the Dockerfile, from 1.
    pub line: u32,
}

impl Warning {
    /// Docker's documentation of the rule.
    pub fn url(&self) -> String {
        let mut slug = String::new();
        let chars: Vec<char> = self.rule.chars().collect();
        for (i, c) in chars.iter().enumerate() {
            let before_lower = chars.get(i + 1).is_some_and(char::is_ascii_lowercase);
            let after_lower = i > 0 && chars[i - 1].is_ascii_lowercase();
            if i > 0 && c.is_ascii_uppercase() && (after_lower || before_lower) {
                slug.push('-');
            }
            slug.push(c.to_ascii_lowercase());
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{slug}/")
    }

    /// `RULE: MESSAGE (line N)`.
    pub fn summary(&self) -> String {
        format!("{}: {} (line {})", self.rule, self.message, self.line)
    }
}

macro_rules! rules {
    ($($name:ident: $detail:literal,)*) => {
        /// A rule.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Rule {
            $(#[doc = $detail] $name,)*
        }

        impl Rule {
            pub fn name(self) -> &'static str {
                match self { $(Rule::$name => stringify!($name),)* }
            }

            pub fn detail(self) -> &'static str {
                match self { $(Rule::$name => $detail,)* }
            }
        }
    };
}

rules! {
    StageNameCasing: "Stage names should be lowercase",
    FromAsCasing: "The 'as' keyword should match the case of the 'from' keyword",
    NoEmptyContinuation: "Empty continuation lines will become errors in a future release",
    ConsistentInstructionCasing:
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
    DuplicateStageName: "Stage names should be unique",
    ReservedStageName: "Reserved words should not be used as stage names",
    JSONArgsRecommended:
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    MaintainerDeprecated: "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    UndefinedArgInFrom: "FROM command must use declared ARGs",
    WorkdirRelativePath:
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
    UndefinedVar: "Variables should be defined before their use",
    MultipleInstructionsDisallowed: "Multiple instructions of the same type should not be used in the same stage",
    LegacyKeyValueFormat: "Legacy key/value format with whitespace separator should not be used",
    InvalidBaseImagePlatform: "Base image platform does not match expected target platform",
    RedundantTargetPlatform:
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    SecretsUsedInArgOrEnv: "Sensitive data should not be used in the ARG or ENV commands",
    InvalidDefaultArgInFrom: "Default value for global ARG results in an empty or invalid base image name",
    FromPlatformFlagConstDisallowed: "FROM --platform flag should not use a constant value",
    CopyIgnoredFile: "Attempting to Copy file that is excluded by .dockerignore",
    ExposeProtoCasing: "Protocol in EXPOSE instruction should be lowercase",
    ExposeInvalidFormat:
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
}

/// Collects warnings, minding `# check=`.
#[derive(Debug, Clone, Default)]
pub struct Linter {
    skip: Skip,
    /// `error=true`: warnings fail the build.
    error: bool,
    warnings: Vec<Warning>,
}

#[derive(Debug, Clone, Default)]
struct Skip {
    all: bool,
    rules: BTreeSet<String>,
}

impl Linter {
    /// Reads the file's `# check=` directive, or what was `given` instead of it (`BUILDKIT_DOCKERFILE_CHECK`). Errors
    /// are Docker's sentences.
    pub fn new(directives: &[Directive], given: Option<&str>) -> Result<Self, (Span, String)> {
        let mut linter = Linter::default();
        if let Some(given) = given {
            (linter.skip, linter.error) = options(given).map_err(|e| (Span::default(), e))?;
        } else if let Some(check) = directives.iter().find(|d| d.name == "check") {
            let (skip, error) = options(&check.value.text).map_err(|e| (check.value.span, e))?;
            (linter.skip, linter.error) = (skip, error);
        }
        Ok(linter)
    }

    /// Reports a finding, unless the rule is skipped in the file or by a `# check=skip=…` comment of the
    /// instruction.
    pub fn warn(&mut self, source: &Source, rule: Rule, span: Span, comments: &[String], message: String) {
        let local = comments.iter().find_map(|c| {
            let value = c.trim().strip_prefix("check")?.trim_start().strip_prefix('=')?;
            options(value.split_whitespace().next()?).ok()
        });
        let skipped = |s: &Skip| s.all || s.rules.contains(rule.name());
        if skipped(&self.skip) || local.is_some_and(|(skip, _)| skipped(&skip)) {
            return;
        }
        let line = source.lines(span).0;
        self.warnings.push(Warning { rule: rule.name(), message, detail: rule.detail(), span, line });
    }

    /// All findings in file order, and the error that `error=true` makes of them.
    pub fn finish(mut self) -> (Vec<Warning>, Option<String>) {
        self.warnings.sort_by_key(|w| (w.line, w.span.start));
        self.warnings.dedup();
        if !self.error || self.warnings.is_empty() {
            return (self.warnings, None);
        }
        let names: BTreeSet<&str> = self.warnings.iter().map(|w| w.rule).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let error = format!("lint violation found for rules: {}", names.join(", "));
        (self.warnings, Some(error))
    }
}

fn options(text: &str) -> Result<(Skip, bool), String> {
    let (mut skip, mut error) = (Skip::default(), false);
    for part in text.split(';').filter(|p| !p.trim().is_empty()) {
        let Some((key, value)) = part.split_once('=') else { return Err(format!("invalid check option {part:?}")) };
        let value = value.trim();
        match key.trim() {
            "skip" if value == "all" => skip.all = true,
            "skip" => skip.rules.extend(value.split(',').map(|r| r.trim().to_owned())),
            // No rule here is experimental.
            "experimental" => {}
            "error" => {
                error =
                    parse_bool(value).map_err(|_| format!("failed to parse check option {part:?}: invalid syntax"))?;
            }
            key => return Err(format!("invalid check option {key:?}")),
        }
    }
    Ok((skip, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_dockers() {
        let url = |rule: Rule| {
            let (rule, detail) = (rule.name(), rule.detail());
            Warning { rule, message: String::new(), detail, span: Span::default(), line: 1 }.url()
        };
        assert!(url(Rule::JSONArgsRecommended).ends_with("/json-args-recommended/"));
        assert!(url(Rule::FromAsCasing).ends_with("/from-as-casing/"));
        assert!(url(Rule::SecretsUsedInArgOrEnv).ends_with("/secrets-used-in-arg-or-env/"));
    }

    #[test]
    fn check_options() {
        assert!(options("skip=all").unwrap().0.all);
        let (skip, error) = options("skip=A, B;error=true").unwrap();
        assert!(skip.rules.contains("B") && error);
        assert!(options("foo").is_err() && options("foo=x").is_err() && options("error=x").is_err());
    }

    #[test]
    fn comments_silence_one_instruction() {
        let source = Source::new("D", "FROM a\n");
        let mut linter = Linter::default();
        linter.warn(&source, Rule::UndefinedVar, Span::new(0, 4), &["check=skip=UndefinedVar".into()], "m".into());
        linter.warn(&source, Rule::UndefinedVar, Span::new(0, 4), &["check=skip=Other".into()], "m".into());
        assert_eq!(linter.finish().0[0].summary(), "UndefinedVar: m (line 1)");
    }
}
