//! Running health checks: an exec at intervals, its result recorded (`HEALTHCHECK`).

use std::sync::Arc;
use std::time::Duration;

use barque_model::{Error, Result, Timestamp};
use tokio::io::AsyncReadExt;

use super::driver::{Core, Handle};
use super::exec::{ExecEntry, ExecStart};
use super::health::{HealthResult, OUTPUT_MAX};
use super::request::ExecSpec;
use super::spec::{HealthSpec, HealthTest, ProcessSpec};
use crate::Engine;

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;
/// A check that took too long is killed so often at most, with this pause: it may only just be starting.
const KILLS: u32 = 50;
const KILL_AGAIN: Duration = Duration::from_millis(100);

impl Engine {
    /// Begins the checks of a container that runs, if it has any. What the run's checks have said so far counts on.
    pub(crate) fn start_health_checks(&self, handle: &Arc<Handle>, core: &mut Core) {
        let Some(spec) = core.spec.healthcheck.clone() else { return };
        let Some(command) = command(&spec, core.spec.process.shell.as_deref()) else { return };
        let began = core.state.running().map_or_else(Timestamp::now, |r| r.started_at);
        core.health.get_or_insert_default();
        let (engine, handle) = (self.clone(), handle.clone());
        let task = tokio::spawn(async move { engine.check_health(handle, spec, command, began).await });
        core.health_task = Some(task.abort_handle());
    }

    async fn check_health(&self, handle: Arc<Handle>, spec: HealthSpec, command: Vec<String>, began: Timestamp) {
        let positive = |d: Option<Duration>| d.filter(|d| !d.is_zero());
        let interval = positive(spec.interval).unwrap_or(INTERVAL);
        let start_period = spec.start_period.unwrap_or_default();
        let start_interval = positive(spec.start_interval).unwrap_or(START_INTERVAL).min(interval);
        let retries = spec.retries.filter(|r| *r > 0).unwrap_or(RETRIES);
        let timeout = positive(spec.timeout).unwrap_or(TIMEOUT);
        loop {
            let young = Timestamp::now().since(began) < start_period;
            let starting =
                handle.view().health.as_ref().is_some_and(|h| h.status == super::health::HealthStatus::Starting);
            tokio::time::sleep(if young && starting { start_interval } else { interval }).await;
            let view = handle.view();
            let Some(running) = view.state.running() else { return };
            if running.paused {
                continue;
            }
            let start = Timestamp::now();
            let (exit_code, output) = self.probe(&handle, &command, timeout).await;
            let result = HealthResult { start, end: Timestamp::now(), exit_code, output };
            let in_start_period = start.since(began) < start_period;
            let mut core = handle.lock().await;
            if !core.state.is_running() {
                return;
            }
            let Some(health) = &mut core.health else { return };
            let changed = health.record(result, retries, in_start_period);
            let status = health.status.as_str();
            handle.publish(&core);
            self.keep_state(&core);
            if changed {
                self.container_event(&core, &format!("health_status: {status}"), []);
            }
        }
    }

    /// Exit status and output of one check; -1 where it did not end in time.
    async fn probe(&self, handle: &Arc<Handle>, command: &[String], timeout: Duration) -> (i32, String) {
        let process = ProcessSpec {
            cmd: Some(command.to_vec()),
            attach_stdout: true,
            attach_stderr: true,
            ..ProcessSpec::default()
        };
        let exec = ExecSpec { process, ..ExecSpec::default() };
        let entry =
            match self.exec_create(&handle.id.to_string(), exec).await.map(|id| self.exec_entry(&id.to_string())) {
                Ok(Ok(entry)) => entry,
                Ok(Err(e)) | Err(e) => return (-1, e.chain()),
            };
        let (engine, own) = (self.clone(), entry.clone());
        // A task of its own: a launch that is under way at the end of the time must not be lost sight of.
        let mut run = tokio::spawn(async move { engine.run_probe(&own).await });
        match tokio::time::timeout(timeout, &mut run).await {
            Ok(Ok(Ok((code, output)))) => (if code == 0 { 0 } else { code.max(1) }, output),
            Ok(Ok(Err(e))) => (-1, e.chain()),
            Ok(Err(e)) => (-1, format!("the check broke off: {e}")),
            Err(_) => {
                let engine = self.clone();
                tokio::spawn(async move {
                    for _ in 0..KILLS {
                        engine.kill_exec(&entry);
                        if tokio::time::timeout(KILL_AGAIN, &mut run).await.is_ok() {
                            return;
                        }
                    }
                    run.abort();
                });
                (-1, format!("Health check exceeded timeout ({})", barque_model::duration::go(timeout)))
            }
        }
    }

    async fn run_probe(&self, entry: &Arc<ExecEntry>) -> Result<(i32, String)> {
        let stream = self.exec_start(&entry.id.to_string(), ExecStart::default()).await?;
        let mut stream = stream.ok_or_else(|| Error::internal("a check without output"))?;
        let mut output = Vec::new();
        let mut header = [0u8; 8];
        while stream.output.read_exact(&mut header).await.is_ok() {
            let length = u64::from(u32::from_be_bytes([header[4], header[5], header[6], header[7]]));
            let mut piece = (&mut stream.output).take(length);
            let mut bytes = Vec::new();
            piece.read_to_end(&mut bytes).await?;
            let room = OUTPUT_MAX.saturating_sub(output.len()).min(bytes.len());
            output.extend_from_slice(&bytes[..room]);
        }
        let code = self.exec_exit_code(entry).await;
        Ok((code, String::from_utf8_lossy(&output).into_owned()))
    }
}

/// The argument vector of a check; `None` where it is switched off.
fn command(spec: &HealthSpec, shell: Option<&[String]>) -> Option<Vec<String>> {
    match &spec.test {
        HealthTest::Inherit | HealthTest::None => None,
        HealthTest::Exec(argv) => Some(argv.clone()).filter(|a| !a.is_empty()),
        HealthTest::Shell(line) => {
            let default = ["/bin/sh".to_owned(), "-c".to_owned()];
            let shell = shell.filter(|s| !s.is_empty()).unwrap_or(&default);
            Some(shell.iter().cloned().chain([line.clone()]).collect())
        }
    }
}
