"""The words that this project does not use, and those that it uses instead.

One word a concept. Ordinary English is free: a pattern names identifiers, or a phrase that is
wrong wherever it stands.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.house.vocabulary import Text

# What is stored or sent keeps its name for whoever has stored or reads it.
KEPT: dict[str, str] = {
    "natsbridge_parkedmessage": "the table of dead letters",
}


@dataclass(frozen=True)
class Word:
    """What is not said, as patterns, and an example of each; what is said instead.

    `names` match a whole identifier in snake_case, `definitions` the name of a class or function,
    `modules` that of a file, `phrases` any text. It counts below `places`, paths that begin so.
    """

    instead: str
    names: str = ""
    definitions: str = ""
    modules: str = ""
    phrases: str = ""
    places: tuple[str, ...] = ("",)
    suffixes: tuple[str, ...] = ()
    examples: Mapping[str, str] = field(default_factory=dict)

    def found_in(self, text: Text) -> list[str]:
        path = text.path.as_posix()
        if not path.startswith(self.places):
            return []
        if self.suffixes and not path.endswith(self.suffixes):
            return []
        found: list[tuple[int, str]] = []
        for pattern, names in (
            (self.names, text.names),
            (self.definitions, text.definitions),
            (self.modules, text.module),
        ):
            if pattern:
                found += [each for each in names if re.fullmatch(pattern, each[1])]
        if self.phrases:
            found += text.said(re.compile(self.phrases, re.IGNORECASE))
        return [
            f"{path}:{line}: {said} (say: {self.instead})"
            for line, said in sorted(set(found))
            if said not in KEPT
        ]


def part(words: str) -> str:
    """A pattern of identifiers that have one of these words among theirs."""
    return rf"(?:\w*_)?(?:{words})(?:_\w*)?"


WORDS: dict[str, Word] = {
    "parked": Word(
        "dead letter",
        names=r"\w*park(?:ed|ing)\w*|park",
        phrases=r"\bpark(?:s|ed|ing)?\b",
        examples={"x.py": "parked_at = 1", "x.html": "{{ parked }}", "x.md": "It is parked."},
    ),
    "filling": Word(
        "expansion, expanded_at",
        names=part("filling|filled_at"),
        examples={"x.py": "def _filling(): ...", "x.html": "{{ bulk.filled_at }}"},
    ),
    "standing": Word(
        "status",
        names=part("standing"),
        phrases=r"\bstanding of\b",
        examples={"templates/_standing.html": "", "x.css": ".data-standing {}"},
    ),
    "let in": Word(
        "active, admitted",
        names=part("let_in"),
        phrases=r"\blet(?:s|ting)? in\b",
        examples={
            "x.py": "def test_nobody_is_let_in_without(): ...",
            "x.html": "<p>Who is let\n in</p>",
        },
    ),
    "opens": Word("is_active, valid", definitions="opens", examples={"x.py": "def opens(): ..."}),
    "of": Word(
        "a name of its own, such as limits_of",
        definitions="of",
        examples={"x.py": "def of(tenant): ..."},
    ),
    "offers": Word(
        "capabilities",
        names=r"_?offers(?:_\w+)?",
        # What a login offers is another matter.
        places=("devices/commands/", "devices/forms/", "devices/views/", "templates/", "x."),
        examples={"x.py": "offers_of(device)", "x.html": "{% for x in offers %}"},
    ),
    "watch": Word(
        "coverage",
        names="watch",
        places=("devices/presence/", "devices/models/"),
        examples={"devices/presence/x.py": "class Watch: ..."},
    ),
    "recipients": Word(
        "targets", names=part("recipients"), examples={"x.py": "class RecipientsForm: ..."}
    ),
    "owners": Word(
        "tenancy",
        names=part("owners"),
        places=("devices/",),
        examples={"devices/telemetry/x.py": "class Owners: ..."},
    ),
    "alone": Word(
        "credential_lock or what the lock is for",
        definitions="_?alone",
        modules="alone",
        examples={"x.py": "def alone(): ...", "y.py": "class _Alone: ...", "z/alone.py": ""},
    ),
    "end": Word(
        "end_credentials or what it ends", definitions="_?end", examples={"x.py": "def end(): ..."}
    ),
    "noted": Word("audit_event", definitions="noted", examples={"x.py": "def noted(): ..."}),
    "stand-in": Word(
        "placeholder",
        names=part("stand_in"),
        phrases=r"\bstand-ins?\b",
        examples={"x.py": "stand_in(1)", "x.md": "A stand-in for it."},
    ),
    "_told": Word(
        "announce",
        definitions=r"(?:\w*_)?told",
        examples={"x.py": "def _told(): ...", "y.py": "def not_told(): ..."},
    ),
    "settle": Word(
        "mark_published or what is settled",
        definitions=r"_?settled?",
        names=r"settled_(?:at|by)",
        examples={"x.py": "def settle(): ...", "y.py": "row.settled_at"},
    ),
    "levels": Word(
        "stream_usage",
        names=r"(?:\w+_)?levels",
        places=("natsbridge/", "tests/natsbridge/"),
        examples={"natsbridge/x.py": "async def watch_levels(): ..."},
    ),
    "tally": Word(
        "coalescer", names=part("tally|tallies"), examples={"x.py": "self._tally = Tally()"}
    ),
    "text": Word(
        "hexdump",
        modules="text",
        examples={"natsbridge/protocol/text.py": ""},
    ),
    "declared": Word(
        "declaration_settings",
        modules="declared",
        examples={"natsbridge/jetstream/declared.py": ""},
    ),
    "claim_changes": Word(
        "claims_diff", names="claim_changes", examples={"x.py": "claim_changes(1)"}
    ),
    "repeat": Word(
        "retry, retry_of",
        names=part("repeats|repeated|repetitions?") + r"|\w+_repeat|repeat_\w+",
        places=("devices/", "templates/", "tests/devices/", "x."),
        suffixes=(".py", ".html"),
        examples={"x.py": "command.repeats", "x.html": "{% url 'command-repeat' %}"},
    ),
    "Repeat": Word(
        "Retry",
        phrases=r"\bRepeat (?:it|them|this|the command|what failed)\b|>\s*Repeat\b",
        places=("devices/", "templates/", "static/", "x."),
        examples={"x.html": "<button>Repeat</button>"},
    ),
    "enrollment": Word(
        "enrolment (`enrollment_key` on the wire)",
        phrases=r"\benrollments?\b(?!-key)",
        examples={"x.md": "An enrollment."},
    ),
    "shall": Word(
        "must, or the present tense", phrases=r"\bshall\b", examples={"x.md": "It shall."}
    ),
    "whoever": Word(
        "the person or part that is meant",
        phrases=r"\bwho(?:m|so)?ever\b",
        examples={"x.py": "# Whoever is nobody's."},
    ),
    "is no": Word(
        "is not a",
        phrases=r"(?<!\bthere )\bis no (?!longer\b|more\b|matter\b|other\b)",
        examples={"x.py": '"Something in it is no UUID."', "x.md": "what is\nno device"},
    ),
    "to be had": Word(
        "not available", phrases=r"\bto be had\b", examples={"x.md": "They are not\nto be had."}
    ),
    "wants in": Word(
        "connects, logs in", phrases=r"\bwants? in\b", examples={"x.md": "Who wants in."}
    ),
    "came of it": Word(
        "result", phrases=r"\bwhat (?:came|became) of it\b", examples={"x.html": "What came of it"}
    ),
    "no word": Word(
        "no heartbeat", phrases=r"\bno word for\b", examples={"x.html": "No word for 2 min"}
    ),
    "to be pushed": Word(
        "pending changes", phrases=r"\bto be pushed\b", examples={"x.html": "To be pushed"}
    ),
    "half closed": Word(
        "cheap filter",
        phrases=r"\bhalf closed eyes\b",
        examples={"x.py": "# with half closed\n# eyes"},
    ),
    "who says so": Word(
        "older than the stored report",
        phrases=r"\bwho(?:ever)? says so\b",
        examples={"x.py": "# who says so of an earlier moment"},
    ),
}
