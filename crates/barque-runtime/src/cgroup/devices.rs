//! Device rules as v1 lines and as a v2 program. Pure.

use barque_sys::bpf::Instruction;

use crate::spec::{DeviceKind, DeviceRule};

/// Values for `devices.deny` and `devices.allow`, in order: (file, value).
pub fn v1_lines(rules: &[DeviceRule]) -> Vec<(&'static str, String)> {
    let mut lines = vec![("devices.deny", "a".to_owned())];
    for rule in rules {
        let file = if rule.allow { "devices.allow" } else { "devices.deny" };
        lines.extend(v1_values(rule).into_iter().map(|value| (file, value)));
    }
    lines
}

fn v1_values(rule: &DeviceRule) -> Vec<String> {
    let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let access = [('r', rule.read), ('w', rule.write), ('m', rule.mknod)];
    let access: String = access.iter().filter(|(_, on)| *on).map(|(c, _)| *c).collect();
    if access.is_empty() {
        return Vec::new();
    }
    let line = |kind: char| format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor));
    match rule.kind {
        DeviceKind::Char => vec![line('c')],
        DeviceKind::Block => vec![line('b')],
        // The kernel's own "a" covers all of it only without numbers and with all rights.
        DeviceKind::All if rule.major.is_none() && rule.minor.is_none() && access == "rwm" => vec!["a".to_owned()],
        DeviceKind::All => vec![line('b'), line('c')],
        DeviceKind::Fifo => Vec::new(),
    }
}

const TYPE_BLOCK: i32 = 1;
const TYPE_CHAR: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;
const ACCESS_ALL: i32 = 7;

/// Registers: the context comes in 1, the verdict goes out in 0.
const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

fn insn(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: dst | src << 4, offset, immediate }
}

fn load_word(dst: u8, offset: i16) -> Instruction {
    insn(0x61, dst, CONTEXT, offset, 0)
}

fn mov(dst: u8, value: i32) -> Instruction {
    insn(0xb7, dst, 0, 0, value)
}

fn copy(dst: u8, src: u8) -> Instruction {
    insn(0xbf, dst, src, 0, 0)
}

fn and(dst: u8, mask: i32) -> Instruction {
    insn(0x57, dst, 0, 0, mask)
}

fn shift_right(dst: u8, bits: i32) -> Instruction {
    insn(0x77, dst, 0, 0, bits)
}

const JUMP_EQUAL: u8 = 0x15;
const JUMP_DIFFERENT: u8 = 0x55;

fn exit() -> Instruction {
    insn(0x95, 0, 0, 0, 0)
}

/// A program for `BPF_PROG_TYPE_CGROUP_DEVICE`: the last rule that applies decides, nothing applies: refused.
/// An allowing rule applies if it grants all that is asked for, a denying one if it denies any of it.
pub fn v2_program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        load_word(TYPE, 0),
        copy(ACCESS, TYPE),
        and(TYPE, 0xffff),
        shift_right(ACCESS, 16),
        load_word(MAJOR, 4),
        load_word(MINOR, 8),
    ];
    for rule in rules.iter().rev() {
        let mut block = rule_block(rule);
        // Every jump in the block goes to its end.
        let len = block.len();
        for (i, instruction) in block.iter_mut().enumerate() {
            if matches!(instruction.code, JUMP_EQUAL | JUMP_DIFFERENT) {
                instruction.offset = i16::try_from(len - i - 1).unwrap_or(0);
            }
        }
        let unconditional = len == 2;
        program.append(&mut block);
        if unconditional {
            // The verifier refuses code that cannot be reached.
            return program;
        }
    }
    program.extend([mov(VERDICT, 0), exit()]);
    program
}

fn rule_block(rule: &DeviceRule) -> Vec<Instruction> {
    let mut block = Vec::new();
    match rule.kind {
        DeviceKind::Char => block.push(insn(JUMP_DIFFERENT, TYPE, 0, 0, TYPE_CHAR)),
        DeviceKind::Block => block.push(insn(JUMP_DIFFERENT, TYPE, 0, 0, TYPE_BLOCK)),
        DeviceKind::All | DeviceKind::Fifo => {}
    }
    let bits = [(rule.mknod, ACCESS_MKNOD), (rule.read, ACCESS_READ), (rule.write, ACCESS_WRITE)];
    let access: i32 = bits.iter().filter(|(on, _)| *on).map(|(_, bit)| bit).sum();
    if access != ACCESS_ALL {
        block.push(copy(SCRATCH, ACCESS));
        if rule.allow {
            block.push(and(SCRATCH, ACCESS_ALL & !access));
            block.push(insn(JUMP_DIFFERENT, SCRATCH, 0, 0, 0));
        } else {
            block.push(and(SCRATCH, access));
            block.push(insn(JUMP_EQUAL, SCRATCH, 0, 0, 0));
        }
    }
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        if let Some(number) = number {
            block.push(insn(JUMP_DIFFERENT, register, 0, 0, number as i32));
        }
    }
    block.extend([mov(VERDICT, i32::from(rule.allow)), exit()]);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Executes a program of the instructions above.
    fn verdict(program: &[Instruction], kind: i32, access: i32, major: u32, minor: u32) -> bool {
        let context = [(access << 16 | kind) as u32, major, minor];
        let mut r = [0u64; 11];
        let mut pc = 0;
        loop {
            let i = program[pc];
            let (dst, src) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
            pc += 1;
            match i.code {
                0x61 => r[dst] = u64::from(context[i.offset as usize / 4]),
                0xb7 => r[dst] = i.immediate as u64,
                0xbf => r[dst] = r[src],
                0x57 => r[dst] &= i.immediate as u64,
                0x77 => r[dst] >>= i.immediate,
                JUMP_EQUAL if r[dst] == i.immediate as u64 => pc += i.offset as usize,
                JUMP_DIFFERENT if r[dst] != i.immediate as u64 => pc += i.offset as usize,
                JUMP_EQUAL | JUMP_DIFFERENT => {}
                0x95 => return r[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn dockers_default_rules() {
        let program = v2_program(&crate::defaults::device_rules());
        let (rw, m) = (ACCESS_READ | ACCESS_WRITE, ACCESS_MKNOD);
        assert!(verdict(&program, TYPE_CHAR, rw, 1, 3), "/dev/null");
        assert!(verdict(&program, TYPE_CHAR, rw | m, 136, 77), "a pseudo-terminal");
        assert!(verdict(&program, TYPE_BLOCK, m, 8, 0), "any node may be made");
        assert!(!verdict(&program, TYPE_BLOCK, ACCESS_READ, 8, 0), "but no disk read");
        assert!(!verdict(&program, TYPE_CHAR, ACCESS_WRITE, 1, 1), "nor memory written");
    }

    #[test]
    fn the_last_rule_decides_and_everything_means_everything() {
        let mut deny = DeviceRule::allow_all();
        deny.allow = false;
        (deny.kind, deny.major, deny.minor) = (DeviceKind::Block, Some(8), None);
        (deny.read, deny.mknod) = (false, false);
        let program = v2_program(&[DeviceRule::allow_all(), deny]);
        assert!(verdict(&program, TYPE_BLOCK, ACCESS_READ, 8, 1));
        assert!(!verdict(&program, TYPE_BLOCK, ACCESS_READ | ACCESS_WRITE, 8, 1));
        assert!(verdict(&program, TYPE_CHAR, ACCESS_ALL, 1, 1));
        assert!(!verdict(&v2_program(&[]), TYPE_CHAR, ACCESS_READ, 1, 3));
        assert_eq!(v2_program(&[DeviceRule::allow_all()]).len(), 8, "nothing unreachable behind");
    }

    #[test]
    fn v1_lines_start_from_nothing() {
        let lines = v1_lines(&crate::defaults::device_rules());
        assert_eq!(lines[0], ("devices.deny", "a".to_owned()));
        assert_eq!(lines[1], ("devices.allow", "c *:* m".to_owned()));
        assert_eq!(lines.last().unwrap().1, "c 136:* rwm");
        assert_eq!(v1_lines(&[DeviceRule::allow_all()])[1].1, "a");
    }
}
