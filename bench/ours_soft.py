"""Our engine with the grammar and the soft rules that the folder's chorales are drawn by."""

from bench.ours import Ours
from bench.worker import serve
from mlxgen.model.load import load_generation_defaults
from mlxgen.sampling.rules import RuleSet, soft_rules


def folder_rules(folder: str) -> RuleSet:
    """The hard rules and what `generation` of config.json says of chorales."""
    defaults = load_generation_defaults(folder)
    defaults |= defaults.get("forms", {}).get("chorale", {})
    return RuleSet(soft=soft_rules(defaults.get("soft_rules", "none")), eos="mask")


if __name__ == "__main__":
    serve(lambda folder: Ours(folder, folder_rules(folder)))
