"""What `make peers` keeps of its reports, and what is kept of the last run."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.settings.engine_promises import promise_table
from tests.contract.differences import DIFFERENCES
from tests.support import peer_results
from tests.support.peers import HOOKED

HOOKED_SERVER, PLAIN_SERVER = HOOKED[0], f"{HOOKED[0]}-plain"
REPORT = f"""<testsuites><testsuite>
<testcase name="test_ping[{HOOKED_SERVER}]"/>
<testcase name="test_ping[{PLAIN_SERVER}]"><skipped type="pytest.xfail" message="no container"/></testcase>
<testcase name="test_field[no model-{HOOKED_SERVER}]"/>
<testcase name="test_field[{HOOKED_SERVER}-top_p]"><failure message="boom"/></testcase>
<testcase name="test_field[{PLAIN_SERVER}-top_p]"><skipped type="pytest.skip" message="by chance"/></testcase>
<testcase name="test_of_ours[openvino]"/>
</testsuite></testsuites>"""


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(peer_results, "RESULTS", tmp_path / "results.json")
    path = tmp_path / "report.xml"
    path.write_text(REPORT)
    return path


def test_outcomes_are_counted_by_server(report: Path) -> None:
    found = peer_results.read([report])

    assert found.keys() == {HOOKED_SERVER, PLAIN_SERVER}
    assert found[HOOKED_SERVER]["passed"] == {"test_ping": 1, "test_field": 1}
    assert found[HOOKED_SERVER]["failed"] == [f"test_field[{HOOKED_SERVER}-top_p]"]
    assert (found[PLAIN_SERVER]["differs"], found[PLAIN_SERVER]["not_asked"]) == (
        {"no container": 1},
        {"by chance": 1},
    )


def test_a_failure_ends_with_one_and_other_servers_are_kept(report: Path) -> None:
    assert peer_results.main([str(report)]) == 1
    report.write_text(REPORT.replace(HOOKED_SERVER, HOOKED[1]))

    peer_results.main([str(report)])

    assert {HOOKED_SERVER, HOOKED[1]} < peer_results.results().keys()


def test_what_is_promised_of_vllm_passed_on_the_pinned_version() -> None:
    """But for what test_hooked_vllm.py asks: a run of its own, since each of its tests starts a server."""
    promised = [one.shown["vllm"] for one in promise_table().promises.values() if "vllm" in one.shown]
    suite = [
        test for test in promised if test.startswith("tests/contract/") and "test_hooked_vllm" not in test
    ]
    row = peer_results.results()[HOOKED_SERVER]

    assert suite
    assert {test.split("::")[1] for test in suite} <= row["passed"].keys()
    assert row["differs"].keys() <= DIFFERENCES[HOOKED_SERVER].keys()
