"""The command ``mlservice``: one module for each verb; they parse, call and print."""
