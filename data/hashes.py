"""SHA-256 of files and folders: what says that something is not what it was.

if file_sha256(path) != recorded: ...
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(folder: Path, *parts: str) -> str:
    """SHA-256 of the names and contents of all files of a folder, or of its files and folders `parts` alone."""
    whole = hashlib.sha256()
    found = [folder / part for part in parts] or [folder]
    for path in sorted(one for top in found for one in (top, *top.rglob("*")) if one.is_file()):
        whole.update(str(path.relative_to(folder)).encode() + bytes.fromhex(file_sha256(path)))
    return whole.hexdigest()
