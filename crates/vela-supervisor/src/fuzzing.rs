//! What a shim and its supervisor say to each other, as a function of bytes that panics where
//! something is wrong.
//! For `fuzz/` and for `tests/fuzzing.rs`: nothing here is for users.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::connection::Connection;
use crate::wire::{Command, Report, StartRequest, State, VERSION, decode, encode};

/// A target: its name, and what takes the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[("shim_wire", shim_wire)];

/// Runs the target of that name.
///
/// # Panics
/// When there is none, and when the target finds a fault.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(one, _)| *one == name);
    let (_, run) = target.expect("the name is in the table above");
    run(bytes);
}

/// The bytes are what one side says.
fn shim_wire(bytes: &[u8]) {
    let lines: Vec<_> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    for line in &lines {
        check::<Command>(line);
        check::<State>(line);
        check::<StartRequest>(line);
        if let Some(report) = check::<Report>(line)
            && let Report::Started(state) = report
        {
            state.into_instance();
        }
    }

    // Over a socket, as the supervisor reads them.
    let whole = lines.iter().filter(|line| line.ends_with(b"\n"));
    let wanted: Vec<_> = whole.map(|line| decode::<Report>(line).ok()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .expect("a runtime");
    let heard = runtime.block_on(async {
        let (ours, mut theirs) = UnixStream::pair().expect("two descriptors");
        // Less than what a socket holds.
        theirs
            .write_all(&bytes[..bytes.len().min(64 << 10)])
            .expect("room");
        theirs.shutdown(Shutdown::Write).expect("an end");
        let mut connection = Connection::new(ours).expect("a connection");
        let mut heard = Vec::new();
        loop {
            match connection.report().await {
                Ok(Some(report)) => heard.push(Some(report)),
                Ok(None) => return heard,
                Err(_) => heard.push(None),
            }
            assert!(heard.len() <= wanted.len(), "the same is heard for ever");
        }
    });
    assert_eq!(heard, wanted, "{}", bytes.escape_ascii());
}

/// What is understood is of this version, and the same when it is said again.
fn check<T: Serialize + DeserializeOwned>(line: &[u8]) -> Option<T> {
    let body: T = decode(line).ok()?;
    let said: Value = serde_json::from_slice(line).expect("what is understood is JSON");
    assert_eq!(said["v"], VERSION, "{said}");
    let once = encode(&body).expect("it can be said");
    let (end, inner) = once.split_last().expect("a line");
    assert!(*end == b'\n' && !inner.contains(&b'\n'));
    let again: T = decode(&once).expect("it is understood");
    assert_eq!(
        encode(&again).expect("it can be said").to_vec(),
        once.to_vec()
    );
    Some(body)
}
