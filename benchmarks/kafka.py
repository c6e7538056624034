"""Kafka to Parquet and to PostgreSQL, and PostgreSQL to Kafka, beside the bare client doing its half alone.

Records are 1 KB of JSON with five columns, in two partitions. The limit is the client that ours is built on, confluent-kafka,
with the same settings, as a process that only takes the messages (or only writes them) and looks at none.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks.measure import Timed, call, pairs, process
from benchmarks.projects import COMMAND, project, warm
from tests.parts.kafka import Broker
from tests.parts.postgres import Server
from tests.parts.sharing import alone

COLUMNS = "{id: BIGINT, customer: VARCHAR, total: 'DECIMAL(10,2)', at: TIMESTAMP, note: VARCHAR}"
TABLE = "CREATE TABLE {name} (id bigint, customer text, total numeric(10,2), at timestamp, note text)"
FILL = """INSERT INTO orders SELECT n, 'customer-' || n % 500000, (n % 100000) / 100.0, '2026-01-01'::timestamp + n * interval '1 second',
    rpad('note ' || md5(n::text), 900, '.') FROM generate_series(1, {rows}) n"""
FLOW = """flow: moved
settings: {{snapshots: none}}
nodes:
  start: {{type: start}}
{nodes}"""
GET = "  orders: {{type: kafka.get, from: start, connection: events, topic: {topic}, columns: {columns}}}\n"
TO_PARQUET = GET + "  out: {{type: file.post, from: orders, path: out/, format: parquet, mode: replace}}\n"
TO_POSTGRES = GET + "  out: {{type: postgres.post, from: orders, connection: shop, table: kept}}\n"
TO_KAFKA = """  orders: {{type: postgres.get, from: start, connection: shop, table: orders}}
  out: {{type: kafka.post, from: orders, connection: events, topic: {topic}, key: id}}
"""
CONSUME = """
import confluent_kafka as ck
consumer = ck.Consumer({settings!r})
consumer.assign([ck.TopicPartition({topic!r}, number, 0) for number in range(2)])
left = {rows}
while left:
    left -= len(consumer.consume(min(10_000, left), 10))
consumer.close()
"""
PRODUCE = """
import confluent_kafka as ck
producer = ck.Producer({settings!r})
failed = []
def told(error, message):
    if error:
        failed.append(error)
text = '{{"id":%d,"customer":"customer-1","total":12.50,"at":"2026-01-01T00:00:00.000000","note":"' + "." * 900 + '"}}'
if {transaction!r}:
    producer.init_transactions()
    producer.begin_transaction()
for number in range({rows}):
    while True:
        try:
            producer.produce({topic!r}, text % number, str(number), on_delivery=told)
            break
        except BufferError:
            producer.poll(0.05)
    if not number % 500:
        producer.poll(0)
producer.flush()
if {transaction!r}:
    producer.commit_transaction()
assert not failed, failed[0]
"""


def measure(folder: Path, runs: int, scale: float) -> None:
    rows = int(1_000_000 * scale)
    with alone(Broker.made) as broker, alone(Server.made) as server:
        bench = Bench(broker, server, folder, rows)
        bench.read("Parquet", TO_PARQUET, runs)
        bench.read("PostgreSQL", TO_POSTGRES, runs)
        bench.write(runs)


class Bench:
    """A broker with a topic of records, and a database."""

    def __init__(self, broker: Broker, server: Server, folder: Path, rows: int) -> None:
        from tests.adapters.kafka_room import made

        self.broker, self.server, self.folder, self.rows = broker, server, folder, rows
        self.new_topic: Callable[[], str] = lambda: made(broker, 2, name=f"t-{uuid.uuid4().hex[:8]}")
        self.topic = self.new_topic()
        self.made_by_hand(self.topic, transaction=False)

    def sql(self, text: str) -> None:
        with closing(self.server.connect()) as connection:
            connection.execute(text)

    def made_by_hand(self, topic: str, *, transaction: bool) -> Timed:
        """The bare client writes all records."""
        settings = {
            **self.broker.client(),
            "linger.ms": 5,
            "batch.size": 1 << 20,
            "queue.buffering.max.messages": 200_000,
        }
        settings |= {"transactional.id": topic, "transaction.timeout.ms": 900_000} if transaction else {}
        code = PRODUCE.format(settings=settings, topic=topic, rows=self.rows, transaction=transaction)
        return process([sys.executable, "-c", code])

    def read_by_hand(self) -> Timed:
        """The bare client takes all messages."""
        from adapters.kafka.reading import AHEAD

        own = {"group.id": "bench", "enable.auto.commit": False, "isolation.level": "read_committed", **AHEAD}
        code = CONSUME.format(settings={**self.broker.client(), **own}, topic=self.topic, rows=self.rows)
        return process([sys.executable, "-c", code])

    def flow(self, name: str, nodes: str) -> Path:
        folder = self.folder / name
        (folder / "environments").mkdir(parents=True, exist_ok=True)
        connections = {
            "events": {"adapter": "kafka", "servers": self.broker.address},
            "shop": self.server.settings("public"),
        }
        text = json.dumps({"environment": "local", "connections": connections})
        (folder / "environments" / "local.yaml").write_text(text)
        project(folder, "moved", FLOW.format(nodes=nodes))
        return folder

    def read(self, target: str, nodes: str, runs: int) -> None:
        if target == "PostgreSQL":
            self.sql(TABLE.format(name="kept"))
        folder = self.flow(target, nodes.format(topic=self.topic, columns=COLUMNS))
        forget = [COMMAND, "positions", "reset", "moved"]

        def fresh(timed: Callable[[], Timed]) -> Callable[[], Timed]:
            def once() -> Timed:
                process(forget, str(folder))
                if target == "PostgreSQL":
                    self.sql("TRUNCATE kept")
                return timed()

            return once

        cold = fresh(lambda: process([COMMAND, "run", "moved", "--json"], str(folder)))
        process([COMMAND, "run", "moved", "--json"], str(folder))
        pairs(f"Kafka {self.rows:,} to {target}: cold", 1.3, cold, self.read_by_hand, runs)
        ours = warm(project(folder, "moved", (folder / "flows" / "moved.yaml").read_text()), "moved")
        pairs(f"Kafka {self.rows:,} to {target}: warm", 1.3, fresh(lambda: call(ours)), self.read_by_hand, runs)

    def write(self, runs: int) -> None:
        self.sql(TABLE.format(name="orders"))
        self.sql(FILL.format(rows=self.rows))

        def ours() -> Timed:
            folder = self.flow("written", TO_KAFKA.format(topic=self.new_topic()))
            return process([COMMAND, "run", "moved", "--json"], str(folder))

        def limit() -> Timed:
            return self.made_by_hand(self.new_topic(), transaction=True)

        pairs(f"PostgreSQL {self.rows:,} to Kafka: cold", 1.3, ours, limit, runs)
