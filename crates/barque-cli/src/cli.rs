//! x
pub(crate) struct Invocation<'a> {
    pub(crate) x: &'a str,
}
