"""Whether a program may have variables that keep their values from one launch to the next.

OpenCL C has them since 2.0: at program scope, and ``static`` ones in functions. PoCL says of every
program that it has none (``CL_PROGRAM_BUILD_GLOBAL_VARIABLE_TOTAL_SIZE``). So the text is looked
at; where it isn't plain, the answer is yes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mace_cache import _spirv
from mace_cache.source import is_il

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["may_keep_values"]

# The patterns are compiled with their first use, by `re`: few programs are of OpenCL C 2.0.
_SINCE_2_0 = r"(?i)std=(?!CL1)|(?<!\S)-x"
_SPLICE, _LINE_END = r"\\\n", r"\r\n?"
_LITERAL_OR_COMMENT = r'(?s)"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|//[^\n]*|/\*.*?\*/'
_DIRECTIVE = r"(?m)^[ \t]*#[ \t]*((\w*)[^\n]*)"
_INCLUDING = ("include", "import")
_UNCLEAR = r"\bstatic\b|<%|%>|%:|\?\?"  # the last ones are other spellings of braces and of #
# In a directive or in options: what may hold a whole declaration, and other meanings of the words
# that `_HARMLESS` goes by.
_UNCLEAR_IN_MACRO = r"[;{}]|(?:\bdefine|-D)\W*(?:(?:__)?constant|const|typedef|struct|union|enum)\b"
_PIECE = r"[{}]|\0\w*\0|[^{}\0]+"
# What may stand between two semicolons at program scope: functions, and then nothing, or what is
# no variable or a constant. A pointer to a constant is neither.
_HARMLESS = (
    r"(?s)\A\s*\Z|(?:\A|\})\s*(?:const\s+)*(?:typedef\b.*|(?:__)?constant\b[^*]*|"
    r"(?:struct|union|enum)\b\s*\w*\s*\{\}\s*)\Z"
)


def may_keep_values(source: str | bytes, settings: Iterable[str]) -> bool:
    """Whether what a program computes may depend on what was launched before.

    Args:
        source: OpenCL C, or SPIR-V.
        settings: the build options, and whatever else the compiler takes some from.
    """
    if is_il(source):
        return _spirv.has_own_variables(source)
    said = " ".join(settings)
    if not re.search(_SINCE_2_0, said):
        return False
    text = source if isinstance(source, str) else source.decode(errors="replace")
    return bool(re.search(_UNCLEAR_IN_MACRO, said)) or _has_variables(text)


def _has_variables(source: str) -> bool:
    text = re.sub(_SPLICE, "", re.sub(_LINE_END, "\n", source.replace("\0", " ")))
    text = re.sub(_LITERAL_OR_COMMENT, " ", text)
    if re.search(_UNCLEAR, text):
        return True
    for directive, name in re.findall(_DIRECTIVE, text):
        if name.startswith(_INCLUDING) or re.search(_UNCLEAR_IN_MACRO, directive):
            return True
    outside = _outside(re.sub(_DIRECTIVE, "\0\\2\0", text))
    if outside is None:
        return True
    return not all(re.search(_HARMLESS, part) for part in outside.split(";")[:-1])


def _outside(text: str) -> str | None:
    """Give what stands at program scope, or None where that isn't plain.

    Args:
        text: OpenCL C, in which each directive is its name between two zeros.
    """
    outside: list[str] = []
    depth, depths = 0, list[int]()  # of braces; and where the conditions begin that hold
    for piece in re.findall(_PIECE, text):
        if piece.startswith("\0if"):
            depths.append(depth)
        elif piece.startswith(("\0el", "\0endif")):
            if not depths or depth != depths[-1]:  # what one branch opens another may close
                return None
            if piece.startswith("\0en"):
                depths.pop()
        elif piece == "}":
            depth -= 1
        if depth == 0 and not piece.startswith("\0"):
            outside.append(piece)
        if piece == "{":
            depth += 1
        if depth < 0:
            return None
    return None if depth else "".join(outside)
