"""What is an id on the Hugging Face Hub, and whether it can be had, in seconds: its libraries try again for a minute.

problem = hub_problem("Qwen/Qwen3-0.6B", "config.json")     # None where it can
"""

from __future__ import annotations

import re
from pathlib import Path
from threading import Thread

_SECONDS = 5.0
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)?")


def is_hub_id(name: str) -> bool:
    """Whether it can be one, `owner/name` or `name`; where the first part is a folder here, a folder was meant."""
    first, _, rest = name.partition("/")
    return bool(_ID.fullmatch(name)) and not (rest and (first == "runs" or Path(first).is_dir()))


def hub_problem(name: str, file: str, revision: str | None = None) -> str | None:
    """Why a model's file cannot be had, in a few words; None where it is in the cache, or where the Hub answers for it
    in any other way than that there is no such model."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    if isinstance(try_to_load_from_cache(name, file, revision=revision), str):
        return None
    problems: list[str | None] = []

    def ask() -> None:
        try:
            get_hf_file_metadata(hf_hub_url(name, file, revision=revision), timeout=_SECONDS)
            problems.append(None)
        except RepositoryNotFoundError:
            problems.append("it has no model of that name that you may read")
        except HfHubHTTPError:
            problems.append(None)  # loading it says more
        except OfflineModeIsEnabled:
            problems.append("HF_HUB_OFFLINE is set, and it is not in the cache")
        except Exception as error:  # of whichever HTTP library this release of the Hub's has
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            problems.append(f"it cannot be reached ({reason})")

    # Looking up a name cannot be interrupted, and every address of it is tried in turn.
    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_SECONDS)
    return problems[0] if problems else f"it did not answer within {_SECONDS:.0f} s"
