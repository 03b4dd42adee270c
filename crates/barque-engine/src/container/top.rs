//! `docker top`: facts about processes from `/proc`, for the columns `ps` users ask for.

use barque_model::{Error, Result};

use super::request::ProcessTable;

/// What `ps -ef` shows.
const FULL: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
/// What `ps aux` shows.
const USER: [&str; 11] = ["USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND"];

/// The file's name alone, without the arguments.
const COMM: &str = "comm";

struct Process {
    pid: i32,
    ppid: i32,
    uid: u32,
    state: char,
    tty: i32,
    /// Ticks of 1/100 s.
    cpu: u64,
    start: u64,
    /// Bytes.
    vsz: u64,
    rss: u64,
    comm: String,
    args: String,
}

/// The table for `ps` arguments: `-ef`, `aux`, `-o COLUMNS` and their like.
pub fn table(pids: &[i32], args: &[String]) -> Result<ProcessTable> {
    let columns = columns(args)?;
    if !columns.iter().any(|column| column.title == "PID") {
        return Err(Error::invalid("Couldn't find PID field in ps output"));
    }
    let uptime = uptime_ticks();
    let memory = total_memory();
    let rows = pids
        .iter()
        .filter_map(|pid| read(*pid))
        .map(|p| columns.iter().map(|c| cell(&p, c.fact, uptime, memory)).collect())
        .collect();
    Ok(ProcessTable { titles: columns.into_iter().map(|c| c.title).collect(), rows })
}

/// What a column shows, and what stands above it: `comm` and `args` have the same title.
#[derive(Debug)]
struct Column {
    fact: &'static str,
    title: String,
}

fn columns(args: &[String]) -> Result<Vec<Column>> {
    let words: Vec<&str> = args.iter().flat_map(|a| a.split_whitespace()).collect();
    let owned = |list: &[&'static str]| -> Vec<Column> {
        list.iter().map(|fact| Column { fact, title: (*fact).to_owned() }).collect()
    };
    let Some(first) = words.first() else { return Ok(owned(&FULL)) };
    if let Some(position) = words.iter().position(|w| matches!(*w, "-o" | "o" | "-eo" | "-Ao" | "--format")) {
        let list = words[position + 1..].join(",");
        let names: Vec<&str> = list.split(',').filter(|s| !s.is_empty()).collect();
        return names.into_iter().map(column).collect();
    }
    match first.trim_start_matches('-') {
        "ef" | "f" | "eF" | "e" | "A" => Ok(owned(&FULL)),
        "aux" | "u" | "axu" | "ux" | "au" => Ok(owned(&USER)),
        "x" | "ax" | "a" => Ok(owned(&["PID", "TTY", "STAT", "TIME", "COMMAND"])),
        other => Err(Error::not_implemented(format!("ps option '{other}'"))
            .with_hint("use -ef, aux, or -o with pid, ppid, user, comm, args, …")),
    }
}

fn column(name: &str) -> Result<Column> {
    let (name, own) = match name.split_once('=') {
        Some((n, t)) => (n, Some(t)),
        None => (name, None),
    };
    let fact = match name {
        "pid" => "PID",
        "ppid" => "PPID",
        "uid" => "UID",
        "user" | "euser" => "USER",
        "comm" | "ucmd" | "ucomm" => COMM,
        "cmd" => "CMD",
        "args" | "command" => "COMMAND",
        "tty" | "tt" | "tname" => "TT",
        "time" | "cputime" => "TIME",
        "stat" | "state" | "s" => "STAT",
        "vsz" | "vsize" => "VSZ",
        "rss" => "RSS",
        "pcpu" | "%cpu" => "%CPU",
        "pmem" | "%mem" => "%MEM",
        "start" | "stime" | "lstart" => "STIME",
        other => return Err(Error::invalid(format!("ps: unknown column '{other}'"))),
    };
    let usual = if fact == COMM { "COMMAND" } else { fact };
    Ok(Column { fact, title: own.filter(|t| !t.is_empty()).unwrap_or(usual).to_owned() })
}

fn read(pid: i32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let comm = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let number = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let uid = status.lines().find_map(|l| l.strip_prefix("Uid:")?.split_whitespace().nth(1)?.parse().ok())?;
    let raw = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = raw.split(|b| *b == 0).filter(|w| !w.is_empty()).map(String::from_utf8_lossy).collect();
    let args = if words.is_empty() { format!("[{comm}]") } else { words.join(" ") };
    Some(Process {
        pid,
        ppid: i32::try_from(number(1)).unwrap_or(0),
        uid,
        state: fields.first()?.chars().next()?,
        tty: i32::try_from(number(4)).unwrap_or(0),
        cpu: number(11) + number(12),
        start: number(19),
        vsz: number(20),
        rss: number(21) * 4096,
        comm,
        args,
    })
}

fn cell(p: &Process, fact: &str, uptime: u64, memory: u64) -> String {
    let age = uptime.saturating_sub(p.start).max(1);
    let share = |part: u64, whole: u64| format!("{:.1}", part as f64 * 100.0 / whole.max(1) as f64);
    match fact {
        "UID" | "USER" => user_name(p.uid),
        "PID" => p.pid.to_string(),
        "PPID" => p.ppid.to_string(),
        "C" => (p.cpu * 100 / age).to_string(),
        "%CPU" => share(p.cpu, age),
        "%MEM" => share(p.rss, memory),
        "VSZ" => (p.vsz / 1024).to_string(),
        "RSS" => (p.rss / 1024).to_string(),
        "STAT" => p.state.to_string(),
        "STIME" | "START" => start_time(age),
        "TTY" | "TT" => match p.tty {
            0 => "?".into(),
            dev => format!("pts/{}", dev & 0xff),
        },
        "TIME" => {
            let s = p.cpu / 100;
            format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
        }
        "CMD" | "COMMAND" => p.args.clone(),
        _ => p.comm.clone(),
    }
}

fn start_time(age_ticks: u64) -> String {
    let now = jiff::Zoned::now();
    let seconds = i64::try_from(age_ticks / 100).unwrap_or(0);
    let start = now.checked_sub(jiff::SignedDuration::from_secs(seconds)).unwrap_or(now);
    let form = if seconds < 86_400 { "%H:%M" } else { "%b%d" };
    start.strftime(form).to_string()
}

/// The name this machine knows a user by, as `ps` prints it.
fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

fn uptime_ticks() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: f64 = text.split_whitespace().next().and_then(|s| s.parse().ok()).unwrap_or(0.0);
    (seconds * 100.0) as u64
}

/// Bytes of memory of this machine.
pub fn total_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn columns_follow_the_arguments() {
        let titles = |text: &str| table(&[], &words(text)).map(|table| table.titles);
        assert_eq!(titles("").unwrap(), FULL);
        assert_eq!(titles("aux").unwrap(), USER);
        assert_eq!(titles("-o pid,comm").unwrap(), ["PID", "COMMAND"]);
        assert_eq!(titles("-eo pid,args=X").unwrap(), ["PID", "X"]);
        assert_eq!(titles("-o comm").unwrap_err().to_string(), "Couldn't find PID field in ps output");
        assert!(columns(&words("-o nonsense")).is_err());
        assert!(columns(&words("--forest")).unwrap_err().to_string().contains("not implemented yet"));
    }

    #[test]
    fn names_have_no_arguments() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let row = &table(&[pid], &words("-o pid,comm,comm=NAME,args")).unwrap().rows[0];
        let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!((row[1].as_str(), row[2].as_str()), (comm.trim(), comm.trim()));
        assert!(row[3].contains('/'), "{row:?}");
    }

    #[test]
    fn shows_this_process() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let t = table(&[pid, i32::MAX], &[]).unwrap();
        assert_eq!(t.rows.len(), 1);
        assert_eq!(t.rows[0][1], pid.to_string());
    }
}
