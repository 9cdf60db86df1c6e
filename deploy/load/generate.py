"""A shop's database as its change log: customers and orders that live their lives, as DynamoDB stream records.

    python generate.py --brokers localhost:9092 --topic orders.changes --rate 500
    python generate.py --count 5000 --out changes.jsonl

The same seed and start time give the same records, byte for byte. A share of them is poison, of the kinds that real
logs have. Needs ``confluent-kafka`` for Kafka, nothing for files; knows nothing of Millrace.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

Item = dict[str, Any]
Record = tuple[bytes, bytes]
"""A key, by which Kafka keeps a customer's changes in order, and the record."""

STATUSES = ("DRAFT", "PLACED", "PAID", "SHIPPED", "DELIVERED")
PRODUCTS = {
    "kettle": "39.90",
    "teapot": "24.50",
    "mug": "8.75",
    "green tea, 100 g": "6.20",
    "black tea, 250 g": "11.40",
    "tea towel": "5.00",
    "strainer": "3.95",
}
FIRST_NAMES = ("Ada", "Bashir", "Chiyo", "Dolores", "Émile", "Fatou", "Grażyna", "Hiro", "Ines", "Jürgen", "Kaya", "Lê")
LAST_NAMES = ("Okafor", "Nowak", "Tanaka", "García", "Dubois", "Yılmaz", "Ødegård", "Nguyễn", "Singh", "Müller")
CITIES = ("Kraków", "Porto", "Nagoya", "Oaxaca", "Lyon", "Bursa", "Bergen", "Huế", "Pune", "Köln")
TIME_TO_LIVE = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
"""Who DynamoDB says removed an item whose time to live was over."""

SEQUENCE_START = 100_000_000_000_000_000_000
POISON_KINDS = ("cut_off", "unknown_type", "wrong_type", "unknown_event", "too_exact")


class Shop:
    """Customers and their open orders. ``change`` does the next thing that happens in the shop."""

    def __init__(self, chance: random.Random, customers_max: int) -> None:
        self.chance = chance
        self.customers_max = customers_max
        self.customers: list[Item] = []
        self.orders: list[Item] = []
        self.ordered = 0

    def change(self, now_s: int) -> tuple[Item | None, Item | None, dict[str, str] | None]:
        """The item before, the item after, and who did it where that is told."""
        dice = self.chance.random()
        if not self.customers or (dice < 0.05 and len(self.customers) < self.customers_max):
            return None, self._new_customer(now_s), None
        if dice < 0.10:
            return *self._customer_moves(now_s), None
        if not self.orders or dice < 0.40:
            return None, self._new_order(now_s), None
        number = self.chance.randrange(len(self.orders))
        order = self.orders[number]
        if order["status"] == "DELIVERED" or (order["status"] == "DRAFT" and dice > 0.97):
            self.orders[number] = self.orders[-1]
            self.orders.pop()
            return order, None, TIME_TO_LIVE if order["status"] == "DELIVERED" else None
        return order, self._order_advances(number, now_s), None

    def _new_customer(self, now_s: int) -> Item:
        number = len(self.customers) + 1
        first, last = self.chance.choice(FIRST_NAMES), self.chance.choice(LAST_NAMES)
        customer = {
            "pk": f"CUSTOMER#{number:06}",
            "sk": "PROFILE",
            "type": "customer",
            "name": f"{first} {last}",
            "email": f"customer{number}@shop.example",
            "city": self.chance.choice(CITIES),
            "newsletter": self.chance.random() < 0.3,
            "updated_at": now_s,
        }
        self.customers.append(customer)
        return customer

    def _customer_moves(self, now_s: int) -> tuple[Item, Item]:
        number = self.chance.randrange(len(self.customers))
        before = self.customers[number]
        self.customers[number] = {**before, "city": self.chance.choice(CITIES), "updated_at": now_s}
        return before, self.customers[number]

    def _new_order(self, now_s: int) -> Item:
        self.ordered += 1
        order = {
            "pk": self.chance.choice(self.customers)["pk"],
            "sk": f"ORDER#{self.ordered:08}",
            "type": "order",
            "status": "DRAFT",
            "placed_at": now_s,
            "updated_at": now_s,
            **self._basket(),
        }
        self.orders.append(order)
        return order

    def _basket(self) -> Item:
        lines: list[Item] = [
            {"product": product, "quantity": self.chance.randint(1, 4), "price": PRODUCTS[product]}
            for product in self.chance.sample(sorted(PRODUCTS), self.chance.randint(1, 3))
        ]
        cents = sum(line["quantity"] * round(float(line["price"]) * 100) for line in lines)
        return {"lines": lines, "total": f"{cents // 100}.{cents % 100:02}"}

    def _order_advances(self, number: int, now_s: int) -> Item:
        order = self.orders[number]
        status = STATUSES[STATUSES.index(order["status"]) + 1]
        self.orders[number] = {**order, "status": status, "updated_at": now_s}
        return self.orders[number]


def records(seed: int, start_s: float, rate: float, customers: int, poison: float) -> Iterator[Record]:
    """Records without end. Their times begin at ``start_s`` and go on at ``rate`` a second."""
    chance = random.Random(seed)  # noqa: S311 (nothing is kept secret by it)
    shop = Shop(chance, customers)
    number = 0
    while True:
        before, after, identity = shop.change(int(start_s + number / rate))
        record = stream_record(number, start_s + number / rate, before, after, identity)
        key = (after or before or {})["pk"].encode()
        number += 1
        yield key, encode(record)
        if chance.random() < poison:
            # Poison comes as a record of its own, so that the shop's own state stays what its good records say.
            yield (
                key,
                spoil(stream_record(number, start_s + number / rate, None, dict(after or before or {}), None), chance),
            )
            number += 1


def stream_record(
    number: int, when_s: float, before: Item | None, after: Item | None, identity: dict[str, str] | None
) -> dict[str, Any]:
    """One record as DynamoDB Streams gives it."""
    item = after or before
    assert item is not None
    body: dict[str, Any] = {
        "ApproximateCreationDateTime": round(when_s, 3),
        "Keys": attributes({"pk": item["pk"], "sk": item["sk"]}),
        "SequenceNumber": str(SEQUENCE_START + number),
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    if after is not None:
        body["NewImage"] = attributes(after)
    if before is not None:
        body["OldImage"] = attributes(before)
    body["SizeBytes"] = len(encode(body))
    record: dict[str, Any] = {
        "eventID": f"{number:032x}",
        "eventName": "INSERT" if before is None else "REMOVE" if after is None else "MODIFY",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "eu-central-1",
        "dynamodb": body,
    }
    return record if identity is None else {**record, "userIdentity": identity}


def spoil(record: dict[str, Any], chance: random.Random) -> bytes:
    """The record made into poison of one of POISON_KINDS, under a key of its own."""
    kind = chance.choice(POISON_KINDS)
    image = record["dynamodb"]["NewImage"]
    for part in (image, record["dynamodb"]["Keys"]):
        part["sk"] = {"S": f"ORDER#poison-{kind}-{record['eventID'][-8:]}"}
    match kind:
        case "cut_off":
            return encode(record)[:-40]
        case "unknown_type":
            image["colour"] = {"RGB": "00ff00"}
        case "wrong_type":
            image |= {"type": {"S": "order"}, "status": {"S": "PLACED"}, "total": {"S": "twelve pounds"}}
        case "too_exact":  # 28 digits: DynamoDB holds them, a double does not
            image |= {
                "type": {"S": "order"},
                "status": {"S": "PLACED"},
                "total": {"N": "12.34567890123456789012345678"},
            }
        case "unknown_event":
            record["eventName"] = "UPSERT"
    return encode(record)


def attributes(item: Item) -> dict[str, Any]:
    """Python values as DynamoDB writes attribute values. Amounts stay the texts that they are, as N."""
    return {name: {"N": value} if name in ("total", "price") else attribute(value) for name, value in item.items()}


def attribute(value: Any) -> dict[str, Any]:
    """One value with its type's tag."""
    match value:
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value}
        case int():
            return {"N": str(value)}
        case list():
            return {"L": [attribute(inner) for inner in value]}
        case dict():
            return {"M": attributes(value)}
    raise TypeError(f"the shop has no {type(value).__name__}")


def encode(value: Any) -> bytes:
    """JSON in as few bytes as Python's own encoder writes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def paced(source: Iterable[Record], rate: float) -> Iterator[Record]:
    """The records at ``rate`` a second, in bursts of a twentieth of a second."""
    began = time.monotonic()
    for number, record in enumerate(source):
        ahead = number / rate - (time.monotonic() - began)
        if ahead > 0.05:
            time.sleep(ahead)
        yield record


def to_file(source: Iterable[Record], path: str) -> int:
    """Write JSON Lines; ``-`` is standard output."""
    count = 0
    out = sys.stdout.buffer if path == "-" else open(path, "wb")  # noqa: SIM115 (standard output stays open)
    try:
        for _, value in source:
            out.write(value + b"\n")
            count += 1
    finally:
        out.flush()
        if path != "-":
            out.close()
    return count


def to_kafka(source: Iterable[Record], brokers: str, topic: str) -> int:
    """Produce; stops cleanly at SIGTERM and SIGINT, after what was produced is acknowledged."""
    from confluent_kafka import Producer

    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 20})
    failures: list[str] = []

    def delivered(error: object, _message: object) -> None:
        if error is not None:
            failures.append(str(error))

    count = 0
    for key, value in source:
        if stopping:
            break
        while True:
            try:
                producer.produce(topic, key=key, value=value, on_delivery=delivered)
                break
            except BufferError:  # the broker is slower than we are
                producer.poll(0.5)
        producer.poll(0)
        count += 1
    unsent = producer.flush(30)
    if failures or unsent:
        raise SystemExit(f"{len(failures) + unsent} records were not acknowledged: {failures[:1] or 'timed out'}")
    return count


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Customers and orders as DynamoDB stream records.")
    parser.add_argument("--brokers", help="Kafka's bootstrap servers")
    parser.add_argument("--topic", default="orders.changes")
    parser.add_argument("--out", help="write JSON Lines to this file instead (- for standard output)")
    parser.add_argument("--rate", type=float, default=200.0, help="records a second (to Kafka), also of their times")
    parser.add_argument("--count", type=int, default=0, help="how many records; 0: without end")
    parser.add_argument("--customers", type=int, default=5000)
    parser.add_argument("--poison", type=float, default=0.001, help="the share of poison records")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--start",
        type=float,
        help="the first record's time, epoch seconds; by default now, or for a file such that it ends now",
    )
    options = parser.parse_args()
    if (options.brokers is None) == (options.out is None):
        parser.error("give either --brokers or --out")
    if options.rate <= 0 or options.count < 0 or options.customers < 1 or not 0 <= options.poison <= 1:
        parser.error("--rate must be above 0, --count and --customers not negative, --poison between 0 and 1")
    if options.out is not None and options.count == 0:
        parser.error("a file needs --count")
    start_s = options.start
    if start_s is None:
        start_s = time.time() - (options.count / options.rate if options.out is not None else 0)
    source = records(options.seed, start_s, options.rate, options.customers, options.poison)
    chosen = (record for _, record in zip(range(options.count), source, strict=False)) if options.count else source
    if options.out is not None:
        count = to_file(chosen, options.out)
    else:
        count = to_kafka(paced(chosen, options.rate), options.brokers, options.topic)
    print(f"{count} records written", file=sys.stderr)  # noqa: T201 (a script's word to whoever runs it)


if __name__ == "__main__":
    main()
