"""The page around the tabs, and how it is served."""

from __future__ import annotations

from typing import Any

import gradio as gr

from foresight.settings import Settings
from foresight.ui import api, inspect
from foresight.ui.calls import Calls
from foresight.ui.theme import CSS, theme

ABOUT = """
### What this shows
A vision-language model turns a picture into *latents*: a grid of vectors that changes from layer to layer. Foresight
takes them at one **extraction point**, lets a small **adapter** translate them for a frozen image decoder (the
**VAE**), and shows the picture that comes out. What it shows was still in the latents, in a form the adapter can read.

### Extraction points
`pre-merge/k` is the output of block k of the vision tower. `post-merge/0` is what the language model receives, after
2 × 2 patches were merged into one token; `post-merge/k` is the output of its layer k at the picture's tokens.

### Adapters
**linear**: one linear map for each token; what can be read off without any processing. **tokens**: keeps the grid, a
few convolutions. **pooled**: sees only the mean of all tokens, as in the seed study; where things are is mostly lost.

### Scores
- **LPIPS**: how different two pictures look to a neural network; 0 is the same picture. The seed's target: below 0.35.
- **SSIM**: how alike the local structure is; 1 is the same. Target: above 0.75.
- **Mask IoU**: the overlap of the objects found in both pictures; 1 is exact. Target: above 0.60.
- **PSNR**: closeness of the pixels in decibels; 30 is good.
- **Blank** is what an empty page scores, **oracle** the VAE's own round trip, the best any adapter could do. **Skill**
  puts a score between them: 0 is a blank page, 1 the oracle. A pass says little where a blank page passes too.
"""


def build_app(calls: Calls) -> gr.Blocks:
    """The whole app as a Blocks, ready for `launch(app, settings)`."""
    with gr.Blocks(title="Foresight", fill_width=True, delete_cache=(3600, 86400), analytics_enabled=False) as app:
        gr.HTML(
            '<header class="fs-title"><h1>Foresight</h1>'
            "<p>What does a vision-language model still know of a picture at this point of its depth?</p></header>"
        )
        with gr.Tabs():
            with gr.Tab("Inspect"):
                inspect.build(calls)
            with gr.Tab("About"):
                gr.Markdown(ABOUT, elem_classes="fs-about")
        api.build(calls)
    return app.queue(max_size=64)


def launch(app: gr.Blocks, settings: Settings, **more: Any) -> tuple[Any, str, str]:
    """Serves the app; more: of Blocks.launch's own arguments."""
    return app.launch(
        server_name=settings.host,
        server_port=settings.port,
        share=settings.share,
        theme=theme(),
        css_paths=CSS,
        show_error=not settings.public,
        strict_cors=True,
        allowed_paths=[],
        max_file_size="40mb",
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=["api"],
        state_session_capacity=1000,
        **more,
    )
