"""How a public app fares with many clients at once: clicks, all layers, evaluations, and clients that vanish.

    python -m benchmarks.load --clients 10 --seconds 180

Prints, for each kind of call, how many there were, how many failed, and how long they took; whether any client got the
answer of another; and memory and disk at ten moments, from which growth that ends is told from a leak. Each client has
an address of its own.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

POINT, ADAPTER = "post-merge/6", "tokens"
KINDS = {"click": 6, "layers": 1, "evaluate": 1, "vanish": 1}  # how often each is, beside the others
GRACE = 120.0  # seconds after the end in which the last answers come
MOMENTS = 10  # at which memory and disk are looked at; and once more when all have their answers
META = {"meta": {"_type": "gradio.FileData"}}


class Load:
    """What all clients measured."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.failed: defaultdict[str, list[str]] = defaultdict(list)
        self.mixed_up = 0

    def client(self, number: int, end: float) -> None:
        """One client until a time: its own scene, whose score must always be the same."""
        address = {"x-forwarded-for": f"8.8.{number // 250}.{1 + number % 250}"}
        chance, expected = random.Random(number), None
        with httpx.Client(base_url=f"{self.url}/gradio_api/", headers=address, timeout=600) as http:
            image = self.call(http, "generate", ["any", "any", 1, "any", "any", "white", True, number])[0]
            image = {"path": image["path"], **META}
            while time.monotonic() < end:
                kind = chance.choices([*KINDS], [*KINDS.values()])[0]
                began = time.monotonic()
                try:
                    if kind == "click":
                        score = self.call(http, "reconstruct", [image, POINT, ADAPTER, None, None])[1]["lpips"]
                        expected = score if expected is None else expected
                        self.mixed_up += abs(score - expected) > 1e-3
                    elif kind == "layers":
                        self.call(http, "compare", [image, [ADAPTER], None, None])
                    else:
                        scenes = 4 if kind == "evaluate" else 64
                        values = [POINT, ADAPTER, None, scenes, number, None, None]
                        self.call(http, "evaluate", values, listen=kind == "evaluate")
                except (httpx.HTTPError, RuntimeError) as error:
                    self.failed[kind].append(str(error))
                self.seconds[kind].append(time.monotonic() - began)
                time.sleep(chance.uniform(0, 2))

    def call(self, http: httpx.Client, name: str, values: list[Any], listen: bool = True) -> Any:
        """An endpoint's last answer. Raises RuntimeError where it is an error."""
        joined = http.post(f"call/{name}", json={"data": values})
        if joined.status_code != 200:
            raise RuntimeError(joined.text)
        if not listen:
            return None
        answer = http.get(f"call/{name}/{joined.json()['event_id']}").text
        event, data = re.findall(r"event: (\w+)\ndata: (.*)", answer)[-1]
        if event != "complete":
            raise RuntimeError(data)
        return json.loads(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--port", type=int, default=7862)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"GRADIO_TEMP_DIR": cache}
        server = subprocess.Popen([sys.executable, "app.py", "--public", "--port", str(args.port)], env=environment)
        try:
            measure(Load(f"http://127.0.0.1:{args.port}"), args, psutil.Process(server.pid), Path(cache))
        finally:
            server.terminate()
            server.wait()


def measure(load: Load, args: argparse.Namespace, server: psutil.Process, cache: Path) -> None:
    """Runs the clients, and prints what they measured."""
    while not _answers(load.url):
        time.sleep(0.2)
    end = time.monotonic() + args.seconds
    clients = [threading.Thread(target=load.client, args=(k, end), daemon=True) for k in range(args.clients)]
    for client in clients:
        client.start()
    sizes = []
    for _ in range(MOMENTS):
        time.sleep(args.seconds / MOMENTS)
        sizes.append(_megabytes(server, cache))
    for client in clients:
        client.join(max(0.0, end + GRACE - time.monotonic()))
    waiting = sum(client.is_alive() for client in clients)
    sizes.append(_megabytes(server, cache))
    print(f"{args.clients} clients, {args.seconds:.0f} s; answers of another: {load.mixed_up}; waiting: {waiting}")
    for kind, seconds in load.seconds.items():
        p50, p95 = np.percentile(seconds, (50, 95))
        failed = load.failed[kind]
        print(f"{kind:9} {len(seconds):5}  failed {len(failed):3}  p50 {p50:6.2f} s  p95 {p95:6.2f} s", *failed[:1])
    for what, values in zip(("memory", "disk"), zip(*sizes, strict=True), strict=True):
        print(f"{what:9} {', '.join(f'{value:,.0f}' for value in values)} MB")


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.HTTPError:
        return False


def _megabytes(server: psutil.Process, cache: Path) -> tuple[float, float]:
    files = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    return server.memory_info().rss / 1e6, files / 1e6


if __name__ == "__main__":
    main()
