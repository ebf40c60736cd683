//! What a manifest's `[services]` come to: what each provisioner is asked for, and what the app gets.

use std::collections::BTreeMap;

use futures::future::{join_all, try_join_all};
use vela_manifest::{AppName, JetStream, Nats, Postgres, Services, Template};
use vela_services::{Bindings, OwnerName, Provisioner, ServiceSpec};

use crate::env::UnsetSecret;
use crate::launch::Launch;
use crate::stack::Stack;
use crate::step_error::StepError;

/// A kind of service, and what is asked of it.
pub(crate) type Asked = (String, ServiceSpec);

/// Whether any service is asked for.
pub(crate) fn asks(services: &Services) -> bool {
    let Services {
        postgres,
        nats,
        others,
        ..
    } = services;
    postgres.is_some() || nats.is_some() || !others.is_empty()
}

/// What a manifest asks for, as the provisioners are told; `render` fills templates.
pub(crate) fn asked(
    services: &Services,
    render: impl Fn(&str, &Template) -> Result<String, UnsetSecret>,
) -> Result<Vec<Asked>, UnsetSecret> {
    let mut asked = Vec::new();
    if let Some(postgres) = &services.postgres {
        let url = postgres.url.as_ref();
        let url = url.map(|url| render("services.postgres.url", url));
        asked.push((
            "postgres".to_owned(),
            of_postgres(postgres, url.transpose()?),
        ));
    }
    if let Some(nats) = &services.nats {
        asked.push(("nats".to_owned(), of_nats(nats)));
    }
    let others = services.others.iter();
    asked.extend(others.map(|(kind, keys)| (kind.clone(), of_other(keys))));
    Ok(asked)
}

/// Makes sure that the services of the manifest exist, and gives their variables.
pub(crate) async fn provision(launch: &Launch) -> Result<Bindings, StepError> {
    let render = |name: &str, template: &Template| launch.render(name, template);
    let asked = asked(&launch.manifest.services, render)?;
    merged(ensure(&launch.stack, &launch.app, asked).await?)
}

/// Makes sure that the services exist, all at a time; gives the variables of each kind.
///
/// The first that can't be had ends the wait for the others: what they had begun, the next call completes.
async fn ensure(
    stack: &Stack,
    app: &AppName,
    asked: Vec<Asked>,
) -> Result<BTreeMap<String, Bindings>, StepError> {
    let owner = owner(app);
    // All of them before any has begun.
    let found: Result<Vec<_>, _> = asked.into_iter().map(|one| found(stack, one)).collect();
    let ensured = found?.into_iter().map(|(kind, spec, provisioner)| {
        let owner = &owner;
        async move {
            match provisioner.ensure(owner, &spec).await {
                Ok(bindings) => Ok((kind, bindings)),
                Err(source) => Err(StepError::Service {
                    kind,
                    source: Box::new(source),
                }),
            }
        }
    });
    Ok(try_join_all(ensured).await?.into_iter().collect())
}

/// The variables that the app has of each kind that is asked for, or nothing. To look is all it does: beside a
/// removal, or a deploy that changes what a service gives, `ensure` would take that back.
pub(crate) async fn given(
    stack: &Stack,
    app: &AppName,
    asked: Vec<Asked>,
) -> Result<BTreeMap<String, Option<Bindings>>, StepError> {
    let owner = owner(app);
    let mut all = BTreeMap::new();
    for one in asked {
        let (kind, spec, provisioner) = found(stack, one)?;
        match provisioner.bindings(&owner, &spec).await {
            Ok(bindings) => all.insert(kind, bindings),
            Err(source) => {
                return Err(StepError::Service {
                    kind,
                    source: Box::new(source),
                });
            }
        };
    }
    Ok(all)
}

/// What is asked for, with who provides it.
fn found(
    stack: &Stack,
    (kind, spec): Asked,
) -> Result<(String, ServiceSpec, &dyn Provisioner), StepError> {
    let provisioner = stack.provisioners.iter().find(|one| one.kind() == kind);
    match provisioner {
        Some(provisioner) => Ok((kind, spec, &**provisioner)),
        None => Err(StepError::NoProvisioner { kind }),
    }
}

/// Takes every service away from an app, whatever its manifests have asked for; also tries the others when one fails.
pub(crate) async fn remove(stack: &Stack, app: &AppName, purge: bool) -> Result<(), StepError> {
    let owner = owner(app);
    let removals = stack.provisioners.iter().map(|provisioner| {
        let owner = &owner;
        async move {
            let removed = provisioner.remove(owner, purge).await;
            removed.map_err(|source| StepError::Service {
                kind: provisioner.kind().to_owned(),
                source: Box::new(source),
            })
        }
    });
    let mut result = Ok(());
    for removed in join_all(removals).await {
        if let Err(error) = &removed {
            tracing::error!(%app, error = %error.report(), "could not take a service away");
        }
        result = result.and(removed);
    }
    result
}

/// The variables of all kinds. No kind wins over another: an app that asks for two which give the same variable
/// would get one of them by chance.
fn merged(by_kind: BTreeMap<String, Bindings>) -> Result<Bindings, StepError> {
    let mut giver: BTreeMap<String, String> = BTreeMap::new();
    let mut all = Bindings::new();
    for (kind, bindings) in by_kind {
        for (variable, value) in bindings {
            if let Some(first) = giver.insert(variable.clone(), kind.clone()) {
                let kinds = [first, kind];
                return Err(StepError::ServiceClash { variable, kinds });
            }
            all.insert(variable, value);
        }
    }
    Ok(all)
}

fn owner(app: &AppName) -> OwnerName {
    OwnerName::parse(app.as_str())
        .expect("an app's name is a lower-case name of at most 63 bytes, as an owner's is")
}

fn of_postgres(postgres: &Postgres, url: Option<String>) -> ServiceSpec {
    let mut spec = ServiceSpec::default();
    spec.url = url.map(Into::into);
    spec.version.clone_from(&postgres.version);
    spec.databases.clone_from(&postgres.databases);
    spec.extensions.clone_from(&postgres.extensions);
    spec
}

fn of_nats(nats: &Nats) -> ServiceSpec {
    let mut spec = ServiceSpec::default();
    spec.version.clone_from(&nats.version);
    spec.subjects.clone_from(&nats.subjects);
    spec.jetstream = nats.jetstream.map(
        |JetStream {
             storage, memory, ..
         }| vela_services::JetStream {
            max_storage: storage,
            max_memory: memory,
        },
    );
    spec
}

/// `[services.x-<kind>]`: the keys that every kind may have, and what only its provisioner knows.
fn of_other(keys: &BTreeMap<String, String>) -> ServiceSpec {
    let list = |items: &str| items.split(',').map(str::to_owned).collect();
    let mut spec = ServiceSpec::default();
    for (key, value) in keys {
        match key.as_str() {
            "url" => spec.url = Some(value.as_str().into()),
            "version" => spec.version = Some(value.clone()),
            "databases" => spec.databases = list(value),
            "extensions" => spec.extensions = list(value),
            "subjects" => spec.subjects = list(value),
            _ => {
                spec.options.insert(key.clone(), value.clone());
            }
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn asked_by(services: &str) -> Vec<Asked> {
        let text = format!("[app]\nname = \"shop\"\ndomain = \"shop.example\"\n{services}");
        let manifest = vela_manifest::Manifest::parse("Vela.toml", &text).unwrap();
        let render = |name: &str, _: &Template| Ok(format!("rendered {name}"));
        let asked = asked(&manifest.services, render).unwrap();
        assert_eq!(asks(&manifest.services), !asked.is_empty());
        asked
    }

    #[test]
    fn every_section_becomes_what_its_provisioner_is_asked_for() {
        assert!(asked_by("").is_empty());
        let asked = asked_by(
            "[services.postgres]\nversion = 15\ndatabases = [\"a\", \"b\"]\nextensions = [\"hstore\"]\nurl = \"postgres://x\"\n\
             [services.nats]\nversion = \"2.9\"\nsubjects = [\"orders.>\"]\njetstream = { storage = \"1K\" }\n\
             [services.x-redis]\nversion = 7\ndatabases = [\"one\", \"two\"]\nappend = true\n",
        );
        let kinds: Vec<_> = asked.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["postgres", "nats", "redis"]);
        let [postgres, nats, redis] = [&asked[0].1, &asked[1].1, &asked[2].1];
        let url = postgres.url.as_ref().unwrap();
        assert_eq!(url.expose_secret(), "rendered services.postgres.url");
        assert_eq!(postgres.version.as_deref(), Some("15"));
        assert_eq!(postgres.databases, ["a", "b"]);
        assert_eq!(postgres.extensions, ["hstore"]);
        assert_eq!(nats.version.as_deref(), Some("2.9"));
        assert_eq!(nats.subjects, ["orders.>"]);
        assert_eq!(nats.jetstream.unwrap().max_storage, Some(1024));
        assert_eq!(redis.version.as_deref(), Some("7"));
        assert_eq!(redis.databases, ["one", "two"]);
        assert_eq!(redis.options, [("append".into(), "true".into())].into());
    }

    #[test]
    fn two_kinds_that_give_the_same_variable_are_an_error() {
        let kind = |kind: &str, variables: &[&str]| {
            let bindings = variables
                .iter()
                .map(|name| ((*name).to_owned(), kind.into()));
            (kind.to_owned(), bindings.collect::<Bindings>())
        };
        let apart = [kind("a", &["A_URL"]), kind("b", &["B_URL"])];
        assert_eq!(merged(apart.into()).unwrap().len(), 2);
        let clash = [kind("a", &["URL"]), kind("b", &["B", "URL"])];
        let error = merged(clash.into()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the services `a` and `b` both give the variable URL"
        );
    }
}
