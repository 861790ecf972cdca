"""Training of the pocket team from scratch: `python -m colm_vl.pocket.training.train`. Not part of the wheel."""
