"""`python -m stages.measure.child SPEC RESULT`: one checkpoint, one device, one process of its own.

SPEC is JSON (folder, device, threads and the block `measure`); RESULT is the JSON file to write.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from stages.common import environment
from stages.common.atomic import write_json
from stages.common.errors import EXIT_USER, UserError, one_line


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Load the checkpoint and time every prompt length: measures.json without sizes and machine.

    Raises `UserError` when the checkpoint cannot be loaded or there is no such device.
    """
    environment.fix_threads(spec["threads"])
    import torch
    import transformers

    from stages.common.checkpoint import load_config, load_model, pick_device
    from stages.measure import timing
    from stages.measure.machine import peak_rss_bytes
    from stages.measure.size import count_parameters

    transformers.utils.logging.disable_progress_bar()
    device = pick_device(spec["device"])
    folder = Path(spec["folder"])
    config = load_config(folder)
    parameters = count_parameters(config)
    before = peak_rss_bytes()
    synchronise = timing.synchroniser(device)
    begun = time.perf_counter()
    model = load_model(folder, device=device)
    synchronise()
    load_s = time.perf_counter() - begun
    prompts, reasons = _prompts(model, config, device, spec)
    return {
        "device": device,
        "dtype": str(model.dtype).removeprefix("torch."),
        "parameters": parameters,
        "load_s": round(load_s, 4),
        "prompts": prompts,
        "reasons": reasons,
        "baseline_rss_bytes": before,
        "peak_rss_bytes": peak_rss_bytes(),
        "peak_device_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "library": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        },
    }


def _prompts(
    model: Any, config: Any, device: str, spec: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Measures per prompt length, null where the model has too few positions, and why."""
    from stages.common.progress import progress
    from stages.measure import timing

    synchronise = timing.synchroniser(device)
    new_tokens, warmup, repeats = spec["new_tokens"], spec["warmup"], spec["repeats"]
    prompts: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for length in spec["prompt_tokens"]:
        reason = timing.refusal(length, new_tokens, getattr(config, "max_position_embeddings", None))
        if reason:
            prompts[str(length)], reasons[str(length)] = None, reason
            continue
        ids_1P = timing.prompt_ids(length, config.vocab_size).to(device)
        runs = [
            timing.generate(model, ids_1P, new_tokens, synchronise)
            for _ in progress(range(warmup + repeats), f"measuring prompts of {length}", "runs")
        ]
        prompts[str(length)] = timing.summarise(runs[warmup:], length, new_tokens)
    return prompts, reasons


def main(argv: list[str]) -> int:
    """Measure, write RESULT, return the exit status; the parent finds an error of the user's in RESULT."""
    environment.quiet()
    environment.prepare_imports()
    spec, result = json.loads(argv[0]), Path(argv[1])
    try:
        write_json(result, measure(spec))
    except Exception as error:
        # LowbitError carries the status without being a UserError.
        if getattr(error, "exit_status", None) != EXIT_USER and not isinstance(error, UserError):
            raise
        write_json(result, {"error": one_line(error)})
        return EXIT_USER
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
