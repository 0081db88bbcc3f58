"""The datagrams of a link, and the packets of its fast path. [docs/protocol.md, sections 7 to 9]"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from primitives import label
from wire import Malformed, Reader, is_device_id

# Fields of fixed length. A negative length means bytes, a positive one a number.
VOICE_END = [("sequence", 2), ("copies", 1)]
REPORT = [("tag", -4), ("highest", 2), ("received", 2), ("lost", 2), ("burst", 1), ("jitter", 2), ("copies", 1)]
KINDS = {
    1: ("voice", [("tag", -4)] + VOICE_END),
    2: ("report", REPORT),
    3: ("heartbeat", [("number", 4)]),
    4: ("forward", [("level", 1), ("tag", -4)] + VOICE_END),
    5: ("forwarded", [("slot", 2), ("tag", -4)] + VOICE_END),
    6: ("tunnel", [("slot", 2)]),
    7: ("bundle", []),
    8: ("seen", [("tag", -4), ("highest", 2), ("received", 2), ("lost", 2), ("copies", 1)]),
    9: ("pulse", []),
    10: ("forwarded report", [("slot", 2)] + REPORT),
    11: ("introduction", [("slot", 2), ("device", -32)]),
    12: ("knock", [("slot", 2), ("device", -32)]),
    13: ("account", [("relay", -32), ("tag", -4), ("highest", 2), ("received", 2), ("lost", 2), ("spoilt", 2)]),
    14: ("question", [("tag", -4), ("key", 5), ("counter", 2)]),
    15: ("proof", [("tag", -4), ("key", 5), ("counter", 2), ("count", 1), ("group", 1)]),
}


def parse(data, kind=None):
    """The kind and the fields of a datagram. [PROTO-1.4]"""
    reader = Reader(data)
    kind = reader.uint(1) if kind is None else kind
    if kind not in KINDS:
        raise Malformed("an unknown kind")
    name, fields = KINDS[kind]
    values = {"kind": name}
    for field, length in fields:
        values[field] = reader.take(-length) if length < 0 else reader.uint(length)
    if values.get("copies", 0) > 5 or values.get("slot") == 0 and name not in ("tunnel", "knock"):
        raise Malformed("a number out of range")
    if not all(is_device_id(values[it]) for it in ("device", "relay") if it in values):
        raise Malformed("no device id")
    if name in ("voice", "forward", "forwarded"):
        values["frames"] = [reader.take(reader.uint(2)) for _ in range(1 + values["copies"])]
        if not all(values["frames"]) or values.get("level", 0) > 127:
            raise Malformed("an empty frame, or no level")
    elif name == "tunnel":
        values["packet"] = reader.rest()
        if not 1 <= len(values["packet"]) <= 1232:
            raise Malformed("no packet of a tunnel")
    elif name == "bundle":
        values["datagrams"] = []
        while reader.at < len(data):
            values["datagrams"].append(parse(reader.take(reader.uint(2)), kind=5))
        if not 1 <= len(values["datagrams"]) <= 32:
            raise Malformed("too many in a bundle, or none")
    elif name == "pulse":
        count = reader.uint(1)
        values["talkspurts"] = [[reader.uint(2), reader.uint(2)] for _ in range(count)]
        if count > 32:
            raise Malformed("too many talkspurts")
    elif name == "proof":
        group = values["group"]
        groups = -(-values["count"] // group) if group else 33
        if groups > 32:
            raise Malformed("too many groups")
        values["hashes"] = [reader.take(8) for _ in range(groups)]
        values["signed"], values["signature"] = bytes(data[:reader.at]), reader.take(64)
    reader.end()
    return values


class FastKeys:
    """One direction of a link's fast path. [PROTO-8.2] [PROTO-8.4]"""

    def __init__(self, secret):
        self.secret = secret

    def go_on(self):
        self.secret = label(self.secret, "hark1 fast ku", b"", 32)

    def open(self, packet, expected):
        """Kind, number and payload of a packet. `expected` is the number after the highest so far.
        [PROTO-8.3]"""
        if len(packet) < 25:
            raise Malformed("no fast packet")
        low = int.from_bytes(packet[5:9], "big")
        near = expected & ~0xffffffff | low
        number = min((near + step for step in (-2**32, 0, 2**32)), key=lambda it: (it < 0, abs(it - expected)))
        iv = label(self.secret, "hark1 fast iv", b"", 12)
        nonce = (int.from_bytes(iv, "big") ^ number).to_bytes(12, "big")
        try:
            cipher = AESGCM(label(self.secret, "hark1 fast key", b"", 16))
            return packet[0] & ~8, number, cipher.decrypt(nonce, packet[9:], packet[:9])
        except InvalidTag as error:
            raise Malformed("a fast packet that is not authentic") from error


def fast_keys(exported):
    """The keys of the dialler and of the listener, and the index in the packets of each. [PROTO-8.2]"""
    keys = FastKeys(exported[:32]), FastKeys(exported[32:64])
    return keys, (exported[64:68], exported[68:72])
