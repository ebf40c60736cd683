use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use vela_control::{Client, ServerAddress};
use vela_manifest::{AppName, Manifest};

use crate::args::Common;
use crate::connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::Screen;

/// What a manifest may have at most; its parser refuses what is longer.
const MANIFEST_BYTES: u64 = 1 << 20;

/// What every command starts from: the common flags, and where output goes.
#[derive(Debug)]
pub(crate) struct Context {
    common: Common,
    /// Where output goes.
    pub(crate) screen: Screen,
}

/// A manifest and the text it was read from.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file.
    pub(crate) path: PathBuf,
    /// What stands in it.
    pub(crate) text: String,
    /// What that means.
    pub(crate) manifest: Manifest,
}

impl Source {
    /// The directory that the manifest is in: relative paths start there.
    pub(crate) fn dir(&self) -> &Path {
        match self.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        }
    }
}

impl Context {
    pub(crate) fn new(common: Common) -> Context {
        Context {
            screen: Screen::new(&common),
            common,
        }
    }

    /// How often `-v` was given.
    pub(crate) fn verbosity(&self) -> u8 {
        self.common.verbose
    }

    /// Whether `-q` was given.
    pub(crate) fn is_quiet(&self) -> bool {
        self.common.quiet
    }

    /// Where the manifest is, or would be.
    pub(crate) fn manifest_path(&self) -> &Path {
        self.common
            .manifest
            .as_deref()
            .unwrap_or(Path::new("Vela.toml"))
    }

    /// The server that was named on the command line.
    pub(crate) fn server_flag(&self) -> Option<&ServerAddress> {
        self.common.server.as_ref()
    }

    /// The manifest of a command that needs one.
    pub(crate) fn manifest(&self) -> Result<Source, Failure> {
        self.manifest_if_any()?.ok_or_else(|| {
            Failure::new(format!(
                "there is no manifest at {}",
                self.manifest_path().display()
            ))
            .with_hint("`vela init` writes one; `--manifest` names another")
        })
    }

    /// The app a command is about, and a client of its server.
    pub(crate) fn target(&self, app: Option<AppName>) -> Result<(AppName, Client), Failure> {
        match (app, &self.common.server) {
            // Nothing is left for a manifest to say.
            (Some(app), Some(server)) => Ok((app, connection::client(server))),
            (Some(app), None) => {
                let source = self.manifest_if_any()?;
                Ok((app, connection::client(&self.server(source.as_ref())?)))
            }
            (None, _) => match self.manifest_if_any()? {
                Some(source) => {
                    let server = self.server(Some(&source))?;
                    Ok((source.manifest.app.name, connection::client(&server)))
                }
                None => Err(Failure::new(format!(
                    "which app? There is no manifest at {}",
                    self.manifest_path().display()
                ))
                .with_exit(Exit::Usage)
                .with_hint("name the app; `vela apps` lists them")),
            },
        }
    }

    /// A client for a command about the whole server.
    pub(crate) fn server_client(&self) -> Result<Client, Failure> {
        let source = match &self.common.server {
            Some(_) => None,
            None => self.manifest_if_any()?,
        };
        Ok(connection::client(&self.server(source.as_ref())?))
    }

    /// The server: the flag's, else the manifest's, else this machine.
    pub(crate) fn server(&self, source: Option<&Source>) -> Result<ServerAddress, Failure> {
        if let Some(server) = &self.common.server {
            return Ok(server.clone());
        }
        let Some((source, server)) =
            source.and_then(|source| Some((source, source.manifest.deploy.server.as_ref()?)))
        else {
            return Ok(ServerAddress::Local);
        };
        server.parse().map_err(|error: vela_control::AddressError| {
            let place = source.path.display();
            let failure = Failure::because(format!("{place} names a server that is none"), &error);
            match error.hint() {
                Some(hint) => failure.with_hint(hint),
                None => failure,
            }
        })
    }

    /// The manifest, or nothing when there is none and none was asked for.
    pub(crate) fn manifest_if_any(&self) -> Result<Option<Source>, Failure> {
        let path = self.manifest_path();
        let mut text = String::new();
        let read = File::open(path)
            .and_then(|file| file.take(MANIFEST_BYTES + 1).read_to_string(&mut text));
        let manifest = match read {
            Ok(_) => Manifest::parse(&path.display().to_string(), &text)?,
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound
                    && self.common.manifest.is_none() =>
            {
                return Ok(None);
            }
            Err(error) => {
                return Err(Failure::because(
                    format!("cannot read {}", path.display()),
                    &error,
                ));
            }
        };
        Ok(Some(Source {
            path: path.to_owned(),
            text,
            manifest,
        }))
    }
}
