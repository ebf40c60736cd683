use vela_protocol::Step;

/// One line of the step list: the client's own work, then the daemon's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The artifact is packed.
    Pack,
    /// The artifact is sent.
    Upload,
    /// A step of the daemon's.
    Step(Step),
}

impl Phase {
    /// What stands on its line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Pack => "pack",
            Phase::Upload => "upload",
            Phase::Step(step) => step.as_str(),
        }
    }
}
