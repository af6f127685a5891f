"""What a shop tries out on its shoppers: arms by shopper (A/B), two arms interleaved in every list, or a shadow.

    experiment = Experiment.model_validate({
        "name": "autumn", "arms": [{"name": "now"}, {"name": "new", "model": "runs/new/model"}]
    })
    experiment.arm_of("u1").name         # the same for the same shopper on every server

A shopper's arm is a hash of the experiment's name and the shopper's id. Another name is another split, independent of
every split before it.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reshelf.data.dataset_folder import problem_of
from reshelf.errors import InputError
from reshelf.yaml_loader import UniqueKeyLoader

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Arm(BaseModel):
    """One way of ordering lists."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    name: Name
    model: str = ""
    """Reranker folder; empty for the tenant's own."""
    personalization: Annotated[float, Field(ge=0, le=1)] | None = None
    """How much of the order is the model's, whatever a request says; 0 is first-stage order. None for what holds
    without the experiment."""
    share: Annotated[float, Field(gt=0, lt=float("inf"))] = 1.0
    """Shoppers in it, relative to the other arms'."""


class Experiment(BaseModel):
    """Arms, or a shadow, or both.

    Examples:
        >>> experiment = Experiment(name="weights", arms=[Arm(name="all"), Arm(name="half", personalization=0.5)])
        >>> arms = [experiment.arm_of(f"u{n}").name for n in range(1000)]
        >>> 450 < arms.count("all") < 550, arms == [experiment.arm_of(f"u{n}").name for n in range(1000)]
        (True, True)
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    name: Name
    arms: Annotated[list[Arm], Field(max_length=10)] = []
    """The first is what the others are compared with."""
    interleave: bool = False
    """Every list is a team draft of the two arms' orders (`inference.interleaving`)."""
    shadow: str = ""
    """Reranker folder that orders every list too, after the reply; the order is only logged."""

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        if len({arm.name for arm in self.arms}) < len(self.arms):
            raise ValueError("two arms have one name")
        if self.interleave and len(self.arms) != 2:
            raise ValueError(f"{len(self.arms)} arms; interleaving takes two")
        if self.interleave and len({arm.share for arm in self.arms}) > 1:
            raise ValueError("arms that are interleaved have no shares: every list is of both")
        if len(self.arms) == 1 or not (self.arms or self.shadow):
            raise ValueError("give two arms or more, or a shadow")
        return self

    @property
    def models(self) -> set[str]:
        """Reranker folders that it names."""
        return {folder for folder in (*(arm.model for arm in self.arms), self.shadow) if folder}

    def arm_of(self, user_id: str) -> Arm:
        """A shopper's arm, of an experiment that has arms."""
        point = self.hash(user_id) / 2**64 * sum(arm.share for arm in self.arms)
        for arm in self.arms:
            point -= arm.share
            if point < 0:
                return arm
        return self.arms[-1]

    def hash(self, *parts: str) -> int:
        """64 bits, the same for the same texts in an experiment of this name."""
        return int.from_bytes(blake2b("\0".join((self.name, *parts)).encode(), digest_size=8).digest())


def read_experiment(path: Path) -> Experiment:
    """The experiment of a YAML file.

    Raises:
        InputError: it cannot be read, or is no experiment.
    """
    try:
        return Experiment.model_validate(yaml.load(path.read_text(encoding="utf-8"), UniqueKeyLoader))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        raise InputError(f"{path}, {problem_of(error)}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
