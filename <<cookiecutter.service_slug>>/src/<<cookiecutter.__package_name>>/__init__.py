"""The owner's code: what this service predicts, from which data, and how.

data -> features -> training (with model and checks) -> prediction; pipeline joins the steps.
"""
