"""What the embedded Kafka is configured with.

Paths are relative to its folder, in which it runs: Kafka splits its list of folders at commas, Java properties take
backslashes for themselves, and log4j looks things up between braces. A folder may have any of these in its name.
"""

NODE_ID = "1"

SERVER = """\
process.roles=broker,controller
node.id={node_id}
controller.quorum.voters={node_id}@127.0.0.1:{controller_port}
listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENTS://{advertised}
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENTS
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={log}
# tells this run from all others, as clients see it
broker.rack={run}
auto.create.topics.enable=false
min.insync.replicas=1
# one node: everything Kafka keeps for itself has one replica, and few partitions to open at start
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
# workers that start together share one rebalance, but nobody waits long for it
group.initial.rebalance.delay.ms=200
# a group that is away for long keeps its place as long as the rows it wrote
offsets.retention.minutes=129600
message.max.bytes=2097152
replica.fetch.max.bytes=2097152
# after a crash Kafka reads the newest segment of each partition: small ones make that quick
log.segment.bytes=67108864
# the default buffer is a third of our heap; this one compacts 700,000 keys in a pass
log.cleaner.dedupe.buffer.size=16777216
# after a crash the controller, too, waits this long before it lets the broker in again
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.io.threads=4
num.network.threads=2
background.threads=4
"""

LOGGING = """\
status=error
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName=kafka.log
appender.file.filePattern=kafka.log.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{ISO8601} %p %m (%c{1})%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=8MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=2
rootLogger.level=info
rootLogger.appenderRef.file.ref=file
"""
