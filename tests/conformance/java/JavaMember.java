import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** The Java client as a member: {@code JavaMember ADDRESS TOPIC GROUP SESSION_MS}; tests/members/member.py has the protocol. */
public final class JavaMember {
    public static void main(String[] arguments) {
        Thread input = new Thread(JavaMember::readToEnd);
        input.setDaemon(true);
        input.start();
        Properties options = new Properties();
        options.put("bootstrap.servers", arguments[0]);
        options.put("group.id", arguments[2]);
        options.put("session.timeout.ms", arguments[3]);
        options.put("heartbeat.interval.ms", "200");
        options.put("auto.offset.reset", "earliest");
        options.put("enable.auto.commit", "false");
        options.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor");
        options.put("key.deserializer", ByteArrayDeserializer.class);
        options.put("value.deserializer", ByteArrayDeserializer.class);
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(options)) {
            consumer.subscribe(List.of(arguments[1]));
            String had = "";
            while (input.isAlive()) {
                var records = consumer.poll(Duration.ofMillis(100));
                String has = consumer.assignment().stream().map(place -> place.partition()).sorted().map(String::valueOf)
                        .collect(Collectors.joining(","));
                if (!has.equals(had)) {
                    System.out.println("has " + has);
                    had = has;
                }
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    System.out.println("read " + new String(record.value()));
                }
            }
        }
        System.exit(0);
    }

    private static void readToEnd() {
        try {
            while (System.in.read() >= 0) {
                continue;
            }
        } catch (java.io.IOException error) {
            throw new java.io.UncheckedIOException(error);
        }
    }
}
