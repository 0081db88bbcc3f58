"""The hashes, signatures and seals of the protocol. A library provides the algorithms."""

import hashlib
import hmac

from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from wire import Malformed, is_device_id


def hash_of(data):
    return blake3(data).digest()


def keyed(key, *parts):
    return blake3(b"".join(parts), key=key).digest()


def derived(context, *parts):
    return blake3(b"".join(parts), derive_key_context=context).digest()


def verify(device, kind, message, signature):
    """Whether a signature of this kind is the device's. [PROTO-1.1]"""
    return verify_strictly(device, b"hark/1/" + kind.encode() + b"\0" + message, signature)


def verify_strictly(device, data, signature):
    """Whether a signature is valid by the strict rules. [PROTO-1.5]"""
    if not is_device_id(device) or not is_device_id(signature[:32]):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(device).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def check(device, kind, message, signature):
    if not verify(device, kind, message, signature):
        raise Malformed(f"a signature of kind {kind} that is not good")


def ed25519_public(secret):
    key = Ed25519PrivateKey.from_private_bytes(secret)
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def x25519_public(secret):
    key = X25519PrivateKey.from_private_bytes(secret)
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def x25519(secret, public):
    """The shared secret of X25519. Fails if it is all zero. [NOISE-16]"""
    try:
        key = X25519PrivateKey.from_private_bytes(secret)
        return key.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise Malformed("a key of low order") from error


def seal(key, nonce, associated, plain):
    return ChaCha20Poly1305(key).encrypt(nonce, plain, associated)


def unseal(key, nonce, associated, sealed):
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, associated)
    except InvalidTag as error:
        raise Malformed("sealed bytes that do not open") from error


def open_once(key, associated, sealed):
    return unseal(key, bytes(12), associated, sealed)


def hmac_of(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def extract(salt, secret):
    return hmac_of(salt or bytes(32), secret)


def expand(secret, info, length):
    """HKDF-Expand (RFC 5869)."""
    out, block = b"", b""
    for number in range(1, -(-length // 32) + 1):
        block = hmac_of(secret, block + info + bytes([number]))
        out += block
    return out[:length]


def label(secret, name, context, length):
    """A secret that is expanded with a label. [docs/noise.md, section 4]"""
    name = name.encode()
    info = length.to_bytes(2, "big") + bytes([len(name)]) + name + bytes([len(context)]) + context
    return expand(secret, info, length)
