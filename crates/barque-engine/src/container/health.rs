//! Health of a container: results of its check command and what they mean.

use std::collections::VecDeque;

use barque_model::Timestamp;
use serde::{Deserialize, Serialize};

/// Results kept for `inspect`.
pub const LOG_LENGTH: usize = 5;
/// Bytes of output kept of each.
pub const OUTPUT_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthStatus {
    Starting,
    Healthy,
    Unhealthy,
}

impl HealthStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    pub status: HealthStatus,
    pub failing_streak: u32,
    pub log: VecDeque<HealthResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthResult {
    pub start: Timestamp,
    pub end: Timestamp,
    /// 0 healthy, 1 unhealthy, -1 it did not end in time or could not run.
    pub exit_code: i32,
    pub output: String,
}

impl Default for Health {
    fn default() -> Self {
        Health { status: HealthStatus::Starting, failing_streak: 0, log: VecDeque::new() }
    }
}

impl Health {
    /// Takes in a result. `in_start_period`: failures do not count yet. Tells whether the status changed.
    pub fn record(&mut self, result: HealthResult, retries: u32, in_start_period: bool) -> bool {
        let before = self.status;
        if result.exit_code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if !(in_start_period && self.status == HealthStatus::Starting) {
            self.failing_streak += 1;
            if self.failing_streak >= retries.max(1) {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push_back(result);
        while self.log.len() > LOG_LENGTH {
            self.log.pop_front();
        }
        self.status != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: i32) -> HealthResult {
        HealthResult { start: Timestamp::default(), end: Timestamp::default(), exit_code, output: String::new() }
    }

    #[test]
    fn unhealthy_after_enough_failures_healthy_at_once() {
        let mut h = Health::default();
        assert!(!h.record(result(1), 3, true), "the start period forgives");
        assert_eq!(h.failing_streak, 0);
        assert!(!h.record(result(1), 2, false));
        assert!(h.record(result(1), 2, false));
        assert_eq!(h.status, HealthStatus::Unhealthy);
        assert!(h.record(result(0), 2, false));
        assert_eq!((h.status, h.failing_streak), (HealthStatus::Healthy, 0));
        for _ in 0..10 {
            h.record(result(0), 2, false);
        }
        assert_eq!(h.log.len(), LOG_LENGTH);
    }
}
