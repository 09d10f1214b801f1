"""What one text asks of a preprocessor: which files it names, and what it makes unknowable.

Nothing is evaluated. A directive is looked for wherever one could stand (first on its line, or
first after the end of a comment), with no regard to the comment, string or ``#if`` that may
surround it: so no quirk of quoting hides one, and what is found is never less than what a compiler
sees. Token pasting can't make a directive (C99 6.10.3.4), but it can spell ``__FILE__`` and more.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "LOCATED_WORDS",
    "Scan",
    "Text",
    "asks_nothing",
    "pasted_words",
    "scan",
]

LOCATED_WORDS = (b"__FILE__", b"__BASE_FILE__", b"__builtin_FILE", b"__builtin_source_location")
_UNKNOWABLE_WORDS = (b"__DATE__", b"__TIME__", b"__TIMESTAMP__")
_ASKING_WORDS = (b"__has_include", b"__has_include_next", b"__has_embed")
_ALL_WORDS = (*LOCATED_WORDS, *_UNKNOWABLE_WORDS, *_ASKING_WORDS)
# A text that has none of these needs nothing slower than this search.
_NEEDLES = (b"include", b"import", b"embed", b"E__", b"STAMP__", b"__builtin_")

# Blanks, control characters, non-ASCII characters (some compilers take a few of those for blanks),
# and whole comments.
_GAP = rb"(?:[\x00-\x09\x0b-\x20\x7f-\xff]|/\*[^*]*\*+(?:[^/*][^*]*\*+)*/)*"
_BLANKS = bytes([*range(0x0A), *range(0x0B, 0x21), *range(0x7F, 0x100)])
_NAME = rb'(?:"([^"\n]*)"|<([^>\n]*)>)?'
# The patterns are compiled with their first use, by `re`: most texts need none of them.
# Two patterns, as one that begins with a choice is slower by far.
_DIRECTIVES = [
    head + _GAP + rb"(include_next|include|import|embed)\b" + _GAP + _NAME for head in (b"#", b"%:")
]
# The first group is what makes it a mention of the word rather than a question.
_QUESTION = (
    rb"(\b(?:el)?ifn?def\s+|\bdefined[\s(]*|\bdefine\s+|\bundef\s+)?"
    rb"\b(__has_(?:include_next|include|embed))(?:__)?\b" + _GAP + rb"(?:\(" + _GAP + _NAME + rb")?"
)
_SPLICE = rb"\\[ \t\v\f]*(?:\r\n|\n\r|\n|\r)"
_WORD = (
    rb"__(?<!\w__)(?:" + b"|".join(w[2:] for w in (*LOCATED_WORDS, *_UNKNOWABLE_WORDS)) + rb")\b"
)
# An identifier that one of the special words could begin with. A lone underscore isn't taken for
# one: it joins the words of names in many harmless macros.
_FIRST_PIECE = rb"__(?<!\w__)(?:[A-Zbh]\w*)?(?!\w)"
_NOT_WORDS_BLANK = bytes(c if bytes([c]).isalnum() or c == ord("_") else 0x20 for c in range(0x100))


class Scan(NamedTuple):
    """What a text asks of a preprocessor.

    Attributes:
        names: the files it names, as spelled, each once, in the order of their first appearance.
        located: whether it may use its own path (``__FILE__`` and its like).
        pastes: whether it pastes tokens (``##``).
        computed: where it names a file that its text doesn't tell; empty if it doesn't.
        unknowable: what it depends on that no file holds, and where; empty if nothing.
    """

    names: tuple[bytes, ...] = ()
    located: bool = False
    pastes: bool = False
    computed: str = ""
    unknowable: str = ""


_NOTHING = Scan()


class Text:
    """A text and its SHA-256, by which alone it is compared.

    Args:
        content: an OpenCL C source, a header, or build options, in any encoding that extends ASCII.

    Attributes:
        digest: 64 hexadecimal digits.
        content: what was given.
    """

    __slots__ = ("content", "digest")

    def __init__(self, content: bytes) -> None:
        self.digest = hashlib.sha256(content).hexdigest()
        self.content = content

    def __eq__(self, other: object) -> bool:
        """Whether both have one digest."""
        return isinstance(other, Text) and self.digest == other.digest

    def __hash__(self) -> int:
        """As the digest's."""
        return hash(self.digest)


@lru_cache(maxsize=128)
def scan(text: Text) -> Scan:
    """Find what *text* asks of a preprocessor.

    Returns:
        A superset of what a compiler would find; see the top of this module.
    """
    lines = _join_lines(text.content)
    pastes = _has(lines, b"##") or _has(lines, b"%:%:")
    if not any(needle in lines for needle in _NEEDLES) and not _has(lines, b"??"):
        return Scan(pastes=pastes)
    names: dict[bytes, None] = {}
    computed: list[str] = []
    unknowable: list[str] = []
    for position, verb, name in _references(lines):
        if name is None:
            computed.append(f"{verb} of a computed name in line {_line(text.content, position)}")
        elif _is_odd(name) or verb.endswith("embed"):
            spelled = name.decode("utf-8", "backslashreplace")
            unknowable.append(f'{verb} "{spelled}" in line {_line(text.content, position)}')
        else:
            names[name] = None
    words = {match[0]: match.start() for match in re.finditer(_WORD, lines)}
    # A trigraph can spell the hash and the backslash that joins lines (C99 5.2.1.1).
    words |= {mark: lines.find(mark) for mark in (b"??=", b"??/") if mark in lines}
    unknowable += [
        f"{word.decode()} in line {_line(text.content, position)}"
        for word, position in words.items()
        if word not in LOCATED_WORDS
    ]
    return Scan(
        tuple(names),
        any(word in words for word in LOCATED_WORDS),
        pastes,
        next(iter(computed), ""),
        next(iter(unknowable), ""),
    )


def asks_nothing(text: Text) -> bool:
    """Whether *text* is all that its meaning depends on, as most sources are."""
    return scan(text) == _NOTHING


@lru_cache(maxsize=128)
def pasted_words(texts: tuple[Text, ...]) -> tuple[bytes, ...]:
    """Give the words, special to a preprocessor, that pasting identifiers of *texts* can spell.

    A macro may paste identifiers of any text that is compiled together with it, so all are asked.
    """
    lines = [_join_lines(text.content) for text in texts]
    if not any(re.search(_FIRST_PIECE, text) for text in lines):
        return ()
    pieces = {piece for text in lines for piece in text.translate(_NOT_WORDS_BLANK).split()}
    return tuple(word for word in _ALL_WORDS if _can_spell(word, pieces - {word}))


def _has(lines: bytes, mark: bytes) -> bool:
    """Tell whether *mark* is there; one byte, which mostly isn't, is found faster than two."""
    return mark[:1] in lines and mark in lines


def _can_spell(word: bytes, pieces: set[bytes]) -> bool:
    reached = {end for end in range(len(b"__"), len(word)) if word[:end] in pieces}
    for end in range(1, len(word) + 1):
        if any(word[start:end] in pieces for start in reached):
            reached.add(end)
    return len(word) in reached


def _references(lines: bytes) -> Iterator[tuple[int, str, bytes | None]]:
    """Give position, verb and name of each reference to a file; a computed name is None."""
    for match in chain.from_iterable(re.finditer(pattern, lines) for pattern in _DIRECTIVES):
        before = lines[lines.rfind(b"\n", 0, match.start()) + 1 : match.start()].strip(_BLANKS)
        if not before or before.endswith(b"*/"):
            yield match.start(), f"#{match[1].decode()}", _name(match[2], match[3])
    if b"__has_" in lines:
        for match in re.finditer(_QUESTION, lines):
            if match[1] is None:
                yield match.start(), match[2].decode(), _name(match[3], match[4])


def _name(quoted: bytes | None, angled: bytes | None) -> bytes | None:
    return angled if quoted is None else quoted


def _is_odd(name: bytes) -> bool:
    """Tell whether compilers may read *name* differently: escaped, as a trigraph, cut short."""
    return not name or b"\\" in name or b"??" in name or b"\0" in name


def _join_lines(text: bytes) -> bytes:
    return _newlines(re.sub(_SPLICE, b"", text) if b"\\" in text else text)


def _newlines(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in text else text


def _line(text: bytes, position: int) -> int:
    """Give the line of *text* in which *position* of its joined lines is."""
    line = 1
    for part in map(_newlines, re.split(_SPLICE, text)):
        if position < len(part):
            break
        position -= len(part)
        line += part.count(b"\n") + 1
    return line + part.count(b"\n", 0, position)
