"""One build: its inputs, plan, phases, checks and artifact."""
