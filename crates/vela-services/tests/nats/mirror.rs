//! A web server with one file, which it gives in the way it was told.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use vela_services::Download;

pub(crate) const VERSION: &str = "2.9.99";

/// How the file is given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Whole,
    Redirected,
    /// The connection ends in the middle.
    Cut,
    /// Nothing more comes after the middle, until the mirror is told to end.
    Stalled,
    /// Without its length.
    Endless,
    NotFound,
}

pub(crate) struct Mirror {
    address: SocketAddr,
    sha256: String,
    requests: Arc<AtomicUsize>,
    /// Hears of each answer that stalls.
    stalled: Mutex<Receiver<Sender<()>>>,
}

impl Mirror {
    pub(crate) fn new(file: Vec<u8>, way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let digest = Sha256::digest(&file);
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let (stall, stalled) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                // The other side may leave early, which is its business.
                answer(stream.unwrap(), &file, way, &stall).ok();
            }
        });
        Self {
            address,
            sha256,
            requests,
            stalled: Mutex::new(stalled),
        }
    }

    /// What is to be downloaded from here.
    pub(crate) fn download(&self) -> Download {
        self.pinned_to(&self.sha256)
    }

    pub(crate) fn pinned_to(&self, sha256: &str) -> Download {
        let url = format!("http://{}/v{{version}}/nats-{{arch}}.tar.gz", self.address);
        Download::default()
            .from(&url)
            .and_then(|download| download.release(VERSION, [(arch(), sha256)]))
            .unwrap()
    }

    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Waits until an answer stalls; it ends when what is given is dropped.
    pub(crate) fn stalled(&self) -> Sender<()> {
        self.stalled.lock().unwrap().recv().unwrap()
    }
}

pub(crate) fn arch() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "amd64"
    } else {
        "arm64"
    }
}

/// A `tar.gz` of these files.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, contents) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        // As if it had been packed by somebody careless.
        header.set_mode(0o600);
        tar.append_data(&mut header, path, *contents).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn answer(
    mut stream: TcpStream,
    file: &[u8],
    way: Way,
    stall: &Sender<Sender<()>>,
) -> std::io::Result<()> {
    let mut request = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    reader.read_line(&mut request)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let length = file.len();
    let half = &file[..length / 2];
    let known = path == format!("/v{VERSION}/nats-{}.tar.gz", arch());
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    match way {
        Way::Redirected if known => {
            let to = "Location: /elsewhere";
            write!(
                stream,
                "HTTP/1.1 302 Found\r\n{to}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
        }
        Way::NotFound => stream.write_all(
            b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 5\r\n\r\nsorry",
        ),
        Way::Cut => {
            stream.write_all(head.as_bytes())?;
            stream.write_all(half)
        }
        Way::Stalled => {
            stream.write_all(head.as_bytes())?;
            stream.write_all(half)?;
            let (end, ended) = channel();
            stall.send(end).ok();
            // An error is the end, too.
            ended.recv().ok();
            Ok(())
        }
        Way::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            loop {
                stream.write_all(file)?;
            }
        }
        Way::Whole | Way::Redirected => {
            assert!(known || path == "/elsewhere", "{path}");
            stream.write_all(head.as_bytes())?;
            stream.write_all(file)
        }
    }
}
