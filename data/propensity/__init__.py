"""Examination propensities: how likely each place of a list is examined, estimated from clicks."""
