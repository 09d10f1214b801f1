"""Signatures of MCLP files: what follows a file's digest, as ``docs/format.md`` lays it out.

A signature covers the index digest, and so everything that a file says: its fingerprints and keys,
and through the section digests each program's metadata, binary and kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mace_cache.container import LARGEST_FILE, Bundle
from mace_cache.container.structures import (
    DIGEST_SIZE,
    HEADER,
    INDEX_DIGEST_OFFSET,
    SIGNATURE_HEAD,
    SIGNATURE_MAGIC,
    digest_of,
)
from mace_cache.errors import SignatureError

if TYPE_CHECKING:
    from mace_cache._signing_keys import Key, TrustedKeys
    from mace_cache.config import Settings
    from mace_cache.program import CompiledProgram

__all__ = [
    "Signature",
    "Verifier",
    "check_signature",
    "check_signer",
    "sign",
    "signature_of",
    "signer_of",
    "verifier_of",
]

_ALGORITHMS = {1: "Ed25519", 2: "HMAC-SHA256"}
_SIZES = {1: 64, 2: 32}  # bytes of a signature by these
_CONTEXT = b"MCLP signature 1"  # so that no key signs this for another purpose


class Signature(NamedTuple):
    """What a signature says of itself, which nobody has verified.

    Attributes:
        algorithm: the number of its algorithm.
        identifier: the 16 bytes that name its key.
        value: the rest.
        head: the bytes that are signed as well.
    """

    algorithm: int
    identifier: bytes
    value: bytes
    head: bytes

    def __str__(self) -> str:
        """Name algorithm and key."""
        algorithm = _ALGORITHMS.get(self.algorithm, f"algorithm {self.algorithm}")
        return f"{algorithm}, key {self.identifier.hex()}"


def signature_of(bundle: Bundle) -> Signature | None:
    """Give a file's signature; None where what follows its digest has not the form of one."""
    whole = bundle.signature
    if len(whole) < SIGNATURE_HEAD.size:
        return None
    magic, algorithm, identifier = SIGNATURE_HEAD.unpack_from(whole)
    head, value = whole[: SIGNATURE_HEAD.size], whole[SIGNATURE_HEAD.size :]
    if magic != SIGNATURE_MAGIC or len(value) != _SIZES.get(algorithm):
        return None
    return Signature(algorithm, identifier, value, head)


def sign(data: bytes | memoryview, key: Key) -> bytes:
    """Sign an MCLP file; a signature that it has already is replaced.

    Args:
        data: the whole file, an entry or a bundle.
        key: a private key or a shared secret.

    Returns:
        The signed file: the same bytes for the same file and key.

    Raises:
        DamagedFileError: *data* is no valid MCLP file.
        SignatureError: the key only verifies, or *cryptography*, which Ed25519 needs, isn't there.
        ValueError: the signed file would be larger than 4 GiB - 1.
    """
    bundle = Bundle(data)
    bundle.verify()
    old, size = bundle.header, SIGNATURE_HEAD.size + _SIZES[key.algorithm]
    total = old.digest_offset + DIGEST_SIZE + size
    if total > LARGEST_FILE:
        raise ValueError(f"{total} bytes don't fit into an MCLP file of 4 GiB - 1")
    view = memoryview(data).cast("B")
    header = HEADER.pack(*old._replace(total_size=total, signature_size=size))
    fixed, index = header[:INDEX_DIGEST_OFFSET], view[HEADER.size : old.sections_offset]
    index_digest = digest_of([fixed, index])
    parts: list[bytes | memoryview] = [
        fixed,
        index_digest,
        view[HEADER.size : old.digest_offset],
    ]
    head = SIGNATURE_HEAD.pack(SIGNATURE_MAGIC, key.algorithm, key.identifier)
    signature = key.sign(_message(head, index_digest))
    return b"".join([*parts, digest_of(parts), head, signature])


def check_signature(
    bundle: Bundle, trusted: TrustedKeys | None, tier: str, *, allow_unsigned: bool = False
) -> None:
    """Refuse a file that no trusted key has signed.

    Args:
        bundle: the file, open.
        trusted: the keys that are believed; None where no signature is asked for.
        tier: where the file is from, for the error.
        allow_unsigned: whether a file without a signature is taken as well.

    Raises:
        SignatureError: it isn't signed, or not by a trusted key, or not as it is now.
    """
    if trusted is None or (allow_unsigned and not bundle.signature):
        return
    if problem := _problem(bundle, trusted):
        raise SignatureError(tier, f"{_content(bundle)} {problem}")


def signer_of(bundle: Bundle) -> str:
    """Name the key of a signature that has been verified; nothing where there is none."""
    signature = signature_of(bundle)
    return "" if signature is None else signature.identifier.hex()


def check_signer(program: CompiledProgram, trusted: TrustedKeys | None, tier: str) -> None:
    """Refuse a program that came from elsewhere, if its signer isn't trusted any more.

    Args:
        program: a program that is kept here.
        trusted: the keys that are believed; None where no signature is asked for.
        tier: where it is kept, for the error.

    Raises:
        SignatureError: its signature was a key's that isn't among them.
    """
    if not program.signer or trusted is None:
        return
    if program.signer not in {key.identifier.hex() for key in trusted.keys}:
        problem = f"came signed by the key {program.signer}, which isn't trusted any more"
        raise SignatureError(tier, f"the program {program.key[:12]}... {problem}")


class Verifier(NamedTuple):
    """Verifies whole files as they come from a remote, before anything of them is decoded.

    Attributes:
        trusted: the keys that are believed.
        allow_unsigned: whether a file without a signature is taken as well.
    """

    trusted: TrustedKeys
    allow_unsigned: bool = False

    def verify(self, payload: bytes, tier: str) -> bytes:
        """Give a file back, if a trusted key has signed it.

        Whether it is the program that was asked for is still to be looked at: the signature shows
        that the key and the fingerprint in the file are the signer's words.

        Args:
            payload: the whole file, any bytes whatever.
            tier: the remote, as a person would name it, for the error.

        Raises:
            SignatureError: no trusted key has signed it.
            DamagedFileError: it is no MCLP file.
        """
        bundle = Bundle(payload, tier)
        check_signature(bundle, self.trusted, tier, allow_unsigned=self.allow_unsigned)
        return payload


def verifier_of(settings: Settings) -> Verifier | None:
    """Give what verifies what comes from elsewhere, or None where no key is configured."""
    trusted = settings.trusted_keys
    return None if trusted is None else Verifier(trusted, settings.allow_unsigned)


def _message(head: bytes, index_digest: bytes) -> bytes:
    return _CONTEXT + head + index_digest


def _problem(bundle: Bundle, trusted: TrustedKeys) -> str:
    """Say what is wrong with a signature, or nothing."""
    signature = signature_of(bundle)
    if signature is None:
        size = len(bundle.signature)
        return f"has {size} bytes that are no signature" if size else "isn't signed"
    name = signature.identifier.hex()
    key = trusted.find(signature.identifier)
    if key is None:
        return f"is signed by the key {name}, which isn't trusted"
    message = _message(signature.head, bundle.header.index_digest)
    # The algorithm is the key's, never the file's: else a public key could serve as a secret.
    if key.algorithm == signature.algorithm and key.verifies(message, signature.value):
        return ""
    return f"has a wrong signature of the key {name}"


def _content(bundle: Bundle) -> str:
    if bundle.header.section_count != 1:
        return f"a bundle of {bundle.header.section_count} programs"
    ((_fingerprint, key),) = bundle.keys()
    return f"the program {key[:12]}..."
