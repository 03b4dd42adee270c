//! Warnings about Dockerfiles that build but should not be written so, under BuildKit's rule names.

use crate::span::Span;

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
