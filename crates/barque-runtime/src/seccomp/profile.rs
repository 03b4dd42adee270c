//! Seccomp profiles as values: Docker's JSON, and the short notation of the built-in one.

use barque_model::{Error, Result};
use serde::Deserialize;

use super::table::Arch;
use crate::spec::Caps;

/// What happens to a call, as the kernel's return value of a filter (seccomp(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Action(pub u32);

impl Action {
    pub(super) const ALLOW: Action = Action(0x7fff_0000);
    pub(super) const LOG: Action = Action(0x7ffc_0000);
    pub(super) const KILL_THREAD: Action = Action(0);
    pub(super) const KILL_PROCESS: Action = Action(0x8000_0000);
    pub(super) const TRAP: Action = Action(0x0003_0000);

    pub(super) const fn errno(errno: u16) -> Action {
        Action(0x0005_0000 | errno as u32)
    }

    const fn trace(data: u16) -> Action {
        Action(0x7ff0_0000 | data as u32)
    }

    /// Whether a call goes through with this action.
    pub(super) fn lets_through(self) -> bool {
        matches!(self, Action::ALLOW | Action::LOG) || self.0 & 0xffff_0000 == 0x7ff0_0000
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Compare {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    /// `argument & mask == value`.
    MaskedEq,
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Arg {
    pub index: u8,
    pub compare: Compare,
    pub mask: u64,
    pub value: u64,
}

/// When a rule counts at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct When {
    /// Capabilities by bit.
    pub caps: u64,
    /// Go's names of architectures.
    pub arches: Vec<String>,
    pub min_kernel: Option<(u32, u32)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub names: Vec<String>,
    pub action: Action,
    pub args: Vec<Arg>,
    pub includes: When,
    pub excludes: When,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Profile {
    pub default: Action,
    pub arches: Vec<Arch>,
    pub rules: Vec<Rule>,
}

/// What the conditions of rules are about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    pub caps: Caps,
    pub kernel: (u32, u32),
}

impl Machine {
    pub(super) fn here(caps: Caps) -> Machine {
        let uname = rustix::system::uname();
        let kernel = parse_kernel(&uname.release().to_string_lossy()).unwrap_or((0, 0));
        Machine { caps, kernel }
    }
}

fn parse_kernel(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

impl Rule {
    /// All of `includes` must hold, and nothing of `excludes`.
    pub(super) fn counts_on(&self, machine: &Machine) -> bool {
        let native = |arches: &[String]| arches.iter().any(|a| a == "amd64");
        let (inc, exc) = (&self.includes, &self.excludes);
        let excluded = native(&exc.arches)
            || exc.caps & machine.caps.0 != 0
            || exc.min_kernel.is_some_and(|min| machine.kernel >= min);
        let included = (inc.arches.is_empty() || native(&inc.arches))
            && inc.caps & !machine.caps.0 == 0
            && inc.min_kernel.is_none_or(|min| machine.kernel >= min);
        included && !excluded
    }
}

impl Profile {
    /// The notation of `default.txt`: a line of conditions with a colon, then indented names.
    ///
    /// `allow|errno N [if|unless caps A,B|arch X,Y|kernel N.M]… [arg I OP VALUE]…:`
    pub(super) fn parse_own(text: &str) -> Result<Profile> {
        let mut profile = Profile { default: Action::errno(1), arches: Vec::new(), rules: Vec::new() };
        for line in text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()) {
            if line.starts_with(' ') {
                let rule = profile.rules.last_mut().ok_or_else(|| Error::internal("names before a rule"))?;
                rule.names.extend(line.split_ascii_whitespace().map(String::from));
            } else if let Some(head) = line.strip_suffix(':') {
                profile.rules.push(parse_head(head).ok_or_else(|| Error::internal(format!("bad rule: {line}")))?);
            } else {
                parse_setting(line, &mut profile).ok_or_else(|| Error::internal(format!("bad line: {line}")))?;
            }
        }
        Ok(profile)
    }
}

fn parse_setting(line: &str, profile: &mut Profile) -> Option<()> {
    let mut words = line.split(' ');
    match words.next()? {
        "default" => profile.default = parse_action(&mut words)?,
        "arch" => {
            for word in words {
                profile.arches.push(match word {
                    "x86_64" => Arch::X86_64,
                    "x86" => Arch::X86,
                    "x32" => Arch::X32,
                    _ => return None,
                });
            }
        }
        _ => return None,
    }
    Some(())
}

fn parse_action<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Action> {
    match words.next()? {
        "allow" => Some(Action::ALLOW),
        "errno" => Some(Action::errno(words.next()?.parse().ok()?)),
        _ => None,
    }
}

fn parse_head(head: &str) -> Option<Rule> {
    let mut words = head.split(' ');
    let action = parse_action(&mut words)?;
    let empty = Vec::new();
    let mut rule =
        Rule { names: empty, action, args: Vec::new(), includes: When::default(), excludes: When::default() };
    while let Some(word) = words.next() {
        let when = match word {
            "if" => &mut rule.includes,
            "unless" => &mut rule.excludes,
            "arg" => {
                rule.args.push(parse_arg(&mut words)?);
                continue;
            }
            _ => return None,
        };
        match words.next()? {
            "caps" => when.caps = Caps::of(&words.next()?.split(',').collect::<Vec<_>>()).ok()?.0,
            "arch" => when.arches = words.next()?.split(',').map(String::from).collect(),
            "kernel" => when.min_kernel = Some(parse_kernel(words.next()?)?),
            _ => return None,
        }
    }
    Some(rule)
}

fn parse_arg<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Arg> {
    let index = words.next()?.parse().ok().filter(|i| *i < 6)?;
    let compare = words.next()?;
    let value = words.next()?.parse().ok()?;
    let simple = |compare| Arg { index, compare, mask: u64::MAX, value };
    Some(match compare {
        "<" => simple(Compare::Lt),
        "==" => simple(Compare::Eq),
        ">" => simple(Compare::Gt),
        "&" => {
            let equals = words.next()? == "==";
            let expected = words.next()?.parse().ok().filter(|_| equals)?;
            Arg { index, compare: Compare::MaskedEq, mask: value, value: expected }
        }
        _ => return None,
    })
}

/// Docker's JSON. Fields that do not concern the filter are passed over.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerProfile {
    default_action: String,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<DockerArchMap>>,
    #[serde(default)]
    syscalls: Option<Vec<DockerRule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerRule {
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<DockerArg>>,
    #[serde(default)]
    includes: Option<DockerWhen>,
    #[serde(default)]
    excludes: Option<DockerWhen>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerArg {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerWhen {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

fn invalid(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("decoding seccomp profile failed: {what}"))
}

impl Profile {
    /// A profile of `--security-opt seccomp=FILE`.
    pub(super) fn parse_docker(json: &str) -> Result<Profile> {
        let p: DockerProfile = serde_json::from_str(json).map_err(invalid)?;
        let arches = match (p.architectures, p.arch_map) {
            (Some(a), Some(m)) if !a.is_empty() && !m.is_empty() => {
                return Err(invalid("'architectures' and 'archMap' were specified, use either of them"));
            }
            (Some(list), _) if !list.is_empty() => list,
            (_, Some(map)) => {
                let native = map.into_iter().find(|m| m.architecture == "SCMP_ARCH_X86_64");
                native.and_then(|m| m.sub_architectures).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let mut known = vec![Arch::X86_64];
        known.extend(arches.iter().filter_map(|a| match a.as_str() {
            "SCMP_ARCH_X86" => Some(Arch::X86),
            "SCMP_ARCH_X32" => Some(Arch::X32),
            _ => None,
        }));
        let rules = p.syscalls.unwrap_or_default().into_iter().map(Rule::of_docker).collect::<Result<_>>()?;
        Ok(Profile { default: action(&p.default_action, p.default_errno_ret)?, arches: known, rules })
    }
}

fn action(name: &str, errno: Option<u16>) -> Result<Action> {
    const EPERM: u16 = 1;
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::ALLOW,
        "SCMP_ACT_LOG" => Action::LOG,
        "SCMP_ACT_ERRNO" => Action::errno(errno.unwrap_or(EPERM)),
        "SCMP_ACT_TRACE" => Action::trace(errno.unwrap_or(EPERM)),
        "SCMP_ACT_TRAP" => Action::TRAP,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => Action::KILL_PROCESS,
        "SCMP_ACT_NOTIFY" => return Err(Error::not_implemented("seccomp action SCMP_ACT_NOTIFY")),
        other => return Err(invalid(format!("invalid action, \"{other}\""))),
    })
}

impl Rule {
    fn of_docker(rule: DockerRule) -> Result<Rule> {
        let mut names = rule.names.unwrap_or_default();
        if !rule.name.is_empty() {
            if !names.is_empty() {
                return Err(invalid("'name' and 'names' were specified, use either of them"));
            }
            names.push(rule.name);
        }
        let args = rule.args.unwrap_or_default().into_iter().map(Arg::of_docker).collect::<Result<_>>()?;
        Ok(Rule {
            names,
            action: action(&rule.action, rule.errno_ret)?,
            args,
            includes: When::of_docker(rule.includes)?,
            excludes: When::of_docker(rule.excludes)?,
        })
    }
}

impl Arg {
    fn of_docker(arg: DockerArg) -> Result<Arg> {
        if arg.index > 5 {
            return Err(invalid(format!("argument index {} is above 5", arg.index)));
        }
        let compare = match arg.op.as_str() {
            "SCMP_CMP_NE" => Compare::Ne,
            "SCMP_CMP_LT" => Compare::Lt,
            "SCMP_CMP_LE" => Compare::Le,
            "SCMP_CMP_EQ" => Compare::Eq,
            "SCMP_CMP_GE" => Compare::Ge,
            "SCMP_CMP_GT" => Compare::Gt,
            "SCMP_CMP_MASKED_EQ" => Compare::MaskedEq,
            other => return Err(invalid(format!("invalid operator, \"{other}\""))),
        };
        let (mask, value) =
            if compare == Compare::MaskedEq { (arg.value, arg.value_two) } else { (u64::MAX, arg.value) };
        Ok(Arg { index: arg.index, compare, mask, value })
    }
}

impl When {
    fn of_docker(when: Option<DockerWhen>) -> Result<When> {
        let Some(when) = when else { return Ok(When::default()) };
        let min_kernel = when
            .min_kernel
            .map(|text| parse_kernel(&text).ok_or_else(|| invalid(format!("invalid kernel version \"{text}\""))));
        Ok(When {
            caps: Caps::of(&when.caps.unwrap_or_default())?.0,
            arches: when.arches.unwrap_or_default(),
            min_kernel: min_kernel.transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_profile_reads() {
        let p = Profile::parse_own(super::super::DEFAULT).unwrap();
        assert_eq!((p.default, p.arches.len()), (Action::errno(1), 3));
        assert!(p.rules[0].names.len() > 350 && p.rules.len() > 30);
        let clone = p.rules.iter().find(|r| r.names == ["clone"]).unwrap();
        assert_eq!(clone.args[0].mask, 0x7e02_0000);
        assert_ne!(clone.excludes.caps, 0);
    }

    #[test]
    fn dockers_json_with_all_it_may_hold() {
        let p = Profile::parse_docker(
            r#"{"defaultAction":"SCMP_ACT_KILL","archMap":[{"architecture":"SCMP_ARCH_X86_64",
                "subArchitectures":["SCMP_ARCH_X86"]}],"syscalls":[
                {"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":38,
                 "args":[{"index":1,"value":7,"valueTwo":5,"op":"SCMP_CMP_MASKED_EQ"}],
                 "includes":{"caps":["CAP_SYS_ADMIN"],"minKernel":"4.8"},"excludes":{},"comment":"x"},
                {"name":"write","action":"SCMP_ACT_TRACE","args":null}]}"#,
        )
        .unwrap();
        assert_eq!(p.arches, [Arch::X86_64, Arch::X86]);
        assert_eq!(p.rules[0].args[0], Arg { index: 1, compare: Compare::MaskedEq, mask: 7, value: 5 });
        assert_eq!(p.rules[1].action, Action(0x7ff0_0001));
        let machine = |caps, kernel| Machine { caps: Caps(caps), kernel };
        assert!(p.rules[0].counts_on(&machine(1 << 21, (5, 0))));
        assert!(!p.rules[0].counts_on(&machine(0, (5, 0))));
        assert!(!p.rules[0].counts_on(&machine(1 << 21, (4, 7))));
    }

    #[test]
    fn bad_profiles_are_named() {
        for (text, part) in [
            ("[]", "decoding seccomp profile failed"),
            (r#"{"defaultAction":"SCMP_ACT_FLY"}"#, "SCMP_ACT_FLY"),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_KILL",
                "args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
                "above 5",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"name":"b","action":"SCMP_ACT_KILL"}]}"#,
                "either",
            ),
        ] {
            let message = Profile::parse_docker(text).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
