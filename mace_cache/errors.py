"""Every error that the library raises, in one tree.

MaceCacheError
├── ConfigurationError (ValueError)      a setting that can't be used
│   └── UnknownSchemeError               a storage URL of an unknown scheme
├── DamagedFileError (ValueError)        bytes that aren't a valid MCLP file
│   └── UnknownVersionError              an MCLP file of a major version that isn't known here
├── MaceFileError (ValueError)           bytes that aren't a file as MACE writes it
├── ManifestError (ValueError)           a kernel manifest that can't be used
├── ShapeError (ValueError)              an operator was given arrays that don't fit together
├── StorageReadOnlyError (OSError)       a write to a storage that only reads
├── SignatureError                       a file that no trusted key has signed
├── FingerprintError                     a device that can't be identified
├── UncacheableError                     a program whose key can't be known
├── ForkedError                          a build that a forked child's parent had not finished
└── BinaryRejectedError                  a driver refused a binary

``ProgramCache.build`` lets none of these reach its caller: each ends in a build from source. Only
the futures of ``ProgramCache.build_async`` raise one, in a forked child.
"""

from __future__ import annotations

import errno

__all__ = [
    "BinaryRejectedError",
    "ConfigurationError",
    "DamagedFileError",
    "FingerprintError",
    "ForkedError",
    "MaceCacheError",
    "MaceFileError",
    "ManifestError",
    "ShapeError",
    "SignatureError",
    "StorageReadOnlyError",
    "UncacheableError",
    "UnknownSchemeError",
    "UnknownVersionError",
]


class MaceCacheError(Exception):
    """The root of the tree: ``except MaceCacheError`` catches all that the library raises."""


class ConfigurationError(MaceCacheError, ValueError):
    """A setting that can't be used.

    Attributes:
        setting: the argument or environment variable at fault.
        value: what it was set to.
    """

    def __init__(self, setting: str, value: object, expected: str) -> None:
        super().__init__(f"{setting}={value!r} can't be used: expected {expected}")
        self.setting = setting
        self.value = value


class UnknownSchemeError(ConfigurationError):
    """A storage URL whose scheme no storage answers to.

    Attributes:
        scheme: the scheme that was asked for.
        known: the schemes that there are.
    """

    def __init__(self, url: str, scheme: str, known: tuple[str, ...]) -> None:
        super().__init__("url", url, "one of the schemes " + ", ".join(f"{s}:" for s in known))
        self.scheme = scheme
        self.known = known


class DamagedFileError(MaceCacheError, ValueError):
    """Bytes that aren't a valid MCLP file.

    Attributes:
        reason: what is wrong.
        offset: the byte at which it was found, or None where the whole is at fault.
        path: the file, or None for bytes in memory.
    """

    def __init__(self, reason: str, offset: int | None = None, path: str | None = None) -> None:
        where = "" if offset is None else f" at offset {offset:#x}"
        super().__init__(f"{path or 'these bytes'}: not a valid MCLP file: {reason}{where}")
        self.reason = reason
        self.offset = offset
        self.path = path


class UnknownVersionError(DamagedFileError):
    """An MCLP file of a major version that isn't known here: a miss, for a newer release wrote it.

    Attributes:
        version: the file's version field, ``major << 16 | minor``.
    """

    def __init__(self, version: int, offset: int, path: str | None = None) -> None:
        reason = f"version {version >> 16}.{version & 0xFFFF} isn't known to this release"
        super().__init__(reason, offset, path)
        self.version = version


class MaceFileError(MaceCacheError, ValueError):
    """Bytes that aren't a file of compiled programs as MACE writes it.

    Attributes:
        reason: what is wrong.
        offset: the byte at which it was found.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(f"not a valid file of MACE's: {reason} at offset {offset:#x}")
        self.reason = reason
        self.offset = offset


class ManifestError(MaceCacheError, ValueError):
    """A kernel manifest that can't be used.

    Attributes:
        path: the manifest.
        reason: what is wrong with it, and where.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class ShapeError(MaceCacheError, ValueError):
    """An operator was given arrays that don't fit together.

    Attributes:
        operator: the operator's name.
        expected: what it takes.
        given: the shapes (or types) that it got.
    """

    def __init__(self, operator: str, expected: str, given: object) -> None:
        super().__init__(f"{operator}: expected {expected}, given {given}")
        self.operator = operator
        self.expected = expected
        self.given = given


class StorageReadOnlyError(MaceCacheError, OSError):
    """A write to a storage that only reads.

    Attributes:
        storage: the storage, as text.
    """

    def __init__(self, storage: str) -> None:
        super().__init__(errno.EROFS, f"{storage} is read-only: nothing was written")
        self.storage = storage


class SignatureError(MaceCacheError):
    """A file that no trusted key has signed, so that it counts as if it weren't there.

    Attributes:
        tier: where the file is from.
        reason: what is wrong with its signature, with the keys at fault.
    """

    def __init__(self, tier: str, reason: str) -> None:
        super().__init__(f"{tier}: {reason}")
        self.tier = tier
        self.reason = reason


class FingerprintError(MaceCacheError):
    """A device that can't be identified, so that nothing is cached for it.

    Attributes:
        query: the device or platform query that failed.
        reason: what the driver answered.
    """

    def __init__(self, query: str, reason: str) -> None:
        super().__init__(f"the device doesn't answer {query} ({reason}): nothing is cached for it")
        self.query = query
        self.reason = reason


class UncacheableError(MaceCacheError):
    """A program whose key can't be known, so that it is built from source every time.

    Attributes:
        reason: what can't be known, and where.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"this program can't be cached: {reason}")
        self.reason = reason


class ForkedError(MaceCacheError):
    """A build in the background that was not finished when this process was forked.

    Its thread is the parent's, where the future has the result; a child has to build for itself.
    """

    def __init__(self) -> None:
        super().__init__(
            "this program was still being built when the process was forked, in a thread that the "
            "child doesn't have: build it here, with a driver that was opened here"
        )


class BinaryRejectedError(MaceCacheError):
    """A driver refused a binary.

    Attributes:
        status: the name of the status code, such as ``INVALID_BINARY``.
        routine: the OpenCL call that answered with it.
    """

    def __init__(self, status: str, routine: str) -> None:
        super().__init__(f"the driver rejected the binary: {routine} answered {status}")
        self.status = status
        self.routine = routine
