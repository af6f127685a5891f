#!/usr/bin/env bash
# Guess: a field of type str in a structured config keeps what is given for it: item_id=0001234567 is the text 0001234567, on the command line
#   as in a YAML file.
# Happens: the value is read as YAML 1.1 first, whatever the field's type, and the number is then written as text. An id of digits 0 to 7 with
#   zeros in front is octal: 0001234567 becomes '342391', while its neighbour 0001234568 stays. 1_000 is '1000', 12:30 is '750',
#   1E5 is '100000.0', no is 'False'. A valid text each time, under a type that was meant to keep it. Quotes inside quotes keep it.
# Source: omegaconf 2.4.0, OmegaConf.from_dotlist, from_cli, create, load; StringNode (str of the value). "item_id='0001234567'" for a shell.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q omegaconf==2.4.0
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import warnings
from dataclasses import dataclass

from omegaconf import OmegaConf

warnings.simplefilter("error")
print("omegaconf", importlib.metadata.version("omegaconf"))


@dataclass
class Wanted:
    item_id: str = ""


found = {}
for given in ("0001234567", "0001234568", "1_000", "12:30", "1E5", "no", "'0001234567'"):
    shell = OmegaConf.merge(OmegaConf.structured(Wanted), OmegaConf.from_dotlist([f"item_id={given}"])).item_id
    file = OmegaConf.merge(OmegaConf.structured(Wanted), OmegaConf.create(f"item_id: {given}\n")).item_id
    assert shell == file and isinstance(file, str)
    found[given] = file
    print(f"item_id={given:13} is {file!r}")
assert found == {
    "0001234567": "342391", "0001234568": "0001234568", "1_000": "1000", "12:30": "750", "1E5": found["1E5"], "no": "False",
    "'0001234567'": "0001234567",
}  # fmt: skip
PYTHON
