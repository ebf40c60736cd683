use std::collections::BTreeMap;

use secrecy::SecretString;
use vela_services::{OwnerName, ServiceSpec};

use crate::launch::Launch;
use crate::step_error::StepError;

/// Makes sure that the services of the manifest exist, and gives their variables.
pub(crate) async fn provision(
    launch: &Launch,
) -> Result<BTreeMap<String, SecretString>, StepError> {
    let mut bindings = BTreeMap::new();
    let Some(postgres) = &launch.manifest.services.postgres else {
        return Ok(bindings);
    };
    let kind = "postgres";
    let find = |kind| {
        launch
            .stack
            .provisioners
            .iter()
            .find(|one| one.kind() == kind)
    };
    let provisioner = find(kind).ok_or(StepError::NoProvisioner { kind })?;
    let url = postgres
        .url
        .as_ref()
        .map(|url| launch.render("services.postgres.url", url))
        .transpose()?;
    let mut spec = ServiceSpec::default();
    spec.url = url.map(SecretString::from);
    spec.version.clone_from(&postgres.version);
    spec.databases.clone_from(&postgres.databases);
    let owner = OwnerName::parse(launch.app.as_str())
        .expect("an app's name is a lower-case name of at most 63 bytes, as an owner's is");
    let failed = |source| StepError::Service { kind, source };
    bindings.extend(provisioner.ensure(&owner, &spec).await.map_err(failed)?);
    Ok(bindings)
}
