//! `--name=value` flags of instructions.

use crate::parse::{Node, Word};
use crate::span::Diagnostic;
use crate::suggest;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Bool,
    Text,
    Many,
}

/// The flags of one instruction, checked against those it knows.
#[derive(Debug, Default)]
pub(super) struct Flags {
    values: Vec<(&'static str, Word)>,
}

impl Flags {
    /// Errors are Docker's sentences, such as `unknown flag: --foo`.
    pub(super) fn parse(node: &Node, known: &[(&'static str, Takes)]) -> Result<Self, Diagnostic> {
        let mut flags = Flags::default();
        for word in &node.flags {
            let (written, value) = match word.text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.text.as_str(), None),
            };
            let fail = |message: String| Err(Diagnostic::new(word.span, message));
            let name = written.trim_start_matches("--");
            let Some((name, takes)) = known.iter().find(|(k, _)| *k == name) else {
                let message = format!("unknown flag: {written}");
                return fail(suggest::with(message, name, known.iter().map(|(k, _)| *k)));
            };
            if *takes != Takes::Many && flags.get(name).is_some() {
                return fail(format!("duplicate flag specified: {written}"));
            }
            let value = match (takes, value) {
                (Takes::Bool, None) => "true".to_owned(),
                (_, None) | (Takes::Bool, Some("")) => return fail(format!("missing a value on flag: {written}")),
                (Takes::Bool, Some(v)) => match v.to_lowercase().as_str() {
                    v @ ("true" | "false") => v.to_owned(),
                    _ => return fail(format!("expecting boolean value for flag {written}, not: {v}")),
                },
                (_, Some(v)) => v.to_owned(),
            };
            flags.values.push((name, Word { text: value, span: word.span }));
        }
        Ok(flags)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Word> {
        self.values.iter().find(|(n, _)| *n == name).map(|(_, w)| w)
    }

    pub(super) fn take(&self, name: &str) -> Option<Word> {
        self.get(name).cloned()
    }

    pub(super) fn all(&self, name: &str) -> Vec<Word> {
        self.values.iter().filter(|(n, _)| *n == name).map(|(_, w)| w.clone()).collect()
    }

    /// A boolean flag: `None` if it was not written.
    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        self.get(name).map(|w| w.text == "true")
    }
}
