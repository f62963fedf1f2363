"""What Stop and the buttons that start a run can do at each time: updates for the starting ones, then for Stop.

Gradio's page drops whatever starts a run anew while that run's cancel is under way, which takes as long as the
step that runs. So the starting buttons wait for the run's `then`, which the page calls after a cancel too.
"""

from typing import Any

import gradio as gr

Updates = list[Any]


def going(starts: int = 1) -> Updates:
    """Once a run goes on: of all buttons only Stop can be pressed."""
    return [gr.update(interactive=False)] * starts + [gr.update(value="Stop", interactive=True)]


def stopping() -> Any:
    """Once Stop was pressed, for itself: a step lasts until it is done."""
    return gr.update(value="Stopping…", interactive=False)


def idle(starts: int = 1) -> Updates:
    """At the end of a run, however it ended."""
    return [gr.update(interactive=True)] * starts + [gr.update(value="Stop", interactive=False)]
