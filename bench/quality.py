"""What the model says, measured: `python -m bench.quality stream|score ...`.

    stream   does an endless stream stay as good as it was? (bench/stream_quality.py)
    score    does the scorer order music as it should? (bench/score_quality.py)
"""

from __future__ import annotations

import sys
from importlib import import_module

PARTS = {"stream": "bench.stream_quality", "score": "bench.score_quality"}


def main(arguments: list[str] | None = None) -> int | None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] not in PARTS:
        print(__doc__, file=sys.stderr)
        return 2
    return import_module(PARTS[arguments[0]]).main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
