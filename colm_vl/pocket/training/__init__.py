"""How the pocket team was trained, from nothing: `python -m colm_vl.pocket.training.train`. Not part of the wheel."""
