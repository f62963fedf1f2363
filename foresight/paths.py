"""Where Foresight finds what it ships, and where it keeps what people make with it."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).parent
# A wheel carries assets/ inside the package; a checkout has it beside the package.
ASSETS = _PACKAGE / "assets" if (_PACKAGE / "assets").is_dir() else _PACKAGE.parent / "assets"

# Runs, their adapters and studies. The app's flag --runs sets the variable before anything is imported.
RUNS = Path(os.environ.get("FORESIGHT_RUNS") or "runs").expanduser()

# What is computed once and may be deleted at any time.
CACHE = Path(os.environ.get("FORESIGHT_CACHE") or "~/.cache/foresight").expanduser()
