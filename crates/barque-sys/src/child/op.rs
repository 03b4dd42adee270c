//! The operations of a launch plan and their encoding.
//!
//! The daemon encodes them, the monitor decodes them before it clones, the child executes them. Descriptors
//! are named by their place in the list sent along (`slot`).

use std::ffi::{CStr, c_char};
use std::io;
use std::marker::PhantomData;

use crate::codec::{Reader, Writer};

/// One step of a child on its way to `execve`.
#[derive(Debug)]
pub enum Op<'a> {
    /// Enter a cgroup v1 hierarchy through its open `tasks` file.
    JoinCgroup {
        slot: u16,
    },
    /// `setns` with `CLONE_NEW*` kinds; the descriptor may be a pidfd.
    SetNs {
        slot: u16,
        kinds: u32,
    },
    /// `unshare` of `CLONE_NEW*` kinds.
    Unshare {
        kinds: u32,
    },
    Hostname(&'a CStr),
    Domainname(&'a CStr),
    LoopbackUp,
    /// Join (or make) the session keyring of this name, so that the host's is not seen.
    SessionKeyring(&'a CStr),
    /// Make the detached mount in `slot` the root.
    SwitchRoot {
        slot: u16,
    },
    /// Take the present root (after `SetNs`) for the root of all further paths.
    AdoptRoot,
    /// A new file system. An option without value is a flag. `subpath` (may be empty) is what is shown of it.
    Mount {
        fs: &'a CStr,
        options: Vec<(&'a CStr, &'a CStr)>,
        subpath: &'a CStr,
        attrs: u32,
        target: &'a CStr,
    },
    /// Put the detached mount in `slot` on `target`; then set what could not be set before.
    Attach {
        slot: u16,
        target: &'a CStr,
        late: LateAttrs,
    },
    /// A directory, unless something is there.
    Mkdir {
        path: &'a CStr,
        mode: u32,
    },
    Symlink {
        to: &'a CStr,
        path: &'a CStr,
    },
    /// A node, unless something is there. `mode` holds the file type too.
    Node {
        path: &'a CStr,
        mode: u32,
        major: u32,
        minor: u32,
        uid: u32,
        gid: u32,
    },
    /// Set mount attributes (`MOUNT_ATTR_*`) of the mount `path` lies on.
    SetAttrs {
        path: &'a CStr,
        attrs: u32,
    },
    /// Set the root's propagation (`MS_*`).
    RootPropagation {
        flags: u32,
    },
    Mask(&'a CStr),
    ReadonlyPath(&'a CStr),
    /// Write below the host's `/proc`, as seen from the new namespaces. With `optional` a refusal is a warning.
    ProcWrite {
        path: &'a CStr,
        value: &'a CStr,
        optional: bool,
    },
    Rlimit {
        resource: u32,
        soft: u64,
        hard: u64,
    },
    /// Show the terminal as `/dev/console`.
    Console,
    /// New session; standard streams, controlling terminal, further descriptors from 3 on.
    Stdio {
        tty: bool,
        owner: u32,
        extra: Vec<u16>,
    },
    Cwd {
        path: &'a CStr,
        create: bool,
    },
    Umask(u32),
    /// Bounding set, ids, the other capability sets.
    Identity(Identity),
    NoNewPrivs,
    /// Instructions of a seccomp filter.
    Seccomp(Vec<SockFilter>),
    /// SIGKILL when the monitor dies.
    DieWithParent,
    /// Find the program `name` in the directories of `path`, as execvp(3) does.
    Lookup {
        name: &'a CStr,
        path: &'a CStr,
    },
    /// Become an init and go on in its child. `exe` is the slot of the program whose process it is to be
    /// ([`crate::init`]), [`NO_SLOT`] to stay what it is; `argv` what it is called.
    Init {
        exe: u16,
        argv: Pointers<'a>,
    },
    Exec {
        argv: Pointers<'a>,
        envp: Pointers<'a>,
    },
}

/// Where an operation takes a slot or none.
pub const NO_SLOT: u16 = u16::MAX;

/// Mount attributes for kernels without mount_setattr(2), set on the attached mount by mount(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LateAttrs {
    /// `MOUNT_ATTR_*`; 0: nothing to do.
    pub attrs: u32,
    /// `MS_*` propagation; 0: leave.
    pub propagation: u32,
}

/// Whom to become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

/// A classic BPF instruction (`struct sock_filter`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SockFilter {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// A NULL-terminated array of string pointers, as execve(2) takes it.
#[derive(Debug)]
pub struct Pointers<'a> {
    raw: Vec<*const c_char>,
    strings: PhantomData<&'a CStr>,
}

impl<'a> Pointers<'a> {
    pub fn new(strings: impl IntoIterator<Item = &'a CStr>) -> Pointers<'a> {
        let mut raw: Vec<*const c_char> = strings.into_iter().map(CStr::as_ptr).collect();
        raw.push(std::ptr::null());
        Pointers { raw, strings: PhantomData }
    }

    fn encode(&self, w: &mut Writer) {
        w.u32(self.raw.len() as u32 - 1);
        self.iter().for_each(|s| w.cstr(s));
    }

    pub(super) fn as_ptr(&self) -> *const *const c_char {
        self.raw.as_ptr()
    }

    pub fn iter(&self) -> impl Iterator<Item = &'a CStr> + '_ {
        let strings = &self.raw[..self.raw.len() - 1];
        // SAFETY: every pointer but the last came from a `&'a CStr` in `new`.
        strings.iter().map(|p| unsafe { CStr::from_ptr(*p) })
    }
}

impl Op<'_> {
    fn tag(&self) -> u8 {
        match self {
            Op::JoinCgroup { .. } => 1,
            Op::SetNs { .. } => 2,
            Op::Unshare { .. } => 3,
            Op::Hostname(_) => 4,
            Op::Domainname(_) => 5,
            Op::LoopbackUp => 6,
            Op::SwitchRoot { .. } => 7,
            Op::AdoptRoot => 8,
            Op::Mount { .. } => 9,
            Op::Attach { .. } => 10,
            Op::Mkdir { .. } => 11,
            Op::Symlink { .. } => 12,
            Op::Node { .. } => 13,
            Op::SetAttrs { .. } => 14,
            Op::RootPropagation { .. } => 15,
            Op::Mask(_) => 16,
            Op::ReadonlyPath(_) => 17,
            Op::ProcWrite { .. } => 18,
            Op::Rlimit { .. } => 19,
            Op::Console => 20,
            Op::Stdio { .. } => 21,
            Op::Cwd { .. } => 22,
            Op::Umask(_) => 23,
            Op::Identity(_) => 24,
            Op::NoNewPrivs => 25,
            Op::Seccomp(_) => 26,
            Op::DieWithParent => 27,
            Op::Lookup { .. } => 28,
            Op::Init { .. } => 29,
            Op::Exec { .. } => 30,
            Op::SessionKeyring(_) => 31,
        }
    }

    /// Appends this operation to `w`.
    pub fn encode(&self, w: &mut Writer) {
        w.u8(self.tag());
        match self {
            Op::JoinCgroup { slot } | Op::SwitchRoot { slot } => w.u16(*slot),
            Op::SetNs { slot, kinds } => {
                w.u16(*slot);
                w.u32(*kinds);
            }
            Op::Unshare { kinds: v } | Op::RootPropagation { flags: v } | Op::Umask(v) => w.u32(*v),
            Op::Hostname(s) | Op::Domainname(s) | Op::Mask(s) | Op::ReadonlyPath(s) | Op::SessionKeyring(s) => {
                w.cstr(s)
            }
            Op::LoopbackUp | Op::AdoptRoot | Op::Console | Op::NoNewPrivs | Op::DieWithParent => {}
            Op::Init { exe, argv } => {
                w.u16(*exe);
                argv.encode(w);
            }
            Op::Mount { .. } | Op::Attach { .. } | Op::Mkdir { .. } | Op::Symlink { .. } | Op::Node { .. } => {
                self.encode_file(w);
            }
            Op::SetAttrs { path, attrs } => {
                w.cstr(path);
                w.u32(*attrs);
            }
            Op::ProcWrite { path, value, optional } => {
                w.cstr(path);
                w.cstr(value);
                w.bool(*optional);
            }
            Op::Rlimit { resource, soft, hard } => {
                w.u32(*resource);
                w.u64(*soft);
                w.u64(*hard);
            }
            Op::Stdio { tty, owner, extra } => {
                w.bool(*tty);
                w.u32(*owner);
                w.u32(extra.len() as u32);
                extra.iter().for_each(|s| w.u16(*s));
            }
            Op::Cwd { path, create } => {
                w.cstr(path);
                w.bool(*create);
            }
            Op::Identity(id) => id.encode(w),
            Op::Seccomp(filter) => {
                w.u32(filter.len() as u32);
                for i in filter {
                    w.u16(i.code);
                    w.u8(i.jt);
                    w.u8(i.jf);
                    w.u32(i.k);
                }
            }
            Op::Lookup { name, path } => {
                w.cstr(name);
                w.cstr(path);
            }
            Op::Exec { argv, envp } => [argv, envp].into_iter().for_each(|list| list.encode(w)),
        }
    }

    fn encode_file(&self, w: &mut Writer) {
        match self {
            Op::Mount { fs, options, subpath, attrs, target } => {
                w.cstr(fs);
                w.u32(options.len() as u32);
                for (key, value) in options {
                    w.cstr(key);
                    w.cstr(value);
                }
                w.cstr(subpath);
                w.u32(*attrs);
                w.cstr(target);
            }
            Op::Attach { slot, target, late } => {
                w.u16(*slot);
                w.cstr(target);
                w.u32(late.attrs);
                w.u32(late.propagation);
            }
            Op::Mkdir { path, mode } => {
                w.cstr(path);
                w.u32(*mode);
            }
            Op::Symlink { to, path } => {
                w.cstr(to);
                w.cstr(path);
            }
            Op::Node { path, mode, major, minor, uid, gid } => {
                w.cstr(path);
                [mode, major, minor, uid, gid].into_iter().for_each(|v| w.u32(*v));
            }
            _ => {}
        }
    }

    /// Takes one operation from `r`.
    pub fn decode<'a>(r: &mut Reader<'a>) -> io::Result<Op<'a>> {
        Ok(match r.u8()? {
            1 => Op::JoinCgroup { slot: r.u16()? },
            2 => Op::SetNs { slot: r.u16()?, kinds: r.u32()? },
            3 => Op::Unshare { kinds: r.u32()? },
            4 => Op::Hostname(r.cstr()?),
            5 => Op::Domainname(r.cstr()?),
            6 => Op::LoopbackUp,
            7 => Op::SwitchRoot { slot: r.u16()? },
            8 => Op::AdoptRoot,
            9 => Op::Mount {
                fs: r.cstr()?,
                options: r.list(|r| Ok((r.cstr()?, r.cstr()?)))?,
                subpath: r.cstr()?,
                attrs: r.u32()?,
                target: r.cstr()?,
            },
            10 => Op::Attach {
                slot: r.u16()?,
                target: r.cstr()?,
                late: LateAttrs { attrs: r.u32()?, propagation: r.u32()? },
            },
            11 => Op::Mkdir { path: r.cstr()?, mode: r.u32()? },
            12 => Op::Symlink { to: r.cstr()?, path: r.cstr()? },
            13 => Op::Node {
                path: r.cstr()?,
                mode: r.u32()?,
                major: r.u32()?,
                minor: r.u32()?,
                uid: r.u32()?,
                gid: r.u32()?,
            },
            14 => Op::SetAttrs { path: r.cstr()?, attrs: r.u32()? },
            15 => Op::RootPropagation { flags: r.u32()? },
            16 => Op::Mask(r.cstr()?),
            17 => Op::ReadonlyPath(r.cstr()?),
            18 => Op::ProcWrite { path: r.cstr()?, value: r.cstr()?, optional: r.bool()? },
            19 => Op::Rlimit { resource: r.u32()?, soft: r.u64()?, hard: r.u64()? },
            20 => Op::Console,
            21 => Op::Stdio { tty: r.bool()?, owner: r.u32()?, extra: r.list(Reader::u16)? },
            22 => Op::Cwd { path: r.cstr()?, create: r.bool()? },
            23 => Op::Umask(r.u32()?),
            24 => Op::Identity(Identity::decode(r)?),
            25 => Op::NoNewPrivs,
            26 => Op::Seccomp(r.list(|r| Ok(SockFilter { code: r.u16()?, jt: r.u8()?, jf: r.u8()?, k: r.u32()? }))?),
            27 => Op::DieWithParent,
            28 => Op::Lookup { name: r.cstr()?, path: r.cstr()? },
            29 => Op::Init { exe: r.u16()?, argv: Pointers::new(r.list(Reader::cstr)?) },
            30 => Op::Exec { argv: Pointers::new(r.list(Reader::cstr)?), envp: Pointers::new(r.list(Reader::cstr)?) },
            31 => Op::SessionKeyring(r.cstr()?),
            other => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("unknown operation {other}"))),
        })
    }

    /// All operations of an encoded plan.
    pub fn decode_all(bytes: &[u8]) -> io::Result<Vec<Op<'_>>> {
        let mut r = Reader::new(bytes);
        let mut ops = Vec::new();
        while !r.is_empty() {
            ops.push(Op::decode(&mut r)?);
        }
        Ok(ops)
    }
}

impl Identity {
    fn encode(&self, w: &mut Writer) {
        w.u32(self.uid);
        w.u32(self.gid);
        w.u32(self.groups.len() as u32);
        self.groups.iter().for_each(|g| w.u32(*g));
        [self.bounding, self.effective, self.permitted, self.inheritable, self.ambient]
            .into_iter()
            .for_each(|v| w.u64(v));
    }

    fn decode(r: &mut Reader<'_>) -> io::Result<Identity> {
        Ok(Identity {
            uid: r.u32()?,
            gid: r.u32()?,
            groups: r.list(Reader::u32)?,
            bounding: r.u64()?,
            effective: r.u64()?,
            permitted: r.u64()?,
            inheritable: r.u64()?,
            ambient: r.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_comes_back_the_same() {
        let ops = vec![
            Op::SetNs { slot: 3, kinds: 0x4000_0000 },
            Op::Mount {
                fs: c"tmpfs",
                options: vec![(c"size", c"64m"), (c"ro", c"")],
                subpath: c"",
                attrs: 6,
                target: c"/dev",
            },
            Op::Attach { slot: 1, target: c"/x", late: LateAttrs { attrs: 1, propagation: 2 } },
            Op::Node { path: c"/dev/null", mode: 0o20666, major: 1, minor: 3, uid: 0, gid: 5 },
            Op::Identity(Identity { uid: 1, gid: 2, groups: vec![3, 4], bounding: 5, ..Identity::default() }),
            Op::Seccomp(vec![SockFilter { code: 6, jt: 1, jf: 2, k: 0x7fff_0000 }]),
            Op::Stdio { tty: true, owner: 7, extra: vec![1, 2] },
            Op::Exec { argv: Pointers::new([c"a", c"b"]), envp: Pointers::new([]) },
            Op::LoopbackUp,
        ];
        let mut w = Writer::new();
        ops.iter().for_each(|op| op.encode(&mut w));
        let back = Op::decode_all(w.bytes()).unwrap();
        let mut again = Writer::new();
        back.iter().for_each(|op| op.encode(&mut again));
        assert_eq!(w, again);
        match &back[7] {
            Op::Exec { argv, envp } => {
                assert_eq!(argv.iter().collect::<Vec<_>>(), [c"a", c"b"]);
                assert_eq!(envp.iter().count(), 0);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn truncated_plans_are_refused() {
        let mut w = Writer::new();
        Op::Cwd { path: c"/work", create: true }.encode(&mut w);
        for n in 1..w.bytes().len() {
            assert!(Op::decode_all(&w.bytes()[..n]).is_err(), "{n} bytes");
        }
        assert!(Op::decode_all(&[99]).is_err());
    }
}
