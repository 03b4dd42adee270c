//! Numbers of system calls by name, for the three ways into an x86 kernel.

use std::collections::HashMap;
use std::sync::OnceLock;

/// An ABI of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Arch {
    X86_64,
    /// 32-bit.
    X86,
    /// 64-bit registers, 32-bit pointers; the same audit architecture as x86-64 with bit 30 of the number set.
    X32,
}

#[cfg(test)]
impl Arch {
    pub(super) const ALL: [Arch; 3] = [Arch::X86_64, Arch::X86, Arch::X32];
}

const TEXT: &str = include_str!("syscalls.txt");

type Numbers = [Option<u32>; 3];

fn numbers() -> &'static HashMap<&'static str, Numbers> {
    static TABLE: OnceLock<HashMap<&'static str, Numbers>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = HashMap::new();
        for line in TEXT.lines().filter(|l| !l.starts_with('#')) {
            let mut words = line.split(' ');
            let Some(name) = words.next() else { continue };
            let mut next = || words.next().and_then(|n| n.parse().ok());
            table.insert(name, [next(), next(), next()]);
        }
        table
    })
}

/// The number of `name` on `arch`, for x32 without its bit 30; `None` if there is no such call.
pub(super) fn number(name: &str, arch: Arch) -> Option<u32> {
    let index = match arch {
        Arch::X86_64 => 0,
        Arch::X86 => 1,
        Arch::X32 => 2,
    };
    numbers().get(name)?[index]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_numbers() {
        assert_eq!(number("read", Arch::X86_64), Some(0));
        assert_eq!(number("read", Arch::X86), Some(3));
        assert_eq!(number("socketcall", Arch::X86_64), None);
        assert_eq!(number("rt_sigaction", Arch::X32), Some(512));
        assert_eq!(number("clone3", Arch::X86), Some(435));
        assert_eq!(number("no_such_call", Arch::X86_64), None);
    }
}
