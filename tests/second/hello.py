"""The Hello: what is sealed in it and what it proves. [docs/protocol.md, section 3]"""

from primitives import check, keyed, open_once
from wire import Malformed

MAGIC = b"HARK"
VERSION = 1
MAX_BYTES = 16 * 1024


def tag_of(organisation, role, exporter):
    """The tag that shows knowledge of the organisation. [PROTO-3.1]"""
    return keyed(organisation, b"tag", role, exporter)[:16]


def key_of(organisation, role, exporter):
    """The key that seals the body of a greeting or an answer. [PROTO-3.2]"""
    return keyed(organisation, b"body", role, exporter)


def open_greeting(schema, organisation, exporter, data):
    """The body of a greeting to a member of this organisation."""
    header, sealed = data[:22], data[22:]
    if len(data) > MAX_BYTES or header[:4] != MAGIC:
        raise Malformed("no greeting")
    if not header[4] <= VERSION <= header[5]:
        raise Malformed("a greeting of another version")
    if header[6:] != tag_of(organisation, b"dialler", exporter):
        raise Malformed("a greeting to another organisation")
    body = open_once(key_of(organisation, b"dialler", exporter), header, sealed)
    return schema.decode("GreetingBody", body, MAX_BYTES)


def open_answer(schema, organisation, exporter, data):
    """The body of an answer, or the reason for a refusal and the pieces that prove it. [PROTO-3.6]"""
    key = key_of(organisation, b"listener", exporter)
    if len(data) > MAX_BYTES or data[:4] != MAGIC or len(data) < 5:
        raise Malformed("no answer")
    if data[4] == VERSION:
        body = open_once(key, data[:5], data[5:])
        return "accepted", schema.decode("AnswerBody", body, MAX_BYTES)
    if data[4] != 0 or len(data) < 6 or not 1 <= data[5] <= REASONS:
        raise Malformed("an answer of another version")
    if len(data) == 6:
        if data[5] not in (1, 2):
            raise Malformed("a refusal that counts only with a seal")
        return "unsealed", (data[5], [])
    pieces = schema.decode("Proof", open_once(key, data[:6], data[6:]), MAX_BYTES)
    if pieces and data[5] != 9:
        raise Malformed("a proof of nothing")
    return "refused", (data[5], pieces)


def check_redemption(schema, redemption, organisation, device, exporter, now):
    """Checks that a newcomer may use its invite on this link. [PROTO-3.5] [PROTO-4.6]"""
    invite = redemption["invite"]["value"]
    message = schema.encode("Invite", invite)
    check(invite["issuer"], "invite", message, redemption["invite"]["signature"])
    if invite["organisation"] != organisation:
        raise Malformed("an invite to another organisation")
    check(invite["invite_key"], "redemption", organisation + device + exporter, redemption["proof"])
    if invite["expires"] <= now:
        raise Malformed("an invite that has expired")
    return invite


REASONS = 13
