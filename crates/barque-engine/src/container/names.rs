//! Names of containers: what is allowed, and names made up for those who give none.

use barque_model::{Error, Result};

const FIRST: [&str; 64] = [
    "able", "amber", "ample", "azure", "balmy", "bold", "brave", "breezy", "bright", "brisk", "calm", "candid",
    "cheery", "civil", "clever", "coral", "crisp", "daring", "deft", "eager", "early", "fair", "fleet", "fond",
    "frank", "gentle", "glad", "golden", "grand", "happy", "hardy", "hearty", "honest", "humble", "jolly", "keen",
    "kind", "lively", "loyal", "lucid", "merry", "mild", "modest", "neat", "nimble", "noble", "placid", "polite",
    "prompt", "proud", "quick", "quiet", "ready", "serene", "silver", "smart", "steady", "sunny", "swift", "tidy",
    "trusty", "vivid", "warm", "wise",
];

const SECOND: [&str; 64] = [
    "albatross",
    "anchor",
    "barge",
    "beacon",
    "bosun",
    "brig",
    "buoy",
    "captain",
    "caravel",
    "clipper",
    "compass",
    "coracle",
    "corvette",
    "cutter",
    "dinghy",
    "dolphin",
    "dory",
    "ferry",
    "frigate",
    "galley",
    "gannet",
    "gull",
    "harbour",
    "helm",
    "heron",
    "islet",
    "jetty",
    "junk",
    "kayak",
    "keel",
    "ketch",
    "lagoon",
    "lantern",
    "launch",
    "lugger",
    "mariner",
    "mast",
    "narwhal",
    "oar",
    "osprey",
    "pelican",
    "petrel",
    "pilot",
    "pinnace",
    "porpoise",
    "puffin",
    "quay",
    "raft",
    "reef",
    "rudder",
    "sailor",
    "schooner",
    "seal",
    "sextant",
    "skiff",
    "sloop",
    "spinnaker",
    "sextain",
    "tern",
    "tide",
    "trawler",
    "tugboat",
    "walrus",
    "yawl",
];

/// A made-up name such as `brisk_clipper`; `attempt` above zero adds a digit, as names run out.
pub fn made_up(attempt: u32) -> String {
    let mut random = [0u8; 3];
    barque_model::id::fill_random(&mut random);
    let first = FIRST[usize::from(random[0]) % FIRST.len()];
    let second = SECOND[usize::from(random[1]) % SECOND.len()];
    match attempt {
        0 => format!("{first}_{second}"),
        _ => format!("{first}_{second}{}", u32::from(random[2]) % 10 + attempt * 10 - 10),
    }
}

/// Checks a name given by the user; takes a leading slash away.
pub fn checked(name: &str) -> Result<&str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let word = |b: u8| b.is_ascii_alphanumeric();
    let mut bytes = bare.bytes();
    let good =
        bytes.next().is_some_and(word) && bare.len() >= 2 && bytes.all(|b| word(b) || matches!(b, b'_' | b'.' | b'-'));
    if good {
        return Ok(bare);
    }
    Err(Error::invalid(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_names_are_valid() {
        for attempt in 0..200 {
            let name = made_up(attempt % 5);
            assert_eq!(checked(&name).unwrap(), name);
        }
    }

    #[test]
    fn bad_names_are_refused() {
        assert_eq!(checked("/web").unwrap(), "web");
        for bad in ["", "/", "a", "-ab", "a b", "ä1", "a/b"] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
