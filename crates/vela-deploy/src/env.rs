use std::collections::BTreeMap;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use vela_manifest::{AppName, Template, Variable};

/// Everything that an app's environment is made of.
#[derive(Debug, Clone, Copy)]
pub struct EnvSources<'a> {
    /// What is passed on of the daemon's own environment: see [`inherited_env`].
    pub inherited: &'a BTreeMap<String, String>,
    /// The app.
    pub app: &'a AppName,
    /// The release's id.
    pub release: &'a str,
    /// The instance's id.
    pub instance: &'a str,
    /// The port to listen on.
    pub port: u16,
    /// The Unix socket to listen on, for an app that does.
    pub socket: Option<&'a Path>,
    /// The directory that no deploy touches.
    pub data_dir: &'a Path,
    /// The home directory, where it is not the daemon's.
    pub home: Option<&'a Path>,
    /// `[env]` of the manifest.
    pub manifest: &'a BTreeMap<String, Template>,
    /// The app's secrets.
    pub secrets: &'a BTreeMap<String, SecretString>,
    /// What its services gave.
    pub services: &'a BTreeMap<String, SecretString>,
    /// What its type of release needs, where nothing else sets it.
    pub defaults: &'a BTreeMap<String, String>,
}

/// A secret that `[env]` refers to is not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} needs the secret `{secret}`, which is not set", place(variable))]
pub struct UnsetSecret {
    /// The variable of `[env]`.
    pub variable: String,
    /// The secret.
    pub secret: String,
}

/// How a variable of `[env]` is called, or another place in the manifest, which is a path of keys.
pub(crate) fn place(variable: &str) -> String {
    match variable.contains('.') {
        true => format!("`{variable}`"),
        false => format!("`{variable}` in [env]"),
    }
}

/// The whole environment of a process of an app: the same function for an instance, a hook, a restart, a restore
/// and a rollback. Pure.
///
/// Later sources win: the defaults of the release's type, inherited, services, secrets, `[env]`, and last what Vela
/// itself promises (`PORT`, `VELA_*`).
///
/// # Errors
/// When `[env]` refers to a secret that is not set.
pub fn resolve_env(
    sources: &EnvSources<'_>,
) -> Result<BTreeMap<String, SecretString>, UnsetSecret> {
    let mut env = BTreeMap::new();
    let plain =
        |(name, value): (&String, &String)| (name.clone(), SecretString::from(value.as_str()));
    env.extend(sources.defaults.iter().chain(sources.inherited).map(plain));
    if let Some(home) = sources.home {
        env.insert("HOME".to_owned(), home.display().to_string().into());
    }
    env.extend(
        sources
            .services
            .iter()
            .chain(sources.secrets)
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    for (name, template) in sources.manifest {
        let value = render(name, template, sources)?;
        env.insert(name.clone(), value.into());
    }
    let port = sources.port.to_string();
    let own = [
        ("PORT", port.clone()),
        ("VELA_PORT", port),
        ("VELA_DATA_DIR", sources.data_dir.display().to_string()),
        ("VELA_APP_NAME", sources.app.to_string()),
        ("VELA_RELEASE", sources.release.to_owned()),
        ("VELA_INSTANCE", sources.instance.to_owned()),
    ];
    env.extend(own.map(|(name, value)| (name.to_owned(), SecretString::from(value))));
    if let Some(socket) = sources.socket {
        let socket = socket.display().to_string();
        env.insert("VELA_SOCKET".to_owned(), socket.into());
    }
    Ok(env)
}

/// What an app gets of the daemon's own environment: `PATH`, `HOME`, `LANG` and `TZ`, and nothing else.
pub fn inherited_env() -> BTreeMap<String, String> {
    let kept = ["PATH", "HOME", "LANG", "TZ"];
    kept.iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect()
}

/// Fills a template with the values of `sources`; `name` is the variable it belongs to.
///
/// # Errors
/// When the template refers to a secret that is not set.
pub(crate) fn render(
    name: &str,
    template: &Template,
    sources: &EnvSources<'_>,
) -> Result<String, UnsetSecret> {
    template.render(|variable| {
        Ok(match variable {
            Variable::DataDir => sources.data_dir.display().to_string(),
            Variable::App => sources.app.to_string(),
            Variable::Release => sources.release.to_owned(),
            Variable::Port => sources.port.to_string(),
            // Refused in the manifest of an app that has none.
            Variable::Socket => sources
                .socket
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            Variable::Secret(key) => {
                let value = sources.secrets.get(key);
                let unset = || UnsetSecret {
                    variable: name.to_owned(),
                    secret: key.clone(),
                };
                value.ok_or_else(unset)?.expose_secret().to_owned()
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(
        manifest: &str,
        secrets: &[(&str, &str)],
    ) -> Result<BTreeMap<String, String>, UnsetSecret> {
        let manifest = vela_manifest::Manifest::parse(
            "Vela.toml",
            &format!("[app]\nname = \"shop\"\ndomain = \"shop.example\"\nlisten = \"unix\"\n[env]\n{manifest}"),
        )
        .unwrap();
        let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, SecretString> {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), SecretString::from(*value)))
                .collect()
        };
        let env = resolve_env(&EnvSources {
            inherited: &[
                ("PATH".to_owned(), "/bin".to_owned()),
                ("HOME".to_owned(), "/root".to_owned()),
            ]
            .into(),
            app: &manifest.app.name,
            release: "20260305-143022",
            instance: "i1",
            port: 12345,
            socket: Some(Path::new("/var/vela/apps/shop/sockets/12345")),
            data_dir: Path::new("/var/vela/apps/shop/data"),
            home: Some(Path::new("/home/shop")),
            manifest: &manifest.env,
            secrets: &pairs(secrets),
            services: &pairs(&[("DATABASE_URL", "postgres://service"), ("PGHOST", "h")]),
            defaults: &[("LANG", "C.UTF-8"), ("TOKEN", "none")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        })?;
        Ok(env
            .into_iter()
            .map(|(name, value)| (name, value.expose_secret().to_owned()))
            .collect())
    }

    #[test]
    fn later_sources_win_and_templates_are_filled() {
        let env = resolve(
            "AT = \"unix:${socket}\"\nDB = \"${data_dir}/x.db\"\nTOKEN = \"t-${secret:KEY}\"\nPATH = \"/opt/bin\"\n",
            &[("KEY", "s3"), ("DATABASE_URL", "postgres://own")],
        )
        .unwrap();
        let expected = [
            ("AT", "unix:/var/vela/apps/shop/sockets/12345"),
            ("DATABASE_URL", "postgres://own"),
            ("DB", "/var/vela/apps/shop/data/x.db"),
            ("HOME", "/home/shop"),
            ("KEY", "s3"),
            ("LANG", "C.UTF-8"),
            ("PATH", "/opt/bin"),
            ("PGHOST", "h"),
            ("PORT", "12345"),
            ("TOKEN", "t-s3"),
            ("VELA_APP_NAME", "shop"),
            ("VELA_DATA_DIR", "/var/vela/apps/shop/data"),
            ("VELA_INSTANCE", "i1"),
            ("VELA_PORT", "12345"),
            ("VELA_RELEASE", "20260305-143022"),
            ("VELA_SOCKET", "/var/vela/apps/shop/sockets/12345"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(env, expected.into_iter().collect());
    }

    #[test]
    fn an_unset_secret_is_named() {
        let error = resolve("TOKEN = \"${secret:KEY}\"\n", &[]).unwrap_err();
        assert_eq!(
            error,
            UnsetSecret {
                variable: "TOKEN".into(),
                secret: "KEY".into()
            }
        );
    }
}
