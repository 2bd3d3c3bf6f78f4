"""Our engine without any rule, to see what rules cost."""

from bench.ours import Ours
from bench.worker import serve
from mlxgen.sampling.rules import RuleSet

if __name__ == "__main__":
    serve(lambda folder: Ours(folder, RuleSet(grammar=False, ranges=False, eos="mask")))
