//! The classic builder's messages: `Step 1/3 : FROM python:3.7`, ` ---> 0123456789ab`, `Successfully built …`.
//!
//! Steps may run in parallel, but are shown one after the other in the file's order: output of a later step
//! waits until the steps before it are done.

use std::collections::HashMap;
use std::sync::Arc;

use barque_model::{Digest, ImageId};

use crate::event::{BuildEvent, LogStream, Progress, StepInfo, StepKind, VertexId};

/// Bytes of output kept for a step whose turn has not come.
const MAX_KEPT: usize = 4 << 20;

/// One message of the stream (`POST /build`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// `{"stream": …}`
    Stream(String),
    /// `{"aux": {"ID": …}}`
    Aux(ImageId),
    /// `{"status": …, "id": …, "progressDetail": …}`: a base image is being pulled.
    Progress(Progress),
}

/// Turns events into messages.
#[derive(Debug)]
pub struct Classic {
    /// `rm=1`: say that intermediate containers are removed.
    remove: bool,
    steps: Arc<[StepInfo]>,
    work: HashMap<VertexId, Work>,
    /// The step being shown.
    at: usize,
    /// How much of it was shown.
    shown: Shown,
    /// Name of the state after the last step, and of each stage.
    state: String,
    stages: HashMap<u32, String>,
}

#[derive(Debug, Default)]
struct Work {
    state: State,
    /// Output that was not shown yet.
    kept: Vec<(LogStream, Vec<u8>)>,
    kept_bytes: usize,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum State {
    #[default]
    Waiting,
    Running,
    Cached(String),
    Done(String),
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    Header,
    Running,
}

impl Classic {
    /// `remove` is the API's `rm`.
    pub fn new(remove: bool) -> Self {
        Classic {
            remove,
            steps: Arc::new([]),
            work: HashMap::new(),
            at: 0,
            shown: Shown::Nothing,
            state: String::new(),
            stages: HashMap::new(),
        }
    }

    /// The messages of one event.
    pub fn push(&mut self, event: &BuildEvent) -> Vec<Message> {
        let mut out = Vec::new();
        match event {
            BuildEvent::Planned { steps, .. } => self.steps = steps.clone(),
            BuildEvent::Started { vertex } => self.work.entry(*vertex).or_default().state = State::Running,
            BuildEvent::Cached { vertex, result } => {
                self.work.entry(*vertex).or_default().state = State::Cached(result.clone());
            }
            BuildEvent::Completed { vertex, result, .. } => {
                self.work.entry(*vertex).or_default().state = State::Done(result.clone());
            }
            BuildEvent::Failed { vertex, .. } => self.work.entry(*vertex).or_default().state = State::Failed,
            BuildEvent::Log { vertex, stream, data, .. } => self.keep(*vertex, *stream, data),
            BuildEvent::Progress { progress, .. } => return vec![Message::Progress(progress.clone())],
            BuildEvent::Finished { image } => return self.finished(*image),
            BuildEvent::Announced(_)
            | BuildEvent::Warning(_)
            | BuildEvent::Canceled { .. }
            | BuildEvent::Why { .. } => {}
        }
        self.advance(&mut out);
        out
    }

    /// After a failure: shows the step that failed with its output, if its turn had not come.
    pub fn failed(&mut self) -> Vec<Message> {
        let mut out = Vec::new();
        let failed =
            |s: &StepInfo| s.vertex.is_some_and(|v| self.work.get(&v).is_some_and(|w| w.state == State::Failed));
        let Some(index) = self.steps.iter().position(failed) else { return out };
        if index != self.at {
            self.at = index;
            self.shown = Shown::Nothing;
            self.header(&mut out);
            self.running(&mut out);
        }
        self.output(&mut out);
        out
    }

    fn keep(&mut self, vertex: VertexId, stream: LogStream, data: &[u8]) {
        let work = self.work.entry(vertex).or_default();
        if work.kept_bytes > MAX_KEPT {
            return;
        }
        work.kept_bytes += data.len();
        work.kept.push((stream, data.to_vec()));
        if work.kept_bytes > MAX_KEPT {
            work.kept.push((LogStream::Stderr, b"[output clipped]\n".to_vec()));
        }
    }

    /// Shows as many steps as possible.
    fn advance(&mut self, out: &mut Vec<Message>) {
        while let Some(step) = self.steps.get(self.at).cloned() {
            if !self.step(&step, out) {
                return;
            }
            self.stages.insert(step.stage, self.state.clone());
            self.at += 1;
            self.shown = Shown::Nothing;
        }
    }

    /// Shows the current step as far as it is; `true` if it is done.
    fn step(&mut self, step: &StepInfo, out: &mut Vec<Message>) -> bool {
        self.header(out);
        match &step.kind {
            StepKind::GlobalArg => return true,
            StepKind::FromImage(id) => self.state.clone_from(id),
            StepKind::FromStage(stage) => self.state = self.stages.get(stage).cloned().unwrap_or_default(),
            StepKind::FromScratch => self.state = String::new(),
            StepKind::Container | StepKind::Copy => return self.work_step(step, out),
        }
        // The triggers that follow end with the name.
        if !self.steps.get(self.at + 1).is_some_and(|s| s.trigger) {
            stream(out, format!(" ---> {}\n", self.state));
        }
        true
    }

    fn work_step(&mut self, step: &StepInfo, out: &mut Vec<Message>) -> bool {
        let last = self.at + 1 == self.steps.len();
        let state = match step.vertex {
            Some(vertex) => self.work.get(&vertex).map(|w| w.state.clone()).unwrap_or_default(),
            // Configuration takes no time; whether it "was cached" its neighbour tells.
            None => match self.neighbour(step) {
                None => return false,
                Some(true) => State::Cached(String::new()),
                Some(false) => {
                    self.running(out);
                    State::Done(String::new())
                }
            },
        };
        match state {
            State::Waiting => return false,
            State::Running => {
                self.running(out);
                self.output(out);
                return false;
            }
            State::Failed => {
                self.running(out);
                self.output(out);
                return false;
            }
            State::Cached(result) => {
                self.next_state(step, &result);
                stream(out, " ---> Using cache\n".into());
            }
            State::Done(result) => {
                self.running(out);
                self.output(out);
                if self.remove && step.kind == StepKind::Container {
                    stream(out, format!("Removing intermediate container {}\n", self.container()));
                }
                self.next_state(step, &result);
            }
        }
        // The name of the last state is the image's, which is not known yet. Triggers name only their last.
        let quiet = step.trigger && self.steps.get(self.at + 1).is_some_and(|s| s.trigger);
        if !last && !quiet {
            stream(out, format!(" ---> {}\n", self.state));
        }
        true
    }

    /// Whether the step next to a configuration step came from the cache; `None` if that is not known yet.
    fn neighbour(&self, step: &StepInfo) -> Option<bool> {
        let same = |s: &&StepInfo| s.stage == step.stage && s.vertex.is_some() && !is_from(&s.kind);
        let before = self.steps.get(..self.at)?.iter().rev().find(same);
        let after = || self.steps.get(self.at..)?.iter().find(same);
        let Some(vertex) = before.or_else(after).and_then(|s| s.vertex) else { return Some(false) };
        match self.work.get(&vertex).map(|w| &w.state) {
            None | Some(State::Waiting) => None,
            Some(state) => Some(matches!(state, State::Cached(_))),
        }
    }

    fn next_state(&mut self, step: &StepInfo, result: &str) {
        self.state = Digest::of(format!("{}\n{}\n{result}", self.state, step.text).as_bytes()).short();
    }

    /// Docker names a container for each step; a name that looks like one does.
    fn container(&self) -> String {
        let text = self.steps.get(self.at).map_or("", |s| s.text.as_str());
        Digest::of(format!("container {} {} {text}", self.state, self.at).as_bytes()).short()
    }

    fn header(&mut self, out: &mut Vec<Message>) {
        let Some(step) = self.steps.get(self.at).filter(|_| self.shown == Shown::Nothing) else { return };
        self.shown = Shown::Header;
        if !step.trigger {
            let total = self.steps.last().map_or(0, |s| s.number);
            stream(out, format!("Step {}/{total} : {}", step.number, step.text));
            stream(out, "\n".into());
            return;
        }
        let first = self.at.checked_sub(1).and_then(|i| self.steps.get(i)).is_none_or(|s| !s.trigger);
        if first {
            let count = self.steps[self.at..].iter().take_while(|s| s.trigger).count();
            let plural = if count == 1 { "" } else { "s" };
            stream(out, format!("# Executing {count} build trigger{plural}\n"));
        }
    }

    fn running(&mut self, out: &mut Vec<Message>) {
        let Some(step) = self.steps.get(self.at).filter(|_| self.shown == Shown::Header) else { return };
        if step.kind == StepKind::Container {
            stream(out, format!(" ---> Running in {}\n", self.container()));
        }
        self.shown = Shown::Running;
    }

    /// Shows the current step's output; errors in red, as Docker does.
    fn output(&mut self, out: &mut Vec<Message>) {
        let vertex = self.steps.get(self.at).and_then(|s| s.vertex);
        let Some(work) = vertex.and_then(|v| self.work.get_mut(&v)) else { return };
        for (kind, bytes) in work.kept.drain(..) {
            let text = String::from_utf8_lossy(&bytes);
            stream(
                out,
                match kind {
                    LogStream::Stdout => text.into_owned(),
                    LogStream::Stderr => format!("\u{1b}[91m{text}\u{1b}[0m"),
                },
            );
        }
        work.kept_bytes = 0;
    }

    fn finished(&mut self, image: ImageId) -> Vec<Message> {
        let mut out = Vec::new();
        self.advance(&mut out);
        let short = image.digest().short();
        if self.steps.last().is_some_and(|s| matches!(s.kind, StepKind::Container | StepKind::Copy)) {
            stream(&mut out, format!(" ---> {short}\n"));
        }
        out.push(Message::Aux(image));
        stream(&mut out, format!("Successfully built {short}\n"));
        out
    }

    /// The line for one `-t`, after `Successfully built`.
    pub fn tagged(name: &str) -> Message {
        Message::Stream(format!("Successfully tagged {name}\n"))
    }
}

fn is_from(kind: &StepKind) -> bool {
    matches!(kind, StepKind::FromImage(_) | StepKind::FromStage(_) | StepKind::FromScratch)
}

fn stream(out: &mut Vec<Message>, text: String) {
    out.push(Message::Stream(text));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn step(number: u32, text: &str, kind: StepKind, vertex: Option<u32>, stage: u32) -> StepInfo {
        StepInfo { number, text: text.into(), kind, vertex: vertex.map(VertexId), stage, trigger: false }
    }

    fn render(steps: Vec<StepInfo>, events: Vec<BuildEvent>) -> String {
        let mut classic = Classic::new(true);
        let plan = BuildEvent::Planned { vertices: Arc::new([]), steps: steps.into() };
        let mut text = String::new();
        for event in std::iter::once(plan).chain(events) {
            for message in classic.push(&event) {
                match message {
                    Message::Stream(s) => text.push_str(&s),
                    Message::Aux(id) => text.push_str(&format!("aux {}\n", id.digest().short())),
                    Message::Progress(p) => text.push_str(&format!("progress {}\n", p.id)),
                }
            }
        }
        // Fabricated names are not what is tested.
        let names = regex::Regex::new("[0-9a-f]{12}").unwrap();
        names.replace_all(&text, "ID").into_owned()
    }

    fn log(vertex: u32, stream: LogStream, text: &str) -> BuildEvent {
        BuildEvent::Log { vertex: VertexId(vertex), stream, data: text.into(), elapsed: Duration::ZERO }
    }

    fn done(vertex: u32) -> BuildEvent {
        BuildEvent::Completed { vertex: VertexId(vertex), result: format!("r{vertex}"), elapsed: Duration::ZERO }
    }

    fn started(vertex: u32) -> BuildEvent {
        BuildEvent::Started { vertex: VertexId(vertex) }
    }

    fn cached(vertex: u32) -> BuildEvent {
        BuildEvent::Cached { vertex: VertexId(vertex), result: format!("r{vertex}") }
    }

    fn finished() -> BuildEvent {
        BuildEvent::Finished { image: ImageId(Digest::of(b"image")) }
    }

    fn simple() -> Vec<StepInfo> {
        vec![
            step(1, "ARG V=1", StepKind::GlobalArg, None, 0),
            step(2, "FROM busybox", StepKind::FromImage("0123456789ab".into()), Some(0), 0),
            step(3, "ENV A=b", StepKind::Container, None, 0),
            step(4, "RUN make", StepKind::Container, Some(1), 0),
            step(5, "COPY . /x", StepKind::Copy, Some(2), 0),
        ]
    }

    #[test]
    fn a_build_reads_like_dockers() {
        let text = render(
            simple(),
            vec![
                started(1),
                log(1, LogStream::Stdout, "one\n"),
                log(1, LogStream::Stderr, "two\n"),
                done(1),
                started(2),
                done(2),
                finished(),
            ],
        );
        let expected = "\
Step 1/5 : ARG V=1
Step 2/5 : FROM busybox
 ---> ID
Step 3/5 : ENV A=b
 ---> Running in ID
Removing intermediate container ID
 ---> ID
Step 4/5 : RUN make
 ---> Running in ID
one
\u{1b}[91mtwo
\u{1b}[0mRemoving intermediate container ID
 ---> ID
Step 5/5 : COPY . /x
 ---> ID
aux ID
Successfully built ID
";
        assert_eq!(text, expected);
    }

    #[test]
    fn cached_steps_say_so() {
        let text = render(simple(), vec![cached(1), cached(2), finished()]);
        assert_eq!(text.matches(" ---> Using cache\n").count(), 3);
        assert!(!text.contains("Running in"));
    }

    #[test]
    fn parallel_output_waits_for_its_turn() {
        let steps = vec![
            step(1, "FROM a", StepKind::FromImage("0123456789ab".into()), None, 0),
            step(2, "RUN slow", StepKind::Container, Some(1), 0),
            step(3, "FROM scratch", StepKind::FromScratch, None, 1),
            step(4, "RUN quick", StepKind::Container, Some(2), 1),
        ];
        let events = vec![
            started(1),
            started(2),
            log(2, LogStream::Stdout, "quick\n"),
            done(2),
            log(1, LogStream::Stdout, "slow\n"),
            done(1),
            finished(),
        ];
        let text = render(steps, events);
        assert!(text.find("slow\n").unwrap() < text.find("Step 3/4").unwrap());
        assert!(text.find("Step 4/4").unwrap() < text.find("quick\nRemoving").unwrap());
        assert!(text.contains("Step 3/4 : FROM scratch\n ---> \n"));
    }

    #[test]
    fn triggers_are_counted_and_failures_shown() {
        let mut steps = vec![step(1, "FROM onb", StepKind::FromImage("0123456789ab".into()), None, 0)];
        for vertex in [1, 2] {
            steps.push(StepInfo { trigger: true, ..step(1, "RUN t", StepKind::Container, Some(vertex), 0) });
        }
        steps.push(step(2, "RUN x", StepKind::Container, Some(3), 0));
        let text = render(steps, vec![cached(1), cached(2)]);
        assert_eq!(
            text,
            "Step 1/2 : FROM onb\n# Executing 2 build triggers\n ---> Using cache\n ---> Using cache\n ---> ID\nStep 2/2 : RUN x\n"
        );
        let mut classic = Classic::new(true);
        let steps = vec![
            step(1, "FROM a", StepKind::FromScratch, None, 0),
            step(2, "RUN slow", StepKind::Container, Some(1), 0),
            step(3, "RUN bad", StepKind::Container, Some(2), 1),
        ];
        classic.push(&BuildEvent::Planned { vertices: Arc::new([]), steps: steps.into() });
        classic.push(&log(2, LogStream::Stdout, "oh\n"));
        classic.push(&BuildEvent::Failed { vertex: VertexId(2), message: "m".into(), elapsed: Duration::ZERO });
        let text: Vec<_> = classic.failed().into_iter().map(|m| format!("{m:?}")).collect();
        assert!(text.iter().any(|t| t.contains("Step 3/3 : RUN bad")) && text.iter().any(|t| t.contains("oh")));
    }
}
