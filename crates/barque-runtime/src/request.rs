//! What the daemon sends to a fresh monitor: the encoded plan and what surrounds it. Descriptors travel beside
//! it; the request names them by their place in that list.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use barque_sys::bpf::Instruction;
use barque_sys::codec::{Reader, Writer};
use barque_sys::fdpass;

use crate::task::Attach;

const MAGIC: u32 = 0x3151_5242;
/// Largest request: arguments and environment of 6 MiB, and room for the rest.
const BODY_MAX: usize = 16 << 20;
const FDS_MAX: usize = 4096;

/// Place of a descriptor in the list sent along.
pub(crate) type FdIndex = u16;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    /// Shown in the monitor's command line.
    pub title: String,
    /// Encoded [`barque_sys::child::Op`]s, in pieces small enough for the codec.
    pub ops: Vec<u8>,
    /// The first so many descriptors are the plan's slots; the monitor puts one per v1 cgroup before them.
    pub slots: u16,
    /// `CLONE_NEW*` for the child.
    pub namespaces: u32,
    /// Namespace of processes (or pidfd) to be born in.
    pub pid_namespace: Option<FdIndex>,
    pub run_dir: FdIndex,
    pub proc: FdIndex,
    pub listen: FdIndex,
    /// Master of the terminal; the streams are pipes without.
    pub master: Option<FdIndex>,
    pub cgroups: Vec<CgroupRequest>,
    pub stdin: bool,
    pub stdin_once: bool,
    pub log: Option<LogRequest>,
    pub attachments: Vec<(FdIndex, Attach)>,
    /// Kept open until the exit has been reported: the root's file system is synced only then.
    pub hold: Option<FdIndex>,
    /// Number of the lowest descriptor the child's own may have: those below are for the task.
    pub fd_floor: u16,
}

/// A cgroup to make or to join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CgroupRequest {
    /// Directory of the parent group, or of the group itself if it is only joined.
    pub dir: FdIndex,
    pub v2: bool,
    /// Name of the group to be made; `None`: join.
    pub create: Option<String>,
    pub writes: Vec<(String, String, bool)>,
    /// v2: decides over devices.
    pub devices: Vec<Instruction>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogRequest {
    pub dir: FdIndex,
    pub name: String,
    pub max_size: Option<u64>,
    pub max_files: u32,
}

impl Request {
    fn encode(&self) -> io::Result<Vec<u8>> {
        let mut w = Writer::new();
        put_str(&mut w, &self.title)?;
        w.u32(self.ops.len().div_ceil(PIECE) as u32);
        self.ops.chunks(PIECE).for_each(|piece| w.blob(piece));
        w.u16(self.slots);
        w.u32(self.namespaces);
        put_index(&mut w, self.pid_namespace);
        [self.run_dir, self.proc, self.listen].into_iter().for_each(|i| w.u16(i));
        put_index(&mut w, self.master);
        w.u32(self.cgroups.len() as u32);
        for cgroup in &self.cgroups {
            cgroup.encode(&mut w)?;
        }
        w.bool(self.stdin);
        w.bool(self.stdin_once);
        w.bool(self.log.is_some());
        if let Some(log) = &self.log {
            w.u16(log.dir);
            put_str(&mut w, &log.name)?;
            w.u64(log.max_size.unwrap_or(0));
            w.u32(log.max_files);
        }
        w.u32(self.attachments.len() as u32);
        for (fd, streams) in &self.attachments {
            w.u16(*fd);
            w.u8(streams.bits());
        }
        put_index(&mut w, self.hold);
        w.u16(self.fd_floor);
        Ok(w.into_bytes())
    }

    fn decode(body: &[u8]) -> io::Result<Request> {
        let r = &mut Reader::new(body);
        Ok(Request {
            title: get_str(r)?,
            ops: r.list(|r| r.blob().map(<[u8]>::to_vec))?.concat(),
            slots: r.u16()?,
            namespaces: r.u32()?,
            pid_namespace: get_index(r)?,
            run_dir: r.u16()?,
            proc: r.u16()?,
            listen: r.u16()?,
            master: get_index(r)?,
            cgroups: r.list(CgroupRequest::decode)?,
            stdin: r.bool()?,
            stdin_once: r.bool()?,
            log: if r.bool()? { Some(LogRequest::decode(r)?) } else { None },
            attachments: r.list(|r| Ok((r.u16()?, Attach::from_bits(r.u8()?))))?,
            hold: get_index(r)?,
            fd_floor: r.u16()?,
        })
    }

    /// Sends this and `fds` over a stream socket.
    pub(crate) fn send(&self, socket: impl AsFd, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let body = self.encode()?;
        if body.len() > BODY_MAX || fds.len() > FDS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "arguments and environment are too long"));
        }
        let mut bytes = Vec::with_capacity(body.len() + 12);
        for word in [MAGIC, body.len() as u32, fds.len() as u32] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&body);
        fdpass::send_all(socket, &bytes, fds)
    }

    /// Receives a request and its descriptors.
    pub(crate) fn receive(socket: impl AsFd) -> io::Result<(Request, Vec<OwnedFd>)> {
        let socket = socket.as_fd();
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "malformed request");
        let (mut header, mut fds) = ([0; 12], Vec::new());
        fdpass::receive_all(socket, &mut header, &mut fds)?;
        let r = &mut Reader::new(&header);
        let (magic, len, count) = (r.u32()?, r.u32()? as usize, r.u32()? as usize);
        if magic != MAGIC || len > BODY_MAX || count > FDS_MAX {
            return Err(bad());
        }
        let mut body = vec![0; len];
        fdpass::receive_all(socket, &mut body, &mut fds)?;
        if fds.len() != count {
            return Err(bad());
        }
        Ok((Request::decode(&body)?, fds))
    }
}

/// Largest blob put into the request at once.
const PIECE: usize = 512 << 10;

impl CgroupRequest {
    fn encode(&self, w: &mut Writer) -> io::Result<()> {
        w.u16(self.dir);
        w.bool(self.v2);
        w.bool(self.create.is_some());
        if let Some(name) = &self.create {
            put_str(w, name)?;
        }
        w.u32(self.writes.len() as u32);
        for (file, value, optional) in &self.writes {
            put_str(w, file)?;
            put_str(w, value)?;
            w.bool(*optional);
        }
        w.u32(self.devices.len() as u32);
        for i in &self.devices {
            w.u8(i.code);
            w.u8(i.registers);
            w.u16(i.offset as u16);
            w.u32(i.immediate as u32);
        }
        Ok(())
    }

    fn decode(r: &mut Reader<'_>) -> io::Result<CgroupRequest> {
        Ok(CgroupRequest {
            dir: r.u16()?,
            v2: r.bool()?,
            create: if r.bool()? { Some(get_str(r)?) } else { None },
            writes: r.list(|r| Ok((get_str(r)?, get_str(r)?, r.bool()?)))?,
            devices: r.list(|r| {
                Ok(Instruction {
                    code: r.u8()?,
                    registers: r.u8()?,
                    offset: r.u16()? as i16,
                    immediate: r.u32()? as i32,
                })
            })?,
        })
    }
}

impl LogRequest {
    fn decode(r: &mut Reader<'_>) -> io::Result<LogRequest> {
        Ok(LogRequest {
            dir: r.u16()?,
            name: get_str(r)?,
            max_size: Some(r.u64()?).filter(|n| *n > 0),
            max_files: r.u32()?,
        })
    }
}

fn put_str(w: &mut Writer, s: &str) -> io::Result<()> {
    let s = CString::new(s).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a string holds a NUL byte"))?;
    w.cstr(&s);
    Ok(())
}

fn get_str(r: &mut Reader<'_>) -> io::Result<String> {
    let s = r.cstr()?.to_str().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    Ok(s.to_owned())
}

fn put_index(w: &mut Writer, index: Option<FdIndex>) {
    w.u16(index.unwrap_or(FdIndex::MAX));
}

fn get_index(r: &mut Reader<'_>) -> io::Result<Option<FdIndex>> {
    Ok(Some(r.u16()?).filter(|i| *i != FdIndex::MAX))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_request_arrives_whole_with_its_descriptors() {
        let request = Request {
            title: "c1".into(),
            ops: vec![7; PIECE + 10],
            slots: 3,
            namespaces: 0x2000_0000,
            master: Some(4),
            cgroups: vec![CgroupRequest {
                dir: 5,
                v2: true,
                create: Some("x".into()),
                writes: vec![("pids.max".into(), "5".into(), false)],
                devices: vec![Instruction { code: 0xb7, registers: 0, offset: -1, immediate: -2 }],
            }],
            log: Some(LogRequest { dir: 6, name: "l".into(), max_size: Some(10), max_files: 2 }),
            attachments: vec![(7, Attach { stdin: true, stdout: true, stderr: false })],
            ..Request::default()
        };
        let (a, b) = UnixStream::pair().unwrap();
        let stdin = rustix::stdio::stdin();
        std::thread::scope(|scope| {
            scope.spawn(|| request.send(&a, &[stdin; 300]).unwrap());
            let (back, fds) = Request::receive(&b).unwrap();
            assert_eq!(back, request);
            assert_eq!(fds.len(), 300);
        });
    }

    #[test]
    fn rubbish_is_refused() {
        let (a, b) = UnixStream::pair().unwrap();
        fdpass::send_all(&a, &[0; 12], &[]).unwrap();
        assert!(Request::receive(&b).is_err());
    }
}
