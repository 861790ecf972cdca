"""The names of the ablations, in a module of their own because the command line imports it at startup."""

from __future__ import annotations

from enum import StrEnum


class Ablation(StrEnum):
    ROUNDS = "rounds"
    CLIENTS = "clients"
    DIVERSITY = "diversity"
    SERVER = "server"
    GUIDANCE = "guidance"
    REFINEMENT = "refinement"
    NETWORK = "network"
    LOAD = "load"
