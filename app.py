"""Starts the app: settings → models → page → server. `python app.py --help` tells the flags."""

import gc
import os
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from foresight.errors import InputError
from foresight.settings import Settings


def main() -> int:
    """Serves until interrupted; 2, after one sentence, where the settings or models cannot be used."""
    try:
        settings = Settings.read(sys.argv[1:], os.environ)
        settings.check_address()
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # this and the next two are read at import
        if settings.runs:
            os.environ["FORESIGHT_RUNS"] = settings.runs
        for library in ("DIFFUSERS", "TRANSFORMERS"):
            os.environ.setdefault(f"{library}_VERBOSITY", "error")
        gc.disable()  # thousands of modules are about to come, none of them garbage: a seventh of the start
        # Imported here, so that --help and a wrong flag answer at once.
        from foresight import zero_gpu
        from foresight.adapters.registry import BUNDLED, RUNS
        from foresight.inspection.inspector import Inspector
        from foresight.models.vae import load_vae
        from foresight.models.vlm import load_vlm
        from foresight.paths import check_output
        from foresight.ui.limits import PUBLIC_PIXELS

        check_output(Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir(), "gradio")))  # for uploads
        vlm = load_vlm(settings.model, settings.device, settings.dtype)
        vae = load_vae(settings.vae, settings.device)
        most = PUBLIC_PIXELS if settings.public else None
        inspector = Inspector(vlm, vae, (BUNDLED, RUNS), fast=True, most_pixels=most)
        if zero_gpu.ACTIVE:
            zero_gpu.share(vlm, inspector)
            vlm.load()  # in this thread: in no other does PyTorch believe in a GPU

        def warm_up() -> None:
            with suppress(InputError):  # told by the first page, which needs the same
                inspector.warm_up()

        warm = threading.Thread(target=warm_up)  # torch works while Python imports Gradio
        warm.start()
        from foresight.ui.shell import build_app, launch

        training = None
        if not (settings.public or settings.no_train):
            from training.service.service import TrainingService

            training = TrainingService(inspector)
        warm.join()
        try:
            app = build_app(inspector, settings, training)
        except OSError as error:  # the page's own pictures have no room
            raise InputError(f"the page cannot be kept on the disk: {str(error.strerror).lower()}.") from error
    except InputError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2
    gc.enable()
    gc.freeze()  # what is here now stays
    try:
        launch(app, settings)
    except OSError as error:  # every port that Gradio tries is taken, or this one by now
        print(f"app.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
