#!/usr/bin/env bash
# Guess: a shopper's id is hashed by its digits: 1234567890123456789 as a whole number and as text are in one arm, and of 2,000 ids in a row
#   about half are in each.
# Happens: a whole number is a double first, as in JavaScript: ids above 2^53 (Snowflake ids, hashes of 64 bits) are rounded. A service that
#   has the id as a number, and a log or another service that has it as text, put 48 of 100 shoppers in different arms; and ids in a row are
#   in one arm by hundreds, so that who signs up within a minute is treated alike. The id 0 is in no experiment, "0" is. No warning.
# Source: growthbook 4.0.0, growthbook.core._hash_string ("the way JS String() does") and _is_hashable; hashVersion 1 and 2 alike. The page
#   says that an id is hashed. Ids as texts, str(id), in every service. Below 2^53 numbers and texts agree, 1.0 with "1" too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q growthbook==4.0.0
"$folder/venv/bin/python" - <<'PYTHON'
import random
from importlib.metadata import version
from itertools import groupby

from growthbook import Experiment, GrowthBook

print("growthbook", version("growthbook"))


def arm(shopper: object, hashing: int) -> str:
    experiment = Experiment(key="reranker", variations=["old", "new"], hashVersion=hashing)
    result = GrowthBook(attributes={"id": shopper}).run(experiment)
    return result.value if result.inExperiment else "none"


draw = random.Random(0)
for hashing in (1, 2):
    parted = {}
    for bits in (40, 53, 63):
        shoppers = [draw.getrandbits(bits) for _ in range(2_000)]
        parted[bits] = sum(arm(shopper, hashing) != arm(str(shopper), hashing) for shopper in shoppers)
    row = range(1234567890123456789, 1234567890123456789 + 2_000)
    runs = {
        kind.__name__: max(len(list(same)) for _, same in groupby(arm(kind(shopper), hashing) for shopper in row)) for kind in (int, str)
    }
    print(f"hashVersion {hashing}: of 2,000 ids other arms as number and as text, by bits: {parted}; longest run of one arm: {runs}")
    assert parted[40] == parted[53] == 0
    assert 900 < parted[63] < 1_100
    assert runs["int"] >= 256
    assert runs["str"] < 25
    print("   id 0:", arm(0, hashing), "| '0':", arm("0", hashing), "| 1.0, 1, '1':", arm(1.0, hashing), arm(1, hashing), arm("1", hashing))
    assert arm(0, hashing) == "none" != arm("0", hashing)
    assert arm(1.0, hashing) == arm(1, hashing) == arm("1", hashing)
PYTHON
