"""How many servers a team needs for a promised response time: a simulation fed by the measured times of a run."""
