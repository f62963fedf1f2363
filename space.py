"""Builds the folder that is pushed to a Hugging Face Space, and checks it: `python space.py --out build/space`.

With `--start` the app is started from it as a Space starts it, until it answers; `--python` makes a fresh venv of that
interpreter for it, as a Space does (minutes, gigabytes).
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

from foresight.errors import InputError
from foresight.paths import check_output

ROOT = Path(__file__).parent
CONTENT = ("README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "requirements.txt", "app.py")
FOLDERS = ("assets", "docs", "foresight", "training")
LARGEST = 10 * 2**20  # bytes of a file, beyond which Git on the hub wants LFS
DESCRIPTION = 60  # characters of the short description
PYTHONS = ("3.10", "3.11", "3.12")
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
NEEDED = ("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "license")
PATIENCE = 120  # seconds for a start


def build(out: Path) -> list[Path]:
    """Copies what Git tracks of the content into an empty folder; returns the files. Raises InputError."""
    check_output(out)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{str(out)!r} is not empty: choose another folder.")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *CONTENT, *FOLDERS], cwd=ROOT, capture_output=True, check=True
    )
    names = listed.stdout.decode().split("\0")[:-1]
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, out / name)
    return [out / name for name in names]


def check(folder: Path) -> list[str]:
    """What the hub would refuse of a folder, or would not start; empty where all is well."""
    faults = [
        f"{path.relative_to(folder)} has {path.stat().st_size / 2**20:.1f} MB: at most {LARGEST >> 20} without LFS"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.stat().st_size > LARGEST
    ]
    faults += [f"{name} is missing" for name in CONTENT if not (folder / name).is_file()]
    front = front_matter(folder / "README.md")
    requirements = [
        Requirement(line)
        for line in (folder / "requirements.txt").read_text(encoding="utf-8").split("\n")
        if line.strip()
    ]
    faults += [f"README.md's front matter has no {name}" for name in NEEDED if name not in front]
    faults += [f"requirements.txt takes {r.name} from an address" for r in requirements if r.url]
    gradio = next((r for r in requirements if r.name == "gradio"), None)
    for right, fault in (
        (front.get("sdk") == "gradio", "sdk is not gradio"),
        (gradio and gradio.specifier.contains(front.get("sdk_version", "0")), "requirements.txt refuses sdk_version"),
        (front.get("sdk_version") == version("gradio"), "sdk_version is not what is installed and tested here"),
        (front.get("python_version") in PYTHONS, f"python_version is none of {', '.join(PYTHONS)}"),
        (0 < len(front.get("short_description", "")) <= DESCRIPTION, f"short_description is over {DESCRIPTION} long"),
        ({front.get("colorFrom"), front.get("colorTo")} <= {*COLOURS}, "a colour is none of the hub's"),
        ((folder / str(front.get("app_file"))).is_file(), "app_file is not there"),
    ):
        faults += [] if right else [f"README.md's front matter: {fault}"]
    return faults


def front_matter(readme: Path) -> dict[str, Any]:
    """The YAML between the two lines --- with which a README begins; empty where there is none."""
    _, _, rest = f"\n{readme.read_text(encoding='utf-8')}".partition("\n---\n")
    front = yaml.safe_load(rest.partition("\n---\n")[0])
    return front if isinstance(front, dict) else {}


def python_of(folder: Path, python: str, sdk_version: str) -> str:
    """The interpreter of a fresh venv beside the folder, with what a Space installs."""
    venv = folder.with_name(folder.name + "-venv")
    subprocess.run([python, "-m", "venv", "--clear", venv], check=True)
    interpreter = str(venv / "bin/python")
    requirements = ["-r", str(folder / "requirements.txt"), f"gradio[oauth,mcp]=={sdk_version}", "uvicorn", "spaces"]
    subprocess.run([interpreter, "-m", "pip", "install", "-q", *requirements], check=True)
    return interpreter


def start(folder: Path, python: str) -> float:
    """Seconds until the app, started from a folder as a Space does, answers. Raises InputError where it does not."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment |= {"SPACE_ID": "owner/foresight", "GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": str(port)}
    environment |= {"FORESIGHT_PORT": str(port), "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    began = time.monotonic()
    process = subprocess.Popen([python, "app.py"], cwd=folder, env=environment)
    try:
        while time.monotonic() - began < PATIENCE and process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    return time.monotonic() - began
            except OSError:
                time.sleep(0.1)
        raise InputError(f"the app ended with {process.returncode}, or did not answer within {PATIENCE} s.")
    finally:
        process.terminate()
        process.wait()


def main() -> int:
    """Returns 0, or 2 after a sentence for each fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--start", action="store_true", help="start it, with this interpreter")
    parser.add_argument("--python", metavar="PYTHON", help="start it in a fresh venv of that interpreter")
    args = parser.parse_args()
    out = args.out.absolute()
    try:
        files = build(out)
        if faults := check(out):
            raise InputError("; ".join(faults) + ".")
        size = sum(path.stat().st_size for path in files)
        print(f"{len(files)} files, {size / 2**20:.1f} MB, in {out}")
        if args.start or args.python:
            sdk_version = front_matter(out / "README.md")["sdk_version"]
            python = python_of(out, args.python, sdk_version) if args.python else sys.executable
            print(f"answers after {start(out, python):.1f} s")
    except InputError as error:
        print(f"space.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
