use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::env_name::is_env_name;
use crate::quote::quoted;
use crate::reason::Reason;
use crate::suggest::{did_you_mean, nearest};

/// A text with `${..}` variables that are known only where the app runs.
///
/// Variables are those of [`Variable`]; any other is an error when the manifest is read. `$$` stands for
/// one `$`, so `$${port}` is the text `${port}`; a `$` before anything else is itself.
///
/// A template never holds the value of a secret, but its fixed parts may be sensitive all the same (a URL
/// with a password, say): `Debug` shows the variables only.
///
/// ```
/// use vela_manifest::{Template, Variable};
///
/// let template = Template::parse("${data_dir}/my-app.db")?;
/// let rendered = template.render(|variable| match variable {
///     Variable::DataDir => Ok("/var/vela/apps/my-app/data".to_owned()),
///     other => Err(format!("{other} is not set")),
/// })?;
/// assert_eq!(rendered, "/var/vela/apps/my-app/data/my-app.db");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Variable(Variable),
}

/// What a [`Template`] can refer to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variable {
    /// `${data_dir}`: the app's directory that no deploy touches.
    DataDir,
    /// `${secret:KEY}`: the value of the app's secret of that name.
    Secret(String),
    /// `${app}`: the app's name.
    App,
    /// `${release}`: the id of the release that runs.
    Release,
    /// `${port}`: the port the instance must listen on.
    Port,
    /// `${socket}`: the Unix socket it must listen on, with `listen = "unix"`.
    Socket,
}

const NAMES: [(&str, Variable); 5] = [
    ("data_dir", Variable::DataDir),
    ("app", Variable::App),
    ("release", Variable::Release),
    ("port", Variable::Port),
    ("socket", Variable::Socket),
];

impl Template {
    /// Reads a text; fails at the first `${` that is unclosed or names no variable.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if let Some(at) = text.find('\0') {
            return Err(TemplateError::Nul { at });
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            literal.push_str(&rest[..dollar]);
            let at = text.len() - rest.len() + dollar;
            let after = &rest[dollar + 1..];
            if let Some(after_escape) = after.strip_prefix('$') {
                literal.push('$');
                rest = after_escape;
            } else if let Some(inside) = after.strip_prefix('{') {
                let (name, after_variable) = inside
                    .split_once('}')
                    .ok_or(TemplateError::Unclosed { at })?;
                let variable = Variable::parse(name, at..at + name.len() + 3)?;
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(Part::Variable(variable));
                rest = after_variable;
            } else {
                literal.push('$');
                rest = after;
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { parts })
    }

    /// The variables it refers to, in order, repeated ones too.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(variable) => Some(variable),
            Part::Literal(_) => None,
        })
    }

    /// The text with every variable replaced by what `lookup` says; its first error ends the rendering.
    /// What comes out is as secret as what went in.
    pub fn render<E>(
        &self,
        mut lookup: impl FnMut(&Variable) -> Result<String, E>,
    ) -> Result<String, E> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Variable(variable) => text.push_str(&lookup(variable)?),
            }
        }
        Ok(text)
    }

    pub(crate) fn names(&self, variable: &Variable) -> bool {
        self.variables().any(|one| one == variable)
    }

    /// A template that renders to exactly `text`.
    pub(crate) fn literal(text: String) -> Self {
        Self {
            parts: vec![Part::Literal(text)],
        }
    }

    /// The fixed text it begins with, if it doesn't begin with a variable.
    pub(crate) fn leading_literal(&self) -> Option<&str> {
        match self.parts.first() {
            Some(Part::Literal(literal)) => Some(literal),
            Some(Part::Variable(_)) => None,
            None => Some(""),
        }
    }
}

impl Variable {
    fn parse(name: &str, span: Range<usize>) -> Result<Self, TemplateError> {
        if let Some(key) = name.strip_prefix("secret:") {
            if !is_env_name(key) {
                return Err(TemplateError::SecretName {
                    name: key.to_owned(),
                    span,
                });
            }
            return Ok(Self::Secret(key.to_owned()));
        }
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, variable)| variable.clone())
            .ok_or_else(|| TemplateError::UnknownVariable {
                name: name.to_owned(),
                span,
            })
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Template(")?;
        for part in &self.parts {
            match part {
                Part::Literal(_) => f.write_str("…")?,
                Part::Variable(variable) => write!(f, "{variable}")?,
            }
        }
        f.write_str(")")
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir => f.write_str("${data_dir}"),
            Self::Secret(key) => write!(f, "${{secret:{key}}}"),
            Self::App => f.write_str("${app}"),
            Self::Release => f.write_str("${release}"),
            Self::Port => f.write_str("${port}"),
            Self::Socket => f.write_str("${socket}"),
        }
    }
}

/// Why a text is not a [`Template`]. Positions are byte offsets into the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A `${` with no `}` after it.
    #[error("`${{` is never closed")]
    Unclosed {
        /// Where the `$` is.
        at: usize,
    },
    /// A name that is no variable's.
    #[error("unknown variable {}", quoted(name))]
    UnknownVariable {
        /// What stood between the braces.
        name: String,
        /// From `$` to `}`.
        span: Range<usize>,
    },
    /// `${secret:..}` with a key that no secret can have.
    #[error("{} cannot be a secret's name", quoted(name))]
    SecretName {
        /// What stood after the colon.
        name: String,
        /// From `$` to `}`.
        span: Range<usize>,
    },
    /// A NUL character, which neither an argument nor the environment can carry.
    #[error("a NUL character cannot be passed to a program")]
    Nul {
        /// Where it is.
        at: usize,
    },
}

impl TemplateError {
    /// What to write instead, if that can be told.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unclosed { .. } => Some("write `$$` for a plain `$`".to_owned()),
            Self::UnknownVariable { name, .. } => {
                let known = NAMES.map(|(known, _)| known);
                nearest(name, known)
                    .map(|near| did_you_mean(&format!("${{{near}}}")))
                    .or_else(|| {
                        Some(
                        "there are ${data_dir}, ${secret:KEY}, ${app}, ${release}, ${port} and ${socket}; \
                         `$${` is a plain `${`"
                            .to_owned(),
                    )
                    })
            }
            Self::SecretName { .. } => Some(
                "a secret is named like an environment variable: `${secret:MY_KEY}`".to_owned(),
            ),
            Self::Nul { .. } => None,
        }
    }
}

impl Reason for TemplateError {
    fn hint(&self) -> Option<String> {
        self.hint()
    }

    fn within(&self) -> Option<Range<usize>> {
        match self {
            Self::Unclosed { at } => Some(*at..*at + 2),
            Self::UnknownVariable { span, .. } | Self::SecretName { span, .. } => {
                Some(span.clone())
            }
            Self::Nul { at } => Some(*at..*at + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn rendered(text: &str) -> String {
        let template = Template::parse(text).expect(text);
        let Ok(rendered) = template.render(|v| Ok::<_, Infallible>(format!("<{v}>")));
        rendered
    }

    #[test]
    fn variables_and_escapes() {
        assert_eq!(rendered("a${port}${app}b"), "a<${port}><${app}>b");
        assert_eq!(
            rendered("${secret:A_1}${data_dir}${release}"),
            "<${secret:A_1}><${data_dir}><${release}>"
        );
        assert_eq!(rendered("$2b$12$x $"), "$2b$12$x $");
        assert_eq!(rendered("$${port} $$$$ $$${port}"), "${port} $$ $<${port}>");
        assert_eq!(rendered(""), "");
    }

    #[test]
    fn errors_point_at_the_variable() {
        let error = Template::parse("x/${datadir}").expect_err("unknown");
        assert_eq!(error.to_string(), "unknown variable `datadir`");
        assert_eq!(error.hint().as_deref(), Some("did you mean `${data_dir}`?"));
        assert_eq!(error.within(), Some(2..12));
        assert_eq!(
            Template::parse("ä${port").expect_err("unclosed").within(),
            Some(2..4)
        );
        for text in [
            "${}",
            "${secret:}",
            "${secret:a b}",
            "${secret:1}",
            "${PORT}",
            "a\0",
        ] {
            assert!(Template::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn debug_shows_no_fixed_text() {
        let template = Template::parse("postgres://me:hunter2@db/${app}").expect("valid");
        assert_eq!(format!("{template:?}"), "Template(…${app})");
    }

    #[test]
    fn an_error_of_the_lookup_is_returned() {
        let template = Template::parse("${secret:KEY}").expect("valid");
        assert_eq!(
            template.render(|v| Err::<String, _>(v.clone())),
            Err(Variable::Secret("KEY".into()))
        );
    }

    proptest! {
        #[test]
        fn never_panics_and_points_inside(text in "[$\\{\\}a:ä\0]{0,12}") {
            if let Err(error) = Template::parse(&text) {
                let span = error.within().expect("every error has a place");
                prop_assert!(text.get(span).is_some());
            }
        }

        #[test]
        fn escaped_text_renders_to_itself(text in "[${}a ä]{0,20}") {
            prop_assert_eq!(rendered(&text.replace('$', "$$")), text);
        }
    }
}
