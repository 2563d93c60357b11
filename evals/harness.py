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
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals import prompts
from evals import tasks as declarations
from evals.errors import EvalError
from evals.mera import dialogue, metrics
from evals.prompts import NEW_TOKENS, Row
from evals.records import Record
from evals.results import Results, cut, too_long
from evals.suites import Task

SEED = 1234
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


def run(
    lm: Any,
    tasks: Sequence[Task],
    advance: Advance = lambda _: None,
    measured: Callable[[Sequence[str]], Sequence[int]] | None = None,
) -> Results:
    """Score `tasks` with a wrapped model, greedily, in one call. `advance` is told the rows of every forward
    pass. `measured` gives the tokens of prompts where they are known already (see `lengths`).

    Raises `EvalError` when a log-probability is not finite, or when two documents of a task have the same
    hash.
    """
    results = Results(refused=too_long(tasks, lm.max_length))
    tasks = [task for task in tasks if task.name not in results.refused]
    if not tasks:
        return results
    with quiet():
        from lm_eval.evaluator import evaluate

        seed_everything()
        asked = dialogue.Dialogues(lm, dialogue.tasks(tasks))
        loaded = declarations.manager().load([configured(task) for task in tasks])
        with _advancing(lm, advance):
            output = evaluate(lm=asked, task_dict=loaded, bootstrap_iters=0, log_samples=True)
    for task in tasks:
        rows = _rows(task, output["samples"][task.name], asked.asked)
        asked_texts = [row.asked for row in rows]
        tokens = measured(asked_texts) if measured else lengths(lm, asked_texts)
        results.take(task, rows, cut(task, tokens, lm.max_length))
    return results


def _rows(task: Task, samples: list[dict[str, Any]], asked: Mapping[tuple[str, str], str]) -> list[Row]:
    rows = []
    for record, sample in zip(task.test, samples, strict=True):
        text = asked.get((task.name, record.id), sample["arguments"][0][0])
        replies: Iterable[Any] = sample["resps"][0]
        if task.kind == "choice":
            text += max((end for _, end in sample["arguments"]), key=len)
            replies = (value for value, _ in sample["filtered_resps"])
        rows.append(Row(record, sample["doc_hash"], sample["prompt_hash"], text, tuple(replies)))
    return rows


def configured(task: Task) -> Any:
    """The task as lm-eval's own object: its YAML plus choices, prompts, data and shots."""
    import datasets

    base = task.config
    rows = {"test": datasets.Dataset.from_list([prompts.document(task, record) for record in task.test])}
    shots = list({shot.id: shot for record in task.test for shot in task.before(record)}.values())
    shape = _Prompts(task, {record.id: record for record in task.test})
    config = {
        **base,
        "task": task.name,
        "doc_to_text": shape.item,
        "num_fewshot": len(task.shots),
        "custom_dataset": lambda **_: rows,
    }
    if task.options is not None:
        config |= {"doc_to_choice": shape.continuations, "doc_to_target": shape.gold}
    elif task.choices is not None:
        config["doc_to_choice"] = list(task.choices)
    if task.declared:
        config["doc_to_target"] = shape.target
    if shots:
        # Ids are unique within a split only.
        shown = _Prompts(task, {record.id: record for record in shots})
        rows["train"] = datasets.Dataset.from_list([prompts.document(task, record) for record in shots])
        config["fewshot_split"] = "train"
        config["fewshot_config"] = {**base["fewshot_config"], "doc_to_text": shown.shot}
        if task.options is not None:
            config["fewshot_config"]["doc_to_choice"] = shown.continuations
        if task.declared:
            config["fewshot_config"]["doc_to_target"] = shown.target
    return _item_task()(task, config)


@functools.cache
def _item_task() -> Any:
    """lm-eval's task with shots that may differ from item to item; its samplers never see the item."""
    from lm_eval.api.samplers import ContextSampler
    from lm_eval.api.task import ConfigurableTask

    class Fixed(ContextSampler):
        def sample(self, **_: Any) -> Any:
            return self.df

    class ItemTask(ConfigurableTask):
        def __init__(self, task: Task, config: dict[str, Any]) -> None:
            super().__init__(config=config)
            rows = {doc["id"]: doc for doc in self.dataset.get("train", [])}
            self._shots = {
                record.id: [
                    {**rows[shot.id], "turn": place} for place, shot in enumerate(task.before(record))
                ]
                for record in task.test
            }

        def fewshot_context(self, doc: dict[str, Any], num_fewshot: int, **settings: Any) -> Any:
            del num_fewshot  # lm-eval knows one number for all items
            shots = self._shots[doc["id"]]
            self.sampler = Fixed(shots)
            return super().fewshot_context(doc, num_fewshot=len(shots), **settings)

    return ItemTask


@dataclass(frozen=True)
class _Prompts:
    """Prompts of one split of `task`; `records` are that split's, by id."""

    task: Task
    records: dict[str, Record]

    def item(self, doc: dict[str, Any]) -> str:
        return self.task.turn(self.records[doc["id"]])

    def shot(self, doc: dict[str, Any]) -> str:
        return prompts.shot(self.task, self.records[doc["id"]], doc["turn"])

    def target(self, doc: dict[str, Any]) -> str:
        return metrics.target(self.task.spec, self.records[doc["id"]])

    def continuations(self, doc: dict[str, Any]) -> list[str]:
        return self.task.continuations(self.records[doc["id"]])

    def gold(self, doc: dict[str, Any]) -> int:
        return (self.task.choices or ()).index(doc["outputs"])


def lengths(lm: Any, texts: Sequence[str]) -> list[int]:
    """Tokens of every text, as the model is given it."""
    return [len(ids) for ids in lm.tokenizer(list(texts), verbose=False)["input_ids"]] if texts else []


def answer(
    lm: Any, texts: Sequence[str], new_tokens: int = NEW_TOKENS, advance: Advance = lambda _: None
) -> list[str]:
    """The model's greedy continuation of each prompt until the line ends, without outer blanks."""
    if not texts:
        return []
    with quiet(), _advancing(lm, advance):
        replies = lm.generate_until(prompts.open_requests(texts, new_tokens), disable_tqdm=True)
    return [str(text).strip() for text in replies]


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
