use std::time::Duration;

/// What one thing took, each time.
#[derive(Debug, Clone)]
pub struct Samples {
    name: String,
    took: Vec<Duration>,
}

impl Samples {
    /// None yet, of the thing of this name.
    pub fn of(name: &str) -> Samples {
        Samples {
            name: name.to_owned(),
            took: Vec::new(),
        }
    }

    /// One more.
    pub fn push(&mut self, took: Duration) {
        self.took.push(took);
    }

    /// The middle one; of an even number the mean of the two in the middle.
    pub fn median(&self) -> Duration {
        let sorted = self.sorted();
        match sorted.len() {
            0 => Duration::ZERO,
            count if count % 2 == 1 => sorted[count / 2],
            count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2,
        }
    }

    fn sorted(&self) -> Vec<Duration> {
        let mut sorted = self.took.clone();
        sorted.sort_unstable();
        sorted
    }
}

/// A table of medians, extremes, and the ratio of each median to that of the first line.
pub fn table(lines: &[&Samples]) -> String {
    let ms = |duration: Duration| format!("{:.1} ms", duration.as_secs_f64() * 1000.0);
    let base = lines
        .first()
        .map_or(0.0, |first| first.median().as_secs_f64());
    let mut text = format!(
        "{:<46}{:>12}{:>12}{:>12}{:>8}\n",
        "", "median", "fastest", "slowest", "ratio"
    );
    for samples in lines {
        let sorted = samples.sorted();
        let edge = |edge: Option<&Duration>| ms(edge.copied().unwrap_or_default());
        text += &format!(
            "{:<46}{:>12}{:>12}{:>12}{:>8.2}\n",
            samples.name,
            ms(samples.median()),
            edge(sorted.first()),
            edge(sorted.last()),
            samples.median().as_secs_f64() / base,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let mut samples = Samples::of("a");
        for (ms, median) in [(9, 9), (1, 5), (2, 2), (100, 5)] {
            samples.push(Duration::from_millis(ms));
            let rounded = samples.median().as_millis();
            assert_eq!(rounded, median);
        }
    }
}
