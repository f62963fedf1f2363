"""Runs in line, in real processes at a tiny size: turns, stop, kill -9, resume, and what they leave behind."""

import errno
import fcntl
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from importlib.util import find_spec

import pytest
import torch
from house import build_house
from PIL import Image

from foresight.adapters.checkpoint import WEIGHTS, describe_adapter, load_adapter
from foresight.data.images import to_pil
from foresight.data.render import render
from foresight.data.scenes import Scenes
from foresight.errors import InputError
from foresight.inspection.inspector import Inspector
from foresight.models.vlm import load_vlm
from training.service.job import run_job
from training.service.pace import STARTUP
from training.service.queue import CUT, DONE, STOPPED, WAITING, JobQueue, Run, read_lines, write_json
from training.service.runs import card_text
from training.service.service import TrainingService

PATIENCE = 120  # seconds; only a crowded machine needs so many
SETTINGS = {
    "points": ["pre-merge/0"],
    "kinds": ["pooled"],  # linear probes are solved, which takes no steps
    "hidden": 16,
    "data": "factors",
    "objects": [1, 1],
    "scenes": 16,
    "steps": 400,
    "batch": 4,
    "loss": "latents",
    "held_out": 2,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def house(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    return folder, build_house(tiny.folder, folder)


def new_service(house, root):
    folder, models = house
    return TrainingService(Inspector(models.vlm, models.vae, [folder / "bundled", root / "adapters"]), root)


def models_of(service):
    return {"model": str(service.inspector.vlm.name), "vae": str(service.inspector.vae.name), "device": "cpu"}


@pytest.fixture(scope="module")
def service(house):
    service = new_service(house, house[0] / "made")
    yield service
    for run in service.queue.runs():
        if run.alive():
            os.kill(int((run.folder / "pid").read_text()), signal.SIGKILL)


def until(what, run=None):
    end = time.monotonic() + PATIENCE
    while not (result := what()):
        assert time.monotonic() < end, "it took too long"
        assert run is None or run.alive(), (run.folder / "output.txt").read_text()
        time.sleep(0.05)
    return result


def ended(run):
    until(lambda: not run.alive())
    return run.state()


def make_run(folder, state=WAITING, **job):
    folder.mkdir(parents=True)
    write_json(folder / "job.json", {"ticket": 1, "device": "cpu"} | job)
    run = Run(folder)
    run.write_state(state)
    (folder / "output.txt").touch()
    return run


def test_a_run_is_killed_the_next_has_its_turn_and_resuming_ends_at_the_same_bits(service):
    line = service.queue
    job = {"settings": SETTINGS, "save_every": -1, **models_of(service)}  # a state after each step
    first = line.start("first", job)
    last = line.start("last", job | {"settings": SETTINGS | {"steps": 100_000}})
    whole = make_run(line.folder / "whole", **job)
    assert [line.place(run) for run in (first, last)] == [0, 1]
    assert (
        service.run_details("last")["state"] == WAITING
        and next(r for r in service.runs() if r["name"] == "last")["place"] == 1
    )
    log = until(lambda: [e for e in read_lines(first.folder / "log.jsonl") if e["step"] > 20], first)
    os.kill(int((first.folder / "pid").read_text()), signal.SIGKILL)
    assert ended(first)["state"] == CUT and log[-1]["losses"]["pre-merge/0-pooled"] > 0
    until(lambda: read_lines(last.folder / "log.jsonl"), last)  # its turn has come
    with pytest.raises(InputError, match="still running: stop it first"):
        service.remove("last")
    service.write_note("last", " a  note\n")
    assert [run["note"] for run in service.runs()][:1] == ["a note"]
    with pytest.raises(InputError, match="at most 200 characters, not 201"):
        service.write_note("last", "x" * 201)
    service.resume("first")
    with pytest.raises(InputError, match="is waiting: only one"):
        service.resume("first")
    assert line.place(first) == 1
    run_job(whole, line)  # at the same time, in this process
    service.stop("last")
    assert ended(last)["state"] == STOPPED and (last.folder / "training.pt").exists()
    assert ended(first)["state"] == DONE
    assert service.run_details("whole")["state"] == DONE
    log_lines = read_lines(first.folder / "log.jsonl")
    steps, seconds = [record["step"] for record in log_lines], [record["seconds"] for record in log_lines]
    assert steps == sorted(set(steps)) and steps[-1] == 400
    assert seconds == sorted(seconds)  # the time goes on where it was cut off
    # The run that died on the way made the very same adapter as the one that did not.
    weights = [(line.adapters / name / WEIGHTS).read_bytes() for name in ("whole", "first")]
    assert weights[0] == weights[1]
    assert [a["name"] for a in service.adapters()] == ["first", "whole"]
    assert service.run_details("first")["adapters"] == ["first"] and not (first.folder / "latents").exists()
    scores = service.run_details("first")["held_out"][-1]
    assert scores["step"] == 400 and scores["scores"]["pre-merge/0-pooled"]["scenes like its own"]["ssim"]
    with Image.open(service.run_details("first")["samples"]) as sheet:
        assert sheet.size == (2 * 224, 2 * 224)  # two held-out pictures; originals and reconstructions
        held_out = render(Scenes.from_description(service.held_out_picture("first"))).images[0]
        assert sheet.crop((0, 0, 224, 224)).tobytes() == to_pil(held_out / 255).tobytes()
    service.remove("last")
    assert {run.name for run in line.runs()} == {"first", "whole"}


def test_adapters_are_renamed_exported_imported_published_and_deleted(house, tmp_path, monkeypatch):
    service = new_service(house, tmp_path / "made")
    for name in ("first", "whole"):
        job = {"settings": SETTINGS | {"steps": 4}, **models_of(service)}
        run_job(make_run(service.queue.folder / name, **job), service.queue)
    job = {"settings": SETTINGS | {"steps": 1, "lr": 1e-7, "start": ["pre-merge/0 first"]}, **models_of(service)}
    further = make_run(service.queue.folder / "further", **job)
    shutil.copytree(service.queue.adapters / "first", further.folder / "start/pre-merge-0-pooled")
    run_job(further, service.queue)
    before, after = (load_adapter(service.queue.adapters / name) for name in ("first", "further"))
    for key, value in before.named_parameters():  # it began from these weights
        torch.testing.assert_close(after.get_parameter(key), value, rtol=1e-3, atol=1e-4)
    assert after.card["config"]["start"] == ["pre-merge/0 first"] and not (further.folder / "start").exists()
    service.delete_adapter("further")
    service.rename_adapter("whole", "best")
    assert service.run_details("whole")["adapters"] == ["best"] and service.run_details("first")["adapters"] == [
        "first"
    ]
    with pytest.raises(InputError, match="taken"):
        service.rename_adapter("best", "first")
    with pytest.raises(InputError, match="must be 1 to 60"):
        service.rename_adapter("best", "../out")
    (tmp_path / "best.zip").write_bytes(service.adapter_as_zip("best"))
    with zipfile.ZipFile(tmp_path / "best.zip") as archive:
        assert {"best/model.safetensors", "best/config.json", "best/README.md"} == set(archive.namelist())
        archive.extractall(tmp_path)
    assert service.import_adapter(str(tmp_path / "best")) == "best-2"
    assert {a["name"] for a in service.adapters()} == {"best", "best-2", "first"}
    with pytest.raises(InputError, match="could not be fetched|neither a folder"):
        service.import_adapter("no/such/folder/here")
    shutil.copytree(
        tmp_path / "best", service.queue.adapters / "team/best"
    )  # as `fit --out runs/adapters/team` writes it
    assert {a["name"] for a in service.adapters()} == {"best", "best-2", "first", "team/best"}
    service.delete_adapter("team/best")
    assert {a["name"] for a in service.adapters()} == {"best", "best-2", "first"}
    (tmp_path / "best/model.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="safetensors"):
        service.import_adapter(str(tmp_path / "best"))
    service.delete_adapter("best-2")
    with pytest.raises(InputError, match="no trained adapter 'best-2'"):
        service.delete_adapter("best-2")
    text = card_text("best", describe_adapter(service.queue.adapters / "best"))
    assert text.startswith("---\nlibrary_name: foresight") and "pre-merge/0" in text and "steps 4" in text
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(InputError, match="hf auth login"):
        service.publish_adapter("best", "me/best", True)


def test_a_run_computes_latents_in_the_apps_dtype(house, tmp_path, monkeypatch):
    folder, models = house
    vlm, jobs = load_vlm(folder / "vlm", "cpu", torch.bfloat16), []
    service = TrainingService(Inspector(vlm, models.vae, [folder / "bundled", tmp_path / "adapters"]), tmp_path)
    monkeypatch.setattr(service.queue, "start", lambda name, job, *_: jobs.append(job))
    service.start("half", SETTINGS | {"steps": 1, "pixels": ["56²"]})
    run_job(make_run(service.queue.folder / "half", **jobs[0]), service.queue)
    (adapter,) = service.adapters()
    fitted = adapter["card"]["identity"]
    assert (fitted["dtype"], fitted["pixels"]) == ("bfloat16", [56**2])


def test_a_zip_with_broken_files_starts_all_the_same(service, tmp_path):
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for k in range(12):
            Image.new("RGB", (64, 64), (20 * k, 0, 255 - 20 * k)).save(tmp_path / "x.png")
            file.write(tmp_path / "x.png", f"photos/{k}.png")
        file.writestr("photos/bad.png", b"no picture")
        file.writestr("notes.txt", b"hello")
    started = service.start("photos", SETTINGS | {"data": "pictures"}, str(archive))
    assert sorted(name for name, _ in started["broken"]) == ["notes.txt", "photos/bad.png"]
    run = service.queue.run("photos")
    assert len(list((run.folder / "pictures").iterdir())) == 12
    assert service.run_details("photos")["pictures"] == {"learn": 9, "held_out": 2, "asked": 2}
    assert service.held_out_picture("photos").parent == run.folder / "pictures"
    service.stop("photos")
    assert ended(run)["state"] == STOPPED
    with pytest.raises(InputError, match="no zip archive"):
        service.start("photos-2", SETTINGS | {"data": "pictures"}, __file__)
    with pytest.raises(InputError, match="choose a zip"):
        service.start("photos-2", SETTINGS | {"data": "pictures"})
    with pytest.raises(InputError, match="steps must be"):
        service.start("photos-2", SETTINGS | {"steps": -1})
    for name, sentence in (("photos", "is taken"), ("../../evil", "must be 1 to 60 of a-z")):
        with pytest.raises(InputError, match=sentence):
            service.start(name, SETTINGS)
    assert [r.name for r in service.queue.runs() if r.name.startswith("photos")] == ["photos"]  # nothing is left behind
    assert not list(service.queue.root.glob(".upload-*"))


@pytest.mark.skipif(find_spec("trackio") is None, reason="needs trackio")
def test_trackio_keeps_losses_and_scores_of_a_run_that_was_stopped_once(service, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    job = {"settings": SETTINGS | {"steps": 2000}, "save_every": -1, **models_of(service)}
    run = service.queue.start("tracked", job)
    until(lambda: (run.folder / "log.jsonl").exists(), run)
    service.stop("tracked")
    assert ended(run)["state"] == STOPPED
    write_json(run.folder / "job.json", run.job | {"save_every": 1})  # it would write a state at each step to the end
    service.resume("tracked")
    assert ended(run)["state"] == DONE
    (file,) = tmp_path.rglob("*.db")
    with sqlite3.connect(file) as database:
        kept = list(database.execute("select run_name, step, metrics from metrics order by step"))
    assert {name for name, _, _ in kept} == {"tracked"} and (kept[0][1], kept[-1][1]) == (1, 2000)
    assert {key.rpartition("/")[2] for _, _, values in kept for key in json.loads(values)} >= {"0-pooled", "lpips"}


def test_a_run_tells_about_how_long_it_will_take(service):
    last = SETTINGS | {"keep": "the last"}
    *steps, once = service.seconds(last | {"steps": 1_000_000})
    assert len(steps) >= 5 and not any(steps)  # others may have the models after each
    [twice] = service.seconds(last | {"steps": 500_000})  # nothing is to be measured any more
    assert once["learn"] == pytest.approx(2 * twice["learn"]) and once["learn"] > 10
    assert once["extract"] == twice["extract"] > 0 and once["total"] > once["learn"] + STARTUP
    *_, solved = service.seconds(SETTINGS | {"kinds": ["linear"]})
    assert solved["learn"] == 0


def test_sigterm_ends_a_process_whose_library_swallows_every_exception():
    stubborn = """
from training.service.worker import end_on_sigterm
end_on_sigterm(grace=1)
while True:
    try:
        print("ready", flush=True)
        while True: pass
    except BaseException as error:
        print(type(error).__name__, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.terminate()
            assert process.stdout.readline() == "Stopped\n"
            assert process.wait(PATIENCE) == -signal.SIGALRM
        finally:
            process.kill()


def test_a_stop_during_a_launch_ends_the_process_that_is_launched(tmp_path, monkeypatch):
    queue = JobQueue(tmp_path)
    run = make_run(queue.folder / "r")
    (run.folder / "pid").write_text(str(2**22 + 1))  # left by an earlier process; no pid is that high
    stops = []

    class SlowPopen(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            assert kwargs["env"]["OMP_WAIT_POLICY"] == "PASSIVE"
            super().__init__(*args, **kwargs)
            stops.append(threading.Thread(target=queue.stop, args=["r"]))
            stops[0].start()  # the process lives, and nobody knows its pid yet
            stops[0].join(0.2)

    run.write_state(STOPPED)
    monkeypatch.setattr(subprocess, "Popen", SlowPopen)
    queue.resume("r")
    stops[0].join(PATIENCE)
    assert ended(run)["state"] == STOPPED


def test_a_run_takes_the_free_gpu(house, tmp_path, monkeypatch):
    service, free = new_service(house, tmp_path), {"cuda:0": 9, "cuda:1": 5, "cuda:2": 7}
    service.devices = [*free]
    monkeypatch.setattr("training.service.service.memory", lambda device: {"free": free[str(device)]})
    monkeypatch.setattr(service.inspector.vlm, "device", torch.device("cuda", 0))
    assert service.free_device() == "cuda:2"  # the app is on the first, and has the more to itself
    run = make_run(service.queue.folder / "r", device="cuda:2")
    with (run.folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert service.free_device() == "cuda:1"
    with pytest.raises(InputError, match="no device 'cuda:7' here: choose from cuda:0, cuda:1, cuda:2"):
        service.start("other", SETTINGS, device="cuda:7")


def test_a_line_for_each_device(tmp_path):
    line = JobQueue(tmp_path)
    runs = [make_run(line.folder / f"r{k}", ticket=k, device=d) for k, d in enumerate(("cuda:0", "cuda:1", "cuda:0"))]
    locks = [(run.folder / "lock").open("a") for run in runs]
    for lock in locks:
        fcntl.flock(lock, fcntl.LOCK_EX)
    assert [line.place(run) for run in runs] == [0, 0, 1]
    locks[0].close()  # as when its process dies
    assert [line.place(run) for run in runs] == [0, 0, 0]
    assert runs[0].state()["state"] == CUT and runs[1].state()["state"] == WAITING


def test_a_run_that_is_removed_while_others_look_is_none(tmp_path):
    line = JobQueue(tmp_path)
    first, second = (make_run(line.folder / name, ticket=k) for k, name in enumerate("ab"))
    (first.folder.with_name(".a")).mkdir()  # left by a removal that was cut off
    line.remove("a")
    assert line.runs() == [second] and not first.alive() and not first.folder.exists()


def test_a_name_whose_adapters_are_there_already_is_taken(service, monkeypatch):
    monkeypatch.setattr(service.queue, "start", lambda name, job, *_: started.append((name, job["settings"]["seed"])))
    started, both = [], SETTINGS | {"kinds": ["linear", "tokens"]}
    left = service.queue.adapters / "left-pre-merge-0-tokens"
    left.mkdir(parents=True)
    with pytest.raises(InputError, match="taken"):
        service.start("left", both)
    service.start("left", SETTINGS)  # one adapter has the run's own name
    left.rmdir()
    service.start("left", both)
    assert started == [("left", 0), ("left", 0)]


def test_several_seeds_are_several_runs_and_what_cannot_be_begun_from_is_told(service, monkeypatch):
    started = []
    monkeypatch.setattr(
        service.queue, "start", lambda name, job, _, begun: started.append((name, job["settings"]["seed"], [*begun]))
    )
    at_end = SETTINGS | {"points": ["post-merge/1"]}
    run_ids = service.start("s", at_end | {"seed": 3, "start": ["post-merge/1 pooled"]}, seeds=2)
    begun = ["post-merge-1-pooled"]
    assert started == [("s-seed-3", 3, begun), ("s-seed-4", 4, begun)] and run_ids["names"] == ["s-seed-3", "s-seed-4"]
    assert "post-merge/1 tokens" in service.startable() and "post-merge/1 linear" not in service.startable()
    for start, sentence in (
        ("post-merge/1 linear", "solved and not trained"),
        ("post-merge/1 tokens", "only where a tokens adapter at post-merge/1 is to be made"),
        ("post-merge/1 gone", "gone"),
    ):
        with pytest.raises(InputError, match=sentence):
            service.start("t", at_end | {"start": [start]})
    with pytest.raises(InputError, match="seeds must be a whole number from 1 to 8"):
        service.start("t", SETTINGS, seeds=9)
    assert len(started) == 2


def test_a_run_that_the_disk_does_not_take_leaves_its_name_free(tmp_path, monkeypatch):
    def full(path, value):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    line = JobQueue(tmp_path)
    monkeypatch.setattr("training.service.queue.write_json", full)
    with pytest.raises(InputError, match="the run 'a' cannot be kept: no space left on device"):
        line.start("a", {"device": "cpu"})
    assert "a" not in line.names() and not (line.folder / "a").exists()


def test_a_run_on_a_gpu_that_is_gone_is_not_resumed(service):
    run = make_run(service.queue.folder / "far", "training", device="cuda:9")
    with pytest.raises(InputError, match="'far' began on cuda:9, which this machine has no more"):
        service.resume("far")
    service.remove(run.name)


def test_a_crash_leaves_its_last_words(tmp_path):
    run = make_run(tmp_path / "train/r", "training")
    (run.folder / "output.txt").write_text("Traceback\ntorch.AcceleratorError: cuda went away\nSet X=1 for more.\n")
    assert run.state()["message"].startswith("torch.AcceleratorError: cuda went away; what it learned")


def test_a_log_of_a_resumed_run_is_read_once_and_half_a_line_not_at_all(tmp_path):
    lines = [{"step": s, "n": n} for n, s in enumerate((1, 5, 9, 6, 12))]
    (tmp_path / "log").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 13')
    assert [line["step"] for line in read_lines(tmp_path / "log")] == [1, 5, 6, 12]
    assert read_lines(tmp_path / "none") == []
