"""Runs jobs: download, process, upload, and keep the job's record up to date.

One task per job on the service's event loop; whatever blocks runs on a thread. Knows the kinds of job only by
their `JobLayout`.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local.sagemaker.execution_role import ExecutionRole, ExecutionRoleError
from local.sagemaker.instances.container_environment import container_environment
from local.sagemaker.instances.container_process import ContainerProcess, ProcessTable
from local.sagemaker.instances.images import ImageNotFoundError, Program, ProgramTable
from local.sagemaker.instances.model_data import S3Factory
from local.sagemaker.jobs.folder import JobFolder
from local.sagemaker.jobs.kinds import KINDS, TRAINING, JobKind, add_secondary_status, event_detail, finish
from local.sagemaker.jobs.layout import JobLayout
from local.sagemaker.jobs.processing import ProcessingLayout
from local.sagemaker.jobs.training import HOST, TrainingLayout
from local.sagemaker.jobs.training_metrics import NAMESPACE, TrainingMetrics
from local.sagemaker.jobs.transfer import Transfer, TransferError
from local.sagemaker.ports import CloudServices, RoleCredentials
from local.sagemaker.records import JsonObject
from local.sagemaker.store import Identity, SageMakerStore, now

log = logging.getLogger(__name__)

STOP_GRACE_SECONDS = 120.0
SHUTDOWN_SECONDS = 10.0
NICENESS = 10
"""Jobs yield the processor to the endpoint, which serves on the same cores."""
KEPT_FOLDERS = 4
"""Folders of failed jobs that are kept for a look inside, the latest ones."""
_POLL_SECONDS = 0.5
_SYNC_SECONDS = 15.0


@dataclass(frozen=True)
class JobRunnerSettings:
    """What every job is run with. `folder` holds the jobs' folders; `flush_log_lines` stores lines now."""

    identity: Identity
    cloud: CloudServices
    images: ProgramTable
    s3: S3Factory
    folder: Path
    log_line: Callable[[str, str, str, str], None]
    flush_log_lines: Callable[[], None]
    processes: ProcessTable


@dataclass(frozen=True)
class _ProcessExit:
    """How a process ended: its exit code as a shell reports it, and whether it was stopped."""

    code: int
    last_lines: str
    stopped: bool = False
    out_of_time: bool = False


class JobRunner:
    """The jobs that run now."""

    def __init__(self, store: SageMakerStore, settings: JobRunnerSettings) -> None:
        self._store = store
        self._settings = settings
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping: dict[str, asyncio.Event] = {}

    def begin(self, kind: JobKind, record: JsonObject) -> None:
        """Start a job whose record was just made."""
        arn = record[kind.arn_field]
        self._stopping[arn] = asyncio.Event()
        run = _JobRun(kind, record, self._store, self._settings, self._stopping[arn])
        # A deleted job's name may be taken again while its task still tidies up the folder of that name.
        task = asyncio.create_task(run.run(after=self._tasks.get(arn)), name=arn)
        self._tasks[arn] = task
        task.add_done_callback(lambda done: self._forget(arn, done))

    def stop_job(self, kind: JobKind, record: JsonObject) -> None:
        """End a job that runs."""
        self._stopping[record[kind.arn_field]].set()

    async def wait(self, arn: str) -> None:
        """Return when a job does not run (any more)."""
        if arn in self._tasks:
            await asyncio.wait([self._tasks[arn]])

    def resume(self) -> None:
        """After a restart: no job survives the cloud that ran it."""
        for kind in KINDS:
            for record in kind.collection(self._store).records.values():
                if kind.is_active(record):
                    finish(
                        kind,
                        record,
                        "Failed",
                        "InternalServerError: the laptop cloud stopped while this job ran.",
                    )

    async def stop(self) -> None:
        """End every job's process: the cloud is going down."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=SHUTDOWN_SECONDS + _POLL_SECONDS)

    def _forget(self, arn: str, task: asyncio.Task[None]) -> None:
        if self._tasks[arn] is task:
            del self._tasks[arn], self._stopping[arn]


class _JobRun:
    """One job from its start to its final status."""

    def __init__(
        self,
        kind: JobKind,
        record: JsonObject,
        store: SageMakerStore,
        settings: JobRunnerSettings,
        stopping: asyncio.Event,
    ) -> None:
        self._kind, self._record, self._store, self._settings = kind, record, store, settings
        self._stopping = stopping
        name = record[kind.name_field]
        folder = JobFolder(settings.folder / kind.prefix.lower() / name.lower())
        make = TrainingLayout if kind is TRAINING else ProcessingLayout
        self._layout: JobLayout = make(record, folder)
        definitions = record.get("AlgorithmSpecification", {}).get("MetricDefinitions", [])
        self._metrics = TrainingMetrics(name, definitions)
        self._role = ExecutionRole(record["RoleArn"], settings.cloud, settings.identity)
        self._stream = f"{name}/{HOST}-{int(time.time())}"

    async def run(self, *, after: asyncio.Task[None] | None) -> None:
        """Run the job, once an earlier task is done; its record ends in a final status in any case."""
        try:
            if after is not None:
                await asyncio.wait([after])
            await self._emit_state_change()
            await self._run_to_end()
        except TransferError as failure:
            self._finish("Failed", str(failure))
        except asyncio.CancelledError:
            self._finish("Failed", "InternalServerError: the laptop cloud stopped while this job ran.")
            raise
        except Exception as error:
            log.exception("%s failed inside the laptop cloud", self._record[self._kind.arn_field])
            self._finish("Failed", f"InternalServerError: {type(error).__name__}: {error}")
        await self._emit_state_change()
        await asyncio.to_thread(self._prune_folders)

    async def _run_to_end(self) -> None:
        program = self._program()
        credentials = self._credentials()
        transfer = Transfer(self._settings.s3(credentials), self._key_id())
        await self._enter("Downloading", "Downloading input data")
        await asyncio.to_thread(self._layout.fetch, transfer)
        if self._stopping.is_set():
            self._finish("Stopped", None)
            return
        self._record[f"{self._kind.prefix}StartTime"] = now()
        await self._enter("Training", "Training image download completed. Training in progress.")
        ending = await self._process(program, transfer)
        await self._deliver(transfer, ending)

    async def _deliver(self, transfer: Transfer, ending: _ProcessExit) -> None:
        usable = ending.code == 0 or ending.stopped or ending.out_of_time
        if self._record[self._kind.status_field] == "InProgress":
            await self._enter("Uploading", "Uploading generated training model")
        self._record |= await asyncio.to_thread(self._layout.deliver, transfer, usable=usable)
        if ending.out_of_time:
            self._finish("Stopped", None, secondary="MaxRuntimeExceeded")
        elif ending.stopped:
            self._finish("Stopped", None)
        elif ending.code == 0:
            self._finish("Completed", None)
        else:
            reason = self._layout.folder.failure_reason() or ending.last_lines or "the process wrote nothing"
            self._finish("Failed", f"AlgorithmError: {reason}, exit code: {ending.code}")

    async def _process(self, program: Program, transfer: Transfer) -> _ProcessExit:
        command = ("nice", "-n", str(NICENESS), *self._layout.command(program.command[0]))
        environment = self._layout.environment() | container_environment(
            program,
            self._layout.folder.home,
            self._settings.identity,
            self._settings.cloud.endpoint_url,
            self._credentials(),
        )
        # Jobs share one environment with the endpoint: what it lacks must not be installed into it.
        environment["PIP_NO_INDEX"] = "1"
        process = await ContainerProcess.start(
            Program(command, self._layout.work_folder),
            environment,
            purpose=f"SageMaker {self._kind.words} {self._record[self._kind.name_field]}",
            on_line=self._on_line,
            processes=self._settings.processes,
        )
        try:
            return await self._watch(process, transfer)
        except asyncio.CancelledError:
            await process.end(SHUTDOWN_SECONDS)
            raise
        finally:
            self._publish()

    async def _watch(self, process: ContainerProcess, transfer: Transfer) -> _ProcessExit:
        """Wait for the end, or bring it about."""
        started = time.monotonic()
        limit = self._record["StoppingCondition"]["MaxRuntimeInSeconds"]
        synced_at = started
        while not await process.ended_within(_POLL_SECONDS):
            stopped, late = self._stopping.is_set(), time.monotonic() - started > limit
            if stopped or late:
                await self._emit_state_change()
                await process.end(STOP_GRACE_SECONDS)
                return _ProcessExit(_shell_code(process), process.last_lines(), stopped, late and not stopped)
            self._publish()
            if time.monotonic() - synced_at > _SYNC_SECONDS:
                await asyncio.to_thread(self._layout.sync_checkpoints, transfer)
                synced_at = time.monotonic()
        await process.end()  # whatever it started and left behind
        return _ProcessExit(_shell_code(process), process.last_lines())

    def _on_line(self, line: str) -> None:
        self._settings.log_line(self._role.arn, self._kind.log_group, self._stream, line)
        self._metrics.take(line)

    def _publish(self) -> None:
        data = self._metrics.drain()
        if data and self._role.may_publish_metrics(NAMESPACE):
            self._settings.cloud.put_metric_data(NAMESPACE, data)

    def _program(self) -> Program:
        image = self._kind.image(self._record)
        try:
            self._role.pull_image(image)
            if key := self._kind.cluster(self._record).get("VolumeKmsKeyId"):
                self._role.open_volume(key)
            return self._settings.images.resolve(image)
        except (ImageNotFoundError, ExecutionRoleError) as error:
            raise TransferError(f"ClientError: {error}") from None

    def _credentials(self) -> RoleCredentials:
        try:
            return self._settings.cloud.role_credentials(self._record["RoleArn"])
        except PermissionError as error:
            raise TransferError(f"ClientError: Could not assume the job's role: {error}") from None

    def _key_id(self) -> str | None:
        outputs = "OutputDataConfig" if self._kind is TRAINING else "ProcessingOutputConfig"
        return self._record.get(outputs, {}).get("KmsKeyId") or None

    async def _enter(self, secondary: str, message: str) -> None:
        if self._kind is TRAINING:
            add_secondary_status(self._record, secondary, message)
            await self._emit_state_change()

    def _finish(self, status: str, reason: str | None, secondary: str | None = None) -> None:
        if self._metrics.final():
            self._record["FinalMetricDataList"] = self._metrics.final()
        # `wait(logs=True)` of the SageMaker Python SDK reads no further once it has seen the final status.
        self._settings.flush_log_lines()
        finish(self._kind, self._record, status, reason, secondary)

    async def _emit_state_change(self) -> None:
        """Put the job's state on the event bus. On a thread: a rule may run a function at once."""
        arn = self._record[self._kind.arn_field]
        detail = event_detail(self._record, self._store.tags.get(arn, {}))
        try:
            await asyncio.to_thread(self._settings.cloud.emit_event, self._kind.event, detail, [arn])
        except Exception:
            # A rule on the bus that fails must not fail a job.
            log.exception("%s: its state was not put on the event bus", arn)

    def _prune_folders(self) -> None:
        """Remove the folder of a job that ended well, and all but the latest others."""
        root = self._layout.folder.root
        if self._record[self._kind.status_field] == "Completed":
            shutil.rmtree(root, ignore_errors=True)
        kept = sorted(root.parent.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True)
        active = {
            record[self._kind.name_field].lower()
            for record in self._kind.collection(self._store).records.values()
            if self._kind.is_active(record)
        }
        for path in [path for path in kept if path.name not in active][KEPT_FOLDERS:]:
            shutil.rmtree(path, ignore_errors=True)


def _shell_code(process: ContainerProcess) -> int:
    """The exit code as a container reports it: 128 and the signal's number for a signal."""
    status = process.exit_status or 0
    return 128 - status if status < 0 else status
