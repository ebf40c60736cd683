use std::time::Instant;

use vela_protocol::{Event, Serving, Step};
use vela_proxy::{DrainLimits, Replaced};

use crate::app::Old;
use crate::keeper::Begin;
use crate::launch::StopPermit;
use crate::meta::Meta;
use crate::operation::{Operation, millis};
use crate::step_error::StepError;

/// Takes back the steps that were reached, in reverse, and says what the app's users get then. A step that can't be
/// taken back is recorded, and the others still are.
pub(crate) async fn undo(operation: &mut Operation<'_>) -> Serving {
    let reached = std::mem::take(&mut operation.reached);
    for step in reached.into_iter().rev() {
        let began = Instant::now();
        let result = match step {
            Step::Unpack => remove_release(operation).await,
            Step::Register => {
                Meta::remove(&operation.app.dirs, operation.release).map_err(StepError::State)
            }
            Step::Park => unpark(operation).await,
            Step::StopFirst => start_old(operation).await,
            Step::Start => stop_new(operation).await,
            Step::Switch => switch_back(operation).await,
            // Services are kept for the next try; hooks have ended; probes leave nothing; what comes after the
            // commit point is never undone.
            _ => continue,
        };
        let ms = millis(began);
        let error = result.err().map(|error| error.report());
        operation
            .record(Event::StepUndone { step, ms, error })
            .await;
    }
    keep_old(operation)
}

async fn remove_release(operation: &mut Operation<'_>) -> Result<(), StepError> {
    operation
        .app
        .store(None)?
        .remove(operation.release)
        .await
        .map_err(StepError::Store)
}

/// Points the route at the old instances, or holds the requests until they run again.
async fn switch_back(operation: &mut Operation<'_>) -> Result<(), StepError> {
    if !std::mem::take(&mut operation.switched) {
        return Ok(());
    }
    let stack = &operation.app.stack;
    let replaced: Option<Replaced> = match (&operation.old, &stack.park) {
        (Some(old), Some(park)) if operation.steps.contains(&Step::Park) => {
            old.launch.park(&**park).await
        }
        (Some(old), _) => old.launch.serve(&old.running).await,
        (None, _) => match operation.app.current_manifest().await? {
            // A stopped app has its hosts, and answers 503.
            Some((release, manifest)) => operation.app.serve_nothing(release, &manifest).await,
            None => operation.app.route.remove().await,
        },
    }
    .map_err(StepError::Route)?;
    // Now it is the new instances that are drained and stopped.
    operation.replaced = replaced;
    Ok(())
}

async fn stop_new(operation: &mut Operation<'_>) -> Result<(), StepError> {
    let running = std::mem::take(&mut operation.new);
    let Some(launch) = operation.launch.clone() else {
        return Ok(());
    };
    let new = Old { launch, running };
    let permit = match operation.replaced.take() {
        Some(replaced) => new.drain(Some(replaced), new.patience()).await,
        None => StopPermit::NeverRouted,
    };
    for (id, exit) in new.launch.stop(&new.running, permit).await? {
        let exit = exit.status.to_string();
        operation
            .record(Event::InstanceStopped {
                instance: id.to_string(),
                exit,
            })
            .await;
    }
    Ok(())
}

/// `sequential`: the old release again, in new instances.
async fn start_old(operation: &mut Operation<'_>) -> Result<(), StepError> {
    let Some(mut old) = operation.old.take() else {
        return Ok(());
    };
    let wanted = old.launch.manifest.deploy.instances as usize;
    let mut result = Ok(());
    while old.running.len() < wanted && result.is_ok() {
        result = start_one(&mut old).await;
    }
    for started in old
        .running
        .iter()
        .map(crate::launch::Running::started)
        .collect::<Vec<_>>()
    {
        operation.record(started).await;
    }
    operation.old = Some(old);
    result
}

async fn start_one(old: &mut Old) -> Result<(), StepError> {
    let lease = old.launch.stack.ports.reserve().map_err(StepError::Port)?;
    let mut running = old.launch.start(lease).await?;
    match old.launch.settle(&mut running, None).await {
        Ok(()) => {
            old.running.push(running);
            Ok(())
        }
        Err(error) => {
            old.launch.stop([&running], StopPermit::NeverRouted).await?;
            Err(error)
        }
    }
}

/// `sequential`: lets the held requests go to the old instances; if they would not come back, refuses them.
async fn unpark(operation: &mut Operation<'_>) -> Result<(), StepError> {
    let Some(old) = &operation.old else {
        return Ok(());
    };
    let applied = old.launch.serve(&old.running).await;
    match applied.map_err(StepError::Route)? {
        // The route was parked: nothing but that is replaced.
        None => Ok(()),
        Some(replaced) => {
            old.drain(Some(replaced), DrainLimits::NONE).await;
            Ok(())
        }
    }
}

/// Gives the old instances back to a keeper, which goes on trying if they are down.
fn keep_old(operation: &mut Operation<'_>) -> Serving {
    let Some(old) = operation.old.take() else {
        // The operation failed before it touched what runs, if anything does.
        return operation.app.serving();
    };
    let release = old.launch.release.id.to_string();
    let serving = match old.running.is_empty() {
        true => Serving::Down { release },
        false => Serving::Previous { release },
    };
    operation.app.keep(old.launch, Begin::Routed(old.running));
    serving
}
