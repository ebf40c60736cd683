use std::fmt;

use serde::{Deserialize, Serialize};

/// One step of an operation, in the order in which a blue-green deploy takes them.
///
/// [`Park`](Step::Park) and [`StopFirst`](Step::StopFirst) belong to the `sequential` strategy, which stops the old
/// release between [`PreStart`](Step::PreStart) and [`Start`](Step::Start).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// Build the release from source; only with `[build] remote = true`.
    Build,
    /// Verify the artifact and unpack it into its release directory.
    Unpack,
    /// Record the manifest and who deployed it.
    Register,
    /// Make sure that the services exist and have their credentials.
    Provision,
    /// Run the `pre_start` hook.
    PreStart,
    /// `sequential` only: hold new requests.
    Park,
    /// `sequential` only: stop the old instances before the new ones start.
    StopFirst,
    /// Start the new instances.
    Start,
    /// Wait until the new instances are healthy.
    Health,
    /// Run the `pre_switch` hook.
    PreSwitch,
    /// Point the route at the new instances.
    Switch,
    /// Point `current` at the new release: from here on the operation is finished, never undone.
    Commit,
    /// Wait for the requests of the old instances.
    Drain,
    /// Stop the old instances.
    Stop,
    /// Wait a while for the certificate of new hosts.
    Certify,
    /// Run the `post_deploy` hook.
    PostDeploy,
    /// Remove old releases.
    Cleanup,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Step; 17] = [
        Step::Build,
        Step::Unpack,
        Step::Register,
        Step::Provision,
        Step::PreStart,
        Step::Park,
        Step::StopFirst,
        Step::Start,
        Step::Health,
        Step::PreSwitch,
        Step::Switch,
        Step::Commit,
        Step::Drain,
        Step::Stop,
        Step::Certify,
        Step::PostDeploy,
        Step::Cleanup,
    ];

    /// The name on the wire and in history.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Build => "build",
            Step::Unpack => "unpack",
            Step::Register => "register",
            Step::Provision => "provision",
            Step::PreStart => "pre_start",
            Step::Park => "park",
            Step::StopFirst => "stop_first",
            Step::Start => "start",
            Step::Health => "health",
            Step::PreSwitch => "pre_switch",
            Step::Switch => "switch",
            Step::Commit => "commit",
            Step::Drain => "drain",
            Step::Stop => "stop",
            Step::Certify => "certify",
            Step::PostDeploy => "post_deploy",
            Step::Cleanup => "cleanup",
        }
    }

    /// Whether a failure of this step undoes the operation; after the commit point a failure is only recorded.
    pub fn is_undoable(self) -> bool {
        self <= Step::Commit
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A command of the user's that runs during a deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Hook {
    /// Before the new instance starts: migrations.
    PreStart,
    /// When the new instance is healthy, before it gets traffic: smoke tests.
    PreSwitch,
    /// After the old instance stopped: notifications.
    PostDeploy,
}

impl Hook {
    /// The key in the manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Hook::PreStart => "pre_start",
            Hook::PreSwitch => "pre_switch",
            Hook::PostDeploy => "post_deploy",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_and_the_names_agree_with_the_wire() {
        assert!(Step::ALL.is_sorted());
        for step in Step::ALL {
            assert_eq!(serde_json::to_value(step).unwrap(), step.as_str());
        }
    }
}
