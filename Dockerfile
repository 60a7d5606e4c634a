# DRO Explorer for anywhere that runs containers:
#   docker build -t dro-explorer . && docker run --rm -p 7860:7860 -v dro:/home/dro/.cache dro-explorer
# The model is fetched at the first start and kept in the volume. With NVIDIA GPUs, which need torch's CUDA build:
#   docker build --build-arg TORCH_INDEX=https://pypi.org/simple … && docker run --gpus all …
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir "$(grep '^torch' requirements.txt)" --index-url "$TORCH_INDEX" \
 && pip install --no-cache-dir -r requirements.txt

# The page writes to its cache and to temporary files, nowhere else.
RUN useradd --create-home --uid 1000 dro && mkdir /home/dro/.cache && chown dro /home/dro/.cache
COPY app.py ./
COPY assets assets
COPY dro dro
COPY explorer explorer
USER dro

ENV GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860 PYTHONUNBUFFERED=1
EXPOSE 7860
# The page answers while the model is still loading; a start from nothing takes minutes.
HEALTHCHECK --start-period=60s --interval=30s --timeout=10s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7860/', timeout=8)"]
ENTRYPOINT ["python", "app.py"]
CMD ["--public"]
