"""The embedded world: a seeded generator of text, tasks and planted defects, in Russian and English."""

from stages.corpus.world.generate import generate
from stages.corpus.world.model import SUBSETS, Fact, Question, Task, TruthRow, World, WorldDocument

__all__ = ["SUBSETS", "Fact", "Question", "Task", "TruthRow", "World", "WorldDocument", "generate"]
