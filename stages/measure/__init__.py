"""Size on disk, load time, latency, throughput and peak memory of one checkpoint (docs/measure.md)."""
