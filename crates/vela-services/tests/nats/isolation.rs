//! What an owner can reach: its own, and nothing else.

use async_nats::jetstream;
use futures::StreamExt;
use vela_services::{JetStream, ServiceError, ServiceSpec};

use super::world::{Access, Wire, World, plain, with_jetstream, with_subjects};

/// What JetStream says of the account. The library reads what newer servers say.
async fn jetstream_info(client: &async_nats::Client) -> String {
    let answer = client.request("$JS.API.INFO", "".into()).await.unwrap();
    String::from_utf8_lossy(&answer.payload).into_owned()
}

#[tokio::test]
async fn the_server_refuses_what_is_anothers() {
    let world = World::new();
    let shop = world.ensure("my-shop", &with_subjects(&["orders.>"])).await;
    let mail = world.ensure("mail", &with_jetstream()).await;

    let mut wire = Wire::login(&shop).unwrap();
    for subject in [
        "mail.in",
        "mail",
        ">",
        "*",
        "other",
        "my-shopping",
        "$JS.API.INFO",
        "$SYS.>",
    ] {
        let refused = wire.ask(&format!("SUB {subject} 1"));
        assert_eq!(
            refused.to_lowercase(),
            format!("-err 'permissions violation for subscription to \"{subject}\"'")
                .to_lowercase()
        );
    }
    for subject in [
        "mail.in",
        "mail",
        "other",
        "$JS.API.STREAM.NAMES",
        "$SYS.REQ.SERVER.PING",
    ] {
        let refused = wire.ask(&format!("PUB {subject} 2\r\nhi"));
        assert_eq!(
            refused.to_lowercase(),
            format!("-err 'permissions violation for publish to \"{subject}\"'").to_lowercase()
        );
    }
    // And allows what is its own, in both spellings.
    for (id, subject) in [
        "my-shop",
        "my-shop.>",
        "my_shop.a.*",
        "orders.new",
        "_INBOX.1",
    ]
    .iter()
    .enumerate()
    {
        wire.say(&format!("SUB {subject} {id}"));
    }
    assert_eq!(wire.ask("PING"), "PONG");
    assert_eq!(wire.ask("PUB my-shop.new 2\r\nhi"), "MSG my-shop.new 1 2");
    assert_eq!(wire.line(), "hi");
    assert_eq!(wire.ask("PUB my_shop.a.b 2\r\nhi"), "MSG my_shop.a.b 2 2");
    assert_eq!(wire.line(), "hi");

    let mut wire = Wire::login(&mail).unwrap();
    assert_eq!(wire.ask("SUB mail.> 1\r\nPING"), "PONG");
    assert!(
        wire.ask("SUB my-shop.> 2")
            .contains("Permissions Violation")
    );
}

#[tokio::test]
async fn the_same_subject_of_two_owners_is_two() {
    let world = World::new();
    let one = world.ensure("one", &with_subjects(&["news.>"])).await;
    let two = world.ensure("two", &with_subjects(&["news.>"])).await;
    let (one, two) = (one.client().await, two.client().await);
    let mut heard_by_two = two.subscribe("news.>").await.unwrap();
    two.flush().await.unwrap();
    one.publish("news.x", "of one".into()).await.unwrap();
    one.flush().await.unwrap();
    two.publish("news.x", "of two".into()).await.unwrap();
    let heard = heard_by_two.next().await.unwrap();
    assert_eq!(heard.payload, "of two");

    // A request is answered within an owner.
    let mut questions = one.subscribe("one.ask").await.unwrap();
    let answering = one.clone();
    tokio::spawn(async move {
        let question = questions.next().await.unwrap();
        let reply = question.reply.unwrap();
        answering.publish(reply, "yes".into()).await.unwrap();
    });
    let answer = one.request("one.ask", "well?".into()).await.unwrap();
    assert_eq!(answer.payload, "yes");
}

#[tokio::test]
async fn nobody_gets_in_without_a_password_of_his_own() {
    let world = World::new();
    let one = world.ensure("one", &plain()).await;
    let two = world.ensure("two", &plain()).await;
    let stranger = |user: &str, password: &str| {
        let (user, password) = (user.to_owned(), password.to_owned());
        Wire::login(&Access {
            user,
            password,
            ..one.clone()
        })
    };
    for (user, password) in [
        ("one", two.password.as_str()),
        ("two", &one.password),
        ("one", ""),
        ("", ""),
        ("vela_probe", ""),
    ] {
        let refused = stranger(user, password).err().unwrap();
        assert!(
            refused.contains("Authorization Violation"),
            "{user}: {refused}"
        );
    }
    let config = world.read("nats.conf");
    let probe = config.split("\"config_").nth(1).unwrap();
    let probe = format!("config_{}", probe.split('"').next().unwrap());
    assert!(stranger(&probe, "").is_err());
}

#[tokio::test]
async fn what_is_no_subject_of_an_owners_is_refused_before_anything_happens() {
    let world = World::new();
    for subject in [
        ">",
        "*.a",
        "$JS.API.>",
        "$SYS.>",
        "_INBOX.>",
        "a b",
        "a\"] } ] } ] authorization: { no_auth_user: x } #",
        "a\nb",
        "a\\",
        "",
    ] {
        let error = world
            .try_ensure("app", &with_subjects(&[subject]))
            .await
            .err()
            .unwrap();
        assert!(
            matches!(
                error,
                ServiceError::Invalid {
                    key: "subjects",
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.hint().is_some());
    }
    assert!(!world.path("").exists(), "nothing was made");
    // Names that mean something to the server's configuration are names of owners like others.
    for owner in ["include", "true", "users", "accounts", "nats", "null"] {
        let access = world.ensure(owner, &with_jetstream()).await;
        let answer = jetstream_info(&access.client().await).await;
        assert!(answer.contains("max_storage"), "{answer}");
    }
}

#[tokio::test]
async fn jetstream_is_there_for_those_who_asked_for_it_and_within_their_limits() {
    let world = World::new();
    let mut small = ServiceSpec::default();
    small.jetstream = Some(JetStream {
        max_storage: Some(100_000),
        max_memory: Some(50_000),
    });
    let with = world.ensure("with", &small).await;
    let without = world.ensure("without", &plain()).await;
    let mut wire = Wire::login(&without).unwrap();
    let refused = wire.ask("PUB $JS.API.INFO 0\r\n");
    assert!(refused.contains("Permissions Violation"), "{refused}");

    let client = with.client().await;
    let answer = jetstream_info(&client).await;
    assert!(
        answer.contains(r#""max_memory":50000,"max_storage":100000,"#),
        "{answer}"
    );
    let context = jetstream::new(client.clone());
    let stream = |max_bytes| jetstream::stream::Config {
        name: "events".into(),
        subjects: vec!["with.>".into()],
        max_bytes,
        ..Default::default()
    };
    let refused = context.create_stream(stream(100_001)).await.unwrap_err();
    assert!(refused.to_string().contains("storage"), "{refused}");
    context.create_stream(stream(-1)).await.unwrap();
    let publish = async || {
        let payload = vec![b'x'; 40_000].into();
        context.publish("with.a", payload).await.unwrap().await
    };
    publish().await.unwrap();
    publish().await.unwrap();
    assert!(publish().await.is_err(), "a third one is over the limit");

    // More is asked for, and there at once; what it has stays.
    small.jetstream = Some(JetStream {
        max_storage: Some(1_000_000),
        max_memory: None,
    });
    world.ensure("with", &small).await;
    publish().await.unwrap();
    let answer = jetstream_info(&client).await;
    assert!(
        answer.contains(r#""max_memory":50000,"max_storage":1000000,"#),
        "{answer}"
    );

    // What the machine does not have.
    small.jetstream = Some(JetStream {
        max_storage: Some(1 << 60),
        max_memory: None,
    });
    let error = world.try_ensure("with", &small).await.err().unwrap();
    assert!(
        matches!(
            error,
            ServiceError::Invalid {
                key: "jetstream.storage",
                ..
            }
        ),
        "{error:?}"
    );
    publish().await.unwrap();
}

#[tokio::test]
async fn values_and_objects_are_kept_in_streams() {
    let world = World::new();
    let access = world.ensure("my-app", &with_jetstream()).await;
    let context = jetstream::new(access.client().await);
    // As the library makes one, which asks first what 2.9 does not answer.
    let bucket = jetstream::stream::Config {
        name: "KV_settings".into(),
        subjects: vec!["$KV.settings.>".into()],
        max_messages_per_subject: 1,
        ..Default::default()
    };
    context.create_stream(bucket).await.unwrap();
    let store = context.get_key_value("settings").await.unwrap();
    store.put("colour", "blue".into()).await.unwrap();
    let value = store.get("colour").await.unwrap().unwrap();
    assert_eq!(value, "blue");

    // A durable consumer reads, and acknowledges.
    let stream = context
        .create_stream(jetstream::stream::Config {
            name: "events".into(),
            subjects: vec!["my_app.>".into()],
            ..Default::default()
        })
        .await
        .unwrap();
    context
        .publish("my_app.new", "1".into())
        .await
        .unwrap()
        .await
        .unwrap();
    let consumer = stream
        .create_consumer(jetstream::consumer::pull::Config {
            durable_name: Some("reader".into()),
            ..Default::default()
        })
        .await
        .unwrap();
    let mut messages = consumer.messages().await.unwrap();
    let message = messages.next().await.unwrap().unwrap();
    message.double_ack().await.unwrap();
    assert_eq!(message.payload, "1");
}
