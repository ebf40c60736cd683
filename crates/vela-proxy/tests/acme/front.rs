//! What pebble cannot do, in front of one that can: advice on renewal, and a limit of rate.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// An HTTPS server of a directory that leads to pebble's own, but for what it does itself.
#[derive(Clone)]
pub(crate) struct Front(Arc<Inner>);

struct Inner {
    port: u16,
    pebble: String,
    authority: std::path::PathBuf,
    /// The window that it advises, in RFC 3339.
    window: Option<(String, String)>,
    /// How many orders to refuse, with this `Retry-After`.
    limited: AtomicUsize,
    /// How many times its directory leads to where nothing is refused before that.
    spared: AtomicUsize,
    /// How many orders were refused.
    refused: AtomicUsize,
    retry_after: String,
    asked: AtomicUsize,
}

impl Front {
    /// Uses pebble's own certificate, which is in this directory.
    pub(crate) fn start(
        pebble: String,
        dir: &Path,
        window: Option<(&str, &str)>,
        limited: usize,
        retry_after: &str,
    ) -> Front {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let front = Front(Arc::new(Inner {
            port: listener.local_addr().unwrap().port(),
            pebble,
            authority: dir.join("ca.pem"),
            window: window.map(|(start, end)| (start.to_owned(), end.to_owned())),
            limited: AtomicUsize::new(limited),
            spared: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            retry_after: retry_after.to_owned(),
            asked: AtomicUsize::new(0),
        }));
        let certificate = CertificateDer::from_pem_file(dir.join("cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let config = Arc::new(config);
        let serving = front.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                serving.respond(StreamOwned::new(connection, socket.unwrap()));
            }
        });
        front
    }

    pub(crate) fn directory(&self) -> String {
        self.url("dir")
    }

    /// How often its advice was asked for.
    pub(crate) fn asked(&self) -> usize {
        self.0.asked.load(Ordering::Relaxed)
    }

    /// Refuses that many from now on, but none before its directory was read `spared` times.
    pub(crate) fn limit(&self, limited: usize, spared: usize) {
        self.0.spared.store(spared, Ordering::Relaxed);
        self.0.limited.store(limited, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) -> usize {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Whatever is asked for there is refused.
    pub(crate) fn refusing(&self) -> String {
        self.url("limited")
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.0.port)
    }

    fn respond(&self, mut stream: StreamOwned<ServerConnection, TcpStream>) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).unwrap_or(0) == 0 {
                return;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap();
        let (status, body) = if path == "/dir" {
            ("200 OK", self.own_directory())
        } else if path.starts_with("/advice/") {
            self.0.asked.fetch_add(1, Ordering::Relaxed);
            let (start, end) = self.0.window.clone().unwrap();
            let window = serde_json::json!({ "start": start, "end": end });
            let body = serde_json::json!({ "suggestedWindow": window });
            ("200 OK", body)
        } else {
            let left = self.0.limited.load(Ordering::Relaxed);
            let left = left.saturating_sub(1);
            self.0.limited.store(left, Ordering::Relaxed);
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            let kind = "urn:ietf:params:acme:error:rateLimited";
            let body = serde_json::json!({ "type": kind, "detail": "too many orders" });
            ("429 Too Many Requests", body)
        };
        let body = body.to_string();
        let answer = format!(
            "HTTP/1.1 {status}\r\nretry-after: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.0.retry_after,
            body.len()
        );
        stream.write_all(answer.as_bytes()).ok();
        stream.conn.send_close_notify();
        stream.flush().ok();
    }

    fn own_directory(&self) -> serde_json::Value {
        let output = Command::new("curl")
            .args(["-sSf", "--cacert"])
            .arg(&self.0.authority)
            .arg(&self.0.pebble)
            .output()
            .unwrap();
        let mut directory: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        if self.0.window.is_some() {
            directory["renewalInfo"] = self.url("advice").into();
        }
        let spared = self.0.spared.load(Ordering::Relaxed);
        let left = spared.saturating_sub(1);
        self.0.spared.store(left, Ordering::Relaxed);
        if spared == 0 && self.0.limited.load(Ordering::Relaxed) > 0 {
            directory["newOrder"] = self.refusing().into();
        }
        directory
    }
}
