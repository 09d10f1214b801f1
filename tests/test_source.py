"""The program key: it changes with whatever a compiler could read, and with nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
from itertools import permutations
from pathlib import Path

import numpy as np
import pyopencl as cl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_cache import _headers, source
from mace_cache.errors import UncacheableError
from mace_cache.source import ProgramSource, describe

# Each names a header that a compiler would read, in a way that a hasty reader overlooks.
DIRECTIVES = {
    "plain": b'#include "plain.h"\n',
    "angle": b"#include <angle.h>\n",
    "trailing": b'#include "trailing.h" // comment\n',
    "before": b'/* comment */ #include "before.h"\n',
    "after": b'/* a comment\n over lines */#include "after.h"\n',
    "between": b"#/* 1 */include /* 2\n */ <between.h>\n",
    "continued": b'#inc\\\nlude \\\n"continued.h"\n',
    "crlf": b'#inc\\\r\nlude "crlf.h"\r\n',
    "trailing_blank": b'#inc\\ \t\nlude "trailing_blank.h"\n',
    "digraph": b'%:include "digraph.h"\n',
    "blanks": b' \t\v#\t include\f"blanks.h"\n',
    "no_blank": b'#include"no_blank.h"\n',
    "imported": b'#import "imported.h"\n',
    "quote": b'#if 0\ndon\'t /* "\n#endif\n// */ "\n#include "quote.h"\n',
    "asked": b'#if __has_include("asked.h")\n#include "asked.h"\n#else\n'
    b"#define V_asked 1\n#endif\n",
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty directory, and let no header of this machine be found."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(source, "_SYSTEM", ())
    for variable in ("CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH"):
        monkeypatch.delenv(variable, raising=False)


def write(directory: Path, **texts: str) -> Path:
    """Write headers, each named by its keyword with ``__`` for the slash."""
    for name, text in texts.items():
        path = directory / (name.replace("__", "/") + ".h")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def key(text: str | bytes, options: str = "") -> str:
    """Give a program's key."""
    return describe(text, options).key


def test_key_is_a_digest_of_components() -> None:
    """A program without headers is its source and its options."""
    described = describe("kernel", "-DA=1  -cl-mad-enable")
    assert len(bytes.fromhex(described.key)) == 32
    assert [name for name, _ in described.components] == ["source", "options"]
    assert described.components[1] == ("options", "-DA=1 -cl-mad-enable")
    assert not described.has_headers
    assert described == describe(b"kernel", "-DA=1 -cl-mad-enable")


def test_fields_do_not_run_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text that moves from one component to its neighbour changes the key, as does the format."""
    assert source._key([("ab", "c")]) != source._key([("a", "bc")])
    before = key("x")
    monkeypatch.setattr(source, "_FORMAT", "another")
    assert key("x") != before


@pytest.mark.parametrize("name", DIRECTIVES)
def test_header_is_found_behind(name: str, tmp_path: Path) -> None:
    """A header that appears, changes or goes changes the key, however its directive is written."""
    options = f"-I{tmp_path}"
    absent = key(DIRECTIVES[name], options)
    keys = [absent]
    for text in ("1", "2"):
        write(tmp_path, **{name: text})
        keys.append(key(DIRECTIVES[name], options))
    assert len(set(keys)) == 3
    (tmp_path / f"{name}.h").unlink()
    assert key(DIRECTIVES[name], options) == absent


@pytest.mark.parametrize("form", ["-I {}", "-I{}", '-I "{}"', '-I"{}"', '"-I{}"', "-DA -I {} -w"])
def test_include_options(form: str, tmp_path: Path) -> None:
    """Each way to write an include directory is understood."""
    name = "a directory" if '"' in form else "directory"
    options = form.format(write(tmp_path / name, h="1"))
    before = describe('#include "h.h"', options)
    write(tmp_path / name, h="2")
    assert key('#include "h.h"', options) != before.key
    assert str(tmp_path) not in str(before.components)


def test_working_directory_is_searched(tmp_path: Path) -> None:
    """Relative names and relative include directories start at the working directory."""
    write(tmp_path / "a", h="1", inc__i="1")
    text = '#include "h.h"\n#include <i.h>\n'
    found = describe(text, "-I inc", str(tmp_path / "a"))
    assert dict(found.components)["header h.h"].startswith("working directory ")
    assert dict(found.components)["header i.h"].startswith("-I 1 ")
    os.chdir(tmp_path / "a")
    assert describe(text, "-I inc") == found


def test_new_header_earlier_on_the_path(tmp_path: Path) -> None:
    """A header that newly shadows another changes the key, and so does one behind it."""
    early, late = tmp_path / "early", write(tmp_path / "late", h="1")
    options = f"-I {early} -I {late}"
    keys = {key('#include "h.h"', options)}
    write(early, h="1")
    keys.add(key('#include "h.h"', options))
    (late / "h.h").unlink()
    keys.add(key('#include "h.h"', options))
    assert len(keys) == 3


def test_nested_headers_are_found_beside_their_includer(tmp_path: Path) -> None:
    """An include of a header is looked for in that header's directory, and in its includer's."""
    write(tmp_path, a__b__one='#include "two.h"', a__b__two='#include "../three.h"', a__three="1")
    components = dict(describe('#include "a/b/one.h"', f"-I {tmp_path}").components)
    assert components["header two.h"].startswith("-I 1/a/b ")
    assert components["header ../three.h"].startswith("-I 1/a/b ")
    assert components["directory -I 1/a/b/.."] == "itself"


def test_which_directories_are_the_same_counts(tmp_path: Path) -> None:
    """A link that is turned round changes which neighbour a header includes, and the key."""
    write(tmp_path / "a", f='#include "g.h"', g="1")
    write(tmp_path / "b", f='#include "g.h"', g="2")
    (tmp_path / "link").symlink_to("a")
    options = f"-I {tmp_path / 'a'} -I {tmp_path / 'b'} -I {tmp_path}"
    before = key('#include "link/f.h"', options)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("b")
    assert key('#include "link/f.h"', options) != before


@pytest.mark.parametrize("variable", ["CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH"])
def test_environment_is_searched(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers that a compiler finds through the environment count."""
    absent = key("#include <h.h>")
    monkeypatch.setenv(variable, f":{write(tmp_path, h='1')}")
    assert key("#include <h.h>") != absent


def test_absent_include_stays_cacheable() -> None:
    """What is found nowhere may be in an inactive branch, and is noted as absent."""
    described = describe("#ifndef __OPENCL_VERSION__\n#include <stdint.h>\n#endif\n")
    assert described.has_headers
    assert ("header stdint.h", "absent") in described.components


def test_system_headers_may_compute_includes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A header for the host keeps a program cacheable, and counts with what it includes."""
    write(tmp_path, host='#include MACRO\n#include "nested.h"\n', nested="1")
    monkeypatch.setattr(source, "_SYSTEM", (os.fsencode(tmp_path),))
    before = key("#include <host.h>")
    write(tmp_path, nested="2")
    assert key("#include <host.h>") != before
    with pytest.raises(
        UncacheableError, match=r"host\.h has #include of a computed name in line 1"
    ):
        describe("#include <host.h>", f"-I {tmp_path}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n#include MACRO\n", "#include of a computed name in line 2"),
        ("a\\\nb\\\r\n\n%:include_next M(x)", "#include_next of a computed name in line 4"),
        ("#include\n", "computed"),
        ('#include "open\n', "computed"),
        ("#if __has_include(NAME)\n", "__has_include of a computed name"),
        ("#define HAS(x) __has_include(x)\n", "__has_include of a computed name"),
        ("#define HAS __has_include\n", "__has_include of a computed name"),
        ('#embed "data"\n', "#embed"),
        ('#include "a\\"b.h"\n', r"a\\"),
        ('#include "a??-b.h"\n', "a"),
        ('#include ""\n', "#include"),
        ('#include "a\0.h"\n', "#include"),
        ("int i;\nx = __DATE__;\n", "__DATE__ in line 2"),
        ("x = __TI\\\nME__;", "__TIME__ in line 1"),
        ("__TIMESTAMP__", "__TIMESTAMP__"),
        ('??=include "h.h"\n', r"\?\?="),
        ("// ??/\n", r"\?\?/"),
        ("#define P(a, b) a##b\nx = P(__DA, TE__);\n", "pasting its tokens can make __DATE__"),
        ('%:define P(a) __has_%:%:a\n#if P(include)("h.h")\n', "can make __has_include"),
        ("\ud800", "valid Unicode"),
    ],
)  # fmt: skip
def test_text_that_cannot_be_known(text: str, reason: str) -> None:
    """A text that depends on more than files makes the program uncacheable, and says where."""
    with pytest.raises(UncacheableError, match=reason):
        describe(text)


@pytest.mark.parametrize(
    "text",
    [
        "my__DATE__x = 1; __TIME__2 = IS__TIME__;",
        "// use #include MACRO here\n * #include-ing is fine\n",
        'x = "#include MACRO";',
        "#ifdef __has_include\n#endif\n#if defined(__has_include) || defined __has_include\n",
        "#define __has_include(x) 0\n",
        "#define NAME(a, b) a##_##b\nDATE TIME include",
        "a ? b ?? c : d",
        "#included MACRO\n# 1 include\n#define include x\n",
    ],
)
def test_text_that_only_looks_unknowable(text: str) -> None:
    """Words inside other words, prose and harmless idioms don't make a program uncacheable."""
    assert not describe(text).has_headers


@pytest.mark.parametrize(
    "option",
    ["-include h.h", "-imacros h.h", "-isystem d", "-isystemd", "-iquote d", "-idirafter d",
     "-I-", "-I", "-I=d", "@file", "-Xclang -load", "-mllvm x", "--sysroot=d", "-fplugin=x",
     "-Wp,-include", "-fprofile-use=p", "-working-directory=d", "-D", "-D -w", "h.h",
     "-Ia\\ b", "-DA='b'", '-DA="', '-DA="x -Iy"', "-w\t-DA", "-DA\0"],
)  # fmt: skip
def test_option_that_cannot_be_known(option: str) -> None:
    """An option that may read files, or that drivers split differently, makes it uncacheable."""
    with pytest.raises(UncacheableError):
        describe("kernel", option)


def test_usual_options_are_known() -> None:
    """What OpenCL, Clang and drivers take every day is cacheable, and each option counts."""
    options = (
        "-DA -D B=1 -U C -w -Werror -Wno-unused -O2 -cl-std=CL3.0 -cl-nv-maxrregcount=24 -g0 "
        '-cl-fast-relaxed-math -x clc -fno-fast-math -march=gfx90a -create-library -DS="x y"'
    )
    assert describe("kernel", options).components[1] == ("options", options)


@given(st.permutations(["-DA=1", "-DB=2", "-UA", "-I x", "-I y", "-w"]))
def test_order_of_options_counts(options: list[str]) -> None:
    """Two orders of the same options are two programs, unless only directories are exchanged."""
    ordered = ["-DA=1", "-DB=2", "-UA", "-I x", "-I y", "-w"]
    same = [option[:2] if option.startswith("-I") else option for option in options] == [
        option[:2] if option.startswith("-I") else option for option in ordered
    ]
    assert (key("kernel", " ".join(options)) == key("kernel", " ".join(ordered))) == same


def test_order_of_include_directories_counts(tmp_path: Path) -> None:
    """Exchanged include directories change the key where their headers differ."""
    paths = [f"-I {write(tmp_path / name, h=name)}" for name in ("a", "b", "c")]
    assert len({key('#include "h.h"', " ".join(order)) for order in permutations(paths)}) == 6


@pytest.mark.parametrize(
    ("text", "options", "moves"),
    [
        ("", "", True),
        ("my__FILE__x", "", True),
        ("x = __FILE__;", "", False),
        ("x = __BASE_FILE__ + __builtin_FILE();", "", False),
        ("#define P(a, b) a##b\nx = P(__FI, LE__);", "", False),
        ("", "-DHERE=__FILE__", False),
        ("", "-g", False),
    ],
)
def test_key_is_shared_between_places(
    text: str, options: str, *, moves: bool, tmp_path: Path
) -> None:
    """The same tree elsewhere has the same key, unless the program may see its own path."""
    write(tmp_path / "one", a='#include "sub/b.h"\n#include "c.h"', sub__b=text, sub__c="1")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one, two = (
        describe('#include "a.h"\n', f"{options} -I {place}", str(place))
        for place in (tmp_path / "one", tmp_path / "two")
    )
    assert (one.key == two.key) == moves
    assert (str(tmp_path) not in str(one.components)) == moves


@settings(deadline=None)
@given(st.data())
def test_every_reached_byte_counts(data: st.DataObject) -> None:
    """Any byte changed in any file that is reached changes the key or makes it uncacheable."""
    files = {
        "a.h": b'#pragma once\n#include "sub/b.h" // b\n',
        "sub/b.h": b'#include "c.h"\nint b;\n',
        "sub/c.h": b'#include "../a.h"\n\xff\n',
    }
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "sub").mkdir()
        for name, content in files.items():
            (Path(directory) / name).write_bytes(content)
        before = describe('#include "a.h"', f"-I {directory}")
        name = data.draw(st.sampled_from(sorted(files)))
        changed = bytearray(files[name])
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
        (Path(directory) / name).write_bytes(changed)
        try:
            after: ProgramSource | None = describe('#include "a.h"', f"-I {directory}")
        except UncacheableError:
            after = None
        assert after is None or (after.key != before.key and after.components != before.components)


PIECES = [
    *b"# % : include include_next import embed __has_include defined ( ) < > /* */ // ?? /".split(),
    *b"= ## __ FI LE__ DATE __DATE__ h.h . .. M \" \\ ' \xa0 \xff".split(),
    *(b" ", b"\n", b"\r", b"\r\n", b"\0", b"\t", b"\\\n"),
]


def has_key_or_reason(text: bytes | str, options: str) -> bool:
    """Describe a program; any error but the one that is announced gets out."""
    try:
        return len(describe(text, options).key) == 64
    except UncacheableError as error:
        return bool(error.reason)


@settings(deadline=None, max_examples=300)
@given(
    st.binary() | st.lists(st.sampled_from(PIECES)).map(b"".join),
    st.sampled_from(["", "-I . -I /dev"]),
)
def test_any_bytes_give_a_key_or_a_reason(text: bytes, options: str) -> None:
    """Whatever the source is, the answer is a key or the reason that there is none."""
    assert has_key_or_reason(text, options)


@settings(deadline=None)
@given(st.text())
def test_any_options_give_a_key_or_a_reason(options: str) -> None:
    """Whatever the options are, the answer is a key or the reason that there is none."""
    assert has_key_or_reason('#include "h.h"', options)


def test_include_cycles_end(tmp_path: Path) -> None:
    """Headers that include each other, by ever longer paths, are each read once."""
    write(tmp_path, a__x='#include "../b/y.h"\n#include "x.h"', b__y='#include "../a/x.h"')
    described = describe('#include "a/x.h"', f"-I {tmp_path}")
    assert len(described.components) < 16


@pytest.mark.parametrize(("limit", "reason"), [("FILES", "headers"), ("BYTES", "bytes")])
def test_limits(limit: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More headers or bytes than the limit make the program uncacheable; as many don't."""
    write(tmp_path, a='#include "b.h"', b="12345", c="1")
    text = '#include "a.h"\n'
    monkeypatch.setattr(_headers, f"_MAX_{limit}", {"FILES": 2, "BYTES": 19}[limit])
    assert describe(text, f"-I {tmp_path}").has_headers
    with pytest.raises(UncacheableError, match=reason):
        describe(text + '#include "c.h"', f"-I {tmp_path}")


def test_limit_of_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names without number don't keep the search busy without end."""
    monkeypatch.setattr(_headers, "_MAX_LOOKUPS", 10)
    with pytest.raises(UncacheableError, match="more than 10 lookups"):
        describe("".join(f'#include "{n}"\n' for n in range(11)))


@pytest.mark.parametrize("name", ["directory", "x" * 300, "file/h.h", "loop"])
def test_what_no_compiler_can_open_is_absent(name: str, tmp_path: Path) -> None:
    """A directory, or a name that leads nowhere, is passed over as a compiler does."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    described = describe(f'#include "{name}"', f"-I {tmp_path}")
    assert (f"header {name}", "absent") in described.components


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """A pipe without a writer doesn't block; what it or a device holds can't be known."""
    os.mkfifo(tmp_path / "pipe.h")
    for name in (tmp_path / "pipe.h", "/dev/null"):
        with pytest.raises(UncacheableError, match="isn't a regular file"):
            describe(f'#include "{name}"')
    with pytest.raises(UncacheableError, match="isn't a regular file"):
        _headers._content(os.fsencode(tmp_path / "pipe.h"), 10)
    assert _headers._regular_content(os.fsencode(tmp_path / "pipe.h"), 10) is None


def test_unreadable_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header that exists but can't be read makes the program uncacheable, by name."""

    def refuse(path: bytes, flags: int) -> int:
        raise PermissionError(13, "Permission denied", os.fsdecode(path), flags)

    write(tmp_path, h="1")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UncacheableError, match=r"h\.h can't be read .*Permission denied"):
        describe('#include "h.h"', f"-I {tmp_path}")


def test_names_and_paths_that_are_not_utf8(tmp_path: Path) -> None:
    """Directories and headers may be named by any bytes."""
    directory = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(directory)
    options = f"-I {os.fsdecode(directory)}"
    keys = set()
    for content in (b"1", b"2"):
        Path(os.fsdecode(directory + b"/\xfe.h")).write_bytes(content)
        described = describe(b'#include "\xfe.h"\n__FILE__', options)
        assert b"\\xff" in str(described.components).encode()
        keys.add(described.key)
    assert len(keys) == 2


def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    """Where relative names can't be looked for, nothing is claimed about them."""
    os.chdir(write(tmp_path / "gone", h="1"))
    shutil.rmtree(tmp_path / "gone")
    with pytest.raises(UncacheableError, match="the working directory is gone"):
        describe('#include "h.h"')
    assert not describe("kernel").has_headers


def value(name: str, number: int) -> str:
    """Give the text of a header that defines a number."""
    return f"#define V_{name.rpartition('__')[2]} {number}\n"


def compiled(queue: cl.CommandQueue, text: bytes, options: list[str]) -> list[int]:
    """Give the numbers that a program, built from source, writes."""
    program = cl.Program(queue.context, text.decode()).build(options)
    result = np.zeros(32, np.int32)
    out = cl.Buffer(queue.context, cl.mem_flags.WRITE_ONLY, result.nbytes)
    program.write(queue, (1,), None, out)
    cl.enqueue_copy(queue, result, out)
    return [int(number) for number in result]


@pytest.mark.filterwarnings("ignore::pyopencl.CompilerWarning")
def test_key_changes_with_whatever_a_compiler_sees(queue: cl.CommandQueue, tmp_path: Path) -> None:
    """A compiler sees the change of each header behind each directive, and so does the key."""
    late, early = tmp_path / "late", tmp_path / "early"
    names = [*DIRECTIVES, "shadowed", "here", "sub__inner"]
    places = dict.fromkeys(names, late) | {"shadowed": early, "here": Path.cwd()}
    write(late, shadowed=value("shadowed", 1), sub__outer='#include "inner.h"')
    write(Path.cwd(), here=value("here", 1))
    write(late, **{name: value(name, 1) for name in names if name not in {"asked", "here"}})
    stores = "".join(f"out[{n}] = V_{x.rpartition('__')[2]};" for n, x in enumerate(names))
    text = b"".join(
        [
            *DIRECTIVES.values(),
            b'#include "shadowed.h"\n#include "here.h"\n#include <sub/outer.h>\n',
            b"__kernel void write(__global int *out) {" + stores.encode() + b"}",
        ]
    )
    options = [f"-I{early}", f"-I{late}"]
    assert compiled(queue, text, options)[: len(names)] == [1] * len(names)
    keys = {key(text, " ".join(options))}
    for name in names:
        write(places[name], **{name: value(name, 2)})
        keys.add(key(text, " ".join(options)))
    assert len(keys) == len(names) + 1
    assert compiled(queue, text, options)[: len(names)] == [2] * len(names)
