use std::borrow::Cow;

/// A page with places for what is not known before a request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageTemplate {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Status,
    Reason,
    Message,
}

impl PageTemplate {
    /// Anything else in double braces stays as it is: it may be a script's.
    pub(crate) fn parse(text: &str) -> PageTemplate {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((at, place, part)) = next_place(rest) {
            if at > 0 {
                parts.push(Part::Text(rest[..at].into()));
            }
            parts.push(part);
            rest = &rest[at + place.len()..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        PageTemplate { parts }
    }

    /// The page in pieces. What is put in must be [`escaped`].
    pub(crate) fn fill<'a>(
        &'a self,
        status: &'a str,
        reason: &'a str,
        message: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        self.parts.iter().map(move |part| match part {
            Part::Text(text) => &**text,
            Part::Status => status,
            Part::Reason => reason,
            Part::Message => message,
        })
    }
}

/// Text as it may stand in HTML, in attributes too.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    let special = |c| matches!(c, '&' | '<' | '>' | '"' | '\'');
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

fn next_place(text: &str) -> Option<(usize, &'static str, Part)> {
    [
        ("{{status}}", Part::Status),
        ("{{reason}}", Part::Reason),
        ("{{message}}", Part::Message),
    ]
    .into_iter()
    .filter_map(|(place, part)| Some((text.find(place)?, place, part)))
    .min_by_key(|(at, ..)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_and_the_rest_stays() {
        for (text, filled) in [
            ("", ""),
            ("{{status}}", "503"),
            (
                "<h1>{{status}} {{reason}}</h1>{{message}}{{message}}",
                "<h1>503 Busy</h1>backback",
            ),
            (
                "{{ status }} {{other}} {{{status}}} {{",
                "{{ status }} {{other}} {503} {{",
            ),
            ("ä{{message}}ö", "äbackö"),
        ] {
            let template = PageTemplate::parse(text);
            let parts: Vec<_> = template.fill("503", "Busy", "back").collect();
            assert_eq!(parts.concat(), filled);
        }
    }

    #[test]
    fn what_is_put_in_is_not_looked_at_again() {
        let template = PageTemplate::parse("{{message}}!");
        let parts: Vec<_> = template.fill("503", "Busy", "{{status}}").collect();
        assert_eq!(parts.concat(), "{{status}}!");
    }

    #[test]
    fn markup_becomes_text() {
        assert_eq!(
            escaped("<a href=\"x\">&'ä"),
            "&lt;a href=&quot;x&quot;&gt;&amp;&#39;ä"
        );
        assert!(matches!(escaped("back at 5 pm"), Cow::Borrowed(_)));
    }
}
