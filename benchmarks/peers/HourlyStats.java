import java.nio.ByteBuffer;
import java.time.Duration;
import java.time.Instant;
import java.util.Locale;
import java.util.Properties;
import java.util.StringJoiner;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Kafka Streams: count, sum, min and max of each key and hour, in the RocksDB window store with its changelog.
 *
 * Arguments: bootstrap servers, topic, samples, application id, state folder, threads, guarantee. All else is the default:
 * the record cache of 10 MB, which spares most writes to the store, and a commit each 30 s (exactly once: each 100 ms).
 */
public final class HourlyStats {
    record Stats(long count, double sum, double min, double max) {
        static final Stats NONE = new Stats(0, 0.0, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY);

        Stats add(double value) {
            return new Stats(count + 1, sum + value, Math.min(min, value), Math.max(max, value));
        }

        static byte[] encode(String topic, Stats stats) {
            return stats == null ? null : ByteBuffer.allocate(32)
                .putLong(stats.count).putDouble(stats.sum).putDouble(stats.min).putDouble(stats.max).array();
        }

        static Stats decode(String topic, byte[] bytes) {
            if (bytes == null) return null;
            var from = ByteBuffer.wrap(bytes);
            return new Stats(from.getLong(), from.getDouble(), from.getDouble(), from.getDouble());
        }
    }

    private static final String STORE = "hours";

    public static void main(String[] arguments) throws Exception {
        var wanted = Long.parseLong(arguments[2]);
        var done = new LongAdder();
        var streams = new KafkaStreams(topology(arguments[1], done).build(), properties(arguments));
        streams.start();
        for (long said = 0; said < wanted; Thread.sleep(100)) {
            if (done.sum() != said) {
                said = done.sum();
                System.out.println("progress " + said);
            }
        }
        System.out.println("rows " + rows(streams));
        Thread.currentThread().join(); // until it is ended: what it used is read after it has said so
    }

    private static StreamsBuilder topology(String topic, LongAdder done) {
        Serde<Stats> serde = Serdes.serdeFrom(Stats::encode, Stats::decode);
        var builder = new StreamsBuilder();
        builder.stream(topic, Consumed.with(Serdes.String(), Serdes.Double()))
            .groupByKey()
            .windowedBy(TimeWindows.ofSizeWithNoGrace(Duration.ofHours(1)))
            .aggregate(() -> Stats.NONE, (key, value, stats) -> {
                done.increment();
                return stats.add(value);
            }, Materialized.<String, Stats, WindowStore<Bytes, byte[]>>as(STORE)
                .withKeySerde(Serdes.String()).withValueSerde(serde));
        return builder;
    }

    private static Properties properties(String[] arguments) {
        var properties = new Properties();
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[3]);
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, Integer.parseInt(arguments[5]));
        properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, arguments[6]);
        properties.put(StreamsConfig.STATE_DIR_CONFIG, arguments[4]);
        properties.put("auto.offset.reset", "earliest");
        return properties;
    }

    private static String rows(KafkaStreams streams) {
        var type = QueryableStoreTypes.<String, Stats>windowStore();
        var out = new StringJoiner(", ", "{", "}");
        try (var all = streams.store(StoreQueryParameters.fromNameAndType(STORE, type)).all()) {
            all.forEachRemaining(row -> out.add(String.format(Locale.ROOT, "\"%s\": [%d, %s, %s, %s]",
                row.key.key(), row.value.count, row.value.sum, row.value.min, row.value.max)));
        }
        return out.toString();
    }
}
