"""The owner's house: what this service predicts, from what, and how.

data -> features -> training (with model and checks) -> prediction; pipeline joins the steps.
"""
