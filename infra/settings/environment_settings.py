"""One environment's settings file as a model: everything a platform team edits.

The sections are in the order of the file. Endpoint and engine have modules of their own. Knows nothing
of CDK, files or line numbers.
"""

from __future__ import annotations

from typing import Self

from pydantic import PrivateAttr, model_validator

from infra.settings import catalogue_rules, concurrency, cross_section_rules, deadlines, region_rules
from infra.settings.api import ApiSettings
from infra.settings.base import RuleError, SettingsModel, setting
from infra.settings.capacity import CapacityError, capacity, target
from infra.settings.catalogue import AdapterModel, EndpointModel, ModelSettings
from infra.settings.catalogue_entries import check_variables
from infra.settings.components import ScaleToZeroEndpoint
from infra.settings.delivery import Delivery, check_delivery
from infra.settings.endpoint import Endpoint, RealtimeEndpoint
from infra.settings.environment import Environment
from infra.settings.failover import Failover, check_failover
from infra.settings.fallback import EndpointFallback, Fallback
from infra.settings.functions import FunctionSettings
from infra.settings.guards import GuardrailSettings
from infra.settings.jobs import CacheSettings, JobsSettings
from infra.settings.model import Model
from infra.settings.monitoring import MonitoringSettings
from infra.settings.refresh import RefreshSettings
from infra.settings.tracing import Tracing, check_tracing


class Goals(SettingsModel):
    """The project contract: measurable targets that gates, alarms and reports read."""

    quality_floor: float = setting("Lowest acceptable offline quality score.", 0.8, ge=0, le=1)
    ttft_ms: int = setting(
        "Time to first token at the 95th percentile, milliseconds.", 800, ge=1, le=3_600_000
    )
    availability: float = setting("Share of requests answered without a server error.", 0.999, gt=0, lt=1)
    cost_per_thousand_requests: float = setting("Ceiling in US dollars.", 1.5, gt=0)


class RecordSettings(SettingsModel):
    """What is kept of a request."""

    ttl_days: int = setting("Days a record, feedback or text is kept.", 30, ge=1, le=3650)
    keep_text: bool = setting(
        "Keep prompts and answers, personal data masked, except for keys that opted out.",
        False,
        default=False,
    )
    responses_seconds: int = setting(
        "Seconds that output of `/v1/responses` is kept for requests that refer to it; with 0 none is.",
        3_600,
        ge=0,
        le=86_400,
        default=3_600,
    )


class Settings(SettingsModel):
    """All sections of `settings/<env>.yaml`. `name` is the file's stem, never a key in it."""

    name: str = setting(
        "Environment; the file's name without `.yaml`.",
        "prod",
        pattern=r"^[a-z](-?[a-z0-9])*$",
    )
    goals: Goals = setting("The project contract.", {"quality_floor": 0.8})
    environment: Environment = setting("Account, region, retention.", {"region": "us-east-1"})
    functions: FunctionSettings = setting("Lambda runtime and size.", {"runtime": "python3.14"})
    gateway: ApiSettings = setting("The HTTP API.", {"stage": "prod"})
    guards: GuardrailSettings = setting(
        "Checks of prompts and answers.", {"mask_pii": True}, default=GuardrailSettings()
    )
    fallbacks: list[Fallback] = setting(
        "Targets asked in order while the endpoint is full, starting or down.",
        [{"kind": "bedrock", "model_id": "openai.gpt-oss-20b-1:0"}],
        default=[],
        max_length=4,
    )
    model: Model = setting("The model callers name.", {"name": "llama-3.1-8b-instruct"})
    endpoint: Endpoint = setting("Machines, engine and rollout.", {"kind": "realtime"})
    models: list[ModelSettings] = setting(
        "Further models behind the same API.",
        [{"kind": "bedrock", "name": "gpt-oss-20b", "model_id": "openai.gpt-oss-20b-1:0"}],
        default=[],
        max_length=32,
    )
    records: RecordSettings = setting("What is kept of a request.", {"ttl_days": 30})
    jobs: JobsSettings = setting(
        "Work that is answered later.", {"retention_days": 7}, default=JobsSettings()
    )
    cache: CacheSettings = setting(
        "Answers that are given again.", {"max_seconds": 3600}, default=CacheSettings()
    )
    monitoring: MonitoringSettings = setting("Dashboard and alarms.", {}, default=MonitoringSettings())
    tracing: Tracing | None = setting(
        "Where the spans of requests go; left out, none are sent.", {"kind": "xray"}, default=None
    )
    refresh: RefreshSettings | None = setting(
        "The loop from new data to a promoted model; realtime endpoints only.",
        {"approval": "manual"},
        default=None,
    )

    failover: Failover | None = setting(
        "A second region that answers while the first cannot.", {"region": "us-west-2"}, default=None
    )

    delivery: Delivery | None = setting(
        "Roles that GitHub Actions deploys with.", {"provider": "create"}, default=None
    )

    _model_part: str = PrivateAttr(default="")
    """Of the settings of a further model's endpoint: the model's name as AWS's names hold it."""

    @property
    def prefix(self) -> str:
        """Start of every name: `evergreen-<env>`."""
        return f"evergreen-{self.name}"

    @property
    def serving_part(self) -> str:
        """The serving stack's name without the prefix: `serving`, or `serving-<model>` of a further one."""
        return f"serving-{self._model_part}" if self._model_part else "serving"

    @property
    def endpoint_name(self) -> str:
        """The endpoint's fixed name, at most 63 characters; a further model's is its stack's name."""
        return f"{self.prefix}-{self.serving_part}" if self._model_part else self.prefix

    @property
    def version_parameter(self) -> str:
        """Name of the SSM parameter that holds the version of what the champion serves."""
        return f"/{self.endpoint_name}/champion-version"

    def adapter_version_parameter(self, adapter: AdapterModel) -> str:
        """The same of an adapter that is a component of its own."""
        return f"/{self.endpoint_name}/adapters/{adapter.part}/version"

    def of_model(self, entry: EndpointModel) -> Settings:
        """These settings as a further model's endpoint has them: no loop, no second region of its own."""
        model = Model(name=entry.name, version=entry.version, source=entry.source, size_gb=entry.size_gb)
        there = self.model_copy(
            update={
                "model": model,
                "endpoint": entry.endpoint,
                "models": [],
                "fallbacks": [],
                "refresh": None,
                "failover": None,
                "delivery": None,
            }
        )
        there._model_part = entry.part  # noqa: SLF001 - a copy of our own
        return there

    @property
    def further_endpoints(self) -> list[Settings]:
        """The settings of each further model that has an endpoint of its own."""
        return [self.of_model(entry) for entry in self.models if isinstance(entry, EndpointModel)]

    @property
    def component_adapters(self) -> list[AdapterModel]:
        """The entries that are inference components on the environment's own endpoint."""
        if not isinstance(self.endpoint, ScaleToZeroEndpoint):
            return []
        return [entry for entry in self.models if isinstance(entry, AdapterModel)]

    @property
    def folder_adapters(self) -> list[AdapterModel]:
        """The entries that are folders of the environment's own artefact."""
        if isinstance(self.endpoint, ScaleToZeroEndpoint):
            return []
        return [entry for entry in self.models if isinstance(entry, AdapterModel)]

    def adapter_component(self, adapter: AdapterModel) -> str | None:
        """The component's name; None for an adapter that is a folder of the model's artefact."""
        return f"{self.prefix}-{adapter.part}" if adapter in self.component_adapters else None

    @property
    def standby(self) -> Settings | None:
        """These settings as the second region has them: its place, its endpoint, no loop of its own."""
        there = self.failover
        if there is None or not isinstance(self.endpoint, RealtimeEndpoint):
            return None
        return self.model_copy(
            update={
                "environment": self.environment.model_copy(update={"region": there.region}),
                "model": self.model.model_copy(update={"source": there.source}),
                "endpoint": there.endpoint(self.endpoint),
                "models": [],
                "refresh": None,
                "failover": None,
                "delivery": None,
            }
        )

    @property
    def fallback_chain(self) -> list[Fallback]:
        """Who is asked in turn where the endpoint cannot answer: the same model elsewhere, then others."""
        if self.failover is None:
            return self.fallbacks
        region = self.failover.region
        second = EndpointFallback(
            kind="endpoint",
            endpoint_name=self.endpoint_name,
            # Which version it serves is known there, not here: the loop brings it each champion in turn.
            model_version=f"failover/{region}",
            region=region,
        )
        return [second, *self.fallbacks]

    @property
    def laptop(self) -> bool:
        """Whether the functions run on this machine rather than in Lambda."""
        return self.functions.runtime == "host"

    @property
    def component_names(self) -> list[str]:
        """The inference components, the base model's first; none for kinds without components."""
        if not isinstance(self.endpoint, ScaleToZeroEndpoint):
            return []
        adapters = [adapter.name for adapter in self.endpoint.adapters]
        adapters += [adapter.part for adapter in self.component_adapters]
        return [f"{self.endpoint_name}-{name}" for name in ("base", *adapters)]

    @property
    def download_timeout_seconds(self) -> int:
        """Time to fetch the model."""
        given = self.endpoint.model_download_timeout_seconds
        return given or deadlines.download_seconds(self.model.size_gb)

    @property
    def startup_timeout_seconds(self) -> int:
        """Time until the container is ready."""
        given = self.endpoint.startup_timeout_seconds
        return given or deadlines.startup_seconds(self.model.size_gb, self.endpoint.engine.kind)

    @property
    def update_seconds(self) -> int:
        """Longest time in which an update of the endpoint may end well."""
        start = self.download_timeout_seconds + self.startup_timeout_seconds
        return deadlines.update_seconds(self.endpoint, start)

    @property
    def reserved_concurrency(self) -> int | None:
        """What `inference` reserves of the account's concurrency; None for nothing."""
        further = sum(concurrency.held(there.endpoint) for there in self.further_endpoints)
        return concurrency.reserved(
            self.functions, self.endpoint, challenger=self.refresh is not None, further=further
        )

    @property
    def evaluation_answer_tokens(self) -> int:
        """Length at which evaluation cuts an answer: the one that callers get, unless another is given."""
        given = self.refresh.answer_tokens if self.refresh else None
        return given or self.endpoint.engine.answer_tokens

    @property
    def scaling_target(self) -> float | None:
        """Level that target tracking holds per machine or copy; None where nothing tracks one."""
        spec = self.endpoint
        if not isinstance(spec, RealtimeEndpoint | ScaleToZeroEndpoint):
            return None
        measured = capacity(spec.instances.type, self.model.name, spec.engine.image)
        return spec.scaling.target or target(spec.scaling.metric, measured, spec.engine.max_running_requests)

    def _images(self) -> list[tuple[tuple[str, ...], str]]:
        """The images in use, each with the path of its key."""
        jobs: list[tuple[tuple[str, ...], str]] = []
        if self.refresh is not None:
            jobs = [
                (("refresh", "training", "image"), self.refresh.training.image),
                (("refresh", "processing", "image"), self.refresh.processing.image),
            ]
        return [(("endpoint", "engine", "image"), self.endpoint.engine.image), *jobs]

    @model_validator(mode="after")
    def _name_fits(self) -> Self:
        cross_section_rules.check_names(self.endpoint_name, *self.component_names)
        return self

    @model_validator(mode="after")
    def _endpoint_fits_the_model(self) -> Self:
        region_rules.check_region(("environment", "region"), self.environment.region)
        self.check_endpoint()
        return self

    @model_validator(mode="after")
    def _models_fit(self) -> Self:
        spec = self.endpoint
        adapters = [one.name for one in spec.adapters] if isinstance(spec, ScaleToZeroEndpoint) else []
        catalogue_rules.check_names(self.model, adapters, self.models)
        catalogue_rules.check_parts(adapters, self.models)
        catalogue_rules.check_base(self.model, spec, self.models)
        catalogue_rules.check_hosted(self.models, region_rules.check_region)
        for place, entry in enumerate(self.models):
            if not isinstance(entry, EndpointModel):
                continue
            there = self.of_model(entry)
            try:
                cross_section_rules.check_names(there.endpoint_name, *there.component_names)
                there.check_endpoint()
            except RuleError as error:
                raise catalogue_rules.within(place, error) from None
        check_variables(self)
        return self

    def check_endpoint(self) -> None:
        """The endpoint holds the model, in this region. Raises RuleError from the file's root."""
        cross_section_rules.check_region(self.environment.region, *self._images())
        cross_section_rules.check_source(self.model.source, self.endpoint)
        cross_section_rules.check_size(self.model.size_gb, self.endpoint)
        cross_section_rules.check_refresh(self.refresh is not None, self.endpoint)
        region_rules.check_endpoint(self.endpoint, self.environment.region)
        deadlines.check_update(self.endpoint, self.download_timeout_seconds + self.startup_timeout_seconds)
        try:
            cross_section_rules.check_target(self.scaling_target, self.endpoint)
        except CapacityError as error:
            raise RuleError(
                "endpoint",
                "scaling",
                what=f"{error}",
                why="The scaling target is taken from it.",
                change="the file's fields as docs/endpoints.md has them, or no file",
                example={"target": 22.0},
            ) from None

    @model_validator(mode="after")
    def _jobs_find_machines(self) -> Self:
        if self.refresh is not None:
            for key, job in (("training", self.refresh.training), ("processing", self.refresh.processing)):
                path = ("refresh", key, "instance_type")
                region_rules.check_offered(path, job.use, job.instance_type, self.environment.region)
        return self

    @model_validator(mode="after")
    def _the_second_region_fits(self) -> Self:
        if self.failover is not None:
            region_rules.check_region(("failover", "region"), self.failover.region)
            bucket = self.failover.bucket_name(self.prefix, self.environment.account)
            check_failover(self.failover, self.environment.region, self.endpoint, self.model.size_gb, bucket)
        return self

    @model_validator(mode="after")
    def _certificate_is_here(self) -> Self:
        domain = self.gateway.domain
        if domain is not None and domain.certificate_arn.split(":")[3] != self.environment.region:
            raise RuleError(
                "gateway",
                "domain",
                "certificate_arn",
                what=f"The certificate is in {domain.certificate_arn.split(':')[3]}.",
                why=f"A regional API takes one from its own region, {self.environment.region}.",
                change=f"a certificate made in {self.environment.region}",
                example=f"arn:aws:acm:{self.environment.region}:{self.environment.account}:certificate/…",
            )
        return self

    @model_validator(mode="after")
    def _spans_arrive(self) -> Self:
        check_tracing(self.tracing, laptop=self.laptop)
        return self

    @model_validator(mode="after")
    def _concurrency_fits_account_and_model(self) -> Self:
        concurrency.check_concurrency(self.functions, self.endpoint)
        return self

    @model_validator(mode="after")
    def _production_lacks_nothing(self) -> Self:
        if self.environment.production:
            check_delivery(self.delivery)
            cross_section_rules.check_production(
                self.gateway.waf.enabled, self.environment.removal.records, self.environment.removal.access
            )
        return self

    @model_validator(mode="after")
    def _metrics_have_the_resolution(self) -> Self:
        if self.monitoring.period_seconds < 60 and not self.laptop:
            raise RuleError(
                "monitoring",
                "period_seconds",
                what=f"Widgets and alarms every {self.monitoring.period_seconds} s would stay empty.",
                why="CloudWatch keeps the functions' metrics by the minute.",
                change="60 or 300",
                example=60,
            )
        return self
