use std::fmt;

/// `deploy.strategy`: how a new release takes over from the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Strategy {
    /// The new instance runs beside the old one until it is healthy, then traffic switches.
    #[default]
    BlueGreen,
    /// The old instance stops before the new one starts; requests wait in between. For apps whose data
    /// allows one process only.
    Sequential,
    /// One instance after another.
    Rolling,
    /// A share of the traffic first.
    Canary,
    /// Without waiting for health.
    Immediate,
}

impl Strategy {
    pub(crate) const ALL: [(&str, Self); 5] = [
        ("blue-green", Self::BlueGreen),
        ("sequential", Self::Sequential),
        ("rolling", Self::Rolling),
        ("canary", Self::Canary),
        ("immediate", Self::Immediate),
    ];

    /// As the manifest spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlueGreen => "blue-green",
            Self::Sequential => "sequential",
            Self::Rolling => "rolling",
            Self::Canary => "canary",
            Self::Immediate => "immediate",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
