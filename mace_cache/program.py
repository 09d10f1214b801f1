"""A compiled program: the value that every storage keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CompiledProgram", "is_key"]

_KEY_DIGITS = 64


def is_key(text: str) -> bool:
    """Whether a text has the form of a program key: 64 lower-case hexadecimal digits."""
    return len(text) == _KEY_DIGITS and not text.strip("0123456789abcdef")


@dataclass(frozen=True, repr=False)
class CompiledProgram:
    """One program's binary for one device fingerprint, with what is known of it.

    Attributes:
        key: the program key, 64 lower-case hexadecimal digits (``source.py``).
        fingerprint: the text of the device fingerprint it was built for (``fingerprint.py``).
        binary: what ``clCreateProgramWithBinary`` takes (OpenCL specification, 5.8.1); a view into
            the file's bytes where it was just read from one.
        kernel_names: the program's kernels, in the driver's order.
        options: the build options as the driver got them.
        build_log: what the compiler said when the program was built from source.
        build_seconds: how long the build from source took, in seconds.
        components: what the key is made of, as pairs of name and digest or text, so that a miss can
            be explained.
        created: when it was built, in seconds since 1970.
        final: whether it is known that finalising the binary doesn't do: it stays as it is.
        tuned: of a record of tuned local sizes (``tuning.py``) its rows: kernel, shape and local
            size. Such a record has no binary and is no program: no driver is given it.
        proven: whether a driver has loaded this very binary on this fingerprint, and the process
            lived: storages say so of what they find (``guard.py``), and no file holds it.
        signer: of what came from elsewhere signed, the identifier of the key that was trusted then,
            in hexadecimal digits; nothing where it was built here, or no signature was asked for.
    """

    key: str
    fingerprint: str
    binary: bytes | memoryview
    kernel_names: tuple[str, ...] = ()
    options: str = ""
    build_log: str = ""
    build_seconds: float = 0.0
    components: tuple[tuple[str, str], ...] = ()
    created: float = 0.0
    final: bool = False
    tuned: tuple[tuple[str, str, int], ...] = ()
    proven: bool = field(default=False, compare=False)
    signer: str = field(default="", compare=False)

    def __repr__(self) -> str:
        """Name it, without its binary."""
        return f"<CompiledProgram {self.key}: {len(self.binary)} bytes>"

    def count_as_proven(self) -> None:
        """Say that it is proven: for the storage that has just read it."""
        object.__setattr__(self, "proven", True)  # a copy would cost every warm build 3 us
