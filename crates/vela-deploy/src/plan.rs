use vela_manifest::Strategy;
use vela_protocol::Step;

use crate::operation::{Request, What};
use crate::services;

/// The steps of an operation, in order: those that have nothing to do are left out.
pub(crate) fn plan(request: &Request, runs: bool, certify: bool) -> Vec<Step> {
    let deploy = &request.manifest.deploy;
    let sequential = runs && deploy.strategy == Strategy::Sequential;
    let (is_deploy, is_restart) = match request.what {
        What::Deploy { .. } => (true, false),
        What::Rollback { .. } => (false, false),
        What::Restart { .. } => (false, true),
    };
    let runs_pre_start = is_deploy || matches!(request.what, What::Rollback { hooks: true, .. });
    let takes = |step: Step| match step {
        Step::Build => matches!(request.what, What::Deploy { build: true, .. }),
        Step::Unpack | Step::Register => is_deploy,
        Step::Provision => services::asks(&request.manifest.services),
        Step::PreStart => runs_pre_start && deploy.pre_start.is_some(),
        Step::Park | Step::StopFirst => sequential,
        Step::Drain | Step::Stop => runs && !sequential,
        Step::PreSwitch => !is_restart && deploy.pre_switch.is_some(),
        Step::Certify => certify && !is_restart,
        Step::PostDeploy => !is_restart && deploy.post_deploy.is_some(),
        Step::Cleanup => !is_restart,
        _ => true,
    };
    Step::ALL.into_iter().filter(|step| takes(*step)).collect()
}
