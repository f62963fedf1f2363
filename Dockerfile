# docker build -t foresight . && docker run -p 7860:7860 foresight        (with a GPU: docker run --gpus all …)
# PyTorch's default packages for Linux compute on CPU and GPU. TORCH_INDEX names another index, such as PyTorch's own
# of packages for the CPU alone, whose image is 4 GB smaller, or of another CUDA version.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim
ARG TORCH_INDEX=
WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision \
    && pip install --no-cache-dir -r requirements.txt
COPY app.py README.md LICENSE ./
COPY assets assets
COPY foresight foresight
COPY training training
RUN useradd --create-home --uid 1000 foresight
USER foresight
# For strangers; FORESIGHT_PUBLIC=0 for whoever may train here, with a volume at /home/foresight/runs.
ENV HOME=/home/foresight
ENV FORESIGHT_HOST=0.0.0.0 FORESIGHT_PORT=7860 FORESIGHT_PUBLIC=1 FORESIGHT_RUNS=/home/foresight/runs
# glibc keeps freed memory for each thread; with two arenas the app grows by a third less (docs/benchmarks.md).
ENV MALLOC_ARENA_MAX=2
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD \
    ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7860/health', timeout=5)"]
CMD ["python", "app.py"]
