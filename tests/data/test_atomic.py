"""A file is there whole or not at all, also when two write it at once or the machine stops."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reshelf.data.atomic import atomic, atomic_folder, remove_partials, write_json
from reshelf.data.marketplace import MarketplaceConfig, simulate_folder
from reshelf.data.propensity.estimate import PropensityConfig, estimate
from reshelf.errors import InputError


def test_two_writers_do_not_write_into_each_others_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with atomic(path) as first:
        first.write_text("first")
        with atomic(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
        assert first.read_text() == "first"
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["report.json"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("before")

    def fails() -> None:
        with atomic(path) as partial:
            partial.write_text("half")
            raise ValueError("too bad")

    with pytest.raises(ValueError, match="too bad"):
        fails()
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_full_disk_is_said_with_what_was_to_be_written(tmp_path: Path) -> None:
    """Of a write, the system's error names no file."""
    for name, make in (("report.json", atomic), ("data", lambda path: atomic_folder(path, "import"))):
        with pytest.raises(OSError, match="No space left") as found, make(tmp_path / name):
            raise OSError(errno.ENOSPC, "No space left on device")
        assert found.value.filename == str(tmp_path / name)


def test_it_is_on_the_disk_before_it_has_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(os.readlink(f"/proc/self/fd/{fd}")), sync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    with atomic(tmp_path / "report.json") as partial:
        partial.write_text("whole")
    assert done == [str(partial), "replace", str(tmp_path)]
    (tmp_path / "plain").touch()
    assert (tmp_path / "report.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_is_on_the_disk_before_it_has_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(os.readlink(f"/proc/self/fd/{fd}")), sync(fd)))
    monkeypatch.setattr(Path, "rename", lambda one, other: (done.append("rename"), rename(one, other)))
    with atomic_folder(tmp_path / "data", "import") as partial:
        (partial / "signals").mkdir()
        for name in ("train.parquet", "signals/signals.json"):
            (partial / name).write_text("whole")
    written = {str(partial / name) for name in ("train.parquet", "signals", "signals/signals.json")}
    assert set(done[:3]) == written
    assert done[3:] == ["rename", str(tmp_path)]


def test_what_a_killed_writer_left_goes_and_a_living_writers_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    code = (
        "import os, signal, sys; from pathlib import Path; from reshelf.data.atomic import atomic\n"
        "with atomic(Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -9
    (left,) = tmp_path.iterdir()
    with atomic(path) as slow:
        slow.write_text("slow")
        for one in (left, slow):
            os.utime(one, (0, 0))
        write_json(path, "quick")
        assert not left.exists()
        assert slow.read_text() == "slow"
    assert path.read_text() == "slow"
    assert os.listdir(tmp_path) == ["report.json"]


def test_in_a_locked_folder_what_a_killed_writer_left_goes_at_once(tmp_path: Path) -> None:
    left = tmp_path / ".report.svg.0123456789ab.partial"
    left.touch()
    with atomic(tmp_path / "model.json") as living:
        remove_partials(tmp_path)
        assert not left.exists()
        assert living.exists()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose another output folder"), atomic(tmp_path / "file" / "x"):
        pass


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is a folder; name a file in it"):
        write_json(tmp_path, {})
    assert not list(tmp_path.parent.glob(f".{tmp_path.name}.*"))


def test_a_folder_is_there_whole_or_as_it_was(tmp_path: Path) -> None:
    out, left = tmp_path / "data", tmp_path / ".data.partial"
    left.mkdir()
    (left / "half").touch()  # of a killed call
    with atomic_folder(out, "data set") as partial:
        (partial / "first").touch()
        with pytest.raises(InputError, match="another data set is writing there"), atomic_folder(out, "data set"):
            pass
        assert not out.exists()
    assert os.listdir(out) == ["first"]

    def fails() -> None:
        with atomic_folder(out, "data set") as partial:
            (partial / "second").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert (os.listdir(out), os.listdir(tmp_path)) == (["first"], ["data"])
    (tmp_path / "link").symlink_to(out)
    with atomic_folder(tmp_path / "link", "data set") as partial:
        (partial / "third").touch()
    assert os.listdir(out) == ["third"]
    assert (tmp_path / "link").is_symlink()


def test_a_folder_that_is_mounted_is_written_to_itself(tmp_path: Path) -> None:
    """A mount of the same device too, as two volumes of a container may be."""
    out, source = tmp_path / "out", tmp_path / "source"
    out.mkdir()
    source.mkdir()
    code = (
        "import sys; from pathlib import Path; from reshelf.data.atomic import taking_over\n"
        "with taking_over(Path(sys.argv[1]), 'save') as folder: (folder / 'new').touch()"
    )
    inside = 'mount --bind "$1" "$2" || exit 77; exec "$3" -c "$4" "$2"'
    words = ["unshare", "-rm", "sh", "-c", inside, "-", str(source), str(out), sys.executable, code]
    done = subprocess.run(words, capture_output=True, text=True) if shutil.which("unshare") else None
    if done is None or done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("nobody but root may mount here")
    assert done.returncode == 0, done.stderr
    assert os.listdir(source) == ["new"]


def test_a_simulated_shop_replaces_a_data_set_and_nothing_else(tmp_path: Path) -> None:
    shop = MarketplaceConfig(tmp_path, items_per_category=6, train_lists=2, valid_lists=2, test_lists=2, candidates=4)
    (tmp_path / "signals").mkdir()  # of an import, and of other products
    (tmp_path / "report.json").write_text("{}")
    simulate_folder(shop)
    assert sorted(os.listdir(tmp_path)) == ["items.parquet", "test.parquet", "train.parquet", "valid.parquet"]
    for name in ("thesis.tex", "orders.parquet"):
        (tmp_path / name).touch()
        with pytest.raises(InputError, match=f"it holds '{name}', which is no part of a data set"):
            simulate_folder(shop)
        assert len(os.listdir(tmp_path)) == 5
        (tmp_path / name).unlink()


def test_a_place_has_at_least_one_click(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="least is 0; give a number of at least 1"):
        estimate(PropensityConfig(tmp_path, least=0))
