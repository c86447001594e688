"""The worker: goes on where it stopped, repeats nothing that is done, waits, gives up, and says why."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from contracts import metrics
from contracts.jobs import Ticket
from lambdas.aws.work_table import WorkTable
from lambdas.job_worker.service import Run
from lambdas.pipeline import batch_lines as files
from lambdas.pipeline.batch_lines import Outcome
from tests.support.fake_model_endpoint import Reply, chat_events, cut
from tests.support.front_door import Door, chat, emitted
from tests.support.jobs_api import KEY, Jobs, line

FULL = Reply(status=424, error=("ModelError", {"OriginalStatusCode": 503, "OriginalMessage": "busy"}))
BROKEN = Reply(status=424, error=("ModelError", {"OriginalStatusCode": 500, "OriginalMessage": "oops"}))


def answer(text: str) -> Reply:
    return Reply(parts=cut(chat_events(text), 60))


def asked(door: Door) -> list[str]:
    """The prompts that reached the model, in order."""
    return [json.loads(body)["messages"][0]["content"] for _, body in door.sagemaker.calls]


def rows(jobs: Jobs, prefix: str) -> list[dict[str, Any]]:
    items = jobs.door.tables.scan(TableName="work")["Items"]
    return [item for item in items if item["sk"]["S"].startswith(prefix)]


def change(jobs: Jobs, id: str, **values: dict[str, Any]) -> None:
    """Write attributes into a task's row behind everybody's back."""
    (row,) = rows(jobs, id)
    jobs.door.tables.put_item(TableName="work", Item={**row, **values})


def batch_of(jobs: Jobs, id: str) -> dict[str, Any]:
    found: dict[str, Any] = jobs.ask("GET", f"/v1/batches/{id}")[1]
    return found


def test_a_batch_is_worked_through_to_an_output_file(jobs: Jobs) -> None:
    jobs.door.sagemaker.replies = [answer("one"), answer("two"), answer("three")]
    _, batch = jobs.batch(line("a", "1"), line("b", "2"), line("c", "3"))
    assert (batch["status"], batch["request_counts"]["total"]) == ("validating", 3)
    jobs.work()
    batch = batch_of(jobs, batch["id"])
    assert (batch["status"], batch["error_file_id"]) == ("completed", None)
    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    lines = jobs.lines(batch["output_file_id"])
    assert [each["custom_id"] for each in lines] == ["a", "b", "c"]
    contents = [each["response"]["body"]["choices"][0]["message"]["content"] for each in lines]
    assert contents == ["one", "two", "three"]
    assert {each["response"]["status_code"] for each in lines} == {200}
    assert not [key for key in jobs.stores.objects if "/part-" in key]


def test_lines_in_parallel_come_out_in_the_files_order(jobs: Jobs) -> None:
    _, batch = jobs.batch(*(line(str(number)) for number in range(10)))
    jobs.deliver(jobs.worker(parallel=4))
    output = batch_of(jobs, batch["id"])["output_file_id"]
    assert [each["custom_id"] for each in jobs.lines(output)] == [str(n) for n in range(10)]


def test_a_worker_without_time_hands_over_and_nothing_is_asked_twice(jobs: Jobs) -> None:
    _, batch = jobs.batch(line("a", "1"), line("b", "2"), line("c", "3"))
    left = iter([600.0, 10.0, 600.0, 600.0, 600.0])

    while jobs.stores.messages:
        text, _ = jobs.stores.messages.pop(0)
        jobs.worker().work(Ticket.model_validate_json(text), Run("w", None, lambda: next(left)))
    assert asked(jobs.door) == ["1", "2", "3"]
    assert batch_of(jobs, batch["id"])["status"] == "completed"


def test_a_redelivery_after_a_crash_repeats_no_finished_line(jobs: Jobs) -> None:
    _, batch = jobs.batch(line("a", "1"), line("b", "2"), line("c", "3"))
    ticket = jobs.stores.messages[0]

    class Killed(BaseException):
        """The process ends: no handler of the worker sees it."""

    service, answered = jobs.door.service, []

    class Dying:
        def answer(self, route: str, incoming: Any) -> Any:
            if len(answered) == 1:
                raise Killed
            answered.append(incoming.request_id)
            return service.answer(route, incoming)

    jobs.door.service = Dying()
    with pytest.raises(Killed):
        jobs.deliver()
    assert asked(jobs.door) == ["1"]
    jobs.door.service = service

    # SQS delivers the ticket again. While the dead worker's claim lasts it is put back ...
    jobs.stores.messages = [ticket]
    jobs.deliver()
    assert asked(jobs.door) == ["1"]
    assert jobs.stores.messages[0][1] > 30
    # ... and once it has run out the next worker goes on.
    change(jobs, batch["id"], lease_until={"N": "0"})
    jobs.work()
    assert asked(jobs.door) == ["1", "2", "3"]
    assert batch_of(jobs, batch["id"])["request_counts"]["completed"] == 3


def test_an_outcome_stored_before_the_checkpoint_counts_once(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, batch = jobs.batch(line("a", "1"), line("b", "2"))
    ticket = jobs.stores.messages[0]

    class Killed(BaseException):
        pass

    def dies(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(WorkTable, "advance", dies)
        with pytest.raises(Killed):
            jobs.deliver()
    change(jobs, batch["id"], lease_until={"N": "0"})
    jobs.stores.messages = [ticket]
    jobs.work()
    output = batch_of(jobs, batch["id"])["output_file_id"]
    assert [each["custom_id"] for each in jobs.lines(output)] == ["a", "b"]


def test_a_full_model_is_waited_for_longer_each_time(jobs: Jobs) -> None:
    jobs.door.sagemaker.replies = [FULL, FULL, FULL, answer("late")]
    _, job = jobs.submit(chat())
    delays = []
    while jobs.stores.messages:
        delays.append(jobs.deliver())
    assert delays == [0, 5, 10, 20]
    assert jobs.ask("GET", f"/v1/jobs/{job['id']}")[1]["status"] == "completed"


def test_only_the_lines_that_have_to_wait_are_asked_again(jobs: Jobs) -> None:
    jobs.door.sagemaker.replies = [answer("one"), FULL, answer("three"), answer("two")]
    # One connection after the other, so that the replies' order is the lines'.
    _, batch = jobs.batch(line("a", "1"), line("b", "2"), line("c", "3"))
    jobs.work()
    assert sorted(asked(jobs.door)) == ["1", "2", "2", "3"]
    assert batch_of(jobs, batch["id"])["request_counts"]["completed"] == 3


def test_a_line_that_keeps_failing_is_given_up_and_the_others_go_on(jobs: Jobs) -> None:
    jobs.door.sagemaker.replies = [BROKEN, BROKEN, BROKEN, answer("fine")]
    _, batch = jobs.batch(line("a", "1"), line("b", "2"))
    jobs.work()
    assert asked(jobs.door) == ["1", "1", "1", "2"]
    batch = batch_of(jobs, batch["id"])
    assert (batch["status"], batch["request_counts"]["failed"]) == ("completed", 1)
    (failed,) = jobs.lines(batch["error_file_id"])
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("a", 500)


def test_a_line_that_is_wrong_is_an_error_line_at_once(jobs: Jobs) -> None:
    _, batch = jobs.batch(line("a", "1", magic=1), line("b", "2"))
    jobs.work()
    batch = batch_of(jobs, batch["id"])
    (line_,) = jobs.lines(batch["error_file_id"])
    response = line_["response"]
    assert (response["status_code"], response["body"]["error"]["param"]) == (400, "magic")


def test_a_spent_budget_is_waited_for(jobs: Jobs) -> None:
    caller = {**KEY, "requests_per_day": "1"}
    _, batch = jobs.batch(line("a", "1"), line("b", "2"), caller=caller)
    jobs.deliver()
    ((_, delay),) = jobs.stores.messages
    assert delay > 5
    assert asked(jobs.door) == ["1"]
    assert batch_of(jobs, batch["id"])["request_counts"]["completed"] == 1


def booked(jobs: Jobs) -> int:
    """The requests of the key's day."""
    items = jobs.door.tables.scan(TableName="records")["Items"]
    return sum(int(item["requests"]["N"]) for item in items if item["sk"]["S"].startswith("DAY#"))


@pytest.mark.parametrize("limit", [{"requests_per_day": "2"}, {"tokens_per_day": "100000"}, {}])
@pytest.mark.parametrize(
    "replies", [[FULL] * 3 + [answer("late")], [BROKEN, FULL, BROKEN, answer("late")]], ids=["full", "broken"]
)
def test_a_job_counts_once_however_often_it_is_asked(
    jobs: Jobs, replies: list[Reply], limit: dict[str, str]
) -> None:
    jobs.door.sagemaker.replies = list(replies)
    jobs.submit(chat(), caller={**KEY, **limit})
    jobs.work()
    assert len(asked(jobs.door)) == 4
    assert booked(jobs) == 1


def test_a_job_that_is_given_up_counts_as_the_request_it_was(jobs: Jobs) -> None:
    jobs.door.sagemaker.replies = [BROKEN] * 3
    jobs.submit(chat(), caller={**KEY, "requests_per_day": "2"})
    jobs.work()
    assert (len(asked(jobs.door)), booked(jobs)) == (3, 1)


def test_every_line_of_a_batch_counts_once(jobs: Jobs) -> None:
    jobs.door.sagemaker.replies = [answer("one"), FULL, answer("three"), answer("two")]
    _, batch = jobs.batch(
        line("a", "1"), line("b", "2"), line("c", "3"), caller={**KEY, "requests_per_day": "3"}
    )
    jobs.work()
    assert batch_of(jobs, batch["id"])["request_counts"]["completed"] == 3
    assert booked(jobs) == 3


def test_a_batch_is_cancelled_between_lines_and_keeps_what_it_has(jobs: Jobs) -> None:
    _, batch = jobs.batch(line("a", "1"), line("b", "2"), line("c", "3"))
    service = jobs.door.service

    class Cancelling:
        def answer(self, route: str, incoming: Any) -> Any:
            reply = service.answer(route, incoming)
            assert jobs.ask("POST", f"/v1/batches/{batch['id']}/cancel")[1]["status"] == "cancelling"
            return reply

    jobs.door.service = Cancelling()
    jobs.work()
    assert asked(jobs.door) == ["1"]
    batch = batch_of(jobs, batch["id"])
    assert (batch["status"], batch["request_counts"]["completed"]) == ("cancelled", 1)
    assert batch["cancelled_at"] >= batch["cancelling_at"]
    lines = jobs.lines(batch["error_file_id"])
    assert [each["error"]["code"] for each in lines] == ["batch_cancelled"] * 2


def test_a_deadline_ends_a_batch_with_what_it_has(jobs: Jobs) -> None:
    _, batch = jobs.batch(line("a", "1"), line("b", "2"))
    clock = iter([0.0] * 3 + [time.time() + 10_000] * 50)
    jobs.deliver(jobs.worker(clock=lambda: next(clock)))
    batch = batch_of(jobs, batch["id"])
    assert batch["status"] == "expired"
    assert batch["expired_at"]
    assert jobs.lines(batch["error_file_id"])[-1]["error"]["code"] == "batch_expired"


def test_a_poisoned_job_ends_failed_with_the_reason(jobs: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    _, job = jobs.submit(chat("zanzibar-4711"))

    class Defect:
        def answer(self, route: str, incoming: Any) -> Any:
            raise RuntimeError("zanzibar-4711 broke it")

    jobs.door.service = Defect()
    deliveries = 0
    while jobs.stores.messages:
        jobs.deliver()
        deliveries += 1
    assert deliveries == 4
    _, job = jobs.ask("GET", f"/v1/jobs/{job['id']}")
    assert (job["status"], job["error"]["code"]) == ("failed", "worker_stopped")
    assert "zanzibar-4711" not in capsys.readouterr().out
    # Its place among the open jobs is free again.
    assert rows(jobs, "SLOT#") == []


def test_a_batch_whose_file_was_deleted_fails_and_says_so(jobs: Jobs) -> None:
    _, batch = jobs.batch(line("a", "1"))
    jobs.ask("DELETE", f"/v1/files/{batch['input_file_id']}")
    jobs.work()
    batch = batch_of(jobs, batch["id"])
    assert (batch["status"], batch["errors"]["data"][0]["code"]) == ("failed", "input_gone")


def test_a_ticket_twice_is_worked_on_once(jobs: Jobs) -> None:
    _, job = jobs.submit(chat())
    jobs.stores.messages *= 2
    jobs.work()
    assert len(jobs.door.sagemaker.calls) == 1
    assert jobs.ask("GET", f"/v1/jobs/{job['id']}")[1]["status"] == "completed"


def test_a_ticket_of_nothing_is_dropped(jobs: Jobs) -> None:
    jobs.submit(chat())
    jobs.door.tables.delete_item(
        TableName="work", Key={name: rows(jobs, "job_")[0][name] for name in ("pk", "sk")}
    )
    jobs.work()
    assert jobs.door.sagemaker.calls == []


def test_long_batches_are_kept_in_several_parts(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdas.job_worker.service._PART_LINES", 2)
    _, batch = jobs.batch(*(line(str(number)) for number in range(5)))
    # Time for the five lines, and none to write the files.
    left = iter([600.0] * 5 + [0.0])
    text, _ = jobs.stores.messages.pop(0)
    worker = jobs.worker()
    with monkeypatch.context() as patch:
        patch.setattr(worker._ending, "end", lambda *_: None)
        worker.work(Ticket.model_validate_json(text), Run("w", None, lambda: next(left)))
    assert len([key for key in jobs.stores.objects if "/part-" in key]) == 3
    change(jobs, batch["id"], lease_until={"N": "0"})
    jobs.stores.messages = [(text, 0)]
    jobs.work()
    assert len(asked(jobs.door)) == 5
    assert batch_of(jobs, batch["id"])["request_counts"]["completed"] == 5
    assert not [key for key in jobs.stores.objects if "/part-" in key]


def test_what_is_over_is_counted_by_how_it_ended(jobs: Jobs) -> None:
    jobs.submit(chat())
    jobs.batch(line("a", "1"))
    jobs.work()
    assert [task.status for task in jobs.ended] == ["completed", "completed"]
    assert metrics.JOBS in metrics.PUBLISHED


def test_outcomes_of_a_line_done_twice_are_one() -> None:
    first, second = (Outcome(0, "r", 200, body).to_json() for body in ("old", "new"))
    assert files.outcomes([first, second]) == {0: Outcome(0, "r", 200, "new")}


def test_an_entry_point_works_on_what_the_queue_delivers(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variables = {
        "ENDPOINT_NAME": "evergreen-test",
        "MODEL_NAME": "smollm2",
        "MODEL_VERSION": "v1",
        "RECORDS_TABLE": "records",
        "RECORD_TTL_DAYS": "7",
        "JOBS_PARALLEL": "2",
        "JOBS_REQUEST_SECONDS": "60",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    import importlib

    import lambdas.job_worker.handler as module

    module = importlib.reload(module)
    _, job = jobs.submit(chat())

    class Context:
        aws_request_id = "aws-1"

        def get_remaining_time_in_millis(self) -> int:
            return 600_000

    module.handler({"Records": [{"body": jobs.stores.messages.pop(0)[0]}]}, Context())
    assert jobs.ask("GET", f"/v1/jobs/{job['id']}")[1]["status"] == "completed"
    (counted,) = emitted(capsys.readouterr().out, metrics.JOBS)
    assert (counted["outcome"], counted["endpoint"]) == ("completed", "evergreen-test")
