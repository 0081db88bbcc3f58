"""Checks this implementation against the vectors, and shows what it reads from files and tickets.

    check.py vectors                       checks all of tests/vectors, and prints how many agree
    check.py ticket TEXT                   the contents of a ticket
    check.py charter FILE TIME             who belongs to an organisation, and who may do what where
    check.py key FILE [PASSPHRASE]         whose key it is
    check.py frames FILE                   opens frames with the keys that a file gives for them
"""

import json
import pathlib
import sys

import zstandard

import charter
import datagrams
import hello
import media
import noise
import ticket
from primitives import check, ed25519_public, hash_of, verify_strictly
from wire import Malformed, Reader, Schema

ROOT = pathlib.Path(__file__).parents[2]
SCHEMA = Schema(ROOT / "docs/schema")
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def raw(text):
    return bytes.fromhex(text)


def peer_id(device):
    """A device id as text: the libp2p id, by the identity hash of the key's protobuf. [PROTO, section 1]"""
    number, text = int.from_bytes(b"\0\x24\x08\x01\x12\x20" + device, "big"), ""
    while number:
        number, place = divmod(number, 58)
        text = BASE58[place] + text
    return "1" + text


def unpack(packed, limit):
    """The pieces that are packed in a message. [PROTO-12.5]"""
    try:
        data = zstandard.ZstdDecompressor().decompress(packed, max_output_size=limit)
    except zstandard.ZstdError as error:
        raise Malformed("pieces that do not unpack") from error
    reader, pieces = Reader(data), []
    while reader.at < len(data):
        pieces.append(SCHEMA.decode("Piece", reader.take(reader.uint(4))))
    return pieces


def same(value, expected):
    """Whether a value is the one that a vector gives. Vectors write bytes in hexadecimal, or as numbers."""
    if isinstance(value, str) and isinstance(expected, list):
        parts = [raw(it) if isinstance(it, str) else bytes([it]) for it in expected]
        return value == b"".join(parts).hex()
    if isinstance(value, list) and isinstance(expected, str):
        return value == list(raw(expected))
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(same(value[it], expected[it]) for it in value)
    return value == expected


def refuses(what, *arguments):
    try:
        what(*arguments)
    except Malformed:
        return True
    return False


def check_tickets(vector):
    if "value" not in vector:
        assert refuses(ticket.open_ticket, SCHEMA, vector["text"])
        return
    opened = ticket.open_ticket(SCHEMA, vector["text"])
    assert same(SCHEMA.plain("Ticket", opened), vector["value"])


def check_key_files(vector):
    secret = ticket.open_key_file(vector["text"], vector["passphrase"])
    assert secret == raw(vector["secret"])
    device = ed25519_public(secret)
    assert device == raw(vector["device"]) and peer_id(device) == vector["peer id"]
    if vector["passphrase"]:
        assert refuses(ticket.open_key_file, vector["text"], "another")


# For each signed message: the kind of its signature, the type of what is signed, and the field of the signer.
SIGNED = {
    "Key": ("key", "KeyMessage", "sender"),
    "Offer": ("offer", "Offer", "device"),
    "Prekey": ("prekey", "Prekey", "device"),
    "MemberRecord": ("record", "MemberRecord", "device"),
    "EpochHeader": ("epoch", "EpochHeader", "issuer"),
}


# The value of the last message of each kind.
TOLD = {}


def check_signed(name, signed):
    kind, type, signer = SIGNED[name]
    data = SCHEMA.encode(type, signed["value"])
    check(signed["value"][signer], kind, data, signed["signature"])
    return hash_of(data)


def check_messages(vector):
    data = raw(vector["bytes"])
    message = SCHEMA.decode("Message", data)
    assert same(SCHEMA.plain("Message", message), vector["value"]), vector["name"]
    # The same bytes with one less or one more are not a message.
    assert refuses(SCHEMA.decode, "Message", data[:-1])
    assert refuses(SCHEMA.decode, "Message", data + b"\0")
    kind, value = charter.variant(message)
    TOLD[kind] = value
    if kind in SIGNED:
        check_signed(kind, value)
        forged = value | {"signature": value["signature"][:-1] + bytes([value["signature"][-1] ^ 1])}
        assert refuses(check_signed, kind, forged)
    elif kind == "Records":
        for record in value:
            check_signed("MemberRecord", record)
    elif kind == "Attendance":
        for prekey in value["here"]:
            check_signed("Prekey", prekey)
    elif kind == "Pieces":
        check_pieces(unpack(value, 128 * 1024))
    elif kind == "Past":
        check_past(value)


def check_pieces(pieces):
    """Checks that these pieces are the charter to which other messages refer."""
    held = charter.Charter(SCHEMA, pieces)
    assert held.members(0) and held.digest() == TOLD["Digest"] and held.have() == TOLD["Have"]
    (channel, key), = TOLD["Names"]
    _, name = held.outcome.state["channels"][channel]["channel"]["name"]
    assert media.name_of(key, channel, name) == "Ghost"
    assert refuses(media.name_of, bytes(32), channel, name)


def check_past(part):
    """Checks the settled past of a charter. [CHARTER-7.5]"""
    assert (part["part"], part["parts"]) == (0, 1) and hash_of(part["bytes"]) == part["id"]
    data = zstandard.ZstdDecompressor().decompress(part["bytes"], max_output_size=32 * len(part["bytes"]))
    past = SCHEMA.decode("Past", data)
    assert past["newest"]["value"]["previous"] == hash_of(SCHEMA.encode("Checkpoint", past["checkpoint"]["value"]))


def check_datagrams(vector):
    data = raw(vector["bytes"])
    if "value" not in vector:
        assert refuses(datagrams.parse, data)
        return
    fields, expected = datagrams.parse(data), vector["value"]
    assert datagrams.KINDS[expected.pop("kind")][0] == fields.pop("kind")
    fields.pop("signed", None), fields.pop("signature", None)
    plain = json.loads(json.dumps(fields, default=bytes.hex))
    for inner in plain.get("datagrams", []):
        inner.pop("kind")
    assert plain == expected, vector["name"]


def check_hello(vector):
    held = charter.open_snapshot(SCHEMA, raw(vector["charter"]))
    organisation, exporter = raw(vector["organisation"]), raw(vector["exporter"])
    assert held.organisation == organisation
    dialler, now = raw(vector["dialler"]), vector["now"]
    kind, body = hello.open_greeting(SCHEMA, organisation, exporter, raw(vector["greeting"]))
    if kind == "Redeem":
        redemption = body["redemption"]
        invite = hello.check_redemption(SCHEMA, redemption, organisation, dialler, exporter, now)
        issuer = held.member_of(invite["issuer"])
        assert held.may(now, issuer, charter.ADMIT, charter.EVERYWHERE)
        assert refuses(hello.check_redemption, SCHEMA, redemption, organisation, dialler, bytes(32), now)
    else:
        assert held.owner_by_chain(body[0]["chain"], dialler, now)
    said, body = hello.open_answer(SCHEMA, organisation, exporter, raw(vector["answer"]))
    if said == "accepted":
        kind, listener = body["listener"]
        if kind == "Relay":
            assert raw(vector["listener"]) in held.outcome.state["relays"]
        else:
            assert held.owner_by_chain(listener["chain"], raw(vector["listener"]), now)
        if body["admission"]:
            pieces = [("Root", root) for root in body["admission"]["roots"]]
            rooted = charter.Charter(SCHEMA, pieces)
            assert rooted.organisation == organisation
            assert rooted.chain_leads(body["admission"]["chain"], dialler)
    elif body[0] == 9:
        # [PROTO-3.8] The pieces in the answer prove that the dialler is no longer a member.
        held.add(body[1])
        assert not held.is_member(held.member_of(dialler), now)
    expected = {"a ticket used up": ("refused", 5), "a stranger": ("unsealed", 2), "a former member": ("refused", 9)}
    if vector["name"] in expected:
        assert (said, body[0]) == expected[vector["name"]]
    assert refuses(hello.open_answer, SCHEMA, organisation, bytes(32), raw(vector["answer"])) == (said != "unsealed")


def check_noise(vector):
    messages = [raw(it) for it in vector["messages"]]
    first, second, tail, third = messages
    payloads = []
    for message in messages:
        assert int.from_bytes(message[:2], "big") == len(message) - 2
        payloads.append(message[2:])
    assert tail == b"\0\0"
    keys = []
    for end in ("client", "server"):
        static, ephemeral = [raw(it) for it in vector[f"{end} drawn"]][:2]
        keys.append((static, ephemeral))
    client, server = noise.Handshake(True, *keys[0]), noise.Handshake(False, *keys[1])
    secrets = {}
    for place, (message, tokens) in enumerate(zip([first, second, third], noise.MESSAGES)):
        writer, reader = (client, server) if place != 1 else (server, client)
        before = reader.hash
        payload = reader.read(tokens, message[2:])
        if place == 1:
            device = noise.proven(payload, "noise server", before + reader.remote["s"] + payload[96:])
            assert device == raw(vector["server device"])
        if place == 2:
            device = noise.proven(payload, "noise client", before + reader.remote["s"])
            assert device == raw(vector["client device"]) and len(payload) == 96
        # The writer produces the same bytes.
        assert writer.write(tokens, payload) == message[2:] and writer.hash == reader.hash
        if place:
            stage = ["handshake", "traffic"][place - 1]
            for end, secret in zip(["client", "server"], noise.secrets_of(reader.split(), reader.hash, stage)):
                secrets[f"{end} {stage}"] = secret
    exporter = noise.exporter_secret(client.split(), client.hash)
    for export in vector["exports"]:
        expected = raw(export["bytes"])
        assert noise.export(exporter, export["label"].encode(), raw(export["context"]), len(expected)) == expected
    destination = raw(vector["destination"])
    initial = dict(zip(["client initial", "server initial"], noise.initial_secrets(destination)))
    for packet in vector["packets"]:
        name = packet["keys"]
        if name in initial:
            keys = noise.initial_keys(initial[name])
        else:
            secret = secrets[name.replace("next", "traffic")]
            keys = noise.packet_keys(secret)
            if name.endswith("next"):
                # [NOISE-24] The header keys do not change.
                keys[:2] = noise.packet_keys(noise.label(secret, "hark1 ku", b"", 32))[:2]
        opened = noise.open_packet(keys, raw(packet["packet"]), packet["number at"], packet["number"], name in initial)
        assert opened == raw(packet["payload"]), name
    assert noise.retry_tag(destination, raw(vector["retry"]["packet"])) == raw(vector["retry"]["tag"])


def check_fast_path(vector):
    ends = dict(zip(["dialler", "listener"], zip(*datagrams.fast_keys(raw(vector["exported"])))))
    generations, expected = dict.fromkeys(ends, 0), dict.fromkeys(ends, 0)
    for packet in vector["packets"]:
        end, data = packet["from"], raw(packet["packet"])
        keys, index = ends[end]
        if packet["generation"] > generations[end]:
            keys.go_on()
            generations[end] += 1
        assert data[0] >> 3 & 1 == packet["generation"] % 2 and data[1:5] == index
        opened = keys.open(data, expected[end])
        assert opened == (packet["kind"], packet["number"], raw(packet["payload"]))
        expected[end] = packet["number"] + 1


def from_plain(kind, plain):
    """A target as a vector gives it, with its ids as bytes."""
    return {name: plain[name] if name == "priority" else [raw(it) for it in plain[name]] for name in plain}


def check_frames(vector):
    target = media.target_id(SCHEMA, from_plain("Target", vector["target"]))
    device, base_key = raw(vector["device"]), raw(vector["base key"])
    assert target == raw(vector["target id"])
    assert media.target_tag(raw(vector["organisation"]), target) == raw(vector["target tag"])
    key = media.key_id(target, device, vector["generation"], vector["step"])
    for frame in vector["frames"]:
        sealed = raw(frame["sealed"])
        plain = media.open_frame(base_key, key, target, device, sealed)
        assert plain == raw(frame["plain"]) and media.parse_frame(plain)["talkspurt"] == 9
        changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
        assert refuses(media.open_frame, base_key, key, target, device, changed)
    # The vector of the next step must have the key to which this one ratchets.
    STEPS[(target, vector["step"] + 1)] = media.ratchet(base_key)
    assert STEPS.get((target, vector["step"]), base_key) == base_key


STEPS = {}


def check_epochs(vector):
    device = raw(vector["device"])
    prekey = SCHEMA.decode("Signed<Prekey>", raw(vector["prekey"]))
    check_signed("Prekey", prekey)
    _, epoch = SCHEMA.decode("Message", raw(vector["message"]))
    id, header = check_signed("EpochHeader", epoch["header"]), epoch["header"]["value"]
    assert id == raw(vector["id"])
    holders = media.holders_after(epoch["holders"], [raw(it) for it in vector["holders before"]])
    assert media.holders_hash(holders) == header["holders"]
    (place, seal), = epoch["seals"]
    assert holders[place] == device
    own = raw(vector["prekey secret"]), prekey["value"]["key"]
    secret = media.open_seal(*own, header, id, device, seal)
    assert refuses(media.open_seal, *own, header, id, holders[place - 1], seal)
    assert same(media.confirmation(secret, id, device).hex(), vector["confirmation"])
    _, said = SCHEMA.decode("Message", raw(vector["confirmed"]))
    named = [it for place, it in enumerate(holders) if said["places"][place // 8] >> place % 8 & 1]
    assert set(named) == {raw(it) for it in vector["confirmed devices"]}
    total = 0
    for one in named:
        total ^= int.from_bytes(media.confirmation(secret, id, one), "big")
    assert total.to_bytes(16, "big") == said["sum"]
    target, talker, generation = header["channel"], raw(vector["talker"]), vector["generation"]
    base_key = media.epoch_base_key(secret, id, target, talker, generation)
    assert vector["talkers key"] == {"epoch": id.hex(), "generation": generation, "base_key": base_key.hex()}
    key = media.epoch_key_id(target, talker, id, generation)
    for frame in vector["frames"]:
        assert media.open_frame(base_key, key, target, talker, raw(frame["sealed"])) == raw(frame["plain"])


def check_charter(vector):
    held = charter.open_snapshot(SCHEMA, raw(vector["snapshot"]))
    assert held.organisation == raw(vector["organisation"])
    verdicts = [[hash.hex(), None if it is None else list(it)] for hash, it in held.outcome.verdicts]
    assert verdicts == vector["verdicts"], vector["name"]
    state = SCHEMA.encode("State", charter.as_lists(held.outcome.state))
    assert hash_of(state) == raw(vector["state"]), vector["name"]
    assert held.digest().hex() == vector["digest"], vector["name"]
    if vector["name"] == "plain":
        # A charter with a changed signature is refused. The signature is at the end of each encoding.
        data = raw(vector["snapshot"])
        for kind, piece in held.pieces:
            end = data.index(SCHEMA.encode("Piece", (kind, piece))) + len(SCHEMA.encode("Piece", (kind, piece)))
            assert refuses(charter.open_snapshot, SCHEMA, data[:end - 1] + bytes([data[end - 1] ^ 1]) + data[end:])
    for view in vector["views"]:
        members = held.members(view["now"])
        assert {it.hex() for it in members} == set(view["members"])
        places = [("Channel", raw(it)) if it else charter.EVERYWHERE for it in view["places"]]
        for member in members:
            rights = [rights_of(held, view["now"], member, at) for at in places]
            assert rights == view["members"][member.hex()]


def rights_of(held, now, member, at):
    return sum(right for right in charter.bits(charter.ALL) if held.may(now, member, right, at))


def check_signatures():
    """Checks the cases on which implementations differ (ed25519-speccheck): only one is valid. [PROTO-1.5]"""
    cases = json.loads((ROOT / "keys/tests/data/ed25519_speccheck.json").read_text())
    judged = [verify_strictly(*(raw(case[it]) for it in ("key", "message", "signature"))) for case in cases]
    assert [place for place, good in enumerate(judged) if good] == [3]
    print(f"signatures: {len(cases)} agree")


def run_vectors():
    check_signatures()
    for name in ["tickets", "key_files", "messages", "datagrams", "hello", "noise", "fast_path", "frames", "epochs", "charter"]:
        vectors = json.loads((ROOT / f"tests/vectors/{name}.json").read_text())
        for vector in vectors:
            globals()[f"check_{name}"](vector)
        if name == "messages":
            missing = {kind for kind, _ in SCHEMA.types["Message"]["enum"]} - set(TOLD)
            assert not missing, f"no vector of {missing}: tests/fuzz/src/message.rs needs a seed `bytes_…` of each"
        print(f"{name}: {len(vectors)} agree")


def show_charter(path, now):
    held = charter.open_snapshot(SCHEMA, pathlib.Path(path).read_bytes())
    state, now = held.outcome.state, int(now)
    places = [charter.EVERYWHERE] + [("Channel", id) for id in sorted(state["channels"])]
    names = {("Channel", id): entry["channel"]["name"][1] for id, entry in state["channels"].items()}
    return {
        "organisation": ticket.to_base32(held.organisation),
        "name": held.chosen[-1]["name"],
        "digest": ticket.to_base32(held.digest()),
        "members": {
            ticket.to_base32(member): {
                names.get(at, "everywhere"): rights_of(held, now, member, at) for at in places if held.outcome.exists(at)
            }
            for member in held.members(now)
        },
    }


def open_frames(path):
    """Opens frames with the keys that the file gives: one object for each frame, as in the vectors."""
    for it in json.loads(pathlib.Path(path).read_text()):
        target, device, base_key = raw(it["target"]), raw(it["device"]), raw(it["base key"])
        plain = media.open_frame(base_key, it["key id"], target, device, raw(it["sealed"]))
        media.parse_frame(plain)
        yield plain.hex()


def main(command, *arguments):
    match command:
        case "vectors":
            run_vectors()
        case "ticket":
            opened = ticket.open_ticket(SCHEMA, *arguments)
            print(json.dumps(SCHEMA.plain("Ticket", opened)))
        case "charter":
            print(json.dumps(show_charter(*arguments)))
        case "key":
            secret = ticket.open_key_file(pathlib.Path(arguments[0]).read_text(), *arguments[1:])
            print(peer_id(ed25519_public(secret)))
        case "frames":
            print(json.dumps(list(open_frames(*arguments))))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["help"]))
