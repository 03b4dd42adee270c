//! `--cap-add` and `--cap-drop`.

use std::collections::BTreeSet;

/// Names as the engine stores them: in capitals, with their prefix, each once, in order.
pub(crate) fn normalized(names: &[&str]) -> Vec<String> {
    let normal = |name: &&str| {
        let name = name.trim().to_ascii_uppercase();
        if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
    };
    names.iter().map(normal).collect::<BTreeSet<String>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels() {
        assert_eq!(normalized(&["net_admin", "CAP_NET_ADMIN", "chown"]), ["CAP_CHOWN", "CAP_NET_ADMIN"]);
        assert_eq!(normalized(&["chown", "all"]), ["ALL", "CAP_CHOWN"]);
    }
}
