"""Trains the embedded world's judge from scratch, and writes down which judges have their weights here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from stages.common import judges
from stages.common.atomic import read_json, write_json
from stages.common.errors import UserError
from stages.common.judges import Weights
from stages.common.manifest import Facts
from stages.common.params import Params
from stages.common.stage import OUT, Paths, Stage

EMBEDDED: Literal["embedded"] = "embedded"


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:  # noqa: ARG001
    """The fingerprint of a judge outside the repository; the world is made again from its own seed."""
    return {"sources": OUT / "sources"}, {"judge": OUT / "judge_model"}


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Write the embedded judge where one is asked for, and judge.json."""
    from stages.common.checkpoint import digest

    out, found, facts = outputs["judge"], {}, Facts()
    for judge in params.judge.judges if params.judge.enabled else ():
        if judge.type == EMBEDDED:
            facts = _train(params, inputs, out)
            found[judge.name] = Weights(EMBEDDED, digest(out), reason=failed(facts.notes["exam"]))
        elif judge.type == "folder":
            found[judge.name] = Weights("folder", digest(Path(judge.path)), judge.path)
    facts.notes["judges"] = {name: weights.digest for name, weights in found.items()}
    judges.write(out, found)
    return facts


def failed(exam: dict[str, Any]) -> str:
    """Why a judge with this examination is not worth asking; empty when it told right from wrong."""
    if exam["accuracy"] is None:
        return "its examination had no question"
    low, high = exam["accuracy_ci"]
    if low > 0.5:
        return ""
    return (
        f"it failed its own examination: right in {exam['accuracy']:.2f} of {exam['pairs']} pairs "
        f"(95 % {low:.2f} to {high:.2f}), position consistency {exam['consistency']:.2f}"
    )


def _train(params: Any, inputs: Paths, out: Path) -> Facts:
    """Train the judge on its own wording of the world and examine it on questions kept aside."""
    from stages.common.bpe import train_tokenizer
    from stages.common.checkpoint import pick_device, save_model
    from stages.common.training.loop import train
    from stages.common.training.losses import cross_entropy
    from stages.common.training.resume import Resume
    from stages.common.training.session import CURVE
    from stages.common.training.shape import derive_shape, new_model
    from stages.judge_model.batches import Rows, Texts

    block, settings = params.judge_model, params.judge_model.training
    lessons = _lessons(_world(params.corpus), block)
    tokenizer = train_tokenizer([lesson.text for lesson in lessons.train], block.vocab_size)
    shape = derive_shape(block.parameters, len(tokenizer))
    model = new_model(shape, tokenizer.eos_token_id, block.seed)
    rows = Rows(
        Texts.encode(tokenizer, lessons.train),
        tokenizer.eos_token_id,
        settings.batch_size,
        settings.sequence_length,
        block.seed,
    )
    resume = Resume.of("judge_model", params, inputs, also=("stages/corpus", "evals/judge"))
    trained = train(
        model,
        cross_entropy,
        rows,
        settings,
        block.seed,
        pick_device(params.device),
        resume,
        label="judge_model",
    )
    model = model.cpu()
    exam = examine(model, tokenizer, lessons.exam)
    save_model(model, tokenizer, out)
    trained.write(out / CURVE)
    write_json(out / CURVE, {**read_json(out / CURVE), "exam": exam})
    resume.clear()
    lineage = {
        "base": {"source": "scratch", "licence": "Apache-2.0"},
        "data": [{"subset": "judging", "language": "ru", "licence": "Apache-2.0"}],
    }
    notes = {"parameters": shape.parameters, "exam": exam}
    return Facts(lineage=lineage, tokens=trained.tokens, notes=notes)


def examine(model: Any, tokenizer: Any, pairs: Any) -> dict[str, Any]:
    """Accuracy and consistency on facts that no judged text touches; the truth is the generator's."""
    from evals.judge import labelled, local, passport

    known = labelled.generated(pairs)
    results = local.embedded(model, tokenizer, "").pairs([item.pair for item in known])
    found = passport.measure(results, known, (), "crowd")
    right, same = found["accuracy"], found["consistency"]
    return {
        "truth": "generator",
        "pairs": right.n,
        "accuracy": right.value,
        "accuracy_ci": right.pair(),
        "consistency": same.value,
        "primacy": found["primacy"].value,
    }


def _world(corpus: Any) -> Any:
    """The first embedded world among the sources. Raises `UserError` when there is none."""
    for source in corpus.sources:
        if source.type == "world":
            return source
    raise UserError(
        "params.yaml: judge.judges names `embedded`, but corpus.sources holds no embedded world to train it "
        "on; name another judge there, or set `judge.enabled: false`"
    )


def _lessons(source: Any, block: Any) -> Any:
    """The world's texts in the judge's layout, under the judge's own seed."""
    from stages.corpus.world import generate
    from stages.judge_model.lessons import prepare

    world = generate(source.seed, source.size, source.tasks_per_kind)
    return prepare(world, block.seed, block.training.tokens)


STAGE = Stage(
    "judge_model",
    run,
    reads=("corpus.sources", "judge_model", "judge.enabled", "judge.judges", "threads", "device"),
    locate=locate,
    checkpoint=True,
)
