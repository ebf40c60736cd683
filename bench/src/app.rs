use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::daemon::HOST;
use crate::{Result, first_answer};

/// An app to deploy: a directory with a manifest, and the artifact in it.
#[derive(Debug)]
pub struct App {
    /// Its name.
    pub name: &'static str,
    /// The manifest.
    pub manifest: PathBuf,
    /// The program.
    pub artifact: PathBuf,
}

impl App {
    /// The app that answers, filled up to `size` bytes with noise that no compression shortens.
    pub fn that_serves(dir: &Path, program: &Path, size: usize) -> Result<App> {
        let mut bytes = fs::read(program)?;
        // Bytes after the last section of an executable are ignored.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        while bytes.len() < size {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        App::write(dir, "bench", &bytes, "")
    }

    /// The app that answers, with these services.
    pub fn with_services(
        dir: &Path,
        name: &'static str,
        program: &Path,
        services: &str,
    ) -> Result<App> {
        App::write(dir, name, &fs::read(program)?, services)
    }

    /// The app that notes the time in its data directory, and exits.
    pub fn that_exits(dir: &Path) -> Result<App> {
        let script = "#!/bin/sh\ndate +%s%N > \"$VELA_DATA_DIR/exit.new\"\n\
                      mv \"$VELA_DATA_DIR/exit.new\" \"$VELA_DATA_DIR/exit\"\nexit 1\n";
        App::write(dir, "exits", script.as_bytes(), "")
    }

    fn write(dir: &Path, name: &'static str, program: &[u8], services: &str) -> Result<App> {
        let dir = dir.join(name);
        fs::create_dir(&dir)?;
        let artifact = dir.join(name);
        fs::write(&artifact, program)?;
        fs::set_permissions(&artifact, fs::Permissions::from_mode(0o755))?;
        let host = match name {
            "bench" => HOST.to_owned(),
            other => format!("{other}.localhost"),
        };
        let manifest = dir.join("Vela.toml");
        let text = format!(
            "[app]\nname = \"{name}\"\ndomain = \"{host}\"\n\n[deploy]\nhealth = \"/\"\ndrain = 1\n\n{services}"
        );
        fs::write(&manifest, text)?;
        Ok(App {
            name,
            manifest,
            artifact,
        })
    }
}

/// How long `program` takes from its start to its first answer, when nothing but the kernel starts it.
pub fn direct_start(program: &Path) -> Result<Duration> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr: SocketAddr = free.local_addr()?;
    drop(free);
    let begin = Instant::now();
    let mut child = Command::new(program)
        .env("PORT", addr.port().to_string())
        .stdin(Stdio::null())
        .spawn()?;
    let answered = first_answer(addr, HOST, |_| true);
    child.kill()?;
    child.wait()?;
    Ok(answered?.0 - begin)
}
