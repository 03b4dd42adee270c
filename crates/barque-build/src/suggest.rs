//! "did you mean …?": the option closest to a misspelt word.

/// The closest of `options` by edit distance, if it is close enough to be meant.
pub(crate) fn closest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const MAX_WORD: usize = 64;
    if word.len() > MAX_WORD {
        return None;
    }
    let lower = word.to_lowercase();
    let limit = (word.chars().count() / 2).clamp(1, 2);
    options
        .into_iter()
        .filter(|o| *o != word)
        .map(|o| (distance(&lower, &o.to_lowercase()), o))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, o)| (*d, *o))
        .map(|(_, o)| o)
}

/// `message (did you mean X?)`, or `message` alone. The option is shown in lower case if the word is.
pub(crate) fn with<'a>(message: String, word: &str, options: impl IntoIterator<Item = &'a str>) -> String {
    match closest(word, options) {
        Some(option) if word == word.to_lowercase() && option == option.to_uppercase() => {
            format!("{message} (did you mean {}?)", option.to_lowercase())
        }
        Some(option) => format!("{message} (did you mean {option}?)"),
        None => message,
    }
}

/// Levenshtein's distance, with a swap of neighbours counted as one edit.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().take(128).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_words_are_suggested() {
        let options = ["FROM", "RUN", "COPY", "CMD"];
        assert_eq!(closest("FORM", options), Some("FROM"));
        assert_eq!(closest("copi", options), Some("COPY"));
        assert_eq!(closest("HELLO", options), None);
        assert_eq!(closest("", options), None);
        assert_eq!(with("unknown".into(), "RUM", options), "unknown (did you mean RUN?)");
    }
}
