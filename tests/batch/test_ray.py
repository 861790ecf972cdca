"""Batches on a Ray cluster of three nodes on this machine, over real endpoints and local models."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from colm_vl import BatchStats, CoLM, ConfigError, Query, RayOptions, Team
from colm_vl.ray import CoLMActor
from processors.images import Image
from tests.batch.runs import read_lines, write_questions
from tests.batch.test_faults import CALLS, _Counting, _write_team
from tests.endpoint import Endpoint

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'colm-vl[ray]'")
cluster_utils = pytest.importorskip("ray.cluster_utils")

QUESTIONS = int(os.environ.get("COLM_VL_RAY_QUESTIONS", "100"))
KILLS = int(os.environ.get("COLM_VL_RAY_KILLS", "2"))
CONCURRENCY = 8
WORKERS = 3
IN_FLIGHT = CONCURRENCY * 2  # calls of one worker: two clients each

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore"),  # those of Ray
    pytest.mark.skipif(sys.platform != "linux", reason="clusters of several nodes on one machine need Linux"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    found = cluster_utils.Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 << 20},
    )
    for _ in range(WORKERS):
        found.add_node(num_cpus=1, object_store_memory=80 << 20)
    ray.init(address=found.address, log_to_driver=False, logging_level="ERROR")
    yield found
    ray.shutdown()
    found.shutdown()


def options(**more: Any) -> RayOptions:
    return RayOptions("auto", workers=WORKERS, cpus=1, **more)


def check_calls(script: _Counting, out: Path, repeated: int) -> None:
    """Every call is in the journal once, and was not made again after that."""
    lines = read_lines(out / "calls.jsonl")
    assert len({line["key"] for line in lines}) == len(lines) == QUESTIONS * CALLS
    last = {content: number for number, content in enumerate(script.contents)}
    journaled = [int(line["text"].split("request ")[1].split(".")[0]) for line in lines]
    assert all(last[script.contents[number]] == number for number in journaled)
    assert len(script.contents) <= QUESTIONS * CALLS + repeated


def test_three_nodes_answer_like_one_process(cluster: Any, tmp_path: Path) -> None:
    script = _Counting()
    with Endpoint(script) as endpoint:
        questions = write_questions(tmp_path, QUESTIONS)
        with CoLM.from_team(_write_team(tmp_path, endpoint.base_url)) as colm:
            stats = BatchStats()
            ids = [
                trace.id
                for trace in colm.batch(
                    questions, tmp_path / "ray", concurrency=CONCURRENCY, ray=options(), stats=stats
                )
            ]
            check_calls(script, tmp_path / "ray", 0)
            list(colm.batch(questions, tmp_path / "here", concurrency=CONCURRENCY))
            # A finished run is resumed without the cluster, and without a call.
            before = len(script.contents)
            assert len(list(colm.batch(questions, tmp_path / "ray", ray=RayOptions("nowhere:1")))) == QUESTIONS
            assert len(script.contents) == before
    assert ids == [f"q{number}" for number in range(QUESTIONS)]
    assert read_lines(tmp_path / "ray/answers.jsonl") == read_lines(tmp_path / "here/answers.jsonl")
    assert (stats.answered, stats.calls, stats.failed) == (QUESTIONS, QUESTIONS * CALLS, 0)
    assert stats.notes[0] == "Ray: 4 nodes (3 CPUs, 0 GPUs); 3 workers with 1 CPUs each"


def test_nodes_killed_at_random_moments_lose_nothing(cluster: Any, tmp_path: Path) -> None:
    script, draw, out = _Counting(), random.Random(8), tmp_path / "out"
    moments = sorted(draw.sample(range(20, QUESTIONS * CALLS * 9 // 10), KILLS))
    with Endpoint(script) as endpoint, CoLM.from_team(_write_team(tmp_path, endpoint.base_url)) as colm:
        questions = write_questions(tmp_path, QUESTIONS)
        with ThreadPoolExecutor(1) as threads:
            batch = threads.submit(lambda: list(colm.batch(questions, out, concurrency=CONCURRENCY, ray=options())))
            for moment in moments:
                assert script.wait_for(moment, timeout=120)
                time.sleep(draw.uniform(0, 0.05))
                cluster.remove_node(draw.choice(list(cluster.worker_nodes)), allow_graceful=False)
                cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
            traces = batch.result()
    assert [trace.id for trace in traces] == [f"q{number}" for number in range(QUESTIONS)]
    assert all(trace.answer == "5" and not trace.failures for trace in traces)
    check_calls(script, out, KILLS * IN_FLIGHT)


@pytest.mark.ray
def test_a_killed_driver_is_resumed_without_repeating_finished_calls(cluster: Any, tmp_path: Path) -> None:
    script, out = _Counting(), tmp_path / "out"
    with Endpoint(script) as endpoint:
        team, questions = _write_team(tmp_path, endpoint.base_url), write_questions(tmp_path, QUESTIONS)
        command = [
            sys.executable, "-m", "colm_vl.cli", "batch", str(questions), "--team", str(team), "--out", str(out),
            "--ray", cluster.address, "--workers", "2", "--concurrency", str(CONCURRENCY),
        ]  # fmt: skip
        driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert script.wait_for(QUESTIONS * CALLS // 3, timeout=120)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Until Ray ends them, the two workers go on with the questions that they have, and nobody hears of their calls.
    check_calls(script, out, 2 * CONCURRENCY * CALLS)
    assert [line["id"] for line in read_lines(out / "answers.jsonl")] == [f"q{number}" for number in range(QUESTIONS)]


@pytest.mark.ray
@pytest.mark.parametrize("concurrency", [1, 16])
def test_equal_questions_share_their_calls(cluster: Any, tmp_path: Path, concurrency: int) -> None:
    script = _Counting()
    with Endpoint(script) as endpoint, CoLM.from_team(_write_team(tmp_path, endpoint.base_url)) as colm:
        asked = [Query("How many?", id=str(n)) for n in range(12)]
        traces = list(colm.batch(asked, ray=options(), concurrency=concurrency))
    assert [trace.answer for trace in traces] == ["5"] * 12
    assert len(script.contents) == CALLS


@pytest.mark.ray
def test_local_models_are_loaded_once_in_each_worker(cluster: Any, tmp_path: Path) -> None:
    from colm_vl.pocket import world

    samples = world.generate(seed=11, n=24)  # many enough that both workers get some
    queries = [
        Query(sample.question, tuple(map(Image.open, sample.pictures)), sample.choices, str(number))
        for number, sample in enumerate(samples)
    ]
    stats = BatchStats()
    with CoLM.from_team(strategy="vote") as colm:
        here = [trace.answer for trace in colm.batch(queries)]
        workers = RayOptions("auto", workers=2, cpus=1)
        there = [trace.answer for trace in colm.batch(queries, ray=workers, concurrency=2, stats=stats)]
    assert there == here
    loaded = [note for note in stats.notes if note.endswith("loaded charts, digits, server, shapes")]
    assert len(loaded) == len(set(loaded)) == 2


@pytest.mark.ray
def test_pictures_are_read_where_they_are_used(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PIL.Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    rows = ['{"question": "What?", "image": "a.png"}', '{"question": "Gone?", "image": "gone.png"}']
    rows.append('{"question": "Remote?", "image": "local://%s"}' % (tmp_path / "a.png"))
    Path("q.jsonl").write_text("\n".join(rows), "utf-8")
    client = {"name": "one", "backend": "scripted", "model": "m", "replies": ["Answer: 5"]}
    with CoLM(Team.from_dict({"clients": [client], "policy": {"strategy": "vote"}})) as colm:
        found, gone, remote = colm.batch("q.jsonl", ray=RayOptions("auto", workers=1))
    assert (found.answer, remote.answer, gone.answer) == ("5", "5", "")
    assert found.images[0].digest == remote.images[0].digest
    assert "gone.png does not exist on" in gone.failures[0].message


def test_what_no_worker_can_have_is_refused(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = {"name": "one", "backend": "scripted", "model": "m", "replies": ["Answer: 5"]}
    missing = "no machine of the cluster has 1 CPUs and 2 GPUs for a worker"
    team = Team.from_dict({"clients": [client], "policy": {"strategy": "vote"}})
    with CoLM(team) as colm, pytest.raises(ConfigError, match=missing):
        list(colm.batch([Query("What?")], ray=RayOptions("auto", gpus=2)))
    monkeypatch.setenv("COLM_VL_TEST_KEY", "secret-in-the-driver-only")
    endpoint = {"name": "one", "backend": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
    keyed = Team.from_dict(
        {"clients": [endpoint | {"api_key_env": "COLM_VL_TEST_KEY"}], "policy": {"strategy": "vote"}}
    )
    with CoLM(keyed) as colm, pytest.raises(ConfigError, match=r"COLM_VL_TEST_KEY.*\(a worker on "):
        list(colm.batch([Query("What?")], tmp_path / "out", ray=RayOptions("auto", workers=1)))
    with CoLM.from_team(max_loaded=1) as colm, pytest.raises(ConfigError, match="max_loaded is 1, and the team has 4"):
        list(colm.batch([Query("What?")], ray=options()))


def test_ray_client_and_options_without_ray_are_refused(tmp_path: Path) -> None:
    questions = write_questions(tmp_path, 1)
    command = [sys.executable, "-m", "colm_vl.cli", "batch", str(questions), "--out", str(tmp_path / "out")]
    alone = subprocess.run([*command, "--workers", "2"], capture_output=True, text=True, check=False)
    assert alone.returncode == 2
    assert "--workers is given without --ray" in alone.stderr
    client = subprocess.run([*command, "--ray", "ray://host:10001"], capture_output=True, text=True, check=False)
    assert client.returncode == 2
    assert "Ray Client cannot stream results" in client.stderr


@pytest.mark.ray
def test_datasets_are_a_source_and_pipelines_have_a_stage(cluster: Any, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    rows = [{"id": f"q{number}", "question": f"Number {number}?", "answer": 5} for number in range(30)]
    dataset = ray.data.from_items(rows)
    client = {"name": "one", "backend": "scripted", "model": "m", "replies": ["Answer: 5"]}
    team = Team.from_dict({"clients": [client], "policy": {"strategy": "vote"}})
    with CoLM(team) as colm:
        traces = list(colm.batch(dataset, ray=RayOptions("auto", workers=2)))
    assert sorted(trace.id for trace in traces) == sorted(row["id"] for row in rows)
    assert {trace.metadata["answer"] for trace in traces} == {5}

    answered = dataset.map_batches(
        CoLMActor, fn_constructor_kwargs={"team": team}, batch_size=8, concurrency=2, num_cpus=0.5
    )
    found = answered.take_all()
    assert sorted(row["id"] for row in found) == sorted(row["id"] for row in rows)
    assert {(row["colm_answer"], row["colm_error"]) for row in found} == {("5", "")}
