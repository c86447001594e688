"""What the buffered routes do: name the models, take feedback, show usage. Knows neither HTTP nor AWS."""

from __future__ import annotations

import datetime
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from contracts import metrics
from contracts.catalogue import ModelCard, ModelList, cards
from contracts.records import Feedback, FeedbackReceipt, FeedbackRequest, InferenceRecord
from contracts.targets import EndpointTarget
from contracts.usage import DayUsage, UsageReport
from lambdas.aws.access_table import AccessSource, AccessTable, CatalogueItems, CatalogueTable
from lambdas.aws.dynamodb import DynamoDB
from lambdas.aws.records_table import RecordsTable
from lambdas.aws.usage_ledger import UsageHistory
from lambdas.pipeline.catalogue import CatalogueSource, LiveCatalogue, settings_catalogue
from lambdas.pipeline.environment import ApiEnvironment
from lambdas.pipeline.guards.pii import PiiRules
from lambdas.pipeline.guards.vault import Vault
from lambdas.pipeline.principals import admit_principal
from lambdas.pipeline.resolution import not_found, usable
from lambdas.runtime.cors import cors_headers
from lambdas.runtime.environment import load
from lambdas.runtime.errors import ApiError
from lambdas.runtime.logs import Logger
from lambdas.runtime.metrics import MetricLine

MAX_USAGE_DAYS = 400
MAX_FEEDBACK_BYTES = 256 * 1024
_ANSWER_PREFIX = re.compile("^(?:(?:chatcmpl|cmpl|embd|rerank|score|classify|modr)-|msg_|resp_)")
_PII = PiiRules()


class Records(Protocol):
    """Where records and the feedback on them are kept."""

    def find(self, request_id: str) -> InferenceRecord | None:
        """The record of a request; None where there is none (any more)."""

    def add(self, feedback: Feedback) -> None:
        """Keep a piece of feedback beside its record."""


class Usage(Protocol):
    """Where each key's days are kept."""

    def days(self, tenant: str, start: str, end: str) -> Iterable[dict[str, Any]]:
        """The tenant's rows (`contracts.usage`) from day to day, both included."""


class ApiService:
    """The buffered routes of one environment."""

    def __init__(
        self,
        settings: ApiEnvironment,
        records: Records,
        usage: Usage,
        clock: Callable[[], float] = time.time,
        access: AccessSource | None = None,
        catalogue: CatalogueSource | None = None,
    ) -> None:
        self._access = access
        own = EndpointTarget(endpoint_name=settings.endpoint_name, model_version=settings.model_version)
        self._catalogue = LiveCatalogue(
            settings_catalogue(settings, own), catalogue or _NothingAdded(), Logger("api", settings.log_level)
        )
        self._settings = settings
        self._usage = usage
        self._records = records
        self._clock = clock

    def principal(self, arn: str) -> dict[str, str]:
        """Whom a caller with AWS credentials calls for. Raises ApiError 403 or 503."""
        return admit_principal(arn, self._access) if self._access else {}

    def cors(self, origin: str | None) -> dict[str, str]:
        """What a page of that origin needs to read the reply."""
        return cors_headers(origin, self._settings.cors_origins)

    def models(self, scopes: frozenset[str]) -> ModelList:
        """What callers with these scopes may put into `model`."""
        entries = usable(self._catalogue.read(), scopes)
        return ModelList(data=[card for entry in entries for card in cards(entry)])

    def model(self, name: str, scopes: frozenset[str]) -> ModelCard:
        """One of them. Raises ApiError 404."""
        for card in self.models(scopes).data:
            if card.id == name:
                return card
        raise not_found(name, usable(self._catalogue.read(), scopes))

    def usage(self, tenant: str, start: str | None, end: str | None) -> UsageReport:
        """What the tenant's keys have used; without dates, this month so far. Raises ApiError 400."""
        today = datetime.datetime.fromtimestamp(self._clock(), datetime.UTC).date()
        last = _date(end, "end") if end else today
        first = _date(start, "start") if start else last.replace(day=1)
        if not 0 <= (last - first).days <= MAX_USAGE_DAYS:
            raise ApiError(
                "invalid_request_error",
                f"'start' must not be after 'end', nor more than {MAX_USAGE_DAYS} days before it.",
                param="start",
                code="invalid_value",
            )
        days = [
            DayUsage(**row, cost_usd=_cost_usd(row))
            for row in self._usage.days(tenant, first.isoformat(), last.isoformat())
        ]
        return UsageReport(
            start=first.isoformat(),
            end=last.isoformat(),
            data=days,
            requests=sum(day.requests for day in days),
            input_tokens=sum(day.input_tokens for day in days),
            output_tokens=sum(day.output_tokens for day in days),
            unpriced_tokens=sum(day.unpriced_tokens for day in days),
            cost_usd=None
            if any(day.cost_usd is None for day in days)
            else sum(d.cost_usd or 0 for d in days),
        )

    def feedback(self, tenant: str, body: bytes) -> FeedbackReceipt:
        """Store feedback on one of the tenant's own requests. Raises ApiError 400, 404 or 413."""
        request = _parsed(body)
        request_id = _ANSWER_PREFIX.sub("", request.request_id)
        record = self._records.find(request_id)
        if record is None or record.tenant != tenant:
            # Another tenant's request must look like one that never was.
            raise ApiError(
                "not_found_error",
                "There is no such request, or it is too long ago.",
                param="request_id",
                code="request_not_found",
            )
        feedback = Feedback(
            feedback_id=uuid.uuid4().hex,
            variant=record.variant,
            model_version=record.model_version,
            tenant=tenant,
            given_at=self._clock(),
            **_masked(request).model_dump(exclude={"request_id"}),
            request_id=request_id,
        )
        self._records.add(feedback)
        self._count(feedback)
        return FeedbackReceipt(id=feedback.feedback_id, request_id=request_id, created=int(feedback.given_at))

    def _count(self, feedback: Feedback) -> None:
        line = MetricLine(
            {
                metrics.DIM_ENDPOINT: self._settings.endpoint_name,
                metrics.DIM_VARIANT: feedback.variant or "none",
                metrics.DIM_MODEL_VERSION: feedback.model_version,
            }
        )
        dimension_sets = [
            [metrics.DIM_ENDPOINT],
            [metrics.DIM_ENDPOINT, metrics.DIM_VARIANT, metrics.DIM_MODEL_VERSION],
        ]
        line.add({metrics.FEEDBACK: (1, "Count")}, dimension_sets)
        score = _score(feedback)
        if score is not None:
            line.add({metrics.FEEDBACK_SCORE: (score, "None")}, dimension_sets)
        line.emit(request_id=feedback.request_id)


class _NothingAdded:
    """Stands for a table without a catalogue item."""

    def read(self, endpoints: Iterable[str]) -> CatalogueItems:
        return CatalogueItems({})


def _date(text: str, param: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise ApiError(
            "invalid_request_error",
            f"'{param}' must be a day like 2026-11-22.",
            param=param,
            code="invalid_value",
        ) from None


def _parsed(body: bytes) -> FeedbackRequest:
    if len(body) > MAX_FEEDBACK_BYTES:
        raise ApiError(
            "invalid_request_error", "The feedback is too long.", code="request_too_large", status=413
        )
    try:
        body.decode()
    except UnicodeDecodeError:
        raise ApiError(
            "invalid_request_error", "The body is not valid UTF-8.", code="invalid_encoding"
        ) from None
    return FeedbackRequest.model_validate_json(body)


def _masked(request: FeedbackRequest) -> FeedbackRequest:
    """The request with personal data in its words replaced by labels, as in everything that is kept."""
    words = {"correction": request.correction, "comment": request.comment}
    return request.model_copy(
        update={name: Vault().mask_for_good(text, _PII.check(text)) for name, text in words.items() if text}
    )


def _score(feedback: Feedback) -> float | None:
    """The score given, else thumbs as 1 or 0; None for words alone."""
    if feedback.score is not None:
        return feedback.score
    return None if feedback.thumbs is None else float(feedback.thumbs == "up")


def from_environment(variables: Mapping[str, str]) -> ApiService:
    """The service against AWS. Raises InvalidEnvironmentError."""
    settings = load(ApiEnvironment, variables)
    tables = DynamoDB()
    return ApiService(
        settings,
        RecordsTable(settings.records_table, settings.record_ttl_days, tables),
        UsageHistory(settings.records_table, tables),
        access=AccessTable(settings.access_table, tables),
        catalogue=CatalogueTable(settings.access_table, settings.endpoint_name, tables),
    )


def _cost_usd(row: Mapping[str, Any]) -> float | None:
    """A day's cost; None where some of its tokens had no price."""
    return None if row.get("unpriced_tokens") else row.get("cost_nano_usd", 0) / 1e9
