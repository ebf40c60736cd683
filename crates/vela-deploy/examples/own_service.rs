//! A kind of service of one's own, in one file: `kv`, a little key-value server that apps ask for with
//! `[services.x-kv]`. The provisioner is [`Kv`]; the server is this same program, and `main` deploys an app with it.
//!
//! `cargo run -p vela-deploy --example own_service` (it uses the example `tiny_app`, so `cargo build --examples` first)

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use tokio::sync::Mutex;
use uuid::Uuid;
use vela_deploy::{Dirs, Engine, Stack};
use vela_protocol::{DeployRequest, Event, Who};
use vela_proxy::{Proxy, ProxyConfig};
use vela_services::{
    Bindings, OwnerName, OwnerStatus, Provisioner, Runner, ServerName, ServerSignal, ServerSpec,
    ServiceError, ServiceSpec, ServiceStatus,
};
use vela_supervisor::{InProcess, Ports};

/// Provisions `kv`: one server, and a token of its own for each owner.
///
/// ```text
/// services/kv/port             chosen once: running apps hold it in their environment
/// services/kv/owners/<owner>   the owner's token, 0600; <owner>.off while it may not be used
/// services/kv/data/<owner>     what the owner keeps
/// ```
#[derive(Debug)]
struct Kv {
    dir: PathBuf,
    runner: Arc<dyn Runner>,
    /// One change at a time, of this kind only.
    turn: Mutex<()>,
}

impl Kv {
    fn new(dir: PathBuf, runner: Arc<dyn Runner>) -> Kv {
        let turn = Mutex::new(());
        Kv { dir, runner, turn }
    }

    fn name() -> ServerName {
        ServerName::parse("kv").expect("a server's name")
    }

    fn token(&self, owner: &str) -> PathBuf {
        self.dir.join("owners").join(owner)
    }

    /// Runs the server, unless it runs, and waits until it answers.
    async fn serve(&self) -> Result<u16, ServiceError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| ServiceError::Io { path, source }
        };
        for dir in ["owners", "data"].map(|name| self.dir.join(name)) {
            fs::create_dir_all(&dir).map_err(at(&dir))?;
        }
        let file = self.dir.join("port");
        let port: u16 = match fs::read_to_string(&file) {
            Ok(text) => text.parse().map_err(|source| ServiceError::Damaged {
                path: file,
                source: Box::new(source),
            })?,
            Err(_) => {
                let free = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr());
                let port = free.map_err(at(&file))?.port();
                write_whole(&file, &port.to_string()).map_err(at(&file))?;
                port
            }
        };
        let server = Kv::name();
        let spec = ServerSpec {
            name: server.clone(),
            program: std::env::current_exe().map_err(at(Path::new("/proc/self/exe")))?,
            // Never a secret: the server reads the tokens from their files.
            args: vec![
                "serve".into(),
                self.dir.display().to_string(),
                port.to_string(),
            ],
            cwd: self.dir.clone(),
            env: BTreeMap::new(),
            // As root, `self.runner.user("kv", &self.dir)` makes a user for it, that its files must belong to.
            user: None,
            stop_signal: ServerSignal::Terminate,
            stop_grace: Duration::from_secs(5),
        };
        let kept = self.runner.keep(&spec).await;
        kept.map_err(|source| ServiceError::Runner {
            server: server.clone(),
            source,
        })?;
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(port);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // What the server said is shown to whoever deploys.
        let state = self.runner.state(&server, 10).await;
        let ended = state
            .last_exit
            .unwrap_or_else(|| "it does not listen".into());
        Err(ServiceError::NotReady {
            server,
            log: state.log,
            source: ended.into(),
        })
    }

    /// The owners, each with whether it may use the service.
    fn owners(&self) -> Vec<(String, bool)> {
        let Ok(entries) = fs::read_dir(self.dir.join("owners")) else {
            return Vec::new();
        };
        let of = |name: String| match name.strip_suffix(".off") {
            Some(owner) => (owner.to_owned(), false),
            None => (name, true),
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names
            .filter(|name| !name.starts_with('.'))
            .map(of)
            .collect()
    }
}

#[async_trait]
impl Provisioner for Kv {
    fn kind(&self) -> &'static str {
        "kv"
    }

    async fn ensure(
        &self,
        owner: &OwnerName,
        spec: &ServiceSpec,
    ) -> Result<Bindings, ServiceError> {
        let _turn = self.turn.lock().await;
        let port = self.serve().await?;
        let file = self.token(owner.as_str());
        let at = |source| ServiceError::Io {
            path: file.clone(),
            source,
        };
        let off = self.token(&format!("{owner}.off"));
        if !file.exists() && off.exists() {
            // It had one before it was removed: the same again.
            fs::rename(&off, &file).map_err(at)?;
        }
        if !file.exists() {
            write_whole(&file, &Uuid::new_v4().simple().to_string()).map_err(at)?;
        }
        let token = fs::read_to_string(&file).map_err(at)?;
        Ok(bindings(spec, &port.to_string(), token))
    }

    async fn bindings(
        &self,
        owner: &OwnerName,
        spec: &ServiceSpec,
    ) -> Result<Option<Bindings>, ServiceError> {
        let token = fs::read_to_string(self.token(owner.as_str())).ok();
        let port = fs::read_to_string(self.dir.join("port")).ok();
        let given = token.zip(port);
        Ok(given.map(|(token, port)| bindings(spec, &port, token)))
    }

    async fn resume(&self) -> Result<(), ServiceError> {
        let _turn = self.turn.lock().await;
        if self.owners().iter().any(|(_, active)| *active) {
            self.serve().await?;
        }
        Ok(())
    }

    async fn remove(&self, owner: &OwnerName, purge: bool) -> Result<(), ServiceError> {
        let _turn = self.turn.lock().await;
        let (file, off) = (
            self.token(owner.as_str()),
            self.token(&format!("{owner}.off")),
        );
        // The data before the token, so that a crash in between leaves an owner whose removal can be repeated.
        let removed = match purge {
            true => [
                self.dir.join("data").join(owner.as_str()),
                off,
                file.clone(),
            ]
            .iter()
            .map(fs::remove_file)
            .collect(),
            false => vec![fs::rename(&file, &off)],
        };
        for result in removed {
            if let Err(source) = result
                && source.kind() != io::ErrorKind::NotFound
            {
                return Err(ServiceError::Io { path: file, source });
            }
        }
        if !self.owners().iter().any(|(_, active)| *active) {
            let server = Kv::name();
            let stopped = self.runner.stop(&server).await;
            stopped.map_err(|source| ServiceError::Runner { server, source })?;
        }
        Ok(())
    }

    async fn status(&self) -> Result<Vec<ServiceStatus>, ServiceError> {
        let owners: Vec<_> = self
            .owners()
            .into_iter()
            .filter_map(|(owner, active)| {
                let owner = owner.parse().ok()?;
                let holds = Vec::new();
                Some(OwnerStatus {
                    owner,
                    holds,
                    active,
                })
            })
            .collect();
        if owners.is_empty() {
            return Ok(Vec::new());
        }
        let state = self.runner.state(&Kv::name(), 0).await;
        let port = fs::read_to_string(self.dir.join("port")).unwrap_or_default();
        Ok(vec![ServiceStatus {
            server: Kv::name(),
            version: None,
            pid: state.pid,
            restarts: state.restarts,
            address: format!("127.0.0.1:{port}"),
            owners,
        }])
    }
}

fn bindings(spec: &ServiceSpec, port: &str, token: String) -> Bindings {
    // `[services.x-kv] prefix = ".."` arrives here; keys that this kind doesn't know it should refuse.
    let prefix = spec.options.get("prefix").map_or("", String::as_str);
    let bindings = [
        ("KV_ADDRESS", format!("127.0.0.1:{port}")),
        ("KV_PREFIX", prefix.to_owned()),
        ("KV_TOKEN", token),
    ];
    let secret = |(name, value): (&str, String)| (name.to_owned(), value.into());
    bindings.map(secret).into()
}

/// A file that is there whole or not at all, for this user alone.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_file_name(format!(".{}.new", Uuid::new_v4()));
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// The server: `<token> get` and `<token> set <value>`, a line each, and a value for each owner.
fn serve(dir: &Path, port: &str) -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?))?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        let mut words = line.trim().splitn(3, ' ');
        let token = words.next().unwrap_or_default();
        let mut owners = fs::read_dir(dir.join("owners"))?.flatten();
        let is_it = |one: &fs::DirEntry| {
            let on = one.path().extension().is_none();
            on && fs::read_to_string(one.path()).is_ok_and(|its| its == token)
        };
        let Some(owner) = owners.find(is_it) else {
            writeln!(stream, "refused")?;
            continue;
        };
        let value = dir.join("data").join(owner.file_name());
        match (words.next(), words.next()) {
            (Some("set"), Some(text)) => {
                write_whole(&value, text)?;
                writeln!(stream, "done")?;
            }
            _ => writeln!(stream, "{}", fs::read_to_string(&value).unwrap_or_default())?,
        }
    }
    Ok(())
}

const MANIFEST: &str = r#"
[app]
name = "tiny"
domain = "tiny.localhost"

[deploy]
health = "/health"
pre_start = "echo the app finds its keys at $KV_ADDRESS below $KV_PREFIX"

[services.x-kv]
prefix = "tiny/"
"#;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example prints")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<_> = std::env::args().collect();
    if let [_, verb, dir, port] = &words[..]
        && verb == "serve"
    {
        return serve(Path::new(dir), port);
    }
    let dir = tempfile::tempdir()?;
    let proxy = Proxy::new(ProxyConfig::default());
    let supervisor = Arc::new(InProcess::new());
    let dirs = Dirs::new(dir.path().join("vela"));
    let mut stack = Stack::local(dirs, supervisor, Ports::new(10000..=20000), proxy.clone());
    // This is all that makes the engine know it.
    let kv = Kv::new(stack.dirs.services().join("kv"), Arc::clone(&stack.runner));
    stack.provisioners.push(Arc::new(kv));
    let engine = Engine::open(stack).await?;

    let release = dir.path().join("release");
    fs::create_dir(&release)?;
    let app = release.join("tiny");
    fs::copy(std::env::current_exe()?.with_file_name("tiny_app"), &app)?;
    fs::set_permissions(&app, fs::Permissions::from_mode(0o755))?;
    let me = Who {
        uid: None,
        user: "example".into(),
        client: None,
    };
    let request = upload(&engine, &release).await?;
    let mut events = engine.deploy("tiny", request, me.clone()).await?;
    while let Some(envelope) = events.next().await {
        match envelope.event {
            Event::StepFinished { step, ms } => println!("{step:<12} {ms:>5} ms"),
            Event::HookPrinted { line, .. } => println!("  {line}"),
            Event::Failed { error, .. } => return Err(error.to_string().into()),
            _ => {}
        }
    }

    let credentials = engine.credentials("tiny").await?;
    let given = &credentials.kinds["kv"];
    let ask = |what: &str| -> io::Result<String> {
        let mut stream = TcpStream::connect(&given["KV_ADDRESS"])?;
        writeln!(stream, "{} {what}", given["KV_TOKEN"])?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    };
    println!("set: {}", ask("set hello")?);
    println!("get: {}", ask("get")?);
    for server in engine.services().await? {
        println!("{} listens on {}", server.server, server.address);
    }
    engine.remove("tiny", true, me).await?;
    engine.shutdown(true).await;
    Ok(())
}

/// Packs a directory and hands it to the engine.
async fn upload(
    engine: &Engine,
    release: &Path,
) -> Result<DeployRequest, Box<dyn std::error::Error>> {
    let archive = tempfile::NamedTempFile::new()?;
    let packed = vela_release::pack(release, File::create(archive.path())?, &mut |_| {})?;
    let upload = Uuid::new_v4();
    let body = futures::stream::iter([fs::read(archive.path())]);
    engine.uploads().receive(upload, body).await?;
    Ok(DeployRequest {
        deploy: Uuid::new_v4(),
        upload,
        build: false,
        size: packed.size,
        sha256: packed.sha256.to_string(),
        manifest: MANIFEST.to_owned(),
        git: None,
        message: None,
        client: None,
    })
}
