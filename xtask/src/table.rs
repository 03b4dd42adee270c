//! What was measured, as the table that is printed, and whether it is as good as it has to be (`--check`).

use anyhow::{Result, bail};

/// What a row has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// So many times as good as Docker's, at least.
    Times(f64),
    /// Below this, in the row's unit.
    Below(f64),
}

/// Beginning of a row's label, and its bound.
pub(crate) type Target = (&'static str, Bound);

struct Row {
    label: String,
    ours: f64,
    /// How many times as good as Docker's, where that was measured.
    ratio: Option<f64>,
    unit: &'static str,
}

/// The rows so far; each is printed when it comes.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    pub(crate) fn head(&self, what: &str) {
        println!("{what:<38} {:>12} {:>12} {:>8}", "barque", "docker", "ratio");
    }

    /// Of each engine a value where less is better: times, memory.
    pub(crate) fn row(&mut self, label: &str, values: &[f64], unit: &'static str) {
        let ratio = values.get(1).map(|theirs| theirs / values[0]);
        self.add(label, values, ratio, unit);
    }

    /// The same of values where more is better.
    pub(crate) fn rate(&mut self, label: &str, values: &[f64], unit: &'static str) {
        let ratio = values.get(1).map(|theirs| values[0] / theirs);
        self.add(label, values, ratio, unit);
    }

    fn add(&mut self, label: &str, values: &[f64], ratio: Option<f64>, unit: &'static str) {
        let shown = |value: &f64| format!("{value:.2} {unit}");
        let docker = values.get(1).map_or_else(String::new, shown);
        let times = ratio.map_or_else(String::new, |r| format!("{r:.2}x"));
        println!("{label:<38} {:>12} {docker:>12} {times:>8}", shown(&values[0]));
        self.0.push(Row { label: label.to_owned(), ours: values[0], ratio, unit });
    }

    /// Prints how each target is met.
    ///
    /// # Errors
    /// One that is missed, or was not measured: a ratio needs Docker.
    pub(crate) fn check(&self, targets: &[Target]) -> Result<()> {
        let mut missed = 0;
        println!();
        for (label, bound) in targets {
            let found: Vec<&Row> = self.0.iter().filter(|r| r.label.starts_with(label)).collect();
            if found.is_empty() {
                bail!("no row begins with {label:?}");
            }
            for row in found {
                let (wanted, measured) = match bound {
                    Bound::Times(times) => {
                        (format!("at least {times} x Docker"), row.ratio.map(|r| (r >= *times, r, "x")))
                    }
                    Bound::Below(most) => {
                        (format!("below {most} {}", row.unit), Some((row.ours < *most, row.ours, row.unit)))
                    }
                };
                let (met, is) = match measured {
                    Some((met, value, unit)) => (met, format!("{value:.2} {unit}")),
                    None => (false, "not measured: there is no Docker".to_owned()),
                };
                missed += usize::from(!met);
                println!("{} {:<38} {wanted}: {is}", if met { "met   " } else { "MISSED" }, row.label);
            }
        }
        if missed > 0 {
            bail!("{missed} targets are missed");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::default();
        table.row("run on the bridge", &[10.0, 300.0], "ms");
        table.rate("across the bridge", &[2.0, 2.5], "GB/s");
        table.row("memory", &[11.0], "MB");
        table
    }

    #[test]
    fn targets_are_met_or_missed() {
        let check = |target: Target| table().check(&[target]);
        assert!(check(("run", Bound::Times(30.0))).is_ok());
        assert!(check(("run", Bound::Times(30.1))).is_err());
        assert!(check(("run", Bound::Below(10.5))).is_ok());
        assert!(check(("across", Bound::Times(0.8))).is_ok());
        assert!(check(("across", Bound::Times(0.9))).is_err(), "less is worse");
        assert!(check(("memory", Bound::Below(11.0))).is_err());
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        assert!(table().check(&[("memory", Bound::Times(1.0))]).is_err());
        assert!(table().check(&[("nothing", Bound::Below(1.0))]).is_err());
        assert!(table().check(&[]).is_ok());
    }
}
