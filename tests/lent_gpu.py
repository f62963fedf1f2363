"""ZeroGPU as far as a machine without one can show it: `python tests/lent_gpu.py (HOUSE | load) FOLDER`.

The real `spaces` package schedules, forks and pickles; its service is played by a server here. With a house its models
are on the CPU, and what a fork begins with is left out: CUDA's start, and the weights' way to the GPU. With `load` the
bundled models are put where the package pretends that a GPU is, which is all that happens in the app's own process.
"""

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

OWN = os.getpid()
CALLS: list[str] = []
FORKS: set[str] = set()


class Service(BaseHTTPRequestHandler):
    """Lends the same GPU to whoever asks, and notes which process comes for it."""

    def do_POST(self):
        url = urlsplit(self.path)
        CALLS.append(url.path)
        FORKS.update(parse_qs(url.query).get("pid", ()))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        gpu = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "none", "allowToken": "none"}
        self.wfile.write(json.dumps(gpu).encode())

    def log_message(self, *given):
        pass


def begin(folder: Path) -> None:
    """Before anything else is imported."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{server.server_port}",
        "ZEROGPU_OFFLOAD_DIR": str(folder),
        "no_proxy": "127.0.0.1",
    }


def load() -> None:
    """The bundled models, whole, where a GPU seems to be; then packed, as at the app's start."""
    from spaces.zero import torch as zero_torch

    from foresight.inspection.inspector import Inspector
    from foresight.models.vae import load_vae
    from foresight.models.vlm import load_vlm

    vlm, vae = load_vlm(), load_vae()
    inspector = Inspector(vlm, vae, fast=True)
    vlm.load()
    weights = [*vlm.model.parameters(), *vae.model.parameters()]
    assert all(weight.device.type == "cuda" for weight in weights) and vlm.waits and not vlm.kernels
    size = sum(weight.nbytes for weight in weights)
    assert zero_torch.pack() >= size  # to the disk, from where a fork takes them
    facts = list[str]()

    # An event's thread, which sees no such GPU, tells what the page needs before anything is computed.
    def ask():
        facts.extend([str(vae.device), *inspector.facts()["points"][0]["adapters"]])
        inspector.check_size((448, 448), 8)

    with ThreadPoolExecutor(1) as events:
        events.submit(ask).result()
    assert facts[0].startswith("cuda") and "tokens" in facts, facts


def compute(house: Path) -> None:
    """Whatever computes, in an event's thread: in a fork and nowhere else, and the same as in this process."""
    import torch
    from PIL import Image
    from spaces.zero import torch as zero_torch
    from torch.nn.modules.module import register_module_forward_pre_hook

    import foresight.ui.inspect.description as description
    from foresight import zero_gpu
    from foresight.data.motion import MotionSpec
    from foresight.data.scenes import SceneSpec
    from foresight.errors import InputError
    from foresight.inspection import clip_readout as clips
    from foresight.inspection.baselines import Baselines
    from foresight.inspection.evaluation import evaluate, scene_baselines, scene_samples
    from foresight.inspection.inspector import Inspector, Report
    from foresight.maps.data import MapSpec, extract
    from foresight.models.engine import Engine
    from foresight.models.vae import load_vae
    from foresight.models.vlm import load_vlm

    zero_torch.init = lambda uuid: None  # a fork asks CUDA for the GPU there, and takes weights to it
    zero_torch.move = lambda callback: None
    vlm, vae = load_vlm(house / "vlm", "cpu"), load_vae(house / "vae", "cpu")
    inspector = Inspector(vlm, vae, [house / "bundled"])
    zero_gpu.share(vlm, inspector)
    vlm.load()
    record = inspector.registry.find("linear", "post-merge/1")
    picture = torch.rand(3, 56, 56, generator=torch.Generator().manual_seed(0))

    run, reports = Engine.__call__, list[Report]()

    def elsewhere(*_):
        assert os.getpid() != OWN, "this computes in the app's own process"

    refusing = register_module_forward_pre_hook(elsewhere)
    Engine.__call__ = lambda *given: elsewhere() or run(*given)

    def inspected():
        reports.append(inspector.inspect(picture, "post-merge/1", "linear", pixels="56²"))

    def refused():
        try:
            inspector.inspect(picture, "post-merge/99", "linear")
        except InputError as error:
            assert "there is no post-merge/99" in str(error)
        else:
            raise AssertionError

    def suggested():
        assert inspector.suggest(reports[0]) in (None, *inspector.adapters())

    def swept():
        names = [one.name for one in inspector.sweep_layers(picture, [record], pixels="56²")]
        assert names == ["oracle", "blank", "linear"]
        for _ in inspector.sweep_layers(picture, [record], pixels="56²"):  # left early
            break

    def evaluated():
        spec = SceneSpec(size=(56, 56))
        samples = list(scene_samples(5, 0, spec))
        rows = list(evaluate(inspector, record, samples, scene_baselines(0, spec)))
        assert [row.name for row in rows] == [sample.name for sample in samples] and "nearest" in rows[0].scores

    def recalled():
        baselines = Baselines(inspector, 8)
        assert [*baselines.gather()]
        assert baselines.recall(torch.rand(3, 56, 56), record.point, None).count == 8

    def mapped():
        taking = extract(vlm, MapSpec(points=("post-merge/1",), scenes=20))
        while True:
            try:
                next(taking)
            except StopIteration as end:
                assert end.value.latents["post-merge/1"].shape[0] == 20
                return

    def watched():
        sample = clips.motion_sample(0, MotionSpec(frames=3))
        report = clips.read_out_clip(inspector, clips.clip_records(inspector)[0], sample)
        assert len(report.reconstruction) == len(report.oracle) == 3 and report.scores

    def answered():
        answer = description.Conversations(vlm).say(
            Image.new("RGB", (56, 56)), "What?", type("Request", (), {"session_hash": "a"})()
        )
        assert isinstance(answer, str)

    def compared():
        refusing.remove()
        Engine.__call__ = run
        here = Inspector.inspect.__wrapped__(inspector, picture, "post-merge/1", "linear", pixels="56²")
        torch.testing.assert_close(reports[0].chosen.image, here.chosen.image)
        assert reports[0].chosen.scores == here.chosen.scores and reports[0].chosen.record == record

    with ThreadPoolExecutor(1) as events:  # in whose thread, as in the app's, PyTorch believes in no GPU
        for work in (inspected, refused, suggested, swept, evaluated, recalled, mapped, watched, answered):
            before = len(CALLS)
            events.submit(work).result()
            assert CALLS[before:].count("/schedule") == CALLS[before:].count("/release") > 0, work.__name__
        assert len(FORKS) == 1 and str(OWN) not in FORKS  # and so the weights are on the GPU once
        events.submit(compared).result()


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    begin(folder)
    sys.path.insert(0, str(Path(__file__).parents[1]))
    load() if sys.argv[1] == "load" else compute(Path(sys.argv[1]))
