//! The loop of a monitor: bytes between task, log and clients, questions, and the end.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use barque_model::Timestamp;
use barque_sys::pty;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::client::{Client, Input, QUEUE_MAX, Role};
use super::launch::Running;
use super::stdin::Stdin;
use super::{log::Log, record};
use crate::protocol::{HEADER, Message, REST_MAX};
use crate::task::Exit;

/// Bytes read from the task at once.
const CHUNK: usize = 32 << 10;

/// Length of a frame's header, Docker's stdcopy format.
const FRAME: usize = 8;

const CLIENTS_MAX: usize = 1024;

/// How long output is waited for after the task has ended, while other processes hold its streams open.
const LINGER: Duration = Duration::from_secs(2);

/// How long after that it is read, to nobody. A write to a closed pipe ends its process: a database, first process of
/// its container, whose check was killed takes that for the crash of a process of its own.
const LATE: Duration = Duration::from_secs(10);

/// How long a client that takes nothing (a pager that waits for a key) is kept after the task has ended.
const CLIENT_PATIENCE: Duration = Duration::from_secs(600);

/// Most bytes of one stream that are still read once it is given up: a full pipe.
const LATE_MAX: usize = 1 << 20;

/// Between looks at the clock after the task has ended.
const TICK: Duration = Duration::from_millis(100);

/// Without anything to do for this long, memory is given back.
const REST_AFTER: Duration = Duration::from_secs(1);

/// Serves `task` to its end; `connection` is told of it.
pub(super) fn run(mut task: Running, connection: OwnedFd) -> i32 {
    // From here on nothing waits for a single client.
    let _ = rustix::io::ioctl_fionbio(&connection, true);
    let _ = rustix::io::ioctl_fionbio(&task.listen, true);
    let mut clients = vec![Client::waiting(connection)];
    clients.extend(task.attachments.drain(..).map(|(fd, streams)| Client::attached(fd, streams)));
    let stdin = Stdin::new(task.stdin.take(), task.master.is_some());
    let outputs = std::mem::take(&mut task.outputs);
    let log = task.log.take();
    let mut pump = Pump {
        task,
        clients,
        stdin,
        outputs,
        late: [None, None],
        log,
        ended: None,
        progress: Instant::now(),
        rests: false,
        buffer: Vec::new(),
    };
    while !pump.is_done() {
        pump.turn();
    }
    pump.finish();
    pump.serve_slow_readers();
    pump.read_to_nobody();
    0
}

struct Pump {
    task: Running,
    clients: Vec<Client>,
    stdin: Stdin,
    outputs: [Option<OwnedFd>; 2],
    /// Streams that were given up, whose end was reported.
    late: [Option<OwnedFd>; 2],
    log: Option<Log>,
    ended: Option<Ended>,
    /// When a byte moved last.
    progress: Instant,
    /// Nothing happened for [`REST_AFTER`].
    rests: bool,
    buffer: Vec<u8>,
}

/// How and when the task's process ended.
#[derive(Clone, Copy)]
struct Ended {
    code: i32,
    signal: Option<i32>,
    finished_at: Timestamp,
    at: Instant,
}

/// What a polled descriptor stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Task,
    Listen,
    Output(usize),
    Stdin,
    Client(usize),
}

impl Pump {
    /// Ended, and all output read. Who reads slowly gets the rest of it after the end is reported.
    fn is_done(&self) -> bool {
        self.ended.is_some() && self.outputs.iter().all(Option::is_none)
    }

    /// Delivers what attached clients have not taken yet.
    fn serve_slow_readers(&mut self) {
        self.progress = Instant::now();
        while !self.clients.is_empty() && self.progress.elapsed() < CLIENT_PATIENCE {
            self.turn();
            self.clients.retain(|c| c.queued() > 0);
        }
    }

    fn turn(&mut self) {
        for (token, events) in self.wait() {
            match token {
                Token::Task => self.reap(),
                Token::Listen => self.accept(),
                Token::Output(stream) => drop(self.read_output(stream)),
                Token::Stdin => self.stdin.flush(),
                Token::Client(i) => self.serve_client(i, events),
            }
        }
        self.clients.retain(|c| !is_dropped(c));
        self.give_up_waiting();
    }

    /// Waits for something to happen. Most monitors wait for days: what only work needs is given back after a while.
    fn wait(&mut self) -> Vec<(Token, PollFlags)> {
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(self.clients.len() + 5);
        let mut tokens = Vec::with_capacity(self.clients.len() + 5);
        let mut add = |token, fd, flags| {
            tokens.push(token);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        if self.ended.is_none() {
            add(Token::Task, self.task.pidfd.as_fd(), PollFlags::IN);
        }
        if self.clients.len() < CLIENTS_MAX {
            add(Token::Listen, self.task.listen.as_fd(), PollFlags::IN);
        }
        for (stream, output) in self.outputs.iter().enumerate() {
            if let Some(fd) = output
                && !self.is_congested(stream)
            {
                add(Token::Output(stream), fd.as_fd(), PollFlags::IN);
            }
        }
        if let Some(fd) = self.stdin.waits_for() {
            add(Token::Stdin, fd, PollFlags::OUT);
        }
        for (i, client) in self.clients.iter().enumerate() {
            let mut events = PollFlags::empty();
            match &client.role {
                Role::Questions { .. } => events |= PollFlags::IN,
                Role::Dropped => continue,
                // It would be ready at once, over and over.
                Role::Attached { .. } if client.deaf && !self.stdin.accepts_more() => continue,
                Role::Attached { queue, input_open, .. } => {
                    if *input_open && self.stdin.accepts_more() {
                        events |= PollFlags::IN;
                    }
                    if !queue.is_empty() {
                        events |= PollFlags::OUT;
                    }
                }
            }
            add(Token::Client(i), client.fd.as_fd(), events);
        }
        let timeout = if self.ended.is_some() { Some(TICK) } else { (!self.rests).then_some(REST_AFTER) };
        if self.rests {
            // Right before the call: what runs now is in use again.
            barque_sys::memory::release_code();
        }
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) if self.ended.is_none() => {
                drop(fds);
                self.rests = true;
                self.buffer = Vec::new();
                return Vec::new();
            }
            Ok(_) => self.rests = false,
            // Interrupted, or out of memory for a moment.
            Err(_) => return Vec::new(),
        }
        let ready = tokens.into_iter().zip(fds.iter().map(PollFd::revents));
        ready.filter(|(_, events)| !events.is_empty()).collect()
    }

    /// Whether some client of `stream` has as much waiting as we keep for it. What is left in the pipe after the end
    /// is taken, so that the end can be reported.
    fn is_congested(&self, stream: usize) -> bool {
        let limit = if self.ended.is_some() { QUEUE_MAX + LATE_MAX } else { QUEUE_MAX };
        self.clients.iter().any(|c| c.takes(stream) && c.queued() >= limit)
    }

    fn reap(&mut self) {
        let id = WaitId::PidFd(self.task.pidfd.as_fd());
        let Ok(Some(status)) = waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) else { return };
        let signal = status.terminating_signal();
        let code = status.exit_status().unwrap_or_else(|| 128 + signal.unwrap_or(0));
        if self.task.kill_rest {
            self.task.groups.kill();
        }
        self.ended = Some(Ended { code, signal, finished_at: Timestamp::now(), at: Instant::now() });
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        if let Ok(fd) = rustix::net::accept_with(&self.task.listen, flags) {
            self.clients.push(Client::asking(fd));
        }
    }

    /// Passes one chunk of output on; its bytes. With a terminal there is one stream and no frames.
    fn read_output(&mut self, stream: usize) -> usize {
        let Some(fd) = &self.outputs[stream] else { return 0 };
        let mut taken = 0;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(FRAME + CHUNK, 0);
        match rustix::io::read(fd, &mut buffer[FRAME..]) {
            Ok(0) => self.outputs[stream] = None,
            Ok(n) => {
                let framed = self.task.master.is_none();
                buffer[..FRAME].copy_from_slice(&frame_header(stream, n));
                let bytes = &buffer[if framed { 0 } else { FRAME }..FRAME + n];
                for client in self.clients.iter_mut().filter(|c| c.takes(stream)) {
                    if !client.deliver(bytes) && !client.leaves_input() {
                        drop_client(client);
                    }
                }
                if let Some(log) = &mut self.log {
                    log.write(stream, &buffer[FRAME..FRAME + n], Timestamp::now().nanos());
                }
                self.progress = Instant::now();
                taken = n;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A terminal whose other side is closed everywhere says EIO.
            Err(_) => self.outputs[stream] = None,
        }
        self.buffer = buffer;
        taken
    }

    fn serve_client(&mut self, i: usize, events: PollFlags) {
        let Some(client) = self.clients.get_mut(i) else { return };
        if events.contains(PollFlags::OUT) {
            match client.flush() {
                Some(0) => {}
                Some(_) => self.progress = Instant::now(),
                None if client.leaves_input() => {}
                None => return self.lose_client(i),
            }
        }
        if events.contains(PollFlags::IN) {
            self.read_client(i);
        } else if events.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) && !client.leaves_input() {
            self.lose_client(i);
        }
    }

    fn read_client(&mut self, i: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(FRAME + CHUNK, 0);
        let client = &mut self.clients[i];
        match client.read(&mut buffer) {
            Input::Bytes(n) => match &mut client.role {
                Role::Attached { .. } => self.stdin.push(&buffer[..n]),
                Role::Questions { input, .. } => {
                    input.extend_from_slice(&buffer[..n]);
                    self.answer_questions(i);
                }
                Role::Dropped => {}
            },
            Input::Nothing => {}
            Input::End => match &mut client.role {
                Role::Attached { input_open, .. } => {
                    *input_open = false;
                    self.input_ended();
                }
                Role::Questions { .. } | Role::Dropped => drop_client(client),
            },
            Input::Gone => self.lose_client(i),
        }
        self.buffer = buffer;
    }

    /// The connection of a client is broken; for the task that is the end of what it typed, too.
    fn lose_client(&mut self, i: usize) {
        let client = &mut self.clients[i];
        let was_typing = matches!(client.role, Role::Attached { input_open: true, .. });
        drop_client(client);
        if was_typing {
            self.input_ended();
        }
    }

    fn input_ended(&mut self) {
        if self.task.stdin_once {
            self.stdin.close();
        }
    }

    fn answer_questions(&mut self, i: usize) {
        loop {
            let Role::Questions { input, .. } = &mut self.clients[i].role else { return };
            match Message::parse(input) {
                Ok(Some((message, len))) => {
                    input.drain(..len);
                    if !self.answer(i, &message) {
                        return drop_client(&mut self.clients[i]);
                    }
                }
                Ok(None) if input.len() <= HEADER + REST_MAX => return,
                _ => return drop_client(&mut self.clients[i]),
            }
        }
    }

    /// Does what is asked; false if the client is gone.
    fn answer(&mut self, i: usize, question: &Message) -> bool {
        let done = |r: Result<(), Errno>| match r {
            Ok(()) => Message::Done,
            Err(e) => Message::Failed { errno: e.raw_os_error() },
        };
        let answer = match question {
            Message::Attach(streams) => {
                if !self.clients[i].answer(&Message::Done, None) {
                    return false;
                }
                let Role::Questions { input, .. } = &mut self.clients[i].role else { return false };
                let early = std::mem::take(input);
                self.clients[i].role =
                    Role::Attached { streams: *streams, queue: Default::default(), input_open: streams.stdin };
                if streams.stdin {
                    self.stdin.push(&early);
                }
                return true;
            }
            Message::Wait => {
                if let Role::Questions { waits, .. } = &mut self.clients[i].role {
                    *waits = true;
                }
                return true;
            }
            Message::Status => {
                let status = self.status();
                return self.clients[i].answer(&status, Some(&self.task.pidfd));
            }
            Message::Resize { rows, cols } => done(match &self.task.master {
                Some(master) => pty::set_size(master, *rows, *cols).map_err(|_| Errno::IO),
                // Clients tell their size without asking whether there is a terminal; Docker takes it.
                None => Ok(()),
            }),
            Message::ReopenLog => done(self.log.as_mut().map_or(Ok(()), Log::reopen)),
            Message::CloseStdin => {
                self.stdin.close();
                Message::Done
            }
            _ => Message::Failed { errno: Errno::INVAL.raw_os_error() },
        };
        self.clients[i].answer(&answer, None)
    }

    fn status(&self) -> Message {
        let attached = self.clients.iter().filter(|c| matches!(c.role, Role::Attached { .. })).count();
        Message::StatusIs {
            pid: self.task.pid,
            started_at: self.task.started_at,
            attached: attached as u32,
            exit: self.ended.map(|e| self.exit(e)),
        }
    }

    fn exit(&self, ended: Ended) -> Exit {
        Exit {
            code: ended.code,
            signal: ended.signal,
            oom_killed: self.task.groups.oom_killed(),
            finished_at: ended.finished_at,
            lost: false,
        }
    }

    /// After the end: streams that processes outside of the task keep open are not waited for forever. What is in
    /// them by then is the task's own, most likely.
    fn give_up_waiting(&mut self) {
        if self.ended.is_none_or(|ended| ended.at.elapsed() <= LINGER) {
            return;
        }
        for stream in 0..2 {
            let mut late = 0;
            while late < LATE_MAX {
                match self.read_output(stream) {
                    0 => break,
                    n => late += n,
                }
            }
            // Who is left on a terminal has to learn that it is gone.
            self.late[stream] = self.outputs[stream].take().filter(|_| self.task.master.is_none());
        }
    }

    /// What processes of an ended task still write is read for a while.
    fn read_to_nobody(&mut self) {
        let until = Instant::now() + LATE;
        let mut buffer = [0; 4096];
        while self.late.iter().any(Option::is_some) && Instant::now() < until {
            let mut fds: Vec<PollFd<'_>> =
                self.late.iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
            let _whatever_it_says = poll(&mut fds, Timespec::try_from(TICK).ok().as_ref());
            for stream in &mut self.late {
                let read = stream.as_ref().map(|fd| rustix::io::read(fd, &mut buffer));
                if !matches!(read, Some(Ok(1..) | Err(Errno::AGAIN | Errno::INTR))) {
                    *stream = None;
                }
            }
        }
    }

    /// Everything is read: record and report the end, then clean up, which nobody waits for.
    fn finish(&mut self) {
        let Some(ended) = self.ended else { return };
        if let Some(log) = &mut self.log {
            log.finish();
        }
        // The end of their streams, for all who have taken everything.
        self.clients.retain(|c| c.queued() > 0 || matches!(c.role, Role::Questions { waits: true, .. }));
        let exit = self.exit(ended);
        let _ = record::write(&self.task.run_dir, &exit);
        let _ = rustix::fs::unlinkat(&self.task.run_dir, crate::task::SOCKET, AtFlags::empty());
        for client in self.clients.iter().filter(|c| matches!(c.role, Role::Questions { .. })) {
            client.answer(&Message::Exited(exit), None);
        }
        self.clients.retain(|c| c.queued() > 0);
        self.task.groups.remove();
        self.task.hold = None;
    }
}

/// `[1|2, 0, 0, 0, length]`.
fn frame_header(stream: usize, len: usize) -> [u8; FRAME] {
    let mut header = [stream as u8 + 1, 0, 0, 0, 0, 0, 0, 0];
    header[4..].copy_from_slice(&(len as u32).to_be_bytes());
    header
}

/// Marks a client to be removed at the end of the turn: indices stay valid until then.
fn drop_client(client: &mut Client) {
    let _ = rustix::net::shutdown(&client.fd, rustix::net::Shutdown::Both);
    client.role = Role::Dropped;
}

fn is_dropped(client: &Client) -> bool {
    matches!(client.role, Role::Dropped)
}
