"""Makes python.json: header blocks of another encoder, that of the Python package hpack.

    pip install hpack && python3 python.py >python.json
"""

import json
import random

from hpack import Encoder


def fields(chosen):
    """The fields of a request or a response."""
    if chosen.random() < 0.5:
        yield ":method", chosen.choice(["GET", "POST", "PUT"])
        yield ":scheme", "http"
        yield ":path", chosen.choice(["/", "/index.html", f"/item/{chosen.randrange(1000)}?q=%7B~|"])
        yield ":authority", "www.example.com"
        yield "user-agent", "curl/8.9.1"
    else:
        yield ":status", chosen.choice(["200", "204", "304", "503"])
        yield "date", f"Mon, 21 Oct 2013 20:13:{chosen.randrange(60):02} GMT"
        yield "content-length", str(chosen.randrange(10**6))
        yield "x-text", chosen.choice(["", "Ünïcode ✓ \t\x01\x7f", "a" * chosen.randrange(200)])
    yield "x-count", str(chosen.randrange(4))


def connection(seed, is_huffman):
    """Blocks with their fields. The table gets another size in between."""
    chosen = random.Random(seed)
    encoder = Encoder()
    blocks = []
    for number in range(16):
        if number % 5 == 4:
            encoder.header_table_size = chosen.choice([0, 100, 300, 4096, 8192])
        of_block = list(fields(chosen))
        wire = encoder.encode(of_block, huffman=is_huffman)
        blocks.append({"wire": wire.hex(), "fields": of_block})
    return blocks


connections = [connection(seed, seed % 3 != 0) for seed in range(6)]
lines = ["[" + ",\n ".join(json.dumps(block) for block in blocks) + "]" for blocks in connections]
print("[" + ",\n".join(lines) + "]")
