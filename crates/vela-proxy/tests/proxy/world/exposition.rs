use std::collections::{BTreeMap, BTreeSet};

/// Metrics in the text format of OpenMetrics, read without mercy: what a scraper could stumble
/// over fails the test.
#[derive(Debug)]
pub(crate) struct Exposition {
    samples: BTreeMap<String, f64>,
}

impl Exposition {
    pub(crate) fn parse(text: &str) -> Exposition {
        let text = text.strip_suffix("# EOF\n").expect("the end");
        assert!(text.ends_with('\n') && !text.contains("# EOF"));
        let mut samples = BTreeMap::new();
        let mut families = BTreeSet::new();
        let mut helped = String::new();
        let mut family = (String::new(), String::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a help text");
                assert!(!help.is_empty() && !help.contains('\\'), "{line}");
                helped = name.to_owned();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type");
                assert_eq!(name, helped, "{line}");
                assert!(families.insert(name.to_owned()), "twice: {line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                family = (name.to_owned(), kind.to_owned());
            } else {
                let (sample, value) = sample(line);
                let name = sample.split('{').next().unwrap();
                let suffix = name
                    .strip_prefix(&family.0)
                    .expect("a sample of its family");
                let suffixes: &[_] = match family.1.as_str() {
                    "counter" => &["_total"],
                    "gauge" => &[""],
                    _ => &["_bucket", "_sum", "_count"],
                };
                assert!(suffixes.contains(&suffix), "{line}");
                assert!(value >= 0.0 && value.is_finite(), "{line}");
                assert!(samples.insert(sample, value).is_none(), "twice: {line}");
            }
        }
        let read = Exposition { samples };
        read.check_histograms();
        read
    }

    /// The value of a sample, which is named as it is written.
    pub(crate) fn value(&self, sample: &str) -> Option<f64> {
        self.samples.get(sample).copied()
    }

    /// The sum over all samples that begin like this.
    pub(crate) fn sum(&self, begin: &str) -> f64 {
        let all = self.samples.iter();
        all.filter(|(sample, _)| sample.starts_with(begin))
            .map(|(_, value)| value)
            .sum()
    }

    pub(crate) fn samples(&self) -> impl Iterator<Item = &str> {
        self.samples.keys().map(String::as_str)
    }

    /// Buckets hold those before them, and the last one all.
    fn check_histograms(&self) {
        let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for (sample, value) in &self.samples {
            if let Some((name, labels)) = sample.split_once("_bucket{le=\"") {
                let (bound, others) = labels.split_once("\",").unwrap();
                let bound = match bound {
                    "+Inf" => f64::INFINITY,
                    bound => bound.parse().unwrap(),
                };
                let series = format!("{name}_count{{{others}");
                buckets.entry(series).or_default().push((bound, *value));
            }
        }
        assert!(!buckets.is_empty());
        for (count, mut buckets) in buckets {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(
                buckets.is_sorted_by(|one, other| one.1 <= other.1),
                "{count}"
            );
            let last = buckets.last().unwrap();
            assert!(
                last.0.is_infinite() && Some(last.1) == self.value(&count),
                "{count}"
            );
            let sum = count.replace("_count{", "_sum{");
            assert!(self.value(&sum).is_some(), "{sum}");
        }
    }
}

/// A sample with its labels, and its value.
fn sample(line: &str) -> (String, f64) {
    let is_name = |name: &str| {
        let mut letters = name.chars();
        letters
            .next()
            .is_some_and(|first| first.is_ascii_lowercase())
            && letters.all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '_')
    };
    let end = line.find(['{', ' ']).expect("a value");
    assert!(is_name(&line[..end]), "{line}");
    let mut rest = &line[end..];
    if let Some(labels) = rest.strip_prefix('{') {
        rest = labels;
        loop {
            let (name, value) = rest.split_once("=\"").expect("a label");
            assert!(is_name(name), "{line}");
            let mut is_escaped = false;
            let end = value.find(|letter| match letter {
                _ if is_escaped => {
                    assert!(['\\', '"', 'n'].contains(&letter), "{line}");
                    is_escaped = false;
                    false
                }
                '\\' => {
                    is_escaped = true;
                    false
                }
                letter => letter == '"',
            });
            rest = &value[end.expect("the end of a label") + 1..];
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').expect("the end of the labels");
    }
    let sample = &line[..line.len() - rest.len()];
    let value = rest.strip_prefix(' ').expect("one space").parse();
    (sample.to_owned(), value.expect("a number"))
}
