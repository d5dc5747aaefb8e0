"""Messages that no honest agent would send, made from a seed: the same ones for the same seed."""

import json
import random
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from natsbridge.jetstream.declarations import LATEST_PER_SUBJECT
from natsbridge.protocol.kinds import DURABLE_TYPES

LARGE = 200_000
# The agent version of those that have nothing wrong with them.
HONEST = "nothing wrong"


class Hostile(NamedTuple):
    """`trick` is the name of what is wrong with it, if anything."""

    trick: str
    device: bytes
    kind: bytes
    body: bytes
    headers: bytes = b""


class Generator:
    """`devices` of tenant `tenant` are real; commands of theirs are not."""

    def __init__(self, seed: int, tenant: UUID, devices: Sequence[UUID]) -> None:
        self._random = random.Random(seed)  # noqa: S311
        self._tenant = tenant
        self._devices = devices
        self._numbers = 0
        self._tricks: list[Callable[[], Hostile]] = [
            getattr(self, name) for name in sorted(dir(self)) if name.startswith("trick_")
        ]

    def batch(self, size: int) -> list[Hostile]:
        """None of these subjects has more than the stream LATEST keeps of each."""
        made: list[Hostile] = []
        subjects: Counter[tuple[bytes, bytes]] = Counter()
        while len(made) < size:
            one = self._one()
            subjects[one.device, one.kind] += 1
            if subjects[one.device, one.kind] <= LATEST_PER_SUBJECT:
                made.append(one)
        return made

    def _one(self) -> Hostile:
        trick = self._random.choice(self._tricks)
        made = trick()
        return made._replace(trick=trick.__name__.removeprefix("trick_"))

    def _send(
        self,
        body: bytes | Any,
        *,
        kind: str | bytes | None = None,
        device: bytes | None = None,
        headers: bytes = b"",
    ) -> Hostile:
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        chosen = self._kind() if kind is None else kind
        to = str(self._random.choice(self._devices)).encode() if device is None else device
        word = chosen.encode() if isinstance(chosen, str) else chosen
        return Hostile("", to, word, body, headers)

    def _kind(self) -> str:
        return self._random.choice(DURABLE_TYPES)

    def _honest(self) -> dict[str, Any]:
        """A body that any kind would take, but for a response's command."""
        self._numbers += 1
        return {
            "agent_version": "1.0",
            "session_id": f"s{self._numbers}",
            "timestamp": 1_760_000_000 + self._numbers,
            "capabilities": {"tools": ["osquery"], "receipts": True},
            "system_info": {"hostname": "honest", "platform": "Linux"},
            "status": {"uptime": self._numbers},
            "monitoring_type": f"m{self._numbers % 40}",
            "command_id": str(uuid4()),
            "result": {"status": "success", "result": {"pong": True}},
        }

    def _somewhere(self, value: Any) -> dict[str, Any]:
        """An honest body with this in a place of its own or of something honest."""
        body = self._honest()
        place = self._random.choice([*body, "more", "system_info.x", "status.x", "result.result"])
        name, _, below = place.partition(".")
        if below:
            body[name][below] = value
        else:
            body[name] = value
        return body

    def _raw(self, marked: Any, raw: str) -> bytes:
        """With `raw` in place of the text "MARK", quotes and all: what `json` would not write."""
        return json.dumps(marked).replace('"MARK"', raw).encode(errors="surrogatepass")

    def trick_honest(self) -> Hostile:
        return self._send(self._honest() | {"agent_version": HONEST}, kind="heartbeat")

    def trick_truncated(self) -> Hostile:
        whole = json.dumps(self._honest()).encode()
        return self._send(whole[: self._random.randrange(len(whole))])

    def trick_bytes_changed(self) -> Hostile:
        whole = bytearray(json.dumps(self._honest()).encode())
        for _ in range(self._random.randrange(1, 6)):
            whole[self._random.randrange(len(whole))] = self._random.randrange(256)
        return self._send(bytes(whole))

    def trick_noise(self) -> Hostile:
        return self._send(self._random.randbytes(self._random.randrange(2_000)))

    def trick_deep(self) -> Hostile:
        depth = self._random.choice([90, 99, 100, 101, 1_000, 60_000])
        opened, closed = self._random.choice([("[", "]"), ('{"a":', "}")])
        ends = closed * depth if self._random.random() < 0.7 else ""
        return self._send(self._raw(self._somewhere("MARK"), f"{opened * depth}1{ends}"))

    def trick_numbers(self) -> Hostile:
        number = self._random.choice(
            [
                "1e308", "-1e308", "1e309", "1e999999999", "1e-308", "5e-324", "1e-999999999",
                "9" * 10_000, "-" + "9" * 400, "0." + "1" * 10_000, "1" + "0" * 41, "-0", "-0.0",
                "18446744073709551616", "9223372036854775808", "1E400", "01", "+1", "1.", ".5",
                "NaN", "Infinity", "-Infinity", "0x10", "1_000",
            ]
        )  # fmt: skip
        body = self._somewhere("MARK")
        if self._random.random() < 0.1:
            body["status"] = ["MARK"] * 20_000 if len(number) < 8 else ["MARK"] * 20
        return self._send(self._raw(body, number))

    def trick_encoding(self) -> Hostile:
        text = json.dumps(self._somewhere("Zürich ☃ 𝄞"), ensure_ascii=False)
        encoding = self._random.choice(["utf-16", "utf-32", "latin-1", "utf-8-sig", "cp037"])
        return self._send(text.encode(encoding, errors="replace"))

    def trick_surrogates_and_nul(self) -> Hostile:
        piece = self._random.choice(
            [r"\ud800", r"\udc00", r"\udc00\ud800", r"\u0000", "\\u0000" * 5_000, "\0", "\ud800",
             r"\uD83D", r"\u", r"\x00", "\x1b[2J", r"\u202e", "\ufeff", r"\ufffe"]
        )  # fmt: skip
        body = self._somewhere("MARK")
        if self._random.random() < 0.3:
            body = {**self._honest(), "MARK": 1, "system_info": {"MARK": {"MARK": "MARK"}}}
        return self._send(self._raw(body, f'"{piece}"'))

    def trick_wrong_types(self) -> Hostile:
        wrong = self._random.choice(
            [None, True, [], {}, "", 0, -1, 1.5, [1, "a", None], {"a": {"b": []}}, "x" * 300, [[]]]
        )
        return self._send(self._somewhere(wrong))

    def trick_not_an_object(self) -> Hostile:
        return self._send(self._random.choice([None, True, 0, "text", [], [{}], b"", b" ", b"{}"]))

    def trick_identities(self) -> Hostile:
        other = self._random.choice([str(uuid4()), "*", ">", "", "null", str(self._tenant).upper()])
        body = self._honest()
        body[self._random.choice(["device_uuid", "tenant_uuid"])] = other
        if self._random.random() < 0.5:
            body = {"payload": body, "message_type": "heartbeat", "device_uuid": other}
        return self._send(body)

    def trick_wrappers(self) -> Hostile:
        body: Any = self._honest()
        for _ in range(self._random.randrange(1, 30)):
            body = {"payload": body, "message_type": self._random.choice(["heartbeat", "x", "", 3])}
        return self._send(body)

    def trick_duplicate_keys(self) -> Hostile:
        name = self._random.choice(["status", "session_id", "command_id", "device_uuid", "payload"])
        values = self._random.choice([("1", '"a"'), ("{}", "[]"), ('"a"', "null")])
        pieces = ",".join(f'"{name}":{value}' for value in values * self._random.choice([1, 500]))
        return self._send(f"{{{pieces}}}".encode())

    def trick_many_keys(self) -> Hostile:
        if self._random.random() > 0.2:
            keys = {f"k{number}": number for number in range(self._random.randrange(500))}
        else:
            keys = {f"k{number}": number for number in range(12_000)}
        return self._send(self._somewhere(keys))

    def trick_large_strings(self) -> Hostile:
        size = LARGE if self._random.random() < 0.05 else self._random.randrange(20_000)
        piece = self._random.choice(["x", "\\", '"', "\n", "é", "<script>", "\t", "{", "["])
        text = piece * (size // len(json.dumps(piece)))
        body = self._somewhere(text)
        if self._random.random() < 0.2:
            body[text[:5_000]] = 1
        return self._send(body)

    def trick_times(self) -> Hostile:
        body = self._honest() | {
            self._random.choice(["timestamp", "timestamp_ms"]): self._random.choice(
                [
                    -1,
                    -1e30,
                    1e30,
                    253402300800,
                    253402300799,
                    2**63,
                    0,
                    "now",
                    "2024-01-01",
                    [],
                    1e9,
                ]
            )
        }
        return self._send(body)

    def trick_kinds_without_end(self) -> Hostile:
        body = self._honest() | {"monitoring_type": self._words(self._random.randrange(300))}
        return self._send(body, kind="monitoring")

    def trick_responses(self) -> Hostile:
        body = {
            "command_id": self._random.choice([str(uuid4()), "1", None, 5, str(uuid4()).upper()]),
            "result": self._random.choice(
                [{}, None, "done", {"status": "success"}, {"status": "x" * 5_000},
                 {"status": "error", "error": {"a": [1]}}, {"status": "received", "cut_from": 1e30},
                 {"status": "success", "cut_from": 2**70}, {"status": ["success"]}]
            ),
        }  # fmt: skip
        return self._send(body, kind="response")

    def trick_devices(self) -> Hostile:
        """In the subject: a device that is not there, and what is not a device at all."""
        device = self._random.choice(
            [
                str(uuid4()).encode(),
                str(self._devices[0]).upper().encode(),
                str(self._devices[0]).replace("-", "").encode(),
                str(self._tenant).encode(),
                b"x" * 900,
                b"\xff\xfe",
                "é☃".encode(),
                b"\xed\xa0\x80",
                b"%2e%2e%2f",
                b"$JS",
                b"\x00",
                b"'--",
            ]
        )
        return self._send(self._honest(), device=device)

    def trick_headers(self) -> Hostile:
        headers = self._random.choice(
            [
                b"NATS/1.0\r\nNo: end",
                b"NATS/1.0\r\n\r\n",
                b"NATS/1.0 503\r\n\r\n",
                b"NATS/1.0 404 No Messages\r\n\r\n",
                b"NATS/1.0\r\nno colon\r\n\r\n",
                b"NATS/1.0\r\n: no name\r\n\r\n",
                b"NATS/1.0\r\nA: \xff\xfe\x00\r\n\r\n",
                b"NATS/1.0\r\nStatus: 404\r\nDescription: Consumer Deleted\r\n\r\n",
                b"NATS/1.0\r\n" + b"".join(b"K%d: v\r\n" % n for n in range(2_000)) + b"\r\n",
                b"NATS/1.0\r\nBig: " + b"v" * 30_000 + b"\r\n\r\n",
                b"NATS/1.0\r\n" + b"A: 1\r\n" * 500 + b"\r\n",
                b"HTTP/1.1 200\r\n\r\n",
                b"NATS/1.0\r\nNats-Expected-Last-Sequence: 1\r\n\r\n",
                b"NATS/1.0\r\nNats-Rollup: all\r\n\r\n",
                b"NATS/1.0\r\nNats-TTL: 1s\r\n\r\n",
                b"NATS/1.0\r\nNats-Stream-Source: x\r\n\r\n",
                b"\r\n\r\n",
            ]
        )
        body = self._honest() if self._random.random() < 0.5 else b"{"
        return self._send(body, headers=headers)

    def _words(self, length: int) -> str:
        letters = string.printable + "é☃𝄞\N{RIGHT-TO-LEFT OVERRIDE}"
        return "".join(self._random.choice(letters) for _ in range(length))
