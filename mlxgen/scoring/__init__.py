"""From a piece to scores: one file per family of metrics, all listed in METRICS."""
