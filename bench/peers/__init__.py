"""What our engine is measured against, each a worker process with the same few commands (bench/worker.py)."""
