"""generate-long: plan, chunks, candidates, pick, stitch, report."""
