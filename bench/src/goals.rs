use std::fmt;

/// What Vela is to reach beside its peers. It is told, and ends nothing: one run on a machine that others use says
/// little.
#[derive(Debug, Default)]
pub struct Goals {
    lines: Vec<Goal>,
}

#[derive(Debug)]
struct Goal {
    what: String,
    limit: Limit,
    seen: f64,
}

/// Which numbers are good ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Limit {
    fn holds(self, seen: f64) -> bool {
        match self {
            Limit::AtMost(most) => seen <= most,
            Limit::AtLeast(least) => seen >= least,
        }
    }
}

impl Goals {
    /// Notes what was seen, if it was measured.
    pub fn note(&mut self, what: impl Into<String>, limit: Limit, seen: Option<f64>) {
        if let Some(seen) = seen {
            let what = what.into();
            self.lines.push(Goal { what, limit, seen });
        }
    }

    /// Whether nothing was measured that has a goal.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl fmt::Display for Goals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<72}{:>16}{:>10}", "goals", "wanted", "seen")?;
        for Goal { what, limit, seen } in &self.lines {
            let wanted = match limit {
                Limit::AtMost(most) => format!("at most {most:.2}"),
                Limit::AtLeast(least) => format!("at least {least:.2}"),
            };
            let verdict = if limit.holds(*seen) { "" } else { "  missed" };
            write!(f, "\n{what:<72}{wanted:>16}{seen:>10.2}{verdict}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_says_so() {
        let mut goals = Goals::default();
        goals.note("not measured", Limit::AtMost(1.0), None);
        assert!(goals.is_empty());
        goals.note("cpu", Limit::AtMost(1.17), Some(1.17));
        goals.note("requests", Limit::AtLeast(0.9), Some(0.89));
        // What cannot be told from its numbers is no success.
        goals.note("p99", Limit::AtMost(1.0), Some(f64::NAN));
        let told = goals.to_string();
        let missed: Vec<_> = told.lines().map(|line| line.ends_with("missed")).collect();
        assert_eq!(missed, [false, false, true, true]);
    }
}
