"""librdkafka's mock cluster: brokers that speak Kafka's protocol, in memory. Prints their
addresses and stays until it is killed. It keeps no more than a few megabytes for each partition, so a
consumer has to follow."""

import time

from confluent_kafka import Producer

producer = Producer({"bootstrap.servers": "unused", "test.mock.num.brokers": 1})
brokers = producer.list_topics(timeout=10).brokers.values()
print("brokers", ",".join(f"{broker.host}:{broker.port}" for broker in brokers), flush=True)
while True:
    time.sleep(60)
