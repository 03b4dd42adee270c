//! Go's `text/template`, as far as `--format` and the tags of logs need it: the whole action language over dynamic
//! data, with the functions and the error texts that users of the `docker` client know.
//!
//! [`Template::parse`] gives a tree, [`Template::execute`] runs it over [`Data`]. Nothing here does I/O.
#![forbid(unsafe_code)]

mod data;
mod exec;
mod format;
mod funcs;
mod lex;
mod parse;
mod typed;

pub use data::{Data, Method, Struct};
pub use exec::Missing;
pub use funcs::query_escape;
pub use typed::{typed, typed_as};

use std::collections::BTreeMap;

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    /// As errors name it.
    name: String,
    text: String,
    root: Vec<parse::Node>,
    defined: BTreeMap<String, Vec<parse::Node>>,
}

impl Template {
    /// Parses a template without a name.
    ///
    /// # Errors
    /// What is not a template, as `template: :LINE: …`.
    pub fn parse(text: &str) -> Result<Template, String> {
        Template::named("", text)
    }

    /// Parses `text`, whose errors are of a template called `name`.
    ///
    /// # Errors
    /// What is not a template, as `template: NAME:LINE: …`.
    pub fn named(name: &str, text: &str) -> Result<Template, String> {
        let (root, defined) = parse::parse(name, text)?;
        Ok(Template { name: name.to_owned(), text: text.to_owned(), root, defined })
    }

    /// Runs the template.
    ///
    /// # Errors
    /// What cannot be evaluated, as `template: NAME:LINE:COLUMN: executing "NAME" at <…>: …`.
    pub fn execute(&self, data: &Data, missing: Missing) -> Result<String, String> {
        exec::execute(self, data, missing)
    }

    /// Runs the template over the column titles: functions that reshape values leave titles alone.
    ///
    /// # Errors
    /// As [`Template::execute`].
    pub fn execute_titles(&self, titles: &Data) -> Result<String, String> {
        exec::execute_titles(self, titles)
    }
}

#[cfg(test)]
mod tests;
