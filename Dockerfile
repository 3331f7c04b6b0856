# syntax=docker/dockerfile:1
# Laconic with its model inside: no network at run time but to the upstream.
#   docker build -t laconic .
#   docker run -p 8790:8790 laconic --upstream https://api.openai.com/v1
FROM python:3.11-slim AS build
# Where the CPU build of torch comes from.  Empty: from the default index.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/laconic
ENV PATH=/opt/laconic/bin:$PATH
WORKDIR /src
COPY constraints.txt ./
RUN pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
    "torch==$(sed -n 's/^torch==//p' constraints.txt)${TORCH_INDEX:++cpu}"
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY policies policies
COPY proxy proxy
RUN pip install --constraint constraints.txt .

FROM python:3.11-slim
LABEL org.opencontainers.image.title="laconic" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --create-home --uid 10001 laconic \
    && install -d -m 0700 -o laconic -g laconic /var/lib/laconic
COPY --from=build /opt/laconic /opt/laconic
ENV PATH=/opt/laconic/bin:$PATH PYTHONUNBUFFERED=1 LACONIC_LEDGER_PATH=/var/lib/laconic/ledger.sqlite3 \
    LACONIC_MEMO_PATH=/var/lib/laconic/memo.sqlite3
USER laconic
VOLUME /var/lib/laconic
EXPOSE 8790
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD \
    ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8790, timeout=2); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["laconic", "serve", "--host", "0.0.0.0"]
