"""LiveEngine: the engine of a performance, whose conditioning can be changed under the music."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlxgen.model.load import load
from mlxgen.model.prefix import replace_prefix
from mlxgen.music.vocab import Vocab
from mlxgen.sampling.engine import Engine, EngineOptions

SLACK_IDS = 512         # that a control can take back


class LiveEngine(Engine):
    def replace_prefix(self, count: int, ids: Sequence[int]) -> None:
        """The first `count` ids of the context give way to `ids`: the same key, meter and form, or the rules
        would not know."""
        self.rewind(0)      # what is enqueued was drawn under the old ones
        replace_prefix(self.model, self.cache, count, ids)


def make_engines(model_folder: str, window: int) -> tuple[Callable[[int, int], LiveEngine], Vocab]:
    """(a function that makes an engine with so many pinned ids and a seed, the vocabulary)."""
    model, vocab = load(model_folder)

    def make_engine(pinned: int, seed: int) -> LiveEngine:
        options = EngineOptions(window=window, prefix=pinned, slack=SLACK_IDS, keep_notes=False)
        return LiveEngine(model, vocab, seed=seed, options=options)

    return make_engine, vocab
