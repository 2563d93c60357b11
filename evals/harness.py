"""lm-eval 0.4.13 by its Python API: all tasks of a model in one call, per-item results with hashes, no
caches.

`lm_eval.evaluator.evaluate` is called, not `simple_evaluate`, which for 2 s starts processes to describe the
machine (pip, compiler, drivers): our outs hold no machine. The rest of what it does (seeds, loading) is done
here.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from evals import tasks as declarations
from evals.errors import EvalError
from evals.items import Item
from evals.records import Record
from evals.suites import Task

SEED = 1234
NEW_TOKENS = 24


@dataclass
class Results:
    """`items` in the order of tasks and records; `cut`: task -> prompts that were too long and lost their
    beginning.
    """

    items: list[Item] = field(default_factory=list)
    cut: dict[str, int] = field(default_factory=dict)


Advance = Callable[[int], None]


def wrap(model: Any, tokenizer: Any, batch_size: int) -> Any:
    """An lm-eval model around a loaded one.

    Raises `EvalError` when the tokenizer has ids that the model has no embedding for, or when the model's
    output on one token is not finite.
    """
    check_pair(model, tokenizer)
    with quiet():
        from lm_eval.models.huggingface import HFLM

        # Log-probabilities rounded to bf16 would tie.
        lm = HFLM(model, "causal", tokenizer=tokenizer, batch_size=batch_size, softmax_dtype="float32")
    # lm-eval encodes a prompt once more for each of its choices: a seventh of the time of a small model.
    lm.tok_encode = functools.lru_cache(maxsize=2**16)(lm.tok_encode)
    return lm


def check_pair(model: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer from elsewhere and weights that are broken. Raises `EvalError`."""
    import torch

    rows = int(model.config.get_text_config().vocab_size)
    top = max(tokenizer.get_vocab().values(), default=-1)
    if top >= rows:
        raise EvalError(
            f"the checkpoint has a foreign tokenizer (token ids up to {top}, {rows} rows in the embedding);"
            " put back the one it was trained with"
        )
    eos = model.config.get_text_config().eos_token_id
    if isinstance(eos, int) and tokenizer.eos_token_id is not None and eos != tokenizer.eos_token_id:
        raise EvalError(
            f"the checkpoint has a foreign tokenizer (texts end with {tokenizer.eos_token_id}, the model's"
            f" with {eos}); put back the one it was trained with"
        )
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[0]], device=model.device)).logits
    if not torch.isfinite(logits).all():
        raise EvalError("the model gives log-probabilities that are not finite; its weights are broken")


def run(lm: Any, tasks: Sequence[Task], advance: Advance = lambda _: None) -> Results:
    """Score `tasks` with a wrapped model, greedily, in one call. `advance` is told the rows of every forward
    pass.

    Raises `EvalError` when a log-probability is not finite, or when two documents of a task have the same
    hash.
    """
    if not tasks:
        return Results()
    with quiet():
        from lm_eval.evaluator import evaluate

        seed_everything()
        loaded = declarations.manager().load([configured(task) for task in tasks])
        with _advancing(lm, advance):
            output = evaluate(lm=lm, task_dict=loaded, bootstrap_iters=0, log_samples=True)
    results = Results()
    for task in tasks:
        samples = output["samples"][task.name]
        results.items += _items(task, samples)
        results.cut[task.name] = _cut(lm, task, samples)
    return results


def configured(task: Task) -> Any:
    """The task as lm-eval's own object: its YAML plus choices, prompts, data and shots."""
    import datasets
    from lm_eval.api.task import ConfigurableTask

    base = task.config
    rows = {"test": datasets.Dataset.from_list([_doc(record) for record in task.test])}
    prompts = _Prompts(task, {record.id: record for record in task.test})
    config = {
        **base,
        "task": task.name,
        "doc_to_text": prompts.item,
        "num_fewshot": len(task.shots),
        "custom_dataset": lambda **_: rows,
    }
    if task.options is not None:
        config |= {"doc_to_choice": prompts.continuations, "doc_to_target": prompts.gold}
    elif task.choices is not None:
        config["doc_to_choice"] = list(task.choices)
    if task.shots:
        # Ids are unique within a split only.
        shown = _Prompts(task, {record.id: record for record in task.shots})
        rows["train"] = datasets.Dataset.from_list([_doc(record) for record in task.shots])
        config["fewshot_split"] = "train"
        config["fewshot_config"] = {**base["fewshot_config"], "doc_to_text": shown.shot}
        if task.options is not None:
            config["fewshot_config"]["doc_to_choice"] = shown.continuations
    return ConfigurableTask(config=config)


@dataclass(frozen=True)
class _Prompts:
    """Prompts of one split of `task`; `records` are that split's, by id."""

    task: Task
    records: dict[str, Record]

    def item(self, doc: dict[str, Any]) -> str:
        layout, record = self.task.layout, self.records[doc["id"]]
        return layout.later_turn(record) if self.task.shots else layout.full(record)

    def shot(self, doc: dict[str, Any]) -> str:
        layout, record = self.task.layout, self.records[doc["id"]]
        first = record.id == self.task.shots[0].id
        return layout.first_shot(record) if first else layout.later_turn(record)

    def continuations(self, doc: dict[str, Any]) -> list[str]:
        return self.task.continuations(self.records[doc["id"]])

    def gold(self, doc: dict[str, Any]) -> int:
        return (self.task.choices or ()).index(doc["outputs"])


def _doc(record: Record) -> dict[str, str]:
    """What lm-eval hashes: the record itself, not the prompt made of it. Inputs of any shape become JSON
    text.
    """
    inputs = json.dumps(record.inputs, ensure_ascii=False, sort_keys=True)
    return {
        "id": record.id,
        "cluster": record.cluster,
        "instruction": record.instruction,
        "inputs": inputs,
        "outputs": record.outputs,
    }


def _items(task: Task, samples: list[dict[str, Any]]) -> list[Item]:
    items: list[Item] = []
    for sample in samples:
        doc = sample["doc"]
        if task.kind == "choice" and not all(math.isfinite(value) for value, _ in sample["filtered_resps"]):
            raise EvalError(
                f"task `{task.name}`, item {doc['id']}: the model gives a log-probability that is not finite;"
                " its weights are broken"
            )
        value = float(sample[task.metric])
        items.append(
            Item(task.name, sample["doc_hash"], sample["prompt_hash"], doc["cluster"], task.metric, value)
        )
    if len({item.doc_hash for item in items}) < len(items):
        raise EvalError(
            f"task `{task.name}`: two records are equal, so results could not be paired; remove one"
        )
    return items


def _cut(lm: Any, task: Task, samples: list[dict[str, Any]]) -> int:
    """How many prompts did not fit and lost their beginning."""
    contexts = [sample["arguments"][0][0] for sample in samples]
    if task.choices is not None:
        ends = [max((pair[1] for pair in sample["arguments"]), key=len) for sample in samples]
        contexts = [context + end for context, end in zip(contexts, ends, strict=True)]
        room = lm.max_length + 1
    else:
        room = lm.max_length - task.config["generation_kwargs"]["max_gen_toks"]
    encoded = lm.tokenizer(contexts, verbose=False)["input_ids"]
    return sum(len(ids) > room for ids in encoded)


def answer(
    lm: Any, prompts: Sequence[str], new_tokens: int = NEW_TOKENS, advance: Advance = lambda _: None
) -> list[str]:
    """The model's greedy continuation of each prompt until the line ends, without outer blanks."""
    if not prompts:
        return []
    with quiet(), _advancing(lm, advance):
        from lm_eval.api.instance import Instance

        settings = {"until": ["\n"], "do_sample": False, "max_gen_toks": new_tokens}
        requests = [
            Instance("generate_until", {}, (prompt, dict(settings)), index)
            for index, prompt in enumerate(prompts)
        ]
        return [str(text).strip() for text in lm.generate_until(requests, disable_tqdm=True)]


def seed_everything() -> None:
    """Seed every generator that lm-eval seeds. All decoding is greedy and shots are the first ones: nothing
    draws.
    """
    import numpy as np
    import torch

    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)


@contextlib.contextmanager
def _advancing(lm: Any, advance: Advance) -> Iterator[None]:

    def told(_: Any, __: Any, output: Any) -> None:
        advance(int(output.logits.shape[0]))

    handle = lm.model.register_forward_hook(told)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence lm-eval, datasets and transformers: their bars and notes. Exceptions pass."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets", "transformers")]
    before = [(logger, logger.level) for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for logger, level in before:
            logger.setLevel(level)
