import io.debezium.embedded.Connect;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.DebeziumEngine.ChangeConsumer;
import io.debezium.engine.DebeziumEngine.RecordCommitter;
import io.debezium.engine.RecordChangeEvent;
import io.debezium.engine.format.ChangeEventFormat;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.connect.header.Header;
import org.apache.kafka.connect.source.SourceRecord;

/**
 * Relays an outbox table to Kafka as Debezium Server does: the embedded engine reads the write-ahead log, its router makes events
 * of rows, and each batch is sent as a whole and awaited before it is marked. It says "first" when the engine hands over its first
 * batch, "last" when as many as it was told to relay are accepted, and ends.
 */
public final class OutboxRouter {
    private OutboxRouter() {}

    public static void main(String[] args) throws Exception {
        String host = args[0], port = args[1], database = args[2], table = args[3], brokers = args[4];
        Relay relay = new Relay(brokers, Long.parseLong(args[5]));
        Path offsets = Files.createTempFile("debezium", ".offsets");
        Properties settings = settings(host, port, database, table, offsets);
        ExecutorService threads = Executors.newSingleThreadExecutor();
        try (DebeziumEngine<RecordChangeEvent<SourceRecord>> engine = DebeziumEngine
                .create(ChangeEventFormat.of(Connect.class))
                .using(settings)
                .using((success, message, error) -> {
                    if (!success) {
                        System.out.println("failed: " + message + " " + error);
                        relay.done.countDown();
                    }
                })
                .notifying(relay)
                .build()) {
            threads.execute(engine);
            relay.done.await();
        } finally {
            threads.shutdown();
            relay.producer.close();
            Files.deleteIfExists(offsets);
        }
        System.exit(0);
    }

    private static Properties settings(String host, String port, String database, String table, Path offsets) {
        Properties settings = new Properties();
        settings.setProperty("name", table);
        settings.setProperty("connector.class", "io.debezium.connector.postgresql.PostgresConnector");
        settings.setProperty("database.hostname", host);
        settings.setProperty("database.port", port);
        settings.setProperty("database.user", "postgres");
        settings.setProperty("database.password", "");
        settings.setProperty("database.dbname", database);
        settings.setProperty("topic.prefix", "bench");
        settings.setProperty("table.include.list", "public." + table);
        settings.setProperty("plugin.name", "pgoutput");
        // Both are there, so that it begins with what was written since.
        settings.setProperty("slot.name", table);
        settings.setProperty("publication.name", table);
        settings.setProperty("publication.autocreate.mode", "disabled");
        settings.setProperty("snapshot.mode", "no_data");
        // Twice its own defaults, and no pause while there is more.
        settings.setProperty("max.batch.size", "4096");
        settings.setProperty("max.queue.size", "16384");
        settings.setProperty("poll.interval.ms", "10");
        settings.setProperty("offset.storage", "org.apache.kafka.connect.storage.FileOffsetBackingStore");
        settings.setProperty("offset.storage.file.filename", offsets.toString());
        settings.setProperty("offset.flush.interval.ms", "1000");
        settings.setProperty("transforms", "outbox");
        settings.setProperty("transforms.outbox.type", "io.debezium.transforms.outbox.EventRouter");
        return settings;
    }

    private static final class Relay implements ChangeConsumer<RecordChangeEvent<SourceRecord>> {
        final CountDownLatch done = new CountDownLatch(1);
        final KafkaProducer<byte[], byte[]> producer;
        private final long count;
        private long relayed;

        Relay(String brokers, long count) {
            this.count = count;
            Properties settings = new Properties();
            settings.setProperty("bootstrap.servers", brokers);
            settings.setProperty("enable.idempotence", "true");
            settings.setProperty("linger.ms", "1");
            this.producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
        }

        @Override
        public void handleBatch(
                List<RecordChangeEvent<SourceRecord>> events, RecordCommitter<RecordChangeEvent<SourceRecord>> committer)
                throws InterruptedException {
            if (relayed == 0) {
                System.out.println("first");
            }
            List<Future<RecordMetadata>> sent = new ArrayList<>(events.size());
            for (RecordChangeEvent<SourceRecord> event : events) {
                SourceRecord record = event.record();
                ProducerRecord<byte[], byte[]> out =
                        new ProducerRecord<>(record.topic(), bytes(record.key()), bytes(record.value()));
                for (Header header : record.headers()) {
                    out.headers().add(header.key(), bytes(header.value()));
                }
                sent.add(producer.send(out));
            }
            for (Future<RecordMetadata> report : sent) {
                try {
                    report.get();
                } catch (java.util.concurrent.ExecutionException error) {
                    throw new IllegalStateException(error);
                }
            }
            for (RecordChangeEvent<SourceRecord> event : events) {
                committer.markProcessed(event);
            }
            committer.markBatchFinished();
            relayed += events.size();
            if (relayed >= count) {
                System.out.println("last");
                done.countDown();
            }
        }

        private static byte[] bytes(Object value) {
            if (value == null || value instanceof byte[]) {
                return (byte[]) value;
            }
            return value.toString().getBytes(StandardCharsets.UTF_8);
        }
    }
}
