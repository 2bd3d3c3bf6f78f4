"""Start-up: from the command to its first effect, in processes of their own.

Seconds of wall clock, the median of `--repeats` runs: `mlxgen --help`, `import mlxgen`, from launching Python
to the first drawn id with the model folder (load, prompt, prefill, step), and, where JACK is installed, from
`mlxgen stream` to the first note that a synthesiser receives (not with --quick), in a piece that begins on
its first beat: an upbeat comes up to a bar later.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

from bench.common import describe_machine, finish, make_parser, median_and_spread, print_table
from bench.worker import ROOT

FIRST_ID = """
import sys
from mlxgen.model.load import load
from mlxgen.music.prompt import Conditioning, make_prompt
from mlxgen.music.theory import Key
from mlxgen.sampling.engine import Engine
model, vocab = load(sys.argv[1])
engine = Engine(model, vocab)
engine.prefill(make_prompt(Conditioning(form="chorale"), Key(0, "major"), vocab))
engine.step(ahead=False)
"""

# what -> arguments after `python`
LAUNCHES = {
    "python alone": ["-c", "pass"],
    "import mlxgen": ["-c", "import mlxgen"],
    "mlxgen --help": ["-c", "from mlxgen.cli import main; main(['--help'])"],
    "first id of the model": ["-c", FIRST_ID, "{model}"],
}


def main(arguments: list[str] | None = None) -> dict:
    options = make_parser(__doc__).parse_args(arguments)
    repeats = 1 if options.quick else options.repeats
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    times: dict[str, list[float]] = {what: [] for what in LAUNCHES}
    for turn in range(repeats + 1):
        for what, command in LAUNCHES.items():
            begun = time.perf_counter()
            filled = [part.replace("{model}", str(options.model)) for part in command]
            done = subprocess.run([sys.executable, *filled], env=environment, capture_output=True, text=True)
            if done.returncode != 0:
                raise RuntimeError(f"{what}: ended with {done.returncode}: {done.stderr[-500:]}")
            if turn:  # the first turn fills the disk cache
                times[what].append(time.perf_counter() - begun)
    if shutil.which("jackd") and not options.quick:
        from bench.latency import first

        piece = ["--mode", "fugue", "--key", "C minor", "--style", "bach", "--seed", "11"]
        seconds = first(repeats, ["--model", str(options.model), *piece])["seconds"]
        times["mlxgen stream, first note"] = seconds
    rows = []
    for what, seconds in times.items():
        median, spread = median_and_spread(seconds)
        rows.append({"what": what, "seconds": median, "spread": spread})
    machine = describe_machine()
    print(machine)
    print_table(["launch", "seconds"],
                [[row["what"], f"{row['seconds']:.2f} ± {row['spread']:.2f}"] for row in rows])
    return finish({"bench": "startup", "machine": machine, "rows": rows}, options.json)


if __name__ == "__main__":
    main(sys.argv[1:])
