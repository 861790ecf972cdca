"""The ablations by name; apart, since the command line names them before anything is imported."""

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
