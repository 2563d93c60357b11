"""A sharded checkpoint of 2 GB through `lowbit.quantize_folder`: peak memory and time of its own process."""

from __future__ import annotations

import json
import sys

from tests.proof.common import ROOT, piece, run, write_result

CLAIM = "streaming"
LIMIT = 2**30


def measure() -> None:
    """Run the benchmark; the limit on memory counts the libraries too."""
    command = [sys.executable, "kernels/benchmarks/streaming.py", "--gigabytes", "2"]
    found = piece(CLAIM, "higgs-4bit", lambda: json.loads(run(command, ROOT).stdout))
    write_result(CLAIM, {"limit_bytes": LIMIT, "kept": found["peak_rss_bytes"] < LIMIT, "found": found})
