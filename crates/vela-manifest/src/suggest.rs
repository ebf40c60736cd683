/// The candidate a typo was most likely meant to be, if one is near enough.
pub(crate) fn nearest<'a>(
    typo: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let typo = normal(typo);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let name = normal(candidate);
            // `drain_seconds` for `drain` is no slip of the fingers, but no less clear.
            let extends = name.len() >= 4 && (typo.starts_with(&name) || typo.ends_with(&name));
            let distance = if extends {
                1
            } else {
                strsim::damerau_levenshtein(&typo, &name)
            };
            let allowed = (name.chars().count() / 3).max(1);
            (distance <= allowed).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The hint for a suggestion.
pub(crate) fn did_you_mean(suggestion: &str) -> String {
    format!("did you mean `{suggestion}`?")
}

/// `Blue_Green`, `bluegreen` and `blue-green` are the same word to a person.
fn normal(word: &str) -> String {
    // A hostile key may be long, and the distance is quadratic.
    word.chars()
        .take(64)
        .filter(|c| !matches!(c, '-' | '_' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_only() {
        let keys = ["drain", "domain", "stop_timeout", "health", "tcp"];
        assert_eq!(nearest("drian", keys), Some("drain"));
        assert_eq!(nearest("StopTimeout", keys), Some("stop_timeout"));
        assert_eq!(nearest("drain_seconds", keys), Some("drain"));
        assert_eq!(nearest("healthcheck", keys), Some("health"));
        assert_eq!(nearest("tpc", keys), Some("tcp"));
        assert_eq!(nearest("replicas", keys), None);
        assert_eq!(nearest("", keys), None);
    }
}
