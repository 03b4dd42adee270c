//! Seccomp: Docker's profiles compiled to compact classic BPF, without a library, cached by profile.
//!
//! [`profile`] reads profiles (Docker's JSON, or the built-in default in a notation of its own), [`table`] knows
//! the numbers of system calls, [`compile`] makes the program.

mod compile;
mod profile;
mod table;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use barque_model::{Digest, Error, Result};
use barque_sys::child::SockFilter;

use crate::spec::{Caps, Seccomp};
use profile::{Machine, Profile};

/// Programs kept; a machine uses a handful.
const CACHE_MAX: usize = 64;

/// Longest program the kernel takes (`BPF_MAXINSNS`).
const PROGRAM_MAX: usize = 4096;

/// Largest profile read.
const PROFILE_MAX: usize = 4 << 20;

/// The built-in profile.
const DEFAULT: &str = include_str!("default.txt");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// `None`: the built-in one.
    profile: Option<Digest>,
    /// Rules depend on capabilities.
    caps: u64,
}

/// Compiled programs.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<HashMap<Key, Arc<[SockFilter]>>>);

impl Cache {
    /// The program for a process with these capabilities in its bounding set; `None`: unconfined.
    pub(crate) fn filter(&self, seccomp: &Seccomp, caps: Caps) -> Result<Option<Arc<[SockFilter]>>> {
        let text = match seccomp {
            Seccomp::Unconfined => return Ok(None),
            Seccomp::Default => None,
            Seccomp::Profile(text) => Some(text),
        };
        if text.is_some_and(|t| t.len() > PROFILE_MAX) {
            return Err(Error::invalid("the seccomp profile is larger than 4 MiB"));
        }
        let key = Key { profile: text.map(|t| Digest::of(t.as_bytes())), caps: caps.0 };
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = cache.get(&key) {
            return Ok(Some(program.clone()));
        }
        let profile = match text {
            None => Profile::parse_own(DEFAULT)?,
            Some(text) => Profile::parse_docker(text)?,
        };
        let program: Arc<[SockFilter]> = compile::program(&profile, &Machine::here(caps)).into();
        if program.len() > PROGRAM_MAX {
            return Err(Error::invalid(format!(
                "the seccomp profile needs {} instructions, the kernel takes {PROGRAM_MAX}",
                program.len()
            )));
        }
        if cache.len() >= CACHE_MAX {
            cache.clear();
        }
        cache.insert(key, program.clone());
        Ok(Some(program))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_cached_by_profile_and_capabilities() {
        let cache = Cache::default();
        let get = |s: &Seccomp, caps| cache.filter(s, Caps(caps)).unwrap();
        assert!(get(&Seccomp::Unconfined, 0).is_none());
        let a = get(&Seccomp::Default, 0).unwrap();
        assert!(Arc::ptr_eq(&a, &get(&Seccomp::Default, 0).unwrap()));
        assert_ne!(a, get(&Seccomp::Default, Caps::ALL.0).unwrap());
        let own = Seccomp::Profile(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#.into());
        assert!(get(&own, 0).unwrap().len() <= 10);
        assert!(cache.filter(&Seccomp::Profile("{".into()), Caps(0)).is_err());
    }
}
