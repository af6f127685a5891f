"""Files and folders that are there whole or not at all.

with atomic(Path("runs/report.json")) as partial:
    partial.write_text("{}")
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import glob
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from reshelf.errors import InputError, is_full_disk

_YOUNG_S = 60.0
"""A younger file's writer may not have its lock yet; and a file system without locks shows when it was written last."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name to write to; it takes the place of `path` only when the block ends without an error.

    The name is of this call only, so that two writers do not write into each other's file; and what was written is on
    the disk before it gets its place, so that a machine that loses power has the file before or this one. What writers
    that were killed have left is removed.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; name a file in it")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        alive = os.open(partial, os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another output folder") from error
    try:
        with suppress(OSError):  # a file system without locks: then a killed writer's file stays
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with _named_where_full(path):
            yield partial
            _sync(partial)
        os.replace(partial, path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)
        os.close(alive)


@contextmanager
def _named_where_full(path: Path) -> Iterator[None]:
    """Of a full disk, whoever writes says that it is full, and seldom what it was to hold."""
    try:
        yield
    except Exception as error:
        if is_full_disk(error) and not getattr(error, "filename", None):
            error.filename = str(path)  # type: ignore[attr-defined]
        raise


def _sweep(path: Path) -> None:
    """Remove what killed writers of `path` have left; who is alive holds a lock on theirs."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????????.partial"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime >= _YOUNG_S:
                _remove_if_nobodys(left)


def remove_partials(folder: Path) -> None:
    """What killed writers of files have left in a folder whose lock the caller holds (`locked_folder`): nobody begins
    another file there meanwhile, so that none is too young."""
    for left in folder.glob(".*.????????????.partial"):
        with suppress(OSError):
            _remove_if_nobodys(left)


def _remove_if_nobodys(left: Path) -> None:
    """Raises OSError where its writer is alive."""
    descriptor = os.open(left, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        left.unlink()
    finally:
        os.close(descriptor)


def write_json(path: Path, values: Any) -> None:
    """A JSON file for people and programs, atomically.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    with atomic(path) as partial:
        partial.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def atomic_folder(folder: Path, job: str) -> Iterator[Path]:
    """A folder beside it to write to, which replaces it when the block ends without an error, once it is on the disk.

    What a killed call left is removed first; a call that is at work keeps others out.

    Raises:
        InputError: it cannot be written, or another `job` writes there.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"cannot write {folder}: it is a file; choose another output folder")
    folder = folder.resolve()  # of a link, what it leads to
    partial, old = _beside(folder)
    with work_folder(partial, job):
        try:
            with _named_where_full(folder):
                yield partial
                for written in partial.rglob("*"):
                    if not written.is_symlink():
                        _sync(written)
            replace_folder(partial, folder, old)
            _sync(folder.parent)
        finally:
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def taking_over(folder: Path, job: str, without: Collection[str] = ()) -> Iterator[Path]:
    """A folder to write to, which replaces `folder` when the block ends without an error; what else lies there comes
    along, as links to the same files, but for the names in `without`. A killed call leaves the one or the other.

    Where no folder can take its place, `folder` itself is what the block writes to.

    Raises:
        InputError: it cannot be written, or another `job` writes there.
    """
    folder = folder.resolve()
    finish_replacing(folder)
    try:
        check_replaceable(folder)
    except InputError:
        yield folder
        return
    with atomic_folder(folder, job) as partial:
        yield partial
        for one in folder.iterdir():
            if one.name not in without and not os.path.lexists(partial / one.name):
                _link(one, partial / one.name)


def _link(one: Path, other: Path) -> None:
    """Give a file, or those of a folder, a second name."""
    if one.is_dir() and not one.is_symlink():
        shutil.copytree(one, other, symlinks=True, copy_function=lambda *names: _link(*map(Path, names)))
        return
    try:
        os.link(one, other, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.EXDEV:  # a mount, whose files would be removed with the folder that is replaced
            raise InputError(
                f"cannot replace {one.parent}: {one} is on a mount of its own; unmount it first"
            ) from error
        shutil.copy2(one, other, follow_symlinks=False)  # a file system without links


def check_replaceable(folder: Path) -> None:
    """Find out before long work whether another folder can take the place of this one.

    Raises:
        InputError: it cannot.
    """
    folder = folder.resolve()
    if folder.is_dir() and _mount(folder) != _mount(folder.parent):
        raise InputError(f"{folder} is a mount, which no folder can take the place of; mount {folder.parent} instead")
    try:
        check_writable(folder.parent)
    except InputError as error:
        raise InputError(f"no folder can take the place of {folder}: {folder.parent} cannot be written to") from error


def _mount(folder: Path) -> str:
    """Which mount a folder is on; two may be of the same device, which `os.path.ismount` takes for one."""
    descriptor = os.open(folder, getattr(os, "O_PATH", os.O_RDONLY))
    try:
        facts = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii").splitlines()
        return next(fact for fact in facts if fact.startswith("mnt_id:"))
    except (OSError, StopIteration):  # not Linux
        return str(os.fstat(descriptor).st_dev)
    finally:
        os.close(descriptor)


def finish_replacing(folder: Path) -> None:
    """Put the former folder back where a call was killed in the moment without one, which file systems have that
    cannot exchange two names (`replace_folder`)."""
    folder = folder.resolve()
    partial, old = _beside(folder)
    if not folder.exists() and partial.is_dir() and old.is_dir():
        with suppress(FileNotFoundError):  # another process of this run has
            old.rename(folder)


def _beside(folder: Path) -> tuple[Path, Path]:
    """What is to take a folder's place, and what had it."""
    return folder.with_name(f".{folder.name}.partial"), folder.with_name(f".{folder.name}.old")


@contextmanager
def work_folder(folder: Path, job: str) -> Iterator[None]:
    """A folder of one call of `job`: emptied of what a killed one left, removed at the end if it is still there.

    Raises:
        InputError: it cannot be written to, or another `job` works there.
    """
    with locked_folder(folder, job):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        try:
            yield
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def replace_folder(partial: Path, target: Path, old: Path) -> None:
    """Give a finished folder its name; the folder that had it, where there was one, is `old` from then on.

    Where the system can exchange two names (Linux, on most file systems), one of both is `target` at every moment, also
    for who is killed meanwhile; elsewhere it is missing for no longer than a rename takes.
    """
    shutil.rmtree(old, ignore_errors=True)
    if not target.exists():
        partial.rename(target)
        return
    shutil.copymode(target, partial)
    partial.rename(old)
    if not _exchanged(old, target):
        old.rename(partial)
        target.rename(old)
        partial.rename(target)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether each of two folders now has the other's name: renameat2(2), which Python does not know."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError):  # not Linux
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def _sync(path: Path) -> None:
    """What was written to a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def as_readable_as_others(folder: Path) -> None:
    """Give weights the permissions of any other new file: safetensors lets nobody but their writer read them, and a
    service seldom runs as who finetuned."""
    umask = os.umask(0)
    os.umask(umask)
    for weights in folder.rglob("*.safetensors"):
        weights.chmod(0o666 & ~umask)


def check_writable(folder: Path) -> None:
    """Find out before long work whether files can be written to `folder`; leaves nothing behind.

    Raises:
        InputError: they cannot.
    """
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}; choose another output folder") from error


@contextmanager
def locked_folder(folder: Path, job: str) -> Iterator[None]:
    """Make a folder, and keep every other `job` out of it meanwhile; one that is still empty at the end goes again.

    Raises:
        InputError: it cannot be written to, or another one works there.
    """
    check_writable(folder)
    with no_empty_folder(folder):
        yield from _locked(folder, job)


def _locked(folder: Path, job: str) -> Iterator[None]:
    """`locked_folder` for a folder that can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}; choose another output folder") from error
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it however this process ends
        except BlockingIOError as error:
            raise InputError(f"{folder}: another {job} is writing there; wait for it to end") from error
        yield
    finally:
        os.close(lock)


def lock_beside(path: Path) -> TextIO:
    """Hold `.NAME.lock` beside a file until it is closed, for its user only; it stays, as removing it would let two in.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it cannot be made.
    """
    lock = os.fdopen(os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600), "r+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise
    return lock


@contextmanager
def not_if_refused(path: Path) -> Iterator[None]:
    """Remove a file that is made in the block, where bad input ends that before anything else is in the file's folder:
    once the input is mended, the same folder may be begun anew.

    Raises:
        InputError: that of the block.
    """
    was_there = path.exists()
    try:
        yield
    except InputError:
        if not was_there and [one.name for one in path.parent.iterdir()] == [path.name]:
            path.unlink()
        raise


@contextmanager
def no_empty_folder(folder: Path) -> Iterator[None]:
    """Remove a folder, and those above it, that were not there before and are empty after."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        yield
    finally:
        for one in missing:
            with suppress(OSError):
                one.rmdir()
