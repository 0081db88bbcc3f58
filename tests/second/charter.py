"""Evaluates the pieces of a charter: who belongs to it, and who may do what. [docs/charter.md]"""

import copy

from primitives import check, derived, hash_of
from wire import Malformed, Reader

NONE = bytes(32)
MEMBER_ROLE = bytes(16)
EVERYWHERE = "Organisation"
LOWEST = 251
RIGHTS = 13
(JOIN, LISTEN, SPEAK, PRIORITY, WHISPER, MOVE, MUTE, CHANNELS, ROLES, ADMIT, PRESETS, RELAYS, BAN) = (
    1 << bit for bit in range(RIGHTS)
)
ALL = (1 << RIGHTS) - 1
SPEECH = JOIN | LISTEN | SPEAK | PRIORITY | WHISPER
TICKETS_MAX = 32
A_DAY = 86_400
DEVICE_CHANGES = ("AddDevice", "RetireDevice")


def bits(rights):
    return [1 << bit for bit in range(RIGHTS) if rights >> bit & 1]


def variant(value):
    return (value, None) if isinstance(value, str) else value


class Charter:
    """A set of pieces. Each piece is checked, then all are judged together. The limits on what others may
    make a holder keep (section 8) apply when pieces are taken, and are not checked here."""

    def __init__(self, schema, pieces, past=None):
        self.schema = schema
        self.past = past
        self.pieces = []
        self.add(pieces)

    def add(self, pieces):
        """Takes more pieces; pieces that are already there are ignored."""
        self.pieces += [piece for piece in pieces if piece not in self.pieces]
        past, of_kind = self.past, {"Root": [], "Certificate": [], "Operation": [], "Checkpoint": []}
        for kind, value in self.pieces:
            of_kind[kind].append(value)
        self.settle_roots(of_kind["Root"])
        self.certificates = {}
        for signed in of_kind["Certificate"]:
            self.take_certificate(signed)
        self.take_operations(of_kind["Operation"])
        self.checkpoints = [past["checkpoint"]] if past else []
        self.segments = dict.fromkeys(self.operations, 1)
        base = copy.deepcopy(past["state"]) if past else None
        if past:
            self.check_settled(past["checkpoint"], past["state"], past["last"])
        for signed in of_kind["Checkpoint"]:
            self.settle(signed, base)
            self.checkpoints.append(signed)
        self.outcome = self.evaluate(base, self.operations, self.segments, self.chosen)
        self.held = set(self.certificates)

    def show(self, signed):
        """Takes a certificate that only this device was shown: it signs no operations. [CHARTER-3.7]"""
        try:
            self.take_certificate(signed)
        except Malformed:
            pass

    # Section 2.

    def settle_roots(self, documents):
        self.roots = held = {}
        for signed in documents:
            root = signed["value"]
            data = self.check_cosigned("root", "RootDocument", signed)
            if not 1 <= root["threshold"] <= len(root["keys"]) or not is_name(root["name"]):
                raise Malformed("a root document that says what none may say")
            held[hash_of(data)] = root, {key for key, _ in signed["signatures"]}
        founding = [hash for hash, (root, _) in held.items() if root["version"] == 1]
        if len(founding) != 1:
            raise Malformed("not one founding document")
        self.organisation, = founding
        first, signers = held[self.organisation]
        if first["previous"] != NONE or first["keys"][0] not in signers or signers - set(first["keys"]):
            raise Malformed("a founding document that its founder has not signed")
        self.chosen, last = [first], self.organisation
        self.root_keys = set(first["keys"])
        while True:
            before = self.chosen[-1]
            next = [
                ([key in signers for key in reversed(before["keys"])], hash, root)
                for hash, (root, signers) in held.items()
                if root["previous"] == last and self.counts(before, root, signers)
            ]
            for _, _, root in next:
                self.root_keys |= set(root["keys"])
            if not next:
                break
            # [CHARTER-2.3]
            _, last, root = min(next, key=lambda it: ([not signed for signed in it[0]], it[1]))
            self.chosen.append(root)

    def counts(self, before, root, signers):
        """Whether a root document may follow the one before it. [CHARTER-2.2] [CHARTER-2.7]"""
        keys = before["keys"]
        enough = all(len(signers & set(of["keys"])) >= of["threshold"] for of in (before, root))
        only = signers <= set(keys) | set(root["keys"])
        sound = root["version"] == before["version"] + 1 and not root["content"]
        if not (enough and only and sound):
            return False
        if before["threshold"] > 1:
            return True
        senior = max((keys.index(key) for key in signers if key in keys), default=-1)
        above = keys[senior + 1:]
        return not above or root["threshold"] == 1 and root["keys"][-len(above):] == above

    def check_cosigned(self, kind, name, signed):
        """Checks all signatures of a piece, and returns its encoding. [CHARTER-1.2]"""
        data = self.schema.encode(name, signed["value"])
        signers = [key for key, _ in signed["signatures"]]
        if signers != sorted(set(signers)):
            raise Malformed("signatures that are out of order")
        for key, signature in signed["signatures"]:
            check(key, kind, data, signature)
        return data

    # Section 3.

    def member_of(self, device):
        return derived("hark 1 member", self.organisation, device)

    def take_certificate(self, signed):
        """Checks a certificate, and takes it if it leads to a root key. [CHARTER-3.1]"""
        it = signed["value"]
        data = self.schema.encode("MemberCertificate", it)
        if it["organisation"] != self.organisation:
            raise Malformed("a certificate of another organisation")
        check(it["issuer"], "certificate", data, signed["signature"])
        if it["recovery"]:
            agreed = self.organisation + it["recovery"]["key"]
            check(it["device"], "recovery consent", agreed, it["recovery"]["consent"])
        above, depth = it, 1
        while above["issuer_certificate"] != NONE:
            if above["issuer_certificate"] not in self.certificates or depth == 8:
                raise Malformed("a certificate that leads to no root key")
            above, depth = self.certificates[above["issuer_certificate"]], depth + 1
        if above["issuer"] not in self.root_keys:
            raise Malformed("a certificate that leads to no root key")
        self.certificates[hash_of(data)] = it

    # Section 4.

    def take_operations(self, operations):
        self.operations, self.signers, self.ancestors = {}, {}, {}
        for signed in operations:
            it = signed["value"]
            hash = hash_of(self.check_cosigned("operation", "Operation", signed))
            signers = [key for key, _ in signed["signatures"]]
            parents = it["parents"] + [it["previous"]] * (it["previous"] != NONE)
            known = [parent for parent in parents if parent in self.operations]
            for wrong in [
                it["organisation"] != self.organisation,
                signers != sorted({it["author"], *it["cosigners"]}),
                it["author"] in it["cosigners"] or not ascending(it["cosigners"]),
                it["sequence"] < 1 or (it["sequence"] == 1) != (it["previous"] == NONE),
                not ascending(it["parents"]),
                any(not ascending(key for key, _ in cut["last"]) for cut in it["cuts"]),
                not all(is_sound(change) for change in it["changes"]),
                any(self.operations[parent]["lamport"] >= it["lamport"] for parent in known),
                not self.past and len(known) < len(parents),
                it["certificate"] == NONE and it["author"] not in self.root_keys,
                it["certificate"] != NONE and it["certificate"] not in self.certificates,
            ]:
                if wrong:
                    raise Malformed("an operation that no device makes")
            # [CHARTER-4.2]
            if not self.past and it["base"] == self.organisation:
                lamports = [self.operations[parent]["lamport"] for parent in it["parents"]]
                if it["lamport"] != 1 + max(lamports, default=0):
                    raise Malformed("an operation of another lamport")
            for change in it["changes"]:
                if change[0] == "AddDevice":
                    agreed = self.organisation + self.author_of(it)
                    check(change[1]["device"], "device consent", agreed, change[1]["consent"])
            self.operations[hash], self.signers[hash] = it, signers
            self.ancestors[hash] = set(known).union(*(self.ancestors[parent] for parent in known))

    def author_of(self, operation):
        certificate = self.certificates.get(operation["certificate"])
        return self.member_of(certificate["device"] if certificate else operation["author"])

    # Section 7.

    def check_settled(self, signed, state, last):
        """Checks that enough root keys have signed that a checkpoint leads to this state. [CHARTER-7.1]"""
        value = signed["value"]
        self.check_cosigned("checkpoint", "Checkpoint", signed)
        roots = [root for root in self.chosen if root["version"] == value["root"]]
        signers = {key for key, _ in signed["signatures"]}
        if not any(len(signers & set(root["keys"])) >= root["threshold"] for root in roots):
            raise Malformed("a checkpoint that too few have signed")
        data = self.schema.encode("State", as_lists(state)) + self.schema.encode(LAST, last)
        if derived("hark 1 settled", data) != value["state"]:
            raise Malformed("a checkpoint that states another outcome")

    def settle(self, signed, base):
        """Settles the operations that a checkpoint covers, and checks the result. [CHARTER-7.1] [CHARTER-7.2]"""
        value = signed["value"]
        covered = {it["hash"] for it in value["covered"]}
        covered = covered.union(*(self.ancestors[hash] for hash in covered))
        self.segments.update(dict.fromkeys(covered, 0))
        settled = {hash: self.operations[hash] for hash in self.operations if hash in covered}
        roots = [root for root in self.chosen if root["version"] <= value["root"]]
        run = self.evaluate(base, settled, dict.fromkeys(settled, 1), roots)
        state = run.state
        # Only the latest version of each preset stays, and none of a preset that was removed.
        state["presets"] = {
            id: versions[-1:] for id, versions in state["presets"].items() if id not in state["removed"]["presets"]
        }
        # [CHARTER-9.4]
        members = state["revoked"]["members"]
        for issuer, revoked in list(members.items()):
            for key, expires in list(revoked["tickets"].items()):
                if expires + A_DAY <= value["time"]:
                    del revoked["tickets"][key]
            if revoked["all"] is None and not revoked["tickets"]:
                del members[issuer]
        last = dict(self.past["last"]) if self.past else {}
        last |= {(it["key"], it["term"]): (it["sequence"], it["hash"]) for it in value["covered"]}
        if value["lamport"] != max(it["lamport"] for it in settled.values()):
            raise Malformed("a checkpoint of another lamport")
        self.check_settled(signed, state, last)

    # Section 5.

    def evaluate(self, base, operations, segments, roots):
        """Applies all operations in order, and repeats this until cuts and shields no longer change.
        [CHARTER-5.4] [CHARTER-5.5]"""
        start = as_sets(base) if base else blank(self.schema)
        start["roots"] = {self.member_of(key) for key in roots[-1]["keys"] if roots[-1]["threshold"] == 1}
        # [CHARTER-4.4]
        seen = set()
        for it in operations.values():
            chain, number = (it["author"], it["term"]), it["sequence"]
            if (chain, number) in seen:
                start["frozen"][chain] = min(number, start["frozen"].get(chain, number))
            seen.add((chain, number))
        self.settle_devices(start, operations, segments)
        for root in roots:
            for cut in root["cuts"]:
                end_term(start["ended"], cut, 0, 0, root["version"])
        ended, shield, floor = start["ended"], set(), 0
        while True:
            state = copy.deepcopy(start) | {"ended": copy.deepcopy(ended)}
            run = Run(self, operations, segments, roots, state, shield)
            if base is None:
                run.begin()
            run.everything()
            found = run.next_settled(ended, shield, floor)
            if found is None:
                return run
            floor, ended, shield = found

    def settle_devices(self, state, operations, segments):
        """Determines the devices of each member. [CHARTER-3.4] [CHARTER-3.5]"""
        by_member = {}
        for hash, it in operations.items():
            stands = it["sequence"] < state["frozen"].get((it["author"], it["term"]), 1 << 64)
            about = any(change[0] in DEVICE_CHANGES for change in it["changes"])
            if stands and about and it["certificate"] in self.certificates:
                by_member.setdefault(self.author_of(it), []).append((segments[hash], it["lamport"], hash))
        for member, order in by_member.items():
            order = [(hash, operations[hash]) for _, _, hash in sorted(order)]
            known = state["devices"].pop(member, {})
            waiting = {key: entry["seniority"] for key, entry in known.items()}
            named = set()
            for _, it in order:
                certificate = self.certificates[it["certificate"]]
                waiting[certificate["device"]] = "First"
                named.add(certificate["device"])
                if certificate["recovery"]:
                    key = certificate["recovery"]["key"]
                    waiting[key] = ("Recovery", key)
                    named.add(key)
            claims = {}
            while waiting:
                key = min(waiting, key=lambda it: self.schema.order("Seniority", waiting[it]))
                seniority = waiting.pop(key)
                lamport = seniority[1][0] if seniority[0] == "Added" else 0
                entry = dict(known.get(key, {"seniority": seniority, "retired": None}))
                retire(entry, claims.pop(key, []))
                for hash, it in order:
                    number = it["term"], it["sequence"]
                    late = entry["retired"] and number > entry["retired"]["last"]
                    if it["author"] != key or it["lamport"] <= lamport or late:
                        continue
                    for kind, change in map(variant, it["changes"]):
                        if kind == "AddDevice":
                            new = change["device"]
                            current = [one for one in known.values() if is_current(one)]
                            if new not in known and new not in named and len(current) + 1 < 16:
                                waiting[new] = ("Added", (it["lamport"], new))
                                known[new] = {"seniority": waiting[new], "retired": None}
                        elif kind == "RetireDevice":
                            claim = {"last": (change["term"], change["last"]), "by": hash}
                            if change["device"] == key:
                                retire(entry, [claim])
                            else:
                                claims.setdefault(change["device"], []).append(claim)
                if entry["retired"] or key in known:
                    known[key] = entry
            if known:
                state["devices"][member] = known

    # Section 6.

    def members(self, now):
        return {
            member
            for member in {self.member_of(it["device"]) for it in self.certificates.values()}
            if self.is_member(member, now)
        }

    def is_member(self, member, now):
        banned = any((it["kind"], it["at"]) == ("Ban", EVERYWHERE) for it in self.outcome.binding(now, member))
        return not banned and any(
            self.outcome.is_good(hash, it, 8)
            for hash, it in self.certificates.items()
            if self.member_of(it["device"]) == member
        )

    def owns(self, certificate, device):
        """Whether a device is at present one of the member's devices."""
        member = self.member_of(certificate["device"])
        entry = self.outcome.state["devices"].get(member, {}).get(device)
        return is_current(entry) if entry else certificate["device"] == device

    def owner_by_chain(self, chain, device, now):
        """Whether a chain proves that a device belongs to the organisation. [PROTO-3.4]"""
        leaf = self.chain_leads(chain, None)
        if not leaf or not self.owns(leaf, device):
            return False
        banned = any((it["kind"], it["at"]) == ("Ban", EVERYWHERE) for it in self.outcome.binding(now, self.member_of(leaf["device"])))
        return not banned and self.outcome.is_good(hash_of(self.schema.encode("MemberCertificate", leaf)), leaf, 8)

    def chain_leads(self, chain, device):
        """The certificate at the head of a chain, if the chain leads to a root key. If a device is given, the
        certificate must be of that device. [CHARTER-3.1]"""
        other = copy.copy(self)
        other.certificates = dict(self.certificates)
        for signed in reversed(chain):
            other.take_certificate(signed)
        leaf = chain[0]["value"] if chain else None
        return leaf if leaf and device in (None, leaf["device"]) else None

    def digest(self):
        """The hash by which two members find out whether they hold the same pieces. [CHARTER-8.7]"""
        roots = sorted(self.roots.items(), key=lambda it: (it[1][0]["version"], it[0]))
        parts = [hash + len(signers).to_bytes(8, "big") for hash, (_, signers) in roots]
        bases = [hash_of(self.schema.encode("Checkpoint", it["value"])) for it in self.checkpoints]
        newest = bases[-1] if bases else self.organisation
        oldest = bases[0] if self.past else self.organisation
        return derived("hark 1 charter digest", *parts, oldest, newest, *sorted(self.held), *sorted(self.operations))

    def have(self):
        """What a peer must know of this charter to send what it lacks. [PROTO-12.6] [PROTO-12.8]"""
        roots = sorted(self.roots.items(), key=lambda it: (it[1][0]["version"], it[0]))
        chains = {key: (last, hash) for key, (last, hash) in (self.past["last"] if self.past else {}).items()}
        for hash, it in self.operations.items():
            key = it["author"], it["term"]
            last = chains.get(key, (0, hash))
            chains[key] = max((it["sequence"], hash), last, key=lambda it: (it[0], [-byte for byte in it[1]]))
        count = 0 if not self.held else 16 if len(self.held) <= 64 else 256
        sums = [0] * count
        for hash in self.held:
            sums[hash[0] % count] = (sums[hash[0] % count] + int.from_bytes(hash[:8], "big")) % 2**64
        return {
            "roots": [(hash, len(signers)) for hash, (_, signers) in roots],
            "checkpoint": self.checkpoints[-1]["value"]["number"] if self.checkpoints else 0,
            "operations": [
                {"key": key, "term": term, "last": last, "tip": hash[:8]} for (key, term), (last, hash) in sorted(chains.items())
            ],
            "certificates": sums,
        }

    def may(self, now, member, right, at):
        """Whether a member has a right at a place. [CHARTER-6.5] [CHARTER-6.6]"""
        return self.is_member(member, now) and self.outcome.permits(now, member, right, at)


class Run:
    """Applies operations once, in order. A later operation overrides an earlier one. [CHARTER-5.9]"""

    def __init__(self, charter, operations, segments, roots, state, shield):
        self.charter, self.operations, self.segments = charter, operations, segments
        self.roots, self.state, self.shield = roots, state, shield
        self.verdicts, self.acts, self.given, self.ended = [], [], [], {}

    def begin(self):
        """Applies the content of the founding document. [CHARTER-2.1] [CHARTER-2.8]"""
        first = self.roots[0]
        founder = self.charter.member_of(first["keys"][0])
        for kind, change in map(variant, first["content"]):
            if kind == "Grant" and not change["members"]:
                change = change | {"members": [founder]}
            self.judge(0, founder, self.charter.organisation, kind, change)

    def everything(self):
        groups = {}
        for hash, it in self.operations.items():
            groups.setdefault((self.segments[hash], it["lamport"]), []).append(hash)
        for position in sorted(groups):
            standing = [(self.standing(hash), hash) for hash in groups[position]]
            for level, hash in sorted((1 << 16 if level is None else level, hash) for level, hash in standing):
                self.verdicts.append((hash, None if level == 1 << 16 else (level, self.apply(hash, level))))

    def apply(self, hash, level):
        it = self.operations[hash]
        author = self.charter.author_of(it)
        certificate = self.charter.certificates.get(it["certificate"])
        recovery = certificate and certificate["recovery"]
        recovers = bool(level > 0 and recovery and recovery["key"] == it["author"] != certificate["device"])
        for cut in it["cuts"] if not recovers else []:
            target = ("member", cut["member"])
            if level < self.rank(cut["member"], EVERYWHERE) and self.ended_before(cut, it["lamport"]):
                self.acts.append((level, hash, author, target, cut))
                if (hash, target) not in self.shield:
                    term = cut["member"], cut["term"]
                    self.ended[term] = min(it["lamport"], self.ended.get(term, it["lamport"]))
        return [
            (not recovers or kind in DEVICE_CHANGES) and self.judge(level, author, hash, kind, change)
            for kind, change in map(variant, it["changes"])
        ]

    def ended_before(self, cut, lamport):
        """Whether the term before that of a cut has ended earlier. [CHARTER-5.2]"""
        before = cut["member"], cut["term"] - 1
        settled = self.state["ended"].get(before, {"lamport": lamport})["lamport"]
        return cut["term"] == 0 or min(settled, self.ended.get(before, lamport)) < lamport

    def standing(self, hash):
        """The level of an operation; None if it is void. [CHARTER-4.7] [CHARTER-5.1]"""
        it = self.operations[hash]
        number, chain = (it["term"], it["sequence"]), (it["author"], it["term"])
        member = self.charter.author_of(it)
        if it["sequence"] >= self.state["frozen"].get(chain, 1 << 64):
            return None
        certificate = self.charter.certificates.get(it["certificate"])
        if certificate is None:
            if not self.acts_as_root(hash, it["author"]):
                return None
        else:
            entry = self.state["devices"].get(member, {}).get(it["author"])
            recovery = certificate["recovery"]
            if entry is None:
                if it["author"] not in (certificate["device"], recovery and recovery["key"]):
                    return None
            elif entry["seniority"][0] == "Added" and entry["seniority"][1][0] >= it["lamport"]:
                return None
            elif entry["retired"] and number > entry["retired"]["last"]:
                return None
            if not self.is_good(it["certificate"], certificate, 8):
                return None
        level = self.level(hash, member)
        ended = self.state["ended"].get((member, it["term"]))
        if ended and any(at <= level and last.get(it["author"], 0) < it["sequence"] for at, last in ended["from"].items()):
            return None
        if it["term"] > 0:
            begun = self.state["ended"].get((member, it["term"] - 1))
            if not begun or begun["lamport"] >= it["lamport"] or begun["root"] > it["root"]:
                return None
        return level

    def level(self, hash, member):
        """The level of an operation: 0 for the root keys, otherwise its author's rank. [CHARTER-5.1]"""
        it = self.operations[hash]
        if self.acts_as_root(hash, it["author"]):
            signers = [key for key in self.charter.signers[hash] if self.acts_as_root(hash, key)]
            if len(signers) >= self.roots[it["root"] - 1]["threshold"]:
                return 0
        return self.rank(member, EVERYWHERE)

    def acts_as_root(self, hash, key):
        """Whether a signer of an operation counts as a root key. [CHARTER-2.5] [CHARTER-4.5]"""
        it = self.operations[hash]
        if not 1 <= it["root"] <= len(self.roots) or key not in self.roots[it["root"] - 1]["keys"]:
            return False
        for later in self.roots[it["root"]:]:
            if key not in later["keys"]:
                term = self.charter.author_of(it), it["term"]
                return any(
                    (cut["member"], cut["term"]) == term and dict(cut["last"]).get(it["author"], 0) >= it["sequence"]
                    for cut in later["cuts"]
                )
        return True

    def is_good(self, hash, certificate, depth):
        """Whether a certificate makes its member belong. [CHARTER-3.2]"""
        member = self.charter.member_of(certificate["device"])
        removals = self.state["removals"].get(member, {"count": 0, "last": 0})
        if certificate["admission"] != removals["count"] or depth == 0:
            return False
        founder = self.roots[0]["keys"][0]
        by_founder = (certificate["issuer"], certificate["device"]) == (founder, founder)
        above = certificate["issuer_certificate"]
        if above == NONE and (certificate["issuer"] in self.roots[-1]["keys"] or by_founder):
            return True
        if any(at == EVERYWHERE for _, at in self.grants(member)):
            return True
        issuing = self.charter.certificates.get(above)
        issuer = self.charter.member_of(issuing["device"] if issuing else certificate["issuer"])
        if self.state["listed"].get(issuer, {}).get(hash, -1) >= removals["last"]:
            return True
        if issuing is None:
            return False
        entry = self.state["devices"].get(issuer, {}).get(certificate["issuer"])
        owns = is_current(entry) if entry else issuing["device"] == certificate["issuer"]
        return owns and self.is_good(above, issuing, depth - 1) and self.allows(issuer, ADMIT, EVERYWHERE)

    # Cuts and shields.

    def next_settled(self, ended, shield, floor):
        """The cuts and shields of the next level at which they change; None if none do. [CHARTER-5.5]"""
        for level in sorted({act[0] for act in self.acts if act[0] >= floor}):
            next_ended, next_shield = copy.deepcopy(ended), set(shield)
            for act in self.acts:
                _, hash, _, target, cut = act
                if act[0] != level or (hash, target) in shield:
                    continue
                if self.is_shielded(act):
                    next_shield.add((hash, target))
                elif cut:
                    end_term(next_ended, cut, level + 1, self.operations[hash]["lamport"], 0)
            if (next_ended, next_shield) != (ended, shield):
                return level, next_ended, next_shield
        return None

    def is_shielded(self, act):
        """Whether an act is against somebody who stands as high as its author. [CHARTER-5.11]"""
        level, hash, author, (kind, of), _ = act
        if level == 0:
            return False
        if kind == "member":
            return self.stands_apart(of, act)
        return any(member != author and self.stands_apart(member, act) for member in self.holders(of)) or any(
            role == of and member != author and not self.knew(by, hash) and self.rank(member, EVERYWHERE) <= level
            for member, role, by in self.given
        )

    def stands_apart(self, member, act):
        level, hash = act[0], act[1]
        if self.rank(member, EVERYWHERE) > level:
            return False
        for (at, id), entries in self.state["grants"].get(member, {}).items():
            role = self.state["roles"].get(id)
            if at != EVERYWHERE or not role or role["rank"] > level or not self.is_granted(id, entries):
                continue
            for entry in entries:
                sources = {entry["source"], self.state["defined"].get(id)} & set(self.operations)
                later = max(sources, key=lambda it: (self.segments[it], self.operations[it]["lamport"], it), default=None)
                if later and not self.knew(later, hash):
                    return True
        return False

    def knew(self, later, earlier):
        """Whether the author of one operation knew another. All know what is settled. [CHARTER-4.3]"""
        if earlier not in self.operations or later not in self.operations or later == earlier:
            return True
        return earlier in self.charter.ancestors[later] or self.segments[earlier] < self.segments[later]

    # Rights.

    def path(self, at):
        path = [at]
        while at != EVERYWHERE:
            entry = self.state["channels"].get(at[1])
            at = entry["channel"]["parent"] if entry else EVERYWHERE
            path.append(at)
        return path

    def exists(self, at):
        return all(one == EVERYWHERE or one[1] in self.state["channels"] for one in self.path(at))

    def is_granted(self, role, entries):
        """Whether these entries together grant a role. [CHARTER-5.8]"""
        if any(entry["preset"] for entry in entries):
            return True
        stands = self.state["roles"].get(role, {"rank": LOWEST})["rank"]
        count = [entry["granted"] for entry in entries if entry["granted"] or entry["rank"] < stands]
        return bool(count) and all(count)

    def grants(self, member):
        own = self.state["grants"].get(member, {})
        return [(role, at) for (at, role), entries in own.items() if self.is_granted(role, entries)]

    def holders(self, role):
        return [member for member in self.state["grants"] if (role, EVERYWHERE) in self.grants(member)]

    def rank(self, member, at):
        if member in self.state["roots"]:
            return 0
        path, roles = self.path(at), self.state["roles"]
        held = [roles[role]["rank"] for role, there in self.grants(member) if there in path and role in roles]
        return min(held, default=LOWEST)

    def allows(self, member, right, at):
        """Whether roles and rules give a member a right at a place. [CHARTER-6.1] [CHARTER-6.3] [CHARTER-6.8]"""
        if not self.exists(at):
            return False
        if member in self.state["roots"] and not right & SPEECH:
            return True
        path, roles = self.path(at), self.state["roles"]
        held = [(MEMBER_ROLE, EVERYWHERE)]
        held += [(role, there) for role, there in self.grants(member) if there in path and role in roles]
        rank = self.rank(member, at)
        for depth, place in enumerate(path):
            own = {("Role", role) for role, there in held if there in path[depth:]} - {("Role", MEMBER_ROLE)}
            steps = [[("Member", member)], own, ["Everyone", ("Role", MEMBER_ROLE)]]
            rules = self.state["rules"].get(place, {})
            steps = [[rule for who in step for rule in rules.get(who, []) if rule["rank"] < rank] for step in steps]
            highest = min((rule["rank"] for step in steps for rule in step if rule["deny"] & right), default=LOWEST)
            for step in steps:
                if any(rule["deny"] & right for rule in step):
                    return False
                if any(rule["allow"] & right and rule["rank"] <= highest for rule in step):
                    return True
        return any(roles[role]["capabilities"] & right for role, _ in held if role in roles)

    def binding(self, now, member):
        """The sanctions that apply to a member now. [CHARTER-6.6] [CHARTER-6.7]"""
        for entry in self.state["sanctions"].get(member, []):
            it = entry["sanction"]
            if (it["until"] is None or now < it["until"]) and entry["rank"] < self.rank(member, it["at"]):
                yield it

    def permits(self, now, member, right, at):
        path = self.path(at)
        for it in self.binding(now, member):
            everywhere = ALL if it["at"] == EVERYWHERE else SPEECH
            takes = SPEAK | PRIORITY | WHISPER if it["kind"] == "Mute" else everywhere
            if it["at"] in path and takes & right:
                return False
        return self.allows(member, right, at)

    # Changes.

    def judge(self, level, author, source, kind, change):
        """Applies a change if it is allowed; returns whether it was. [CHARTER-4.6]"""
        state = self.state
        may = lambda right, at: level == 0 or self.allows(author, right, at)
        rank = lambda at: 0 if level == 0 else self.rank(author, at)
        within = lambda rights, at: all(may(right, at) for right in bits(rights))
        knew = lambda what: self.knew(source, what)
        match kind:
            case "Role":
                id, before = change["id"], state["roles"].get(change["id"])
                gone = state["removed"]["roles"].get(id)
                allowed = (
                    may(ROLES, EVERYWHERE)
                    and rank(EVERYWHERE) < min(change["rank"], before["rank"] if before else LOWEST)
                    and within(change["capabilities"], EVERYWHERE)
                    and not (gone and (level > gone[0] or knew(gone[1])))
                )
                lowers = before and (before["rank"] < change["rank"] or before["capabilities"] & ~change["capabilities"])
                if not allowed or lowers and not self.may_lower(level, author, source, id):
                    return False
                state["removed"]["roles"].pop(id, None)
                state["roles"][id], state["defined"][id] = change, source
            case "RemoveRole":
                role = state["roles"].get(change)
                if not (may(ROLES, EVERYWHERE) and role and rank(EVERYWHERE) < role["rank"]):
                    return False
                if not self.may_lower(level, author, source, change):
                    return False
                del state["roles"][change], state["defined"][change]
                state["removed"]["roles"][change] = level, source
            case "Grant" | "Ungrant":
                at, id, role = change["at"], change["role"], state["roles"].get(change["role"])
                granted, everywhere = kind == "Grant", change["at"] == EVERYWHERE
                allowed = may(ROLES, at)
                if granted and everywhere and allowed and source in self.operations:
                    self.given += [(member, id, source) for member in change["members"]]
                if not (allowed and self.exists(at) and role and rank(at) < role["rank"]):
                    return False
                if everywhere and not granted and not self.may_meet(level, author, source, change["members"]):
                    return False
                made = {"granted": granted, "rank": rank(at), "preset": None, "source": source}
                for member in change["members"]:
                    own = state["grants"].setdefault(member, {})
                    kept = [it for it in own.get((at, id), []) if it["preset"] or not knew(it["source"])]
                    own[(at, id)] = kept + [made]
            case "Rule":
                at, subject, height = change["at"], change["subject"], rank(change["at"])
                if not (self.exists(at) and may(ROLES, at) and within(change["allow"], at)):
                    return False
                there = state["rules"].setdefault(at, {})
                kept = [
                    it for it in there.pop(subject, []) if it["preset"] or it["rank"] < height or not knew(it["source"])
                ]
                if change["allow"] | change["deny"]:
                    made = {"rank": height, "preset": None, "source": source}
                    kept.append({"allow": change["allow"], "deny": change["deny"]} | made)
                if kept:
                    there[subject] = kept
                if not there:
                    del state["rules"][at]
            case "Channel":
                known = state["channels"].get(change["id"])
                at = ("Channel", change["id"]) if known else change["parent"]
                gone = change["id"] in state["removed"]["channels"]
                if gone or not self.exists(at) or not may(CHANNELS, at):
                    return False
                parent = known["channel"]["parent"] if known else change["parent"]
                preset = known["preset"] if known else None
                state["channels"][change["id"]] = {"channel": change | {"parent": parent}, "preset": preset}
            case "MoveChannel":
                at, parent = ("Channel", change["channel"]), change["parent"]
                there = self.exists(at) and self.exists(parent)
                if not (there and may(CHANNELS, at) and may(CHANNELS, parent)) or at in self.path(parent):
                    return False
                entry = state["channels"][change["channel"]]
                state["channels"][change["channel"]] = entry | {"channel": entry["channel"] | {"parent": parent}}
            case "RemoveChannel":
                at = ("Channel", change)
                if not self.exists(at) or not may(CHANNELS, at):
                    return False
                below = {id for id in state["channels"] if at in self.path(("Channel", id))}
                for id in below:
                    del state["channels"][id]
                state["removed"]["channels"] |= below
                state["links"] = {link for link in state["links"] if not below & set(link)}
            case "Link":
                places = [("Channel", change["a"]), ("Channel", change["b"])]
                enough = all if change["linked"] else any
                if not all(map(self.exists, places)) or not enough(may(CHANNELS, at) for at in places):
                    return False
                (state["links"].add if change["linked"] else state["links"].discard)((change["a"], change["b"]))
            case "Preset":
                if not may(PRESETS, EVERYWHERE) or change["id"] in state["removed"]["presets"]:
                    return False
                state["presets"].setdefault(change["id"], []).append({"preset": change, "source": source})
            case "RemovePreset":
                there = change in state["presets"] and change not in state["removed"]["presets"]
                if not may(PRESETS, EVERYWHERE) or not there:
                    return False
                state["removed"]["presets"][change] = source
            case "LoadPreset" | "UnloadPreset":
                # [CHARTER-5.10]
                versions = [it["preset"] for it in state["presets"].get(change, []) if knew(it["source"])]
                removed, load = state["removed"]["presets"].get(change), state["loads"].get(change)
                known = versions[-1] if versions and not (removed and knew(removed)) else None
                there = known if kind == "LoadPreset" else load
                if not may(PRESETS, EVERYWHERE) or not there or load and rank(EVERYWHERE) > load["rank"]:
                    return False
                grants = [grant for grant in load["preset"]["grants"] if grant["at"] == EVERYWHERE] if load else []
                met = [member for grant in grants for member in grant["members"]]
                if not self.may_meet(level, author, source, met):
                    return False
                height = rank(EVERYWHERE)
                self.unload(change)
                if kind == "LoadPreset":
                    self.load(known, height, within, source)
            case "Relay" | "RemoveRelay":
                if not may(RELAYS, EVERYWHERE):
                    return False
                if kind == "Relay":
                    state["relays"][change["device"]] = change
                else:
                    state["relays"].pop(change, None)
            case "Policy":
                if level > 0:
                    return False
                name = {"InviteHoursMax": "invite_hours_max", "OperationsPerDay": "operations_per_day"}[change[0]]
                state["policies"] = state["policies"] | {name: change[1]}
            case "Remove":
                member = change["member"]
                count = state["removals"].get(member, {"count": 0})["count"]
                if not may(BAN, EVERYWHERE) or count + 1 != change["admission"]:
                    return False
                meets = self.may_meet(level, author, source, [member])
                if not meets or level >= self.rank(member, EVERYWHERE):
                    return False
                state["removed_ever"] += 1
                state["removals"][member] = {"count": change["admission"], "last": state["removed_ever"]}
                state["grants"].pop(member, None)
            case "Admitted":
                if not may(ADMIT, EVERYWHERE):
                    return False
                listed = dict.fromkeys(change, state["removed_ever"])
                if listed:
                    state["listed"].setdefault(author, {}).update(listed)
            case "Sanction" | "Lift":
                member, what, at = change["member"], change["kind"], change["at"]
                right = MUTE if what == "Mute" else BAN if at == EVERYWHERE else MOVE
                own = state["sanctions"].get(member, [])
                same = lambda it: (it["sanction"]["kind"], it["sanction"]["at"]) == (what, at)
                height = rank(at)
                highest = min((it["rank"] for it in own if same(it)), default=-1)
                above = height < self.rank(member, at) if kind == "Sanction" else height <= highest
                if kind == "Sanction" and not self.exists(at) or not may(right, at) or not above:
                    return False
                kept = [it for it in own if not same(it) or it["rank"] < height or not knew(it["source"])]
                if kind == "Sanction":
                    kept.append({"sanction": change, "rank": height, "source": source})
                state["sanctions"].pop(member, None)
                if kept:
                    state["sanctions"][member] = kept
            case "RevokeTicket" | "RevokeTickets":
                # [CHARTER-9.1] [CHARTER-9.2]
                issuer = change["issuer"] if kind == "RevokeTicket" else change
                if issuer is None and level > 0:
                    return False
                above = issuer is None or rank(EVERYWHERE) < self.rank(issuer, EVERYWHERE)
                if issuer not in (None, author) and not (may(ADMIT, EVERYWHERE) and above):
                    return False
                if issuer is None:
                    state["revoked"] = {"everyone": source, "members": {}}
                    return True
                revoked = state["revoked"]["members"].setdefault(issuer, {"all": None, "tickets": {}})
                full = kind == "RevokeTicket" and len(revoked["tickets"]) >= TICKETS_MAX
                if kind == "RevokeTickets" or full and change["key"] not in revoked["tickets"]:
                    revoked |= {"all": source, "tickets": {}}
                else:
                    revoked["tickets"][change["key"]] = change["expires"]
            case "AddDevice" | "RetireDevice":
                pass  # [CHARTER-3.5]
            case _:
                raise NotImplementedError(kind)
        return True

    def act(self, level, author, source, target):
        if source in self.operations and target != ("member", author):
            self.acts.append((level, source, author, target, None))

    def may_meet(self, level, author, source, members):
        """Whether an operation takes nothing from members who stand as high as its author. [CHARTER-5.11]"""
        for member in members:
            self.act(level, author, source, ("member", member))
        return level == 0 or all(
            member == author
            or level < self.rank(member, EVERYWHERE) and (source, ("member", member)) not in self.shield
            for member in members
        )

    def may_lower(self, level, author, source, role):
        if level == 0 or role == MEMBER_ROLE:
            return level == 0
        self.act(level, author, source, ("role", role))
        return (source, ("role", role)) not in self.shield and all(
            member == author or level < self.rank(member, EVERYWHERE) for member in self.holders(role)
        )

    def load(self, preset, rank, within, source):
        state, id = self.state, preset["id"]
        for channel in preset["channels"]:
            if channel["id"] not in state["removed"]["channels"]:
                state["channels"].setdefault(channel["id"], {"channel": channel, "preset": id})
        for channel in preset["channels"]:
            entry = state["channels"].get(channel["id"])
            if entry and entry["preset"] == id and not self.reaches_top(channel["id"]):
                top = entry["channel"] | {"parent": EVERYWHERE}
                state["channels"][channel["id"]] = entry | {"channel": top}
        for rule in [rule for rule in preset["rules"] if within(rule["allow"], EVERYWHERE)]:
            made = {"allow": rule["allow"], "deny": rule["deny"], "rank": rank, "preset": id, "source": source}
            state["rules"].setdefault(rule["at"], {}).setdefault(rule["subject"], []).append(made)
        for grant in preset["grants"]:
            role = state["roles"].get(grant["role"])
            for member in grant["members"] if role and rank < role["rank"] else []:
                made = {"granted": True, "rank": rank, "preset": id, "source": source}
                place = grant["at"], grant["role"]
                state["grants"].setdefault(member, {}).setdefault(place, []).append(made)
        state["loads"][id] = {"preset": preset, "rank": rank}

    def reaches_top(self, channel):
        at = ("Channel", channel)
        for _ in range(len(self.state["channels"]) + 1):
            entry = self.state["channels"].get(at[1])
            if not entry:
                return False
            at = entry["channel"]["parent"]
            if at == EVERYWHERE:
                return True
        return False

    def unload(self, id):
        state = self.state
        if state["loads"].pop(id, None) is None:
            return
        state["channels"] = {key: entry for key, entry in state["channels"].items() if entry["preset"] != id}
        for name in ("rules", "grants"):
            for key, inner in list(state[name].items()):
                left = {one: [it for it in entries if it["preset"] != id] for one, entries in inner.items()}
                state[name][key] = {one: entries for one, entries in left.items() if entries}
                if not state[name][key]:
                    del state[name][key]


def blank(schema, kind="State"):
    """An empty state: its maps and sets are empty, and its numbers are 0."""
    if kind == "Policies":
        return {"invite_hours_max": 0, "operations_per_day": 200}
    if str(kind) in schema.types:
        return {name: blank(schema, of) for name, of in schema.types[kind]["struct"]}
    if isinstance(kind, str):
        return 0
    return None if "option" in kind else {} if "map" in kind else set()


def as_lists(state):
    """The state with its sets as lists, in the order in which they are encoded."""
    if isinstance(state, (set, list)):
        return sorted(state)
    return {name: as_lists(it) if name in SETS else it for name, it in state.items()}


def as_sets(state):
    if isinstance(state, list):
        return set(state)
    return {name: as_sets(it) if name in SETS else copy.deepcopy(it) for name, it in state.items()}


def end_term(ended, cut, level, lamport, root):
    """Adds a cut to the term that it ends. [CHARTER-5.2]"""
    last = {key: number for key, number in cut["last"]}
    term = ended.setdefault((cut["member"], cut["term"]), {"lamport": lamport, "root": root, "from": {}})
    term["lamport"], term["root"] = min(term["lamport"], lamport), max(term["root"], root)
    before = term["from"].get(level, last)
    lowest = {key: min(number, last.get(key, 0)) for key, number in before.items()}
    term["from"][level] = {key: number for key, number in lowest.items() if number}


def retire(entry, claims):
    """Retires a device. Of several claims the one that leaves the least counts. [CHARTER-3.4]"""
    known = [entry["retired"]] if entry["retired"] else []
    entry["retired"] = min(known + claims, key=lambda it: (it["last"], it["by"]), default=None)


def is_current(entry):
    return entry["retired"] is None and entry["seniority"][0] == "Added"


def ascending(items):
    items = list(items)
    return items == sorted(set(items))


def is_name(name):
    """Whether a text may be a name. [PROTO-3.7]"""
    controls = any(ord(char) < 0x20 or 0x7f <= ord(char) < 0xa0 for char in name)
    return 0 < len(name) <= 32 and len(name.encode()) <= 64 and not controls


def is_sound(change):
    """Whether a change makes sense by itself. [CHARTER-4.9]"""
    kind, it = variant(change)
    known = lambda rule: not (rule["allow"] | rule["deny"]) & ~ALL
    grant = lambda it: it["role"] != MEMBER_ROLE and ascending(it["members"])
    named = lambda name: is_name(name[1]) if name[0] == "Listed" else bool(name[1]["sealed"])
    full = lambda mode: mode == "Open" or mode[1] > 0
    coded = lambda sound: sound == "Speech" or 96 <= sound[1] <= 192
    channel = lambda it: (named(it["name"]) and full(it["mode"]) and coded(it["sound"])
                          and it["parent"] != ("Channel", it["id"]))
    match kind:
        case "Role":
            ranks = [LOWEST] if it["id"] == MEMBER_ROLE else range(1, LOWEST)
            return is_name(it["name"]) and it["rank"] in ranks and not it["capabilities"] & ~ALL
        case "RemoveRole":
            return it != MEMBER_ROLE
        case "Grant" | "Ungrant":
            return grant(it)
        case "Rule":
            return known(it)
        case "Channel":
            return channel(it)
        case "MoveChannel":
            return it["parent"] != ("Channel", it["channel"])
        case "Link":
            return it["a"] < it["b"]
        case "Preset":
            nets = [net for layout in it["layouts"] for net in layout["nets"]]
            return (
                is_name(it["name"])
                and all(map(channel, it["channels"]))
                and ascending(one["id"] for one in it["channels"])
                and all(map(known, it["rules"]))
                and all(map(grant, it["grants"]))
                and all(-100 <= net["pan_percent"] <= 100 and net["volume_percent"] <= 400 for net in nets)
            )
        case "Relay":
            return is_name(it["name"]) and bool(it["addresses"])
        case "Policy":
            return it[0] != "OperationsPerDay" or it[1] > 0
        case "Remove":
            return it["admission"] > 0
        case "Sanction":
            return not it["name"] or is_name(it["name"])
    return True


def open_snapshot(schema, data):
    """The charter that is stored in a file. [CHARTER-10.1]"""
    if not data.startswith(MAGIC):
        raise Malformed("no charter of this version")
    reader = Reader(data[len(MAGIC):])
    records = []
    while reader.at < len(reader.data):
        records.append(reader.take(reader.uint(4)))
    past, _newest, *rest = records
    end = rest.index(b"")
    pieces = [schema.decode("Piece", piece) for piece in rest[:end]]
    held = Charter(schema, pieces, schema.decode({"option": "SettledState"}, past))
    for kind, piece in [schema.decode("Piece", piece) for piece in rest[end + 1:]]:
        if kind == "Certificate":
            held.show(piece)
    return held


MAGIC = b"hark charter 1\n"
# Fields of a state that are sets, or contain sets.
SETS = {"links", "roots", "removed", "channels"}
LAST = {"map": [{"tuple": ["DeviceId", "u32"]}, {"tuple": ["u64", "ObjectHash"]}]}
