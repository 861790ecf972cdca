"""Calibrates a gate on a labelled run, with a guarantee (`colm-vl eval calibrate`).

outcomes      what skipping the server would have done to each question
thresholds    Learn-then-Test: the lowest threshold whose risk is certified
certify       fits the score, tests thresholds and writes the certificate
"""
