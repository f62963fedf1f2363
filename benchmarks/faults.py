"""What the app does where its machine is at fault: no home, damaged caches and assets, full disks, taken ports.

    python -m benchmarks.faults                     # all, in some minutes
    python -m benchmarks.faults "no home"

Each fault is met by an app of its own, which is asked for a scene, its reconstruction and a map by UMAP. Prints, a line
each, that all was well, or the sentence by which the app ended or that it answered; a traceback is a failure.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]
PATIENCE = 300  # seconds for a start
NOWHERE = "/dev/null"  # in which root, too, can make no folder
Environment = dict[str, str]


@contextmanager
def without(*names: str, **values: str) -> Iterator[tuple[Path, Environment]]:
    """The app's folder, and an environment without some variables and with others."""
    yield ROOT, {name: value for name, value in os.environ.items() if name not in names} | values


@contextmanager
def damaged_caches() -> Iterator[tuple[Path, Environment]]:
    """A home whose caches hold rubbish."""
    with tempfile.TemporaryDirectory() as home, without(HOME=home) as (folder, environment):
        caches = Path(home, ".cache")
        for name in ("foresight/digests.json", "matplotlib/fontlist-v390.json", "huggingface/hub/version.txt"):
            (caches / name).parent.mkdir(parents=True)
            (caches / name).write_text("{rubbish", encoding="utf-8")
        (caches / "huggingface/hub/models--owner--name").write_text("no folder", encoding="utf-8")
        environment["NUMBA_CACHE_DIR"] = str(caches / "numba")
        yield folder, environment


@contextmanager
def spoilt(name: str, spoil: Callable[[Path], None]) -> Iterator[tuple[Path, Environment]]:
    """A copy of the app in which a file, or every file of a folder, is spoilt."""
    with tempfile.TemporaryDirectory() as copy, without() as (_, environment):
        for part in ("foresight", "training", "assets"):
            shutil.copytree(ROOT / part, Path(copy, part), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "app.py", copy)
        spoil(Path(copy, name))
        yield Path(copy), environment


@contextmanager
def full_disk() -> Iterator[tuple[Path, Environment]]:
    """No room where uploads and answers lie; needs the right to mount."""
    with tempfile.TemporaryDirectory() as disk:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], check=True)
        try:
            with without(GRADIO_TEMP_DIR=disk) as place:
                Path(disk, "rest").write_bytes(bytes(8 << 10))
                yield place
        finally:
            subprocess.run(["umount", "--lazy", disk], check=True)


@contextmanager
def taken_port(port: int) -> Iterator[tuple[Path, Environment]]:
    with socket.create_server(("127.0.0.1", port)), without() as place:
        yield place


def cut(path: Path) -> None:
    """Leaves what Git LFS has in place of a file that it has yet to fetch."""
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 0\n", encoding="utf-8")


VAE, VLM, LPIPS = "vae/diffusion_pytorch_model.safetensors", "vlm/model-00001-of-00002.safetensors", "lpips"
LINE = r"^[^\n]+\.$"  # the app's one sentence
FINE = "all is well"
PORT = 7897
FAULTS = {  # the fault, and what is to come of it
    "no home": (without("HOME"), FINE),
    "a home nobody can write to": (without(HOME=NOWHERE), FINE),
    "damaged caches": (damaged_caches(), FINE),
    "no display, and no locale": (without("DISPLAY", "LANG", LC_ALL="C"), FINE),
    "no folder for uploads": (without(GRADIO_TEMP_DIR=f"{NOWHERE}/uploads"), LINE),
    "a full disk": (full_disk(), r"^app.py: the page cannot be kept on the disk: no space left on device\.$"),
    "a taken port": (taken_port(PORT), rf"^app.py: cannot listen on 127.0.0.1, port {PORT}: address already in use\.$"),
    "VAE missing": (spoilt(f"assets/{VAE}", Path.unlink), LINE),
    "VAE cut short": (spoilt(f"assets/{VAE}", cut), LINE),
    "VLM missing": (spoilt(f"assets/{VLM}", Path.unlink), LINE),
    "VLM cut short": (spoilt(f"assets/{VLM}", cut), LINE),
    "LPIPS cut short": (spoilt(f"assets/{LPIPS}/alexnet_features.fp16.safetensors", cut), "weights of LPIPS"),
    "an adapter cut short": (spoilt("assets/adapters/post-merge-3-tokens/model.safetensors", cut), FINE),
    "no adapters": (spoilt("assets/adapters", shutil.rmtree), LINE),
    "study missing": (spoilt("assets/results.yaml", Path.unlink), "There is no study 'bundled'"),
    "study cut short": (spoilt("assets/results.yaml", cut), "is not of a study's form"),
}


def outcome(folder: Path, environment: Environment, port: int) -> str:
    """FINE, the sentence of the app's end or of an answer, or its traceback."""
    environment |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "app.py", "--public", "--port", str(port)]
        app = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            end = time.monotonic() + PATIENCE
            with httpx.Client(base_url=f"http://127.0.0.1:{port}/", timeout=PATIENCE, trust_env=False) as http:
                while app.poll() is None and not _listens(http):
                    if time.monotonic() > end:
                        return "it neither starts nor ends"
                    time.sleep(0.2)
                answer = FINE if app.poll() is None else ""
                if answer:
                    answer = ask(http)
        finally:
            app.terminate()
            app.wait()
        log.seek(0)
        output = log.read().decode(errors="replace")
    return answer or "\n".join(line for line in output.splitlines() if "Warning" not in line)


def ask(http: httpx.Client) -> str:
    """FINE, or the first error of a scene, its reconstruction and a map."""
    try:
        drawn = call(http, "generate", ["any", "any", 1, "any", "any", "white", True, 1])[0]
        picture = {"path": drawn["path"], "meta": {"_type": "gradio.FileData"}}
        call(http, "reconstruct", [picture, "post-merge/6", "tokens", None, None])
        call(http, "latent_map", ["post-merge/6", 40, 0, 0, 2, 1, "white", 5, 0.1, 3, "umap", "224²"])
        call(http, "findings", ["bundled"])
    except ValueError as error:
        return str(error)
    return FINE


def call(http: httpx.Client, name: str, values: list[Any]) -> list[Any]:
    """An endpoint's answer. Raises ValueError with the sentence where it is an error."""
    event = http.post(f"gradio_api/call/{name}", json={"data": values}).json()["event_id"]
    kind, data = re.findall(r"event: (\w+)\ndata: (.*)", http.get(f"gradio_api/call/{name}/{event}").text)[-1]
    if kind != "complete":
        raise ValueError(f"/{name}: {json.loads(data)['error']}")
    return json.loads(data)


def _listens(http: httpx.Client) -> bool:
    try:
        return http.get("health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def main() -> int:
    failed = 0
    for name in sys.argv[1:] or FAULTS:
        fault, expected = FAULTS[name]
        with fault as (folder, environment):
            result = outcome(folder, environment, PORT)
        right = re.search(expected, result) is not None and "Traceback" not in result
        failed += not right
        print(f"{'' if right else 'FAILED '}{name}: {result}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
