//! Variables: `-e NAME[=VALUE]`, and files of `KEY=VALUE` lines for `--env-file` and `--label-file`.

/// Checks an `-e` value: the name must not be empty.
pub(crate) fn variable(text: &str) -> Result<&str, String> {
    if text.is_empty() || text.starts_with('=') {
        return Err(format!("invalid environment variable: {text}"));
    }
    Ok(text)
}

/// An `-e` value with its value filled in from the caller's environment; a name that is unset there stays bare.
pub(crate) fn resolve(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    if text.contains('=') {
        return text.to_owned();
    }
    match lookup(text) {
        Some(value) => format!("{text}={value}"),
        None => text.to_owned(),
    }
}

/// Gives the value of a variable of the caller's own environment.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Parses the text of an env file named `name`. A line without `=` takes its value from `lookup`, and is left
/// out where that has none; without `lookup` such a line is left out always.
pub(crate) fn file(name: &str, bytes: &[u8], lookup: Option<Lookup<'_>>) -> Result<Vec<String>, String> {
    let fault = |text: String| format!("invalid env file ({name}): {text}");
    let mut found = Vec::new();
    for (index, raw) in bytes.split(|&b| b == b'\n').enumerate() {
        let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
        let raw = if index == 0 { raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(raw) } else { raw };
        let Ok(line) = std::str::from_utf8(raw) else {
            let numbers: Vec<String> = raw.iter().map(u8::to_string).collect();
            return Err(fault(format!("invalid utf8 bytes at line {}: [{}]", index + 1, numbers.join(" "))));
        };
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (line, None),
        };
        if key.is_empty() {
            return Err(fault(format!("no variable name on line '{line}'")));
        }
        if key.contains([' ', '\t']) {
            return Err(fault(format!("variable '{key}' contains whitespaces")));
        }
        match (value, lookup) {
            (Some(_), _) => found.push(line.to_owned()),
            (None, Some(lookup)) => found.extend(lookup(key).map(|value| format!("{key}={value}"))),
            (None, None) => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn names_without_value_come_from_outside() {
        assert_eq!(resolve("A=1", &home), "A=1");
        assert_eq!(resolve("A=", &home), "A=");
        assert_eq!(resolve("HOME", &home), "HOME=/root");
        assert_eq!(resolve("NONE", &home), "NONE");
        assert_eq!(variable("=x").unwrap_err(), "invalid environment variable: =x");
    }

    #[test]
    fn files_keep_values_as_they_are() {
        let text = b"\xef\xbb\xbf# c\n  A=1 # not a comment \r\n\nB=\"q\"\nHOME\nNONE\nC=";
        let vars = file("f", text, Some(&home)).expect("parses");
        assert_eq!(vars, ["A=1 # not a comment ", "B=\"q\"", "HOME=/root", "C="]);
        assert_eq!(file("f", b"A", None).expect("parses"), Vec::<String>::new());
    }

    #[test]
    fn files_name_their_faults() {
        let fault = |text: &[u8]| file("x.env", text, None).unwrap_err();
        assert_eq!(fault(b"=1"), "invalid env file (x.env): no variable name on line '=1'");
        assert_eq!(fault(b"A B=1"), "invalid env file (x.env): variable 'A B' contains whitespaces");
        assert_eq!(fault(b"ok=1\n\xff"), "invalid env file (x.env): invalid utf8 bytes at line 2: [255]");
    }
}
