"""`colm-vl serve`: a team, or its server, as a network service."""
