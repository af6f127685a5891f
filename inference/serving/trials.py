"""What experiments make of requests: which arm, the second order of an interleaved list, shadows, and what is logged.

    trials = Trials(models, shoppers, log, deadline_s=1.0)
    trial = trials.of(tenant, request)
    others = await trials.second_scores(trial, context)
    trials.served(trial, context, request_id, model, ranked, arranged, interleaved, fallback)
    await trials.close()

An experiment never makes a list worse than the tenant's own model would: it begins when all its models are ready; an
interleaved list whose second scores do not come in time is ordered by the first arm; a shadow only scores while its
engine has nothing else to do and would be done in time for a list that came meanwhile, and after the reply.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from reshelf.inference.assembly import MissingFeaturesError
from reshelf.inference.experiments import Arm, Experiment
from reshelf.inference.ranking import Interleaved, NonFiniteScoreError, Ranked, interleave
from reshelf.inference.rules import Arranged, Rules
from reshelf.inference.serving.engine.models import Models, ServedModel
from reshelf.inference.serving.engine.queue import UnservedError
from reshelf.inference.serving.log import log_once_a_minute
from reshelf.inference.serving.refusals import RefusedError
from reshelf.inference.serving.schemas import Meta, RerankRequest
from reshelf.inference.serving.scoring import RequestContext, score_list
from reshelf.inference.serving.served_lists import ServedList, ServedListLog
from reshelf.inference.serving.shoppers import Shoppers
from reshelf.inference.serving.stages import Stages
from reshelf.inference.serving.tenants import Tenant
from reshelf.modeling.blend import blend

_SHADOWS = 4
"""Lists that shadows score at one time."""


@dataclass(frozen=True)
class Trial:
    """How one list is to be ordered."""

    model: str
    """Reranker folder; empty for the server's own."""
    weight: float
    """How much of the order is the model's."""
    arms: tuple[Arm, ...] = ()
    """The shopper's, or the two that are interleaved; none outside an experiment."""
    experiment: Experiment | None = None
    """What they are of; a list without a shopper is in no arm, and still has its shadow."""
    second_model: str = ""
    second_weight: float = 1.0

    @property
    def name(self) -> str | None:
        """The experiment's, where the list is in an arm."""
        return self.experiment.name if self.experiment is not None and self.arms else None

    @property
    def control(self) -> str | None:
        """What the experiment's other arms are compared with."""
        return self.experiment.arms[0].name if self.experiment is not None and self.arms else None

    @property
    def is_interleaved(self) -> bool:
        return len(self.arms) == 2

    @property
    def arm(self) -> str | None:
        """The shopper's; None where two are interleaved."""
        return self.arms[0].name if len(self.arms) == 1 else None

    @property
    def share(self) -> float | None:
        """Of shoppers, meant for the arm."""
        if self.experiment is None or len(self.arms) != 1:
            return None
        return self.arms[0].share / sum(arm.share for arm in self.experiment.arms)

    def interleave(
        self, ranked: Ranked, others: np.ndarray | None, request_id: str, rules: Rules | None, context: RequestContext
    ) -> Interleaved | None:
        """The draft of two arms; None where there are no two, or no scores of the second.

        A shopper who asks the same again is dealt the same draft.
        """
        if self.experiment is None or not self.is_interleaved:
            return None
        if self.second_model == self.model:
            others = ranked.scores
        if others is None:
            return None
        ids = (item.item_id for item in context.candidates)
        seed = self.experiment.hash(context.request.user_id or request_id, context.query, *ids)
        return interleave(ranked, blend(others, self.second_weight), seed, rules, context.candidates)

    def teams(self, interleaved: Interleaved | None) -> Mapping[int, str]:
        """The arm that picked each candidate."""
        return {} if interleaved is None else {k: self.arms[team].name for k, team in interleaved.teams.items()}


class Trials:
    """Experiments of one server.

    Args:
        models: what lists are ranked by.
        shoppers: what is known of them.
        log: of served lists; None for none.
        deadline_s: seconds that a shadow may take.
    """

    def __init__(self, models: Models, shoppers: Shoppers, log: ServedListLog | None, deadline_s: float) -> None:
        self._models, self._shoppers, self._log, self._deadline_s = models, shoppers, log, deadline_s
        self._shadows: set[asyncio.Task[None]] = set()

    def of(self, tenant: Tenant, request: RerankRequest) -> Trial:
        """How a tenant's list is to be ordered."""
        weight = tenant.personalization if request.personalization is None else request.personalization
        experiment = tenant.experiment
        if experiment is None:
            return Trial(tenant.model, weight)
        folders = {arm.name: arm.model or tenant.model for arm in experiment.arms}
        if waiting := [name for name, folder in folders.items() if self._models.of(folder) is None]:
            log_once_a_minute("experiment waits for its models", experiment=experiment.name, arms=waiting)
            return Trial(tenant.model, weight)
        if experiment.interleave:
            arms = tuple(experiment.arms)
        elif experiment.arms and request.user_id is not None:
            arms = (experiment.arm_of(request.user_id),)
        else:
            return Trial(tenant.model, weight, (), experiment)
        weights = [weight if arm.personalization is None else arm.personalization for arm in arms]
        return Trial(folders[arms[0].name], weights[0], arms, experiment, folders[arms[-1].name], weights[-1])

    async def second_scores(self, trial: Trial, context: RequestContext) -> np.ndarray | None:
        """Scores of the second of two arms, where that is another model; None where they do not come in time."""
        if trial.second_model == trial.model:
            return None
        model = self._models.of(trial.second_model)
        return None if model is None else await self._scores(model, context)

    async def _scores(self, model: ServedModel, context: RequestContext) -> np.ndarray | None:
        with model.held():
            try:
                live = await self._shoppers.live(context.tenant, model.signals, context.due)
                meta = Meta(engine="")
                _, scores = await score_list(model, context, live, meta, Stages(meta, time.perf_counter()))
                return scores
            except (TimeoutError, UnservedError, NonFiniteScoreError, MissingFeaturesError, RefusedError):
                return None

    def served(
        self, trial: Trial, context: RequestContext, request_id: str, model: ServedModel | None, ranked: Ranked | None,
        arranged: Arranged, interleaved: Interleaved | None, fallback: str | None,
    ) -> None:  # fmt: skip
        """A list is about to be sent: log it, where lists are logged."""
        if self._log is None:
            return
        request = context.request
        one = ServedList(
            list_id=request_id,
            tenant=context.tenant.name,
            user_id=request.user_id,
            query=context.query,
            items=context.candidates,
            places=list(context.items),
            served=arranged.order[: request.top_n],
            model="" if model is None else model.name,
            model_sha256="" if model is None else model.sha256,
            language="" if model is None else model.spec.prompt.language,
            personalization=trial.weight,
            scores=None if ranked is None else ranked.scores,
            experiment=trial.name,
            control=trial.control,
            arm=trial.arm,
            arm_share=trial.share,
            teams=None if interleaved is None else trial.teams(interleaved),
            orders=None if interleaved is None else interleaved.orders,
            fallback=fallback,
        )
        folder = trial.experiment.shadow if trial.experiment is not None else ""
        shadow = self._models.of(folder) if folder else None
        within_s = self._deadline_s if request.deadline_ms is None else request.deadline_ms / 1000
        if (
            shadow is None
            or len(self._shadows) >= _SHADOWS
            or not shadow.engine.has_time_to_spare(len(context.items), within_s)
        ):
            self._log.put(one)
            return
        task = asyncio.create_task(self._shadowed(shadow, context, one, self._log))
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    async def _shadowed(self, model: ServedModel, context: RequestContext, one: ServedList, log: ServedListLog) -> None:
        scores = None
        try:
            scores = await self._scores(model, replace(context, due=time.perf_counter() + self._deadline_s))
        finally:
            log.put(one if scores is None else replace(one, shadow_model=model.name, shadow=scores))

    async def close(self) -> None:
        """End shadows, and finish the log's last file."""
        for task in self._shadows:
            task.cancel()
        await asyncio.gather(*self._shadows, return_exceptions=True)
        if self._log is not None:
            await asyncio.to_thread(self._log.close)
