"""Sealed frames: sender keys, epochs, and talk proofs. [docs/protocol.md, sections 6, 10 and 11]"""

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from primitives import derived, expand, extract, hash_of, hmac_of, keyed, open_once, x25519
from wire import Malformed

SUITE = 1  # AES_128_CTR_HMAC_SHA256_80
TAG = 10


def slot(target, device):
    """The slot in the key ids of a talker and a target. [PROTO-6.1]"""
    return int.from_bytes(hash_of(target + device)[:2], "big") >> 5


def key_id(target, device, generation, step):
    return 1 << 31 | slot(target, device) << 20 | generation << 4 | step


def epoch_key_id(target, device, epoch, generation):
    """The id of a talker's key in an epoch. [PROTO-11.8]"""
    tag = int.from_bytes(epoch[:3], "big") >> 4
    return 1 << 39 | slot(target, device) << 28 | tag << 8 | generation


def ratchet(base_key):
    """The base key of the next step. [RFC 9605, section 5.1]"""
    return expand(extract(b"", base_key), b"SFrame 1.0 Ratchet", 32)


def header_of(sealed):
    """The length of the SFrame header, the key id and the counter. [RFC 9605, section 4.3]"""
    config = sealed[0]
    lengths = [(config >> shift & 7) + 1 if config >> shift & 8 else 0 for shift in (4, 0)]
    fields, at = [], 1
    for shift, length in zip((4, 0), lengths):
        value = int.from_bytes(sealed[at:at + length], "big") if length else config >> shift & 7
        fields.append(value)
        at += length
    if at + TAG > len(sealed):
        raise Malformed("no frame")
    return at, fields[0], fields[1]


def keys_of(base_key, key):
    """The cipher key, the authentication key, and the salt. [RFC 9605, section 4.4.2]"""
    secret = extract(b"", base_key)
    about = key.to_bytes(8, "big") + SUITE.to_bytes(2, "big")
    both = expand(secret, b"SFrame 1.0 Secret key " + about, 48)
    return both[:16], both[16:], expand(secret, b"SFrame 1.0 Secret salt " + about, 12)


def open_frame(base_key, key, target, device, sealed):
    """The plaintext of a frame that names this key. [PROTO-6.1] [PROTO-6.2]"""
    length, named, counter = header_of(sealed)
    if named != key or not 256 <= counter < 65536:
        raise Malformed("a frame under another key")
    cipher_key, tag_key, salt = keys_of(base_key, key)
    nonce = (int.from_bytes(salt, "big") ^ counter).to_bytes(12, "big")
    header, text, tag = sealed[:length], sealed[length:-TAG], sealed[-TAG:]
    associated = header + target + device
    lengths = b"".join(it.to_bytes(8, "big") for it in (len(associated), len(text), TAG))
    if hmac_of(tag_key, lengths + nonce + associated + text)[:TAG] != tag:
        raise Malformed("a forged frame")
    decryptor = Cipher(AES(cipher_key), CTR(nonce + bytes(4))).decryptor()
    return decryptor.update(text) + decryptor.finalize()


def parse_frame(plain):
    """Flags, media time and the Opus packet. [PROTO-7.5]"""
    if len(plain) < 6 or plain[0] & 0x0c:
        raise Malformed("no frame of this version")
    flags = plain[0]
    return {
        "first": bool(flags & 1),
        "last": bool(flags & 2),
        "talkspurt": flags >> 4,
        "media_time": int.from_bytes(plain[1:5], "big"),
        "opus": plain[5:],
    }


def target_id(schema, target):
    """The id of a target. [PROTO-6.11]"""
    others = target["members"], target["roles"], target["priority"]
    if len(target["channels"]) == 1 and others == ([], [], False):
        return target["channels"][0]
    return derived("hark 1 target", schema.encode("Target", target))[:16]


def target_tag(organisation, target):
    """The tag by which voice datagrams name a target. [PROTO-7.1]"""
    return keyed(organisation, b"target", target)[:4]


def holders_hash(devices):
    """The hash of a list of holders. [PROTO-11.6]"""
    return derived("hark 1 epoch holders", *devices)


def holders_after(change, before):
    """The holders of an epoch, given as a change of the holders of another. [PROTO-11.6]"""
    if change["base"] != (holders_hash(before) if before is not None else None):
        raise Malformed("a change of other holders")
    removed, added, before = change["removed"], change["added"], before or []
    stay = [device for place, device in enumerate(before) if place not in removed]
    after = sorted(stay + added)
    ascending = all(list(it) == sorted(set(it)) for it in (removed, added))
    if not ascending or len(set(after)) != len(after) or any(it >= len(before) for it in removed):
        raise Malformed("a change that makes no sense")
    return after


def open_seal(prekey_secret, prekey, header, epoch, device, seal):
    """The secret of an epoch, from the seal in which it was dealt. [PROTO-11.5]"""
    shared = x25519(prekey_secret, header["dealer"])
    key = derived("hark 1 epoch seal", shared, header["dealer"], prekey)
    secret = open_once(key, epoch + device, seal["secret"] + seal["tag"])
    if derived("hark 1 epoch commitment", secret) != header["commitment"]:
        raise Malformed("not the secret that the header commits to")
    if check_of(confirmation(secret, epoch, device)) != seal["check"]:
        raise Malformed("a check that the confirmation fails")
    return secret


def confirmation(secret, epoch, device):
    """The code that confirms that a device holds an epoch. [PROTO-11.12]"""
    return keyed(derived("hark 1 epoch confirmation", secret), epoch, device)[:16]


def check_of(shown):
    return derived("hark 1 epoch check", shown)[:8]


def epoch_base_key(secret, epoch, target, device, generation):
    """The base key of a talker in an epoch. [PROTO-11.8]"""
    return derived("hark 1 epoch sender", secret, epoch, target, device, bytes([generation]))


def proof_hash(frames):
    """The hash of a group of sealed frames. [PROTO-10.9]"""
    return hash_of(b"".join(hash_of(frame)[:16] for frame in frames))[:8]


def name_of(key, channel, name):
    """The name of a hidden channel. [CHARTER-4.8]"""
    if derived("hark 1 name key", key)[:8] != name["key_id"]:
        raise Malformed("a name under another key")
    return open_once(key, channel, name["sealed"]).decode()
