//! Streams, terminals, logs, attachments.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use barque_model::Signal;
use barque_runtime::Attach;
use barque_runtime::spec::LogConfig;
use common::{Lab, attachment, eventually, read_frames};

const TEN_MB: usize = 10_000_000;

#[test]
fn ten_megabytes_through_standard_input() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["md5sum"]);
    spec.io.stdin = true;
    spec.io.stdin_once = true;
    let (attached, mut ours) = attachment();
    let task = lab.spawner.launch(&spec, vec![attached]).unwrap();
    let data: Vec<u8> = (0..TEN_MB).map(|i| (i * 31 % 251) as u8).collect();
    ours.write_all(&data).unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    let (out, _) = read_frames(&mut ours, false);
    assert_eq!(task.wait().unwrap().code, 0);
    std::fs::write(lab.path("data"), &data).unwrap();
    let want = std::process::Command::new("md5sum").arg(lab.path("data")).output().unwrap();
    assert_eq!(out.split(' ').next(), String::from_utf8_lossy(&want.stdout).split(' ').next());
}

#[test]
fn ten_megabytes_back_and_forth() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["cat"]);
    (spec.io.stdin, spec.io.stdin_once) = (true, true);
    let (attached, ours) = attachment();
    let task = lab.spawner.launch(&spec, vec![attached]).unwrap();
    let mut writer = ours.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        writer.write_all(&vec![b'x'; TEN_MB]).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut ours = ours;
    let (out, _) = read_frames(&mut ours, false);
    sender.join().unwrap();
    assert_eq!((out.len(), task.wait().unwrap().code), (TEN_MB, 0));
}

#[test]
fn without_input_it_is_empty_and_a_task_that_does_not_read_is_no_trouble() {
    needs_root!();
    let lab = Lab::new();
    let (exit, out, _) = lab.run(&lab.spec(&["cat"]));
    assert_eq!((exit.code, out.as_str()), (0, ""));
    let mut spec = lab.spec(&["true"]);
    spec.io.stdin = true;
    let (attached, mut ours) = attachment();
    let task = lab.spawner.launch(&spec, vec![attached]).unwrap();
    // The connection may be closed meanwhile.
    let _ = ours.write_all(&vec![0; 1 << 20]);
    assert_eq!(task.wait().unwrap().code, 0);
}

#[test]
fn input_stays_open_for_the_next_client_unless_it_is_to_be_once() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["cat"]);
    spec.io.stdin = true;
    let task = lab.launch(&spec);
    for line in ["one\n", "two\n"] {
        let mut client = task.attach(Attach::ALL).unwrap();
        client.write_all(line.as_bytes()).unwrap();
        let mut frame = [0; 12];
        client.read_exact(&mut frame).unwrap();
        assert_eq!(&frame[8..], line.as_bytes());
        client.shutdown(Shutdown::Write).unwrap();
    }
    assert_eq!(task.wait_timeout(Duration::from_millis(100)).unwrap(), None);
    task.close_stdin().unwrap();
    assert_eq!(task.wait().unwrap().code, 0);
}

#[test]
fn a_terminal_with_size_name_and_console() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&[
        "sh",
        "-c",
        "tty; stty size; stat -c %t:%T /dev/console; echo $TERM; echo err >&2; ps -o tty,comm | head -2",
    ]);
    spec.process.tty = true;
    spec.process.console_size = Some((33, 77));
    let (exit, out, err) = lab.run(&spec);
    assert_eq!((exit.code, err.as_str()), (0, ""));
    assert!(out.starts_with("/dev/pts/0\r\n33 77\r\n88:0\r\nxterm\r\nerr\r\n"), "{out}");
}

#[test]
fn a_terminal_is_resized() {
    needs_root!();
    let lab = Lab::new();
    let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.02; done";
    let mut spec = lab.spec(&["sh", "-c", script]);
    (spec.process.tty, spec.io.stdin) = (true, true);
    let (attached, mut ours) = attachment();
    let task = lab.spawner.launch(&spec, vec![attached]).unwrap();
    let mut ready = [0; 7];
    ours.read_exact(&mut ready).unwrap();
    task.resize(40, 100).unwrap();
    assert_eq!(read_frames(&mut ours, true).0, "40 100\r\n");
    assert_eq!(task.wait().unwrap().code, 0);
    // Without a terminal there is nothing to do, and that is no mistake; after the end it is one.
    let plain = lab.launch(&lab.spec(&["sleep", "10"]));
    plain.resize(1, 1).unwrap();
    plain.kill(Signal::KILL).unwrap();
    plain.wait().unwrap();
    assert!(plain.resize(1, 1).is_err());
}

#[test]
fn a_terminal_takes_input_and_control_characters() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["sh", "-c", "read line; echo got $line; exec sleep 100"]);
    (spec.process.tty, spec.io.stdin) = (true, true);
    let (attached, mut ours) = attachment();
    let task = lab.spawner.launch(&spec, vec![attached]).unwrap();
    ours.write_all(b"hello\n").unwrap();
    read_until(&mut ours, "got hello");
    // Process 1 without a handler ignores the signal of ^C, as in Docker; with an init it would end.
    task.kill(Signal::KILL).unwrap();
    assert_eq!(task.wait().unwrap().code, 137);
    spec.init = true;
    let (attached, mut ours) = attachment();
    let task = lab.spawner.launch(&spec, vec![attached]).unwrap();
    ours.write_all(b"x\n").unwrap();
    // Before the shell runs there is nobody to be interrupted.
    read_until(&mut ours, "got x");
    ours.write_all(b"\x03").unwrap();
    assert_eq!(task.wait().unwrap().code, 130);
}

fn read_until(stream: &mut impl Read, wanted: &str) {
    let mut text = String::new();
    while !text.contains(wanted) {
        let mut buffer = [0; 256];
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
}

#[test]
fn the_log_holds_every_line_and_rotates() {
    needs_root!();
    let lab = Lab::new();
    let logs = lab.path("logs");
    std::fs::create_dir(&logs).unwrap();
    let mut spec = lab.spec(&["sh", "-c", "seq 1 2000; echo err >&2; printf end"]);
    let log = LogConfig { path: logs.join("c-json.log"), max_size: Some(30_000), max_files: 3 };
    spec.io.log = Some(log.clone());
    let (exit, out, _) = lab.run(&spec);
    assert_eq!((exit.code, out.lines().count()), (0, 2001));
    let mut names: Vec<_> = std::fs::read_dir(&logs).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["c-json.log", "c-json.log.1", "c-json.log.2"]);
    let text = std::fs::read_to_string(&log.path).unwrap();
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((last["log"].as_str(), last["stream"].as_str()), (Some("end"), Some("stdout")));
    assert!(last["time"].as_str().unwrap().ends_with('Z'));
    assert!(std::fs::metadata(logs.join("c-json.log.1")).unwrap().len() < 31_000);

    let mut whole = lab.spec(&["seq", "1", "5000"]);
    whole.io.log = Some(LogConfig { path: logs.join("whole"), max_size: None, max_files: 1 });
    let task = lab.launch(&whole);
    task.wait().unwrap();
    let text = std::fs::read_to_string(logs.join("whole")).unwrap();
    let lines: Vec<String> = text
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["log"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(lines, (1..=5000).map(|n| format!("{n}\n")).collect::<Vec<_>>(), "complete when the exit is reported");
}

#[test]
fn a_log_moved_away_is_opened_anew() {
    needs_root!();
    let lab = Lab::new();
    let path = lab.path("log");
    let mut spec = lab.spec(&["cat"]);
    spec.io.stdin = true;
    spec.io.log = Some(LogConfig { path: path.clone(), max_size: None, max_files: 1 });
    let (attached, mut ours) = attachment();
    let task = lab.spawner.launch(&spec, vec![attached]).unwrap();
    let mut say = |text: &[u8]| {
        ours.write_all(text).unwrap();
        let mut echo = vec![0; 8 + text.len()];
        ours.read_exact(&mut echo).unwrap();
    };
    say(b"one\n");
    eventually("the first line", || std::fs::read_to_string(&path).unwrap().contains("one"));
    std::fs::rename(&path, lab.path("old")).unwrap();
    task.reopen_log().unwrap();
    say(b"two\n");
    eventually("the second line", || std::fs::read_to_string(&path).is_ok_and(|t| t.contains("two")));
    assert!(!std::fs::read_to_string(&path).unwrap().contains("one"));
    task.kill(Signal::KILL).unwrap();
    task.wait().unwrap();
}

#[test]
fn several_clients_see_the_same_and_streams_are_chosen() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["sh", "-c", "read x; echo out; echo err >&2"]);
    spec.io.stdin = true;
    let task = lab.launch(&spec);
    let mut all = task.attach(Attach::ALL).unwrap();
    let mut only_err = task.attach(Attach { stdin: false, stdout: false, stderr: true }).unwrap();
    let mut second = task.attach(Attach { stdin: false, stdout: true, stderr: true }).unwrap();
    assert_eq!(task.status().unwrap().attached, 3);
    let gone = task.attach(Attach::ALL).unwrap();
    drop(gone);
    all.write_all(b"\n").unwrap();
    let both = ("out\n".to_owned(), "err\n".to_owned());
    assert_eq!(read_frames(&mut all, false), both);
    assert_eq!(read_frames(&mut second, false), both);
    assert_eq!(read_frames(&mut only_err, false), (String::new(), "err\n".to_owned()));
    assert_eq!(task.wait().unwrap().code, 0);
}

#[test]
fn a_slow_client_holds_the_task_back_and_loses_nothing() {
    needs_root!();
    let lab = Lab::new();
    let spec = lab.spec(&["sh", "-c", "seq 1 400000; echo done > /finished"]);
    let finished = spec.run_dir.parent().unwrap().join("upper/finished");
    let (attached, mut ours) = attachment();
    let task = lab.spawner.launch(&spec, vec![attached]).unwrap();
    std::thread::sleep(Duration::from_millis(400));
    assert!(!finished.exists(), "the task must wait for its reader");
    let (out, _) = read_frames(&mut ours, false);
    assert_eq!(out.lines().count(), 400_000);
    assert_eq!(out.lines().last(), Some("400000"));
    assert_eq!(task.wait().unwrap().code, 0);
}

#[test]
fn output_is_delivered_before_the_exit_is_reported() {
    needs_root!();
    let lab = Lab::new();
    for _ in 0..20 {
        let (attached, mut ours) = attachment();
        let task = lab.spawner.launch(&lab.spec(&["seq", "1", "3000"]), vec![attached]).unwrap();
        assert_eq!(task.wait().unwrap().code, 0);
        ours.set_nonblocking(true).unwrap();
        let mut bytes = Vec::new();
        ours.read_to_end(&mut bytes).unwrap();
        assert!(bytes.ends_with(b"3000\n"));
    }
}

#[test]
fn the_exit_descriptor_becomes_readable() {
    needs_root!();
    let lab = Lab::new();
    let task = lab.launch(&lab.spec(&["sleep", "0.1"]));
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(task.exit_fd(), rustix::event::PollFlags::IN)];
    let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&zero)).unwrap(), 0);
    let start = Instant::now();
    rustix::event::poll(&mut fds, None).unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(task.wait_timeout(Duration::ZERO).unwrap().unwrap().code, 0);
}
