//! The ways to a daemon behind an SSH server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use rustix::process::geteuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;
use vela_control::{
    Client, ClientError, Io, NeverAsk, Ssh2Transport, SshOptions, SshTarget, SystemSshTransport,
    Transport, TransportError,
};

use crate::client::request;
use crate::support::{Cut, Sshd, StubDaemon};

/// Not a test but the `vela` of the test's server: `sshd` runs this program again, through a script.
#[test]
fn acts_as_vela_join() {
    let Some(socket) = std::env::var_os("VELA_TEST_JOIN") else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let joined = runtime.block_on(vela_control::join(
        Some(socket.into()),
        tokio::io::stdin(),
        tokio::io::stdout(),
    ));
    std::process::exit(i32::from(joined.is_err()));
}

/// Installs the `vela` of the server. What the test harness prints before it stands for a login shell's greeting.
fn install_vela(sshd: &Sshd, before: &str) {
    let program = sshd.path("bin/test-program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let script = format!(
        "{before}\nVELA_TEST_JOIN=\"$3\" exec {} --exact ssh::acts_as_vela_join --nocapture",
        program.display()
    );
    sshd.install("vela", &script);
}

fn transport(sshd: &Sshd, socket: &Path) -> Ssh2Transport {
    Ssh2Transport::new(sshd.target(socket), sshd.options(), Arc::new(NeverAsk))
}

fn client(sshd: &Sshd, socket: &Path) -> Client {
    Client::new(Arc::new(transport(sshd, socket)))
}

async fn fails(transport: &impl Transport) -> TransportError {
    match transport.connect().await {
        Ok(_) => panic!("connected"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_socket_is_reached_by_forwarding_and_all_streams_share_one_session() {
    let (sshd, daemon) = (Sshd::start(""), StubDaemon::start());
    let cut = Cut::before(sshd.port).await;
    fs::write(
        sshd.path("known_hosts"),
        sshd.known_line()
            .replace(&sshd.port.to_string(), &cut.port.to_string()),
    )
    .unwrap();
    let target = SshTarget {
        port: Some(cut.port),
        ..sshd.target(&daemon.socket())
    };
    let transport = Ssh2Transport::new(target, sshd.options(), Arc::new(NeverAsk));
    let client = Client::new(Arc::new(transport));
    assert_eq!(client.version().await.unwrap().version, "1.2.3");
    // Events that come later do not hold up what else is asked.
    daemon.state.events.send_replace(2);
    let mut events = client.deploy("app", &request()).await.unwrap();
    events.next().await.unwrap().unwrap();
    let id = Uuid::new_v4();
    let bytes = vec![7; 3_000_000];
    client
        .upload(id, &bytes[..], 3_000_000, |_| ())
        .await
        .unwrap();
    assert_eq!(daemon.upload(id).unwrap().len(), bytes.len());
    daemon.state.events.send_replace(6);
    assert_eq!(events.count().await, 5);
    assert_eq!(cut.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_stream_that_nobody_reads_does_not_hold_up_the_others() {
    let sshd = Sshd::start("");
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // Echoes a first byte, then sends more than any buffer on the way holds.
                let first = stream.read_u8().await.unwrap();
                stream.write_all(&vec![first; 8 << 20]).await.unwrap();
            });
        }
    });
    let transport = transport(&sshd, &socket);
    let mut unread = transport.connect().await.unwrap();
    let mut read = transport.connect().await.unwrap();
    unread.write_all(b"a").await.unwrap();
    assert_eq!(unread.read_u8().await.unwrap(), b'a');
    read.write_all(b"b").await.unwrap();
    let mut all = Vec::new();
    read.read_to_end(&mut all).await.unwrap();
    assert!(all.len() == 8 << 20 && all.iter().all(|&b| b == b'b'));
    let mut rest = Vec::new();
    unread.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest.len(), (8 << 20) - 1);
}

#[tokio::test]
async fn twelve_streams_at_once() {
    let (sshd, daemon) = (Sshd::start(""), StubDaemon::start());
    let transport = Arc::new(transport(&sshd, &daemon.socket()));
    let streams = futures::future::join_all((0..12).map(|_| {
        let transport = Arc::clone(&transport);
        async move { transport.connect().await }
    }));
    for stream in streams.await {
        let mut stream = stream.unwrap();
        stream
            .write_all(b"GET /v1/version HTTP/1.0\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    }
}

#[tokio::test]
async fn without_forwarding_the_socket_is_joined_by_a_command() {
    let (sshd, daemon) = (
        Sshd::start("AllowStreamLocalForwarding no"),
        StubDaemon::start(),
    );
    install_vela(&sshd, "echo Welcome; echo warning >&2");
    let client = client(&sshd, &daemon.socket());
    assert_eq!(client.version().await.unwrap().version, "1.2.3");
    let id = Uuid::new_v4();
    client
        .upload(id, &vec![1; 1 << 20][..], 1 << 20, |_| ())
        .await
        .unwrap();
    assert_eq!(daemon.upload(id).unwrap().len(), 1 << 20);
}

#[tokio::test]
async fn a_command_that_fills_its_standard_error_still_serves() {
    let (sshd, daemon) = (
        Sshd::start("AllowStreamLocalForwarding no"),
        StubDaemon::start(),
    );
    install_vela(&sshd, "head -c 5000000 /dev/zero >&2");
    client(&sshd, &daemon.socket()).version().await.unwrap();
}

#[tokio::test]
async fn without_forwarding_and_without_vela_the_error_says_both() {
    let (sshd, daemon) = (
        Sshd::start("AllowStreamLocalForwarding no"),
        StubDaemon::start(),
    );
    let error = fails(&transport(&sshd, &daemon.socket())).await;
    assert!(
        matches!(error, TransportError::ForwardingOff { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_without_vela() {
    let (sshd, dir) = (Sshd::start(""), tempfile::tempdir().unwrap());
    let transport = transport(&sshd, &dir.path().join("none.sock"));
    // Commands that end as soon as they are started are told apart every time.
    for _ in 0..150 {
        let error = fails(&transport).await;
        assert!(matches!(error, TransportError::NoVela { .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("vela setup"));
    }
}

#[tokio::test]
async fn a_server_whose_daemon_is_not_running() {
    let (sshd, dir) = (Sshd::start(""), tempfile::tempdir().unwrap());
    install_vela(&sshd, "");
    let socket = dir.path().join("vela.sock");
    let error = fails(&transport(&sshd, &socket)).await;
    let TransportError::NoDaemon { socket: named, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*named, socket);
    assert!(ClientError::Unreachable(error).is_unreachable());
}

/// A user who may not open the socket. Root may open everything, so as root `vela` runs as somebody else there.
fn forbid(sshd: &Sshd, daemon: &StubDaemon) {
    fs::set_permissions(daemon.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o000)).unwrap();
    let as_nobody = "if [ -z \"$AS_ROOT\" ]; then AS_ROOT=no exec setpriv --reuid=65534 --clear-groups \"$0\" \"$@\"; fi";
    install_vela(sshd, if geteuid().is_root() { as_nobody } else { "" });
}

#[tokio::test]
async fn a_user_without_permission_on_the_socket() {
    let (sshd, daemon) = (
        Sshd::start("AllowStreamLocalForwarding no"),
        StubDaemon::start(),
    );
    forbid(&sshd, &daemon);
    sshd.install("sudo", "echo 'sudo: a password is required' >&2; exit 1");
    let error = fails(&transport(&sshd, &daemon.socket())).await;
    assert!(matches!(error, TransportError::Denied { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("usermod -aG vela"));
}

#[tokio::test]
async fn a_user_who_may_use_sudo() {
    let (sshd, daemon) = (
        Sshd::start("AllowStreamLocalForwarding no"),
        StubDaemon::start(),
    );
    forbid(&sshd, &daemon);
    let open = format!("chmod 600 {}", daemon.socket().display());
    sshd.install(
        "sudo",
        &format!("[ \"$1\" = -n ] && shift; {open}; AS_ROOT=yes exec \"$@\""),
    );
    client(&sshd, &daemon.socket()).version().await.unwrap();
}

#[tokio::test]
async fn nobody_listens_on_the_port() {
    let sshd = Sshd::start("");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let target = SshTarget {
        port: Some(port),
        ..sshd.target(Path::new("/run/x.sock"))
    };
    let error = fails(&Ssh2Transport::new(
        target,
        sshd.options(),
        Arc::new(NeverAsk),
    ))
    .await;
    assert!(matches!(error, TransportError::Connect { .. }), "{error:?}");
    assert!(ClientError::Unreachable(error).is_unreachable());
}

#[tokio::test]
async fn a_server_that_is_no_ssh_server_is_not_waited_for_without_end() {
    let sshd = Sshd::start("");
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = SshTarget {
        port: Some(mute.local_addr().unwrap().port()),
        ..sshd.target(Path::new("/run/x.sock"))
    };
    let options = SshOptions {
        connect_timeout: Duration::from_secs(2),
        ..sshd.options()
    };
    let error = fails(&Ssh2Transport::new(target, options, Arc::new(NeverAsk))).await;
    assert!(
        matches!(error, TransportError::Handshake { .. }),
        "{error:?}"
    );
}

/// A client whose connection goes through something that can be cut.
async fn over_cut(sshd: &Sshd, daemon: &StubDaemon) -> (Client, Cut) {
    let cut = Cut::before(sshd.port).await;
    let known = sshd
        .known_line()
        .replace(&sshd.port.to_string(), &cut.port.to_string());
    fs::write(sshd.path("known_hosts"), known).unwrap();
    let target = SshTarget {
        port: Some(cut.port),
        ..sshd.target(&daemon.socket())
    };
    let transport = Ssh2Transport::new(target, sshd.options(), Arc::new(NeverAsk));
    (Client::new(Arc::new(transport)), cut)
}

#[tokio::test]
async fn an_upload_that_is_cut_leaves_nothing_and_can_be_made_again() {
    let (sshd, daemon) = (Sshd::start(""), StubDaemon::start());
    let (client, cut) = over_cut(&sshd, &daemon).await;
    client.version().await.unwrap();
    let bytes = vec![3; 4 << 20];
    let id = Uuid::new_v4();
    cut.after(1 << 20);
    let error = client
        .upload(id, &bytes[..], 4 << 20, |_| ())
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error:?}");
    let mut cuts = daemon.state.cut_uploads.subscribe();
    cuts.wait_for(|&count| count == 1).await.unwrap();
    assert_eq!(daemon.upload(id), None);
    client
        .upload(id, &bytes[..], 4 << 20, |_| ())
        .await
        .unwrap();
    assert_eq!(daemon.upload(id), Some(bytes));
}

#[tokio::test]
async fn a_file_is_sent_again_by_itself_when_its_upload_was_cut() {
    let (sshd, daemon) = (Sshd::start(""), StubDaemon::start());
    let (client, cut) = over_cut(&sshd, &daemon).await;
    client.version().await.unwrap();
    let file = sshd.path("artifact");
    fs::write(&file, vec![4; 4 << 20]).unwrap();
    let id = Uuid::new_v4();
    cut.after(1 << 20);
    let mut began = 0;
    let progress = |sent| began += usize::from(sent == 0);
    client.upload_file(id, &file, progress).await.unwrap();
    assert_eq!(began, 1);
    assert_eq!(daemon.upload(id).unwrap().len(), 4 << 20);
}

#[tokio::test]
async fn a_deploy_whose_connection_is_lost_is_attached_to_again() {
    let (sshd, daemon) = (Sshd::start(""), StubDaemon::start());
    let (client, cut) = over_cut(&sshd, &daemon).await;
    daemon.state.events.send_replace(3);
    let mut events = client.deploy("app", &request()).await.unwrap();
    for seq in 0..3 {
        assert_eq!(events.next().await.unwrap().unwrap().seq, seq);
    }
    cut.now();
    daemon.state.events.send_replace(6);
    let rest: Vec<_> = events.map(|event| event.unwrap().seq).collect().await;
    assert_eq!(rest, [3, 4, 5]);
    assert_eq!(cut.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_daemon_that_is_gone_for_a_moment_is_not_taken_for_one_not_installed() {
    let (sshd, daemon) = (Sshd::start(""), StubDaemon::start());
    let transport = transport(&sshd, &daemon.socket());
    drop(transport.connect().await.unwrap());
    drop(daemon);
    let error = fails(&transport).await;
    assert!(
        matches!(error, TransportError::NoDaemon { .. }),
        "{error:?}"
    );
    assert!(error.is_transient());
}

#[tokio::test]
async fn over_a_jump_host_and_over_a_proxy_command() {
    let (sshd, daemon) = (Sshd::start(""), StubDaemon::start());
    let d = sshd.path("");
    let jump = format!(
        "Host inner-jump inner-command\n HostName 127.0.0.1\n Port {port}\n User {user}\n\
         Host inner-jump\n ProxyJump {user}@jump:{port}\nHost jump\n HostName 127.0.0.1\n\
         Host inner-command\n ProxyCommand exec 3<>/dev/tcp/%h/%p 2>/dev/null || exec {d}bin/proxy %h %p\n\
         Host *\n IdentityAgent none\n IdentityFile {d}id\n UserKnownHostsFile {d}known_hosts\n",
        port = sshd.port,
        user = sshd.user,
        d = d.display(),
    );
    let jump = jump.replace("exec 3<>/dev/tcp/%h/%p 2>/dev/null || exec ", "");
    fs::write(sshd.path("config"), jump).unwrap();
    sshd.install(
        "proxy",
        "exec python3 -c 'import socket,sys,os,threading\ns=socket.create_connection((sys.argv[1],int(sys.argv[2])))\n\
         def up():\n  while True:\n    b=os.read(0,65536)\n    if not b: s.shutdown(1); return\n    s.sendall(b)\n\
         threading.Thread(target=up,daemon=True).start()\n\
         while True:\n  b=s.recv(65536)\n  if not b: break\n  os.write(1,b)' \"$@\"",
    );
    for host in ["inner-jump", "inner-command"] {
        let target = SshTarget {
            user: None,
            host: host.into(),
            port: None,
            socket: Some(daemon.socket()),
        };
        let options = SshOptions {
            config_file: Some(sshd.path("config")),
            ..SshOptions::default()
        };
        let transport = Ssh2Transport::new(target, options, Arc::new(NeverAsk));
        let version = Client::new(Arc::new(transport)).version().await;
        assert_eq!(version.expect(host).version, "1.2.3");
    }
}

#[tokio::test]
async fn a_proxy_that_fails_says_why() {
    let sshd = Sshd::start("");
    fs::write(
        sshd.path("config"),
        "Host inner\n ProxyCommand sh -c 'echo no route today >&2; exit 3'\n",
    )
    .unwrap();
    let target = SshTarget {
        host: "inner".into(),
        ..sshd.target(Path::new("/run/x.sock"))
    };
    let error = fails(&Ssh2Transport::new(
        target,
        sshd.options(),
        Arc::new(NeverAsk),
    ))
    .await;
    assert!(error.to_string().contains("no route today"), "{error:?}");
}

#[tokio::test]
async fn the_systems_ssh_does_as_well() {
    let (sshd, daemon) = (Sshd::start(""), StubDaemon::start());
    install_vela(&sshd, "echo Welcome; printf 'to prod: '");
    let system = |socket: &Path| SystemSshTransport::new(sshd.target(socket), sshd.options());
    let client = Client::new(Arc::new(system(&daemon.socket())));
    assert_eq!(client.version().await.unwrap().version, "1.2.3");
    let id = Uuid::new_v4();
    client
        .upload(id, &vec![1; 1 << 20][..], 1 << 20, |_| ())
        .await
        .unwrap();

    let error = fails(&system(Path::new("/nowhere/vela.sock"))).await;
    assert!(
        matches!(error, TransportError::NoDaemon { .. }),
        "{error:?}"
    );
    fs::remove_file(sshd.path("bin/vela")).unwrap();
    let error = fails(&system(&daemon.socket())).await;
    assert!(matches!(error, TransportError::NoVela { .. }), "{error:?}");
    fs::write(sshd.path("known_hosts"), "").unwrap();
    let error = fails(&system(&daemon.socket())).await;
    assert!(matches!(error, TransportError::Ssh { .. }), "{error:?}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_dropped_stream_is_closed_at_the_daemon() {
    let sshd = Sshd::start("");
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let transport = transport(&sshd, &socket);
    let stream: Box<dyn Io> = transport.connect().await.unwrap();
    let (mut daemon_side, _) = listener.accept().await.unwrap();
    drop(stream);
    assert_eq!(daemon_side.read(&mut [0]).await.unwrap(), 0);
}
