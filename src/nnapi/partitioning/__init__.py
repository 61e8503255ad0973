"""Which device runs what: verdicts, costs, the choice, the plan."""
