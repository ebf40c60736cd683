//! `ExistingPostgres` against a real server, and against what only looks like one.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod cluster;

use std::error::Error;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use vela_services::test_util::conformance;
use vela_services::{
    Bindings, ExistingPostgres, InvalidPostgresUrl, OwnerName, Provisioner, ServiceError,
    ServiceSpec,
};

use self::cluster::Cluster;

/// What must not be seen anywhere, here as it stands in SQL and in a url.
const PASSWORD: &str = "hunter2@/:?%";
const ENCODED: &str = "hunter2%40%2F%3A%3F%25";

async fn ensure(url: &str) -> Result<Bindings, ServiceError> {
    let owner = OwnerName::parse("my-app").unwrap();
    let spec = ServiceSpec::existing(SecretString::from(url));
    ExistingPostgres::new()
        .timeout(Duration::from_secs(20))
        .ensure(&owner, &spec)
        .await
}

/// The error of `ensure`, once it is clear that it does not tell the password.
async fn fails(url: &str) -> ServiceError {
    let error = ensure(url).await.expect_err(url);
    let said = format!("{}; {error:?}; {:?}", chain(&error), error.hint());
    assert!(!said.contains("hunter2"), "{said}");
    error
}

fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

fn database() -> Cluster {
    let cluster = Cluster::start();
    cluster.sql(&format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'"));
    cluster.sql("CREATE DATABASE app_db OWNER app");
    cluster
}

#[tokio::test]
async fn a_database_that_exists_is_bound_and_works() {
    let cluster = database();
    let port = cluster.port;
    let url = format!("postgres://app:{ENCODED}@127.0.0.1:{port}/app_db?schema=public&pool_size=5");

    let bindings = ensure(&url).await.unwrap();
    assert_eq!(bindings["DATABASE_URL"].expose_secret(), url);

    // What a program gets is what libpq needs.
    let variables = bindings.iter().filter(|(name, _)| name.starts_with("PG"));
    let ran = cluster
        .psql("SELECT current_user, current_database()")
        .envs(variables.map(|(name, value)| (name, value.expose_secret())))
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&ran.stdout),
        "app|app_db\n",
        "{ran:?}"
    );

    let socket = cluster.socket().display().to_string().replace('/', "%2F");
    let bindings = ensure(&format!("postgres://app@{socket}:{port}/app_db"))
        .await
        .unwrap();
    assert!(!bindings.contains_key("PGPASSWORD"));

    let spec = ServiceSpec::existing(SecretString::from(url));
    conformance(&ExistingPostgres::new(), &spec).await;

    // Removed by everybody, purged by some, it still is there.
    ensure(spec.url.unwrap().expose_secret()).await.unwrap();
}

#[tokio::test]
async fn what_the_server_refuses_is_said() {
    let cluster = database();
    let at = format!("127.0.0.1:{}", cluster.port);

    let error = fails(&format!("postgres://app:hunter2-wrong@{at}/app_db")).await;
    assert!(
        matches!(&error, ServiceError::AuthRefused { user, .. } if user == "app"),
        "{error:?}"
    );
    assert_eq!(
        chain(&error),
        format!(
            "`postgres` at {at} refuses the user `app`: \
             FATAL: password authentication failed for user \"app\""
        )
    );
    assert!(error.hint().unwrap().contains("password"));

    let error = fails(&format!("postgres://nobody:{ENCODED}@{at}/app_db")).await;
    assert!(
        matches!(error, ServiceError::AuthRefused { .. }),
        "{error:?}"
    );

    let error = fails(&format!("postgres://app@{at}/app_db")).await;
    assert!(
        matches!(error, ServiceError::AuthRefused { .. }),
        "{error:?}"
    );
    assert!(
        chain(&error).ends_with("password missing"),
        "{}",
        chain(&error)
    );

    let error = fails(&format!("postgres://app:{ENCODED}@{at}/no_db")).await;
    let ServiceError::NoSuchDatabase { database, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(database, "no_db");
    assert!(error.hint().unwrap().contains("CREATE DATABASE \"no_db\""));

    cluster.sql("ALTER DATABASE app_db CONNECTION LIMIT 0");
    let error = fails(&format!("postgres://app:{ENCODED}@{at}/app_db")).await;
    assert!(matches!(error, ServiceError::Failed { .. }), "{error:?}");
    assert!(
        chain(&error).contains("too many connections"),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let at = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let error = fails(&format!("postgres://app:{ENCODED}@{at}/app_db")).await;
    let ServiceError::Unreachable { address, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(address, &at.to_string());
    assert!(error.hint().is_some());

    let error = fails("postgres://app:hunter2@no-such-host.invalid/app_db").await;
    assert!(
        matches!(error, ServiceError::Unreachable { .. }),
        "{error:?}"
    );

    let error = fails("postgres://app:hunter2@%2Fno%2Fsuch%2Fdirectory/app_db").await;
    assert!(
        matches!(error, ServiceError::Unreachable { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_has_its_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "postgres://app:hunter2@{}/app_db",
        listener.local_addr().unwrap()
    );
    let patience = Duration::from_millis(50);

    let owner = OwnerName::parse("my-app").unwrap();
    let spec = ServiceSpec::existing(SecretString::from(url));
    let error = ExistingPostgres::new()
        .timeout(patience)
        .ensure(&owner, &spec)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ServiceError::TimedOut { after, .. } if after == patience),
        "{error:?}"
    );

    // The attempt is over: its connection is closed.
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
}

/// What Postgres sends while it recovers: an error of severity, code and message.
const STARTING: &[u8] = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";

#[tokio::test]
async fn a_server_that_is_starting_is_waited_for() {
    let cluster = database();
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "postgres://app:{ENCODED}@{}/app_db",
        door.local_addr().unwrap()
    );
    let refuse = async |times: usize| {
        for _ in 0..times {
            let (mut stream, _) = door.accept().await.unwrap();
            stream.read_u8().await.unwrap();
            stream.write_all(b"E").await.unwrap();
            let length = u32::try_from(STARTING.len() + 4).unwrap();
            stream.write_u32(length).await.unwrap();
            stream.write_all(STARTING).await.unwrap();
        }
    };
    let server = async {
        refuse(3).await;
        let (mut stream, _) = door.accept().await.unwrap();
        let mut real = TcpStream::connect(("127.0.0.1", cluster.port))
            .await
            .unwrap();
        tokio::io::copy_bidirectional(&mut stream, &mut real)
            .await
            .unwrap();
    };
    let (bindings, ()) = tokio::join!(ensure(&url), server);
    bindings.unwrap();

    // For as long as it may take, and then with what it said.
    let spec = ServiceSpec::existing(SecretString::from(url));
    let owner = OwnerName::parse("my-app").unwrap();
    let existing = ExistingPostgres::new().timeout(Duration::from_secs(2));
    let error = tokio::select! {
        ensured = existing.ensure(&owner, &spec) => ensured.unwrap_err(),
        () = refuse(usize::MAX) => unreachable!("it refuses for ever"),
    };
    assert!(chain(&error).contains("starting up"), "{}", chain(&error));
}

#[tokio::test]
async fn what_is_not_postgres_is_not_usable() {
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"Z",
        b"",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "postgres://app:hunter2@{}/app_db",
            listener.local_addr().unwrap()
        );
        let stranger = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_u8().await.unwrap();
            stream.write_all(answer).await.unwrap();
        };
        let (error, ()) = tokio::join!(fails(&url), stranger);
        assert!(
            matches!(error, ServiceError::Failed { .. }),
            "{answer:?}: {error:?}"
        );
    }
}

#[tokio::test]
async fn what_it_does_not_do_it_refuses() {
    let owner = OwnerName::parse("my-app").unwrap();
    let ensure = async |spec: &ServiceSpec| {
        ExistingPostgres::new()
            .ensure(&owner, spec)
            .await
            .unwrap_err()
    };

    let mut spec = ServiceSpec::default();
    let error = ensure(&spec).await;
    assert!(
        matches!(error, ServiceError::MissingUrl { kind: "postgres" }),
        "{error:?}"
    );

    spec.url = Some("postgres://app:hunter2@127.0.0.1:1/db".into());
    spec.extensions = vec!["citext".into()];
    let error = ensure(&spec).await;
    assert!(
        matches!(
            error,
            ServiceError::Unsupported {
                key: "extensions",
                ..
            }
        ),
        "{error:?}"
    );

    spec.databases = vec!["more".into()];
    let error = ensure(&spec).await;
    assert!(
        matches!(
            error,
            ServiceError::Unsupported {
                key: "databases",
                ..
            }
        ),
        "{error:?}"
    );

    spec.version = Some("16".into());
    let error = ensure(&spec).await;
    assert!(
        matches!(error, ServiceError::Unsupported { key: "version", .. }),
        "{error:?}"
    );

    let error = fails("postgres://app:hunter2@127.0.0.1:1/db?sslmode=require").await;
    assert!(
        matches!(
            error,
            ServiceError::InvalidUrl {
                source: InvalidPostgresUrl::TlsUnsupported { mode: "require" },
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.hint().unwrap().contains("sslmode"));
}
