//! The broker of a test run: a real Apache Kafka started through `./dev kafka run` on a free port, one that already
//! runs (`RIVERMARK_TEST_KAFKA=host:port`), or, where there is no JDK, librdkafka's mock cluster in this process.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tempfile::TempDir;

use crate::ports::free_port;
use crate::session::runtime;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A message to produce.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// The partition; `None` leaves it to the key or to chance.
    pub partition: Option<i32>,
    /// The key, if any.
    pub key: Option<Vec<u8>>,
    /// The payload; `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// The message's timestamp; `None` is now.
    pub timestamp_ms: Option<i64>,
}

impl Message {
    /// A message without a key.
    pub fn new(payload: impl Into<Vec<u8>>) -> Message {
        Message {
            payload: Some(payload.into()),
            ..Message::default()
        }
    }

    /// Puts the message into a partition.
    pub fn to_partition(mut self, partition: i32) -> Message {
        self.partition = Some(partition);
        self
    }

    /// Gives the message a timestamp. The broker deletes what is older than its retention, a week.
    pub fn sent_at(mut self, timestamp_ms: i64) -> Message {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

enum Kind {
    External,
    /// A broker of our own; `running` is empty while it is stopped.
    Process {
        dir: TempDir,
        port: u16,
        controller_port: u16,
        running: Mutex<Option<(Child, ChildStdin)>>,
    },
    Mock(Mutex<Sender<MockRequest>>),
}

enum MockRequest {
    CreateTopic(String, i32, Sender<Result<(), KafkaError>>),
    Down(Sender<Result<(), KafkaError>>),
    Up(Sender<Result<(), KafkaError>>),
}

/// A broker.
pub struct Kafka {
    bootstrap: String,
    kind: Kind,
}

impl Kafka {
    /// The broker that all tests of this process share.
    ///
    /// # Panics
    /// If none can be started.
    pub fn shared() -> &'static Kafka {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| match std::env::var("RIVERMARK_TEST_KAFKA") {
            Ok(bootstrap) if !bootstrap.is_empty() => Kafka {
                bootstrap,
                kind: Kind::External,
            },
            _ => Kafka::private().unwrap_or_else(|e| panic!("no broker: {e:#}")),
        })
    }

    /// A broker of the caller's own, which it may stop and start.
    pub fn private() -> Result<Kafka> {
        let dir = tempfile::Builder::new()
            .prefix("rivermark-kafka-")
            .tempdir()?;
        let (port, controller_port) = (free_port(), free_port());
        match start_process(dir.path(), port, controller_port)? {
            Some(running) => Ok(Kafka {
                bootstrap: format!("127.0.0.1:{port}"),
                kind: Kind::Process {
                    dir,
                    port,
                    controller_port,
                    running: Mutex::new(Some(running)),
                },
            }),
            None if crate::in_ci() => bail!("no JDK or Maven: in CI the tests need a real broker"),
            None => {
                eprintln!("no JDK or Maven: the embedded broker stands in for Apache Kafka");
                start_mock()
            }
        }
    }

    /// `host:port`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// False for the embedded broker, which forgets old messages and knows fewer requests.
    pub fn is_real(&self) -> bool {
        !matches!(self.kind, Kind::Mock(_))
    }

    /// Creates a topic.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        if let Kind::Mock(requests) = &self.kind {
            return ask_mock(requests, |reply| {
                MockRequest::CreateTopic(name.into(), partitions, reply)
            });
        }
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let results =
            runtime().block_on(self.admin()?.create_topics([&topic], &AdminOptions::new()))?;
        check_admin(results)
    }

    /// Creates a topic with a name of its own and returns the name.
    pub fn new_topic(&self, prefix: &str, partitions: i32) -> Result<String> {
        let name = unique_name(prefix);
        self.create_topic(&name, partitions)?;
        Ok(name)
    }

    /// Raises a topic's number of partitions.
    pub fn set_partitions(&self, topic: &str, partitions: usize) -> Result<()> {
        let change = NewPartitions::new(topic, partitions);
        let results = runtime().block_on(
            self.admin()?
                .create_partitions([&change], &AdminOptions::new()),
        )?;
        check_admin(results)
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, topic: &str) -> Result<()> {
        let results =
            runtime().block_on(self.admin()?.delete_topics(&[topic], &AdminOptions::new()))?;
        check_admin(results)
    }

    /// Makes a partition forget the messages before an offset, as its retention would.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before))?;
        let admin = self.admin()?;
        let deleted = runtime().block_on(admin.delete_records(&list, &AdminOptions::new()))?;
        for element in deleted.elements() {
            element.error()?;
        }
        Ok(())
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .create()?)
    }

    /// A producer that keeps the order of messages and waits for the broker to have them.
    pub fn producer(&self) -> Result<BaseProducer> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", "2")
            .set("message.max.bytes", "33554432");
        Ok(config.create()?)
    }

    /// Produces messages and waits until the broker has all of them.
    pub fn produce(&self, topic: &str, messages: impl IntoIterator<Item = Message>) -> Result<()> {
        let producer = self.producer()?;
        for message in messages {
            send(&producer, topic, &message)?;
        }
        producer.flush(TIMEOUT)?;
        ensure!(
            producer.in_flight_count() == 0,
            "messages were not delivered to {topic}"
        );
        Ok(())
    }

    /// Produces one message per line with `kcat`, a client that shares nothing with us but librdkafka.
    pub fn kcat(&self, topic: &str, partition: i32, lines: &str) -> Result<()> {
        let mut kcat = Command::new("kcat");
        kcat.args([
            "-P",
            "-b",
            &self.bootstrap,
            "-t",
            topic,
            "-p",
            &partition.to_string(),
        ]);
        let mut child = kcat
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot start kcat (apt-get install kcat)")?;
        child
            .stdin
            .take()
            .context("kcat's input is a pipe")?
            .write_all(lines.as_bytes())?;
        let status = child.wait()?;
        ensure!(status.success(), "kcat ended with {status}");
        Ok(())
    }

    /// Takes the broker away; clients see refused connections.
    pub fn stop(&self) -> Result<()> {
        match &self.kind {
            Kind::External => bail!("a broker from outside cannot be stopped"),
            Kind::Mock(requests) => ask_mock(requests, MockRequest::Down),
            Kind::Process { running, .. } => stop_process(running),
        }
    }

    /// Brings the broker back at the same address with the same topics.
    pub fn start(&self) -> Result<()> {
        match &self.kind {
            Kind::External => bail!("a broker from outside cannot be started"),
            Kind::Mock(requests) => ask_mock(requests, MockRequest::Up),
            Kind::Process {
                dir,
                port,
                controller_port,
                running,
            } => {
                let process = start_process(dir.path(), *port, *controller_port)?;
                *running.lock().expect("no holder of the lock panics") = process;
                Ok(())
            }
        }
    }
}

/// Hands a message to a producer, waiting while its queue is full.
pub fn send(producer: &BaseProducer, topic: &str, message: &Message) -> Result<()> {
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
    record.key = message.key.as_deref();
    record.payload = message.payload.as_deref();
    record.partition = message.partition;
    record.timestamp = message.timestamp_ms;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                producer.poll(Duration::from_millis(5));
                record = again;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// A name that no other test of this machine uses.
pub fn unique_name(prefix: &str) -> String {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!(
        "{prefix}_{}_{}_{number}",
        std::process::id(),
        crate::ports::free_port()
    )
}

fn check_admin(results: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Result<()> {
    for result in results {
        result.map_err(|(name, code)| anyhow::anyhow!("topic {name}: {code}"))?;
    }
    Ok(())
}

/// Starts a broker, or returns `None` where there is no JDK or Maven.
fn start_process(
    dir: &std::path::Path,
    port: u16,
    controller_port: u16,
) -> Result<Option<(Child, ChildStdin)>> {
    let mut command = Command::new(crate::repository().join("dev"));
    command.args(["kafka", "run"]);
    command.env("RIVERMARK_KAFKA_PORT", port.to_string());
    command.env(
        "RIVERMARK_KAFKA_CONTROLLER_PORT",
        controller_port.to_string(),
    );
    command.env("RIVERMARK_KAFKA_DIR", dir);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let input = child.stdin.take().context("the input is a pipe")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("the output is a pipe")?).read_line(&mut line)?;
    if line.trim() == "ready" {
        return Ok(Some((child, input)));
    }
    let status = child.wait()?;
    // 3 is the script's word for "no JDK or Maven here".
    ensure!(
        status.code() == Some(3),
        "./dev kafka run ended with {status}"
    );
    Ok(None)
}

fn stop_process(running: &Mutex<Option<(Child, ChildStdin)>>) -> Result<()> {
    let taken = running.lock().expect("no holder of the lock panics").take();
    let Some((mut child, input)) = taken else {
        return Ok(());
    };
    drop(input);
    child.wait()?;
    Ok(())
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Kind::Process { running, .. } = &self.kind {
            // The broker also ends by itself when its input closes with this process.
            let _ = stop_process(running);
        }
    }
}

/// The mock cluster is bound to its thread, so it is asked through a channel.
fn start_mock() -> Result<Kafka> {
    let (requests, inbox) = channel();
    let (address, answer) = channel();
    std::thread::spawn(move || {
        let cluster = match MockCluster::new(1) {
            Ok(cluster) => cluster,
            Err(error) => return drop(address.send(Err(error))),
        };
        // A receiver that is gone has given up waiting; there is nobody to tell.
        let _ = address.send(Ok(cluster.bootstrap_servers()));
        for request in inbox {
            let _ = match request {
                MockRequest::CreateTopic(name, n, reply) => {
                    reply.send(cluster.create_topic(&name, n, 1))
                }
                MockRequest::Down(reply) => reply.send(cluster.broker_down(1)),
                MockRequest::Up(reply) => reply.send(cluster.broker_up(1)),
            };
        }
    });
    let bootstrap = answer.recv()??;
    Ok(Kafka {
        bootstrap,
        kind: Kind::Mock(Mutex::new(requests)),
    })
}

fn ask_mock(
    requests: &Mutex<Sender<MockRequest>>,
    request: impl FnOnce(Sender<Result<(), KafkaError>>) -> MockRequest,
) -> Result<()> {
    let (reply, answer) = channel();
    requests
        .lock()
        .expect("no holder of the lock panics")
        .send(request(reply))?;
    Ok(answer.recv()??)
}
