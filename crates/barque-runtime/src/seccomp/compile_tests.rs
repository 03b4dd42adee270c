//! The compiled program executed by an interpreter, against the profile read rule by rule.

use std::collections::HashMap;

use super::*;
use crate::seccomp::DEFAULT;
use crate::seccomp::profile::Rule;
use crate::spec::Caps;

/// `struct seccomp_data`.
#[derive(Clone, Copy, Debug)]
struct Call {
    number: u32,
    arch: u32,
    args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            NUMBER => self.number,
            ARCH => self.arch,
            _ => {
                let (arg, high) = ((offset - ARGS) / 8, (offset - ARGS) % 8 == 4);
                let value = self.args[arg as usize];
                if high { (value >> 32) as u32 } else { value as u32 }
            }
        }
    }
}

/// Executes classic BPF; the value returned and the number of instructions it took.
fn execute(program: &[SockFilter], call: &Call) -> (u32, usize) {
    let (mut a, mut pc, mut steps) = (0u32, 0usize, 0);
    loop {
        let i = program[pc];
        pc += 1;
        steps += 1;
        let mut branch = |holds: bool| pc += usize::from(if holds { i.jt } else { i.jf });
        match i.code {
            LOAD => a = call.word(i.k),
            AND => a &= i.k,
            JUMP => pc += i.k as usize,
            JUMP_EQUAL => branch(a == i.k),
            JUMP_GREATER => branch(a > i.k),
            JUMP_GREATER_EQUAL => branch(a >= i.k),
            RETURN => return (i.k, steps),
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn holds(arg: &Arg, args: &[u64; 6], narrow: bool) -> bool {
    let cut = |v: u64| if narrow { u64::from(v as u32) } else { v };
    let (have, value, mask) = (cut(args[usize::from(arg.index)]), cut(arg.value), cut(arg.mask));
    match arg.compare {
        Compare::Ne => have != value,
        Compare::Lt => have < value,
        Compare::Le => have <= value,
        Compare::Eq => have == value,
        Compare::Ge => have >= value,
        Compare::Gt => have > value,
        Compare::MaskedEq => have & mask == value,
    }
}

/// The profile's own answers, the slow way.
struct Oracle<'a> {
    profile: &'a Profile,
    /// Rules that count and name a call, in their order.
    rules: HashMap<(Arch, u32), Vec<&'a Rule>>,
    newest: HashMap<Arch, u32>,
}

impl<'a> Oracle<'a> {
    fn new(profile: &'a Profile, machine: &Machine) -> Oracle<'a> {
        let mut rules: HashMap<_, Vec<_>> = HashMap::new();
        for rule in profile.rules.iter().filter(|r| r.counts_on(machine)) {
            for (arch, name) in Arch::ALL.into_iter().flat_map(|a| rule.names.iter().map(move |n| (a, n))) {
                if let Some(number) = table::number(name, arch) {
                    rules.entry((arch, number)).or_default().push(rule);
                }
            }
        }
        let mut newest = HashMap::new();
        for (arch, number) in rules.keys() {
            let n = newest.entry(*arch).or_insert(*number);
            *n = (*n).max(*number);
        }
        Oracle { profile, rules, newest }
    }

    fn answer(&self, call: &Call) -> u32 {
        let arch = match (call.arch, call.number & X32_BIT != 0) {
            (AUDIT_ARCH_X86_64, false) => Arch::X86_64,
            (AUDIT_ARCH_X86_64, true) => Arch::X32,
            (AUDIT_ARCH_I386, _) => Arch::X86,
            _ => return Action::KILL_THREAD.0,
        };
        if !self.profile.arches.contains(&arch) {
            return Action::KILL_THREAD.0;
        }
        let number = if arch == Arch::X32 { call.number - X32_BIT } else { call.number };
        // See `x32_and_native`.
        let arch = if arch == Arch::X32 && number < 512 { Arch::X86_64 } else { arch };
        let default = self.profile.default;
        let Some(matching) = self.rules.get(&(arch, number)) else {
            let younger = self.newest.get(&arch).is_some_and(|n| number > *n) && !default.lets_through();
            return if younger { Action::errno(ENOSYS).0 } else { default.0 };
        };
        if let Some(rule) = matching.iter().find(|r| r.args.is_empty()) {
            return rule.action.0;
        }
        let narrow = arch == Arch::X86;
        let applying = matching.iter().find(|r| r.args.iter().all(|a| holds(a, &call.args, narrow)));
        applying.map_or(default.0, |r| r.action.0)
    }
}

/// Values at which conditions change, and some beyond 32 bits.
const VALUES: [u64; 20] = [
    0,
    1,
    7,
    8,
    9,
    16,
    37,
    38,
    39,
    40,
    41,
    131_072,
    131_080,
    0x7e02_0000,
    0x1000_0000,
    0x0100_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0027,
    u64::MAX,
];

fn check(profile: &Profile, caps: u64, kernel: (u32, u32)) -> (usize, usize) {
    let machine = Machine { caps: Caps(caps), kernel };
    let program = program(profile, &machine);
    let oracle = Oracle::new(profile, &machine);
    let mut longest = 0;
    let numbers = (0..700).chain(X32_BIT..X32_BIT + 700).chain([u32::MAX, u32::MAX - 1, 0x8000_0000]);
    for number in numbers {
        for arch in [AUDIT_ARCH_X86_64, AUDIT_ARCH_I386, 0xc000_00b7] {
            for value in VALUES {
                let call = Call { number, arch, args: [value, value ^ 1, 0, 0, 0, value] };
                let (got, steps) = execute(&program, &call);
                assert_eq!(got, oracle.answer(&call), "{call:?} with capabilities {caps:x}");
                longest = longest.max(steps);
            }
        }
    }
    (program.len(), longest)
}

#[test]
fn the_default_profile_call_by_call() {
    let profile = Profile::parse_own(DEFAULT).unwrap();
    for caps in [0, crate::defaults::caps().0, Caps::ALL.0, 1 << 21, 1 << 39] {
        let (len, longest) = check(&profile, caps, (6, 1));
        assert!(len < 600, "{len} instructions");
        assert!(longest < 40, "{longest} steps");
    }
    check(&profile, 0, (4, 7));
}

#[test]
fn every_comparison_on_all_halves() {
    let rule = |compare, mask, value| {
        let arg = Arg { index: 0, compare, mask, value };
        let other = Arg { index: 5, compare: Compare::Ge, mask: u64::MAX, value: 8 };
        Rule {
            names: vec!["read".into(), "socket".into()],
            action: Action::errno(5),
            args: vec![arg, other],
            includes: Default::default(),
            excludes: Default::default(),
        }
    };
    for compare in [Compare::Ne, Compare::Lt, Compare::Le, Compare::Eq, Compare::Ge, Compare::Gt, Compare::MaskedEq] {
        for value in VALUES {
            let profile = Profile {
                default: Action::ALLOW,
                arches: Arch::ALL.to_vec(),
                rules: vec![rule(compare, 0x1_0000_00ff, value)],
            };
            let machine = Machine { caps: Caps(0), kernel: (6, 0) };
            let program = program(&profile, &machine);
            let oracle = Oracle::new(&profile, &machine);
            for arch in [AUDIT_ARCH_X86_64, AUDIT_ARCH_I386] {
                for number in [0, 3, 41, 359] {
                    for have in VALUES {
                        let call = Call { number, arch, args: [have, 0, 0, 0, 0, have] };
                        let (got, _) = execute(&program, &call);
                        assert_eq!(got, oracle.answer(&call), "{compare:?} {value:#x} {call:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn absent_abis_are_killed() {
    let profile = Profile { default: Action::ALLOW, arches: vec![Arch::X86_64], rules: Vec::new() };
    let machine = Machine { caps: Caps(0), kernel: (6, 0) };
    let program = program(&profile, &machine);
    let run = |number, arch| execute(&program, &Call { number, arch, args: [0; 6] }).0;
    assert_eq!(run(0, AUDIT_ARCH_X86_64), Action::ALLOW.0);
    assert_eq!(run(X32_BIT, AUDIT_ARCH_X86_64), Action::KILL_THREAD.0);
    assert_eq!(run(0, AUDIT_ARCH_I386), Action::KILL_THREAD.0);
}
