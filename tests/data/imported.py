"""An import of a mapping that tests write in Python, and its report."""

from __future__ import annotations

import tempfile
from pathlib import Path

from reshelf.data.dataset_folder import RankingData, load_dataset_folder
from reshelf.data.importing.import_report import ImportReport
from reshelf.data.importing.importer import ImportConfig, write_folder
from reshelf.data.importing.mapping import Mapping


def imported(mapping: Mapping, root: Path, report: ImportReport, seed: int = 0) -> RankingData:
    """What the importer makes of the tables below `root`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_folder(mapping, root, folder, report, ImportConfig(mapping="-", seed=seed, quiet=True))
        return load_dataset_folder(folder)
