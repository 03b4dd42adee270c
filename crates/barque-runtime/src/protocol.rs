//! What is spoken on a monitor's socket, version 1.
//!
//! Messages both ways: version (1 byte, 1), kind (1 byte), two zero bytes, length of the rest (4 bytes,
//! little-endian), and the rest, whose integers are little-endian too. A client asks, the monitor answers each
//! question once, in order; `Wait` is answered at the end of the task. After the answer to `Attach` the
//! connection carries raw streams only (see [`crate::task::Attach`]).
//!
//! | question | rest | answer |
//! | --- | --- | --- |
//! | 1 Attach | bits: 1 stdin, 2 stdout, 4 stderr | Done, then streams |
//! | 2 Resize | rows u16, columns u16 | Done |
//! | 3 Status | | Status, with a pidfd of the task |
//! | 4 Wait | | Exit, once all output is logged and delivered |
//! | 5 ReopenLog | | Done |
//! | 6 CloseStdin | | Done |
//!
//! Anything that cannot be done is answered by Failed with an errno. The end of the connection means that the
//! monitor is gone, and the task with it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use barque_model::Timestamp;
use barque_sys::child::Report;
use barque_sys::codec::{Reader, Writer};
use barque_sys::fdpass;

use crate::task::{Attach, Exit};

const VERSION: u8 = 1;
pub(crate) const HEADER: usize = 8;
/// Longest rest of a message.
pub(crate) const REST_MAX: usize = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Attach(Attach),
    Resize {
        rows: u16,
        cols: u16,
    },
    Status,
    Wait,
    ReopenLog,
    CloseStdin,
    Done,
    Failed {
        errno: i32,
    },
    StatusIs {
        pid: i32,
        started_at: Timestamp,
        attached: u32,
        exit: Option<Exit>,
    },
    Exited(Exit),
    /// The answer to a launch: the task runs. With its pidfd.
    Launched {
        pid: i32,
        started_at: Timestamp,
        warnings: Vec<Report>,
    },
    /// The answer to a launch: it failed at `stage`.
    LaunchFailed {
        stage: Stage,
        index: u16,
        step: u8,
        errno: i32,
    },
}

/// Where a launch failed; `index` and `step` of the message say more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The request was not understood.
    Request,
    /// Making the cgroup number `index`.
    CgroupCreate,
    /// The limit number `index` (over all cgroups).
    CgroupWrite,
    /// The device program.
    Devices,
    /// Pipes, terminal or log.
    Streams,
    /// Entering another process namespace.
    PidNamespace,
    Clone,
    /// Operation `index` of the plan, at `step`.
    Operation,
    /// The child died without a word.
    Vanished,
}

const STAGES: [Stage; 9] = [
    Stage::Request,
    Stage::CgroupCreate,
    Stage::CgroupWrite,
    Stage::Devices,
    Stage::Streams,
    Stage::PidNamespace,
    Stage::Clone,
    Stage::Operation,
    Stage::Vanished,
];

fn bad() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed monitor message")
}

impl Message {
    fn kind(&self) -> u8 {
        match self {
            Message::Attach(_) => 1,
            Message::Resize { .. } => 2,
            Message::Status => 3,
            Message::Wait => 4,
            Message::ReopenLog => 5,
            Message::CloseStdin => 6,
            Message::Done => 64,
            Message::Failed { .. } => 65,
            Message::StatusIs { .. } => 66,
            Message::Exited(_) => 67,
            Message::Launched { .. } => 68,
            Message::LaunchFailed { .. } => 69,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Message::Attach(a) => w.u8(a.bits()),
            Message::Resize { rows, cols } => {
                w.u16(*rows);
                w.u16(*cols);
            }
            Message::Failed { errno } => w.u32(*errno as u32),
            Message::StatusIs { pid, started_at, attached, exit } => {
                w.u32(*pid as u32);
                w.u64(started_at.nanos() as u64);
                w.u32(*attached);
                w.bool(exit.is_some());
                if let Some(exit) = exit {
                    put_exit(&mut w, exit);
                }
            }
            Message::Exited(exit) => put_exit(&mut w, exit),
            Message::Launched { pid, started_at, warnings } => {
                w.u32(*pid as u32);
                w.u64(started_at.nanos() as u64);
                w.u32(warnings.len() as u32);
                warnings.iter().flat_map(|r| r.to_bytes()).for_each(|b| w.u8(b));
            }
            Message::LaunchFailed { stage, index, step, errno } => {
                w.u8(STAGES.iter().position(|s| s == stage).unwrap_or(0) as u8);
                w.u16(*index);
                w.u8(*step);
                w.u32(*errno as u32);
            }
            _ => {}
        }
        let rest = w.into_bytes();
        let mut message = vec![VERSION, self.kind(), 0, 0];
        message.extend_from_slice(&(rest.len() as u32).to_le_bytes());
        message.extend_from_slice(&rest);
        message
    }

    fn decode(kind: u8, rest: &[u8]) -> io::Result<Message> {
        let mut r = Reader::new(rest);
        let message = match kind {
            1 => Message::Attach(Attach::from_bits(r.u8()?)),
            2 => Message::Resize { rows: r.u16()?, cols: r.u16()? },
            3 => Message::Status,
            4 => Message::Wait,
            5 => Message::ReopenLog,
            6 => Message::CloseStdin,
            64 => Message::Done,
            65 => Message::Failed { errno: r.u32()? as i32 },
            66 => Message::StatusIs {
                pid: r.u32()? as i32,
                started_at: Timestamp::from_nanos(r.u64()? as i64),
                attached: r.u32()?,
                exit: if r.bool()? { Some(get_exit(&mut r)?) } else { None },
            },
            67 => Message::Exited(get_exit(&mut r)?),
            68 => Message::Launched {
                pid: r.u32()? as i32,
                started_at: Timestamp::from_nanos(r.u64()? as i64),
                warnings: r.list(get_report)?,
            },
            69 => Message::LaunchFailed {
                stage: *STAGES.get(usize::from(r.u8()?)).ok_or_else(bad)?,
                index: r.u16()?,
                step: r.u8()?,
                errno: r.u32()? as i32,
            },
            _ => return Err(bad()),
        };
        if r.is_empty() { Ok(message) } else { Err(bad()) }
    }

    /// The first whole message in `bytes` and its length; `None` if there is none yet.
    pub(crate) fn parse(bytes: &[u8]) -> io::Result<Option<(Message, usize)>> {
        let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let (kind, len) = parse_header(*header)?;
        match bytes.get(HEADER..HEADER + len) {
            Some(rest) => Ok(Some((Message::decode(kind, rest)?, HEADER + len))),
            None => Ok(None),
        }
    }

    pub(crate) fn send(&self, socket: impl AsFd, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        fdpass::send_all(socket, &self.encode(), fds)
    }

    /// Waits for a message; `None` at the end of the connection. Descriptors that come along go to `fds`.
    pub(crate) fn receive(socket: impl AsFd, fds: &mut Vec<OwnedFd>) -> io::Result<Option<Message>> {
        let socket = socket.as_fd();
        let mut header = [0; HEADER];
        let first = fdpass::receive(socket, &mut header, fds)?;
        if first == 0 {
            return Ok(None);
        }
        fdpass::receive_all(socket, &mut header[first..], fds)?;
        let (kind, len) = parse_header(header)?;
        let mut rest = vec![0; len];
        fdpass::receive_all(socket, &mut rest, fds)?;
        Message::decode(kind, &rest).map(Some)
    }
}

fn parse_header(header: [u8; HEADER]) -> io::Result<(u8, usize)> {
    let [version, kind, 0, 0, a, b, c, d] = header else { return Err(bad()) };
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    if version != VERSION || len > REST_MAX {
        return Err(bad());
    }
    Ok((kind, len))
}

fn get_report(r: &mut Reader<'_>) -> io::Result<Report> {
    let mut bytes = [0; Report::LEN];
    for b in &mut bytes {
        *b = r.u8()?;
    }
    Ok(Report::from_bytes(bytes))
}

fn put_exit(w: &mut Writer, exit: &Exit) {
    w.u32(exit.code as u32);
    w.u32(exit.signal.unwrap_or(0) as u32);
    w.bool(exit.oom_killed);
    w.u64(exit.finished_at.nanos() as u64);
    w.bool(exit.lost);
}

fn get_exit(r: &mut Reader<'_>) -> io::Result<Exit> {
    Ok(Exit {
        code: r.u32()? as i32,
        signal: Some(r.u32()? as i32).filter(|s| *s != 0),
        oom_killed: r.bool()?,
        finished_at: Timestamp::from_nanos(r.u64()? as i64),
        lost: r.bool()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_also_in_pieces() {
        let exit =
            Exit { code: 137, signal: Some(9), oom_killed: true, finished_at: Timestamp::from_nanos(7), lost: false };
        let report = Report { fatal: false, op: 3, step: 1, errno: 1 };
        for message in [
            Message::Attach(Attach { stdin: true, stdout: false, stderr: true }),
            Message::Resize { rows: 24, cols: 80 },
            Message::Wait,
            Message::StatusIs { pid: 9, started_at: Timestamp::from_nanos(-1), attached: 2, exit: Some(exit) },
            Message::Launched { pid: 4, started_at: Timestamp::from_nanos(5), warnings: vec![report] },
            Message::LaunchFailed { stage: Stage::Vanished, index: 2, step: 3, errno: 4 },
        ] {
            let bytes = message.encode();
            for n in 0..bytes.len() {
                assert_eq!(Message::parse(&bytes[..n]).unwrap(), None, "{message:?} cut to {n}");
            }
            assert_eq!(Message::parse(&bytes).unwrap(), Some((message, bytes.len())));
        }
    }

    #[test]
    fn rubbish_is_refused() {
        assert!(Message::parse(&[2, 3, 0, 0, 0, 0, 0, 0]).is_err(), "another version");
        assert!(Message::parse(&[1, 99, 0, 0, 0, 0, 0, 0]).is_err(), "an unknown kind");
        assert!(Message::parse(&[1, 3, 0, 0, 255, 255, 255, 255]).is_err(), "too long");
        assert!(Message::parse(&[1, 3, 0, 0, 1, 0, 0, 0, 7]).is_err(), "something behind");
    }
}
