"""One ranking: documents and history in, order out; and first-stage order whenever the model's is not to be had.

reply = await service.rerank(tenant, request, started, request_id)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import numpy as np

from reshelf.data.schema import Item
from reshelf.inference.assembly import MissingFeaturesError
from reshelf.inference.ranking import Interleaved, NonFiniteScoreError, Ranked, rank
from reshelf.inference.rules import Arranged
from reshelf.inference.serving.catalogue import catalogue_of
from reshelf.inference.serving.config import ServeConfig
from reshelf.inference.serving.documents import check_lengths, items_of, unknown_ids, unread_fields
from reshelf.inference.serving.drift import SHOWN
from reshelf.inference.serving.engine.models import Models, ServedModel
from reshelf.inference.serving.engine.queue import UnservedError
from reshelf.inference.serving.metrics import Metrics
from reshelf.inference.serving.refusals import RefusedError
from reshelf.inference.serving.results import invalid_documents, ranked_documents
from reshelf.inference.serving.schemas import Assigned, Meta, RerankReply, RerankRequest, few_names
from reshelf.inference.serving.scoring import RequestContext, explain_list, score_list
from reshelf.inference.serving.shoppers import Shoppers
from reshelf.inference.serving.stages import Stages
from reshelf.inference.serving.tenants import Tenant
from reshelf.inference.serving.trials import Trial, Trials
from reshelf.modeling.calibration import sigmoid


class Service:
    """Everything between HTTP and the engine.

    Args:
        config: limits and deadlines.
        catalogue: items by id.
        models: what lists are ranked by.
        shoppers: what is known of them.
        trials: experiments, and the log of served lists.
        metrics: what is counted.
    """

    def __init__(
        self, config: ServeConfig, catalogue: Mapping[str, Item], models: Models, shoppers: Shoppers, trials: Trials,
        metrics: Metrics,
    ) -> None:  # fmt: skip
        self.config = config
        self.catalogue = catalogue
        self.models = models
        self.shoppers = shoppers
        self.metrics = metrics
        self.draining = False
        """Whether the server is about to end."""
        self._trials = trials

    def drain(self) -> None:
        """Say in /ready that no more work should come."""
        self.draining = True

    async def forget(self, tenant: Tenant, user_id: str) -> int:
        """Remove a shopper; returns how many events there were.

        Raises:
            RefusedError: the store does not answer.
        """
        forgotten = await self.shoppers.forget(tenant, user_id)
        # A prefix in an engine's cache is the shopper's history; whose it is, is not kept, so all of the shop's go.
        await self.models.forget(tenant.name)
        return forgotten

    async def rerank(self, tenant: Tenant, request: RerankRequest, started: float, request_id: str) -> RerankReply:
        """Put a list in order.

        Args:
            started: when the request arrived, on the clock of `time.perf_counter`.

        Raises:
            RefusedError: the request is at fault.
        """
        trial = self._trials.of(tenant, request)
        model = self.models.of(trial.model)
        with nullcontext() if model is None else model.held():
            return await self._rerank(model, tenant, request, started, request_id, trial)

    async def _rerank(
        self, model: ServedModel | None, tenant: Tenant, request: RerankRequest, started: float, request_id: str,
        trial: Trial,
    ) -> RerankReply:  # fmt: skip
        self._check(request)
        meta = Meta(engine="none" if model is None else model.engine.name)
        meta.ignored = self._ignored(tenant, request)
        meta.warning = None if model is None else model.warning
        meta.personalization = None if trial.weight == 1 else trial.weight
        if trial.name is not None:
            meta.experiment = Assigned(name=trial.name, arm=trial.arm)
        stages = Stages(meta, started)
        context = self._context(tenant, request, started, meta)
        items, candidates = context.items, context.candidates
        stages.end("read")
        signals = None if model is None else model.signals
        context.history, live = await asyncio.gather(
            self.shoppers.history(tenant, request, context.due, meta),
            self.shoppers.live(tenant, signals, context.due),
        )
        stages.end("history")
        rules = tenant.rules if request.rules is None else request.rules.after(tenant.rules)
        ranked: Ranked | None = None
        interleaved: Interleaved | None = None
        try:
            if model is None:
                raise UnservedError("engine_down")
            scoring, others = score_list(model, context, live, meta, stages), None
            if trial.is_interleaved:
                (prepared, scores), others = await asyncio.gather(scoring, self._trials.second_scores(trial, context))
            else:
                prepared, scores = await scoring
            ranked = rank(scores, model.spec.calibration, trial.weight, rules, candidates)
            interleaved = trial.interleave(ranked, others, request_id, rules, context)
            ranked = ranked if interleaved is None else interleaved.ranked
        except TimeoutError:
            meta.fallback = "deadline"
        except UnservedError as error:
            meta.fallback = error.reason
        except NonFiniteScoreError:
            meta.fallback = "engine_error"
        except MissingFeaturesError as error:
            meta.fallback, meta.missing = "features_missing", list(error.names)
        if ranked is not None:
            arranged = ranked.arranged
        else:
            stages.end("fallback")
            arranged = rules.arrange_first_stage(candidates) if rules else Arranged(np.arange(len(candidates)))
        meta.rules = arranged.counts
        teams = trial.teams(interleaved)
        results = ranked_documents(request, items, ranked, arranged, teams)
        if ranked is not None:
            self._watch_drift(tenant, request, candidates, ranked, arranged)
        if not rules or not (rules.only or rules.never):  # nobody knows what the others are
            results += invalid_documents(request, items, len(results))
        stages.end("order")
        if request.explain and ranked is None:
            meta.unexplained = meta.fallback
        elif request.explain and model is not None and ranked is not None:
            explanations = await explain_list(model, context, prepared, ranked.scores, meta)
            places = dict(enumerate(items))
            by_index = {places[k]: one for k, one in explanations.items()}
            for one in results:
                one.explanation = by_index.get(one.index)
            stages.end("explain")
        self._trials.served(trial, context, request_id, model, ranked, arranged, interleaved, meta.fallback)
        meta.ms["total"] = 1000 * (time.perf_counter() - started)
        return RerankReply(
            id=request_id,
            model="" if model is None else model.name,
            results=results,
            meta=meta,
            usage={"total_tokens": meta.prompt_tokens},
        )

    def _watch_drift(
        self, tenant: Tenant, request: RerankRequest, candidates: Sequence[Item], ranked: Ranked, arranged: Arranged
    ) -> None:
        unknown = sum(item.item_id not in self.catalogue for item in candidates) if self.catalogue else 0
        self.metrics.drift.ranked(ranked.scores, unknown)
        if request.user_id is not None:
            first = arranged.order[: min(request.top_n or SHOWN, SHOWN)]
            chances = sigmoid(ranked.scores) if ranked.probabilities is None else ranked.probabilities
            self.metrics.drift.served(
                tenant.name, request.user_id, {candidates[k].item_id: float(chances[k]) for k in first.tolist()}
            )

    def _context(self, tenant: Tenant, request: RerankRequest, started: float, meta: Meta) -> RequestContext:
        """The request's documents as items; those that are none are named in `meta`, or refused."""
        limits, catalogue = self.config.limits, catalogue_of(tenant, self.catalogue)
        items, invalid = items_of(request.documents, catalogue, limits.text, request.rank_fields)
        unknown = unknown_ids(request.documents, catalogue)
        if invalid and (request.strict or not items):
            raise next(iter(invalid.values()))
        if request.strict and (meta.ignored or unknown):
            field = meta.ignored[0] if meta.ignored else f"documents[{unknown[0]}]"
            what = "not read here" if meta.ignored else "an id that the catalogue does not have"
            raise RefusedError(f"{what}; correct it, or send strict: false", field)
        meta.unknown = [str(request.documents[n]) for n in unknown]
        meta.invalid = {error.field or f"documents[{n}]": str(error.detail) for n, error in invalid.items()}
        if (cut := len(request.query) - limits.text) > 0:
            meta.truncated["query_characters"] = cut
        due = started + (request.deadline_ms or self.config.deadline_ms) / 1000
        return RequestContext(tenant, request, request.query[: limits.text], items, due, catalogue)

    def _ignored(self, tenant: Tenant, request: RerankRequest) -> list[str]:
        """What of a request means nothing here, be it another service's or misspelt."""
        folders = {tenant.model} | (tenant.experiment.models if tenant.experiment is not None else set())
        models = [model for folder in folders if (model := self.models.of(folder)) is not None]
        unread = set(request.features).difference(*(model.spec.levels.edges for model in models)) if models else ()
        fields = () if request.rank_fields is not None else unread_fields(request.documents).values()
        own = {*(request.model_extra or ()), *(f"features.{name}" for name in unread)}
        return few_names([*sorted(own), *sorted(fields)])

    def _check(self, request: RerankRequest) -> None:
        limits = self.config.limits
        for field, count, most in (
            ("documents", len(request.documents), limits.candidates),
            ("history", len(request.history or ()), limits.history),
            ("history_items", len(request.history_items), limits.history),
        ):
            if count > most:
                raise RefusedError(f"{count} entries; send at most {most}", field)
        if request.deadline_ms is not None and request.deadline_ms > limits.deadline_ms:
            raise RefusedError(f"{request.deadline_ms:g} ms; ask for at most {limits.deadline_ms:g}", "deadline_ms")
        if request.strict:
            check_lengths(request.query, "query", limits.text)
        texts = {"user_id": request.user_id, "instruction": request.instruction}
        texts |= {f"context.{name}": text for name, text in request.context.items()}
        texts |= {f"history[{n}].query": event.query for n, event in enumerate(request.history or ())}
        for field, text in texts.items():
            check_lengths(text, field, limits.text)
        for n, item in enumerate(request.history_items):
            check_lengths(item.model_dump(), f"history_items[{n}]", limits.text)
        numbers = {"scores": request.scores, **{f"features.{k}": v for k, v in request.features.items()}}
        for field, values in numbers.items():
            if values is not None and len(values) != len(request.documents):
                raise RefusedError(f"{len(values)} values for {len(request.documents)} documents", field)
