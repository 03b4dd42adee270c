//! Profile → classic BPF. For each ABI the numbers are merged into ranges of equal fate and searched by halves,
//! so that a call passes some eight comparisons instead of hundreds.
//!
//! As libseccomp does: an unconditional rule for a call wins over conditional ones; of these the first that
//! applies decides. As runc does: calls younger than any the profile names get ENOSYS instead of the default,
//! so that programs fall back to older ones.

use std::collections::BTreeMap;

use barque_sys::child::SockFilter;

use super::profile::{Action, Arg, Compare, Machine, Profile};
use super::table::{self, Arch};

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const X32_BIT: u32 = 0x4000_0000;
/// The first of x32's own numbers.
const X32_OWN: u32 = X32_BIT | 512;
const ENOSYS: u16 = 38;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fate {
    /// Conditions, all of which must hold, and then what.
    choices: Vec<(Vec<Arg>, Action)>,
    otherwise: Action,
}

impl Fate {
    fn plain(action: Action) -> Fate {
        Fate { choices: Vec::new(), otherwise: action }
    }
}

/// Compiles `profile` for a process on `machine`.
pub(super) fn program(profile: &Profile, machine: &Machine) -> Vec<SockFilter> {
    let killed = || vec![ret(Action::KILL_THREAD)];
    let tree = |arch| search(&ranges(profile, machine, arch), arch == Arch::X86);
    let has = |arch| profile.arches.contains(&arch);
    let native = match has(Arch::X32) {
        true => x32_and_native(tree(Arch::X86_64), &ranges(profile, machine, Arch::X32)),
        false => select(JUMP_GREATER_EQUAL, X32_BIT, killed(), tree(Arch::X86_64)),
    };
    let compat = if has(Arch::X86) { tree(Arch::X86) } else { killed() };
    let with_number = |code: Vec<SockFilter>| [vec![load(NUMBER)], code].concat();
    let other = select(JUMP_EQUAL, AUDIT_ARCH_I386, with_number(compat), killed());
    [vec![load(ARCH)], select(JUMP_EQUAL, AUDIT_ARCH_X86_64, with_number(native), other)].concat()
}

/// x32 has x86-64's numbers with bit 30 set, and a few of its own from 512 on; numbers of x86-64 alone do not
/// exist there, so their fate does not matter and one tree serves both.
fn x32_and_native(native: Vec<SockFilter>, x32: &[(u32, Fate)]) -> Vec<SockFilter> {
    let first_own = x32.iter().rposition(|(number, _)| *number <= X32_OWN).unwrap_or(0);
    let own = search(&x32[first_own..], false);
    if own.len() > 250 {
        return select(JUMP_GREATER_EQUAL, X32_BIT, search(x32, false), native);
    }
    let mut code = vec![
        instruction(JUMP_GREATER_EQUAL, X32_BIT, 0, own.len() + 2),
        instruction(JUMP_GREATER_EQUAL, X32_OWN, 0, own.len()),
    ];
    code.extend(own);
    code.push(instruction(AND, !X32_BIT, 0, 0));
    code.extend(native);
    code
}

/// The fates of all numbers of `arch`: each holds from its number up to the next.
fn ranges(profile: &Profile, machine: &Machine, arch: Arch) -> Vec<(u32, Fate)> {
    let fates = fates(profile, machine, arch);
    let offset = if arch == Arch::X32 { X32_BIT } else { 0 };
    let default = Fate::plain(profile.default);
    let mut list: Vec<(u32, Fate)> = Vec::new();
    let mut put = |start: u32, fate: &Fate| {
        if list.last().is_none_or(|(_, last)| last != fate) {
            list.push((start, fate.clone()));
        }
    };
    let mut next = 0;
    for (number, fate) in &fates {
        if *number > next {
            put(next + offset, &default);
        }
        put(number + offset, fate);
        next = number + 1;
    }
    let younger = match profile.default {
        action if action.lets_through() || fates.is_empty() => default.clone(),
        _ => Fate::plain(Action::errno(ENOSYS)),
    };
    put(next + offset, &younger);
    list
}

/// The fate of every call a counting rule names.
fn fates(profile: &Profile, machine: &Machine, arch: Arch) -> BTreeMap<u32, Fate> {
    let mut fates: BTreeMap<u32, Fate> = BTreeMap::new();
    let mut settled: Vec<u32> = Vec::new();
    for rule in profile.rules.iter().filter(|r| r.counts_on(machine)) {
        for number in rule.names.iter().filter_map(|n| table::number(n, arch)) {
            if settled.contains(&number) {
                continue;
            }
            let fate = fates.entry(number).or_insert_with(|| Fate::plain(profile.default));
            if rule.args.is_empty() {
                *fate = Fate::plain(rule.action);
                settled.push(number);
            } else if has_repeated_index(&rule.args) {
                // Two conditions on one argument are alternatives, as runc reads them.
                fate.choices.extend(rule.args.iter().map(|a| (vec![*a], rule.action)));
            } else {
                fate.choices.push((rule.args.clone(), rule.action));
            }
        }
    }
    fates
}

fn has_repeated_index(args: &[Arg]) -> bool {
    args.iter().enumerate().any(|(i, a)| args[..i].iter().any(|b| b.index == a.index))
}

/// A binary search over `ranges`, which are sorted and not empty.
fn search(ranges: &[(u32, Fate)], narrow: bool) -> Vec<SockFilter> {
    match ranges {
        [] => vec![ret(Action::KILL_THREAD)],
        [(_, fate)] => leaf(fate, narrow),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            select(JUMP_GREATER_EQUAL, high[0].0, search(high, narrow), search(low, narrow))
        }
    }
}

fn instruction(code: u16, k: u32, jt: usize, jf: usize) -> SockFilter {
    // Callers keep short jumps short; a wrong length would show in every test.
    SockFilter { code, jt: jt as u8, jf: jf as u8, k }
}

fn load(offset: u32) -> SockFilter {
    instruction(LOAD, offset, 0, 0)
}

fn ret(action: Action) -> SockFilter {
    instruction(RETURN, action.0, 0, 0)
}

/// `if accumulator <compare> k { yes } else { no }`; both parts end with a return.
fn select(compare: u16, k: u32, yes: Vec<SockFilter>, no: Vec<SockFilter>) -> Vec<SockFilter> {
    let mut code = Vec::with_capacity(yes.len() + no.len() + 2);
    if no.len() <= 255 {
        code.push(instruction(compare, k, no.len(), 0));
    } else {
        code.push(instruction(compare, k, 0, 1));
        code.push(instruction(JUMP, no.len() as u32, 0, 0));
    }
    code.extend(no);
    code.extend(yes);
    code
}

/// A call's conditions one after the other. `narrow`: the ABI has 32-bit arguments.
fn leaf(fate: &Fate, narrow: bool) -> Vec<SockFilter> {
    let mut code = Vec::new();
    for (args, action) in &fate.choices {
        let tests: Vec<Test> = args.iter().map(|a| test(a, narrow)).collect();
        let mut left: usize = tests.iter().map(|t| t.0.len()).sum();
        for Test(steps) in tests {
            let len = steps.len();
            for (i, (code_of, k, on_true, on_false)) in steps.into_iter().enumerate() {
                // From the next instruction: to the end of the test, or past the return behind all tests.
                let (rest_of_test, rest_of_all) = (len - i - 1, left - i - 1);
                let distance = |go| match go {
                    Go::On => 0,
                    Go::Holds => rest_of_test,
                    Go::Fails => rest_of_all + 1,
                };
                code.push(instruction(code_of, k, distance(on_true), distance(on_false)));
            }
            left -= len;
        }
        code.push(ret(*action));
    }
    code.push(ret(fate.otherwise));
    code
}

/// Where a step of a test leads.
#[derive(Clone, Copy)]
enum Go {
    On,
    Holds,
    Fails,
}

/// Steps: instruction, operand, where to if true and if false.
struct Test(Vec<(u16, u32, Go, Go)>);

/// The test of one argument, upper half first.
fn test(arg: &Arg, narrow: bool) -> Test {
    use Go::{Fails, Holds, On};
    let at = ARGS + 8 * u32::from(arg.index);
    let half = |v: u64, high: bool| if high { (v >> 32) as u32 } else { v as u32 };
    let mut steps = Vec::new();
    for high in [true, false] {
        if high && narrow {
            continue;
        }
        steps.push((LOAD, at + if high { 4 } else { 0 }, On, On));
        if arg.compare == Compare::MaskedEq {
            steps.push((AND, half(arg.mask, high), On, On));
        }
        let value = half(arg.value, high);
        match (arg.compare, high) {
            (Compare::Eq | Compare::MaskedEq, _) => steps.push((JUMP_EQUAL, value, On, Fails)),
            (Compare::Ne, true) => steps.push((JUMP_EQUAL, value, On, Holds)),
            (Compare::Ne, false) => steps.push((JUMP_EQUAL, value, Fails, On)),
            (Compare::Gt | Compare::Ge, true) => {
                steps.push((JUMP_GREATER, value, Holds, On));
                steps.push((JUMP_EQUAL, value, On, Fails));
            }
            (Compare::Gt, false) => steps.push((JUMP_GREATER, value, On, Fails)),
            (Compare::Ge, false) => steps.push((JUMP_GREATER_EQUAL, value, On, Fails)),
            (Compare::Lt | Compare::Le, true) => {
                steps.push((JUMP_GREATER, value, Fails, On));
                steps.push((JUMP_EQUAL, value, On, Holds));
            }
            (Compare::Lt, false) => steps.push((JUMP_GREATER_EQUAL, value, Fails, On)),
            (Compare::Le, false) => steps.push((JUMP_GREATER, value, Fails, On)),
        }
    }
    Test(steps)
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
