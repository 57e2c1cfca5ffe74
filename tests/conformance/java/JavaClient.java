import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.SecurityDisabledException;
import org.apache.kafka.common.errors.TransactionalIdAuthorizationException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * What the Java client does with a broker: {@code JavaClient SCENARIO ADDRESS TOPIC [TEXT]}; an exception is a failure.
 * The environment's CLIENT_PROPERTIES may name a file of further options, as a secured broker needs them.
 */
public final class JavaClient {
    private static final Duration SHORT = Duration.ofMillis(100);

    private final String address;
    private final String topic;

    private JavaClient(String address, String topic) {
        this.address = address;
        this.topic = topic;
    }

    public static void main(String[] arguments) throws Exception {
        JavaClient client = new JavaClient(arguments[1], arguments[2]);
        switch (arguments[0]) {
            case "administration" -> client.administration();
            case "idempotent-produce" -> client.idempotentProduce(arguments[3]);
            case "group-of-two" -> client.groupOfTwo();
            case "offsets-by-timestamp" -> client.offsetsByTimestamp();
            case "retention" -> client.retention();
            case "refusals" -> client.refusals();
            case "no-transactions" -> client.noTransactions();
            case "order-per-key" -> client.orderPerKey();
            case "offset-reset" -> client.offsetReset();
            case "long-poll" -> client.longPoll();
            case "to-the-end" -> client.toTheEnd(Long.parseLong(arguments[3]));
            case "ten-megabytes" -> client.tenMegabytes();
            default -> throw new IllegalArgumentException(arguments[0]);
        }
        System.out.println("passed " + arguments[0]);
        System.exit(0);
    }

    private void administration() throws Exception {
        try (Admin admin = admin()) {
            admin.createTopics(List.of(new NewTopic(topic, 2, (short) 1))).all().get();
            await("two partitions", () -> partitions(admin) == 2);
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
            await("five partitions", () -> partitions(admin) == 5);
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
            same("delete", config.get("cleanup.policy").value());
            require(!admin.describeCluster().nodes().get().isEmpty(), "no nodes");
            admin.deleteTopics(List.of(topic)).all().get();
            await("no topic", () -> partitions(admin) == 0);
        }
    }

    private void idempotentProduce(String compression) throws Exception {
        create(3);
        Map<Integer, List<String>> sent = new HashMap<>();
        Properties options = options("compression.type", compression, "enable.idempotence", "true", "linger.ms", "5");
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(options)) {
            List<Future<RecordMetadata>> acknowledged = new ArrayList<>();
            for (int number = 0; number < 3000; number++) {
                String value = "value-" + number;
                sent.computeIfAbsent(number % 3, key -> new ArrayList<>()).add(value);
                acknowledged.add(producer.send(new ProducerRecord<>(topic, number % 3, null, value.getBytes())));
            }
            for (int number = 0; number < 3000; number++) {
                same((long) number / 3, acknowledged.get(number).get().offset());
            }
        }
        Map<Integer, List<String>> found = new HashMap<>();
        for (ConsumerRecord<byte[], byte[]> record : readAll(3, 3000)) {
            found.computeIfAbsent(record.partition(), key -> new ArrayList<>()).add(new String(record.value()));
        }
        same(sent, found);
    }

    /** Reads from an offset on until the consumer stands at the end, which nothing but an empty batch may lead to. */
    private void toTheEnd(long start) {
        TopicPartition place = new TopicPartition(topic, 0);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            consumer.assign(List.of(place));
            consumer.seek(place, start);
            long end = consumer.endOffsets(List.of(place)).get(place);
            await("the end", () -> {
                consumer.poll(SHORT);
                return consumer.position(place) == end;
            });
        }
    }

    private void groupOfTwo() throws Exception {
        create(4);
        produce(400, 4);
        Set<String> seen = new HashSet<>();
        String[] member = {"group.id", topic, "session.timeout.ms", "6000", "heartbeat.interval.ms", "200"};
        try (KafkaConsumer<byte[], byte[]> first = consumer(member)) {
            first.subscribe(List.of(topic));
            await("all partitions", () -> take(first, seen) && first.assignment().size() == 4);
            try (KafkaConsumer<byte[], byte[]> second = consumer(member)) {
                second.subscribe(List.of(topic));
                await("halves", () -> take(first, seen) && take(second, seen)
                        && first.assignment().size() == 2 && second.assignment().size() == 2);
                await("all records", () -> take(first, seen) && take(second, seen) && isAtEnd(first) && isAtEnd(second));
                same(400, seen.size());
                first.commitSync();
                second.commitSync();
                described(GroupState.STABLE, 2);
            }
            await("all partitions again", () -> take(first, seen) && first.assignment().size() == 4);
            Collection<OffsetAndMetadata> committed = first.committed(first.assignment()).values();
            same(400L, committed.stream().mapToLong(OffsetAndMetadata::offset).sum());
        }
        try (Admin admin = admin()) {
            described(GroupState.EMPTY, 0);
            admin.deleteConsumerGroups(List.of(topic)).all().get();
        }
    }

    private void offsetsByTimestamp() throws Exception {
        create(1);
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(options())) {
            for (int number = 0; number < 100; number++) {
                producer.send(new ProducerRecord<>(topic, 0, 1000L + 10 * number, null, new byte[] {1}));
            }
        }
        TopicPartition place = new TopicPartition(topic, 0);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(); Admin admin = admin()) {
            for (long[] pair : new long[][] {{0, 0}, {1000, 0}, {1001, 1}, {1495, 50}, {1990, 99}}) {
                same(pair[1], consumer.offsetsForTimes(Map.of(place, pair[0])).get(place).offset());
            }
            same(null, consumer.offsetsForTimes(Map.of(place, 1991L)).get(place));
            same(0L, consumer.beginningOffsets(List.of(place)).get(place));
            same(100L, consumer.endOffsets(List.of(place)).get(place));
            same(99L, admin.listOffsets(Map.of(place, OffsetSpec.maxTimestamp())).partitionResult(place).get().offset());
        }
    }

    private void retention() throws Exception {
        create(1);
        TopicPartition place = new TopicPartition(topic, 0);
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(options("linger.ms", "0"));
                KafkaConsumer<byte[], byte[]> consumer = consumer();
                Admin admin = admin()) {
            for (int number = 0; number < 10; number++) {
                producer.send(new ProducerRecord<>(topic, 0, 1000L + number, null, new byte[] {(byte) number})).get();
            }
            same(4L, admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(4))).lowWatermarks().get(place).get().lowWatermark());
            same(4L, consumer.beginningOffsets(List.of(place)).get(place));
            consumer.assign(List.of(place));
            consumer.seek(place, 1);
            same(4L, consumer.poll(Duration.ofSeconds(10)).iterator().next().offset());
            same(ConfigEntry.ConfigSource.DEFAULT_CONFIG, described(admin, resource, "segment.ms").source());
            alter(admin, resource, "retention.ms", "1000");
            await("the change", () -> described(admin, resource, "retention.ms").value().equals("1000"));
            ConfigEntry changed = described(admin, resource, "retention.ms");
            same(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, changed.source());
            same(ConfigEntry.ConfigType.LONG, changed.type());
            await("an empty log", () -> consumer.beginningOffsets(List.of(place)).get(place) == 10);
            same(10L, producer.send(new ProducerRecord<>(topic, 0, null, new byte[] {10})).get().offset());
            same(ConfigEntry.ConfigType.LIST, described(admin, resource, "cleanup.policy").type());
            fails(InvalidConfigurationException.class, () -> alter(admin, resource, "retention.ms", "-2"));
        }
    }

    private void refusals() throws Exception {
        try (Admin admin = admin()) {
            fails(SecurityDisabledException.class, () -> admin.describeAcls(AclBindingFilter.ANY).values().get());
            fails(SecurityDisabledException.class, () -> admin.deleteAcls(List.of(AclBindingFilter.ANY)).all().get());
            NewTopic replicated = new NewTopic(topic + "-replicated", 1, (short) 100);
            fails(InvalidReplicationFactorException.class, () -> admin.createTopics(List.of(replicated)).all().get());
        }
    }

    /** Apache Kafka does these; the embedded broker says that it does not. */
    private void noTransactions() throws Exception {
        Properties options = options("transactional.id", topic, "max.block.ms", "10000");
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(options)) {
            fails(TransactionalIdAuthorizationException.class, producer::initTransactions);
        }
    }

    private void orderPerKey() throws Exception {
        create(4);
        Map<String, List<String>> sent = new HashMap<>();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(options())) {
            for (int number = 0; number < 1000; number++) {
                String key = "key-" + number % 10;
                sent.computeIfAbsent(key, any -> new ArrayList<>()).add("v" + number);
                producer.send(new ProducerRecord<>(topic, key.getBytes(), ("v" + number).getBytes()));
            }
        }
        Map<String, List<String>> found = new HashMap<>();
        Set<Integer> partitions = new HashSet<>();
        for (ConsumerRecord<byte[], byte[]> record : readAll(4, 1000)) {
            found.computeIfAbsent(new String(record.key()), any -> new ArrayList<>()).add(new String(record.value()));
            partitions.add(record.partition());
        }
        same(sent, found);
        require(partitions.size() > 1, "ten keys in one partition");
    }

    private void offsetReset() throws Exception {
        create(1);
        TopicPartition place = new TopicPartition(topic, 0);
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(options())) {
            producer.send(new ProducerRecord<>(topic, "old".getBytes())).get();
            for (String reset : List.of("earliest", "latest", "none")) {
                Properties options = options();
                options.put("auto.offset.reset", reset);
                try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(options)) {
                    consumer.assign(List.of(place));
                    consumer.seek(place, 1000);
                    List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
                    await("a record after the reset to " + reset, () -> {
                        consumer.poll(SHORT).forEach(found::add);
                        if (found.isEmpty()) { // nobody says when it has gone to the end
                            producer.send(new ProducerRecord<>(topic, "new".getBytes()));
                            producer.flush();
                        }
                        return !found.isEmpty();
                    });
                    require(!reset.equals("none"), "an offset out of range was not reported");
                    same(reset.equals("earliest") ? "old" : "new", new String(found.get(0).value()));
                } catch (OffsetOutOfRangeException expected) {
                    same("none", reset);
                }
            }
        }
    }

    private void longPoll() throws Exception {
        create(1);
        List<Double> delays = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(options());
                KafkaConsumer<byte[], byte[]> consumer = consumer("fetch.max.wait.ms", "2000")) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            consumer.poll(SHORT);
            for (int number = 0; number < 20; number++) {
                long start = System.nanoTime();
                producer.send(new ProducerRecord<>(topic, new byte[] {1})).get();
                same(1, consumer.poll(Duration.ofSeconds(60)).count());
                delays.add((System.nanoTime() - start) / 1e6);
            }
        }
        delays.sort(null);
        require(delays.get(5) < 200, "a waiting consumer got records after " + delays + " ms");
    }

    private void tenMegabytes() throws Exception {
        create(1);
        byte[] value = new byte[10 << 20];
        new Random(1).nextBytes(value);
        Properties options = options("max.request.size", String.valueOf(12 << 20));
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(options)) {
            same(0L, producer.send(new ProducerRecord<>(topic, value)).get(90, TimeUnit.SECONDS).offset());
        }
        require(Arrays.equals(value, readAll(1, 1).get(0).value()), "another value came back");
    }

    private static ConfigEntry described(Admin admin, ConfigResource resource, String name) {
        try {
            return admin.describeConfigs(List.of(resource)).all().get().get(resource).get(name);
        } catch (InterruptedException | ExecutionException error) {
            throw new IllegalStateException(error);
        }
    }

    private static void alter(Admin admin, ConfigResource resource, String name, String value) throws Exception {
        AlterConfigOp set = new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(set))).all().get();
    }

    private static void fails(Class<? extends Exception> expected, Callable action) {
        try {
            action.call();
        } catch (Exception error) {
            Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
            require(expected.isInstance(cause), "expected " + expected + ", failed with " + cause);
            return;
        }
        throw new IllegalStateException("nothing failed, expected " + expected);
    }

    /** What may fail. */
    private interface Callable {
        void call() throws Exception;
    }

    private void create(int partitions) throws Exception {
        try (Admin admin = admin()) {
            NewTopic wanted = new NewTopic(topic, partitions, (short) 1);
            admin.createTopics(List.of(wanted.configs(Map.of("max.message.bytes", String.valueOf(12 << 20))))).all().get();
            await("the topic", () -> partitions(admin) == partitions);
        }
    }

    private void produce(int count, int partitions) {
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(options())) {
            for (int number = 0; number < count; number++) {
                producer.send(new ProducerRecord<>(topic, number % partitions, null, ("v" + number).getBytes()));
            }
        }
    }

    private List<ConsumerRecord<byte[], byte[]>> readAll(int partitions, int count) {
        List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
        List<TopicPartition> places = new ArrayList<>();
        for (int number = 0; number < partitions; number++) {
            places.add(new TopicPartition(topic, number));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            consumer.assign(places);
            await(count + " records", () -> {
                consumer.poll(SHORT).forEach(found::add);
                return found.size() >= count;
            });
        }
        return found;
    }

    /** Polls once; always true. */
    private static boolean take(KafkaConsumer<byte[], byte[]> consumer, Set<String> seen) {
        ConsumerRecords<byte[], byte[]> records = consumer.poll(SHORT);
        records.forEach(record -> seen.add(new String(record.value())));
        return true;
    }

    private static boolean isAtEnd(KafkaConsumer<byte[], byte[]> consumer) {
        return consumer.assignment().stream().allMatch(place -> consumer.position(place) == 100);
    }

    private void described(GroupState state, int members) {
        try (Admin admin = admin()) {
            await("group " + state, () -> {
                try {
                    var found = admin.describeConsumerGroups(List.of(topic)).all().get().get(topic);
                    return found.groupState() == state && found.members().size() == members;
                } catch (InterruptedException | ExecutionException error) {
                    throw new IllegalStateException(error);
                }
            });
        }
    }

    private int partitions(Admin admin) {
        try {
            var found = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions();
            return (int) found.stream().filter(partition -> partition.leader() != null).count();
        } catch (ExecutionException error) {
            if (error.getCause() instanceof UnknownTopicOrPartitionException) {
                return 0;
            }
            throw new IllegalStateException(error);
        } catch (InterruptedException error) {
            throw new IllegalStateException(error);
        }
    }

    private Admin admin() {
        return Admin.create(options());
    }

    private KafkaConsumer<byte[], byte[]> consumer(String... changes) {
        Properties options = options(changes);
        options.put("auto.offset.reset", "earliest");
        options.put("enable.auto.commit", "false");
        return new KafkaConsumer<>(options);
    }

    private Properties options(String... changes) {
        Properties options = new Properties();
        options.put("bootstrap.servers", address);
        options.put("key.serializer", ByteArraySerializer.class);
        options.put("value.serializer", ByteArraySerializer.class);
        options.put("key.deserializer", ByteArrayDeserializer.class);
        options.put("value.deserializer", ByteArrayDeserializer.class);
        for (int index = 0; index < changes.length; index += 2) {
            options.put(changes[index], changes[index + 1]);
        }
        String further = System.getenv("CLIENT_PROPERTIES");
        if (further != null) {
            try (InputStream file = Files.newInputStream(Path.of(further))) {
                options.load(file);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
        return options;
    }

    private static void await(String what, BooleanSupplier condition) {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (!condition.getAsBoolean()) {
            require(System.nanoTime() < deadline, "not within 60 s: " + what);
        }
    }

    private static void same(Object expected, Object found) {
        require(expected == null ? found == null : expected.equals(found), "expected " + expected + ", found " + found);
    }

    private static void require(boolean condition, String message) {
        if (!condition) {
            throw new IllegalStateException(message);
        }
    }
}
