use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, stream};
use async_nats::{ConnectOptions, Event, ServerAddr};
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Failure;

/// The longest wait for an answer of the server.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The stream of entries, over a connection that is made again whenever it ends.
#[derive(Debug)]
pub struct Messages {
    app: String,
    jetstream: jetstream::Context,
    /// How many connections have ended.
    lost: watch::Receiver<u64>,
}

impl Messages {
    /// Begins to connect, and does not wait for it.
    pub async fn connect(url: &str, app: &str) -> Result<Messages, Failure> {
        let (tell, lost) = watch::channel(0);
        let server: ServerAddr = url.parse()?;
        // Which this client does not take from the url.
        let part = |part: Option<&str>| part.unwrap_or_default().to_owned();
        let (user, password) = (part(server.username()), part(server.password()));
        let client = ConnectOptions::with_user_and_password(user, password)
            .retry_on_initial_connect()
            .connection_timeout(PATIENCE)
            .reconnect_delay_callback(|attempts| {
                let pause = Duration::from_millis(10) * u32::try_from(attempts).unwrap_or(u32::MAX);
                pause.min(LONGEST_PAUSE)
            })
            .event_callback(move |event| {
                if matches!(event, Event::Disconnected) {
                    tell.send_modify(|lost| *lost += 1);
                }
                std::future::ready(())
            })
            .connect(server)
            .await?;
        let mut jetstream = jetstream::new(client);
        jetstream.set_timeout(PATIENCE);
        Ok(Messages {
            app: app.to_owned(),
            jetstream,
            lost,
        })
    }

    /// Makes the stream if there is none.
    pub async fn ensure_stream(&self) -> Result<(), Failure> {
        let config = stream::Config {
            name: self.app.clone(),
            subjects: vec![self.subject()],
            ..stream::Config::default()
        };
        timeout(PATIENCE, self.jetstream.get_or_create_stream(config)).await??;
        Ok(())
    }

    /// Keeps an entry, once. Returns when the server has acknowledged it. An error says nothing of whether it is kept.
    pub async fn publish(&self, n: i64) -> Result<(), Failure> {
        let mut lost = self.lost.clone();
        lost.mark_unchanged();
        let (id, subject) = (n.to_string(), self.subject());
        let acknowledged = async {
            let message = PublishMessage::build()
                .message_id(&id)
                .payload(id.clone().into());
            self.jetstream.send_publish(subject, message).await?.await?;
            Ok(())
        };
        tokio::select! {
            acknowledged = timeout(PATIENCE, acknowledged) => acknowledged?,
            // The client would wait for an answer that went down with the connection.
            Ok(()) = lost.changed() => Err("the connection was lost".into()),
        }
    }

    /// Every entry, each as often as the stream has it.
    pub async fn all(&self) -> Result<Vec<i64>, Failure> {
        let stream = self.jetstream.get_stream(&self.app).await?;
        let consumer = stream
            .create_consumer(pull::Config {
                deliver_policy: DeliverPolicy::All,
                ack_policy: AckPolicy::None,
                ..pull::Config::default()
            })
            .await?;
        let mut all = Vec::new();
        let mut left = consumer.cached_info().num_pending;
        while left > 0 {
            let mut batch = consumer.fetch().max_messages(500).messages().await?;
            while let Some(message) = batch.next().await {
                all.push(std::str::from_utf8(&message?.payload)?.parse()?);
                left = left.saturating_sub(1);
            }
        }
        Ok(all)
    }

    /// Asks the server for a sign of life of the stream.
    pub async fn ping(&self) -> Result<(), Failure> {
        timeout(PATIENCE, self.jetstream.get_stream(&self.app)).await??;
        Ok(())
    }

    fn subject(&self) -> String {
        format!("{}.entries", self.app)
    }
}
