//! `--filter name=value`.

use barque_api::Filters;

/// Name (lower case) and value of one filter; nothing for the empty string.
pub(crate) fn split(text: &str) -> Result<Option<(String, String)>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let Some((name, value)) = text.split_once('=') else {
        return Err("bad format of filter (expected name=value)".into());
    };
    Ok(Some((name.trim().to_lowercase(), value.trim().to_owned())))
}

/// All filters of a command line, already checked one by one.
pub(crate) fn collect<'a>(values: impl IntoIterator<Item = &'a str>) -> Filters {
    let mut filters = Filters::default();
    for value in values {
        if let Ok(Some((name, value))) = split(value) {
            filters.add(name, value);
        }
    }
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_and_trimmed() {
        assert_eq!(split(" Status = exited ").expect("ok"), Some(("status".into(), "exited".into())));
        assert_eq!(split("label=a=b").expect("ok"), Some(("label".into(), "a=b".into())));
        assert_eq!(split("").expect("ok"), None);
        assert_eq!(split("x").unwrap_err(), "bad format of filter (expected name=value)");
    }
}
