"""How the app is started: flags, and FORESIGHT_* environment variables where a flag is absent."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from io import TextIOWrapper
from ipaddress import ip_address
from socket import SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, getaddrinfo, socket
from typing import Any, NoReturn

from foresight.errors import InputError

EXAMPLES = """examples:
  python app.py
  python app.py --host 0.0.0.0 --port 8080 --public
  FORESIGHT_PUBLIC=0 python app.py --share
  python app.py --model Qwen/Qwen2.5-VL-7B-Instruct --vae stabilityai/sd-vae-ft-mse
  FORESIGHT_PORT=8080 python app.py
"""
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True)
class Settings:
    """Every dial of the app.

    host: address to listen on; None is this machine only. port: None is the first free one from 7860.
    public: strangers may use it: no training, no details of errors. no_train: leave training out.
    local, which no flag sets: whoever reaches the app sits at this machine.
    model, vae: a folder or hub id; None is the bundled one. device, dtype: where and in which numbers the VLM is
    computed, the VAE on the same device; None is bfloat16 on the GPU, if any, and float32 on the CPU. runs: where runs
    and their adapters are kept; None is `runs` in the folder where the app is started. share: open a link through
    Gradio's servers.
    mcp: serve the named endpoints to assistants too, as tools of the Model Context Protocol.
    """

    host: str | None = None
    port: int | None = None
    public: bool = False
    no_train: bool = False
    model: str | None = None
    vae: str | None = None
    device: str | None = None
    dtype: str | None = None
    runs: str | None = None
    share: bool = False
    mcp: bool = False

    @classmethod
    def read(cls, arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
        """Settings from the command line, else from the environment: --port wins over FORESIGHT_PORT.

        On a Hugging Face Space, which sets SPACE_ID, and on a shared link public is the default. Raises InputError
        on values that cannot be meant; argparse itself ends the process, with 2, on unknown flags.
        """
        values = vars(_parser().parse_args(arguments))
        text: dict[str, Any] = {
            name: value or environment.get(f"FORESIGHT_{name.upper()}") for name, value in values.items()
        }
        share = _switch("share", text["share"])
        text["host"] = text["host"] or environment.get("GRADIO_SERVER_NAME")  # else Gradio would take it unseen
        if (host := text["host"]) and ":" in host:
            text["host"] = f"[{host.strip('[]')}]"  # as Gradio wants IPv6
        text["public"] = text["public"] or ("1" if share or environment.get("SPACE_ID") else None)
        if (mcp := _switch("mcp", text["mcp"])) and find_spec("mcp") is None:
            raise InputError('--mcp needs one more package: pip install "gradio[mcp]".')
        switches = {"share": share, "mcp": mcp} | {n: _switch(n, text[n]) for n in ("public", "no_train")}
        return cls(**text | switches | {"port": _port(text["port"])})

    def check_address(self) -> None:
        """Raises InputError where the app could not listen, before models are read for nothing."""
        host = (self.host or "127.0.0.1").strip("[]")
        try:
            family, _, _, _, address = getaddrinfo(host, self.port or 0, type=SOCK_STREAM)[0]
            with socket(family) as probe:
                probe.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)  # as the server itself: a port just left is free
                probe.bind(address)
        except OSError as error:
            port = f", port {self.port}" if self.port else ""
            raise InputError(f"cannot listen on {host}{port}: {str(error.strerror).lower()}.") from None

    @property
    def local(self) -> bool:
        """Whether whoever reaches the app sits at this machine: it listens to a loopback address and is not shared."""
        # Who comes over a network without --public is trusted with the app and what it makes: to start runs, and to
        # stop, rename and delete them and their adapters. What lies beyond is for those at this machine alone: its
        # folders, and the hub, where one acts and downloads by the owner's login.
        return not (self.public or self.share) and (self.host is None or loopback(self.host))


def loopback(host: str) -> bool:
    """Whether an address, or the name "localhost", is one of this machine alone; no other name is looked up."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def print_any_character() -> None:
    """Has stdout, as stderr has, write a character that its encoding lacks as an escape, such as \\xb2 for ²."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


class Parser(argparse.ArgumentParser):
    """Says what is wrong with arguments in one sentence, and ends the process with 2."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {InputError(message)} (see {self.prog} --help).", file=sys.stderr)
        raise SystemExit(2)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --model, --vae, --device and --dtype, which mean the same wherever models are run."""
    where = "a folder, or a hub id such as owner/name or owner/name@revision (default: the bundled one)"
    parser.add_argument("--model", help=f"Qwen2.5-VL: {where}")
    parser.add_argument("--vae", help=f"VAE: {where}")
    parser.add_argument(
        "--device",
        help="cpu, cuda, a GPU such as cuda:1, or auto, the model over all of them (default: the GPU, if any)",
    )
    parser.add_argument(
        "--dtype", help="of latents: float32 or bfloat16 (default: bfloat16 on a GPU, float32 on a CPU)"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python app.py",
        description="Foresight: what does a vision-language model still know of a picture at each depth?",
        epilog=EXAMPLES + "\nEach flag has a variable: --no-train is FORESIGHT_NO_TRAIN=1.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host",
        help="address to listen on (default: this machine only; on any other, no folder of this machine can be "
        "named in the app, and its owner's login on the hub is not used)",
    )
    parser.add_argument("--port", help="port (default: the first free one from 7860)")
    add_model_arguments(parser)
    parser.add_argument("--runs", metavar="DIR", help="where runs and their adapters are kept (default: ./runs)")
    for flag, what in (
        ("--public", "strangers may use it: no training, no details of errors"),
        ("--no-train", "leave training out"),
        ("--share", "open a temporary link through Gradio's servers; public, unless FORESIGHT_PUBLIC is 0"),
        ("--mcp", 'serve the endpoints as MCP tools at /gradio_api/mcp (needs "gradio[mcp]")'),
    ):
        parser.add_argument(flag, action="store_const", const="1", help=what)
    return parser


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise InputError(f"the port must be a whole number from 1 to 65535, not {text!r}.")
    return int(text)


def _switch(name: str, text: str | None) -> bool:
    if text is not None and text.lower() not in _TRUE + _FALSE:
        raise InputError(f"FORESIGHT_{name.upper()} must be 1 or 0, not {text!r}.")
    return text is not None and text.lower() in _TRUE
