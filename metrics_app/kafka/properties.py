"""What the embedded Kafka is configured by: the text of its files, for one node or for one of several.

Called by `storage`, `embedded` and `cluster`.
"""

from __future__ import annotations

from typing import NamedTuple

from metrics_app.kafka.ports import HOST

SAFE_NODES = 3  # of so many two must have what Kafka keeps for itself


class Member(NamedTuple):
    """Which node of a cluster this is; by default the only one.

    Attributes:
        node_id: from 1 on.
        controller_ports: of all nodes, in the order of their numbers; empty: one node, on any free port.
        cluster_id: which the nodes share; empty: one is made up when the node is formatted.
        fenced_after_s: silence after which the controller takes it for dead.
    """

    node_id: int = 1
    controller_ports: tuple[int, ...] = ()
    cluster_id: str = ""
    fenced_after_s: float = 3.0

    @property
    def controller_port(self) -> int | None:
        """The port that this node uses for itself; None: any free one."""
        return self.controller_ports[self.node_id - 1] if self.controller_ports else None


ALONE = Member()


def server_properties(member: Member, port: int, controller_port: int, advertised: str, log: str, run: str) -> str:
    """The properties of a broker that is its own controller.

    Args:
        controller_port: its own.
        advertised: "host:port" told to clients.
        log: folder of its log, relative to where it runs.
        run: mark that tells this run from all others.
    """
    ports = member.controller_ports or (controller_port,)
    first = 1 if member.controller_ports else member.node_id
    return SERVER.format(
        node_id=member.node_id,
        voters=",".join(f"{number}@{HOST}:{each}" for number, each in enumerate(ports, start=first)),
        nodes=len(ports),
        fenced_after_ms=round(member.fenced_after_s * 1000),
        insync=2 if len(ports) >= SAFE_NODES else 1,
        port=port,
        controller_port=controller_port,
        advertised=advertised,
        log=log,
        run=run,
    )


SERVER = """\
process.roles=broker,controller
node.id={node_id}
controller.quorum.voters={voters}
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
# what Kafka keeps for itself has as many replicas as there are nodes, and few partitions to open at start
offsets.topic.replication.factor={nodes}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={nodes}
transaction.state.log.min.isr={insync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={nodes}
share.coordinator.state.topic.min.isr={insync}
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
# without a sign of life for this long a broker counts as dead, and others lead its partitions; after a crash the
# controller waits as long before it lets the broker in again
broker.session.timeout.ms={fenced_after_ms}
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
