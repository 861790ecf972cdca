"""What an operator sees of the requests: ledger, metrics and log, of a real process."""

from __future__ import annotations

import json
import logging
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from colm_vl.cli import app as command_line
from colm_vl.errors import InputError
from colm_vl.service import keys
from colm_vl.service.accounting import Bill
from colm_vl.service.keys import KeyRing, QuotaTable
from colm_vl.service.ledger import Ledger, usage
from colm_vl.service.logs import Formatter
from colm_vl.service.settings import LogFormat
from tests.service.hosted import client, process, service, team

TEAM = """
[[clients]]
name = "dots"
backend = "scripted"
model = "dots"
replies = ["Answer: 5"]

[server]
backend = "scripted"
model = "big"
replies = [{ text = "Evidence: five dots\\nDisagreement: none\\nCheck: all", delay = 0.02 }]
"""
SECRET = "How many dots?"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "team.toml").write_text(TEAM)
    (tmp_path / "service.toml").write_text('metrics_keys = ["prometheus"]\n')
    return tmp_path


def request_body() -> dict[str, Any]:
    return {"question": SECRET, "drafts": [{"heading": "dots", "text": "Answer: 4"}], "answers": ["4"]}


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_request_is_in_ledger_metrics_and_log(files: Path) -> None:
    ann, prometheus = (keys.add(files / "keys.toml", name, 1.0, QuotaTable()) for name in ("ann", "prometheus"))
    options = ["--team", str(files / "team.toml"), "--keys", str(files / "keys.toml"), "--log-format", "json"]
    options += ["--config", str(files / "service.toml"), "--ledger", str(files / "usage.sqlite")]
    with process(*options) as running, httpx.Client(base_url=running.url) as http:
        http.headers["Authorization"] = f"Bearer {ann}"
        asked = [http.post("/v1/guidance", json=request_body()) for _ in range(3)]
        assert [answer.status_code for answer in asked] == [200] * 3
        assert http.post("/v1/guidance", json={"question": ""}).status_code in (400, 422)
        chat = {"model": "colm", "messages": [{"role": "user", "content": SECRET}], "stream": True}
        assert http.post("/v1/chat/completions", json=chat).text.endswith("data: [DONE]\n\n")
        assert http.get("/nowhere").status_code == 404
        assert http.get("/metrics").status_code == 403
        found = http.get("/metrics", headers={"Authorization": f"Bearer {prometheus}"})
        counted = samples(found.text)
        rows = {row.group: row for row in usage(files / "usage.sqlite")}
        shown = CliRunner().invoke(command_line, ["usage", str(files / "usage.sqlite"), "--by", "route", "--json"])
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0
        assert running.process.stderr is not None
        log = running.process.stderr.read()
    assert counted["colm_vl_requests_total", "ann", "/v1/guidance", "200"] == 3
    assert counted["colm_vl_requests_total", "ann", "-", "404"] == 1
    assert counted["colm_vl_calls_total", "ann", "server", "guide"] == 4
    assert counted["colm_vl_calls_total", "ann", "dots", "refine"] == 1
    assert counted["colm_vl_first_token_seconds_count", "/v1/chat/completions"] == 1
    assert counted["colm_vl_queue_places",] == 4
    assert counted["colm_vl_tokens_total", "ann", "server", "prompt"] > 0
    assert (rows["ann"].requests, rows["ann"].refused, rows["ann"].calls) == (5, 1, 6)
    assert 0 < rows["ann"].server_tokens < rows["ann"].prompt_tokens + rows["ann"].completion_tokens
    assert [row["route"] for row in json.loads(shown.stdout)] == ["/v1/chat/completions", "/v1/guidance"]
    lines = [json.loads(line) for line in log.splitlines()]
    first = next(line for line in lines if line["message"] == "request")
    assert (first["key"], first["route"], first["status"], first["calls"]) == ("ann", "/v1/guidance", 200, 1)
    for secret in (SECRET, ann, prometheus):
        assert secret not in log
        assert secret.encode() not in (files / "usage.sqlite").read_bytes()


def test_requests_in_the_middle_of_a_termination_are_in_the_ledger_once(files: Path) -> None:
    path = files / "usage.sqlite"
    with process("--team", str(files / "team.toml"), "--ledger", str(path)) as running:
        with httpx.Client(base_url=running.url, timeout=30) as http, ThreadPoolExecutor(8) as threads:
            asked = [threads.submit(http.post, "/v1/guidance", json=request_body()) for _ in range(50)]
            asked[10].result()
            running.process.send_signal(signal.SIGTERM)
            answers = [one.result().status_code for one in asked if one.exception() is None]
        assert running.process.wait(40) == 0
    (row,) = usage(path)
    assert answers.count(200) <= row.requests <= 50
    assert row.requests - row.refused - row.failed >= answers.count(200)


async def test_the_quota_of_a_day_goes_on_after_a_restart(tmp_path: Path) -> None:
    file, path = tmp_path / "keys.toml", tmp_path / "usage.sqlite"
    key = keys.add(file, "ann", 1.0, QuotaTable(tokens_per_day=1300))
    for expected in (200, 429):
        book = Ledger(path)
        made = service(team(), keys=file, ledger=book)
        async with client(made, Authorization=f"Bearer {key}") as http:
            statuses = [(await http.post("/v1/guidance", json=request_body())).status_code for _ in range(3)]
        book.close()
        used = book.server_tokens_since(0)["ann"]
        assert made.places.queue.tokens_today(next(iter(KeyRing(file).callers))) == used
        assert statuses[0] == expected, used


def test_rows_that_cannot_be_written_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    book = Ledger(tmp_path / "usage.sqlite")
    with closing(sqlite3.connect(book.path)) as database:
        database.execute("DROP TABLE requests")
    book.served(Bill("/v1/guidance", time.time()))
    book.close()
    assert "ledger: 1 rows were not written (no such table: requests)" in caplog.text


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no ledger"):
        usage(tmp_path / "none.sqlite")
    (tmp_path / "text.sqlite").write_text("no database" * 100)
    with pytest.raises(InputError, match=r"text\.sqlite: not a ledger"):
        usage(tmp_path / "text.sqlite")


@pytest.mark.parametrize("kind", ["text", "json"])
def test_a_callers_text_cannot_control_the_operators_terminal(kind: LogFormat) -> None:
    record = logging.makeLogRecord({"msg": "request", "fields": {"question": "Würfel?", "answer": "\x1b[2J\x9b5"}})
    line = Formatter(kind).format(record)
    assert line.isprintable()
    assert "u001b[2J" in line
    record.fields = {"question": "Wie viele Würfel?"}
    assert '"Wie viele Würfel?"' in Formatter(kind).format(record)
