"""stream: generate ahead, play on time, answer the controls."""
