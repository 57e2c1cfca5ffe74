import java.util.Properties;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The Java client under load: {@code JavaLoad NAME ADDRESS TOPIC PARTITIONS}; tests/crash/load_client.py has the protocol. */
public final class JavaLoad {
    private static final int UNANSWERED = 200;
    private static final int VALUE_BYTES = 200;

    public static void main(String[] arguments) throws Exception {
        String name = arguments[0];
        int partitions = Integer.parseInt(arguments[3]);
        Thread input = new Thread(JavaLoad::readToEnd);
        input.setDaemon(true);
        input.start();
        Semaphore room = new Semaphore(UNANSWERED);
        AtomicReference<Exception> refused = new AtomicReference<>();
        int number = 0;
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(options(arguments[1]))) {
            while (input.isAlive() && refused.get() == null) {
                int own = number++;
                room.acquire();
                producer.send(new ProducerRecord<>(arguments[2], own % partitions, null, value(name, own)), (record, error) -> {
                    if (error != null) {
                        refused.set(error);
                    } else {
                        System.out.println(record.partition() + " " + (record.hasOffset() ? record.offset() : -1) + " " + own);
                    }
                    room.release();
                });
                if (number % 10 == 0) {
                    Thread.sleep(10);
                }
            }
            producer.flush();
        }
        if (refused.get() != null) {
            throw refused.get();
        }
        System.out.println("done " + number);
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

    private static byte[] value(String name, int number) {
        String text = name + ":" + number;
        return (text + ".".repeat(VALUE_BYTES - text.length())).getBytes();
    }

    private static Properties options(String address) {
        Properties options = new Properties();
        options.put("bootstrap.servers", address);
        options.put("key.serializer", ByteArraySerializer.class);
        options.put("value.serializer", ByteArraySerializer.class);
        options.put("acks", "all");
        options.put("enable.idempotence", "true");
        options.put("compression.type", "zstd");
        options.put("linger.ms", "2");
        options.put("retry.backoff.ms", "20");
        options.put("retry.backoff.max.ms", "200");
        options.put("reconnect.backoff.ms", "20");
        options.put("reconnect.backoff.max.ms", "500");
        options.put("request.timeout.ms", "10000");
        options.put("delivery.timeout.ms", "120000");
        return options;
    }
}
