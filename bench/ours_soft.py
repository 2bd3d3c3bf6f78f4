"""Our engine with the grammar and every soft rule of upstream's."""

from bench.ours import Ours
from bench.worker import serve
from mlxgen.sampling.rules import UPSTREAM_RULES, RuleSet

if __name__ == "__main__":
    serve(lambda folder: Ours(folder, RuleSet(soft=UPSTREAM_RULES, eos="mask")))
