//! Order of texts with numbers in them as people expect it: `2/tcp` before `10/tcp`.

use std::cmp::Ordering;

/// Compares runs of digits by their value, all else by its letters.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (Some(ca), Some(cb)) = (a.chars().next(), b.chars().next()) else { return a.len().cmp(&b.len()) };
        if ca.is_ascii_digit() && cb.is_ascii_digit() {
            let (na, ra) = digits(a);
            let (nb, rb) = digits(b);
            let order = na.len().cmp(&nb.len()).then_with(|| na.cmp(nb));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (ra, rb);
            continue;
        }
        if ca != cb {
            return ca.cmp(&cb);
        }
        (a, b) = (&a[ca.len_utf8()..], &b[cb.len_utf8()..]);
    }
}

/// A number without leading zeros, and what follows it.
fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..end].trim_start_matches('0');
    (number, &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count() {
        let mut list = vec!["10/tcp", "9/tcp", "80/tcp", "a10", "a9", "a", ""];
        list.sort_by(|a, b| compare(a, b));
        assert_eq!(list, ["", "9/tcp", "10/tcp", "80/tcp", "a", "a9", "a10"]);
    }
}
