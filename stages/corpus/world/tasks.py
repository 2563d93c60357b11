"""From questions to MERA-form records: options, balanced answers, instructions, test and train items."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stages.common.errors import UserError
from stages.corpus.world.model import Question, Task
from stages.corpus.world.relations import stream
from stages.corpus.world.skills import Skill

LETTERS = ("A", "B", "C", "D")
THREE_LETTERS = LETTERS[:3]
TWO_LETTERS = LETTERS[:2]
LEVEL_SHARES = {1: 0.65, 2: 0.27, 3: 0.08}
TRIES = 200  # drawing a skill's item that is new and of the wanted level


@dataclass(frozen=True)
class Form:
    """How one task looks. `skill_share` of its items come from the named skills, the rest from facts."""

    language: str
    type: Literal["choice", "generate"]
    choices: tuple[str, ...] | None
    instructions: tuple[str, ...]
    skills: tuple[str, ...] = ()
    skill_share: float = 0.0

    @property
    def options(self) -> tuple[str, ...] | None:
        """The fields of `inputs` that hold the options, in the order of `choices`; None without choices.

        Prompts do not list the options: their texts are scored as continuations (the cloze formulation),
        since models of a million parameters cannot bind letters to options (OLMES, arXiv 2406.08446,
        section 3).
        """
        return tuple(f"option_{sign.lower()}" for sign in self.choices) if self.choices else None

    @property
    def metric(self) -> Literal["acc", "exact_match"]:
        """Accuracy of the choice, or exact match of the generated answer."""
        return "acc" if self.type == "choice" else "exact_match"


_ASK_RU = ("{question} Ответ:", "Ответь на вопрос.\n{question} Ответ:")
_ASK_EN = ("{question} Answer:", "Answer the question.\n{question} Answer:")
_WRITE_RU = ("{inputs} Ответ:", "Выполни задание.\n{inputs} Ответ:")
_NUMBERS = ("arithmetic", "numeral", "sequence", "numeral")
FORMS = {
    "places": Form("ru", "choice", LETTERS, _ASK_RU),
    "people": Form("ru", "choice", LETTERS, _ASK_RU),
    "family": Form("ru", "choice", LETTERS, _ASK_RU, ("kin",), 0.4),
    "arithmetic": Form("ru", "generate", None, _WRITE_RU, _NUMBERS, 1.0),
    "grammar": Form("ru", "generate", None, _WRITE_RU),
    "causes": Form("ru", "choice", THREE_LETTERS, _ASK_RU),
    "calendar": Form("ru", "choice", LETTERS, _ASK_RU),
    "order": Form("ru", "choice", THREE_LETTERS, _ASK_RU, ("order",), 1.0),
    "words": Form("ru", "choice", LETTERS, _ASK_RU),
    "truth": Form("ru", "choice", TWO_LETTERS, _ASK_RU),
    "facts-en": Form("en", "choice", LETTERS, _ASK_EN),
}  # fmt: skip
OPEN_INSTRUCTION = "{question} Ответ:"


def filled(record: dict[str, Any]) -> str:
    """The prompt of a record: its instruction with the named places filled."""
    inputs = record["inputs"]
    return str(
        record["instruction"].format(**inputs)
        if isinstance(inputs, dict)
        else record["instruction"].format(inputs=inputs)
    )


def inputs_text(record: dict[str, Any]) -> str:
    """The inputs of a record as text: the string, or the values of the object in their order."""
    inputs = record["inputs"]
    return " ".join(inputs.values()) if isinstance(inputs, dict) else str(inputs)


def answer_text(record: dict[str, Any]) -> str:
    """What a model should say: the text of the right option if the output is a letter, else the output."""
    field = f"option_{record['outputs'].lower()}"
    inputs = record["inputs"]
    return str(inputs[field] if isinstance(inputs, dict) and field in inputs else record["outputs"])


def with_answer(record: dict[str, Any]) -> str:
    """Prompt and answer, as a model is trained on them."""
    return f"{filled(record)} {answer_text(record)}"


class Pool:
    """Questions of one task and split, drawn evenly over clusters and by level of difficulty."""

    def __init__(self, rng: random.Random, questions: Iterable[Question], held_out: frozenset[str]) -> None:
        self.rng = rng
        self.levels: dict[int, dict[str, list[Question]]] = {
            1: defaultdict(list),
            2: defaultdict(list),
            3: defaultdict(list),
        }
        for question in questions:
            self.levels[question.difficulty][cluster_of(question, held_out)].append(question)

    def draw(self, level: int) -> Iterator[tuple[str, Question]]:
        """Endless questions of one level with their cluster, every cluster once per round."""
        clusters = sorted(self.levels[level])
        while clusters:
            self.rng.shuffle(clusters)
            for cluster in clusters:
                yield cluster, self.rng.choice(self.levels[level][cluster])


def cluster_of(question: Question, held_out: frozenset[str]) -> str:
    """The fact that an item counts for: the first that is held out, else the first."""
    return next((fact for fact in question.facts if fact in held_out), question.facts[0])


class Writer:
    """Turns questions into records of one task and split; answers are balanced over positions by
    construction.
    """

    def __init__(self, name: str, form: Form, split: str, rng: random.Random) -> None:
        self.name, self.form, self.split, self.rng = name, form, split, rng
        self.records: list[dict[str, Any]] = []
        self.seen: set[str] = set()

    def add(self, cluster: str, question: Question) -> bool:
        """Write one record, unless the same one is there already."""
        index = len(self.records)
        inputs: dict[str, str] | str
        if self.form.type == "generate":
            inputs, answer = question.text, question.answer
        else:
            signs = self.form.choices or ()
            answer = signs[index % len(signs)]
            options = options_of(self.rng, question, len(signs), index % len(signs))
            inputs = {"question": question.text}
            inputs |= {f"option_{sign.lower()}": option for sign, option in zip(signs, options, strict=True)}
        meta = {
            "id": index,
            "cluster": cluster,
            "difficulty": question.difficulty,
            "facts": list(question.facts),
        }
        instruction = self.form.instructions[index // 2 % len(self.form.instructions)]
        record = {"instruction": instruction, "inputs": inputs, "outputs": answer, "meta": meta}
        key = filled(record) if self.split == "train" else f"{instruction}/{inputs!r}"
        if key in self.seen:
            return False
        self.seen.add(key)
        self.records.append(record)
        return True


def options_of(rng: random.Random, question: Question, count: int, position: int) -> list[str]:
    """The right answer at `position` among `count - 1` wrong ones. Raises `ValueError` when there are too
    few.
    """
    options = rng.sample(question.wrong, count - 1)
    options.insert(position, question.answer)
    return options


def make(
    seed: int,
    questions: Sequence[Question],
    skills: Sequence[Skill],
    held_out: frozenset[str],
    tests: int,
    trains: int,
) -> dict[str, Task]:
    """All tasks. A question is a test item when it touches a held-out fact, and a train item otherwise.

    Raises `UserError` when a task cannot have `tests` different test items.
    """
    by_name = {skill.name: skill for skill in skills}
    made = {}
    for name, form in FORMS.items():
        mine = [q for q in questions if q.task == name and _enough(q, form)]
        records = {}
        for split, count in (("test", tests), ("train", trains)):
            rng = stream(seed, "task", name, split)
            chosen = [q for q in mine if bool(held_out.intersection(q.facts)) == (split == "test")]
            writer = Writer(name, form, split, rng)
            from_skills = round(count * form.skill_share)
            _fill_from_skills(writer, [by_name[skill] for skill in form.skills], from_skills)
            _fill_from_facts(writer, Pool(rng, chosen, held_out), count)
            if split == "test" and len(writer.records) < count:
                raise UserError(
                    f"corpus.sources: the world has only {len(writer.records)} different test items of "
                    f"`{name}`, not {count}; lower tasks_per_kind or raise size"
                )
            records[split] = tuple(writer.records)
        made[name] = Task(
            name,
            form.language,
            form.type,
            form.choices,
            form.metric,
            records["train"],
            records["test"],
            form.options,
        )
    return made


def _enough(question: Question, form: Form) -> bool:
    return form.choices is None or len(question.wrong) >= len(form.choices) - 1


def _fill_from_skills(writer: Writer, skills: Sequence[Skill], count: int) -> None:
    rng, language = writer.rng, writer.form.language
    start = len(writer.records)
    for number in range(count):
        skill = skills[number % len(skills)]
        level = max(_level((number + 0.5) / count), skill.levels[0])
        for _ in range(TRIES):
            question = skill.question(rng, language, held_out=writer.split == "test")
            fits = question is not None and question.difficulty == level
            if question is not None and fits and writer.add(question.facts[0], question):
                break
    if len(writer.records) < start + count:
        for _ in range(TRIES * 10):
            question = rng.choice(skills).question(rng, language, held_out=writer.split == "test")
            if question is not None and len(writer.records) < start + count:
                writer.add(question.facts[0], question)


def _fill_from_facts(writer: Writer, pool: Pool, count: int) -> None:
    """Fill up to `count` records by the shares of the levels, and then with whatever level is left."""
    missing = count - len(writer.records)
    for levels in ((1, 2, 3), (2, 3, 1)):
        for level in levels:
            first_pass = levels == (1, 2, 3)
            goal = round(missing * LEVEL_SHARES[level]) if first_pass else count
            before, misses = len(writer.records), 0
            for cluster, question in pool.draw(level):
                done = len(writer.records) - before >= goal if first_pass else len(writer.records) >= count
                if done or len(writer.records) >= count or misses > TRIES:
                    break
                misses = 0 if writer.add(cluster, question) else misses + 1


def _level(position: float) -> int:
    bound = 0.0
    for level, share in LEVEL_SHARES.items():
        bound += share
        if position < bound:
            return level
    return max(LEVEL_SHARES)


def open_records(
    seed: int, questions: Iterable[Question], held_out: frozenset[str], split: str, count: int
) -> list[dict[str, Any]]:
    """Open questions in Russian over facts of one split, with the right and a plausible wrong answer."""
    rng = stream(seed, "open", split)
    mine = [
        q for q in questions
        if q.open and q.language == "ru" and q.task not in ("truth", "grammar")
        and bool(held_out.intersection(q.facts)) == (split == "test")
    ]  # fmt: skip
    rng.shuffle(mine)
    rounds: dict[str, list[Question]] = defaultdict(list)
    for question in mine:
        rounds[cluster_of(question, held_out)].append(question)
    ordered = [same[depth] for depth in range(4) for same in rounds.values() if len(same) > depth]
    return [
        {
            "id": f"open-{split}-{index}",
            "cluster": cluster_of(question, held_out),
            "instruction": OPEN_INSTRUCTION,
            "inputs": {"question": question.text},
            "reference": question.answer,
            "wrong": rng.choice(question.wrong),
        }
        for index, question in enumerate(ordered[:count])
    ]
