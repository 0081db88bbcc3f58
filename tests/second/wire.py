"""Messages as bytes: postcard, driven by docs/schema. [docs/protocol.md, section 12]

A struct is a dict and a tuple a tuple. A variant of an enum is its name, or the pair (name, value). A list
of u8 is bytes, and a map is a dict. An absent option is None.
"""

import ipaddress
import json


class Malformed(Exception):
    """The bytes are not a valid message."""


class Schema:
    def __init__(self, folder):
        self.types, self.limits = {}, {}
        for path in sorted(folder.glob("*.json")):
            loaded = json.loads(path.read_text())
            self.types |= loaded["types"]
            self.limits |= loaded["messages"]

    def decode(self, kind, data, limit=None):
        """The value that `data` as a whole encodes. [PROTO-1.2] [PROTO-1.3]"""
        limit = self.limits.get(str(kind)) if limit is None else limit
        if limit is not None and len(data) > limit:
            raise Malformed(f"{kind} of {len(data)} bytes where {limit} are allowed")
        reader = Reader(data)
        value = self.read(kind, reader)
        if self.encode(kind, value) != data:
            raise Malformed(f"{kind} is not in canonical form")
        return value

    def encode(self, kind, value):
        out = bytearray()
        self.write(kind, value, out)
        return bytes(out)

    def read(self, kind, reader):
        if isinstance(kind, str):
            if kind in NUMBERS:
                return reader.number(*NUMBERS[kind])
            if kind == "bool":
                return bool(reader.below(2))
            if kind == "string":
                try:
                    return reader.take(reader.varint(64)).decode()
                except UnicodeDecodeError as error:
                    raise Malformed("a text that is no UTF-8") from error
            value = self.read(self.types[kind], reader)
            if kind in CHECKS and not CHECKS[kind](value):
                raise Malformed(f"no {kind}")
            return value
        (form, of), = ((key, kind[key]) for key in FORMS if key in kind)
        if form == "bytes":
            return reader.take(of)
        if form == "option":
            return self.read(of, reader) if reader.below(2) else None
        if form == "tuple":
            return tuple(self.read(one, reader) for one in of)
        if form == "struct":
            return {name: self.read(one, reader) for name, one in of}
        if form == "enum":
            name, inner = of[reader.below(len(of), 32)]
            return name if inner is None else (name, self.read(inner, reader))
        count = reader.varint(64)
        if count > kind.get("max", count):
            raise Malformed("a list that is too long")
        if form == "map":
            return {self.read(of[0], reader): self.read(of[1], reader) for _ in range(count)}
        if of == "u8":
            return reader.take(count)
        return [self.read(of, reader) for _ in range(count)]

    def write(self, kind, value, out):
        if isinstance(kind, str):
            if kind in NUMBERS:
                bits, signed = NUMBERS[kind]
                out += value.to_bytes(1, "little", signed=signed) if bits == 8 else varint(value)
            elif kind == "bool":
                out.append(value)
            elif kind == "string":
                out += varint(len(value.encode())) + value.encode()
            else:
                self.write(self.types[kind], value, out)
            return
        (form, of), = ((key, kind[key]) for key in FORMS if key in kind)
        if form == "bytes":
            assert len(value) == of
            out += value
        elif form == "option":
            out.append(value is not None)
            if value is not None:
                self.write(of, value, out)
        elif form == "tuple":
            for one, item in zip(of, value, strict=True):
                self.write(one, item, out)
        elif form == "struct":
            for name, one in of:
                self.write(one, value[name], out)
        elif form == "enum":
            name, item = (value, None) if isinstance(value, str) else value
            place = [variant for variant, _ in of].index(name)
            out += varint(place)
            if of[place][1] is not None:
                self.write(of[place][1], item, out)
        elif form == "map":
            out += varint(len(value))
            for key in sorted(value, key=lambda it: self.order(of[0], it)):
                self.write(of[0], key, out)
                self.write(of[1], value[key], out)
        else:
            out += varint(len(value))
            for item in value:
                self.write(of, item, out)

    def order(self, kind, value):
        """The value by which keys of maps are sorted: numbers, bytes, places of variants, and fields in order."""
        while isinstance(kind, str) and kind in self.types:
            kind = self.types[kind]
        if isinstance(kind, str) or "bytes" in kind:
            return value
        if "tuple" in kind:
            return tuple(self.order(*one) for one in zip(kind["tuple"], value))
        name, item = (value, None) if isinstance(value, str) else value
        place = [variant for variant, _ in kind["enum"]].index(name)
        inner = kind["enum"][place][1]
        return (place,) if inner is None else (place, self.order(inner, item))

    def plain(self, kind, value):
        """The value in the form of the vectors: bytes in hexadecimal, addresses as text."""
        if kind == "SocketAddr":
            address, port = value[1]
            text = str(ipaddress.ip_address(address))
            return f"[{text}]:{port}" if value[0] == "V6" else f"{text}:{port}"
        if isinstance(kind, str):
            return self.plain(self.types[kind], value) if kind in self.types else value
        (form, of), = ((key, kind[key]) for key in FORMS if key in kind)
        if isinstance(value, bytes):
            return value.hex()
        if form == "option":
            return None if value is None else self.plain(of, value)
        if form == "tuple":
            return [self.plain(*one) for one in zip(of, value)]
        if form == "struct":
            return {name: self.plain(one, value[name]) for name, one in of}
        if form == "enum":
            if isinstance(value, str):
                return value
            return {value[0]: self.plain(dict(of)[value[0]], value[1])}
        if form == "map":
            return [[self.plain(of[0], key), self.plain(of[1], one)] for key, one in value.items()]
        return [self.plain(of, item) for item in value]


class Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, length):
        if length > len(self.data) - self.at:
            raise Malformed("ends before its fields do")
        self.at += length
        return bytes(self.data[self.at - length:self.at])

    def number(self, bits, signed):
        if bits == 8:
            return int.from_bytes(self.take(1), "little", signed=signed)
        return self.varint(bits)

    def varint(self, bits):
        value = 0
        for shift in range(0, bits, 7):
            byte, = self.take(1)
            value |= (byte & 0x7f) << shift
            if byte < 0x80:
                if value >> bits:
                    break
                return value
        raise Malformed("a number that is too large")

    def below(self, end, bits=8):
        value = self.varint(bits)
        if value >= end:
            raise Malformed("a number that means nothing")
        return value

    def uint(self, length):
        """A number of fixed length, as in datagrams. [PROTO, section 7]"""
        return int.from_bytes(self.take(length), "big")

    def rest(self):
        return self.take(len(self.data) - self.at)

    def end(self):
        if self.at != len(self.data):
            raise Malformed("bytes behind the end")


def varint(value):
    out = bytearray()
    while value > 0x7f:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def is_device_id(key):
    """Whether these bytes may be a device id. [PROTO-1.5]"""
    y = int.from_bytes(key, "little") & (1 << 255) - 1
    return y < PRIME and y not in LOW_ORDER


PRIME = 2**255 - 19
EIGHTH = 0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7
LOW_ORDER = {0, 1, PRIME - 1, EIGHTH, PRIME - EIGHTH}
CHECKS = {
    "DeviceId": is_device_id,
    "RootKeys": lambda keys: len(keys) == len(set(keys)) > 0,
}
NUMBERS = {"u8": (8, False), "i8": (8, True), "u16": (16, False), "u32": (32, False), "u64": (64, False)}
FORMS = ["bytes", "option", "tuple", "struct", "enum", "map", "list"]
