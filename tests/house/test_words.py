"""One word a concept: none of the words that another has replaced comes back."""

from pathlib import PurePosixPath

import pytest

from tests.house.vocabulary import PLACES, Text, files
from tests.house.words import KEPT, WORDS


@pytest.mark.parametrize("word", [*WORDS])
def test_a_word_that_another_has_replaced_is_nowhere(word: str) -> None:
    found = [line for text in files() for line in WORDS[word].found_in(text)]
    assert not found, "\n" + "\n".join(found)


def test_the_words_are_looked_for_in_code_pages_settings_and_documentation() -> None:
    read = {text.path.as_posix() for text in files()}
    assert {path.partition("/")[0] for path in read} >= set(PLACES)
    assert {".py", ".html", ".js", ".css", ".md"} <= {PurePosixPath(path).suffix for path in read}
    assert {".env.example", "README.md", "wegweiser/settings.py"} <= read


EXAMPLES = [
    (word, path, text) for word, rule in WORDS.items() for path, text in rule.examples.items()
]


@pytest.mark.parametrize(("word", "path", "text"), EXAMPLES)
def test_a_word_that_comes_back_is_found(word: str, path: str, text: str) -> None:
    assert WORDS[word].found_in(Text(PurePosixPath(path), text))


def test_every_word_has_an_example() -> None:
    assert all(word.examples for word in WORDS.values())


@pytest.mark.parametrize(
    "prose",
    [
        "There is no device, and this one is no longer there.",
        "Nobody is left alone at the end.",
        "The text declared what the owners offer; they watch it and settle down.",
        "Fill the form; what is standing there is repeated at two levels.",
        "It lets everybody in time know.",
    ],
)
@pytest.mark.parametrize("path", ["README.md", "devices/x.py", "templates/x.html"])
def test_ordinary_english_is_free(prose: str, path: str) -> None:
    text = Text(PurePosixPath(path), f"# {prose}" if path.endswith(".py") else prose)
    assert [line for word in WORDS.values() for line in word.found_in(text)] == []


@pytest.mark.parametrize("name", [*KEPT])
def test_a_name_that_is_kept_is_used(name: str) -> None:
    assert any(name in text.text for text in files())
