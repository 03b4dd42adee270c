//! Go's `text/template`, as far as `--format` needs it: the whole action language over dynamic data, with the
//! functions and the error texts that users of the `docker` client know.
//!
//! [`Template::parse`] gives a tree, [`Template::execute`] runs it over [`Data`]. Nothing here does I/O.

mod data;
mod exec;
mod format;
mod funcs;
mod lex;
mod parse;
mod typed;

pub(crate) use data::{Data, Method, Struct};
pub(crate) use exec::Missing;
pub(crate) use format::go_quote;
pub(crate) use typed::{typed, typed_as};

use std::collections::BTreeMap;

/// A parsed template.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    text: String,
    root: Vec<parse::Node>,
    defined: BTreeMap<String, Vec<parse::Node>>,
}

impl Template {
    /// Parses `text`; the error is `template: :LINE: …`.
    pub(crate) fn parse(text: &str) -> Result<Template, String> {
        let (root, defined) = parse::parse(text)?;
        Ok(Template { text: text.to_owned(), root, defined })
    }

    /// Runs the template; the error is `template: :LINE:COLUMN: executing "" at <…>: …`.
    pub(crate) fn execute(&self, data: &Data, missing: Missing) -> Result<String, String> {
        exec::execute(self, data, missing)
    }

    /// Runs the template over the column titles: functions that reshape values leave titles alone.
    pub(crate) fn execute_titles(&self, titles: &Data) -> Result<String, String> {
        exec::execute_titles(self, titles)
    }
}

#[cfg(test)]
mod tests;
