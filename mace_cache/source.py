"""A program's text, headers and options to its key.

The key covers more than one compiler reads: every name that a preprocessor could include, in every
directory that one could search. ``docs/keys.md`` says it for users.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from mace_cache._headers import Directory, HeaderSearch, shown
from mace_cache._preprocessor import Text, asks_nothing
from mace_cache.errors import UncacheableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeGuard

__all__ = ["ProgramSource", "describe", "is_il"]

_FORMAT = "mace-cache program key 1"
_IL_MAGIC = (b"\x03\x02\x23\x07", b"\x07\x23\x02\x03")  # of SPIR-V, in either byte order
_ENVIRONMENT = (b"CPATH", b"C_INCLUDE_PATH", b"CPLUS_INCLUDE_PATH")
_MULTIARCH = f"/usr/include/{os.uname().machine}-linux-gnu".encode()
_SYSTEM = (b"/usr/local/include", _MULTIARCH, b"/usr/include")

_TOKEN = r'(?:[^ "]|"[^"]*")+'  # noqa: S105 (a pattern)
_QUOTED = r'"[^"]*"'
# The patterns are compiled with their first use, by `re`.
# Quotes of other kinds, and what one driver takes for a blank and another doesn't.
_UNCLEAR = r"[\x00-\x1f\x7f\\']"
_WITH_OPERAND = ("-D", "-U", "-x")
# Families of options (OpenCL 3.0 API specification, 5.8.6; the manuals of Clang and of drivers)
# none of which names a file. Any other option might.
_PLAIN_OPTION = (
    r"-(?:cl|ze|qcom)-[\w.=+-]+|-w|-W[\w=+-]*|-O\w*|-g[\w-]*|-(?:spir-)?std=[\w.+]+"
    r"|-create-library|-enable-link-options|-f(?!modul|plugin|profile)[a-z\d-]+"
    r"|-ffp-contract=\w+|-m[a-z\d-]+(?:=[\w.+-]+)?|-x[a-z+]+"
)


class ProgramSource(NamedTuple):
    """What identifies a program before it is compiled.

    Attributes:
        key: the program key, a SHA-256 as 64 lower-case hexadecimal digits.
        components: what the key is made of, as pairs of name and digest or text. Where two keys
            differ, so does one of these.
        has_headers: whether any file was looked for.
    """

    key: str
    components: tuple[tuple[str, str], ...]
    has_headers: bool


def describe(
    source: str | bytes, options: str = "", working_directory: str | None = None
) -> ProgramSource:
    """Make the key of a program from its text, its options and all headers that it could include.

    Nothing but the texts themselves is remembered from one call to the next: calling it again after
    a build tells whether a header has changed meanwhile.

    Args:
        source: the OpenCL C source, as the driver gets it; or SPIR-V, which includes nothing.
        options: the build options, as the driver gets them: in one string, with pyopencl's own.
        working_directory: where relative paths start; the process's own unless given.

    Raises:
        UncacheableError: the source, a header or an option depends on what can't be known from
            files, or a header can't be read.
    """
    parsed = _parse_options(options)
    if is_il(source):
        il = (("IL", hashlib.sha256(source).hexdigest()), ("options", parsed.placed))
        return ProgramSource(_key(il), il, has_headers=False)
    text = Text(source if isinstance(source, bytes) else _encoded(source))
    if asks_nothing(text) and asks_nothing(parsed.text) and not parsed.located:
        components = (("source", text.digest), ("options", parsed.placed))
        return ProgramSource(_key(components), components, has_headers=False)
    return _describe_all(text, parsed, working_directory)


def include_directories(options: str) -> tuple[str, ...]:
    """Give the directories that the key's options name by their positions.

    Args:
        options: as for `describe`.

    Raises:
        UncacheableError: as for `describe`.
    """
    return tuple([shown(directory) for directory in _parse_options(options).directories])


def is_il(source: str | bytes) -> TypeGuard[bytes]:
    """Whether a program's source is SPIR-V, as pyopencl tells it."""
    return isinstance(source, bytes) and source.startswith(_IL_MAGIC)


def _describe_all(text: Text, parsed: _Options, working_directory: str | None) -> ProgramSource:
    search = HeaderSearch()
    search.add_text(text, "the source")
    search.add_text(parsed.text, "the options")
    components = [("source", text.digest), ("options", parsed.placed)]
    if search.names:
        here = _directory(working_directory)
        for label, path, system in _roots(parsed.directories):
            search.add_directory(Directory(label, os.path.join(here, path), system))
    search.run()
    components += _header_components(search)
    if parsed.located or search.located:
        paths = (_directory(working_directory), *parsed.directories)
        components += [("path", shown(path)) for path in paths]
    return ProgramSource(_key(components), tuple(components), bool(search.names))


def _header_components(search: HeaderSearch) -> list[tuple[str, str]]:
    """Give the files of each name, and which directories are one: that decides who is included."""
    components = [
        (f"header {shown(name)}", ", ".join(found) or "absent")
        for name, found in search.names.items()
    ]
    return components + [(f"directory {label}", same) for label, same in search.reached.items()]


def _key(components: Iterable[tuple[str, str]]) -> str:
    """Hash the components, each part after its length so that no two lists of them look alike."""
    digest = hashlib.sha256(_FORMAT.encode())
    for pair in components:
        for part in pair:
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def _roots(directories: tuple[bytes, ...]) -> list[tuple[str, bytes, bool]]:
    """Give label, path and whether it is the system's, of each directory that may be searched."""
    roots = [("working directory", b".", False)]
    roots += [(f"-I {n}", path, False) for n, path in enumerate(directories, 1)]
    for variable in _ENVIRONMENT:
        paths = os.environb.get(variable, b"").split(b":")
        roots += [
            (f"{variable.decode()} {n}", path, False) for n, path in enumerate(paths, 1) if path
        ]
    return roots + [(f"system {n}", path, True) for n, path in enumerate(_SYSTEM, 1)]


def _directory(working_directory: str | None) -> bytes:
    if working_directory is not None:
        return os.fsencode(working_directory)
    try:
        return os.getcwdb()
    except OSError as error:
        raise UncacheableError(f"the working directory is gone ({error.strerror})") from error


class _Options(NamedTuple):
    """Build options: their text, the same with ``<n>`` for include directories, and these."""

    text: Text
    placed: str
    directories: tuple[bytes, ...]
    located: bool


@lru_cache(maxsize=128)
def _parse_options(options: str) -> _Options:
    text = Text(_encoded(options))
    if unclear := re.search(_UNCLEAR, options):
        raise UncacheableError(f"drivers read {unclear[0]!r} in the options in different ways")
    if options.count('"') % 2 or any(" -" in quoted for quoted in re.findall(_QUOTED, options)):
        raise UncacheableError("drivers read the quotes in the options in different ways")
    placed: list[str] = []
    directories: list[bytes] = []
    tokens = iter(re.findall(_TOKEN, options))
    for token in tokens:
        if token.replace('"', "").startswith("-I"):
            directories.append(_encoded(_include_directory(token, tokens)))
            placed.append(f"-I <{len(directories)}>")
        elif token in _WITH_OPERAND:
            placed.append(f"{token} {_operand(token, tokens)}")
        elif _is_definition(token) or re.fullmatch(_PLAIN_OPTION, token):
            placed.append(token)
        else:
            raise UncacheableError(f"the option {token} may make the compiler read other files")
    # Debug information holds the paths of the files.
    located = any(option.startswith("-g") and option != "-g0" for option in placed)
    return _Options(text, shown(_encoded(" ".join(placed))), tuple(directories), located)


def _is_definition(token: str) -> bool:
    return token.startswith(("-D", "-U")) and token not in _WITH_OPERAND


def _include_directory(token: str, tokens: Iterator[str]) -> str:
    directory = token.replace('"', "")[2:] or _operand(token, tokens).replace('"', "")
    if not directory or directory[0] in "-=@":
        raise UncacheableError(f"the option -I {directory} doesn't name an include directory")
    return directory


def _operand(option: str, tokens: Iterator[str]) -> str:
    operand = next(tokens, "-")
    if operand.startswith("-"):
        raise UncacheableError(f"the option {option} lacks its value")
    return operand


def _encoded(text: str) -> bytes:
    """Give the bytes that the driver gets; what file names hold besides UTF-8 stays as it is."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise UncacheableError(f"{error.object[error.start]!r} isn't valid Unicode") from error
