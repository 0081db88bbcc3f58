"""Tickets and key files. [docs/protocol.md, sections 4 and 13]"""

import base64

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from primitives import check, derived, ed25519_public, hash_of, open_once
from wire import Malformed


def open_ticket(schema, text):
    """The ticket that a text contains. [PROTO-4.3] [PROTO-4.4]"""
    text = text.strip()
    if len(text) > 1024 or not text.startswith("hark1"):
        raise Malformed("no ticket")
    data = from_base32(text.removeprefix("hark1"))
    data, checksum = data[:-4], data[-4:]
    if hash_of(data)[:4] != checksum:
        raise Malformed("a damaged ticket")
    ticket = schema.decode("Ticket", data, 1024)
    invite = ticket["invite"]["value"]
    message = schema.encode("Invite", invite)
    check(invite["issuer"], "invite", message, ticket["invite"]["signature"])
    places = ticket["doors"] + ticket["relays"]
    names = [ticket["name"], ticket["issued_by"]]
    secret = derived("hark 1 invite key", ticket["secret"])
    for wrong in [
        any(len(name.encode()) > 64 or has_controls(name) for name in names),
        len(places) > 4 or len(invite["doors"]) > 4,
        any(len(place["addresses"]) > 6 for place in places),
        (invite["uses"] == 0) != (invite["doors"] == []),
        invite["member"] is not None
        and (invite["uses"], invite["doors"]) != (1, [invite["issuer"]]),
        ed25519_public(secret) != invite["invite_key"],
    ]:
        if wrong:
            raise Malformed("a ticket that nobody issues")
    return ticket


def has_controls(name):
    return any(ord(char) < 0x20 or 0x7f <= ord(char) < 0xa0 for char in name)


def from_base32(text):
    """The bytes of lower-case base32 (RFC 4648) without padding, which must be in canonical form."""
    try:
        data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError as error:
        raise Malformed("no base32") from error
    if to_base32(data) != text:
        raise Malformed("base32 in another form")
    return data


def to_base32(data):
    return base64.b32encode(data).decode().rstrip("=").lower()


def open_key_file(text, passphrase=None):
    """The secret key of a key file. [PROTO-13.1]"""
    lines = [line.rstrip() for line in text.splitlines()]
    if len(text) > 4096 or len(lines) < 5:
        raise Malformed("no key file")
    begin, version, header, body, end = lines[:5]
    if (begin, version, end) != (BEGIN, "hark-key 1", END):
        raise Malformed("no key file of this version")
    body = base64.b64decode(body, validate=True)
    match header.split(" "):
        case ["protection", "none"]:
            secret = body
        case ["protection", "argon2id", memory, passes, salt]:
            memory, passes = int(memory), int(passes)
            salt = base64.b64decode(salt, validate=True)
            if not (65536 <= memory <= 1048576 and 3 <= passes <= 16 and len(salt) == 16):
                raise Malformed("weaker or boundless stretching")
            stretch = Argon2id(salt=salt, length=32, iterations=passes, lanes=1, memory_cost=memory)
            secret = open_once(stretch.derive((passphrase or "").encode()), header.encode(), body)
        case _:
            raise Malformed("a protection that nobody knows")
    if len(secret) != 32:
        raise Malformed("no key")
    return secret


BEGIN = "-----BEGIN HARK DEVICE KEY-----"
END = "-----END HARK DEVICE KEY-----"
