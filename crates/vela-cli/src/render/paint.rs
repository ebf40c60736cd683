use owo_colors::{OwoColorize, Style};

/// Colours, or none: escapes are made here and nowhere else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    coloured: bool,
}

impl Paint {
    pub(crate) fn new(coloured: bool) -> Paint {
        Paint { coloured }
    }

    pub(crate) fn is_coloured(self) -> bool {
        self.coloured
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.with(Style::new().green(), text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.with(Style::new().red().bold(), text)
    }

    pub(crate) fn warning(self, text: &str) -> String {
        self.with(Style::new().yellow().bold(), text)
    }

    pub(crate) fn hint(self, text: &str) -> String {
        self.with(Style::new().cyan().bold(), text)
    }

    pub(crate) fn faint(self, text: &str) -> String {
        self.with(Style::new().dimmed(), text)
    }

    pub(crate) fn strong(self, text: &str) -> String {
        self.with(Style::new().bold(), text)
    }

    fn with(self, style: Style, text: &str) -> String {
        if self.coloured {
            text.style(style).to_string()
        } else {
            text.to_owned()
        }
    }
}
