use crate::section::Section;
use crate::value::Value;

/// `[resources]`: what the app may use of the server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Resources {
    /// `memory`: bytes.
    pub memory: Option<u64>,
    /// `cpu_weight`: relative to other apps; 1 to 10000, where the kernel's default is 100.
    pub cpu_weight: Option<u16>,
}

impl Resources {
    pub(crate) fn read(mut section: Section<'_>) -> Self {
        Self {
            memory: section.read("memory", memory),
            cpu_weight: section.read("cpu_weight", |value| value.integer(1..=10_000)),
        }
    }
}

fn memory(value: &Value<'_>) -> Option<u64> {
    let bytes = value.size()?;
    if bytes < 1 << 20 {
        let hint = format!(r#"did you mean "{bytes}M"?"#);
        value.report(
            format!("{bytes} bytes is too little for any program"),
            Some(&hint),
        );
        return None;
    }
    Some(bytes)
}
