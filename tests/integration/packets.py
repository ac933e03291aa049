"""TCP connections as frames of a capture file, with times to the nanosecond: what was sent is known
exactly, because nothing but this file has sent it."""

import ipaddress
import struct

SEGMENT_BYTES = 1400
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Capture:
    """Frames, each with its time in nanoseconds since 1970."""

    def __init__(self):
        self.frames = []

    def write(self, path, is_kept=lambda frame: True):
        """Writes the frames in the order of their times, those that `is_kept` allows."""
        with open(path, "wb") as file:
            file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1))
            for frame in sorted(self.frames, key=lambda frame: frame["at"]):
                if is_kept(frame):
                    seconds, nanoseconds = divmod(frame["at"], 1_000_000_000)
                    size = len(frame["bytes"])
                    file.write(struct.pack("<IIII", seconds, nanoseconds, size, size))
                    file.write(frame["bytes"])


class Connection:
    """A connection between two (address, port), which begins `at` with its handshake. The answer to
    the SYN comes after `connect_ns`."""

    def __init__(self, capture, client, server, at, connect_ns=100_000):
        self.capture = capture
        self.ends = [(ipaddress.ip_address(address), port) for address, port in (client, server)]
        self.next = [1000, 2000]
        self.count = [0, 0]
        self.push(0, SYN, b"", at)
        self.push(1, SYN | ACK, b"", at + connect_ns)
        self.push(0, ACK, b"", at + connect_ns + 1000)

    def push(self, side, flags, payload, at):
        (source, source_port), (target, target_port) = self.ends[side], self.ends[1 - side]
        known = self.next[1 - side] if flags & ACK else 0
        head = struct.pack("!HHIIBBHHH", source_port, target_port, self.next[side], known, 0x50,
                           flags, 65535, 0, 0)
        length = len(head) + len(payload)
        pseudo = source.packed + target.packed + struct.pack("!IHBB", length, 0, 0, 6)
        segment = head[:16] + struct.pack("!H", checksum(pseudo + head + payload)) + head[18:]
        segment += payload
        if source.version == 4:
            ip = struct.pack("!BBHIBBH", 0x45, 0, 20 + length, 0, 64, 6, 0)
            ip += source.packed + target.packed
            ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
            ethernet = bytes(12) + b"\x08\x00"
        else:
            ip = struct.pack("!IHBB", 6 << 28, length, 6, 64) + source.packed + target.packed
            ethernet = bytes(12) + b"\x86\xdd"
        self.capture.frames.append(
            {"at": at, "bytes": ethernet + ip + segment, "from": self.ends[side],
             "payload": payload, "nth": self.count[side]}
        )
        self.count[side] += bool(payload)
        self.next[side] += len(payload) + bool(flags & (SYN | FIN))

    def send(self, side, data, at, until=None):
        """Sends data in segments, the first one `at` and the last one at `until`; the other side
        acknowledges after a microsecond."""
        pieces = [data[i : i + SEGMENT_BYTES] for i in range(0, len(data), SEGMENT_BYTES)]
        for number, piece in enumerate(pieces):
            when = at
            if until is not None and len(pieces) > 1:
                when += (until - at) * number // (len(pieces) - 1)
            self.push(side, PSH | ACK, piece, when)
            if number % 16 == 15 or number + 1 == len(pieces):
                self.push(1 - side, ACK, b"", when + 1000)

    def close(self, at):
        """Both sides end, the client first."""
        self.push(0, FIN | ACK, b"", at)
        self.push(1, FIN | ACK, b"", at + 1000)
        self.push(0, ACK, b"", at + 2000)

    def reset(self, side, at):
        self.push(side, RST | ACK, b"", at)


def http2_frame(kind, flags, stream, payload):
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(
        "!I", stream) + payload


def http2_headers(stream, fields, is_last):
    """A HEADERS frame whose fields are literals that no table keeps (RFC 7541, section 6.2.2)."""
    block = b""
    for name, value in fields:
        block += b"\0"
        for text in (name.encode(), value.encode()):
            assert len(text) < 127
            block += bytes([len(text)]) + text
    return http2_frame(1, 4 | bool(is_last), stream, block)


def grpc_message(stream, data, is_last):
    return http2_frame(0, bool(is_last), stream, struct.pack("!BI", 0, len(data)) + data)


def tls_record(kind, content):
    return struct.pack("!BBBH", kind, 3, 3, len(content)) + content


def tls_message(kind, body):
    return tls_record(22, bytes([kind]) + struct.pack("!I", len(body))[1:] + body)


def tls_client_hello(name):
    name = b"\0" + struct.pack("!H", len(name)) + name.encode()
    extension = struct.pack("!HHH", 0, len(name) + 2, len(name)) + name
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\xc0\x2f" + b"\1\0"
    return tls_message(1, body + struct.pack("!H", len(extension)) + extension)


def tls_server_hello(version):
    return tls_message(2, struct.pack("!H", version) + bytes(32) + b"\0\xc0\x2f\0")


def der(tag, content):
    head = bytes([tag, len(content)]) if len(content) < 128 else struct.pack(
        "!BBH", tag, 0x82, len(content))
    return head + content


def tls_certificate(name, not_after):
    """A Certificate message; `not_after` is as 261201000000Z."""
    named = der(48, der(49, der(48, der(6, b"\x55\x04\x03") + der(12, name.encode()))))
    validity = der(48, der(23, b"260101000000Z") + der(23, not_after.encode()))
    signed = der(2, b"\1") + der(48, b"") + named + validity + named
    whole = der(48, der(48, signed))
    entry = struct.pack("!I", len(whole))[1:] + whole
    return tls_message(11, struct.pack("!I", len(entry))[1:] + entry)


def websocket_frame(opcode, payload, is_masked):
    head = bytes([0x80 | opcode, (0x80 if is_masked else 0) | len(payload)])
    assert len(payload) < 126
    # A mask of zeros changes nothing.
    return head + (bytes(4) if is_masked else b"") + payload
