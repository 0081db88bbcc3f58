"""The handshake of a link. [docs/noise.md]"""

import hashlib

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES, ChaCha20
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from primitives import check, expand, extract, label, seal, unseal, x25519, x25519_public
from wire import Malformed

NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"
VERSION = 0x4841524B
SALT = hashlib.sha256(b"hark 1 initial salt").digest()[:20]
RETRY_KEY = hashlib.sha256(b"hark 1 retry key").digest()[:16]
RETRY_NONCE = hashlib.sha256(b"hark 1 retry nonce").digest()[:12]


def hkdf2(key, material):
    out = expand(extract(key, material), b"", 64)
    return out[:32], out[32:]


class Handshake:
    """Noise XX (revision 34, section 5), computed by one end, or by an observer who has the keys of both."""

    def __init__(self, initiator, static, ephemeral):
        self.initiator = initiator
        self.static, self.ephemeral = static, ephemeral
        self.remote = {}
        # The name has 32 bytes, which is the length of the hash, so it is not hashed.
        self.hash = self.chaining = NAME
        self.key, self.nonce = None, 0
        self.mix_hash(b"hark noise 1" + VERSION.to_bytes(4, "big"))

    def mix_hash(self, data):
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, material):
        self.chaining, self.key = hkdf2(self.chaining, material)
        self.nonce = 0

    def crypt(self, data, opens):
        """Seals or opens `data`, and adds the sealed bytes to the hash."""
        if self.key is None:
            result, sealed = data, data
        else:
            nonce = bytes(4) + self.nonce.to_bytes(8, "little")
            result = (unseal if opens else seal)(self.key, nonce, self.hash, data)
            self.nonce += 1
            sealed = data if opens else result
        self.mix_hash(sealed)
        return result

    def dh(self, tokens):
        own, other = tokens if self.initiator else reversed(tokens)
        secret = self.ephemeral if own == "e" else self.static
        self.mix_key(x25519(secret, self.remote[other]))

    def write(self, tokens, payload):
        out = b""
        for token in tokens:
            if token == "e":
                public = x25519_public(self.ephemeral)
                self.mix_hash(public)
                out += public
            elif token == "s":
                out += self.crypt(x25519_public(self.static), opens=False)
            else:
                self.dh(token)
        return out + self.crypt(payload, opens=False)

    def read(self, tokens, message):
        for token in tokens:
            if token == "e":
                self.remote["e"], message = message[:32], message[32:]
                self.mix_hash(self.remote["e"])
            elif token == "s":
                length = 48 if self.key else 32
                self.remote["s"], message = self.crypt(message[:length], opens=True), message[length:]
            else:
                self.dh(token)
        return self.crypt(message, opens=True)

    def split(self):
        """The two secrets that follow from the messages so far. [NOISE-22]"""
        return hkdf2(self.chaining, b"")


MESSAGES = [["e"], ["e", "ee", "s", "es"], ["s", "se"]]


def proven(payload, kind, claim):
    """The device that an identity proves. [NOISE-14]"""
    if len(payload) < 96:
        raise Malformed("no identity")
    check(payload[:32], kind, claim, payload[32:96])
    return payload[:32]


def secrets_of(split, hash, stage):
    """The secrets of the client and of the server. [NOISE-22] [NOISE-23]"""
    return [label(secret, f"hark1 {end} {stage}", hash, 32) for end, secret in zip(["client", "server"], split)]


def exporter_secret(split, hash):
    """The secret from which both ends export others. [NOISE-25]"""
    return label(split[0], "hark1 exporter", hash, 32)


def export(secret, name, context, length):
    about = hashlib.sha256(len(name).to_bytes(8, "big") + name + context).digest()
    return label(secret, "hark1 export", about, length)


def packet_keys(secret):
    """The packet key, the IV and the header key. [NOISE-21]"""
    return [label(secret, f"hark1 {name}", b"", length) for name, length in [("key", 32), ("iv", 12), ("hp", 32)]]


def initial_secrets(destination):
    """The secrets of Initial packets, which everybody can compute. [NOISE-5]"""
    secret = extract(SALT, destination)
    return [label(secret, f"tls13 {end} in", b"", 32) for end in ("client", "server")]


def initial_keys(secret):
    return [label(secret, f"tls13 quic {name}", b"", length) for name, length in [("key", 16), ("iv", 12), ("hp", 16)]]


def open_packet(keys, packet, number_at, number, initial=False):
    """The payload of a QUIC packet of this number, whose number field begins at `number_at`.
    [NOISE-2] [RFC 9001, section 5]"""
    key, iv, hp = keys
    sample = packet[number_at + 4:number_at + 20]
    if initial:
        encryptor = Cipher(AES(hp), ECB()).encryptor()
        mask = encryptor.update(sample)[:5]
    else:
        encryptor = Cipher(ChaCha20(hp, sample), None).encryptor()
        mask = encryptor.update(bytes(5))
    packet = bytearray(packet)
    packet[0] ^= mask[0] & (0x0f if packet[0] & 0x80 else 0x1f)
    length = (packet[0] & 3) + 1
    for place in range(length):
        packet[number_at + place] ^= mask[1 + place]
    end = number_at + length
    if int.from_bytes(packet[number_at:end], "big") != number & (1 << 8 * length) - 1:
        raise Malformed("a packet of another number")
    header, sealed = bytes(packet[:end]), bytes(packet[end:])
    nonce = (int.from_bytes(iv, "big") ^ number).to_bytes(12, "big")
    return AESGCM(key).decrypt(nonce, sealed, header) if initial else unseal(key, nonce, header, sealed)


def retry_tag(destination, packet):
    """The authentication tag of a Retry packet. [NOISE-6]"""
    pseudo = bytes([len(destination)]) + destination + packet
    return AESGCM(RETRY_KEY).encrypt(RETRY_NONCE, b"", pseudo)
