"""What every layer stands on: errors, paths, digests, talk, processes, YAML, the store."""
